//! A disk is a row of bytes: whatever is done to it, it reads as the plain copy does.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::SystemTime,
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability, ExtentKind, ZeroMode};
use block_store::{
    CommitError, DiskHandle, FileStorage, LayerId, LayerKind, LayerLabel, RequestId, Reset, Store,
};
use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;
use tests::{
    recorded_storage::{Dice, scratch},
    reference_model::{bytes_of, stamp_of},
};

const SECTOR: usize = 512;

/// Something to do; places and lengths are cut to the disk.
#[derive(Clone, Debug)]
enum Deed {
    Write { place: usize, length: usize, durable: bool },
    Discard { place: usize, length: usize },
    WriteZeroes { place: usize, length: usize, punch: bool },
    Flush,
    Reset,
    Snapshot,
    Rollback { which: usize },
    Resize { more: usize },
    Restart,
}

fn deed() -> impl Strategy<Value = Deed> {
    let place = 0..600_usize;
    let length = prop_oneof![4 => 1..20_usize, 1 => 1..400_usize];
    prop_oneof![
        8 => (place.clone(), length.clone(), any::<bool>())
            .prop_map(|(place, length, durable)| Deed::Write { place, length, durable }),
        2 => (place.clone(), length.clone())
            .prop_map(|(place, length)| Deed::Discard { place, length }),
        2 => (place, length, any::<bool>())
            .prop_map(|(place, length, punch)| Deed::WriteZeroes { place, length, punch }),
        1 => Just(Deed::Flush),
        1 => Just(Deed::Reset),
        1 => Just(Deed::Snapshot),
        1 => (0..4_usize).prop_map(|which| Deed::Rollback { which }),
        1 => (1..90_usize).prop_map(|more| Deed::Resize { more }),
        2 => Just(Deed::Restart),
    ]
}

/// A disk, its plain copy, and its snapshots with theirs.
struct Pair {
    directory: TempDir,
    store: Option<Store>,
    disk: DiskId,
    plain: Vec<u8>,
    snapshots: Vec<(Option<LayerId>, Vec<u8>)>,
    stamp: u64,
}

impl Pair {
    fn new(sectors: usize) -> Self {
        let directory = scratch();
        Store::create(&FileStorage::open(directory.path()).unwrap()).unwrap();
        let disk: DiskId = "d-1".parse().unwrap();
        let plain = vec![0; sectors * SECTOR];
        let snapshots = vec![(None, Vec::new())];
        let mut pair = Self { directory, store: None, disk, plain, snapshots, stamp: 0 };
        pair.restart();
        let staged = pair.store().create_disk(&pair.disk, ByteLength::of(&pair.plain), None);
        staged.unwrap().publish().unwrap();
        pair
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn handle(&self) -> Arc<DiskHandle> {
        self.store().open_disk(&self.disk).unwrap()
    }

    fn restart(&mut self) {
        if let Some(store) = self.store.take() {
            assert!(store.flush_all().is_empty());
        }
        let storage = FileStorage::open(self.directory.path()).unwrap();
        let store = Store::open(Arc::new(storage)).unwrap();
        store.settle_alone().unwrap();
        self.store = Some(store);
    }

    /// The bytes from a place on, as far as the disk goes.
    fn range(&self, place: usize, length: usize) -> std::ops::Range<usize> {
        let sectors = self.plain.len() / SECTOR;
        let start = place % sectors;
        start * SECTOR..(start + length).min(sectors) * SECTOR
    }

    fn perform(&mut self, deed: &Deed) {
        match deed {
            Deed::Write { place, length, durable } => {
                let range = self.range(*place, *length);
                let stamps: Vec<_> =
                    (1..).map(|n| self.stamp + n).take(range.len() / SECTOR).collect();
                self.stamp = *stamps.last().unwrap();
                self.plain[range.clone()].copy_from_slice(&bytes_of(&stamps));
                let durability =
                    if *durable { Durability::ForceUnitAccess } else { Durability::Cached };
                self.handle().write_at(&bytes_of(&stamps), at(range.start), durability).unwrap();
            }
            Deed::Discard { place, length } => {
                let range = self.range(*place, *length);
                self.handle().discard(at(range.start), long(range.len())).unwrap();
                let end =
                    if range.end == self.plain.len() { range.end } else { range.end / 4096 * 4096 };
                let start = range.start.next_multiple_of(4096);
                self.plain[start.min(end)..end].fill(0);
            }
            Deed::WriteZeroes { place, length, punch } => {
                let range = self.range(*place, *length);
                let mode = if *punch { ZeroMode::Punch } else { ZeroMode::KeepAllocated };
                let (start, length) = (at(range.start), long(range.len()));
                self.handle().write_zeroes(start, length, mode, Durability::Cached).unwrap();
                self.plain[range].fill(0);
            }
            Deed::Flush => self.handle().flush().unwrap(),
            Deed::Reset => self.go_back(None, &[]),
            Deed::Snapshot => {
                let commit = |_| Ok::<_, CommitError<()>>(());
                let layer = self.store().snapshot(&self.disk, label(), commit).unwrap();
                self.snapshots.push((layer, self.plain.clone()));
            }
            Deed::Rollback { which } => {
                let (layer, content) = self.snapshots[which % self.snapshots.len()].clone();
                self.go_back(layer, &content);
            }
            Deed::Resize { more } => {
                self.plain.resize(self.plain.len() + more * SECTOR, 0);
                self.store().resize(&self.disk, ByteLength::of(&self.plain)).unwrap();
            }
            Deed::Restart => self.restart(),
        }
    }

    fn go_back(&mut self, base: Option<LayerId>, content: &[u8]) {
        let request_id = RequestId::from_bytes([1; 16]);
        let time = SystemTime::UNIX_EPOCH;
        let order = Reset { disk: self.disk.clone(), base, request_id, time };
        self.store().reset(&[order]).remove(0).unwrap();
        self.plain.fill(0);
        self.plain[..content.len()].copy_from_slice(content);
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let handle = self.handle();
        prop_assert_eq!(handle.size(), ByteLength::of(&self.plain));
        let mut bytes = vec![0xee; self.plain.len()];
        handle.read_at(&mut bytes, ByteOffset::ZERO).unwrap();
        let wrong = (0..bytes.len()).find(|place| bytes[*place] != self.plain[*place]);
        prop_assert_eq!(wrong, None, "the first wrong byte");
        let mut place = 0;
        for extent in handle.extents(ByteOffset::ZERO, handle.size(), usize::MAX).unwrap() {
            let end = place + usize::try_from(extent.length.get()).unwrap();
            let is_zero = self.plain[place..end].iter().all(|byte| *byte == 0);
            prop_assert!(extent.kind == ExtentKind::Data || is_zero, "{extent:?} at {place}");
            place = end;
        }
        prop_assert_eq!(place, self.plain.len());
        Ok(())
    }
}

fn at(place: usize) -> ByteOffset {
    ByteOffset::new(u64::try_from(place).unwrap())
}

fn long(length: usize) -> ByteLength {
    ByteLength::new(u64::try_from(length).unwrap())
}

fn label() -> LayerLabel {
    let (account, name) = ("default".into(), "a name".into());
    LayerLabel { kind: LayerKind::Snapshot, id: "s-1".into(), account, name }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_disk_reads_as_the_plain_copy(sectors in 1..420_usize, deeds in vec(deed(), 1..40)) {
        let mut pair = Pair::new(sectors);
        for deed in &deeds {
            pair.perform(deed);
            pair.compare()?;
        }
        pair.restart();
        pair.compare()?;
    }
}

/// Each writer owns every fourth run of sectors and writes ever larger numbers.
#[test]
fn writers_readers_and_flushers_of_one_disk_do_not_harm_each_other() {
    const WRITERS: usize = 3;
    const SECTORS: usize = 403;
    let mut pair = Pair::new(SECTORS);
    let (handle, done) = (pair.handle(), AtomicBool::new(false));
    let disk = &*handle;
    let written: Vec<_> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| scope.spawn(move || write_own(n, WRITERS, SECTORS, disk)))
            .collect();
        scope.spawn(|| until(&done, || disk.flush().unwrap()));
        scope.spawn(|| until(&done, || read_whole(SECTORS, disk)));
        scope.spawn(|| until(&done, || drop(disk.extents(at(0), disk.size(), 100).unwrap())));
        let written = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        written
    });
    for (sector, stamp) in written {
        let bytes = bytes_of(&[stamp]);
        pair.plain[sector * SECTOR..(sector + 1) * SECTOR].copy_from_slice(&bytes);
    }
    drop(handle);
    pair.compare().unwrap();
    pair.restart();
    pair.compare().unwrap();
}

fn until(done: &AtomicBool, mut act: impl FnMut()) {
    while !done.load(Ordering::Relaxed) {
        act();
    }
}

/// Answers the last stamp of each sector that was written.
fn write_own(n: usize, writers: usize, sectors: usize, disk: &DiskHandle) -> Vec<(usize, u64)> {
    let mut dice = Dice::new(u64::try_from(n).unwrap());
    let own: Vec<usize> = (0..sectors).filter(|sector| sector / 3 % writers == n).collect();
    let mut last = std::collections::BTreeMap::new();
    for stamp in 1..2000 {
        let sector = *dice.pick(&own).unwrap();
        if dice.below(10) == 0 {
            let length = long(SECTOR);
            disk.write_zeroes(at(sector * SECTOR), length, ZeroMode::Punch, Durability::Cached)
                .unwrap();
            last.insert(sector, 0);
        } else {
            disk.write_at(&bytes_of(&[stamp]), at(sector * SECTOR), Durability::Cached).unwrap();
            last.insert(sector, stamp);
        }
    }
    last.into_iter().collect()
}

/// No sector is ever a mixture.
fn read_whole(sectors: usize, disk: &DiskHandle) {
    let mut bytes = vec![0; sectors * SECTOR];
    disk.read_at(&mut bytes, ByteOffset::ZERO).unwrap();
    assert!(bytes.chunks(SECTOR).all(|sector| stamp_of(sector).is_some()));
}
