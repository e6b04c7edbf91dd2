//! Snapshots of several disks at one moment, cut short anywhere: by a power cut, or by a call that
//! fails. What the disks held is there, the snapshots exist all or none, and no layer of a snapshot
//! that does not exist outlives the disk's stay on it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability};
use block_store::{
    CommitError, FileStorage, LayerId, LayerKind, LayerLabel, Named, RequestId, Reset, Storage,
    Store,
};
use tests::{
    faulty_storage::{CHANGES, ERRNOS},
    recorded_storage::{RecordedStorage, scratch},
};

const DISKS: [&str; 3] = ["d-1", "d-2", "d-3"];

fn id(disk: &str) -> DiskId {
    disk.parse().unwrap()
}

/// What layers hold in their first two blocks.
type Layers = BTreeMap<LayerId, [u8; 2]>;

/// Three disks with something durable in each, the first two on snapshots.
fn three() -> (Arc<RecordedStorage>, Layers) {
    let storage = RecordedStorage::empty();
    Store::create(&*storage).unwrap();
    let store = Store::open(storage.clone()).unwrap();
    store.settle_alone().unwrap();
    for (disk, content) in DISKS.into_iter().zip(1..) {
        store.create_disk(&id(disk), ByteLength::new(1 << 20), None).unwrap().publish().unwrap();
        let bytes = [content; 4096];
        let handle = store.open_disk(&id(disk)).unwrap();
        handle.write_at(&bytes, ByteOffset::ZERO, Durability::ForceUnitAccess).unwrap();
    }
    let commit = |_| Ok::<_, CommitError<()>>(());
    let old = |disk| store.snapshot(&id(disk), label("s-old"), commit).unwrap().unwrap();
    let layers = [(old("d-1"), [1, 0]), (old("d-2"), [2, 0])].into();
    store.wait_for_background();
    (storage, layers)
}

/// Opens them; the first and the third get something that nobody flushes.
fn write_to(store: &Store) {
    for (disk, content) in [("d-1", 11), ("d-2", 0), ("d-3", 13)] {
        let handle = store.open_disk(&id(disk)).unwrap();
        if content != 0 {
            let bytes = [content; 4096];
            handle.write_at(&bytes, ByteOffset::new(4096), Durability::Cached).unwrap();
        }
    }
    store.wait_for_background();
}

/// What the new layers hold.
fn held(taken: &BTreeMap<DiskId, Option<LayerId>>) -> Layers {
    let all = DISKS.into_iter().zip([[1, 11], [2, 0], [3, 13]]);
    all.map(|(disk, holds)| (taken[&id(disk)].unwrap(), holds)).collect()
}

fn label(id: &str) -> LayerLabel {
    let (id, account, name) = (id.into(), "default".into(), String::new());
    LayerLabel { kind: LayerKind::Snapshot, id, account, name }
}

fn asked() -> BTreeMap<DiskId, LayerLabel> {
    DISKS.into_iter().map(|disk| (id(disk), label(disk))).collect()
}

/// Opens what is there, as a catalog that names these layers has it.
fn start(storage: Arc<dyn Storage>, layers: &Layers) -> Store {
    let store = Store::open(storage).unwrap();
    let named = Named { disks: DISKS.map(id).into(), layers: layers.keys().copied().collect() };
    store.settle(&named).unwrap();
    store
}

/// All disks hold what they held durably, and each layer all of it.
fn is_whole(store: &Store, layers: &Layers, what: &str) {
    let read = |device: &dyn BlockDevice| {
        let mut bytes = [0; 8192];
        device.read_at(&mut bytes, ByteOffset::ZERO).unwrap_or_else(|e| panic!("{what}: {e}"));
        let blocks = bytes.chunks(4096);
        assert!(blocks.clone().all(|block| block.iter().all(|byte| *byte == block[0])), "{what}");
        [bytes[0], bytes[4096]]
    };
    for (disk, content) in DISKS.into_iter().zip(1_u8..) {
        let handle = store.open_disk(&id(disk)).unwrap_or_else(|e| panic!("{what}: {disk}: {e}"));
        let [first, second] = read(&*handle);
        assert_eq!(first, content, "{what}: {disk}");
        assert!(second == 0 || second == content + 10, "{what}: {disk}: {second}");
    }
    for (layer, holds) in layers {
        let reader = store.open_layer(*layer).unwrap_or_else(|e| panic!("{what}: {layer}: {e}"));
        assert_eq!(read(&*reader), *holds, "{what}: {layer}");
    }
}

/// The disks go on, leave what they stand on, and nothing but what the catalog names is left.
fn leaves_nothing(root: &Path, layers: &Layers, what: &str) {
    let storage = || Arc::new(FileStorage::open(root).unwrap());
    let store = start(storage(), layers);
    store.wait_for_background();
    is_whole(&store, layers, what);
    for disk in DISKS {
        let handle = store.open_disk(&id(disk)).unwrap();
        let place = ByteOffset::new(8192);
        handle.write_at(&[9; 512], place, Durability::ForceUnitAccess).unwrap();
    }
    store.wait_for_background();
    is_whole(&store, layers, what);
    drop(store);
    let store = start(storage(), layers);
    is_whole(&store, layers, what);
    let (request_id, time) = (RequestId::from_bytes([1; 16]), SystemTime::UNIX_EPOCH);
    let order = |disk| Reset { disk: id(disk), base: None, request_id, time };
    assert!(store.reset(&DISKS.map(order)).iter().all(Result::is_ok), "{what}");
    // A layer that was open when it was looked at is looked at again a second later, or here.
    store.wait_for_background();
    store.wait_for_background();
    let heads = DISKS.iter().filter_map(|disk| store.disk(&id(disk)).unwrap().head);
    let known: HashSet<_> = heads.chain(layers.keys().copied()).collect();
    drop(store);
    let store = start(storage(), layers);
    store.wait_for_background();
    let there = std::fs::read_dir(root.join("layers")).unwrap();
    for name in there.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        assert!(known.contains(&name.parse().unwrap()), "{what}: {name} is left");
    }
}

#[test]
fn every_change_of_snapshots_taken_together_is_survived() {
    for ends in [Ok(()), Err(false), Err(true)] {
        let (storage, old) = three();
        let store = start(storage.clone(), &old);
        write_to(&store);
        let (begun, mut committed, mut new) = (storage.moment(), 0, Layers::new());
        let taken =
            store.snapshot_together(asked(), |layers| {
                committed = storage.moment();
                new = held(layers);
                ends.map_err(|in_doubt| {
                    if in_doubt { CommitError::InDoubt(()) } else { CommitError::NotDone(()) }
                })
            });
        assert_eq!(taken.is_ok(), ends.is_ok());
        store.wait_for_background();
        is_whole(&store, &old, "at once");
        let ended = storage.moment();
        for moment in begun..=ended {
            for (seed, happened) in [(1, false), (2, true), (3, false)] {
                let exists = moment >= committed
                    && match ends {
                        Ok(()) => moment > committed || happened,
                        Err(in_doubt) => in_doubt && happened,
                    };
                let mut layers = old.clone();
                layers.extend(new.iter().filter(|_| exists));
                let place = scratch();
                storage.cut(moment, seed, 4096).write_to(place.path());
                let what = format!("{ends:?}, moment {moment} of {begun}..{ended}, seed {seed}");
                leaves_nothing(place.path(), &layers, &what);
            }
        }
    }
}

#[test]
fn every_fault_in_snapshots_taken_together_is_survived() {
    for errno in ERRNOS {
        for nth in 1.. {
            let (storage, old) = three();
            let store = start(storage.clone(), &old);
            write_to(&store);
            storage.faults().arm(CHANGES, nth, errno);
            let mut layers = old.clone();
            let taken = store.snapshot_together(asked(), |taken| {
                layers.extend(held(taken));
                Ok::<_, CommitError<()>>(())
            });
            let struck = storage.faults().disarm();
            let what = format!("errno {errno}, call {nth}: {struck:?}, {:?}", taken.is_ok());
            store.wait_for_background();
            for (disk, content) in DISKS.into_iter().zip(1_u8..) {
                let Ok(handle) = store.open_disk(&id(disk)) else { continue };
                let mut bytes = [0; 4096];
                handle.read_at(&mut bytes, ByteOffset::ZERO).unwrap();
                assert_eq!(bytes, [content; 4096], "{what}: {disk}");
            }
            drop(store);
            for seed in 1..3 {
                let place = scratch();
                storage.cut(storage.moment(), seed, 4096).write_to(place.path());
                leaves_nothing(place.path(), &layers, &what);
            }
            if struck.is_none() {
                break;
            }
        }
    }
}
