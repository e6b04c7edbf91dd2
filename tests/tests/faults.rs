//! Calls that fail and files that rot: what was answered stays, what is damaged is refused by
//! name, and everybody else is served.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DeviceError, DiskId, Durability};
use block_store::{FileStorage, LayerId, RequestId, Reset, Store, StoreError};
use rustix::fs::{CWD, FileType};
use tests::{
    faulty_storage::{CHANGES, Call, ERRNOS},
    recorded_storage::{Dice, Image, scratch},
    reference_model::{Bench, Expectation, Operation, Step, check, read_stamps},
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Two disks with heads, one of them with unflushed content on an image.
struct Scene {
    bench: Bench,
    disk: DiskId,
    other: DiskId,
    image: LayerId,
}

impl Scene {
    fn new() -> Self {
        let mut bench = Bench::new();
        bench.must(&Operation::Import { length: 300, stretches: vec![0..40, 130..170] });
        let image = *bench.model.layers.keys().next().unwrap();
        let (disk, other): (DiskId, DiskId) = ("d-1".parse().unwrap(), "d-2".parse().unwrap());
        for (disk, origin) in [(&disk, Some(image)), (&other, None)] {
            bench.must(&create(disk, 411, origin));
            bench.must(&write(disk, 20, 50));
            bench.must(&flush(disk));
        }
        bench.must(&write(&disk, 33, 9));
        bench.must(&Operation::Settle);
        Self { bench, disk, other, image }
    }

    fn arm(&self, calls: &'static [Call], nth: usize, errno: i32) {
        self.bench.storage.faults().arm(calls, nth, errno);
    }

    fn disarm(&self) -> Option<Call> {
        self.bench.storage.faults().disarm()
    }

    /// Another disk takes durable writes as ever.
    fn others_go_on(&mut self) {
        let other = self.other.clone();
        self.bench.must(&write(&other, 100, 30));
        self.bench.must(&flush(&other));
    }

    /// Kills the process, and cuts the power, now.
    fn survives_what_comes(&self, step: &Step) -> Result<(), String> {
        let now = self.bench.storage.moment();
        let mut expected = step.expected_at(usize::MAX, true);
        if !step.is_about(&self.other) {
            let other = self.bench.model.disks[&self.other].clone();
            expected.disks.insert(self.other.clone(), vec![other]);
        }
        let changes = self.bench.storage.changes(now);
        survives(&Image::after_kill(&changes), &expected)
            .map_err(|error| format!("kill: {error}"))?;
        for seed in 0..4 {
            survives(&self.bench.storage.cut(now, seed, 512), &expected)
                .map_err(|error| format!("power loss {seed}: {error}"))?;
        }
        Ok(())
    }
}

fn survives(image: &Image, expected: &Expectation) -> Result<(), String> {
    let directory = scratch();
    image.write_to(directory.path());
    let store = try_open(directory.path()).map_err(|error| format!("{error:?}"))?;
    check(&store, expected).map(drop)
}

fn try_open(path: &Path) -> Result<Store, StoreError> {
    Store::open(Arc::new(FileStorage::open(path).unwrap()))
}

fn create(disk: &DiskId, length: usize, origin: Option<LayerId>) -> Operation {
    Operation::Create { disk: disk.clone(), length, origin }
}

fn write(disk: &DiskId, start: usize, count: usize) -> Operation {
    let durability = Durability::Cached;
    Operation::Write { disk: disk.clone(), range: start..start + count, durability }
}

fn flush(disk: &DiskId) -> Operation {
    Operation::Flush { disk: disk.clone() }
}

fn reset(disk: &DiskId, origin: Option<LayerId>) -> Operation {
    Operation::Reset(vec![(disk.clone(), origin)])
}

// --- the Nth call fails ----------------------------------------------------------------------

/// Fails the 1st, 2nd, ... changing call of the operation until none is left to fail.
fn survives_every_fault(operation: impl Fn(&mut Scene) -> Operation) {
    for errno in ERRNOS {
        for nth in 1.. {
            let mut scene = Scene::new();
            let operation = operation(&mut scene);
            scene.arm(CHANGES, nth, errno);
            let step = scene.bench.perform(&operation);
            scene.bench.store().wait_for_background();
            let Some(struck) = scene.disarm() else {
                assert_eq!(step.answer, Ok(()), "{operation:?} without a fault");
                assert!(nth > 1, "{operation:?} changes something");
                break;
            };
            scene.others_go_on();
            if let Err(error) = scene.survives_what_comes(&step) {
                let answer = &step.answer;
                panic!(
                    "{operation:?}, call {nth} ({struck:?}) failed with {errno}, answered {answer:?}: {error}"
                );
            }
        }
    }
}

#[test]
fn every_fault_in_a_create_is_survived() {
    survives_every_fault(|scene| create(&"d-3".parse().unwrap(), 400, Some(scene.image)));
}

#[test]
fn every_fault_in_a_flush_is_survived() {
    survives_every_fault(|scene| flush(&scene.disk));
}

#[test]
fn every_fault_in_a_durable_write_is_survived() {
    survives_every_fault(|scene| Operation::Write {
        disk: scene.disk.clone(),
        range: 100..330,
        durability: Durability::ForceUnitAccess,
    });
}

#[test]
fn every_fault_in_a_discard_is_survived() {
    survives_every_fault(|scene| Operation::Discard { disk: scene.disk.clone(), range: 3..99 });
}

#[test]
fn every_fault_in_a_reclaim_is_survived() {
    survives_every_fault(|scene| {
        scene.bench.must(&reset(&scene.disk, Some(scene.image)));
        scene.bench.must(&write(&scene.disk, 25, 9));
        Operation::Reclaim { disk: scene.disk.clone() }
    });
}

#[test]
fn every_fault_in_a_reset_is_survived() {
    survives_every_fault(|scene| reset(&scene.disk, Some(scene.image)));
}

#[test]
fn every_fault_in_a_snapshot_is_survived() {
    survives_every_fault(|scene| Operation::Snapshot { disk: scene.disk.clone(), commits: true });
}

#[test]
fn every_fault_in_a_resize_is_survived() {
    survives_every_fault(|scene| Operation::Resize { disk: scene.disk.clone(), length: 9000 });
}

#[test]
fn every_fault_in_a_delete_is_survived() {
    survives_every_fault(|scene| Operation::Delete { disk: scene.disk.clone() });
}

#[test]
fn every_fault_in_an_import_is_survived() {
    survives_every_fault(|_| Operation::Import { length: 200, stretches: vec![0..8, 99..150] });
}

#[test]
fn every_fault_in_deleting_a_layer_is_survived() {
    survives_every_fault(|scene| Operation::DeleteLayer { layer: scene.image });
}

#[test]
fn every_fault_in_hashing_is_survived() {
    survives_every_fault(|scene| {
        let snapshot = Operation::Snapshot { disk: scene.disk.clone(), commits: true };
        scene.bench.must(&snapshot);
        scene.bench.must(&Operation::Settle);
        let layers = scene.bench.model.layers.keys();
        let layer = *layers.into_iter().find(|layer| **layer != scene.image).unwrap();
        Operation::Hash { layer }
    });
}

/// Fails the Nth changing call and the Mth after it, for every such pair there is.
fn survives_every_pair_of_faults(operation: impl Fn(&Scene) -> Operation) {
    for errno in ERRNOS {
        let struck = |nth, second| strikes(&operation, (nth, second), errno);
        let mut pairs = 0;
        for nth in (1..).take_while(|nth| struck(*nth, usize::MAX) == 1) {
            pairs += (1..).take_while(|second| struck(nth, *second) == 2).count();
        }
        assert!(pairs > 0, "there are two calls to fail");
    }
}

/// How many of the two calls there were to fail; what they left is sound.
fn strikes(operation: impl Fn(&Scene) -> Operation, pair: (usize, usize), errno: i32) -> usize {
    let mut scene = Scene::new();
    let operation = operation(&scene);
    scene.bench.storage.faults().arm_pair(CHANGES, pair, errno);
    let step = scene.bench.perform(&operation);
    scene.bench.store().wait_for_background();
    // A call of others may fail as well: what is answered holds, and nothing else is demanded.
    let goes_on = scene.bench.perform(&flush(&scene.other)).answer;
    let struck = scene.bench.storage.faults().disarm_all();
    let answer = &step.answer;
    scene.survives_what_comes(&step).unwrap_or_else(|error| {
        panic!("{operation:?}, calls {pair:?} ({struck:?}) failed with {errno}, answered {answer:?}, then {goes_on:?}: {error}")
    });
    struck.len()
}

#[test]
fn every_pair_of_faults_in_a_reset_is_survived() {
    survives_every_pair_of_faults(|scene| reset(&scene.disk, Some(scene.image)));
}

#[test]
fn every_pair_of_faults_in_a_batch_of_resets_is_survived() {
    survives_every_pair_of_faults(|scene| {
        Operation::Reset(vec![(scene.disk.clone(), None), (scene.other.clone(), None)])
    });
}

#[test]
fn every_pair_of_faults_in_a_snapshot_is_survived() {
    survives_every_pair_of_faults(|scene| Operation::Snapshot {
        disk: scene.disk.clone(),
        commits: true,
    });
}

#[test]
fn a_failed_open_or_read_is_told_and_the_next_one_passes() {
    for calls in [&[Call::Open][..], &[Call::Read]] {
        for nth in 1.. {
            let mut scene = Scene::new();
            scene.bench.must(&flush(&scene.disk.clone()));
            scene.bench.close();
            let expected = scene.bench.model.expect();
            scene.arm(calls, nth, EIO);
            let opened = Store::open(scene.bench.storage.clone());
            let found = opened.as_ref().map(|store| check(store, &expected));
            let struck = scene.disarm();
            drop(found.map(|found| found.map(drop)));
            drop(opened);
            let again = Store::open(scene.bench.storage.clone()).unwrap();
            check(&again, &expected).unwrap();
            if struck.is_none() {
                break;
            }
        }
    }
}

/// A round that failed puts its list back: the next flush is answered only if it makes all of it
/// durable.
#[test]
fn a_flush_that_passes_after_a_failed_one_covers_both() {
    let mut passed = 0;
    for nth in 1.. {
        let mut scene = Scene::new();
        let disk = scene.disk.clone();
        scene.bench.must(&write(&disk, 200, 20));
        scene.arm(CHANGES, nth, ENOSPC);
        let first = scene.bench.perform(&flush(&disk));
        if scene.disarm().is_none() {
            break;
        }
        assert!(first.answer.is_err(), "call {nth}");
        let second = scene.bench.perform(&flush(&disk));
        passed += usize::from(second.answer.is_ok());
        scene.survives_what_comes(&second).unwrap_or_else(|error| panic!("call {nth}: {error}"));
    }
    assert!(passed > 0, "a write of words that fails can be tried again");
}

// --- failed syncs ----------------------------------------------------------------------------

fn refusal(store: &Store, disk: &DiskId) -> Option<String> {
    store.disk(disk).unwrap().refusal
}

/// The sync of data (1st) and of the map (2nd) of a flush fails.
#[test]
fn a_failed_sync_poisons_its_disk_alone_until_a_reset_leaves_the_head_behind() {
    for nth in [1, 2] {
        let mut scene = Scene::new();
        let (disk, image) = (scene.disk.clone(), scene.image);
        scene.bench.must(&write(&disk, 200, 20));
        scene.arm(&[Call::Sync], nth, EIO);
        let failed = scene.bench.perform(&flush(&disk));
        assert_eq!(scene.disarm(), Some(Call::Sync));
        assert!(failed.answer.is_err(), "sync {nth}");
        let handle = scene.bench.store().open_disk(&disk).unwrap();
        let refused = handle.write_at(&[1; 512], ByteOffset::ZERO, Durability::Cached);
        assert!(matches!(refused, Err(DeviceError::Poisoned { .. })), "{refused:?}");
        assert!(handle.flush().is_err(), "a later sync proves nothing");
        assert!(refusal(scene.bench.store(), &disk).is_some_and(|why| why.contains("sync")));
        drop(handle);
        scene.others_go_on();
        scene.survives_what_comes(&failed).unwrap();
        for operation in [reset(&disk, Some(image)), write(&disk, 7, 30), flush(&disk)] {
            scene.bench.must(&operation);
        }
        assert_eq!(refusal(scene.bench.store(), &disk), None);
        scene.bench.must(&Operation::Restart);
    }
}

/// The flush after a failed one was refused, but not before it had made the words durable that
/// name lost blocks: after the next start they read as what was there before the last reset.
#[test]
fn a_flush_after_a_failed_one_names_no_block_that_was_lost() {
    let mut scene = Scene::new();
    let disk = scene.disk.clone();
    for operation in [write(&disk, 200, 40), flush(&disk), reset(&disk, None)] {
        scene.bench.must(&operation);
    }
    scene.bench.must(&write(&disk, 203, 33));
    scene.arm(&[Call::Sync], 1, EIO);
    let failed = scene.bench.perform(&flush(&disk));
    assert_eq!(scene.disarm(), Some(Call::Sync));
    let again = scene.bench.perform(&flush(&disk));
    assert!(failed.answer.is_err() && again.answer.is_err());
    scene.survives_what_comes(&failed).unwrap();
}

#[test]
fn a_failed_sync_of_the_ledger_fences_the_batch_and_stops_the_ledger() {
    let mut scene = Scene::new();
    let (disk, third) = (scene.disk.clone(), "d-3".parse::<DiskId>().unwrap());
    scene.bench.must(&create(&third, 64, None));
    let handle = scene.bench.store().open_disk(&disk).unwrap();
    scene.arm(&[Call::Sync], 1, EIO);
    let batch = Operation::Reset(vec![(disk.clone(), None), (third.clone(), None)]);
    let failed = scene.bench.perform(&batch);
    assert_eq!(scene.disarm(), Some(Call::Sync));
    assert!(failed.answer.is_err());
    let served = handle.read_at(&mut [0; 512], ByteOffset::ZERO);
    assert!(matches!(served, Err(DeviceError::Fenced)), "{served:?}");
    for disk in [&disk, &third] {
        let opened = scene.bench.store().open_disk(disk);
        assert!(matches!(opened, Err(StoreError::Refused { .. })), "{opened:?}");
    }
    let made = scene.bench.store().create_disk(&"d-4".parse().unwrap(), ByteLength::new(512), None);
    assert!(matches!(made, Err(StoreError::LedgerFailed(_))), "{made:?}");
    let other = Reset {
        disk: scene.other.clone(),
        base: None,
        request_id: RequestId::from_bytes([9; 16]),
        time: std::time::SystemTime::UNIX_EPOCH,
    };
    let other = scene.bench.store().reset(&[other]).remove(0);
    assert!(other.is_err(), "no further record is taken");
    drop(handle);
    scene.survives_what_comes(&failed).unwrap();
}

/// Growing the ledger syncs the same file that commits sync. The system tells a failed sync once:
/// the commit it belonged to would have been answered as durable.
#[test]
fn a_failed_sync_of_a_new_segment_fences_the_ledger() {
    let mut bench = Bench::new();
    let id = |n: usize| format!("d-{n}").parse::<DiskId>().unwrap();
    for n in 0..256 {
        let staged = bench.store().create_disk(&id(n), ByteLength::new(512), None).unwrap();
        staged.publish().unwrap();
    }
    bench.storage.faults().arm(&[Call::Sync], 1, EIO);
    let made = bench.store().create_disk(&id(256), ByteLength::new(512), None);
    assert!(made.is_err());
    drop(made);
    assert_eq!(bench.storage.faults().disarm(), Some(Call::Sync));
    let again = bench.store().create_disk(&id(256), ByteLength::new(512), None);
    assert!(matches!(again, Err(StoreError::LedgerFailed(_))), "{again:?}");
    drop(again);
    bench.close();
    assert_eq!(try_open(bench.storage.path()).unwrap().disks().len(), 256);
}

// --- damage ----------------------------------------------------------------------------------

/// A store with a bit of everything, at rest, and which layers each disk and layer needs.
struct AtRest {
    image: Image,
    expected: Expectation,
    needs: BTreeMap<String, BTreeSet<String>>,
}

impl AtRest {
    fn new() -> Self {
        let mut bench = Bench::new();
        bench.must(&Operation::Import { length: 300, stretches: vec![0..40, 130..170] });
        let image = *bench.model.layers.keys().next().unwrap();
        let id = |n: usize| format!("d-{n}").parse::<DiskId>().unwrap();
        for (n, origin) in [(0, Some(image)), (1, Some(image)), (2, None), (3, None)] {
            bench.must(&create(&id(n), 800, origin));
            bench.must(&write(&id(n), 20 + n, 300));
            bench.must(&flush(&id(n)));
        }
        bench.must(&Operation::Snapshot { disk: id(0), commits: true });
        bench.must(&write(&id(0), 500, 20));
        bench.must(&Operation::Snapshot { disk: id(2), commits: true });
        bench.must(&reset(&id(1), Some(image)));
        bench.must(&write(&id(1), 100, 9));
        bench.must(&reset(&id(3), None));
        bench.must(&write(&id(3), 700, 99));
        for layer in bench.model.layers.keys().copied().collect::<Vec<_>>() {
            bench.must(&Operation::Hash { layer });
        }
        (0..4).for_each(|n| drop(bench.must(&flush(&id(n)))));
        bench.must(&Operation::Settle);
        let needs = needs(&bench);
        bench.close();
        let expected = bench.model.expect();
        let image = Image::after_kill(&bench.storage.changes(bench.storage.moment()));
        Self { image, expected, needs }
    }

    fn place(&self) -> tempfile::TempDir {
        let directory = scratch();
        self.image.write_to(directory.path());
        directory
    }

    /// Opens the store and looks at all of it: what does not need a damaged layer is right, what
    /// does is right or refused, and at most `slots` disks are refused by the ledger's word.
    fn judge(&self, path: &Path, layers: &[&str], slots: usize) -> Result<(), String> {
        let store = match try_open(path) {
            Ok(store) => store,
            Err(error) => return Err(format!("the whole store is refused: {error:?}")),
        };
        store.settle(&self.expected.named()).map_err(|error| format!("settle: {error:?}"))?;
        let mut refused = 0;
        for (disk, states) in &self.expected.disks {
            let found = store.open_disk(disk).map_err(|error| format!("{error:?}"));
            let found = found.and_then(|handle| read_stamps(&*handle));
            match found {
                Ok(found) if found == states[0].content() => {}
                Ok(_) => return Err(format!("{disk}: WRONG BYTES were served")),
                Err(error) if error.contains("UnknownDisk") => {
                    return Err(format!("{disk}: forgotten: {error}"));
                }
                Err(_) if self.is_hit(disk.as_str(), layers) => {}
                Err(_) if refused < slots => refused += 1,
                Err(error) => return Err(format!("{disk} is not damaged: {error}")),
            }
        }
        for (layer, content) in &self.expected.layers {
            let reader = store.open_layer(*layer).map_err(|error| format!("{error:?}"));
            let name = layer.to_string();
            match reader.and_then(|reader| read_stamps(&*reader)) {
                Ok(found) if found == **content => {}
                Ok(_) => return Err(format!("layer {layer}: WRONG BYTES were served")),
                Err(_) if self.is_hit(&name, layers) => {}
                Err(error) => return Err(format!("layer {layer} is not damaged: {error}")),
            }
            let hashed = store.hash_layer(*layer, &());
            if hashed.is_err() && !self.is_hit(&name, layers) {
                return Err(format!("layer {layer} cannot be hashed: {hashed:?}"));
            }
        }
        Ok(())
    }

    fn is_hit(&self, who: &str, layers: &[&str]) -> bool {
        layers.iter().any(|layer| self.needs[who].contains(*layer))
    }

    /// The directory of some layer a disk needs.
    fn layer_of(&self, disk: &str) -> &str {
        self.needs[disk].first().unwrap()
    }
}

/// The layers that each disk and each layer stands on, itself included.
fn needs(bench: &Bench) -> BTreeMap<String, BTreeSet<String>> {
    let store = bench.store();
    let chain = |top: Option<LayerId>| {
        let mut chain = BTreeSet::new();
        let mut next = top;
        while let Some(layer) = next {
            chain.insert(layer.to_string());
            next = store.layer(layer).unwrap().parent;
        }
        chain
    };
    let mut needs = BTreeMap::new();
    for disk in store.disks() {
        let info = store.disk(&disk).unwrap();
        let mut layers = chain(info.base);
        layers.extend(info.head.map(|head| head.to_string()));
        needs.insert(disk.to_string(), layers);
    }
    for layer in bench.model.layers.keys() {
        needs.insert(layer.to_string(), chain(Some(*layer)));
    }
    needs
}

/// The files that carry checksums: the ledger and the maps.
fn checked_files(root: &Path) -> Vec<(PathBuf, Option<String>)> {
    let mut files = vec![(root.join("ledger"), None)];
    for entry in fs::read_dir(root.join("layers")).unwrap() {
        let entry = entry.unwrap();
        let layer = entry.file_name().into_string().unwrap();
        files.push((entry.path().join("map"), Some(layer)));
    }
    files.sort();
    files
}

/// The places of sectors that hold something.
fn used_sectors(path: &Path) -> Vec<u64> {
    let bytes = fs::read(path).unwrap();
    let used = bytes.chunks(512).enumerate().filter(|(_, s)| s.iter().any(|byte| *byte != 0));
    used.map(|(place, _)| u64::try_from(place).unwrap() * 512).collect()
}

fn sector(path: &Path, place: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    fs::File::open(path).unwrap().read_exact_at(&mut bytes, place).unwrap();
    bytes
}

fn put(path: &Path, place: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, place).unwrap();
}

/// Flips a bit, zeroes a sector, or swaps two; answers what was done.
fn damage(path: &Path, is_ledger: bool, dice: &mut Dice) -> String {
    let used = used_sectors(path);
    let place = *dice.pick(&used).unwrap();
    let mut bytes = sector(path, place);
    // A whole sector of map words turned to zeros is a stated limit.
    let may_be_zeroed = is_ledger || place < 8192;
    match dice.below(3) {
        0 if may_be_zeroed => {
            put(path, place, &[0; 512]);
            format!("sector {place} zeroed")
        }
        1 => {
            // Of the two copies of the ledger's header one stays: without any there is no store.
            let is_kept = |other: &u64| !is_ledger || place >= 8192 || *other >= 8192;
            let others: Vec<_> = used.into_iter().filter(is_kept).collect();
            let other = *dice.pick(&others).unwrap();
            let swapped = sector(path, other);
            put(path, place, &swapped);
            put(path, other, &bytes);
            format!("sectors {place} and {other} swapped")
        }
        _ => {
            let bit = usize::try_from(dice.below(4096)).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            put(path, place, &bytes);
            format!("bit {bit} of sector {place} flipped")
        }
    }
}

#[test]
fn damage_anywhere_is_found_or_harmless() {
    let trials = std::env::var("REINIT_FLIPS").map_or(500, |value| value.parse().unwrap());
    let seed = std::env::var("REINIT_SEED").map_or(1, |value| value.parse().unwrap());
    let (store, mut dice) = (AtRest::new(), Dice::new(seed));
    for trial in 0..trials {
        let directory = store.place();
        let files = checked_files(directory.path());
        let (path, layer) = dice.pick(&files).unwrap();
        let what = damage(path, layer.is_none(), &mut dice);
        let layers: Vec<&str> = layer.as_deref().into_iter().collect();
        if let Err(error) =
            store.judge(directory.path(), &layers, if layer.is_none() { 2 } else { 0 })
        {
            panic!("seed {seed} trial {trial}: {what} in {}: {error}", path.display());
        }
    }
}

#[test]
fn a_layer_file_of_another_length_kind_or_place_is_refused_and_others_are_served() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 7] = [
        ("cut", |file| resize_file(file, |length| length / 2 / 512 * 512)),
        ("emptied", |file| resize_file(file, |_| 0)),
        ("lengthened", |file| resize_file(file, |length| length + 4096)),
        ("missing", |file| fs::remove_file(file).unwrap()),
        ("a link", |file| {
            let aside = file.with_extension("aside");
            fs::rename(file, &aside).unwrap();
            std::os::unix::fs::symlink(&aside, file).unwrap();
        }),
        ("a FIFO", |file| {
            // Not by a child process: that would hold the locks of other tests for a moment.
            fs::remove_file(file).unwrap();
            let (mode, no_device) = (rustix::fs::Mode::RUSR, 0);
            rustix::fs::mknodat(CWD, file, FileType::Fifo, mode, no_device).unwrap();
        }),
        ("a directory", |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
    ];
    let store = AtRest::new();
    let layers: BTreeSet<_> = store.needs.values().flatten().cloned().collect();
    for (what, harm) in harms {
        for layer in &layers {
            for name in ["data", "map"] {
                let directory = store.place();
                harm(&directory.path().join("layers").join(layer).join(name));
                store
                    .judge(directory.path(), &[layer], 0)
                    .unwrap_or_else(|error| panic!("{name} of {layer} {what}: {error}"));
            }
        }
    }
}

fn resize_file(path: &Path, length: impl Fn(u64) -> u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(length(file.metadata().unwrap().len())).unwrap();
}

#[test]
fn layers_in_each_others_place_are_refused() {
    let store = AtRest::new();
    let directory = store.place();
    let (one, other) = (store.layer_of("d-2"), store.layer_of("d-3"));
    let layers = directory.path().join("layers");
    fs::rename(layers.join(one), layers.join("aside")).unwrap();
    fs::rename(layers.join(other), layers.join(one)).unwrap();
    fs::rename(layers.join("aside"), layers.join(other)).unwrap();
    store.judge(directory.path(), &[one, other], 0).unwrap();
    let opened = try_open(directory.path()).unwrap().open_disk(&"d-3".parse().unwrap());
    assert!(matches!(opened, Err(StoreError::Refused { .. })), "{opened:?}");
}

#[test]
fn a_newer_layer_is_refused_by_its_version_and_not_touched() {
    let store = AtRest::new();
    let directory = store.place();
    let layer = store.layer_of("d-3");
    let map = directory.path().join("layers").join(layer).join("map");
    for copy in [0, 4096] {
        put(&map, copy + 8, &9_u32.to_le_bytes());
    }
    let before = fs::read(&map).unwrap();
    store.judge(directory.path(), &[layer], 0).unwrap();
    let opened = try_open(directory.path()).unwrap().open_disk(&"d-3".parse().unwrap());
    let told = opened.unwrap_err().to_string();
    assert!(told.contains("version 9"), "{told}");
    assert_eq!(fs::read(&map).unwrap(), before);
}

#[test]
fn a_newer_ledger_is_refused_without_writing_a_byte() {
    let store = AtRest::new();
    let directory = store.place();
    let ledger = directory.path().join("ledger");
    let mut page = fs::read(&ledger).unwrap()[..4096].to_vec();
    page[8..12].copy_from_slice(&9_u32.to_le_bytes());
    let crc = crc32c::crc32c(&page[..4092]);
    page[4092..].copy_from_slice(&crc.to_le_bytes());
    put(&ledger, 0, &page);
    put(&ledger, 4096, &page);
    let before = fs::read(&ledger).unwrap();
    let opened = try_open(directory.path());
    assert!(matches!(opened, Err(StoreError::UnknownFormat { .. })), "{opened:?}");
    assert_eq!(fs::read(&ledger).unwrap(), before);
}

/// Where the two records of a slot of the first pages lie.
fn records_of(slot: u64) -> [u64; 2] {
    [8192 + slot * 512, 8192 + 4096 + slot * 512]
}

/// Puts a copy of one slot's records into another slot.
fn copy_slot(ledger: &Path, from: u64, to: u64) {
    for (source, target) in records_of(from).into_iter().zip(records_of(to)) {
        let mut record = sector(ledger, source);
        record[8..16].copy_from_slice(&to.to_le_bytes());
        let crc = crc32c::crc32c(&record[..508]);
        record[508..].copy_from_slice(&crc.to_le_bytes());
        put(ledger, target, &record);
    }
}

#[test]
fn a_disk_that_several_slots_name_is_refused_alone() {
    let store = AtRest::new();
    for copies in 1..=3 {
        let directory = store.place();
        for to in 0..copies {
            copy_slot(&directory.path().join("ledger"), 0, 4 + to);
        }
        let ledger = directory.path().join("ledger");
        assert_ne!(sector(&ledger, records_of(4)[0]), [0; 512]);
        store.judge(directory.path(), &[], 1).unwrap_or_else(|e| panic!("{copies} copies: {e}"));
        let opened = try_open(directory.path()).unwrap().open_disk(&"d-0".parse().unwrap());
        assert!(matches!(opened, Err(StoreError::Refused { .. })), "{copies}: {opened:?}");
    }
}

/// An image was deleted while a disk stands on it, so it is marked; then the disk's record rots.
/// The next start took the image for unused and removed it, and the disk was lost for good.
#[test]
fn settling_sweeps_nothing_while_a_ledger_slot_is_damaged() {
    let mut scene = Scene::new();
    scene.bench.must(&Operation::DeleteLayer { layer: scene.image });
    scene.bench.must(&Operation::Settle);
    scene.bench.close();
    let root = scene.bench.storage.path();
    let ledger = root.join("ledger");
    for place in records_of(0) {
        let mut record = sector(&ledger, place);
        assert_eq!(&record[72..75], b"d-1");
        record[200] ^= 1;
        put(&ledger, place, &record);
    }
    let store = try_open(root).unwrap();
    store.settle(&scene.bench.model.expect().named()).unwrap();
    store.wait_for_background();
    drop(store);
    let layer = root.join("layers").join(scene.image.to_string());
    assert!(layer.join("data").exists(), "what a damaged record names is not known");
}

/// With its newer copy damaged, a sealed layer's header says head, and its parent is not told: a
/// start took the parent for unused and removed it.
#[test]
fn a_damaged_header_costs_no_layer_below() {
    for copy in [0, 4096] {
        let mut scene = Scene::new();
        let (disk, image) = (scene.disk.clone(), scene.image);
        for operation in [
            Operation::Snapshot { disk: disk.clone(), commits: true },
            reset(&disk, None),
            Operation::DeleteLayer { layer: image },
            Operation::Settle,
        ] {
            scene.bench.must(&operation);
        }
        scene.bench.close();
        let root = scene.bench.storage.path();
        let snapshot = *scene.bench.model.layers.keys().find(|layer| **layer != image).unwrap();
        let map = root.join("layers").join(snapshot.to_string()).join("map");
        let mut page = sector(&map, copy);
        page[80] ^= 1;
        put(&map, copy, &page);
        let store = try_open(root).unwrap();
        store.settle(&scene.bench.model.expect().named()).unwrap();
        store.wait_for_background();
        drop(store);
        let below = root.join("layers").join(image.to_string()).join("data");
        assert!(below.exists(), "copy at {copy}");
    }
}

#[test]
fn a_lock_file_of_a_dead_process_holds_nobody_up() {
    let store = AtRest::new();
    let directory = store.place();
    fs::write(directory.path().join("lock"), "1\n").unwrap();
    store.judge(directory.path(), &[], 0).unwrap();
}
