//! What a disk of the store does, seen from outside: reads and writes, resets, snapshots, growth,
//! deletion, and all of it again after the store was closed and opened.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{os::unix::fs::MetadataExt, sync::Arc, time::SystemTime};

use block_device::{
    BlockDevice, ByteLength, ByteOffset, DeviceError, DiskId, Durability, ExtentKind, FenceMode,
    ZeroMode,
};
use block_store::{
    BackingPolicy, CommitError, DiskHandle, FileStorage, ImageFormat, ImageSource, LayerId,
    LayerKind, LayerLabel, LockError, RequestId, Reset, Storage, Store, StoreError, StoreLock,
};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A store on a directory of its own.
struct Place {
    directory: TempDir,
    store: Option<Store>,
}

impl Place {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Store::create(&FileStorage::open(directory.path()).unwrap()).unwrap();
        let mut place = Self { directory, store: None };
        place.restart();
        place
    }

    fn restart(&mut self) {
        self.store = None;
        let storage = Arc::new(FileStorage::open(self.directory.path()).unwrap());
        let store = Store::open(storage).unwrap();
        store.settle_alone().unwrap();
        self.store = Some(store);
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn disk(&self, name: &str, size: u64, base: Option<LayerId>) -> DiskId {
        let id: DiskId = name.parse().unwrap();
        let staged = self.store().create_disk(&id, ByteLength::new(size), base).unwrap();
        staged.publish().unwrap();
        id
    }

    fn open(&self, id: &DiskId) -> Arc<DiskHandle> {
        self.store().open_disk(id).unwrap()
    }

    fn image(&self, bytes: &[u8]) -> LayerId {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let source = ImageSource::open(
            file.reopen().unwrap(),
            None,
            Some(ImageFormat::Raw),
            BackingPolicy::Refuse,
        );
        let staged = self.store().import(&source.unwrap(), label("m-1"), &()).unwrap();
        let layer = staged.layer();
        staged.publish().unwrap();
        layer
    }

    fn reset(&self, id: &DiskId, base: Option<LayerId>) -> block_store::ResetReceipt {
        self.store().reset(&[order(id, base)]).remove(0).unwrap()
    }

    fn snapshot(&self, id: &DiskId) -> Option<LayerId> {
        self.store().snapshot(id, label("s-1"), |_| Ok::<_, CommitError<()>>(())).unwrap()
    }
}

fn label(id: &str) -> LayerLabel {
    let (account, name) = ("default".into(), "a name".into());
    LayerLabel { kind: LayerKind::Image, id: id.into(), account, name }
}

fn order(id: &DiskId, base: Option<LayerId>) -> Reset {
    let request_id = RequestId::from_bytes([3; 16]);
    Reset { disk: id.clone(), base, request_id, time: SystemTime::now() }
}

fn write(disk: &DiskHandle, offset: u64, bytes: &[u8]) {
    disk.write_at(bytes, ByteOffset::new(offset), Durability::Cached).unwrap();
}

fn read(disk: &DiskHandle, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; length];
    disk.read_at(&mut bytes, ByteOffset::new(offset)).unwrap();
    bytes
}

/// Bytes that tell their own place.
fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i / 7 + i / 512) % 251).unwrap().wrapping_add(seed)).collect()
}

#[test]
fn a_fresh_disk_is_zeros_and_keeps_what_was_flushed_over_a_restart() {
    let mut place = Place::new();
    let id = place.disk("d-1", 4 * MIB, None);
    let disk = place.open(&id);
    assert_eq!(read(&disk, 0, 8192), vec![0; 8192]);
    assert_eq!(place.store().disk(&id).unwrap().head, None, "no head before the first write");
    write(&disk, 1536, &pattern(1, 512));
    write(&disk, 65536 - 512, &pattern(2, 70_144));
    disk.flush().unwrap();
    drop(disk);
    place.restart();
    let disk = place.open(&id);
    assert_eq!(read(&disk, 1536, 512), pattern(1, 512));
    assert_eq!(read(&disk, 0, 1536), vec![0; 1536]);
    assert_eq!(read(&disk, 2048, 2048), vec![0; 2048]);
    assert_eq!(read(&disk, 65536 - 512, 70_144), pattern(2, 70_144));
}

#[test]
fn a_partial_write_over_the_base_keeps_the_rest_of_the_block() {
    let place = Place::new();
    let content = pattern(9, 3 * 65536 + 1536);
    let image = place.image(&content);
    let id = place.disk("d-1", MIB, Some(image));
    let disk = place.open(&id);
    let mut model = content.clone();
    model.resize(usize::try_from(MIB).unwrap(), 0);
    // In one block; over a block's edge; over a cluster's edge; at the image's own end.
    for (offset, length) in
        [(512, 512), (4096 * 3 - 512, 1024), (65536 - 1024, 8192), (3 * 65536 + 1024, 1024)]
    {
        let bytes = pattern(77, length);
        write(&disk, u64::try_from(offset).unwrap(), &bytes);
        model[offset..offset + length].copy_from_slice(&bytes);
    }
    assert_eq!(read(&disk, 0, model.len()), model);
    disk.flush().unwrap();
    assert_eq!(read(&disk, 0, model.len()), model);
}

#[test]
fn a_discard_never_reveals_the_base() {
    let mut place = Place::new();
    let image = place.image(&pattern(5, 256 * 1024));
    let id = place.disk("d-1", 256 * 1024, Some(image));
    let disk = place.open(&id);
    disk.discard(ByteOffset::new(512), ByteLength::new(3 * 4096)).unwrap();
    assert_eq!(read(&disk, 0, 4096), pattern(5, 256 * 1024)[..4096], "the edge stays");
    assert_eq!(read(&disk, 4096, 8192), vec![0; 8192]);
    disk.write_zeroes(
        ByteOffset::new(65536 - 512),
        ByteLength::new(9 * 512),
        ZeroMode::Punch,
        Durability::ForceUnitAccess,
    )
    .unwrap();
    assert_eq!(read(&disk, 65536 - 512, 9 * 512), vec![0; 9 * 512]);
    let all = read(&disk, 0, 256 * 1024);
    drop(disk);
    place.restart();
    assert_eq!(read(&place.open(&id), 0, 256 * 1024), all);
}

#[test]
fn a_reset_brings_the_origin_back_and_fences_older_handles() {
    let mut place = Place::new();
    let content = pattern(3, 300 * 1024);
    let image = place.image(&content);
    let id = place.disk("d-1", MIB, Some(image));
    let old = place.open(&id);
    write(&old, 4096, &pattern(8, 65536));
    old.flush().unwrap();
    write(&old, 512 * 1024, &pattern(4, 4096));
    assert_eq!(place.store().written_since_reset(&id).unwrap().get(), 65536 + 4096);

    let receipt = place.reset(&id, Some(image));
    assert_eq!((receipt.epoch_before.get(), receipt.epoch_after.get()), (1, 2));
    assert!(matches!(old.read_at(&mut [0; 512], ByteOffset::ZERO), Err(DeviceError::Fenced)));
    let late = old.write_at(&[1; 512], ByteOffset::ZERO, Durability::Cached);
    assert!(matches!(late, Err(DeviceError::Fenced)));
    assert!(matches!(old.flush(), Err(DeviceError::Fenced)));
    drop(old);

    for round in 0..2 {
        let disk = place.open(&id);
        assert_eq!(read(&disk, 0, content.len()), content, "round {round}");
        assert_eq!(read(&disk, 512 * 1024, 4096), vec![0; 4096]);
        assert_eq!(place.store().written_since_reset(&id).unwrap().get(), 0);
        drop(disk);
        place.restart();
    }
    assert_eq!(place.store().disk(&id).unwrap().last_reset, Some(receipt));
}

#[test]
fn words_of_the_old_epoch_are_replaced_whole() {
    let mut place = Place::new();
    let id = place.disk("d-1", MIB, None);
    let disk = place.open(&id);
    write(&disk, 0, &[1; 65536]);
    disk.flush().unwrap();
    drop(disk);
    place.reset(&id, None);
    let disk = place.open(&id);
    write(&disk, 8192, &[2; 4096]);
    disk.flush().unwrap();
    drop(disk);
    place.restart();
    let all = read(&place.open(&id), 0, 65536);
    assert!(all[..8192].iter().all(|byte| *byte == 0));
    assert!(all[8192..12288].iter().all(|byte| *byte == 2));
    assert!(all[12288..].iter().all(|byte| *byte == 0), "no byte of before");
}

#[test]
fn snapshots_hold_their_moment_and_disks_are_made_and_rolled_back_from_them() {
    let mut place = Place::new();
    let id = place.disk("d-1", MIB, None);
    let disk = place.open(&id);
    write(&disk, 0, &[1; 8192]);
    let first = place.snapshot(&id).unwrap();
    // The handle goes on over the snapshot.
    write(&disk, 4096, &[2; 8192]);
    let second = place.snapshot(&id).unwrap();
    write(&disk, 0, &[3; 512]);
    disk.flush().unwrap();
    assert_eq!(read(&disk, 0, 1024), [[3; 512], [1; 512]].concat());

    let clone = place.disk("d-2", 2 * MIB, Some(first));
    assert_eq!(read(&place.open(&clone), 0, 16384), [[1; 8192], [0; 8192]].concat());
    drop(disk);
    place.restart();
    place.reset(&id, Some(first));
    assert_eq!(read(&place.open(&id), 0, 16384), [[1; 8192], [0; 8192]].concat());
    place.reset(&id, Some(second));
    let expected = [vec![1; 4096], vec![2; 8192], vec![0; 4096]].concat();
    assert_eq!(read(&place.open(&id), 0, 16384), expected);
    let third = place.snapshot(&id);
    assert_eq!(place.snapshot(&id), third, "nothing new to seal");
}

/// A number is written to one disk and then to the next; taken together, no disk is ahead of one that
/// is written before it, and the first is at most one number ahead of the last.
#[test]
fn snapshots_taken_together_hold_all_disks_at_one_moment() {
    let place = Place::new();
    // Against the order in which the disks are sealed: a writer that gets in between gets far.
    let ids = ["d-3", "d-2", "d-1"].map(|name| place.disk(name, MIB, None));
    let handles = ids.each_ref().map(|id| place.open(id));
    handles.iter().for_each(|handle| write(handle, 0, &[0; 512]));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut rows = Vec::new();
    let number = |layer: LayerId| {
        let mut bytes = [0; 512];
        place.store().open_layer(layer).unwrap().read_at(&mut bytes, ByteOffset::ZERO).unwrap();
        u64::from_le_bytes(bytes[..8].try_into().unwrap())
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1_u64.. {
                for handle in &handles {
                    let mut bytes = [0; 512];
                    bytes[..8].copy_from_slice(&n.to_le_bytes());
                    write(handle, 0, &bytes);
                }
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..40 {
            let asked = ids.iter().map(|id| (id.clone(), label("s-1"))).collect();
            let taken = place.store().snapshot_together(asked, |_| Ok::<_, CommitError<()>>(()));
            let taken = taken.unwrap();
            let seen: Vec<_> = ids.iter().map(|id| number(taken[id].unwrap())).collect();
            rows.push(seen);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    // Only now: a writer that is never stopped would hide the failure.
    for seen in rows {
        assert!(seen.is_sorted_by(|a, b| a >= b) && seen[0] - seen[2] <= 1, "{seen:?}");
    }
}

#[test]
fn together_either_all_snapshots_exist_or_none() {
    let place = Place::new();
    let ids = ["d-2", "d-1"].map(|name| place.disk(name, MIB, None));
    for id in &ids {
        write(&place.open(id), 0, &[1; 4096]);
    }
    let asked = |ids: &[DiskId]| ids.iter().map(|id| (id.clone(), label("s-1"))).collect();
    let failed = place.store().snapshot_together(asked(&ids), |layers| {
        assert!(layers.values().all(Option::is_some));
        Err(CommitError::NotDone("no"))
    });
    assert!(matches!(failed, Err(block_store::SnapshotError::Commit("no"))));
    let unknown = [ids[0].clone(), "d-9".parse().unwrap()];
    let failed =
        place.store().snapshot_together(asked(&unknown), |_| -> Result<(), CommitError<()>> {
            unreachable!("one of them does not exist")
        });
    assert!(matches!(failed, Err(block_store::SnapshotError::Store(StoreError::UnknownDisk(_)))));
    let layers = || std::fs::read_dir(place.directory.path().join("layers")).unwrap().count();
    assert_eq!(layers(), 2);
    for id in &ids {
        assert_eq!(read(&place.open(id), 0, 4096), [1; 4096]);
        place.reset(id, None);
    }
    place.store().wait_for_background();
    assert_eq!(layers(), 0, "what no commit named goes with the disk that stood on it");
}

#[test]
fn a_snapshot_whose_commit_fails_does_not_exist_and_the_disk_goes_on() {
    let mut place = Place::new();
    let id = place.disk("d-1", MIB, None);
    write(&place.open(&id), 0, &[1; 4096]);
    let failed = place.store().snapshot(&id, label("s-1"), |_| Err(CommitError::NotDone("no")));
    assert!(matches!(failed, Err(block_store::SnapshotError::Commit("no"))));
    write(&place.open(&id), 4096, &[2; 4096]);
    place.open(&id).flush().unwrap();
    let sealed = place.store().disk(&id).unwrap().base.unwrap();
    place.restart();
    assert_eq!(read(&place.open(&id), 0, 8192), [[1; 4096], [2; 4096]].concat());
    place.reset(&id, None);
    assert_eq!(read(&place.open(&id), 0, 8192), vec![0; 8192]);
    // (Without a catalog every layer is a named one after a restart.)
    assert!(place.store().layer(sealed).is_ok());
}

#[test]
fn growing_keeps_the_content_and_the_new_part_is_zeros() {
    let mut place = Place::new();
    let image = place.image(&pattern(5, 100 * 1024));
    let id = place.disk("d-1", 100 * 1024 + 512, Some(image));
    let disk = place.open(&id);
    write(&disk, 99 * 1024, &[7; 1536]);
    place.store().resize(&id, ByteLength::new(3 * MIB)).unwrap();
    assert_eq!(disk.size().get(), 3 * MIB, "handles go on");
    assert_eq!(read(&disk, 99 * 1024, 1536), vec![7; 1536]);
    assert_eq!(read(&disk, 100 * 1024 + 512, 4096), vec![0; 4096]);
    write(&disk, 3 * MIB - 512, &[8; 512]);
    disk.flush().unwrap();
    let shrink = place.store().resize(&id, ByteLength::new(MIB));
    assert!(matches!(shrink, Err(StoreError::InvalidSize { .. })));
    drop(disk);
    place.restart();
    let disk = place.open(&id);
    assert_eq!(read(&disk, 3 * MIB - 512, 512), vec![8; 512]);
    place.reset(&id, Some(image));
    let disk = place.open(&id);
    assert_eq!(read(&disk, 0, 100 * 1024), pattern(5, 100 * 1024));
    assert_eq!(read(&disk, 100 * 1024, 4096), vec![0; 4096]);
}

#[test]
fn layers_live_as_long_as_somebody_needs_them() {
    let place = Place::new();
    let content = pattern(6, 128 * 1024);
    let image = place.image(&content);
    assert_eq!(place.image(&content), image, "the same content is one layer");
    let id = place.disk("d-1", MIB, Some(image));
    place.store().delete_layer(image).unwrap().finish();
    place.store().wait_for_background();
    assert_eq!(read(&place.open(&id), 0, content.len()), content, "the disk still needs it");
    place.reset(&id, None);
    place.store().wait_for_background();
    assert!(matches!(place.store().layer(image), Err(StoreError::UnknownLayer(_))));
    let late =
        place.store().create_disk(&"d-2".parse().unwrap(), ByteLength::new(MIB), Some(image));
    assert!(matches!(late, Err(StoreError::UnknownLayer(_))));
}

#[test]
fn so_many_changes_that_they_would_fill_memory_are_made_durable_unasked() {
    let place = Place::new();
    let id = place.disk("d-1", 40 << 30, None);
    let (first, across) = (pattern(1, 4096), pattern(2, 8192));
    write(&place.open(&id), 0, &first);
    write(&place.open(&id), (1 << 30) - 4096, &across);
    place.snapshot(&id).unwrap();
    let disk = place.open(&id);
    // Not a whole block at either end, and more clusters than a list of changes may hold.
    disk.discard(ByteOffset::new(512), ByteLength::new((40 << 30) - 1024)).unwrap();
    assert_eq!(read(&disk, 0, 4096), first, "a partial block stays");
    assert_eq!(read(&disk, (1 << 30) - 4096, 8192), [0; 8192]);
    let layers = std::fs::read_dir(place.directory.path().join("layers")).unwrap();
    let maps = layers.map(|layer| std::fs::metadata(layer.unwrap().path().join("map")).unwrap());
    let durable = maps.map(|map| map.blocks() * 512).max().unwrap();
    assert!(durable > 4 * MIB, "half a million words are in the file, not {durable} bytes");
}

#[test]
fn a_deleted_disk_leaves_nothing_and_an_abandoned_delete_changes_nothing() {
    let mut place = Place::new();
    let id = place.disk("d-1", MIB, None);
    let disk = place.open(&id);
    write(&disk, 0, &[1; 4096]);
    disk.flush().unwrap();
    drop(place.store().delete_disk(&id).unwrap());
    assert!(matches!(disk.flush(), Err(DeviceError::Fenced)));
    assert_eq!(read(&place.open(&id), 0, 4096), vec![1; 4096]);
    drop(disk);
    place.store().delete_disk(&id).unwrap().finish().unwrap();
    assert!(matches!(place.store().open_disk(&id), Err(StoreError::UnknownDisk(_))));
    place.restart();
    assert_eq!(place.store().disks(), []);
    place.store().wait_for_background();
    let layers = std::fs::read_dir(place.directory.path().join("layers")).unwrap();
    assert_eq!(layers.count(), 0);
    // The slot is used again, and nothing of the old disk is in the new one.
    let id = place.disk("d-1", MIB, None);
    assert_eq!(read(&place.open(&id), 0, 4096), vec![0; 4096]);
}

#[test]
fn an_unpublished_disk_never_was() {
    let mut place = Place::new();
    let id: DiskId = "d-1".parse().unwrap();
    let staged = place.store().create_disk(&id, ByteLength::new(MIB), None).unwrap();
    let twin = place.store().create_disk(&id, ByteLength::new(MIB), None);
    assert!(matches!(twin, Err(StoreError::DiskExists(_))));
    drop(staged);
    place.restart();
    assert_eq!(place.store().disks(), []);
    place.disk("d-1", MIB, None);
}

#[test]
fn a_batch_is_answered_disk_by_disk_with_one_sync() {
    let place = Place::new();
    let ids: Vec<_> = (0..20).map(|n| place.disk(&format!("d-{n}"), MIB, None)).collect();
    let mut orders: Vec<_> = ids.iter().map(|id| order(id, None)).collect();
    orders.push(order(&ids[0], None));
    orders.push(order(&"d-none".parse().unwrap(), None));
    let before = place.store().counters();
    let answers = place.store().reset(&orders);
    let after = place.store().counters();
    assert!(
        answers[..20].iter().all(|answer| answer.as_ref().is_ok_and(|r| r.epoch_after.get() == 2))
    );
    assert!(matches!(answers[20], Err(StoreError::NamedTwice(_))));
    assert!(matches!(answers[21], Err(StoreError::UnknownDisk(_))));
    assert_eq!(after.ledger_commits - before.ledger_commits, 1);
    assert_eq!(after.ledger_records - before.ledger_records, 20);
}

#[test]
fn requests_that_no_disk_can_take_are_refused_and_change_nothing() {
    let place = Place::new();
    let id = place.disk("d-1", MIB, None);
    let disk = place.open(&id);
    let past = disk.write_at(&[1; 1024], ByteOffset::new(MIB - 512), Durability::Cached);
    assert!(matches!(past, Err(DeviceError::OutOfRange { .. })));
    let odd = disk.write_at(&[1; 100], ByteOffset::ZERO, Durability::Cached);
    assert!(matches!(odd, Err(DeviceError::Unaligned { .. })));
    let wraps = disk.read_at(&mut [0; 512], ByteOffset::new(u64::MAX - 511));
    assert!(matches!(wraps, Err(DeviceError::OutOfRange { .. })));
    assert_eq!(place.store().disk(&id).unwrap().head, None);
    for size in [0, 513, u64::MAX] {
        let made = place.store().create_disk(&"d-2".parse().unwrap(), ByteLength::new(size), None);
        assert!(matches!(made, Err(StoreError::InvalidSize { .. })), "{size}");
    }
}

/// The changed stretches of a disk, as start and end.
fn changed(disk: &DiskHandle) -> Vec<(u64, u64)> {
    let mut place = 0;
    let mut changed = Vec::new();
    for change in disk.changes(ByteOffset::ZERO, disk.size(), 100).unwrap() {
        let end = place + change.length.get();
        if change.is_changed {
            changed.push((place, end));
        }
        place = end;
    }
    assert_eq!(place, disk.size().get());
    changed
}

#[test]
fn changes_are_what_was_written_or_zeroed_since_the_reset_or_the_snapshot() {
    let mut place = Place::new();
    let image = place.image(&[7; 4 * 65536]);
    let id = place.disk("d-1", MIB + 512, Some(image));
    let mut disk = place.open(&id);
    assert!(disk.tracks_changes());
    assert_eq!(changed(&disk), []);
    disk.write_at(&[1; 512], ByteOffset::new(512), Durability::Cached).unwrap();
    disk.write_at(&[2; 8192], ByteOffset::new(65536 - 4096), Durability::Cached).unwrap();
    disk.discard(ByteOffset::new(131_072), ByteLength::new(4096)).unwrap();
    // The last block, which is not whole.
    disk.write_at(&[3; 512], ByteOffset::new(MIB), Durability::Cached).unwrap();
    let expected = [(0, 4096), (61440, 69632), (131_072, 135_168), (MIB, MIB + 512)];
    assert_eq!(changed(&disk), expected);
    // Part of it, with an end in a block.
    let part = disk.changes(ByteOffset::new(512), ByteLength::new(65536), 100).unwrap();
    let part: Vec<_> = part.iter().map(|it| (it.length.get(), it.is_changed)).collect();
    assert_eq!(part, [(3584, true), (57344, false), (4608, true)]);
    assert_eq!(disk.changes(ByteOffset::ZERO, disk.size(), 2).unwrap().len(), 2);
    let past = disk.changes(ByteOffset::new(MIB), ByteLength::new(1024), 1);
    assert!(matches!(past, Err(DeviceError::OutOfRange { .. })));
    // They outlive the process, as what they tell of does.
    disk.flush().unwrap();
    drop(disk);
    place.restart();
    disk = place.open(&id);
    assert_eq!(changed(&disk), expected);
    // A reset makes the disk what it was made of: nothing is changed, and what is written counts.
    place.reset(&id, Some(image));
    disk = place.open(&id);
    assert_eq!(changed(&disk), []);
    disk.write_at(&[4; 4096], ByteOffset::new(4096), Durability::Cached).unwrap();
    assert_eq!(changed(&disk), [(4096, 8192)]);
    // From a snapshot on, changes are those that it does not hold.
    place.snapshot(&id);
    assert_eq!(changed(&disk), []);
    disk.write_at(&[5; 4096], ByteOffset::ZERO, Durability::Cached).unwrap();
    assert_eq!(changed(&disk), [(0, 4096)]);
}

#[test]
fn zeroing_is_fast_where_a_cluster_of_whole_blocks_is_zeroed() {
    let place = Place::new();
    let size = MIB + 512;
    let disk = place.open(&place.disk("d-1", size, None));
    let fast = |offset, length| disk.zeroes_fast(ByteOffset::new(offset), ByteLength::new(length));
    assert!(fast(0, size));
    assert!(fast(0, 65536));
    assert!(!fast(0, 65536 - 512));
    // A cluster's bytes, but cut blocks at both edges.
    assert!(!fast(512, 65536));
    assert!(fast(512, 65536 + 4096));
    // The last block counts as whole: sixteen of them, the last of one sector.
    assert!(fast(size - 512 - 65536, 65536 + 512));
    assert!(!fast(size - 512, 512));
    assert!(!fast(u64::MAX - 511, 512));
}

#[test]
fn extents_tell_data_zeros_and_holes() {
    let place = Place::new();
    let image = place.image(&[&[1; 65536][..], &[0; 65536], &[2; 4096]].concat());
    let id = place.disk("d-1", MIB, Some(image));
    let disk = place.open(&id);
    disk.discard(ByteOffset::new(4096), ByteLength::new(4096)).unwrap();
    let told: Vec<_> = disk
        .extents(ByteOffset::ZERO, disk.size(), 100)
        .unwrap()
        .iter()
        .map(|extent| (extent.kind, extent.length.get()))
        .collect();
    let expected = [
        (ExtentKind::Data, 4096),
        (ExtentKind::Zero, 4096),
        (ExtentKind::Data, 65536 - 8192),
        (ExtentKind::Hole, 65536),
        (ExtentKind::Data, 4096),
        (ExtentKind::Hole, MIB - 2 * 65536 - 4096),
    ];
    assert_eq!(told, expected);
    assert_eq!(disk.extents(ByteOffset::ZERO, disk.size(), 2).unwrap().len(), 2);
}

#[test]
fn equal_content_has_an_equal_root_however_it_is_layered() {
    let place = Place::new();
    let content = pattern(4, 320 * 1024);
    let image = place.image(&content);
    let root = place.store().layer(image).unwrap().root.unwrap();
    let id = place.disk("d-1", 320 * 1024, None);
    let disk = place.open(&id);
    for (part, bytes) in content.chunks(80 * 1024).enumerate() {
        write(&disk, u64::try_from(part * 80 * 1024).unwrap(), bytes);
        place.snapshot(&id).unwrap();
    }
    let layered = place.store().disk(&id).unwrap().base.unwrap();
    assert_ne!(layered, image);
    assert_eq!(place.store().hash_layer(layered, &()).unwrap(), root);
    assert_eq!(place.store().hash_layer(layered, &()).unwrap(), root, "and again");
    assert_eq!(place.store().layer(layered).unwrap().root, Some(root));
}

#[test]
fn a_flush_fence_makes_durable_and_a_second_store_is_refused() {
    let mut place = Place::new();
    let id = place.disk("d-1", MIB, None);
    write(&place.open(&id), 0, &[9; 4096]);
    place.store().fence(&id, FenceMode::Flush).unwrap();
    let storage = Arc::new(FileStorage::open(place.directory.path()).unwrap());
    let second = Store::open(storage).unwrap_err();
    let holder = std::process::id().to_string();
    assert!(matches!(second, StoreError::Locked { holder: pid } if pid == holder));
    place.restart();
    assert_eq!(read(&place.open(&id), 0, 4096), vec![9; 4096]);
}

/// A dead layer whose last block is partial could not be punched away, and the worker went round
/// for ever: no later work was done and the store never closed.
#[test]
fn a_dead_layer_of_an_odd_size_goes() {
    let place = Place::new();
    for size in [512, 4096 + 512, 65536 + 1536, MIB] {
        let id = place.disk("d-1", size, None);
        let disk = place.open(&id);
        write(&disk, size - 512, &[1; 512]);
        drop(disk);
        place.store().delete_disk(&id).unwrap().finish().unwrap();
        place.store().wait_for_background();
    }
    let layers = std::fs::read_dir(place.directory.path().join("layers")).unwrap();
    assert_eq!(layers.count(), 0);
}

/// A catalog restored from an older export does not name what came after it: nothing of that may
/// be removed in the first run, not even once its disk leaves it.
#[test]
fn nothing_is_swept_while_the_catalog_may_be_an_older_one() {
    let mut place = Place::new();
    let id = place.disk("d-1", MIB, None);
    write(&place.open(&id), 0, &[1; 4096]);
    let layer = place.snapshot(&id).unwrap();
    let gone = place.disk("d-2", MIB, None);
    place.store().delete_disk(&gone).unwrap().leave_to_start();

    place.store = None;
    let storage = Arc::new(FileStorage::open(place.directory.path()).unwrap());
    let store = Store::open(storage).unwrap();
    let settled = store.settle_keeping_all(&block_store::Named::default()).unwrap();
    assert_eq!(settled.orphan_disks, std::slice::from_ref(&id));
    store.reset(&[order(&id, None)]).remove(0).unwrap();
    store.wait_for_background();
    assert!(store.layer(layer).is_ok(), "the layer stays");
    let half_deleted = store.open_disk(&gone).unwrap_err();
    assert!(matches!(half_deleted, StoreError::Refused { .. }), "{half_deleted}");
}

/// A child process holds copies of all open files until it runs its own program: a store closed in
/// that time was still locked, and its next opening was refused now and then.
#[test]
fn a_closed_store_is_free_though_a_copy_of_its_lock_is_open() {
    let place = TempDir::new().unwrap();
    let storage = FileStorage::open(place.path()).unwrap();
    let file = std::fs::File::create(place.path().join("lock")).unwrap();
    let copy = file.try_clone().unwrap();
    file.try_lock().unwrap();
    let lock = StoreLock::held_by(file);
    assert!(matches!(storage.lock("lock"), Err(LockError::Held(_))));
    drop(lock);
    drop(storage.lock("lock").unwrap());
    drop(copy);
}

#[test]
fn a_snapshot_seals_no_head_that_a_reset_emptied() {
    let mut place = Place::new();
    let image = place.image(&pattern(3, 65536));
    let id = place.disk("d-1", MIB, Some(image));
    write(&place.open(&id), 0, &pattern(8, 65536));
    place.reset(&id, Some(image));
    for _ in 0..2 {
        assert!(place.store().disk(&id).unwrap().head.is_some());
        assert_eq!(place.snapshot(&id), Some(image));
        place.restart();
    }
    // Zeros over the image are something, too.
    let (begin, block) = (ByteOffset::ZERO, ByteLength::new(4096));
    let disk = place.open(&id);
    disk.write_zeroes(begin, block, ZeroMode::Punch, Durability::Cached).unwrap();
    drop(disk);
    let sealed = place.snapshot(&id);
    assert!(sealed.is_some() && sealed != Some(image));
    assert_eq!(read(&place.open(&id), 0, 4096), vec![0; 4096]);
}

#[test]
fn a_snapshot_keeps_the_name_of_a_layer_whose_image_goes_meanwhile() {
    let mut place = Place::new();
    let image = place.image(&pattern(1, 65_536));
    let id = place.disk("d-1", MIB, Some(image));
    let label = label("s-1");
    let delete = place.store().delete_layer(image).unwrap();
    let layer = place.store().snapshot(&id, label, |_| {
        // Just before this one commits, the image is forgotten.
        delete.finish();
        Ok::<_, CommitError<()>>(())
    });
    assert_eq!(layer.unwrap(), Some(image));
    place.reset(&id, None);
    place.store().wait_for_background();
    assert!(place.store().layer(image).is_ok(), "a layer that a snapshot names was removed");
    place.restart();
    place.reset(&id, Some(image));
    assert_eq!(read(&place.open(&id), 0, 65_536), pattern(1, 65_536));
}
