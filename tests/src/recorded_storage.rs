//! A store's directory that remembers every change, so that power can be cut at any of them.
//!
//! The store works on a real directory (in memory where there is one); each change is also listed
//! with its content. From the list and a moment, [`Image`] makes what a device could hold if power
//! failed just then.
//!
//! What must always hold: changes are done and listed one at a time, so the list is their order.
//! A sync that a test takes away, or lets fail, makes nothing durable.
//! Left to others: what a store promises (`reference_model`), which calls fail (`faulty_storage`).

mod crash;
mod dice;
mod gate;
mod journal;
mod role;

use std::{
    fs::File,
    io::{self, IoSlice},
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use block_store::{FileStorage, LayerId, LockError, Storage, StorageFile, StoreLock};
use tempfile::TempDir;

pub use crash::{Image, without_lost_pages};
pub use dice::Dice;
pub use gate::Gate;
pub use journal::{Change, Node, Omission};
pub use role::SyncRole;

use journal::Journal;

use crate::faulty_storage::{Call, Faults};

/// A directory that remembers every change.
#[derive(Debug)]
pub struct RecordedStorage {
    directory: TempDir,
    inner: FileStorage,
    journal: Arc<Mutex<Journal>>,
    faults: Arc<Faults>,
    gate: Arc<Gate>,
    looks: Arc<AtomicU64>,
    /// What names of new layers are drawn with, if a seed is to repeat them.
    names: Option<Mutex<Dice>>,
}

/// A new directory, in memory if there is a place for that.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::Builder::new().prefix("reinit-").tempdir_in(memory)
    } else {
        TempDir::with_prefix("reinit-")
    };
    made.expect("a directory for throw-away files")
}

impl RecordedStorage {
    /// An empty directory.
    pub fn empty() -> Arc<Self> {
        Self::after(Vec::new())
    }

    /// A directory to which all this has already been done; what was not synced stays unsynced.
    pub fn after(changes: Vec<Change>) -> Arc<Self> {
        Arc::new(Self::of(changes))
    }

    /// The same, and this seed repeats the names of new layers.
    pub fn seeded_after(changes: Vec<Change>, seed: u64) -> Arc<Self> {
        Arc::new(Self { names: Some(Mutex::new(Dice::new(seed))), ..Self::of(changes) })
    }

    fn of(changes: Vec<Change>) -> Self {
        let directory = scratch();
        Image::after_kill(&changes).write_to(directory.path());
        let inner = FileStorage::open(directory.path()).expect("just made");
        let journal = Arc::new(Mutex::new(Journal::of(changes)));
        let (faults, gate) = (Arc::default(), Arc::default());
        let looks = Arc::default();
        Self { directory, inner, journal, faults, gate, looks, names: None }
    }

    /// Whether a seed repeats what happens on it.
    pub fn is_seeded(&self) -> bool {
        self.names.is_some()
    }

    /// Where the files are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// How many changes there were until now.
    pub fn moment(&self) -> usize {
        self.journal().changes.len()
    }

    /// The changes up to a moment.
    pub fn changes(&self, moment: usize) -> Vec<Change> {
        self.journal().changes[..moment].to_vec()
    }

    /// What the device holds if power fails at the moment.
    pub fn cut(&self, moment: usize, seed: u64, unit: u64) -> Image {
        Image::after_power_loss(&self.journal().changes[..moment], seed, unit)
    }

    /// From now on syncs pretend when the omission says so.
    pub fn omit(&self, omission: impl FnMut(SyncRole, usize) -> bool + Send + 'static) {
        self.journal().set_omission(Some(Box::new(omission)));
    }

    /// From now on every sync is done.
    pub fn omit_nothing(&self) {
        self.journal().set_omission(None);
    }

    /// The calls that are to fail.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What holds syncs up.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// How often somebody asked where data is.
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        lock(&self.journal)
    }

    fn handle(&self, inner: Arc<dyn StorageFile>, number: usize) -> Arc<dyn StorageFile> {
        let (journal, faults) = (self.journal.clone(), self.faults.clone());
        let (gate, looks) = (self.gate.clone(), self.looks.clone());
        Arc::new(RecordedFile { inner, number, journal, faults, gate, looks })
    }
}

fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    journal.lock().expect("nobody panics while listing a change")
}

impl Storage for RecordedStorage {
    fn open(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.faults.check(Call::Open)?;
        let inner = self.inner.open(path)?;
        let number = match self.journal().find(path)? {
            Node::File(number) => number,
            Node::Directory(_) => return Err(io::ErrorKind::IsADirectory.into()),
        };
        Ok(self.handle(inner, number))
    }

    fn open_to_read(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.faults.check(Call::Open)?;
        let inner = self.inner.open_to_read(path)?;
        let number = match self.journal().find(path)? {
            Node::File(number) => number,
            Node::Directory(_) => return Err(io::ErrorKind::IsADirectory.into()),
        };
        Ok(self.handle(inner, number))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.faults.check(Call::Create)?;
        let mut journal = self.journal();
        let inner = self.inner.create(path)?;
        let (directory, name) = journal.place(path)?;
        let number = journal.next_file();
        journal.push(Change::Link { directory, name: name.into(), node: Node::File(number) });
        drop(journal);
        Ok(self.handle(inner, number))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.faults.check(Call::Create)?;
        let mut journal = self.journal();
        self.inner.create_dir(path)?;
        let (directory, name) = journal.place(path)?;
        let node = Node::Directory(journal.next_directory());
        journal.push(Change::Link { directory, name: name.into(), node });
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.faults.check(Call::Rename)?;
        let mut journal = self.journal();
        let ((directory, from_name), (target, to_name)) =
            (journal.place(from)?, journal.place(to)?);
        assert_eq!(directory, target, "the crash rules know no move between directories");
        self.inner.rename(from, to)?;
        journal.push(Change::Move { directory, from: from_name.into(), to: to_name.into() });
        Ok(())
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.faults.check(Call::Remove)?;
        let mut journal = self.journal();
        self.inner.remove_file(path)?;
        let (directory, name) = journal.place(path)?;
        journal.push(Change::Unlink { directory, name: name.into() });
        Ok(())
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.faults.check(Call::Remove)?;
        let mut journal = self.journal();
        self.inner.remove_dir(path)?;
        let (directory, name) = journal.place(path)?;
        journal.push(Change::Unlink { directory, name: name.into() });
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = self.inner.list(path)?;
        // The system's order is nobody's to repeat.
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.faults.check(Call::SyncDirectory)?;
        self.journal().sync_directory(path)
    }

    fn lock(&self, path: &str) -> Result<StoreLock, LockError> {
        // The lock file is nobody's content; it is not listed.
        self.inner.lock(path)
    }

    fn lock_to_read(&self, path: &str) -> Result<StoreLock, LockError> {
        self.inner.lock_to_read(path)
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        self.inner.space()
    }

    fn new_layer_id(&self) -> io::Result<LayerId> {
        let Some(names) = &self.names else { return self.inner.new_layer_id() };
        let mut dice = names.lock().expect("nobody panics while drawing");
        let (high, low) = (u128::from(dice.number()), u128::from(dice.number()));
        Ok(LayerId::from_bytes((high << 64 | low).to_le_bytes()))
    }

    /// The Nth call is the same call in every run.
    fn at_a_time(&self) -> usize {
        1
    }
}

/// An open file whose changes are listed.
#[derive(Debug)]
struct RecordedFile {
    inner: Arc<dyn StorageFile>,
    number: usize,
    journal: Arc<Mutex<Journal>>,
    faults: Arc<Faults>,
    gate: Arc<Gate>,
    looks: Arc<AtomicU64>,
}

impl RecordedFile {
    fn change(&self, change: impl FnOnce() -> io::Result<Change>) -> io::Result<()> {
        let mut journal = lock(&self.journal);
        let change = change()?;
        journal.push(change);
        Ok(())
    }
}

impl StorageFile for RecordedFile {
    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.faults.check(Call::Read)?;
        self.inner.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut bytes = pieces.iter().map(|piece| &**piece).collect::<Vec<_>>().concat();
        let fault = self.faults.check(Call::Write);
        if fault.is_err() {
            // A write that fails may have written a part, in whole sectors.
            bytes.truncate(bytes.len() / 2 / 512 * 512);
        }
        if !bytes.is_empty() {
            self.change(|| {
                self.inner.write_all_at(&[IoSlice::new(&bytes)], offset)?;
                Ok(Change::Write { file: self.number, offset, bytes })
            })?;
        }
        fault
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.faults.check(Call::SetLength)?;
        self.change(|| {
            self.inner.set_len(length)?;
            Ok(Change::SetLength { file: self.number, length })
        })
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.faults.check(Call::Punch)?;
        self.change(|| {
            self.inner.punch_hole(range.clone())?;
            Ok(Change::Punch { file: self.number, range })
        })
    }

    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        // Relaxed: read when the walk has ended.
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.inner.next_data(from)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        let mut journal = lock(&self.journal);
        let file = self.number;
        match self.faults.check(Call::Sync) {
            Ok(()) => journal.sync_file(file),
            Err(error) => {
                journal.push(Change::LostSync { file });
                return Err(error);
            }
        }
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.inner.drop_cache()
    }

    fn allocated(&self) -> io::Result<u64> {
        self.inner.allocated()
    }

    fn file(&self) -> &File {
        self.inner.file()
    }
}
