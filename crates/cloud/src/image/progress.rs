//! How far a task over an image is, and whether it is to stop.

use std::sync::atomic::{AtomicU8, Ordering};

use block_device::ByteLength;
use block_store::Progress;

use crate::{Cloud, snapshot::percent};

/// Shows the percentage at the task and, for an image being made, at the image; passes a cancellation
/// on.
pub(super) struct TaskProgress<'a> {
    cloud: &'a Cloud,
    task: &'a str,
    image: Option<&'a str>,
    /// Written by whichever thread advances. Relaxed: it only saves taking the world's lock.
    percent: AtomicU8,
}

impl<'a> TaskProgress<'a> {
    pub(super) fn of(cloud: &'a Cloud, task: &'a str, image: Option<&'a str>) -> Self {
        Self { cloud, task, image, percent: AtomicU8::new(0) }
    }
}

impl Progress for TaskProgress<'_> {
    fn advanced(&self, done: ByteLength, total: ByteLength) {
        let percent = percent(done, total);
        if self.percent.swap(percent, Ordering::Relaxed) != percent {
            let mut world = self.cloud.world();
            for id in self.image.into_iter().chain([self.task]) {
                world.progress.insert(id.into(), percent);
            }
        }
    }

    fn cancelled(&self) -> bool {
        self.cloud.inner.jobs.are_stopping() || self.cloud.world().cancelled.contains(self.task)
    }
}
