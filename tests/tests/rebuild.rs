//! A rebuilding that is cut short: by a failing call or by a power cut at any of its changes the ledger is the lost
//! one or the new one, the lost bytes are kept, and what is begun anew ends well. The same of the choice for a disk.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, io::IoSlice, path::Path, sync::Arc};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability};
use block_store::{
    Accepted, FileStorage, FindingKind, Rebuild, RequestId, Storage, Store, StoreError,
    accept_disk, check_structure,
};
use tests::{
    faulty_storage::{CHANGES, ERRNOS},
    recorded_storage::{RecordedStorage, scratch},
};

const SIZE: u64 = 1 << 20;
const DISKS: [&str; 2] = ["d-1", "d-2"];

fn id(name: &str) -> DiskId {
    name.parse().unwrap()
}

/// A store whose ledger has no header any more, and the lost bytes.
fn lost() -> (Arc<RecordedStorage>, Vec<u8>) {
    let storage = RecordedStorage::empty();
    Store::create(&*storage).unwrap();
    let store = Store::open(storage.clone()).unwrap();
    store.settle_alone().unwrap();
    for (disk, content) in DISKS.into_iter().zip(1..) {
        store.create_disk(&id(disk), ByteLength::new(SIZE), None).unwrap().publish().unwrap();
        let handle = store.open_disk(&id(disk)).unwrap();
        let bytes = [content; 4096];
        handle.write_at(&bytes, ByteOffset::ZERO, Durability::ForceUnitAccess).unwrap();
    }
    store.wait_for_background();
    drop(store);
    let ledger = storage.open("ledger").unwrap();
    for place in [0, 4096] {
        ledger.write_all_at(&[IoSlice::new(&[9; 8])], place).unwrap();
    }
    ledger.sync_data().unwrap();
    let bytes = fs::read(storage.path().join("ledger")).unwrap();
    (storage, bytes)
}

fn rebuild(storage: &Arc<dyn Storage>) -> Result<Option<String>, StoreError> {
    let rebuild = Rebuild::begin(storage.clone())?;
    let survey = rebuild.survey(None)?;
    rebuild.make_ledger(&survey)
}

fn files(path: &Path) -> Arc<dyn Storage> {
    Arc::new(FileStorage::open(path).unwrap())
}

/// The first byte of each disk; none where it is refused.
fn reads(path: &Path) -> [Option<u8>; 2] {
    let store = Store::open(files(path)).unwrap();
    store.settle_alone().unwrap();
    DISKS.map(|disk| {
        let handle = store.open_disk(&id(disk)).ok()?;
        let mut bytes = [0; 4096];
        handle.read_at(&mut bytes, ByteOffset::ZERO).unwrap();
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        Some(bytes[0])
    })
}

/// Whatever was done so far: the lost bytes are somewhere, and it can be ended.
fn ends_well(path: &Path, bytes: &[u8], what: &str) {
    let storage = files(path);
    let rebuilding = Rebuild::begin(storage.clone()).unwrap();
    let is_lost = rebuilding.has_lost_ledger().unwrap();
    drop(rebuilding);
    if is_lost {
        assert!(fs::read(path.join("ledger")).unwrap() == bytes, "{what}: the lost one changed");
        rebuild(&storage).unwrap();
    }
    let kept = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let mut kept =
        kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("ledger.old-"));
    assert!(
        kept.all(|entry| fs::read(entry.path()).unwrap() == bytes),
        "{what}: not what was lost"
    );
    assert!(path.join("ledger.old-1").exists(), "{what}: the lost one is not kept");
    assert_eq!(reads(path), [None, None], "{what}: open before anybody chose");
    let found = check_structure(&storage, None, &()).unwrap().found;
    assert!(found.iter().all(|found| found.kind == FindingKind::ClosedDisk), "{what}: {found:?}");
    DISKS
        .into_iter()
        .for_each(|disk| drop(accept_disk(&storage, &id(disk), Accepted::AsFound).unwrap()));
    assert_eq!(reads(path), [Some(1), Some(2)], "{what}");
}

#[test]
fn every_change_of_a_rebuilding_may_fail() {
    let mut nth = 0;
    loop {
        nth += 1;
        let (recorded, bytes) = lost();
        let storage: Arc<dyn Storage> = recorded.clone();
        recorded.faults().arm(CHANGES, nth, ERRNOS[nth % 4]);
        let done = rebuild(&storage);
        let struck = recorded.faults().disarm();
        assert_eq!(done.is_err(), struck.is_some(), "change {nth}, {struck:?}");
        ends_well(recorded.path(), &bytes, &format!("change {nth}, {struck:?}"));
        if struck.is_none() {
            break;
        }
    }
    assert!(nth > 10, "only {nth} changes");
}

#[test]
fn power_may_fail_at_every_change_of_a_rebuilding() {
    let (recorded, bytes) = lost();
    let first = recorded.moment();
    let storage: Arc<dyn Storage> = recorded.clone();
    rebuild(&storage).unwrap();
    let last = recorded.moment();
    assert!(last - first > 10, "only {} changes", last - first);
    for moment in first..=last {
        for seed in 0..4 {
            let directory = scratch();
            recorded.cut(moment, seed, 512).write_to(directory.path());
            ends_well(directory.path(), &bytes, &format!("moment {moment}, seed {seed}"));
        }
    }
}

fn to_origin() -> Accepted {
    let (request_id, time) = (RequestId::from_bytes([7; 16]), std::time::SystemTime::now());
    Accepted::Origin { base: None, request_id, time }
}

#[test]
fn every_change_of_a_choice_may_fail() {
    for accepted in [Accepted::AsFound, to_origin()] {
        let mut nth = 0;
        loop {
            nth += 1;
            let (recorded, _) = lost();
            let storage: Arc<dyn Storage> = recorded.clone();
            rebuild(&storage).unwrap();
            recorded.faults().arm(CHANGES, nth, ERRNOS[nth % 4]);
            let done = accept_disk(&storage, &id("d-1"), accepted);
            let struck = recorded.faults().disarm();
            assert_eq!(done.is_err(), struck.is_some(), "change {nth}, {struck:?}");
            is_one_of_both(recorded.path(), accepted, struck.is_none(), &format!("change {nth}"));
            if struck.is_none() {
                break;
            }
        }
    }
}

#[test]
fn power_may_fail_at_every_change_of_a_choice() {
    for accepted in [Accepted::AsFound, to_origin()] {
        let (recorded, _) = lost();
        let storage: Arc<dyn Storage> = recorded.clone();
        rebuild(&storage).unwrap();
        let first = recorded.moment();
        accept_disk(&storage, &id("d-1"), accepted).unwrap();
        let last = recorded.moment();
        for moment in first..=last {
            for seed in 0..8 {
                let directory = scratch();
                recorded.cut(moment, seed, 512).write_to(directory.path());
                let what = format!("moment {moment}, seed {seed}");
                is_one_of_both(directory.path(), accepted, moment == last, &what);
            }
        }
    }
}

/// The disk is closed as before, or open as chosen; the other one is closed.
fn is_one_of_both(path: &Path, accepted: Accepted, is_done: bool, what: &str) {
    let chosen = if accepted == Accepted::AsFound { Some(1) } else { Some(0) };
    let [first, second] = reads(path);
    assert_eq!(second, None, "{what}");
    assert!(first == chosen || (first.is_none() && !is_done), "{what}: {first:?}");
    if first.is_none() {
        accept_disk(&files(path), &id("d-1"), accepted).unwrap();
        assert_eq!(reads(path)[0], chosen, "{what}");
    }
}
