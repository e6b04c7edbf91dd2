//! How new the words of a head can be: the proof, without a look at its map, that none counts.
//!
//! What must always hold: the bound never lies below a word of the head, live or durable. It starts
//! at what the file may hold: the header's epoch, which no word of the file is above, if both
//! copies of the header are whole; else the ledger's, for the newer copy may be the damaged one.
//! It goes up before a word is stored, and down only when the map was read and held nothing.
//!
//! Epochs never wrap within the life of a head, so their low 32 bits compare like epochs.
//! Left to others: counting what does count (`disk`).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::EpochTag;

/// A bound on the epochs of a head's words: twice the epoch, plus one if a word of that epoch was
/// stored in this process.
///
/// Relaxed throughout: who asks after a write was answered learnt of that in a way that orders the
/// two, and all changes of one atomic have one order.
#[derive(Debug)]
pub(crate) struct NewestWord(AtomicU64);

impl NewestWord {
    /// Of a head that was made just now: it has no word.
    pub(crate) fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Of a file that may hold words up to this epoch.
    pub(crate) fn up_to(epoch: EpochTag) -> Self {
        Self(AtomicU64::new(on_file(epoch)))
    }

    /// The same for the same words in another mapping, which nobody writes yet.
    pub(crate) fn copied(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }

    /// A word of this epoch is about to be stored.
    pub(crate) fn rise_to(&self, epoch: EpochTag) {
        let stored = on_file(epoch) + 1;
        if self.0.load(Ordering::Relaxed) < stored {
            self.0.fetch_max(stored, Ordering::Relaxed);
        }
    }

    /// Whether all words are known to be of earlier epochs.
    pub(crate) fn is_before(&self, epoch: EpochTag) -> bool {
        self.0.load(Ordering::Relaxed) < on_file(epoch)
    }

    /// The whole map was read, and no word of this epoch counts. If one was stored meanwhile, it
    /// stays known.
    pub(crate) fn none_was_found(&self, epoch: EpochTag) {
        let doubt = on_file(epoch);
        let _ = self.0.compare_exchange(doubt, doubt - 1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn on_file(epoch: EpochTag) -> u64 {
    u64::from(epoch.0) * 2
}

#[cfg(test)]
mod tests {
    use std::{
        fs::OpenOptions, os::unix::fs::FileExt as _, path::Path, sync::Arc, time::SystemTime,
    };

    use block_device::{
        BlockDevice, ByteLength, ByteOffset, CLUSTER, DiskId, Durability, FenceMode,
    };

    use super::*;
    use crate::{
        CommitError, FileStorage, LayerKind, LayerLabel, RequestId, Reset, Store, Written,
        cluster_map::looked, layer_files,
    };

    const SIZE: u64 = 64 << 30;

    struct Place {
        directory: tempfile::TempDir,
        store: Option<Store>,
        disk: DiskId,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            Store::create(&FileStorage::open(directory.path()).unwrap()).unwrap();
            let mut place = Self { directory, store: None, disk: "d-1".parse().unwrap() };
            place.restart();
            let made = place.store().create_disk(&place.disk, ByteLength::new(SIZE), None).unwrap();
            made.publish().unwrap();
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

        fn write(&self, cluster: u64) {
            let disk = self.store().open_disk(&self.disk).unwrap();
            let place = ByteOffset::new(cluster * CLUSTER);
            disk.write_at(&[7; 4096], place, Durability::Cached).unwrap();
        }

        fn flush(&self) {
            self.store().fence(&self.disk, FenceMode::Flush).unwrap();
        }

        fn reset(&self) {
            let (request_id, time) = (RequestId::from_bytes([1; 16]), SystemTime::now());
            let order = Reset { disk: self.disk.clone(), base: None, request_id, time };
            self.store().reset(&[order]).remove(0).unwrap();
        }

        /// Bytes written since the reset, and whether the map was looked into for that.
        fn written(&self) -> (u64, bool) {
            self.store().open_disk(&self.disk).unwrap();
            looked::since_last();
            let Written { since_reset, map_was_read } = self.store().written(&self.disk).unwrap();
            assert_eq!(looked::since_last() > 0, map_was_read, "what is said of the map is true");
            (since_reset.get(), map_was_read)
        }

        fn head(&self) -> std::path::PathBuf {
            let head = self.store().disk(&self.disk).unwrap().head.unwrap();
            self.directory.path().join(layer_files::directory_of(head)).join("map")
        }
    }

    #[test]
    fn after_a_reset_no_word_is_read_whatever_was_written_before() {
        let mut place = Place::new();
        assert_eq!(place.written(), (0, false), "no head");
        for cluster in (0..SIZE / CLUSTER).step_by(997) {
            place.write(cluster);
        }
        assert!(place.written().1);
        place.reset();
        assert_eq!(place.written(), (0, false), "never flushed");
        place.write(5);
        place.flush();
        assert_eq!(place.written(), (4096, true));
        place.reset();
        assert_eq!(place.written(), (0, false), "flushed");
        place.store().wait_for_background();
        assert_eq!(place.written(), (0, false), "the header has the new epoch");
        let size = ByteLength::new(SIZE + CLUSTER);
        place.store().resize(&place.disk, size).unwrap();
        assert_eq!(place.written(), (0, false), "grown");

        place.restart();
        assert_eq!(place.written(), (0, true), "words of the header's epoch may be on file");
        assert_eq!(place.written(), (0, false), "they are not");
        place.reset();
        assert_eq!(place.written(), (0, false), "reset after a restart");
    }

    #[test]
    fn one_block_is_noticed_in_each_epoch_and_over_restarts() {
        let mut place = Place::new();
        for _ in 0..3 {
            place.write(3);
            assert_eq!(place.written(), (4096, true), "written");
            place.flush();
            place.restart();
            assert_eq!(place.written(), (4096, true), "found");
            place.reset();
            place.store().wait_for_background();
            place.restart();
            assert_eq!(place.written().0, 0);
            place.write(SIZE / CLUSTER - 1);
            assert_eq!(place.written(), (4096, true), "after a search that found nothing");
            place.store().resize(&place.disk, grown(place.store(), &place.disk)).unwrap();
            assert_eq!(place.written(), (4096, true), "grown");
            place.reset();
        }
    }

    fn grown(store: &Store, disk: &DiskId) -> ByteLength {
        ByteLength::new(store.disk(disk).unwrap().size.get() + CLUSTER)
    }

    #[test]
    fn a_snapshot_of_an_untouched_disk_reads_no_word_and_one_of_a_touched_seals() {
        let place = Place::new();
        let snapshot = || {
            let label = LayerLabel { kind: LayerKind::Snapshot, ..layer_files::head_label() };
            let commit = |_| Ok::<_, CommitError<()>>(());
            place.store().snapshot(&place.disk, label, commit).unwrap()
        };
        place.write(1);
        place.reset();
        looked::since_last();
        assert_eq!(snapshot(), None);
        assert_eq!(looked::since_last(), 0);
        place.write(1);
        assert!(snapshot().is_some());
    }

    #[test]
    fn a_reset_does_not_wait_for_who_looks_and_what_was_seen_is_known_to_be_of_before() {
        let place = Place::new();
        place.write(1);
        let disk = place.store().shared().disk(&place.disk).unwrap();
        let glance = disk.state.read().glance();
        assert!(glance.is_of(&disk.state.read()));
        place.reset();
        assert!(!glance.is_of(&disk.state.read()));
        assert_eq!(glance.blocks_written().unwrap(), 1, "still there to be counted");
        assert_eq!(place.written(), (0, false), "and no matter of the new epoch");
    }

    /// The copy that is left has an older epoch than words of the file.
    #[test]
    fn a_header_whose_newer_copy_is_lost_proves_nothing() {
        let mut place = Place::new();
        place.write(1);
        place.flush();
        place.reset();
        place.write(2);
        place.flush();
        let map = place.head();
        place.store = None;
        damage_newer_copy(&map);
        place.restart();
        place.store().open_disk(&place.disk).unwrap();
        let told = place.store().written(&place.disk).unwrap_err().to_string();
        assert!(told.contains("above its header's"), "{told}");
        // Another epoch is another matter: the ledger was never beyond the one before.
        place.reset();
        assert_eq!(place.written(), (0, false));
    }

    fn damage_newer_copy(map: &Path) {
        let file = OpenOptions::new().read(true).write(true).open(map).unwrap();
        let sequence = |copy: u64| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, copy * 4096 + 16).unwrap();
            u64::from_le_bytes(bytes)
        };
        let newer = u64::from(sequence(1) > sequence(0));
        file.write_all_at(&[0xff; 8], newer * 4096 + 200).unwrap();
    }

    #[test]
    fn it_goes_up_with_each_word_and_down_only_by_a_search_that_nobody_wrote_beside() {
        let newest = NewestWord::up_to(EpochTag(7));
        assert!(!newest.is_before(EpochTag(7)) && newest.is_before(EpochTag(8)));
        newest.none_was_found(EpochTag(7));
        assert!(newest.is_before(EpochTag(7)));
        newest.rise_to(EpochTag(7));
        newest.none_was_found(EpochTag(7));
        assert!(!newest.is_before(EpochTag(7)), "a word was stored before the search ended");
        newest.rise_to(EpochTag(6));
        assert!(!newest.is_before(EpochTag(7)) && newest.is_before(EpochTag(8)));
        assert!(NewestWord::none().is_before(EpochTag(1)));
    }
}
