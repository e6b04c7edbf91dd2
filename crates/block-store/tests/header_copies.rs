//! A head's header has two copies: what a snapshot and a start do when one of them is damaged.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability, FenceMode};
use block_store::{CommitError, FileStorage, LayerId, LayerKind, LayerLabel, Named, Store};
use tempfile::TempDir;

const SIZE: ByteLength = ByteLength::new(1 << 20);

fn open(directory: &Path, layers: &[LayerId]) -> Store {
    let store = Store::open(Arc::new(FileStorage::open(directory).unwrap())).unwrap();
    let disks = store.disks().into_iter().collect();
    store.settle(&Named { disks, layers: layers.iter().copied().collect() }).unwrap();
    store
}

fn disk() -> DiskId {
    "d-1".parse().unwrap()
}

/// A store with a disk that holds 7 in its first block, flushed; closed. And the map of its head.
fn flushed() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    Store::create(&FileStorage::open(directory.path()).unwrap()).unwrap();
    let store = open(directory.path(), &[]);
    store.create_disk(&disk(), SIZE, None).unwrap().publish().unwrap();
    store.open_disk(&disk()).unwrap().write_at(&[7; 4096], ByteOffset::ZERO, FUA).unwrap();
    store.fence(&disk(), FenceMode::Flush).unwrap();
    let head = store.disk(&disk()).unwrap().head.unwrap();
    let map = directory.path().join(format!("layers/{head}/map"));
    (directory, map)
}

const FUA: Durability = Durability::ForceUnitAccess;

fn snapshot(store: &Store) -> LayerId {
    let (id, account, name) = ("s-1".into(), "default".into(), String::new());
    let label = LayerLabel { kind: LayerKind::Snapshot, id, account, name };
    store.snapshot(&disk(), label, |_| Ok::<_, CommitError<()>>(())).unwrap().unwrap()
}

fn damage(map: &Path, copy: u64) {
    let file = OpenOptions::new().read(true).write(true).open(map).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, copy * 4096 + 200).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], copy * 4096 + 200).unwrap();
    file.sync_all().unwrap();
}

fn newer_copy(map: &Path) -> u64 {
    let sequence = |copy: usize| {
        let page = fs::read(map).unwrap();
        u64::from_le_bytes(page[copy * 4096 + 16..][..8].try_into().unwrap())
    };
    u64::from(sequence(1) > sequence(0))
}

#[test]
fn a_snapshot_does_not_depend_on_the_place_that_lost_a_copy() {
    for copy in [0, 1] {
        let (directory, map) = flushed();
        damage(&map, copy);
        let store = open(directory.path(), &[]);
        let layer = snapshot(&store);
        drop(store);
        // The same place again.
        damage(&map, copy);
        let store = open(directory.path(), &[layer]);
        let mut held = [0; 4096];
        store.open_layer(layer).unwrap().read_at(&mut held, ByteOffset::ZERO).unwrap();
        assert_eq!(held, [7; 4096], "copy {copy}");
        store.open_disk(&disk()).unwrap().read_at(&mut held, ByteOffset::ZERO).unwrap();
        assert_eq!(held, [7; 4096], "copy {copy}");
    }
}

/// A snapshot that was cut short before the ledger moved on, and then lost the copy of its header
/// that said that it is sealed.
#[test]
fn a_layer_that_the_catalog_names_is_never_written_as_a_head() {
    let (directory, map) = flushed();
    let ledger = fs::read(directory.path().join("ledger")).unwrap();
    let layer = snapshot(&open(directory.path(), &[]));
    fs::write(directory.path().join("ledger"), &ledger).unwrap();
    damage(&map, newer_copy(&map));
    let store = open(directory.path(), &[layer]);
    let told = store.open_disk(&disk()).unwrap_err().to_string();
    assert!(told.contains("a snapshot is this layer"), "{told}");
    let told = store.disk(&disk()).unwrap();
    assert_eq!(told.head, Some(layer), "nothing was changed");
}

/// The power failed before the ledger moved on, and the copy that says *sealed* is lost: by its
/// header the layer is the head of a disk that is being deleted.
#[test]
fn a_disk_that_is_deleted_leaves_its_snapshot_there_whatever_the_header_says() {
    for is_settled_by_a_start in [false, true] {
        let (directory, map) = flushed();
        let (ledger, before) = (directory.path().join("ledger"), directory.path().join("before"));
        fs::copy(&ledger, &before).unwrap();
        let store = open(directory.path(), &[]);
        let layer = snapshot(&store);
        drop(store);
        fs::copy(&before, &ledger).unwrap();
        damage(&map, newer_copy(&map));
        let store = open(directory.path(), &[layer]);
        assert!(store.open_disk(&disk()).is_err(), "{is_settled_by_a_start}");
        let staged = store.delete_disk(&disk()).unwrap();
        if is_settled_by_a_start {
            staged.leave_to_start();
            drop(store);
            let store =
                Store::open(Arc::new(FileStorage::open(directory.path()).unwrap())).unwrap();
            let layers = [layer].into();
            store.settle(&Named { layers, ..Named::default() }).unwrap();
            store.wait_for_background();
            assert!(store.disks().is_empty());
        } else {
            staged.finish().unwrap();
            store.wait_for_background();
        }
        assert!(map.exists(), "{is_settled_by_a_start}: the snapshot is gone");
    }
}
