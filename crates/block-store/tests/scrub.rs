//! The scrub: every flipped byte of a sealed layer is found, named and no longer served; nothing
//! else is looked at or told; a run that was stopped or killed is gone on with.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    os::unix::fs::FileExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::SystemTime,
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DeviceError, DiskId, Durability};
use block_store::{
    CommitError, DiskHandle, FileStorage, LayerId, LayerKind, LayerLabel, Progress, RequestId,
    Reset, Scrub, ScrubFinding, ScrubFindingKind, ScrubReport, Store, StoreError,
};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const CLUSTER: u64 = 65536;
/// As fast as it goes, and a cursor after every window.
const FAST: Scrub = Scrub { rate: None, checkpoint: ByteLength::new(1) };

struct Place {
    directory: TempDir,
    store: Option<Store>,
}

impl Place {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Store::create(&FileStorage::open(directory.path()).unwrap()).unwrap();
        let mut place = Self { directory, store: None };
        place.restart_naming([]);
        place
    }

    /// Opens the store again; the layers are named by whoever has a catalog.
    fn restart_naming(&mut self, layers: impl IntoIterator<Item = LayerId>) {
        self.store = None;
        let storage = Arc::new(FileStorage::open(self.directory.path()).unwrap());
        let store = Store::open(storage).unwrap();
        let layers = layers.into_iter().collect();
        store.settle(&block_store::Named { layers, ..named_disks(&store) }).unwrap();
        self.store = Some(store);
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn disk(&self, name: &str, size: u64, base: Option<LayerId>) -> DiskId {
        let id: DiskId = name.parse().unwrap();
        self.store().create_disk(&id, ByteLength::new(size), base).unwrap().publish().unwrap();
        id
    }

    fn open(&self, id: &DiskId) -> Arc<DiskHandle> {
        self.store().open_disk(id).unwrap()
    }

    /// A hashed snapshot of what the disk holds now.
    fn snapshot(&self, id: &DiskId, name: &str) -> LayerId {
        let label = LayerLabel {
            kind: LayerKind::Snapshot,
            id: name.into(),
            account: "default".into(),
            name: String::new(),
        };
        let layer = self.store().snapshot(id, label, |_| Ok::<_, CommitError<()>>(())).unwrap();
        self.store().hash_layer(layer.unwrap(), &()).unwrap();
        layer.unwrap()
    }

    fn file(&self, layer: LayerId, name: &str) -> PathBuf {
        self.directory.path().join("layers").join(layer.to_string()).join(name)
    }

    fn scrub(&self) -> ScrubReport {
        self.store().scrub(&FAST, &()).unwrap()
    }
}

fn named_disks(store: &Store) -> block_store::Named {
    block_store::Named { disks: store.disks().into_iter().collect(), ..Default::default() }
}

fn write(disk: &DiskHandle, offset: u64, bytes: &[u8]) {
    disk.write_at(bytes, ByteOffset::new(offset), Durability::Cached).unwrap();
}

fn read(disk: &DiskHandle, offset: u64, length: usize) -> Result<Vec<u8>, DeviceError> {
    let mut bytes = vec![0xee; length];
    disk.read_at(&mut bytes, ByteOffset::new(offset)).map(|()| bytes)
}

/// Flips bits of one byte of a file, on the device.
fn flip(path: &Path, offset: u64, mask: u8) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ mask], offset).unwrap();
    file.sync_all().unwrap();
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Two snapshots of one disk, the upper one with every other cluster of the lower one's.
fn two_layers(place: &Place) -> (DiskId, LayerId, LayerId) {
    let id = place.disk("d-1", 4 * MIB, None);
    let disk = place.open(&id);
    write(&disk, 0, &vec![0x11; 2 << 20]);
    let lower = place.snapshot(&id, "s-lower");
    for cluster in (0..32).step_by(2) {
        write(&disk, cluster * CLUSTER, &[0x22; 8192]);
    }
    let upper = place.snapshot(&id, "s-upper");
    (id, lower, upper)
}

#[test]
fn a_healthy_store_is_silent_and_everything_is_read() {
    let place = Place::new();
    let (id, ..) = two_layers(&place);
    write(&place.open(&id), 0, &[0x33; 4096]);
    let report = place.scrub();
    assert_eq!(report.findings, []);
    assert_eq!((report.layers, report.clusters, report.bytes.get()), (2, 48, 48 * CLUSTER));
    assert_eq!(report.unhashed, 0);
}

#[test]
fn any_flipped_byte_of_a_sealed_layer_is_found_and_named() {
    let place = Place::new();
    let (_, lower, upper) = two_layers(&place);
    let mut dice = Dice(7);
    for round in 0..120 {
        // The upper layer holds the first two blocks of every other cluster.
        let (layer, offset) = match round % 2 {
            0 => (lower, dice.below(2 * MIB)),
            _ => (upper, dice.below(16) * 2 * CLUSTER + dice.below(8192)),
        };
        let mask = 1 << dice.below(8);
        flip(&place.file(layer, "data"), offset, mask);
        let findings = place.scrub().findings;
        let at = Some(ByteOffset::new(offset / CLUSTER * CLUSTER));
        let own = findings.iter().find(|found| found.layer == layer);
        let own = own.unwrap_or_else(|| panic!("round {round}: {offset} of {layer} went unseen"));
        assert_eq!((own.offset, own.kind), (at, ScrubFindingKind::Content), "round {round}");
        assert!(own.affects().contains(&"disk:d-1".to_owned()), "{own:?}");
        assert!(own.affects().contains(&"snapshot:s-upper".to_owned()), "{own:?}");
        assert_eq!(own.affects().contains(&"snapshot:s-lower".to_owned()), layer == lower);
        // The upper layer reads through the lower one where it has the cluster in part.
        assert!(findings.iter().all(|found| found.offset == at), "round {round}: {findings:?}");
        flip(&place.file(layer, "data"), offset, mask);
    }
    assert_eq!(place.scrub().findings, [], "what was put right is right");
}

#[test]
fn a_damaged_cluster_is_refused_alone_also_after_a_restart_until_it_is_whole_again() {
    let mut place = Place::new();
    let (id, lower, upper) = two_layers(&place);
    let other = place.disk("d-2", 4 * MIB, None);
    write(&place.open(&other), 0, &[0x44; 4096]);
    let at = 3 * CLUSTER + 100;
    flip(&place.file(lower, "data"), at, 0x80);
    assert_eq!(place.scrub().findings.len(), 1);

    for restarts in 0..2 {
        let disk = place.open(&id);
        let refused = read(&disk, 3 * CLUSTER, 4096);
        assert!(matches!(refused, Err(DeviceError::Damaged { .. })), "{restarts}: {refused:?}");
        assert!(read(&disk, 2 * CLUSTER + 4096, 8192).is_ok(), "its neighbour is served");
        assert!(read(&disk, 4 * CLUSTER, 4096).is_ok(), "its neighbour is served");
        read(&place.open(&other), 0, 4096).unwrap();
        drop(disk);
        place.restart_naming([lower, upper]);
    }
    // What a head has of its own is served; what it would have to fetch from below is not.
    let disk = place.open(&id);
    let partial = disk.write_at(&[5; 512], ByteOffset::new(3 * CLUSTER), Durability::Cached);
    assert!(partial.is_err(), "a part of a block would mix in what is damaged");
    write(&disk, 3 * CLUSTER, &[5; 4096]);
    assert_eq!(read(&disk, 3 * CLUSTER, 4096).unwrap(), [5; 4096]);
    assert!(read(&disk, 3 * CLUSTER, 8192).is_err());

    flip(&place.file(lower, "data"), at, 0x80);
    assert_eq!(place.scrub().findings, []);
    assert_eq!(read(&disk, 3 * CLUSTER + 4096, 4096).unwrap(), [0x11; 4096]);
    drop(disk);
    place.restart_naming([lower, upper]);
    assert!(read(&place.open(&id), 3 * CLUSTER + 4096, 4096).is_ok(), "it is forgotten for good");
}

#[test]
fn a_layer_with_very_much_damage_is_given_up_and_refused_whole() {
    let place = Place::new();
    let id = place.disk("d-1", 80 * MIB, None);
    write(&place.open(&id), 0, &vec![0x11; 80 << 20]);
    let layer = place.snapshot(&id, "s-1");
    let file = OpenOptions::new().write(true).open(place.file(layer, "data")).unwrap();
    file.write_all_at(&vec![0; 70 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let findings = place.scrub().findings;
    assert_eq!(findings.last().unwrap().kind, ScrubFindingKind::TooMuch);
    assert!(findings.len() < 1100, "{}", findings.len());
    assert!(read(&place.open(&id), 79 * MIB, 512).is_err());
}

#[test]
fn heads_and_layers_without_hashes_are_not_looked_at() {
    let place = Place::new();
    let id = place.disk("d-1", MIB, None);
    let disk = place.open(&id);
    write(&disk, 0, &[0x11; 65536]);
    disk.flush().unwrap();
    let head = place.store().disk(&id).unwrap().head.unwrap();
    flip(&place.file(head, "data"), 77, 1);
    let report = place.scrub();
    assert_eq!((report.layers, report.clusters, report.findings.len()), (0, 0, 0));
    let label = LayerLabel {
        kind: LayerKind::Snapshot,
        id: "s-1".into(),
        account: String::new(),
        name: String::new(),
    };
    place.store().snapshot(&id, label, |_| Ok::<_, CommitError<()>>(())).unwrap();
    let report = place.scrub();
    assert_eq!((report.unhashed, report.layers, report.findings.len()), (1, 0, 0));
}

#[test]
fn a_damaged_hash_table_is_a_finding_and_the_rest_is_scrubbed() {
    let place = Place::new();
    let (_, lower, upper) = two_layers(&place);
    // Header copies 8192, one page of words; the hashes follow.
    let words_end = (8192 + 512 * 64_u64.div_ceil(63)).next_multiple_of(4096);
    let mut dice = Dice(11);
    for _ in 0..100 {
        // Entries, count, index or checksum of the one page.
        let (offset, mask) = (words_end + dice.below(4092), 1 << dice.below(8));
        flip(&place.file(lower, "map"), offset, mask);
        flip(&place.file(upper, "data"), 5, 1);
        let found: BTreeSet<_> =
            place.scrub().findings.iter().map(|found| (found.layer, found.kind.name())).collect();
        assert_eq!(found, [(lower, "HashTable"), (upper, "Content")].into());
        flip(&place.file(lower, "map"), offset, mask);
        flip(&place.file(upper, "data"), 5, 1);
    }
    assert_eq!(place.scrub().findings, []);
}

#[test]
fn a_damaged_header_is_a_finding() {
    let place = Place::new();
    let (_, lower, upper) = two_layers(&place);
    for copy in [0, 4096] {
        flip(&place.file(upper, "map"), copy + 30, 1);
    }
    let findings = place.scrub().findings;
    let kinds: Vec<_> = findings.iter().map(|found| (found.layer, found.kind)).collect();
    assert_eq!(kinds, [(upper, ScrubFindingKind::Layer)]);
    flip(&place.file(lower, "data"), 0, 1);
    assert!(place.scrub().findings.iter().any(|found| found.layer == lower));
}

/// Is asked whether to stop so many times before it says so.
struct Patience(AtomicU64);

impl Progress for Patience {
    fn advanced(&self, _: ByteLength, _: ByteLength) {}

    fn cancelled(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_err()
    }
}

#[test]
fn a_scrub_that_is_stopped_anywhere_looks_at_the_roots_again() {
    for patience in 0..60 {
        let place = Place::new();
        let (_, _, upper) = two_layers(&place);
        spoil_the_root(&place, upper);
        let stopped = place.store().scrub(&FAST, &Patience(AtomicU64::new(patience)));
        assert!(matches!(stopped, Err(StoreError::Cancelled)), "{patience}: {stopped:?}");
        let found: Vec<_> = place.scrub().findings.iter().map(|f| (f.layer, f.kind)).collect();
        assert_eq!(found, [(upper, ScrubFindingKind::Root)], "stopped after {patience}");
    }
}

#[test]
fn a_root_that_is_not_that_of_the_hashes_is_a_finding() {
    let place = Place::new();
    let (_, _, upper) = two_layers(&place);
    spoil_the_root(&place, upper);
    let found: Vec<_> = place.scrub().findings.iter().map(|f| (f.layer, f.kind)).collect();
    assert_eq!(found, [(upper, ScrubFindingKind::Root)]);
}

/// A valid header with another root.
fn spoil_the_root(place: &Place, upper: LayerId) {
    let file = OpenOptions::new().read(true).write(true).open(place.file(upper, "map")).unwrap();
    for copy in [0, 4096] {
        let mut header = [0; 4096];
        file.read_exact_at(&mut header, copy).unwrap();
        header[88] ^= 1;
        let crc = crc32c::crc32c(&header[..4092]).to_le_bytes();
        header[4092..].copy_from_slice(&crc);
        file.write_all_at(&header, copy).unwrap();
    }
    file.sync_all().unwrap();
}

#[test]
fn what_cannot_be_read_is_a_finding_and_the_scrub_goes_on() {
    let place = Place::new();
    let (id, lower, upper) = two_layers(&place);
    // Open, so that its length is not looked at again; the last cluster is out of reach.
    let disk = place.open(&id);
    let file = OpenOptions::new().write(true).open(place.file(lower, "data")).unwrap();
    file.set_len(31 * CLUSTER + 100).unwrap();
    flip(&place.file(upper, "data"), 0, 1);
    let found: BTreeSet<_> =
        place.scrub().findings.iter().map(|f| (f.layer, f.offset, f.kind.name())).collect();
    let at = |cluster| Some(ByteOffset::new(cluster * CLUSTER));
    let expected = [(lower, at(31), "Unreadable"), (upper, at(0), "Content")];
    assert_eq!(found, expected.into());
    assert!(read(&disk, 30 * CLUSTER, 65536).is_ok());
}

/// Counts clusters, and ends the scrub in one of two ways.
struct Stop {
    /// After so many bytes.
    after: u64,
    kill: bool,
    seen: AtomicU64,
    cancel: AtomicBool,
}

impl Progress for Stop {
    fn advanced(&self, done: ByteLength, total: ByteLength) {
        assert!(done <= total, "{done} of {total}");
        self.seen.store(done.get(), Ordering::Relaxed);
        if done.get() >= self.after {
            assert!(!self.kill, "killed on purpose");
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

#[test]
fn what_was_stopped_or_killed_goes_on_and_leaves_nothing_out() {
    for kill in [false, true] {
        // Wherever it ends, damage anywhere is found by the run that ended and those after it.
        for (round, checkpoint) in (0..12).zip([1, 300_000, 1 << 40].into_iter().cycle()) {
            let mut place = Place::new();
            let (_, lower, upper) = two_layers(&place);
            let mut dice = Dice(round);
            let damaged = [(lower, dice.below(16) * 2 + 1), (upper, dice.below(16) * 2)];
            for (layer, cluster) in damaged {
                flip(&place.file(layer, "data"), cluster * CLUSTER, 1);
            }
            let options = Scrub { rate: None, checkpoint: ByteLength::new(checkpoint) };
            let mut left = 3;
            let report = loop {
                let after = if left > 0 { dice.below(48 * CLUSTER) } else { u64::MAX };
                let stop =
                    Stop { after, kill, seen: AtomicU64::new(0), cancel: AtomicBool::new(false) };
                left -= 1;
                let run = || place.store().scrub(&options, &stop);
                match catch_unwind(AssertUnwindSafe(run)) {
                    Ok(Ok(report)) => break report,
                    Ok(Err(error)) => assert!(matches!(error, StoreError::Cancelled), "{error}"),
                    Err(_) => assert!(kill),
                }
                place.restart_naming([lower, upper]);
            };
            let found: BTreeSet<_> = report.findings.iter().map(|f| (f.layer, f.offset)).collect();
            let expected = damaged.map(|(l, c)| (l, Some(ByteOffset::new(c * CLUSTER)))).into();
            assert_eq!(found, expected, "round {round}, kill {kill}");
            assert_eq!((report.layers, report.clusters), (2, 48), "round {round}");
        }
    }
}

#[test]
fn a_stopped_scrub_does_not_read_again_what_it_had() {
    let place = Place::new();
    two_layers(&place);
    let stop = |after| Stop {
        after,
        kill: false,
        seen: AtomicU64::new(0),
        cancel: AtomicBool::new(false),
    };
    place.store().scrub(&FAST, &stop(MIB)).unwrap_err();
    let first = Recorder::default();
    place.store().scrub(&FAST, &first).unwrap();
    assert!(first.least.load(Ordering::Relaxed) > MIB, "it went on behind the first MiB");
}

struct Recorder {
    least: AtomicU64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { least: AtomicU64::new(u64::MAX) }
    }
}

impl Progress for Recorder {
    fn advanced(&self, done: ByteLength, _: ByteLength) {
        self.least.fetch_min(done.get(), Ordering::Relaxed);
    }
}

#[test]
fn a_damaged_cursor_only_means_to_begin_again() {
    let place = Place::new();
    let (_, lower, _) = two_layers(&place);
    flip(&place.file(lower, "data"), 0, 1);
    let cancel =
        Stop { after: MIB, kill: false, seen: AtomicU64::new(0), cancel: AtomicBool::new(false) };
    place.store().scrub(&FAST, &cancel).unwrap_err();
    flip(&place.directory.path().join("scrub"), 20, 4);
    let all = Recorder::default();
    let report = place.store().scrub(&FAST, &all).unwrap();
    assert_eq!(all.least.load(Ordering::Relaxed), MIB, "one window from the beginning");
    assert!(report.findings.iter().any(|found| found.layer == lower), "{:?}", report.findings);
}

/// Deletes a layer in the middle of its scrub.
struct Deleter {
    told: mpsc::SyncSender<()>,
    go: std::sync::Mutex<mpsc::Receiver<()>>,
    once: AtomicBool,
}

impl Progress for Deleter {
    fn advanced(&self, _: ByteLength, _: ByteLength) {
        if !self.once.swap(true, Ordering::Relaxed) {
            self.told.send(()).unwrap();
            self.go.lock().unwrap().recv().unwrap();
        }
    }
}

#[test]
fn a_layer_that_is_deleted_meanwhile_is_no_finding_and_is_removed_afterwards() {
    let place = Place::new();
    let mut layers = Vec::new();
    for name in ["d-1", "d-2", "d-3"] {
        let id = place.disk(name, 4 * MIB, None);
        write(&place.open(&id), 0, &vec![0x11; 4 << 20]);
        layers.push(place.snapshot(&id, &name.replace('d', "s")));
        place.store().delete_disk(&id).unwrap().finish().unwrap();
    }
    let (told, began) = mpsc::sync_channel(1);
    let (continued, go) = mpsc::channel();
    let deleter = Deleter { told, go: std::sync::Mutex::new(go), once: AtomicBool::new(false) };
    let report = std::thread::scope(|scope| {
        let scrub = scope.spawn(|| place.store().scrub(&FAST, &deleter));
        began.recv().unwrap();
        for layer in &layers {
            place.store().delete_layer(*layer).unwrap().finish();
        }
        place.store().wait_for_background();
        continued.send(()).unwrap();
        scrub.join().unwrap().unwrap()
    });
    assert_eq!(report.findings, []);
    assert!(report.layers >= 1 && report.clusters >= 64, "{report:?}");
    place.store().wait_for_background();
    for layer in layers {
        assert!(!place.file(layer, "data").exists(), "{layer} is still there");
    }
}

#[test]
fn a_layer_nobody_names_is_scrubbed_and_kept() {
    let mut place = Place::new();
    let (id, lower, upper) = two_layers(&place);
    place.store().delete_disk(&id).unwrap().finish().unwrap();
    // An older catalog: it knows of neither.
    place.restart_naming([]);
    flip(&place.file(upper, "data"), 0, 1);
    let findings = place.scrub().findings;
    let own =
        |layer| findings.iter().filter(move |found: &&ScrubFinding| found.layer == layer).count();
    assert_eq!((own(lower), own(upper)), (0, 1));
    place.store().wait_for_background();
    assert!(place.file(lower, "data").exists() && place.file(upper, "data").exists());
}

#[test]
fn a_layer_that_is_gone_is_told_with_all_that_need_it() {
    let mut place = Place::new();
    let (id, lower, upper) = two_layers(&place);
    let other = place.disk("d-2", 4 * MIB, None);
    write(&place.open(&other), 0, &[0x33; 4096]);
    let alone = place.snapshot(&other, "s-alone");
    let (request_id, time) = (RequestId::from_bytes([1; 16]), SystemTime::now());
    let order = Reset { disk: other, base: None, request_id, time };
    place.store().reset(&[order]).remove(0).unwrap();
    for gone in [lower, alone] {
        std::fs::remove_dir_all(place.file(gone, "data").parent().unwrap()).unwrap();
    }
    place.restart_naming([lower, upper, alone]);
    let report = place.scrub();
    let of = |layer| report.findings.iter().find(|found| found.layer == layer).unwrap();
    assert_eq!((of(lower).kind, of(lower).offset), (ScrubFindingKind::Missing, None));
    assert_eq!(of(lower).affects(), [format!("disk:{id}"), "snapshot:s-upper".into()]);
    assert_eq!(of(lower).standing, [lower, upper].into());
    assert_eq!(of(upper).kind, ScrubFindingKind::Layer, "what stands on it cannot be opened");
    assert_eq!(of(alone).kind, ScrubFindingKind::Missing, "only the catalog knows of it");
    assert_eq!(report.findings.len(), 3, "{report:?}");
    // Who has no catalog finds what headers and disks tell.
    place.restart_naming([upper]);
    let kinds: Vec<_> = place.scrub().findings.iter().map(|found| found.kind).collect();
    assert_eq!(kinds, [ScrubFindingKind::Missing, ScrubFindingKind::Layer]);
    place.restart_naming([upper]);
    let last = place.store().last_scrub().unwrap().unwrap();
    assert!(last.is_finished);
    assert_eq!(last.report.findings, place.scrub().findings, "the same over a restart");
}

#[test]
fn the_last_scrub_is_known_over_a_restart_whether_it_ended_or_not() {
    let mut place = Place::new();
    let (_, lower, upper) = two_layers(&place);
    assert!(place.store().last_scrub().unwrap().is_none());
    flip(&place.file(lower, "data"), 0, 1);
    let (seen, cancel) = (AtomicU64::new(0), AtomicBool::new(false));
    let stop = Stop { after: MIB, kill: false, seen, cancel };
    assert!(matches!(place.store().scrub(&FAST, &stop), Err(StoreError::Cancelled)));
    place.restart_naming([lower, upper]);
    let cut = place.store().last_scrub().unwrap().unwrap();
    assert!(!cut.is_finished && cut.done > ByteLength::ZERO && cut.done < cut.total, "{cut:?}");
    assert_eq!(cut.report.findings.len(), 1, "{cut:?}");
    let report = place.scrub();
    place.restart_naming([lower, upper]);
    let last = place.store().last_scrub().unwrap().unwrap();
    assert!(last.is_finished && last.done == last.total);
    assert_eq!((last.report.layers, last.report.clusters), (2, report.clusters));
    assert_eq!(last.report.findings, report.findings);
}
