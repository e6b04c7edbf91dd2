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
    /// What was done before, and all there is to do, if this is only a part of it.
    part: Option<(ByteLength, ByteLength)>,
    /// Written by whichever thread advances. Relaxed: it only saves taking the world's lock.
    percent: AtomicU8,
}

impl<'a> TaskProgress<'a> {
    pub(super) fn of(cloud: &'a Cloud, task: &'a str, image: Option<&'a str>) -> Self {
        Self { cloud, task, image, part: None, percent: AtomicU8::new(0) }
    }

    /// The same for a part of the work, which begins once so much of all of it is done.
    pub(super) fn from(self, done: ByteLength, all: ByteLength) -> Self {
        Self { part: Some((done, all)), ..self }
    }
}

impl Progress for TaskProgress<'_> {
    fn advanced(&self, done: ByteLength, total: ByteLength) {
        let percent = match self.part {
            Some((before, all)) => {
                percent(ByteLength::new(before.get().saturating_add(done.get())), all)
            }
            None => percent(done, total),
        };
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
