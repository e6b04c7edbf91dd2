//! Background work that meets an operation in its very middle.

use std::{fs, thread};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability};
use block_store::{CommitError, LayerKind, LayerLabel, Store};
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
