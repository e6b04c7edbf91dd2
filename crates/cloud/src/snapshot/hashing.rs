//! The background half of a snapshot: from `progressing` to `accomplished`.
//!
//! What must always hold: it ends by itself, with hashes or as failed; one that the daemon's end
//! interrupts is begun again by the next start. The content is safe from the first moment: it was
//! sealed before the snapshot was answered.
//! An image that was made together with snapshots becomes available with the commit of the last of them.
//! Left to others: the hashes themselves (`block-store`), which image waits for what (`image/waiting`).

use std::{
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::{Duration, Instant},
};

use block_device::ByteLength;
use block_store::{LayerId, Progress, Root, StoreError};
use catalog::{
    Batch,
    record::{Snapshot, SnapshotStatus},
};

use crate::{
    Cloud, CloudError,
    claim::{Claim, Hold},
    jobs::Queue,
};

impl Cloud {
    /// `claim` keeps the disk counted as being snapshotted.
    pub(crate) fn hash_in_background(&self, snapshot: String, layer: LayerId, claim: Claim) {
        let cloud = self.clone();
        self.inner.jobs.add(Queue::Hashing, move || cloud.hash_snapshot(&snapshot, layer, claim));
    }

    fn hash_snapshot(&self, snapshot: &str, layer: LayerId, claim: Claim) {
        let progress = HashProgress::of(self, snapshot);
        let hashed = match self.inner.store.hash_layer(layer, &progress) {
            Err(StoreError::Cancelled) => return,
            hashed => hashed,
        };
        if let Err(error) = &hashed {
            tracing::error!(%snapshot, %error, "a snapshot could not be hashed");
        }
        if let Err(error) = self.end_snapshot(snapshot, hashed.ok(), claim) {
            tracing::error!(%snapshot, %error, "the end of a snapshot could not be recorded");
        }
    }

    /// Images that wait for the snapshot are held as well, also where they go on waiting for
    /// another: of two snapshots that end at once the second then sees the end of the first.
    fn end_snapshot(
        &self,
        id: &str,
        root: Option<Root>,
        mut claim: Claim,
    ) -> Result<(), CloudError> {
        let mut world = self.world_when(|world| {
            let waiting = world.images_waiting_for(id);
            world.is_quiet(&[id]) && waiting.iter().all(|image| world.is_quiet(&[&image.id]))
        });
        let Some(record) = world.snapshots.get(id).cloned() else { return Ok(()) };
        let status =
            if root.is_some() { SnapshotStatus::Accomplished } else { SnapshotStatus::Failed };
        let ended = Snapshot { status, root: root.map(Root::to_bytes), ..record };
        let waiting: Vec<_> = world.images_waiting_for(id).into_iter().cloned().collect();
        let images = waiting.iter().filter_map(|image| world.image_after(image, &ended));
        let images: Vec<_> = images.collect();
        claim.add(&mut world, Hold::Quiet(id.into()));
        for image in waiting {
            claim.add(&mut world, Hold::Quiet(image.id));
        }
        drop(world);
        let mut batch = Batch::new();
        batch.put(&ended)?;
        for image in &images {
            batch.put(image)?;
        }
        self.commit(&batch)?;
        claim.publish(|world| {
            world.progress.remove(id);
            world.snapshots.insert(ended.id.clone(), ended);
            world.images.extend(images.into_iter().map(|image| (image.id.clone(), image)));
        });
        Ok(())
    }
}

/// Shows the percentage, and slows the hashing down to the bandwidth the operator allows.
struct HashProgress<'a> {
    cloud: &'a Cloud,
    snapshot: &'a str,
    begun: Instant,
    /// Written by whichever thread advances. Relaxed: it only saves taking the world's lock.
    percent: AtomicU8,
}

/// How long a slowed down thread sleeps before it looks whether it is to stop.
const NAP: Duration = Duration::from_millis(20);

impl<'a> HashProgress<'a> {
    fn of(cloud: &'a Cloud, snapshot: &'a str) -> Self {
        Self { cloud, snapshot, begun: Instant::now(), percent: AtomicU8::new(0) }
    }
}

impl Progress for HashProgress<'_> {
    fn advanced(&self, done: ByteLength, total: ByteLength) {
        let percent = percent(done, total);
        if self.percent.swap(percent, Ordering::Relaxed) != percent {
            self.cloud.world().progress.insert(self.snapshot.into(), percent);
        }
        let Some(bandwidth) = self.cloud.inner.settings.hash_bandwidth.filter(|rate| *rate > 0)
        else {
            return;
        };
        let due = Duration::from_millis(done.get().saturating_mul(1000) / bandwidth);
        while self.begun.elapsed() < due && !self.cancelled() {
            thread::sleep(NAP.min(due.saturating_sub(self.begun.elapsed())));
        }
    }

    fn cancelled(&self) -> bool {
        self.cloud.inner.jobs.are_stopping()
    }
}

/// How much of the whole that is; what is not finished never shows as 100.
pub(crate) fn percent(done: ByteLength, total: ByteLength) -> u8 {
    let percent = done.get().saturating_mul(100) / total.get().max(1);
    u8::try_from(percent.min(99)).unwrap_or(99)
}
