//! Space of blocks that do not count goes back, and no byte that counts with it: writers that race
//! the walk, resets in its midst, figures of known programs.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use block_device::{BLOCK, BlockDevice, ByteLength, ByteOffset, DiskId, Durability, ZeroMode};
use block_store::{
    CommitError, DiskHandle, DiskSpace, FileStorage, LayerId, LayerKind, LayerLabel, Progress,
    ReclaimPace, Reclaimed, RequestId, Reset, Storage, Store, StoreError,
};
use tests::recorded_storage::{Dice, Image, RecordedStorage, scratch};

struct Place {
    store: Store,
    disk: DiskId,
    _directory: Option<tempfile::TempDir>,
}

impl Place {
    fn new(blocks: u64) -> Self {
        let directory = scratch();
        let storage = FileStorage::open(directory.path()).unwrap();
        Self { _directory: Some(directory), ..Self::on(Arc::new(storage), blocks) }
    }

    fn on(storage: Arc<dyn Storage>, blocks: u64) -> Self {
        Store::create(&*storage).unwrap();
        let place = Self::again(storage);
        let size = ByteLength::new(blocks * BLOCK);
        place.store.create_disk(&place.disk, size, None).unwrap().publish().unwrap();
        place
    }

    /// A store that is there already.
    fn again(storage: Arc<dyn Storage>) -> Self {
        let store = Store::open(storage).unwrap();
        store.settle_alone().unwrap();
        Self { store, disk: "d-1".parse().unwrap(), _directory: None }
    }

    /// What is found after power failed.
    fn after(image: &Image, change: impl FnOnce(&Path)) -> Self {
        let directory = scratch();
        image.write_to(directory.path());
        change(directory.path());
        let storage = FileStorage::open(directory.path()).unwrap();
        Self { _directory: Some(directory), ..Self::again(Arc::new(storage)) }
    }

    fn open(&self) -> Arc<DiskHandle> {
        self.store.open_disk(&self.disk).unwrap()
    }

    fn reset(&self, base: Option<LayerId>) {
        let request_id = RequestId::from_bytes([3; 16]);
        let order = Reset { disk: self.disk.clone(), base, request_id, time: SystemTime::now() };
        self.store.reset(&[order]).remove(0).unwrap();
    }

    fn snapshot(&self) -> LayerId {
        let label = LayerLabel {
            kind: LayerKind::Snapshot,
            id: "s-1".into(),
            account: "default".into(),
            name: "a name".into(),
        };
        let commit = |_| Ok::<_, CommitError<()>>(());
        self.store.snapshot(&self.disk, label, commit).unwrap().unwrap()
    }

    fn reclaim(&self) -> u64 {
        let Reclaimed { freed, is_complete } =
            self.store.reclaim(&self.disk, ReclaimPace::default(), &()).unwrap();
        assert!(is_complete, "nobody asked to stop");
        freed.get() / BLOCK
    }

    /// Live, stale and shared blocks.
    fn blocks(&self) -> [u64; 3] {
        let DiskSpace { live, stale, shared } = self.store.measure(&self.disk).unwrap();
        [live, stale, shared].map(|bytes| bytes.get() / BLOCK)
    }
}

fn write(disk: &DiskHandle, block: u64, bytes: &[u8]) {
    disk.write_at(bytes, ByteOffset::new(block * BLOCK), Durability::Cached).unwrap();
}

fn zero(disk: &DiskHandle, block: u64, count: u64, mode: ZeroMode) {
    let (offset, length) = (ByteOffset::new(block * BLOCK), ByteLength::new(count * BLOCK));
    disk.write_zeroes(offset, length, mode, Durability::Cached).unwrap();
}

fn read(disk: &DiskHandle, block: u64, count: u64) -> Vec<u8> {
    let mut bytes = vec![0xee; usize::try_from(count * BLOCK).unwrap()];
    disk.read_at(&mut bytes, ByteOffset::new(block * BLOCK)).unwrap();
    bytes
}

fn blocks(content: u8, count: u64) -> Vec<u8> {
    vec![content; usize::try_from(count * BLOCK).unwrap()]
}

#[test]
fn a_walk_asks_where_data_is_once_for_each_stretch_not_for_each_punch() {
    const CLUSTERS: u64 = 512;
    let storage = RecordedStorage::empty();
    let place = Place::on(storage.clone(), CLUSTERS * 16);
    write(&place.open(), 0, &blocks(0xaa, CLUSTERS * 16));
    place.reset(None);
    let disk = place.open();
    (0..CLUSTERS).for_each(|cluster| write(&disk, cluster * 16, &blocks(7, 1)));
    disk.flush().unwrap();
    let before = storage.looks();
    assert_eq!(place.reclaim(), CLUSTERS * 15);
    let looks = storage.looks() - before;
    assert!(looks < 10, "{looks} looks for {CLUSTERS} punches in one stretch");
}

// --- races -----------------------------------------------------------------------------------

const WRITERS: u64 = 3;
/// Rounds of each writer at the least; they go on until the walk punched often enough.
const ROUNDS: u64 = 4000;
const MOST_ROUNDS: u64 = 100 * ROUNDS;
const PUNCHES: u64 = 1500;
const RACED: u64 = 48;

/// Each writer has every third block for its own, so that all share each cluster. A block goes to
/// and fro between counting and zeros that keep their space: the walk always finds something that
/// is just being written again.
fn write_and_compare(disk: &DiskHandle, writer: u64, freed: &AtomicU64) {
    let mut dice = Dice::new(writer + 1);
    let mut truth = vec![0_u8; usize::try_from(RACED).unwrap()];
    for round in 0..MOST_ROUNDS {
        if round >= ROUNDS && freed.load(Ordering::Relaxed) >= PUNCHES {
            break;
        }
        let block = dice.below(RACED / WRITERS) * WRITERS + writer;
        let place = usize::try_from(block).unwrap();
        if truth[place] != 0 && dice.flip() {
            zero(disk, block, 1, ZeroMode::KeepAllocated);
            truth[place] = 0;
        } else {
            truth[place] = 1 + u8::try_from(dice.below(255)).unwrap();
            write(disk, block, &blocks(truth[place], 1));
        }
        if dice.below(64) == 0 {
            disk.flush().unwrap();
        }
        let looked_at = dice.below(RACED / WRITERS) * WRITERS + writer;
        let expected = truth[usize::try_from(looked_at).unwrap()];
        let found = read(disk, looked_at, 1);
        assert_eq!(found, blocks(expected, 1), "round {round}, block {looked_at}");
    }
    for block in (writer..RACED).step_by(usize::try_from(WRITERS).unwrap()) {
        let expected = truth[usize::try_from(block).unwrap()];
        assert_eq!(read(disk, block, 1), blocks(expected, 1), "block {block} in the end");
    }
}

#[test]
fn writers_that_race_the_walk_lose_no_byte() {
    let place = Place::new(RACED);
    // Everything is allocated and belongs to an older epoch.
    write(&place.open(), 0, &blocks(0xaa, RACED));
    place.reset(None);
    let disk = place.open();
    let (running, freed) = (AtomicU64::new(WRITERS), AtomicU64::new(0));
    let pace = ReclaimPace { rest_when_busy: Duration::ZERO, ..ReclaimPace::default() };
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (disk, running, freed) = (&disk, &running, &freed);
            scope.spawn(move || {
                let _ended = Ended(running);
                write_and_compare(disk, writer, freed);
            });
        }
        scope.spawn(|| {
            while running.load(Ordering::Relaxed) > 0 {
                let done = place.store.reclaim(&place.disk, pace, &()).unwrap();
                freed.fetch_add(done.freed.get() / BLOCK, Ordering::Relaxed);
            }
        });
    });
    let freed = freed.into_inner();
    assert!(freed >= PUNCHES, "the walk met something to give back, not {freed} blocks");
}

/// Counts a thread down, also when it fails.
struct Ended<'r>(&'r AtomicU64);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct StopAtFirst(AtomicBool);

impl Progress for StopAtFirst {
    fn advanced(&self, _: ByteLength, _: ByteLength) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Resets the disk from within the walk, after its first punch, and writes what must stay.
struct ResetWithin<'p> {
    place: &'p Place,
    base: LayerId,
    done: AtomicBool,
}

impl Progress for ResetWithin<'_> {
    fn advanced(&self, _: ByteLength, _: ByteLength) {
        if !self.done.swap(true, Ordering::Relaxed) {
            self.place.reset(Some(self.base));
            write(&self.place.open(), 100, &blocks(0x33, 50));
        }
    }
}

#[test]
fn a_reset_in_the_midst_of_a_walk_turns_what_counted_into_what_does_not() {
    let place = Place::new(2048);
    write(&place.open(), 0, &blocks(0x11, 2048));
    let base = place.snapshot();
    let disk = place.open();
    write(&disk, 0, &blocks(0x22, 2048));
    disk.flush().unwrap();
    // One block to give back before the reset.
    zero(&disk, 7, 1, ZeroMode::KeepAllocated);
    let watch = ResetWithin { place: &place, base, done: AtomicBool::new(false) };
    let reclaimed = place.store.reclaim(&place.disk, ReclaimPace::default(), &watch).unwrap();
    assert!(watch.done.into_inner() && reclaimed.is_complete);
    let disk = place.open();
    assert_eq!(read(&disk, 0, 100), blocks(0x11, 100));
    assert_eq!(read(&disk, 100, 50), blocks(0x33, 50));
    assert_eq!(read(&disk, 150, 1898), blocks(0x11, 1898));
    // Those before the walk's place are left to the next one.
    place.reclaim();
    assert_eq!(place.blocks(), [50, 0, 2048]);
    assert_eq!(read(&disk, 100, 50), blocks(0x33, 50));
}

// --- crashes ---------------------------------------------------------------------------------

/// 43 blocks of 0x55 that were flushed and then made stale, and the ledger of before the reset.
fn stale_place(storage: &Arc<RecordedStorage>) -> (Place, Vec<u8>) {
    let place = Place::on(storage.clone(), 43);
    let disk = place.open();
    write(&disk, 0, &blocks(0x55, 43));
    disk.flush().unwrap();
    drop(disk);
    let older = fs::read(storage.path().join("ledger")).unwrap();
    place.reset(None);
    (place, older)
}

/// The ledger of before the reset says that all of the old blocks count. It comes back from a backup, after
/// power failed at any moment of a walk: then either no block is gone, or the disk is refused.
#[test]
fn an_older_ledger_finds_every_block_or_is_refused_wherever_a_walk_was_cut() {
    let (mut whole, mut refused) = (0, 0);
    for seed in 0..8 {
        let storage = RecordedStorage::empty();
        let (place, older) = stale_place(&storage);
        let begun = storage.moment();
        assert_eq!(place.reclaim(), 43);
        for moment in begun..=storage.moment() {
            let image = storage.cut(moment, seed, 512);
            let found =
                Place::after(&image, |root| fs::write(root.join("ledger"), &older).unwrap());
            match found.store.open_disk(&found.disk) {
                Ok(disk) => {
                    assert_eq!(
                        read(&disk, 0, 43),
                        blocks(0x55, 43),
                        "seed {seed}, moment {moment}"
                    );
                    whole += 1;
                }
                Err(StoreError::Refused { reason, .. }) => {
                    assert!(reason.contains("the ledger is an old one"), "{reason}");
                    refused += 1;
                }
                Err(other) => panic!("seed {seed}, moment {moment}: {other}"),
            }
        }
    }
    assert!(whole > 0 && refused > 0, "{whole} whole, {refused} refused");
}

#[test]
fn a_walk_that_a_power_cut_ended_goes_on_after_the_restart_and_ends() {
    let storage = RecordedStorage::empty();
    let (place, _) = stale_place(&storage);
    let disk = place.open();
    for block in [10, 21, 32] {
        write(&disk, block, &blocks(0x66, 1));
    }
    disk.flush().unwrap();
    let begun = storage.moment();
    assert_eq!(place.reclaim(), 40);
    let (mut nothing, mut something, mut all) = (0, 0, 0);
    for moment in begun..=storage.moment() {
        for seed in 0..4 {
            let found = Place::after(&storage.cut(moment, seed, 4096), |_| ());
            match found.reclaim() {
                40 => nothing += 1,
                0 => all += 1,
                _ => something += 1,
            }
            assert_eq!(found.blocks(), [3, 0, 0], "moment {moment}, seed {seed}");
            let disk = found.open();
            let expected = |block| blocks(if block % 11 == 10 { 0x66 } else { 0 }, 1);
            (0..43).for_each(|block| assert_eq!(read(&disk, block, 1), expected(block)));
        }
    }
    assert!(nothing > 0 && something > 0 && all > 0, "{nothing}, {something}, {all}");
}

// --- figures ---------------------------------------------------------------------------------

#[test]
fn the_figures_of_known_programs_are_exact() {
    let place = Place::new(4096);
    assert_eq!(place.blocks(), [0, 0, 0]);
    let disk = place.open();
    write(&disk, 0, &blocks(1, 100));
    disk.flush().unwrap();
    assert_eq!(place.blocks(), [100, 0, 0]);
    zero(&disk, 10, 5, ZeroMode::KeepAllocated);
    zero(&disk, 20, 5, ZeroMode::Punch);
    assert_eq!(place.blocks(), [90, 5, 0]);
    let totals = place.store.space_totals();
    assert_eq!([totals.live, totals.stale].map(|bytes| bytes.get() / BLOCK), [90, 5]);
    place.reset(None);
    // Known without a walk.
    let totals = place.store.space_totals();
    assert_eq!([totals.live, totals.stale].map(|bytes| bytes.get() / BLOCK), [0, 95]);
    assert_eq!(place.blocks(), [0, 95, 0]);
    let disk = place.open();
    write(&disk, 50, &blocks(2, 10));
    assert_eq!(place.blocks(), [10, 85, 0]);
    assert_eq!(place.reclaim(), 85);
    assert_eq!(place.blocks(), [10, 0, 0]);
    assert_eq!(place.reclaim(), 0, "nothing is left");
    assert_eq!(read(&disk, 49, 1), blocks(0, 1));
    assert_eq!(read(&disk, 50, 10), blocks(2, 10));
}

#[test]
fn a_head_sealed_over_older_epochs_gives_their_space_back_and_keeps_its_content() {
    let place = Place::new(4096);
    write(&place.open(), 0, &blocks(1, 300));
    place.reset(None);
    write(&place.open(), 64, &blocks(2, 100));
    let layer = place.snapshot();
    assert_eq!(place.blocks(), [0, 0, 300]);
    assert_eq!(place.reclaim(), 200);
    assert_eq!(place.blocks(), [0, 0, 100]);
    let reader = place.store.open_layer(layer).unwrap();
    let mut found = blocks(9, 300);
    reader.read_at(&mut found, ByteOffset::ZERO).unwrap();
    let expected = [blocks(0, 64), blocks(2, 100), blocks(0, 136)].concat();
    assert_eq!(found, expected);
}

// --- pace ------------------------------------------------------------------------------------

#[test]
fn a_walk_that_is_asked_to_stop_says_so_and_the_next_one_goes_on() {
    let place = Place::new(4096);
    write(&place.open(), 0, &blocks(1, 4096));
    place.reset(None);
    let stop = StopAtFirst(AtomicBool::new(false));
    // A byte a second: a walk that did not ask while it waits would not end.
    let pace = ReclaimPace { bytes_per_second: Some(1), ..ReclaimPace::default() };
    let done = place.store.reclaim(&place.disk, pace, &stop).unwrap();
    assert!(!done.is_complete);
    assert!(done.freed.get() > 0 && done.freed.get() <= 1 << 20, "one punch: {done:?}");
    assert_eq!(place.reclaim() + done.freed.get() / BLOCK, 4096);
}

#[test]
fn a_refused_or_unknown_disk_is_told() {
    let place = Place::new(16);
    let other: DiskId = "d-2".parse().unwrap();
    assert!(place.store.reclaim(&other, ReclaimPace::default(), &()).is_err());
    assert_eq!(place.reclaim(), 0, "a disk without a head has nothing to give");
}
