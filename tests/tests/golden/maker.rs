//! Makes the store that is kept, with the program of the day it was made: run once a format version, never again.
//!
//! What must always hold: every structure of the format is in it, and each state a crash may leave.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use block_device::{BlockDevice, ByteLength, ByteOffset, Durability, ZeroMode};
use block_store::{
    BackingPolicy, CommitError, FileStorage, ImageFormat, ImageSource, LayerId, LayerKind,
    LayerLabel, RequestId, Reset, Store,
};
use tests::reference_model::{SECTOR, bytes_of};

use crate::packed::{Files, files};

/// Makes the store in an empty directory; its files, and its layers by the resource or disk they were made for.
pub(crate) fn make(root: &Path) -> (Files, BTreeMap<&'static str, LayerId>) {
    let storage = Arc::new(FileStorage::open(root).unwrap());
    Store::create(&*storage).unwrap();
    let store = Store::open(storage).unwrap();
    store.settle_alone().unwrap();
    let mut layers = BTreeMap::new();
    make_chain(&store, &mut layers);
    make_reset(&store, layers["m-1"]);
    make_half_done(&store, &mut layers);
    store.wait_for_background();
    let files = make_cut_snapshot(&store, root);
    for disk in ["d-live", "d-reset"] {
        layers.insert(disk, store.disk(&disk.parse().unwrap()).unwrap().head.unwrap());
    }
    (files, layers)
}

/// An image, two snapshots above it, a disk on those, and one that was never written.
fn make_chain(store: &Store, layers: &mut BTreeMap<&'static str, LayerId>) {
    // It ends within a block.
    let image = import(store, "m-1", &[(0, 1..17), (130, 20..40), (602, 41..42)], 603);
    layers.insert("m-1", image);
    // Two map sectors.
    create(store, "d-chain", 9000, Some(image));
    write(store, "d-chain", 8, 100..108);
    write(store, "d-chain", 8500, 110..113);
    layers.insert("s-1", snapshot(store, "d-chain", "s-1", "data disk, 数据盘"));
    write(store, "d-chain", 131, 120..124);
    zero(store, "d-chain", 8500, 1);
    layers.insert("s-2", snapshot(store, "d-chain", "s-2", ""));
    write(store, "d-chain", 300, 130..139);
    store.hash_layer(layers["s-2"], &()).unwrap();
    create(store, "d-clean", 9001, Some(layers["s-1"]));
}

/// Disks with a head: one as it was made, one with words of three epochs.
fn make_reset(store: &Store, image: LayerId) {
    create(store, "d-live", 2049, None);
    write(store, "d-live", 0, 200..232);
    write(store, "d-live", 2047, 240..242);
    zero(store, "d-live", 8, 8);
    store.resize(&"d-live".parse().unwrap(), sectors(2100)).unwrap();
    create(store, "d-reset", 700, Some(image));
    for epoch in 0..3_u64 {
        let first = 300 + 100 * epoch;
        write(store, "d-reset", 4 + 200 * usize::try_from(epoch).unwrap(), first..first + 9);
        if epoch < 2 {
            reset(store, "d-reset", image, 1 + u8::try_from(epoch).unwrap());
        }
        store.wait_for_background();
    }
}

/// What crashes leave: disks and layers half made and half deleted, and a slot that is free again.
fn make_half_done(store: &Store, layers: &mut BTreeMap<&'static str, LayerId>) {
    create(store, "d-deleting", 100, None);
    write(store, "d-deleting", 0, 600..604);
    for disk in ["d-gone", "d-gone-too"] {
        create(store, disk, 100, None);
    }
    let making = store.create_disk(&"d-creating".parse().unwrap(), sectors(800), None).unwrap();
    making.leave_to_start();
    // The slot of one is used again.
    for disk in ["d-gone", "d-gone-too"] {
        store.delete_disk(&disk.parse().unwrap()).unwrap().finish().unwrap();
    }
    store.delete_disk(&"d-deleting".parse().unwrap()).unwrap().leave_to_start();
    let image = source(&[(0, 700..701)], 9);
    let unfinished = store.import(&image, label(LayerKind::Image, "m-2", "half made"), &());
    let unfinished = unfinished.unwrap();
    layers.insert("m-2", unfinished.layer());
    unfinished.leave_to_start();
    layers.insert("m-3", import(store, "m-3", &[(1, 710..711)], 8));
    store.delete_layer(layers["m-3"]).unwrap().leave_to_start();
}

/// A snapshot that is cut short once the head is sealed, before the ledger moves on; what is on disk just then is kept.
fn make_cut_snapshot(store: &Store, root: &Path) -> Files {
    create(store, "d-cut", 64, None);
    write(store, "d-cut", 10, 800..805);
    let mut kept = None;
    let commit = |_| {
        kept = Some(files(root));
        Err(CommitError::NotDone(()))
    };
    let label = label(LayerKind::Snapshot, "s-cut", "");
    store.snapshot(&"d-cut".parse().unwrap(), label, commit).unwrap_err();
    kept.unwrap()
}

fn create(store: &Store, disk: &str, length: usize, origin: Option<LayerId>) {
    store.create_disk(&disk.parse().unwrap(), sectors(length), origin).unwrap().publish().unwrap();
}

fn write(store: &Store, disk: &str, sector: usize, stamps: std::ops::Range<u64>) {
    let disk = store.open_disk(&disk.parse().unwrap()).unwrap();
    let bytes = bytes_of(&stamps.collect::<Vec<_>>());
    disk.write_at(&bytes, at(sector), Durability::ForceUnitAccess).unwrap();
}

fn zero(store: &Store, disk: &str, sector: usize, count: usize) {
    let disk = store.open_disk(&disk.parse().unwrap()).unwrap();
    let durability = Durability::ForceUnitAccess;
    disk.write_zeroes(at(sector), sectors(count), ZeroMode::Punch, durability).unwrap();
}

fn reset(store: &Store, disk: &str, base: LayerId, request: u8) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_790_000_000, 123_456_789);
    let request_id = RequestId::from_bytes([request; 16]);
    let order = Reset { disk: disk.parse().unwrap(), base: Some(base), request_id, time };
    store.reset(&[order]).remove(0).unwrap();
}

fn snapshot(store: &Store, disk: &str, id: &str, name: &str) -> LayerId {
    let commit = |_| Ok::<_, CommitError<()>>(());
    let label = label(LayerKind::Snapshot, id, name);
    store.snapshot(&disk.parse().unwrap(), label, commit).unwrap().unwrap()
}

fn import(
    store: &Store,
    id: &str,
    stretches: &[(usize, std::ops::Range<u64>)],
    length: usize,
) -> LayerId {
    let label = label(LayerKind::Image, id, "an image");
    let staged = store.import(&source(stretches, length), label, &()).unwrap();
    let layer = staged.layer();
    staged.publish().unwrap();
    layer
}

fn source(stretches: &[(usize, std::ops::Range<u64>)], length: usize) -> ImageSource {
    let mut bytes = vec![0; length * SECTOR];
    for (sector, stamps) in stretches {
        let part = bytes_of(&stamps.clone().collect::<Vec<_>>());
        bytes[sector * SECTOR..][..part.len()].copy_from_slice(&part);
    }
    image_of(&bytes)
}

/// An image file with these bytes.
pub(crate) fn image_of(bytes: &[u8]) -> ImageSource {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    ImageSource::open(file, None, Some(ImageFormat::Raw), BackingPolicy::Refuse).unwrap()
}

pub(crate) fn label(kind: LayerKind, id: &str, name: &str) -> LayerLabel {
    LayerLabel { kind, id: id.into(), account: "default".into(), name: name.into() }
}

fn sectors(count: usize) -> ByteLength {
    ByteLength::new(u64::try_from(count * SECTOR).unwrap())
}

fn at(sector: usize) -> ByteOffset {
    ByteOffset::new(u64::try_from(sector * SECTOR).unwrap())
}
