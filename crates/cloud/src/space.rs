//! Space: giving back what stale blocks take, by request and when the file system runs full.
//!
//! What must always hold: it changes no content, so no rule and no claim stands in its way; the
//! watch keeps no cloud alive that everybody else let go.
//! Left to others: what may be given back (`block-store`).

use std::{
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use block_device::ByteLength;
use block_store::{Progress, ReclaimPace, Reclaimed, Store};

use crate::{
    Caller, Cloud, CloudError,
    caller::Right,
    cloud::{Inner, disk_name},
    jobs::Queue,
};

/// How often the figures are measured and free space is looked at.
const LOOK: Duration = Duration::from_secs(30);
/// How long after a round that gave nothing back.
const NOTHING_LEFT: Duration = Duration::from_secs(600);
/// How often the watch asks whether it should end.
const WAKE: Duration = Duration::from_millis(100);
/// Pressure: less than this part of the file system is free.
const PRESSURE: u64 = 10;

impl Cloud {
    /// Gives back the space of a disk's stale blocks, while the disk is in use.
    pub fn reclaim_disk(
        &self,
        caller: &Caller,
        id: &str,
        bytes_per_second: Option<u64>,
        progress: &dyn Progress,
    ) -> Result<Reclaimed, CloudError> {
        caller.may(Right::Change, "disk reclaim")?;
        self.world().disk(&caller.account, id)?;
        caller.goes_on()?;
        let pace = ReclaimPace { bytes_per_second, ..ReclaimPace::default() };
        Ok(self.inner.store.reclaim(&disk_name(id)?, pace, progress)?)
    }

    /// Starts the watch.
    pub(crate) fn watch_space(&self) {
        let weak = Arc::downgrade(&self.inner);
        self.inner.jobs.add(Queue::Space, move || watch(&weak));
    }
}

fn watch(weak: &Weak<Inner>) {
    let mut due = Instant::now();
    loop {
        let Some(inner) = weak.upgrade().filter(|inner| !inner.jobs.are_stopping()) else { return };
        if Instant::now() >= due {
            inner.store.measure_open();
            let is_dry = is_under_pressure(&inner.store) && reclaim_all(&inner) == 0;
            due = Instant::now() + if is_dry { NOTHING_LEFT } else { LOOK };
        }
        drop(inner);
        thread::sleep(WAKE);
    }
}

/// A file system that cannot be asked is left alone.
fn is_under_pressure(store: &Store) -> bool {
    store.space().is_ok_and(|space| space.free.get() < space.total.get() / PRESSURE)
}

/// Disk after disk, until there is room again; how many bytes came back.
fn reclaim_all(inner: &Inner) -> u64 {
    let mut freed = 0;
    for disk in inner.store.disks() {
        if Relief(inner).cancelled() {
            break;
        }
        match inner.store.reclaim(&disk, ReclaimPace::default(), &Relief(inner)) {
            Ok(done) => freed += done.freed.get(),
            Err(error) => tracing::warn!(%disk, %error, "giving space back failed"),
        }
    }
    tracing::info!(freed, "the file system runs full; stale blocks were given back");
    freed
}

/// Stops a walk when there is room again, or nobody to do it for.
struct Relief<'i>(&'i Inner);

impl Progress for Relief<'_> {
    fn advanced(&self, _: ByteLength, _: ByteLength) {}

    fn cancelled(&self) -> bool {
        self.0.jobs.are_stopping() || !is_under_pressure(&self.0.store)
    }
}
