//! Things to do to a store and to its model alike, and what a crash in the midst may show.
//!
//! What must always hold: the model follows an answer only; until then both the state before and
//! the state after are possible, each whole.
//! Left to others: which things to do (`operation`), crashes (`recorded_storage`).

use std::{
    collections::BTreeMap,
    io::Write,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability, ZeroMode};
use block_store::{
    BackingPolicy, CommitError, DiskHandle, ImageFormat, ImageSource, LayerId, LayerKind,
    LayerLabel, ReclaimPace, RequestId, Reset, SnapshotError, Store,
};

use super::{DiskState, Expectation, Model, Operation, Origins, SECTOR, Stamp, bytes_of, check};
use crate::recorded_storage::{Image, RecordedStorage};

/// One thing done, and what was true around it.
#[derive(Debug)]
pub struct Step {
    /// The moment it began.
    pub start: usize,
    /// The moment it was answered.
    pub end: usize,
    /// The moment of the catalog's commit, if there was one.
    pub commit: Option<usize>,
    /// What was answered.
    pub answer: Result<(), String>,
    before: Model,
    /// The states that are possible until it is answered, for the disks it is about.
    during: BTreeMap<DiskId, Vec<Arc<DiskState>>>,
    after: Model,
}

impl Step {
    /// Whether it is about this disk, so that its state is not known before it is answered.
    pub fn is_about(&self, disk: &DiskId) -> bool {
        self.during.contains_key(disk)
    }

    /// What must be found if power fails at this moment. At the very moment of the catalog's
    /// commit it may have happened or not.
    pub fn expected_at(&self, moment: usize, has_committed_at_tie: bool) -> Expectation {
        if moment >= self.end && self.answer.is_ok() {
            return self.after.expect();
        }
        let committed = self
            .commit
            .is_some_and(|commit| moment > commit || (moment == commit && has_committed_at_tie));
        let catalog = if committed { &self.after } else { &self.before };
        let mut expected = catalog.expect();
        for (disk, states) in &mut expected.disks {
            if let Some(during) = self.during.get(disk) {
                *states = during.clone();
            }
        }
        expected
    }
}

/// A store, its model, and the storage that remembers.
#[derive(Debug)]
pub struct Bench {
    /// Where the store's files are.
    pub storage: Arc<RecordedStorage>,
    /// What the store must hold.
    pub model: Model,
    store: Option<Store>,
}

/// What an operation is doing, while it does it.
struct Doing {
    during: BTreeMap<DiskId, Vec<Arc<DiskState>>>,
    after: Model,
    commit: Option<usize>,
}

impl Doing {
    fn states(&mut self, disk: &DiskId, states: Vec<Arc<DiskState>>) {
        self.during.insert(disk.clone(), states);
    }
}

type Outcome = Result<(), String>;

fn told(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

/// On a seeded storage work for later waits until it is asked for: threads keep no order.
fn open_store(storage: &Arc<RecordedStorage>) -> Result<Store, String> {
    let store = Store::open(storage.clone()).map_err(told)?;
    if storage.is_seeded() {
        store.hold_background();
    }
    Ok(store)
}

impl Bench {
    /// An empty store.
    pub fn new() -> Self {
        let storage = RecordedStorage::empty();
        Store::create(&*storage).expect("an empty directory");
        Self::on(storage, Model::default()).expect("an empty store")
    }

    /// A store on files that are there, which must be as the model says.
    pub fn on(storage: Arc<RecordedStorage>, model: Model) -> Result<Self, String> {
        let expected = model.expect();
        Self::after_kill(storage, model, &expected)
    }

    /// A store on files that a killed process left, which must be as expected.
    pub fn after_kill(
        storage: Arc<RecordedStorage>,
        model: Model,
        expected: &Expectation,
    ) -> Result<Self, String> {
        let mut bench = Self { storage, model, store: None };
        bench.open(expected)?;
        Ok(bench)
    }

    /// A store on what a device holds after a power loss, which must be as expected.
    pub fn after_power_loss(
        image: &Image,
        model: Model,
        expected: &Expectation,
    ) -> Result<Self, String> {
        Self::on_device(RecordedStorage::after(image.durable_changes()), model, expected)
    }

    /// A store on a storage of which all is durable, which must be as expected.
    pub fn on_device(
        storage: Arc<RecordedStorage>,
        mut model: Model,
        expected: &Expectation,
    ) -> Result<Self, String> {
        let store = open_store(&storage)?;
        let found = check(&store, expected)?;
        model.observe_after_power_loss(expected, found);
        Ok(Self { storage, model, store: Some(store) })
    }

    /// The open store.
    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open between operations")
    }

    /// Whether the store is open: not after a start that failed.
    pub fn is_open(&self) -> bool {
        self.store.is_some()
    }

    /// Closes the store without flushing anything.
    pub fn close(&mut self) {
        self.store = None;
    }

    fn open(&mut self, expected: &Expectation) -> Outcome {
        let store = open_store(&self.storage)?;
        let found = check(&store, expected)?;
        self.model.observe_after_kill(expected, &found);
        self.store = Some(store);
        Ok(())
    }

    /// Does something that must succeed.
    pub fn must(&mut self, operation: &Operation) -> Step {
        let step = self.perform(operation);
        assert_eq!(step.answer, Ok(()), "{operation:?}");
        step
    }

    /// Does something; the model follows if it is answered well.
    pub fn perform(&mut self, operation: &Operation) -> Step {
        let (before, start) = (self.model.clone(), self.storage.moment());
        let mut doing = Doing { during: BTreeMap::new(), after: before.clone(), commit: None };
        let answer = self.run(operation, &mut doing);
        let Doing { during, after, commit } = doing;
        let end = self.storage.moment();
        if answer.is_ok() {
            self.model = after.clone();
        }
        Step { start, end, commit, answer, before, during, after }
    }

    fn run(&mut self, operation: &Operation, doing: &mut Doing) -> Outcome {
        match operation {
            Operation::Create { disk, length, origin } => {
                self.create(disk, *length, *origin, doing)
            }
            Operation::Write { disk, range, durability } => {
                self.write(disk, range.clone(), *durability, doing)
            }
            Operation::Discard { disk, range } => self.discard(disk, range.clone(), doing),
            Operation::WriteZeroes { disk, range, mode, durability } => {
                self.write_zeroes(disk, range.clone(), (*mode, *durability), doing)
            }
            Operation::Flush { disk } => {
                self.handle(disk)?.flush().map_err(told)?;
                doing.states(disk, vec![self.model.disks[disk].clone()]);
                doing.after.change(disk, DiskState::harden_all);
                Ok(())
            }
            Operation::Reset(orders) => self.reset(orders, doing),
            Operation::Snapshot { disk, commits } => self.snapshot(disk, *commits, doing),
            Operation::Resize { disk, length } => self.resize(disk, *length, doing),
            Operation::Delete { disk } => self.delete(disk, doing),
            Operation::Import { length, stretches } => self.import(*length, stretches, doing),
            Operation::DeleteLayer { layer } => self.delete_layer(*layer, doing),
            Operation::Hash { layer } => {
                self.store().hash_layer(*layer, &()).map(drop).map_err(told)
            }
            Operation::Reclaim { disk } => {
                self.store().reclaim(disk, ReclaimPace::default(), &()).map(drop).map_err(told)
            }
            Operation::Restart => {
                self.close();
                self.open(&self.model.expect())?;
                doing.after = self.model.clone();
                Ok(())
            }
            Operation::Settle => {
                self.store().wait_for_background();
                Ok(())
            }
        }
    }

    fn handle(&self, disk: &DiskId) -> Result<Arc<DiskHandle>, String> {
        self.store().open_disk(disk).map_err(told)
    }

    fn create(
        &self,
        disk: &DiskId,
        length: usize,
        origin: Option<LayerId>,
        doing: &mut Doing,
    ) -> Outcome {
        let content = self.model.origin(origin);
        let state = DiskState::new(length, &content);
        let staged = self.store().create_disk(disk, bytes(length), origin).map_err(told)?;
        doing.commit = Some(self.storage.moment());
        doing.after.disks.insert(disk.clone(), Arc::new(state));
        staged.publish().map_err(told)
    }

    fn write(
        &mut self,
        disk: &DiskId,
        range: Range<usize>,
        durability: Durability,
        doing: &mut Doing,
    ) -> Outcome {
        let stamps = doing.after.stamps(range.len());
        doing.after.change(disk, |state| state.write(range.start, &stamps));
        doing.states(disk, vec![doing.after.disks[disk].clone()]);
        // Stamps of a write that failed are never used again either.
        self.model.last = doing.after.last;
        let handle = self.handle(disk)?;
        handle.write_at(&bytes_of(&stamps), offset(range.start), durability).map_err(told)?;
        harden_if(durability, disk, range, doing);
        Ok(())
    }

    fn discard(&self, disk: &DiskId, range: Range<usize>, doing: &mut Doing) -> Outcome {
        doing.after.change(disk, |state| state.discard(range.clone()));
        doing.states(disk, vec![doing.after.disks[disk].clone()]);
        let handle = self.handle(disk)?;
        handle.discard(offset(range.start), bytes(range.len())).map_err(told)
    }

    fn write_zeroes(
        &self,
        disk: &DiskId,
        range: Range<usize>,
        (mode, durability): (ZeroMode, Durability),
        doing: &mut Doing,
    ) -> Outcome {
        doing.after.change(disk, |state| state.zero(range.clone()));
        doing.states(disk, vec![doing.after.disks[disk].clone()]);
        let handle = self.handle(disk)?;
        handle
            .write_zeroes(offset(range.start), bytes(range.len()), mode, durability)
            .map_err(told)?;
        harden_if(durability, disk, range, doing);
        Ok(())
    }

    fn reset(&mut self, orders: &Origins, doing: &mut Doing) -> Outcome {
        // Requests that failed are never repeated either.
        let request = self.model.request();
        doing.after.requests = self.model.requests;
        let mut resets = Vec::new();
        for (disk, origin) in orders {
            let content = self.model.origin(*origin);
            doing.after.change(disk, |state| state.reset(&content, request));
            let either = vec![self.model.disks[disk].clone(), doing.after.disks[disk].clone()];
            doing.states(disk, either);
            resets.push(Reset {
                disk: disk.clone(),
                base: *origin,
                request_id: RequestId::from_bytes(request),
                time: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
            });
        }
        let receipts = self.store().reset(&resets);
        for (receipt, (disk, _)) in receipts.into_iter().zip(orders) {
            let receipt = receipt.map_err(told)?;
            assert_eq!(receipt.epoch_after.get(), doing.after.disks[disk].epoch, "{receipt:?}");
        }
        Ok(())
    }

    fn snapshot(&self, disk: &DiskId, commits: bool, doing: &mut Doing) -> Outcome {
        doing.states(disk, vec![self.model.disks[disk].clone()]);
        doing.after.change(disk, DiskState::harden_all);
        let mut content = self.model.disks[disk].content();
        let commit = |layer: Option<LayerId>| {
            if !commits {
                return Err(CommitError::NotDone(()));
            }
            doing.commit = Some(self.storage.moment());
            // A disk that was not written gives the layer below, which may be shorter.
            if let Some(layer) = layer {
                let length = self.store().layer(layer).expect("made just now").size.get();
                content.truncate(usize::try_from(length).expect("small disks") / SECTOR);
                doing.after.layers.insert(layer, Arc::new(content));
            }
            Ok(())
        };
        match self.store().snapshot(disk, label(LayerKind::Snapshot), commit) {
            Err(SnapshotError::Commit(())) => Ok(()),
            other => other.map(drop).map_err(told),
        }
    }

    fn resize(&self, disk: &DiskId, length: usize, doing: &mut Doing) -> Outcome {
        doing.after.change(disk, |state| state.resize(length));
        doing.states(disk, vec![self.model.disks[disk].clone(), doing.after.disks[disk].clone()]);
        self.store().resize(disk, bytes(length)).map_err(told)
    }

    fn delete(&self, disk: &DiskId, doing: &mut Doing) -> Outcome {
        let staged = self.store().delete_disk(disk).map_err(told)?;
        doing.commit = Some(self.storage.moment());
        doing.after.disks.remove(disk);
        staged.finish().map_err(told)
    }

    fn import(&mut self, length: usize, stretches: &[Range<usize>], doing: &mut Doing) -> Outcome {
        let mut content = vec![0; length];
        for stretch in stretches {
            let stamps: Vec<Stamp> = doing.after.stamps(stretch.len());
            content[stretch.clone()].copy_from_slice(&stamps);
        }
        self.model.last = doing.after.last;
        let source = raw_image(&content);
        let staged = self.store().import(&source, label(LayerKind::Image), &()).map_err(told)?;
        doing.commit = Some(self.storage.moment());
        doing.after.layers.insert(staged.layer(), Arc::new(content));
        staged.publish().map_err(told)
    }

    fn delete_layer(&self, layer: LayerId, doing: &mut Doing) -> Outcome {
        let staged = self.store().delete_layer(layer).map_err(told)?;
        doing.commit = Some(self.storage.moment());
        doing.after.layers.remove(&layer);
        staged.finish();
        Ok(())
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

fn harden_if(durability: Durability, disk: &DiskId, range: Range<usize>, doing: &mut Doing) {
    if durability == Durability::ForceUnitAccess {
        doing.after.change(disk, |state| state.harden(range));
    }
}

/// An image file with this content.
fn raw_image(content: &[Stamp]) -> ImageSource {
    let mut file = tempfile::tempfile().expect("a file for an image");
    for stretch in content.chunks(1 << 12) {
        file.write_all(&bytes_of(stretch)).expect("room for an image");
    }
    let policy = BackingPolicy::Refuse;
    ImageSource::open(file, None, Some(ImageFormat::Raw), policy).expect("a raw image")
}

fn label(kind: LayerKind) -> LayerLabel {
    LayerLabel { kind, id: "r-1".into(), account: "default".into(), name: "a name".into() }
}

fn bytes(sectors: usize) -> ByteLength {
    ByteLength::new(u64::try_from(sectors * SECTOR).expect("64-bit"))
}

fn offset(sector: usize) -> ByteOffset {
    ByteOffset::new(u64::try_from(sector * SECTOR).expect("64-bit"))
}
