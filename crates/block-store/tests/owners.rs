//! Owner tables from outside: a chain reads the same with them, without them, and with damaged
//! ones.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use block_device::{
    BLOCK, BlockDevice, ByteLength, ByteOffset, CLUSTER, DiskId, Durability, Extent, ZeroMode,
};
use block_store::{
    CommitError, FileStorage, LayerId, LayerKind, LayerLabel, LockError, Storage, StorageFile,
    Store, StoreLock,
};
use tempfile::TempDir;

/// A sequence of numbers that looks like chance and is the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A disk with a history of snapshots, and what each of them must read as.
struct History {
    directory: TempDir,
    store: Option<Store>,
    disk: DiskId,
    content: Vec<u8>,
    snapshots: Vec<(LayerId, Vec<u8>)>,
}

impl History {
    /// So many snapshots of random changes.
    fn random(seed: u64, layers: usize, clusters: u64) -> Self {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let directory = directory.unwrap();
        Store::create(&FileStorage::open(directory.path()).unwrap()).unwrap();
        let disk = "d-1".parse().unwrap();
        let content = vec![0; size(clusters * CLUSTER - 1536)];
        let mut history = Self { directory, store: None, disk, content, snapshots: Vec::new() };
        history.restart();
        let length = history.length();
        let staged = history.store().create_disk(&history.disk, length, None).unwrap();
        staged.publish().unwrap();
        let mut dice = Dice(seed);
        for _ in 0..layers {
            history.change(&mut dice);
            history.snapshot();
            if dice.below(2) == 0 {
                // Otherwise the next table may have to be made from what several layers say.
                history.store().wait_for_background();
            }
        }
        history.change(&mut dice);
        history.store().open_disk(&history.disk).unwrap().flush().unwrap();
        history.store().wait_for_background();
        history
    }

    fn length(&self) -> ByteLength {
        ByteLength::new(u64::try_from(self.content.len()).unwrap())
    }

    fn restart(&mut self) {
        self.store = None;
        let storage = Arc::new(FileStorage::open(self.directory.path()).unwrap());
        let store = Store::open(storage).unwrap();
        store.settle_alone().unwrap();
        self.store = Some(store);
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn change(&mut self, dice: &mut Dice) {
        if dice.below(20) == 0 {
            let grown =
                self.content.len() + size((dice.below(3) + 1) * 512 * (1 + dice.below(300)));
            self.content.resize(grown, 0);
            self.store().resize(&self.disk, self.length()).unwrap();
        }
        let handle = self.store().open_disk(&self.disk).unwrap();
        for _ in 0..1 + dice.below(12) {
            let sectors = self.length().get() / 512;
            let start = dice.below(sectors);
            let most = if dice.below(6) == 0 { 300 } else { 20 };
            let (from, end) = (start * 512, (start + 1 + dice.below(most)).min(sectors) * 512);
            let part = &mut self.content[size(from)..size(end)];
            if dice.below(3) == 0 {
                part.fill(0);
                let length = ByteLength::new(end - from);
                handle
                    .write_zeroes(
                        ByteOffset::new(from),
                        length,
                        ZeroMode::Punch,
                        Durability::Cached,
                    )
                    .unwrap();
            } else {
                part.fill_with(|| u8::try_from(1 + dice.below(255)).unwrap());
                handle.write_at(part, ByteOffset::new(from), Durability::Cached).unwrap();
            }
        }
    }

    fn snapshot(&mut self) {
        let (id, account, name) = (String::new(), String::new(), String::new());
        let label = LayerLabel { kind: LayerKind::Snapshot, id, account, name };
        let commit = |_| Ok::<_, CommitError<()>>(());
        let layer = self.store().snapshot(&self.disk, label, commit).unwrap().unwrap();
        self.snapshots.push((layer, self.content.clone()));
    }

    fn table(&self, place: usize) -> PathBuf {
        let layer = self.snapshots[place].0.to_string();
        self.directory.path().join("layers").join(layer).join("owners")
    }

    /// Each layer that somebody has open gets a table.
    fn make_all_tables(&self) {
        let open = |(layer, _): &(LayerId, Vec<u8>)| self.store().open_layer(*layer).unwrap();
        let _readers: Vec<_> = self.snapshots.iter().map(open).collect();
        self.store().wait_for_background();
    }

    /// Reads all of the disk, and answers how it is held.
    fn check_disk(&self, when: &str) -> Vec<Extent> {
        let handle = self.store().open_disk(&self.disk).unwrap();
        same(&*handle, &self.content, when);
        handle.extents(ByteOffset::ZERO, self.length(), usize::MAX).unwrap()
    }

    /// The same for some of the snapshots.
    fn check_snapshots(&self, when: &str, every: usize) -> Vec<Vec<Extent>> {
        let check = |(layer, content): &(LayerId, Vec<u8>)| {
            let reader = self.store().open_layer(*layer).unwrap();
            same(&*reader, content, when);
            reader.extents(ByteOffset::ZERO, reader.size(), usize::MAX).unwrap()
        };
        self.snapshots.iter().step_by(every).map(check).collect()
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

/// In pieces that are no whole clusters.
fn same(device: &dyn BlockDevice, content: &[u8], when: &str) {
    assert_eq!(device.size().get(), u64::try_from(content.len()).unwrap(), "{when}");
    let piece = size(5 * BLOCK + 512);
    for (place, part) in content.chunks(piece).enumerate() {
        let mut read = vec![1; part.len()];
        let offset = u64::try_from(place * piece).unwrap();
        device.read_at(&mut read, ByteOffset::new(offset)).unwrap();
        assert!(read == part, "{when}: other bytes in the piece at {offset}");
    }
}

#[test]
fn a_chain_reads_the_same_through_tables_and_by_the_walk() {
    // Clusters that many layers share, and more than one group of them with gaps.
    for (seed, layers, clusters) in [(1, 200, 9), (2, 30, 60), (3, 12, 700)] {
        let mut history = History::random(seed, layers, clusters);
        let disk = history.check_disk("tables made just now");
        let snapshots = history.check_snapshots("tables made just now", 7);
        history.make_all_tables();
        assert!((2..layers).all(|place| history.table(place).is_file()), "each has a table");
        assert!((0..2).all(|place| !history.table(place).exists()), "but the first two");

        history.restart();
        assert_eq!(history.check_disk("tables found"), disk);
        assert_eq!(history.check_snapshots("tables found", 7), snapshots);

        // A directory in a table's place can neither be read nor replaced.
        history.store = None;
        for place in 2..layers {
            fs::remove_file(history.table(place)).unwrap();
            fs::create_dir(history.table(place)).unwrap();
        }
        history.restart();
        assert_eq!(history.check_disk("the walk"), disk);
        assert_eq!(history.check_snapshots("the walk", 7), snapshots);
    }
}

#[test]
fn a_lost_table_is_made_anew_from_below_or_from_nothing() {
    let mut history = History::random(4, 40, 30);
    let top = history.snapshots.len() - 1;
    let good = fs::read(history.table(top)).unwrap();
    for lost in [vec![top], (20..=top).collect(), (2..=top).collect()] {
        history.store = None;
        for place in &lost {
            let _ = fs::remove_file(history.table(*place));
        }
        history.restart();
        history.check_disk("a lost table");
        history.store().wait_for_background();
        assert!(fs::read(history.table(top)).unwrap() == good, "the same table as before");
    }
}

/// Damages the uppermost table in some way: never a wrong byte, and a right table afterwards.
fn survives(history: &mut History, what: &str, damage: impl FnOnce(&mut Vec<u8>)) {
    let table = history.table(history.snapshots.len() - 1);
    history.store = None;
    let good = fs::read(&table).unwrap();
    let mut bad = good.clone();
    damage(&mut bad);
    assert!(bad != good, "{what}: it changes something");
    fs::write(&table, bad).unwrap();
    history.restart();
    history.check_disk(what);
    history.store().wait_for_background();
    assert!(fs::read(&table).unwrap() == good, "{what}: made anew");
    history.check_disk(what);
}

#[test]
fn a_damaged_table_gives_no_wrong_byte_and_is_made_anew() {
    let mut history = History::random(5, 40, 300);
    let top = history.snapshots.len() - 1;
    let good = fs::read(history.table(top)).unwrap();
    let sectors = 4096 + 512..good.len();
    assert!(sectors.len() >= 4 * 512, "several groups, and rows");
    let mut dice = Dice(9);
    let length = u64::try_from(good.len()).unwrap();
    for range in [0..92, 4092..4096 + 16, 4096..length].into_iter().cycle().take(180) {
        let byte = size(range.start + dice.below(range.end - range.start));
        let bit = dice.below(8);
        survives(&mut history, &format!("bit {bit} of byte {byte}"), |table| {
            table[byte] ^= 1 << bit;
        });
    }
    for cut in [0, 1, 4095, 4096, 4608, good.len() - 512, good.len() - 1] {
        survives(&mut history, &format!("cut to {cut}"), |table| table.truncate(cut));
    }
    survives(&mut history, "longer", |table| table.resize(table.len() + 512, 0));
    for start in sectors.clone().step_by(512) {
        survives(&mut history, "a lost sector", |table| table[start..start + 512].fill(0));
    }
    survives(&mut history, "two sectors exchanged", |table| {
        let (first, second) = table[sectors].split_at_mut(512);
        first.swap_with_slice(&mut second[..512]);
    });
}

#[test]
fn a_table_of_another_layer_or_another_chain_is_not_believed() {
    let mut history = History::random(6, 20, 50);
    let other = History::random(7, 20, 50);
    history.make_all_tables();
    let top = history.snapshots.len() - 1;
    for stale in [
        fs::read(history.table(top - 1)).unwrap(),
        fs::read(history.table(2)).unwrap(),
        fs::read(other.table(top)).unwrap(),
    ] {
        survives(&mut history, "another table", |table| stale.clone_into(table));
        // Only its sectors, under a header that is right.
        survives(&mut history, "the sectors of another table", |table| {
            let end = table.len().min(stale.len());
            table[4608..end].copy_from_slice(&stale[4608..end]);
        });
    }
}

#[test]
fn what_a_killed_build_left_is_in_nobodys_way_and_goes_with_the_layer() {
    let mut history = History::random(8, 6, 5);
    let table = history.table(5);
    history.store = None;
    let good = fs::read(&table).unwrap();
    fs::rename(&table, table.with_extension("new")).unwrap();
    history.restart();
    history.check_disk("a build that was killed");
    history.store().wait_for_background();
    assert!(fs::read(&table).unwrap() == good && !table.with_extension("new").exists());

    history.store().delete_disk(&history.disk).unwrap().finish().unwrap();
    for (layer, _) in history.snapshots.iter().rev() {
        history.store().delete_layer(*layer).unwrap().finish();
    }
    history.store().wait_for_background();
    let left: Vec<_> = fs::read_dir(history.directory.path().join("layers")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Files on a file system that calls itself full once it is told to.
#[derive(Debug)]
struct Filling {
    files: FileStorage,
    is_full: Arc<AtomicBool>,
}

impl Storage for Filling {
    fn open(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.files.open(path)
    }
    fn create(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.files.create(path)
    }
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.files.create_dir(path)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.files.remove_file(path)
    }
    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.files.remove_dir(path)
    }
    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.files.list(path)
    }
    fn exists(&self, path: &str) -> io::Result<bool> {
        self.files.exists(path)
    }
    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.files.sync_dir(path)
    }
    fn lock(&self, path: &str) -> Result<StoreLock, LockError> {
        self.files.lock(path)
    }
    fn open_to_read(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.files.open_to_read(path)
    }

    fn lock_to_read(&self, path: &str) -> Result<StoreLock, LockError> {
        self.files.lock_to_read(path)
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let free = if self.is_full.load(Ordering::Relaxed) { 100 } else { 1 << 30 };
        // So small that nothing is let through without asking.
        Ok((free, 64))
    }
}

#[test]
fn a_table_takes_nothing_of_the_reserve() {
    let mut history = History::random(5, 4, 20);
    fs::remove_file(history.table(3)).unwrap();
    let is_full = Arc::new(AtomicBool::new(true));
    for full in [true, false] {
        is_full.store(full, Ordering::Relaxed);
        history.store = None;
        let files = FileStorage::open(history.directory.path()).unwrap();
        let storage = Filling { files, is_full: is_full.clone() };
        let store = Store::open(Arc::new(storage)).unwrap();
        store.settle_alone().unwrap();
        history.store = Some(store);
        history.check_disk("with and without room for a table");
        history.store().wait_for_background();
        assert_eq!(history.table(3).exists(), !full, "full: {full}");
        assert!(!history.table(3).with_file_name("owners.new").exists());
    }
}
