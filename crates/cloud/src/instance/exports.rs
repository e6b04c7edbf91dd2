//! The exports of an instance's disks: open exactly while it runs.
//!
//! What must always hold: closing ends the connections first, then the disk's own handles, and with
//! [`FenceMode::Flush`] what was answered is durable when it returns without an error.
//! Left to others: connections (the data plane), draining a disk (`block-store`).

use std::{
    sync::{Arc, mpsc},
    thread,
};

use block_device::{BlockDevice, DiskId, FenceMode, Pace};

use crate::{Cloud, CloudError, InstanceStatus, cloud::disk_name};

/// Exports closed at the same time.
const CLOSED_AT_ONCE: usize = 32;

/// A disk that is open but not exported yet.
#[derive(Debug)]
pub(crate) struct Opened {
    name: DiskId,
    device: Arc<dyn BlockDevice>,
    pace: Arc<Pace>,
}

impl Cloud {
    /// Opens a disk, so that publishing it cannot fail any more.
    pub(crate) fn open_export(&self, disk: &str) -> Result<Opened, CloudError> {
        let name = disk_name(disk)?;
        let device = self.inner.store.open_disk(&name)?;
        let pace = Arc::new(Pace::new(self.world().rates(disk)));
        Ok(Opened { name, device, pace })
    }

    pub(crate) fn publish_export(&self, opened: Opened) {
        self.inner.exports.publish(&opened.name, opened.device, opened.pace);
    }

    /// Opens the exports of disks whose instance is recorded as running; one that cannot be opened
    /// is named in the log and does not stop the others.
    pub(crate) fn open_exports_of(&self, disks: &[String]) {
        for disk in disks {
            match self.open_export(disk) {
                Ok(opened) => self.publish_export(opened),
                Err(error) => tracing::error!(%disk, %error, "a disk could not be exported"),
            }
        }
    }

    pub(crate) fn close_export(&self, disk: &DiskId, mode: FenceMode) -> Result<(), CloudError> {
        let ended = self.inner.exports.fence(disk, mode).map_err(CloudError::internal);
        let drained = self.inner.store.fence(disk, mode).map_err(CloudError::internal);
        drained.and(ended)
    }

    /// Closes all of them, many at the same time; the first failure is answered after all are
    /// closed.
    pub(crate) fn close_exports(
        &self,
        disks: &[String],
        mode: FenceMode,
    ) -> Result<(), CloudError> {
        let some = disks.chunks(CLOSED_AT_ONCE).map(|some| self.close_at_once(some, mode));
        some.fold(Ok(()), Result::and)
    }

    fn close_at_once(&self, disks: &[String], mode: FenceMode) -> Result<(), CloudError> {
        let close = |disk: &String| self.close_export(&disk_name(disk)?, mode);
        let ended: Vec<_> = thread::scope(|scope| {
            // Where the system gives no more threads, this one does the rest.
            let start = |disk| thread::Builder::new().spawn_scoped(scope, move || close(disk));
            let running: Vec<_> = disks.iter().map(|disk| start(disk).map_err(|_| disk)).collect();
            let panicked = |_| Err(CloudError::internal("closing an export panicked"));
            let end = |running: Result<thread::ScopedJoinHandle<'_, _>, _>| match running {
                Ok(thread) => thread.join().unwrap_or_else(panicked),
                Err(disk) => close(disk),
            };
            running.into_iter().map(end).collect()
        });
        ended.into_iter().collect()
    }

    /// The disks of instances that run.
    pub(crate) fn running_disks(&self) -> Vec<String> {
        let world = self.world();
        let runs = |id: &str| {
            let found = world.instances.get(id);
            found.is_some_and(|found| world.instance_status(found) == InstanceStatus::Running)
        };
        let exported = world
            .disks
            .values()
            .filter(|disk| disk.attachment.as_ref().is_some_and(|place| runs(&place.instance)));
        exported.map(|disk| disk.id.clone()).collect()
    }

    /// Runs work that may take long, such as a last flush, and waits for it as long as a client is
    /// made to wait. Work that takes longer goes on alone; its failure is then only logged.
    pub(crate) fn answer_soon(
        &self,
        what: &'static str,
        work: impl FnOnce() -> Result<(), CloudError> + Send + 'static,
    ) -> Result<(), CloudError> {
        let (sender, receiver) = mpsc::sync_channel(0);
        let span = tracing::Span::current();
        let run = move || {
            let _logged_as_its = span.entered();
            if let Err(mpsc::SendError(Err(error))) = sender.send(work()) {
                tracing::error!(%error, what, "failed after it was answered");
            }
        };
        thread::Builder::new().name(what.into()).spawn(run).map_err(CloudError::internal)?;
        match receiver.recv_timeout(self.inner.settings.answer_within) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(()),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(CloudError::internal("the work ended without a result"))
            }
        }
    }
}
