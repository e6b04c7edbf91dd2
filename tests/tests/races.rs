//! Background work that meets an operation in its very middle.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    sync::Arc,
    thread::{self, ScopedJoinHandle},
    time::SystemTime,
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability};
use block_store::{
    CommitError, LayerId, LayerKind, LayerLabel, RequestId, Reset, Store, StoreError,
};
use tests::recorded_storage::RecordedStorage;

/// A disk that is opened lets go of what kept its head until then. What the worker does about that
/// may come late: when a snapshot has just written that the head is a sealed layer, which no disk
/// and no catalog names yet.
#[test]
fn a_head_that_is_being_sealed_is_nobodys_to_remove() {
    let storage = RecordedStorage::empty();
    Store::create(&*storage).unwrap();
    let disk: DiskId = "d-1".parse().unwrap();
    let open = || {
        let store = Store::open(storage.clone()).unwrap();
        store.settle_alone().unwrap();
        store
    };
    let store = open();
    store.create_disk(&disk, ByteLength::new(1 << 20), None).unwrap().publish().unwrap();
    let handle = store.open_disk(&disk).unwrap();
    handle.write_at(&[7; 512], ByteOffset::ZERO, Durability::ForceUnitAccess).unwrap();
    drop((handle, store));

    let store = open();
    store.hold_background();
    store.open_disk(&disk).unwrap();
    let head = store.disk(&disk).unwrap().head.unwrap();
    let map = storage.path().join(format!("layers/{head}/map"));
    let header = || fs::read(&map).unwrap()[..8192].to_vec();
    let before = header();
    storage.gate().close();
    thread::scope(|scope| {
        let (id, account, name) = ("s-1".into(), "default".into(), String::new());
        let label = LayerLabel { kind: LayerKind::Snapshot, id, account, name };
        let snapshot = scope.spawn(|| {
            let commit = |_| Ok::<_, CommitError<()>>(());
            store.snapshot(&disk, label, commit)
        });
        loop {
            storage.gate().wait_for_somebody();
            if header() != before {
                break;
            }
            storage.gate().let_one_on();
        }
        let worker = scope.spawn(|| store.wait_for_background());
        // A worker that removes the layer syncs too.
        while !worker.is_finished() && map.exists() {
            thread::yield_now();
        }
        storage.gate().open();
        worker.join().unwrap();
        assert_eq!(snapshot.join().unwrap().unwrap(), Some(head));
    });
    let mut found = [0; 512];
    store.open_disk(&disk).unwrap().read_at(&mut found, ByteOffset::ZERO).unwrap();
    assert_eq!(found, [7; 512]);
    assert!(map.exists());
}

/// A store with an empty disk, and a layer of another one that is gone. All background work waits.
fn disk_and_layer() -> (Arc<RecordedStorage>, DiskId, LayerId) {
    let storage = RecordedStorage::empty();
    Store::create(&*storage).unwrap();
    let store = Store::open(storage.clone()).unwrap();
    store.settle_alone().unwrap();
    let (disk, source): (DiskId, DiskId) = ("d-1".parse().unwrap(), "d-2".parse().unwrap());
    for id in [&disk, &source] {
        store.create_disk(id, ByteLength::new(1 << 20), None).unwrap().publish().unwrap();
    }
    let handle = store.open_disk(&source).unwrap();
    handle.write_at(&[7; 512], ByteOffset::ZERO, Durability::ForceUnitAccess).unwrap();
    let (id, account, name) = ("s-1".into(), "default".into(), String::new());
    let label = LayerLabel { kind: LayerKind::Snapshot, id, account, name };
    let layer = store.snapshot(&source, label, |_| Ok::<_, CommitError<()>>(())).unwrap().unwrap();
    drop(handle);
    store.delete_disk(&source).unwrap().finish().unwrap();
    store.wait_for_background();
    (storage, disk, layer)
}

/// Lets what runs in the thread pass so many syncs; whether it stands before one more.
fn is_before_sync<T>(
    storage: &RecordedStorage,
    nth: usize,
    runs: &ScopedJoinHandle<'_, T>,
) -> bool {
    for passed in 0..=nth {
        while storage.gate().is_empty() {
            if runs.is_finished() {
                return false;
            }
            thread::yield_now();
        }
        if passed < nth {
            storage.gate().let_one_on();
        }
    }
    true
}

/// The source of a reset is deleted while the reset stands before any of its syncs, and the worker
/// looks at once who needs its layer.
#[test]
fn a_reset_and_the_deletion_of_its_source_leave_a_disk_that_can_be_read() {
    for nth in 0.. {
        let (storage, disk, layer) = disk_and_layer();
        let store = Store::open(storage.clone()).unwrap();
        store.settle_alone().unwrap();
        let (request_id, time) = (RequestId::from_bytes([1; 16]), SystemTime::UNIX_EPOCH);
        let order = Reset { disk: disk.clone(), base: Some(layer), request_id, time };
        storage.gate().close();
        let (has_met, answer) = thread::scope(|scope| {
            let resets = scope.spawn(|| store.reset(&[order]).remove(0));
            let has_met = is_before_sync(&storage, nth, &resets);
            if has_met {
                store.delete_layer(layer).unwrap().finish();
                store.wait_for_background();
            }
            storage.gate().open();
            (has_met, resets.join().unwrap())
        });
        store.wait_for_background();
        let first = |store: &Store| {
            let mut found = [0; 512];
            store.open_disk(&disk).unwrap().read_at(&mut found, ByteOffset::ZERO).unwrap();
            found[0]
        };
        let expected = match &answer {
            Ok(_) => 7,
            Err(StoreError::UnknownLayer(_)) => 0,
            Err(error) => panic!("sync {nth}: {error}"),
        };
        assert_eq!(first(&store), expected, "sync {nth}");
        drop(store);
        let store = Store::open(storage.clone()).unwrap();
        store.settle_alone().unwrap();
        assert_eq!(first(&store), expected, "sync {nth}, after a start");
        if !has_met {
            assert!(nth > 1, "it syncs the layer's map and the ledger");
            break;
        }
    }
}
