//! What a disk stands on is kept while it is in doubt whether the disk exists, or where it is: the
//! next start may find that it does, and that it stands there.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{sync::Arc, time::SystemTime};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability};
use block_store::{CommitError, LayerId, LayerKind, LayerLabel, Named, RequestId, Reset, Store};
use tests::{faulty_storage::Call, recorded_storage::RecordedStorage};

const EIO: i32 = 5;
const SIZE: ByteLength = ByteLength::new(1 << 20);

/// A store with a layer that a snapshot names, and a name for a disk that stands on it.
struct Place {
    storage: Arc<RecordedStorage>,
    layer: LayerId,
    disk: DiskId,
}

impl Place {
    fn new() -> Self {
        let storage = RecordedStorage::empty();
        Store::create(&*storage).unwrap();
        let store = Store::open(storage.clone()).unwrap();
        store.settle_alone().unwrap();
        let source: DiskId = "d-source".parse().unwrap();
        store.create_disk(&source, SIZE, None).unwrap().publish().unwrap();
        let handle = store.open_disk(&source).unwrap();
        handle.write_at(&[7; 4096], ByteOffset::ZERO, Durability::Cached).unwrap();
        let (id, account, name) = ("s-1".into(), "default".into(), String::new());
        let label = LayerLabel { kind: LayerKind::Snapshot, id, account, name };
        let commit = |_| Ok::<_, CommitError<()>>(());
        let layer = store.snapshot(&source, label, commit).unwrap().unwrap();
        drop(handle);
        store.delete_disk(&source).unwrap().finish().unwrap();
        Self { storage, layer, disk: "d-1".parse().unwrap() }
    }

    /// `leave` leaves the disk in doubt; then the snapshot is deleted, and the worker looks who
    /// still needs its layer.
    fn doubt(&self, base: Option<LayerId>, leave: impl FnOnce(&Self, &Store)) {
        let store = Store::open(self.storage.clone()).unwrap();
        store.settle_alone().unwrap();
        if base.is_some() {
            store.create_disk(&self.disk, SIZE, base).unwrap().publish().unwrap();
        }
        leave(self, &store);
        store.delete_layer(self.layer).unwrap().finish();
        store.wait_for_background();
    }

    /// The next start finds that the catalog names the disk, and no longer the layer.
    fn reads_after_a_start(&self) -> [u8; 4096] {
        let store = Store::open(self.storage.clone()).unwrap();
        let named = Named { disks: [self.disk.clone()].into(), ..Named::default() };
        store.settle(&named).unwrap();
        let mut block = [0; 4096];
        let handle = store.open_disk(&self.disk).unwrap();
        handle.read_at(&mut block, ByteOffset::ZERO).unwrap();
        block
    }

    fn fail_the_next_sync(&self) {
        self.storage.faults().arm(&[Call::Sync], 1, EIO);
    }

    fn has_failed(&self) {
        assert_eq!(self.storage.faults().disarm(), Some(Call::Sync));
    }
}

#[test]
fn a_disk_whose_deletion_is_in_doubt_keeps_what_it_stands_on() {
    let place = Place::new();
    place.doubt(Some(place.layer), |place, store| {
        store.delete_disk(&place.disk).unwrap().leave_to_start();
    });
    assert_eq!(place.reads_after_a_start(), [7; 4096]);
}

#[test]
fn a_disk_whose_deletion_could_not_be_undone_keeps_what_it_stands_on() {
    let place = Place::new();
    place.doubt(Some(place.layer), |place, store| {
        let staged = store.delete_disk(&place.disk).unwrap();
        place.fail_the_next_sync();
        drop(staged);
        place.has_failed();
    });
    assert_eq!(place.reads_after_a_start(), [7; 4096]);
}

#[test]
fn a_disk_whose_making_is_in_doubt_keeps_what_it_stands_on() {
    let place = Place::new();
    place.doubt(None, |place, store| {
        store.create_disk(&place.disk, SIZE, Some(place.layer)).unwrap().leave_to_start();
    });
    assert_eq!(place.reads_after_a_start(), [7; 4096]);
}

#[test]
fn a_disk_whose_publishing_failed_keeps_what_it_stands_on() {
    let place = Place::new();
    place.doubt(None, |place, store| {
        let staged = store.create_disk(&place.disk, SIZE, Some(place.layer)).unwrap();
        place.fail_the_next_sync();
        staged.publish().unwrap_err();
        place.has_failed();
    });
    assert_eq!(place.reads_after_a_start(), [7; 4096]);
}

#[test]
fn a_disk_whose_reset_failed_keeps_what_it_may_stand_on() {
    let place = Place::new();
    place.doubt(None, |place, store| {
        store.create_disk(&place.disk, SIZE, None).unwrap().publish().unwrap();
        store.open_disk(&place.disk).unwrap();
        let (request_id, time) = (RequestId::from_bytes([1; 16]), SystemTime::UNIX_EPOCH);
        let order = Reset { disk: place.disk.clone(), base: Some(place.layer), request_id, time };
        // The source is open: what fails is the ledger.
        let reader = store.open_layer(place.layer).unwrap();
        place.fail_the_next_sync();
        store.reset(&[order]).remove(0).unwrap_err();
        place.has_failed();
        drop(reader);
    });
    assert_eq!(place.reads_after_a_start(), [7; 4096]);
}
