//! Many resets of one disk in a row leave no more files and no longer ledger than the first few; one that opens
//! files first holds nobody up.
//!
//! `REINIT_RESETS` makes it a campaign. Times and memory are told, not judged.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, helpers included")]

use std::{
    env, fs,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability, FenceMode};
use block_store::{
    CommitError, FileStorage, LayerId, LayerKind, LayerLabel, RequestId, Reset, Store,
};
use tests::recorded_storage::RecordedStorage;

/// The files of a store, with the ledger's length.
fn shape(store: &Path) -> (usize, u64) {
    let layers = fs::read_dir(store.join("layers")).unwrap();
    let files = layers.map(|layer| fs::read_dir(layer.unwrap().path()).unwrap().count());
    (files.sum(), fs::metadata(store.join("ledger")).unwrap().len())
}

fn resident_kib() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.trim_start_matches("VmRSS:").trim().to_owned()
}

#[test]
fn resets_in_a_row_grow_nothing() {
    let resets: u32 = env::var("REINIT_RESETS").map_or(500, |value| value.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    Store::create(&FileStorage::open(directory.path()).unwrap()).unwrap();
    let storage = Arc::new(FileStorage::open(directory.path()).unwrap());
    let store = Store::open(storage).unwrap();
    let disk: DiskId = "d-1".parse().unwrap();
    store.create_disk(&disk, ByteLength::new(1 << 20), None).unwrap().publish().unwrap();
    let tenth = (resets / 10).max(1);
    let mut told = Vec::new();
    let mut first = None;
    for _ in 0..10 {
        let begun = Instant::now();
        for _ in 0..tenth {
            let handle = store.open_disk(&disk).unwrap();
            handle.write_at(&[7; 4096], ByteOffset::ZERO, Durability::Cached).unwrap();
            let (request_id, time) = (RequestId::from_bytes([1; 16]), SystemTime::now());
            let order = Reset { disk: disk.clone(), base: None, request_id, time };
            store.reset(&[order]).remove(0).unwrap();
        }
        told.push(format!("{:?} {}", begun.elapsed() / tenth, resident_kib()));
        store.wait_for_background();
        let now = shape(directory.path());
        assert_eq!(*first.get_or_insert(now), now, "files, bytes of the ledger");
    }
    eprintln!("each tenth, time of one and memory: {told:?}");
}

fn order(disk: &DiskId, base: Option<LayerId>) -> Reset {
    let (request_id, time) = (RequestId::from_bytes([1; 16]), SystemTime::now());
    Reset { disk: disk.clone(), base, request_id, time }
}

#[test]
fn a_reset_that_opens_a_layer_first_holds_nobody_up() {
    let storage = RecordedStorage::empty();
    Store::create(&*storage).unwrap();
    let store = Store::open(storage.clone()).unwrap();
    store.settle_alone().unwrap();
    let disk: DiskId = "d-1".parse().unwrap();
    store.create_disk(&disk, ByteLength::new(1 << 20), None).unwrap().publish().unwrap();
    store
        .open_disk(&disk)
        .unwrap()
        .write_at(&[7; 512], ByteOffset::ZERO, Durability::Cached)
        .unwrap();
    let (id, account, name) = ("s-1".into(), "default".into(), String::new());
    let label = LayerLabel { kind: LayerKind::Snapshot, id, account, name };
    let layer = store.snapshot(&disk, label, |_| Ok::<_, CommitError<()>>(())).unwrap();
    store.reset(&[order(&disk, None)]).remove(0).unwrap();
    store.wait_for_background();
    storage.gate().close();
    thread::scope(|scope| {
        let reset = scope.spawn(|| store.reset(&[order(&disk, layer)]).remove(0));
        storage.gate().wait_for_somebody();
        // It stands before the sync of the layer's map. Whoever changes the disk needs no file of it.
        let (told, hear) = mpsc::channel();
        let (store, disk) = (&store, &disk);
        scope.spawn(move || told.send(store.fence(disk, FenceMode::Drop)));
        // The time only ends a test that has failed.
        let fenced = hear.recv_timeout(Duration::from_secs(20));
        storage.gate().open();
        assert!(matches!(fenced, Ok(Ok(()))), "{fenced:?}");
        reset.join().unwrap().unwrap();
    });
}
