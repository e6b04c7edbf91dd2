//! The cloud: what holds the resources and reaches everything below.
//!
//! What must always hold: exactly one `Cloud` works on a store at a time (the store's lock sees to
//! it); a clone is the same cloud.
//! Left to others: the rules and actions (one file each), settling at the start (`recovery`).

use std::{fmt, path::PathBuf, sync::Arc};

use block_device::{DiskId, ExportPlane, FenceMode};
use block_store::{LayerId, RequestId, Store};
use catalog::{Batch, Catalog};
use jiff::Timestamp;
use parking_lot::{Condvar, Mutex, MutexGuard};
use reinit::ResetEngine;

use crate::{
    Caller, Clock, CloudError, Settings, claim::Claim, claim::Hold, jobs::Jobs, recovery,
    scrub::ScrubDesk, secret::Sealer, world::World,
};

/// What a cloud is opened from.
pub struct OpenCloud {
    /// The open store; `settle` is called on it here.
    pub store: Store,
    /// The open catalog.
    pub catalog: Arc<dyn Catalog>,
    /// Where disks are exported.
    pub exports: Arc<dyn ExportPlane>,
    /// What the operator decided.
    pub settings: Settings,
    /// The key that seals secrets; made where there is none.
    pub secret_key: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The resources, states, rules and tasks of one store. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Cloud {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) exports: Arc<dyn ExportPlane>,
    pub(crate) engine: ResetEngine,
    pub(crate) settings: Settings,
    pub(crate) sealer: Sealer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) jobs: Jobs,
    pub(crate) scrub: ScrubDesk,
    /// See `world`: never held across I/O.
    pub(crate) world: Mutex<World>,
    /// Told whenever a claim is let go.
    pub(crate) changed: Condvar,
}

impl Cloud {
    /// Loads every record, settles what was half done when the store was last closed, opens the
    /// exports of running instances again and goes on with what was in progress.
    pub fn open(parts: OpenCloud) -> Result<Self, CloudError> {
        let sealer = Sealer::open(&parts.secret_key)?;
        let mut world = recovery::load(parts.catalog.as_ref())?;
        recovery::settle(&parts.store, parts.catalog.as_ref(), &mut world)?;
        let fences = Arc::clone(&parts.exports);
        let engine = ResetEngine::new(parts.store.clone(), fences);
        let inner = Inner {
            engine,
            store: parts.store,
            catalog: parts.catalog,
            exports: parts.exports,
            settings: parts.settings,
            sealer,
            clock: parts.clock,
            jobs: Jobs::start()?,
            scrub: ScrubDesk::default(),
            world: Mutex::new(world),
            changed: Condvar::new(),
        };
        let cloud = Self { inner: Arc::new(inner) };
        recovery::resume(&cloud)?;
        cloud.watch_space();
        Ok(cloud)
    }

    /// Ends background work and flushes and closes every export. Instances stay recorded as
    /// Running: the next start opens their exports again.
    pub fn close(&self) {
        self.inner.jobs.stop();
        self.inner.scrub.stop();
        if let Err(error) = self.close_exports(&self.running_disks(), FenceMode::Flush) {
            tracing::error!(%error, "the last flush of a disk failed");
        }
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The store below, for what only the operator asks of it.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// A request id for a call that brings none.
    pub fn new_request_id() -> RequestId {
        RequestId::from_bytes(*uuid::Uuid::new_v4().as_bytes())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    pub(crate) fn now_seconds(&self) -> i64 {
        self.now().as_second()
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.inner.world.lock()
    }

    /// The lock, once `ready` holds: nobody quietly changes what the caller is about.
    pub(crate) fn world_when(&self, ready: impl Fn(&World) -> bool) -> MutexGuard<'_, World> {
        let mut world = self.inner.world.lock();
        while !ready(&world) {
            self.inner.changed.wait(&mut world);
        }
        world
    }

    /// Where the checks of every action end: nothing is changed without a claim, and a caller that
    /// only checks gets none.
    pub(crate) fn claim(
        &self,
        caller: &Caller,
        world: &mut World,
        holds: Vec<Hold>,
    ) -> Result<Claim, CloudError> {
        caller.goes_on()?;
        Ok(self.claim_unasked(world, holds))
    }

    /// For what goes on by itself.
    pub(crate) fn claim_unasked(&self, world: &mut World, holds: Vec<Hold>) -> Claim {
        Claim::take(self, world, holds)
    }

    /// The commit point of everything but resets and resizes.
    pub(crate) fn commit(&self, batch: &Batch) -> Result<(), CloudError> {
        Ok(self.inner.catalog.commit(batch, &[])?)
    }

    /// The account of a caller exists.
    pub(crate) fn check_account(world: &World, caller: &Caller) -> Result<(), CloudError> {
        world.account(&caller.account).map(drop)
    }
}

/// The name by which the store knows a disk. Ids of records are always of that shape.
pub(crate) fn disk_name(id: &str) -> Result<DiskId, CloudError> {
    id.parse().map_err(CloudError::internal)
}

/// The layer a record names.
pub(crate) fn layer_name(bytes: [u8; 16]) -> LayerId {
    LayerId::from_bytes(bytes)
}

impl fmt::Debug for OpenCloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenCloud").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud").finish_non_exhaustive()
    }
}
