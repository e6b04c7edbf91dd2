//! The scrub of the store, run in the background when the operator asks for it.
//!
//! What must always hold: one runs at a time; it ends early when it is cancelled or the cloud
//! closes, and the next goes on there; what the last one found can be asked for until the next,
//! over a restart too, and under the names that the catalog has now.
//! Left to others: reading and comparing (`block-store`).

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use block_device::ByteLength;
use block_store::{LastScrub, LayerId, Progress, Scrub, ScrubReport, Store, StoreError};
use catalog::record::Image;
use parking_lot::Mutex;

use crate::{Caller, Cloud, CloudError, cloud::layer_name, world::World};

/// Where the scrub is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScrubStatus {
    /// None is known.
    #[default]
    Idle,
    /// It reads.
    Running,
    /// It came to its end.
    Finished,
    /// It was asked to stop, or the daemon ended; the next goes on there.
    Cancelled,
    /// It could not go on.
    Failed,
}

/// The scrub as the operator sees it.
#[derive(Clone, Debug, Default)]
pub struct ScrubView {
    /// Where it is.
    pub status: ScrubStatus,
    /// Bytes that were compared.
    pub done: ByteLength,
    /// Bytes there are to compare.
    pub total: ByteLength,
    /// What the last one did and found, once it is finished or cut short.
    pub report: Option<ScrubReport>,
    /// Why it failed, if it did.
    pub error: String,
}

/// The one scrub of a cloud.
#[derive(Debug, Default)]
pub(crate) struct ScrubDesk {
    watched: Arc<Watched>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and those who ask share.
#[derive(Debug, Default)]
struct Watched {
    view: Mutex<ScrubView>,
    /// Relaxed: who sees it late only ends later.
    stop: AtomicBool,
}

impl Progress for Watched {
    fn advanced(&self, done: ByteLength, total: ByteLength) {
        let mut view = self.view.lock();
        (view.done, view.total) = (done, total);
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Cloud {
    /// Starts the scrub, unless one runs. It reads so many bytes a second at most; none for a
    /// figure that leaves the disks to their users, 0 for no limit.
    pub fn start_scrub(
        &self,
        caller: &Caller,
        rate: Option<ByteLength>,
    ) -> Result<ScrubView, CloudError> {
        caller.must_be_operator("scrub")?;
        caller.goes_on()?;
        let mut options = Scrub::default();
        if let Some(rate) = rate {
            options.rate = Some(rate).filter(|rate| rate.get() > 0);
        }
        self.inner.scrub.start(self.inner.store.clone(), options)
    }

    /// How far the scrub is, and what the last one found.
    pub fn scrub(&self, caller: &Caller) -> Result<ScrubView, CloudError> {
        caller.must_be_operator("scrub --status")?;
        let mut view = self.inner.scrub.watched.view.lock().clone();
        // Of one that was cut short only the cursor knows what it found.
        if matches!(view.status, ScrubStatus::Idle | ScrubStatus::Cancelled)
            && let Some(last) = self.inner.store.last_scrub()?
        {
            view.take(last);
        }
        if let Some(report) = &mut view.report {
            self.name(report);
        }
        Ok(view)
    }

    /// Gives what was found the names that the catalog has: a layer's header knows only whom it was
    /// made for, and that of a layer that is gone knows nothing.
    fn name(&self, report: &mut ScrubReport) {
        let world = self.world();
        for finding in &mut report.findings {
            finding.labels = world.names_of(&finding.standing);
        }
    }

    /// Stops the scrub, if one runs; answers once it ended.
    pub fn cancel_scrub(&self, caller: &Caller) -> Result<ScrubView, CloudError> {
        caller.must_be_operator("scrub --cancel")?;
        caller.goes_on()?;
        self.inner.scrub.stop();
        self.scrub(caller)
    }
}

impl ScrubView {
    fn take(&mut self, last: LastScrub) {
        let LastScrub { is_finished, done, total, report } = last;
        let status = if is_finished { ScrubStatus::Finished } else { ScrubStatus::Cancelled };
        *self = Self { status, done, total, report: Some(report), error: String::new() };
    }
}

impl World {
    /// The images, their security layers, and the snapshots that these layers are, as `kind:id`.
    fn names_of(&self, layers: &BTreeSet<LayerId>) -> Vec<String> {
        let is_meant =
            |layer: Option<_>| layer.is_some_and(|layer| layers.contains(&layer_name(layer)));
        let images = self.images.values().filter(|image| is_meant(image.layer));
        let images = images.map(|image| format!("image:{}", image.id));
        let security = |image: &Image| image.security_layer.as_ref().map(|layer| layer.layer);
        let hardened = self.images.values().filter(|image| is_meant(security(image)));
        let hardened = hardened.map(|image| format!("security-layer-of:{}", image.id));
        let snapshots = self.snapshots.values().filter(|snapshot| is_meant(snapshot.layer));
        let snapshots = snapshots.map(|snapshot| format!("snapshot:{}", snapshot.id));
        images.chain(hardened).chain(snapshots).collect()
    }
}

impl ScrubDesk {
    fn start(&self, store: Store, options: Scrub) -> Result<ScrubView, CloudError> {
        let mut thread = self.thread.lock();
        if self.watched.view.lock().status == ScrubStatus::Running {
            return Ok(self.watched.view.lock().clone());
        }
        self.watched.stop.store(false, Ordering::Relaxed);
        let begun = ScrubView { status: ScrubStatus::Running, ..ScrubView::default() };
        *self.watched.view.lock() = begun.clone();
        let watched = self.watched.clone();
        let run = move || watched.run(&store, &options);
        let spawned = thread::Builder::new().name("reinit-scrub".into()).spawn(run);
        let spawned = spawned.inspect_err(|_| *self.watched.view.lock() = ScrubView::default());
        // The one before has ended: its view says so.
        *thread = Some(spawned.map_err(CloudError::internal)?);
        Ok(begun)
    }

    /// Ends the scrub early and waits for that.
    pub(crate) fn stop(&self) {
        let mut thread = self.thread.lock();
        self.watched.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = thread.take() {
            // It catches its own panics.
            let _ended = thread.join();
        }
    }
}

impl Watched {
    fn run(&self, store: &Store, options: &Scrub) {
        let outcome = catch_unwind(AssertUnwindSafe(|| store.scrub(options, self)));
        let mut view = self.view.lock();
        match outcome {
            Ok(Ok(report)) => {
                let (layers, findings) = (report.layers, report.findings.len());
                tracing::info!(layers, findings, "the scrub came to its end");
                view.status = ScrubStatus::Finished;
                view.report = Some(report);
            }
            Ok(Err(StoreError::Cancelled)) => view.status = ScrubStatus::Cancelled,
            Ok(Err(error)) => {
                tracing::error!(%error, "the scrub could not go on");
                view.status = ScrubStatus::Failed;
                view.error = error.to_string();
            }
            Err(_panic) => {
                view.status = ScrubStatus::Failed;
                view.error = "it panicked; the log says where".into();
            }
        }
    }
}
