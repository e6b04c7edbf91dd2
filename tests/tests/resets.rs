//! Many resets of one disk in a row leave no more files and no longer ledger than the first few.
//!
//! `REINIT_RESETS` makes it a campaign. Times and memory are told, not judged.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, helpers included")]

use std::{
    env, fs,
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime},
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability};
use block_store::{FileStorage, RequestId, Reset, Store};

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
