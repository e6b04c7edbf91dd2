//! The store: all disks and layers below one directory.
//!
//! What must always hold: one process has the store open (the lock), and every change of what
//! exists goes through the ledger, a mark, or both.
//!
//! Lock: `disks`, held for a moment to find or list disks, never across I/O and never while any
//! lock of a disk is taken.
//! Left to others: each operation has its own file (`lifecycle`, `reset`, `snapshot`, `import`,
//! `recovery`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use block_device::{ByteLength, DeviceError, DiskId, FenceMode};
use parking_lot::{Mutex, RwLock};

use crate::{
    disk::{Disk, DiskHandle},
    error::StoreError,
    hashing::Hashing,
    histogram::HistogramView,
    id::{Epoch, LayerId},
    layer_files::{self, Entry},
    ledger::{Contents, Ledger},
    ledger_record::SlotState,
    names::{Names, Pin},
    open_layers::OpenLayers,
    reserve::Reserve,
    reset::{ResetReceipt, ResetTimes},
    scrub,
    sealed_layer::Chain,
    storage::{Storage, StoreLock},
    worker::{self, Job},
};

/// The name of the lock file.
pub(crate) const LOCK: &str = "lock";

/// An open store; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What ends with the last clone.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// What operations, handles and the worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) ledger: Ledger,
    pub(crate) layers: OpenLayers,
    pub(crate) names: Arc<Names>,
    pub(crate) disks: RwLock<BTreeMap<DiskId, Arc<Disk>>>,
    /// Disks whose ledger record is damaged: refused by name.
    pub(crate) refused: RwLock<BTreeMap<DiskId, String>>,
    /// Names of disks that are being made.
    pub(crate) making: Mutex<BTreeSet<DiskId>>,
    /// Marked slots of the ledger, until they are settled.
    pub(crate) unsettled: Mutex<Contents>,
    pub(crate) hashing: Hashing,
    /// The last clone is gone: long work for later stops.
    pub(crate) is_closing: AtomicBool,
    /// Held by the one scrub that runs.
    pub(crate) scrubbing: Mutex<()>,
    pub(crate) reserve: Reserve,
    pub(crate) reset_times: ResetTimes,
    jobs: mpsc::Sender<Job>,
    _lock: StoreLock,
}

/// What a disk is, for people.
#[derive(Clone, Debug)]
pub struct DiskInfo {
    /// Its name.
    pub id: DiskId,
    /// Its size.
    pub size: ByteLength,
    /// How often it was reset, plus one.
    pub epoch: Epoch,
    /// The sealed layer its head stands on.
    pub base: Option<LayerId>,
    /// Its writable layer, once something was written.
    pub head: Option<LayerId>,
    /// The newest sequence of its ledger slot.
    pub sequence: u64,
    /// The receipt of its last reset.
    pub last_reset: Option<ResetReceipt>,
    /// Why it is not served, or takes no writes.
    pub refusal: Option<String>,
}

/// Space of the file system the store is on, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct StoreSpace {
    /// What can still be used.
    pub free: ByteLength,
    /// All of it.
    pub total: ByteLength,
}

/// What was written to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// What was written or zeroed since the last reset, in whole blocks.
    pub since_reset: ByteLength,
    /// Whether the head's map had to be read for that. It has not after a reset: no word is of the
    /// new epoch until the first write. It has when something was written, and once after the store
    /// was opened.
    pub map_was_read: bool,
}

/// What the store counted since it was opened.
#[derive(Clone, Debug)]
pub struct StoreCounters {
    /// Syncs of the ledger.
    pub ledger_commits: u64,
    /// Records these made durable.
    pub ledger_records: u64,
    /// How many records shared each sync.
    pub ledger_groups: HistogramView,
    /// Of resets, in nanoseconds for each batch: opening the disks and what they go back to, until
    /// nobody reaches them any more.
    pub reset_opening: HistogramView,
    /// Of resets, in nanoseconds for each batch: the ledger's records and their sync.
    pub reset_ledger: HistogramView,
}

impl Store {
    /// Makes an empty store in a directory that holds none.
    pub fn create(storage: &dyn Storage) -> Result<(), StoreError> {
        let io = |what: &str| StoreError::io(format!("{what} the directory of layers"));
        if storage.exists(crate::ledger::FILE).map_err(io("looking beside"))? {
            return Err(StoreError::NotEmpty);
        }
        // A directory of layers without a ledger is what a cut-short creation leaves.
        if storage.exists(layer_files::LAYERS).map_err(io("looking for"))? {
            if !storage.list(layer_files::LAYERS).map_err(io("listing"))?.is_empty() {
                return Err(StoreError::NotEmpty);
            }
        } else {
            storage.create_dir(layer_files::LAYERS).map_err(io("making"))?;
        }
        storage.sync_dir(layer_files::LAYERS).map_err(io("syncing"))?;
        // The ledger last: what has one is a store.
        Ledger::create(storage)
    }

    /// Opens a store; disks are opened when somebody asks for them. Who has a catalog calls
    /// [`Store::settle`] next; who has none, [`Store::settle_alone`].
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self, StoreError> {
        if !storage.exists(crate::ledger::FILE).map_err(StoreError::io("looking for the ledger"))? {
            return Err(StoreError::NotAStore);
        }
        let lock = storage.lock(LOCK)?;
        let (ledger, contents) = Ledger::open(&*storage)?;
        // Only now: a store that is refused is not changed by a byte.
        lock.name_holder();
        let (jobs, queue) = mpsc::channel();
        let shared = Arc::new(Shared {
            names: Arc::new(Names::new(jobs.clone())),
            storage,
            ledger,
            layers: OpenLayers::new(jobs.clone()),
            disks: RwLock::default(),
            refused: RwLock::default(),
            making: Mutex::default(),
            unsettled: Mutex::default(),
            hashing: Hashing::default(),
            is_closing: AtomicBool::new(false),
            scrubbing: Mutex::default(),
            reserve: Reserve::default(),
            reset_times: ResetTimes::default(),
            jobs,
            _lock: lock,
        });
        shared.clone().take(contents)?;
        scrub::recall(&shared);
        let worker = Mutex::new(Some(worker::start(shared.clone(), queue)?));
        Ok(Self { inner: Arc::new(Inner { shared, worker }) })
    }

    /// All disks that exist.
    pub fn disks(&self) -> Vec<DiskId> {
        self.shared().disks.read().keys().cloned().collect()
    }

    /// What a disk is.
    pub fn disk(&self, id: &DiskId) -> Result<DiskInfo, StoreError> {
        let disk = self.shared().disk(id)?;
        let sequence = self.shared().ledger.sequence(disk.slot);
        let state = disk.state.read();
        let record = state.wanted_record();
        let poison = state.head().and_then(|head| head.poisoned().map(str::to_owned));
        Ok(DiskInfo {
            id: id.clone(),
            size: ByteLength::new(record.geometry.size()),
            epoch: record.epoch,
            base: record.base,
            head: record.head,
            sequence,
            last_reset: ResetReceipt::of(&record),
            refusal: state.refusal.clone().or(poison),
        })
    }

    /// How much was written or zeroed since the last reset, in whole blocks.
    pub fn written_since_reset(&self, id: &DiskId) -> Result<ByteLength, StoreError> {
        Ok(self.written(id)?.since_reset)
    }

    /// The same, and how it is known.
    pub fn written(&self, id: &DiskId) -> Result<Written, StoreError> {
        let disk = self.shared().disk(id)?;
        let glance = {
            let _alone = disk.control.lock();
            disk.ensure_open(self.shared())?;
            disk.state.read().glance()
        };
        // Under no lock: a reset does not wait for whoever asks.
        let map_was_read = !glance.is_known_untouched();
        let blocks = if map_was_read { glance.blocks_written()? } else { 0 };
        let since_reset = ByteLength::new(blocks * block_device::BLOCK);
        Ok(Written { since_reset, map_was_read })
    }

    /// Opens a disk for reading and writing, until the next fence. Several may be open at once.
    pub fn open_disk(&self, id: &DiskId) -> Result<Arc<DiskHandle>, StoreError> {
        let disk = self.shared().disk(id)?;
        let _alone = disk.control.lock();
        disk.ensure_open(self.shared())?;
        let session = disk.state.read().session;
        Ok(Arc::new(DiskHandle::new(self.inner.shared.clone(), disk.clone(), session)))
    }

    /// Ends all handles of a disk: running requests finish, later ones are refused.
    pub fn fence(&self, id: &DiskId, mode: FenceMode) -> Result<(), DeviceError> {
        let disk = self.shared().disk(id).map_err(DeviceError::from)?;
        let _alone = disk.control.lock();
        let mut state = disk.state.write();
        state.check_exists(id)?;
        state.session += 1;
        match mode {
            FenceMode::Flush => disk.flush(self.shared(), &state),
            FenceMode::Drop => Ok(()),
        }
    }

    /// Space of the file system the store is on.
    pub fn space(&self) -> Result<StoreSpace, StoreError> {
        let (free, total) =
            self.shared().storage.space().map_err(StoreError::io("asking for free space"))?;
        Ok(StoreSpace { free: ByteLength::new(free), total: ByteLength::new(total) })
    }

    /// What was counted since the store was opened.
    pub fn counters(&self) -> StoreCounters {
        let ledger = &self.shared().ledger;
        StoreCounters {
            ledger_commits: ledger.commits.load(Ordering::Relaxed),
            ledger_records: ledger.records.load(Ordering::Relaxed),
            ledger_groups: ledger.groups.view(),
            reset_opening: self.shared().reset_times.opening.view(),
            reset_ledger: self.shared().reset_times.ledger.view(),
        }
    }

    /// Fences and flushes every disk; what fails is told, the others are flushed all the same.
    pub fn flush_all(&self) -> Vec<(DiskId, DeviceError)> {
        let fence = |id: DiskId| self.fence(&id, FenceMode::Flush).err().map(|error| (id, error));
        self.disks().into_iter().filter_map(fence).collect()
    }

    /// Waits until the work for later that is known now is done.
    pub fn wait_for_background(&self) {
        let (done, wait) = mpsc::channel();
        self.shared().later(Job::Barrier(done));
        let _ = wait.recv();
    }

    /// From now on work for later is done by [`Store::wait_for_background`] only, and when the
    /// store is closed: a test then knows what was done when.
    pub fn hold_background(&self) {
        self.shared().later(Job::Hold);
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }
}

impl Shared {
    /// Takes in what the ledger said.
    fn take(self: Arc<Self>, contents: Contents) -> Result<(), StoreError> {
        let mut unsettled = Contents::default();
        let mut disks = BTreeMap::new();
        for (slot, state) in contents.slots {
            let (record, is_closed) = match state {
                SlotState::Live(record) => (record, false),
                SlotState::Closed(record) => (record, true),
                _ => {
                    unsettled.slots.push((slot, state));
                    continue;
                }
            };
            let (base, head) = (self.pin_base(record.base)?, self.watch_head(record.head)?);
            let id = record.disk.clone();
            let disk = Arc::new(Disk::new(slot, record, base, head));
            if is_closed {
                disk.close();
            }
            let has_twin = disks.insert(id.clone(), disk).is_some();
            if has_twin || self.refused.read().contains_key(&id) {
                disks.remove(&id);
                self.refuse(id, "several ledger records speak of it".into());
            }
        }
        for damage in contents.damaged {
            self.names.freeze();
            match damage.disk.clone() {
                Some(disk) => self.refuse(disk, format!("its ledger record: {}", damage.detail)),
                None => {
                    tracing::error!(slot = ?damage.slot, damage.detail, "a damaged ledger slot");
                }
            }
        }
        *self.disks.write() = disks;
        *self.unsettled.lock() = unsettled;
        Ok(())
    }

    fn refuse(&self, disk: DiskId, reason: String) {
        tracing::error!(%disk, reason, "the disk is refused");
        self.names.freeze();
        self.refused.write().insert(disk, reason);
    }

    /// Keeps a name from being used until the next start finds out whether a disk has it.
    pub(crate) fn doubt(&self, disk: &DiskId, why: &str) {
        let reason = format!("{why}; restart to settle it");
        self.refused.write().insert(disk.clone(), reason);
    }

    /// The disk of this name.
    pub(crate) fn disk(&self, id: &DiskId) -> Result<Arc<Disk>, StoreError> {
        if let Some(disk) = self.disks.read().get(id) {
            return Ok(disk.clone());
        }
        match self.refused.read().get(id) {
            Some(reason) => Err(StoreError::Refused { disk: id.clone(), reason: reason.clone() }),
            None => Err(StoreError::UnknownDisk(id.clone())),
        }
    }

    /// Keeps a base alive.
    pub(crate) fn pin_base(&self, base: Option<LayerId>) -> Result<Option<Pin>, StoreError> {
        base.map(|layer| self.names.pin(layer)).transpose()
    }

    /// Keeps a head alive that may turn out to be a layer. It is let go of when the disk is opened:
    /// nobody is to look then whether it can be removed, for it is still the disk's.
    pub(crate) fn watch_head(&self, head: Option<LayerId>) -> Result<Option<Pin>, StoreError> {
        head.map(|layer| self.names.watch(layer)).transpose()
    }

    /// Opens a base with all it stands on.
    pub(crate) fn open_base(
        &self,
        base: Option<LayerId>,
    ) -> Result<Option<Arc<Chain>>, StoreError> {
        base.map(|layer| self.layers.chain(&*self.storage, layer)).transpose()
    }

    /// Hands work to the worker. When it is gone the store is closing, and start does the rest.
    pub(crate) fn later(&self, job: Job) {
        let _ = self.jobs.send(job);
    }

    /// The layers that have a directory.
    pub(crate) fn layer_ids(&self) -> Result<Vec<LayerId>, StoreError> {
        let entries = layer_files::entries(&*self.storage)?.into_iter();
        Ok(entries
            .filter_map(|entry| match entry {
                Entry::Layer(layer) => Some(layer),
                Entry::Remains(_) | Entry::Foreign(_) => None,
            })
            .collect())
    }

    /// Whether a disk names the layer as its head.
    pub(crate) fn is_a_head(&self, layer: LayerId) -> bool {
        let disks: Vec<_> = self.disks.read().values().cloned().collect();
        disks.iter().any(|disk| disk.state.read().wanted_record().head == Some(layer))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Relaxed: it only makes the worker stop sooner.
        self.shared.is_closing.store(true, Ordering::Relaxed);
        self.shared.later(Job::Stop);
        if let Some(worker) = self.worker.lock().take() {
            // It only fails if the worker panicked, which was reported then.
            let _ = worker.join();
        }
    }
}
