//! The check of a store's structure: each damage is one finding and no other, a healthy store in any
//! state has none, and nothing is ever changed by looking.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod rebuild;
mod repair;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability};
use block_store::{
    BackingPolicy, CatalogNames, CommitError, FileStorage, FindingKind, Findings, ImageFormat,
    ImageSource, LayerId, LayerKind, LayerLabel, LockError, RequestId, Reset, Severity, Storage,
    StorageFile, Store, StoreError, StoreLock, check_structure,
};
use tempfile::TempDir;

const SIZE: u64 = 6 << 20;

/// A store at rest: an image, a snapshot on it, and three disks with heads.
struct Scene {
    directory: TempDir,
    names: CatalogNames,
    image: LayerId,
    snapshot: LayerId,
    /// The head of `d-1`, which stands on the image.
    head: LayerId,
}

fn id(name: &str) -> DiskId {
    name.parse().unwrap()
}

fn label(kind: LayerKind, id: &str) -> LayerLabel {
    LayerLabel { kind, id: id.into(), account: "lab".into(), name: id.into() }
}

fn open(directory: &Path) -> Store {
    let store = Store::open(Arc::new(FileStorage::open(directory).unwrap())).unwrap();
    store.settle_alone().unwrap();
    store
}

fn write(store: &Store, disk: &str, content: u8, offset: u64) {
    let handle = store.open_disk(&id(disk)).unwrap();
    let bytes = vec![content; 299_008];
    handle.write_at(&bytes, ByteOffset::new(offset), Durability::ForceUnitAccess).unwrap();
}

fn import(store: &Store, content: u8) -> LayerId {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), vec![content; 3 << 20]).unwrap();
    let (format, policy) = (Some(ImageFormat::Raw), BackingPolicy::Refuse);
    let source = ImageSource::open(file.reopen().unwrap(), None, format, policy).unwrap();
    let staged = store.import(&source, label(LayerKind::Image, "m-1"), &()).unwrap();
    let layer = staged.layer();
    staged.publish().unwrap();
    layer
}

fn reset(store: &Store, disk: &str, base: Option<LayerId>) {
    let order = Reset {
        disk: id(disk),
        base,
        request_id: RequestId::from_bytes([1; 16]),
        time: SystemTime::now(),
    };
    store.reset(&[order]).remove(0).unwrap();
}

impl Scene {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Store::create(&FileStorage::open(directory.path()).unwrap()).unwrap();
        let store = open(directory.path());
        let image = import(&store, 9);
        for (disk, base) in [("d-1", Some(image)), ("d-2", Some(image)), ("d-3", None)] {
            let staged = store.create_disk(&id(disk), ByteLength::new(SIZE), base).unwrap();
            staged.publish().unwrap();
            write(&store, disk, 1, 1 << 20);
        }
        let snapshot = store
            .snapshot(&id("d-2"), label(LayerKind::Snapshot, "s-1"), |_| {
                Ok::<_, CommitError<()>>(())
            })
            .unwrap()
            .unwrap();
        write(&store, "d-2", 2, 0);
        reset(&store, "d-1", Some(image));
        write(&store, "d-1", 3, 4 << 20);
        store.hash_layer(snapshot, &()).unwrap();
        assert!(store.flush_all().is_empty());
        let head = store.disk(&id("d-1")).unwrap().head.unwrap();
        let names = CatalogNames {
            disks: ["d-1", "d-2", "d-3"].map(id).into(),
            layers: [(image, "m-1"), (snapshot, "s-1")]
                .map(|(layer, who)| (layer, [who.to_owned()].into()))
                .into(),
            may_be_older: false,
        };
        Self { directory, names, image, snapshot, head }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, layer: LayerId, name: &str) -> PathBuf {
        self.path(&format!("layers/{layer}/{name}"))
    }

    /// Checks, and that nothing is changed by it.
    fn check(&self) -> Findings {
        let before = content(self.directory.path());
        let found = self.look();
        assert!(content(self.directory.path()) == before, "a check changed the store");
        found
    }

    fn look(&self) -> Findings {
        let storage: Arc<dyn Storage> = Arc::new(FileStorage::open(self.directory.path()).unwrap());
        check_structure(&storage, Some(&self.names), &()).unwrap()
    }

    /// Exactly one finding, of this kind, and who suffers from it.
    fn finds(&self, kind: FindingKind, severity: Severity, affects: &[&str]) {
        let found = self.check().found;
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!((found[0].kind, found[0].severity), (kind, severity), "{found:#?}");
        let who: Vec<_> = found[0].affects.iter().map(String::as_str).collect();
        assert_eq!(who, affects, "{found:#?}");
    }

    fn damaged(&self, kind: FindingKind, affects: &[&str]) {
        self.finds(kind, Severity::Damage, affects);
    }
}

fn content(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, Option<SystemTime>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let bytes = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if meta.is_dir() {
            found.extend(content(&path));
        }
        found.insert(path, (bytes, meta.modified().ok()));
    }
    found
}

fn flip(path: &Path, place: u64, bit: u8) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], place).unwrap();
}

fn patch_header(path: &Path, change: impl Fn(&mut [u8])) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    for copy in [0, 4096] {
        let mut page = [0; 4096];
        file.read_exact_at(&mut page, copy).unwrap();
        change(&mut page);
        let crc = crc32c::crc32c(&page[..4092]).to_le_bytes();
        page[4092..].copy_from_slice(&crc);
        file.write_all_at(&page, copy).unwrap();
    }
}

#[test]
fn a_healthy_store_has_nothing_to_tell_of() {
    let scene = Scene::new();
    let found = scene.check();
    assert_eq!(found.found, []);
    assert_eq!((found.checked.disks, found.checked.layers), (3, 5));
    assert!(found.checked.map_sectors >= 5 && found.checked.hashes > 0, "{found:?}");
}

/// Derived files are made anew when they are missing or wrong: they are nothing to tell of.
#[test]
fn owner_tables_are_nothing_to_tell_of() {
    let mut scene = Scene::new();
    let store = open(scene.directory.path());
    let mut top = scene.snapshot;
    for name in ["s-2", "s-3"] {
        write(&store, "d-2", 7, 5 << 20);
        let taken = store.snapshot(&id("d-2"), label(LayerKind::Snapshot, name), |_| {
            Ok::<_, CommitError<()>>(())
        });
        top = taken.unwrap().unwrap();
        scene.names.layers.insert(top, [name.to_owned()].into());
    }
    drop(store.open_disk(&id("d-2")).unwrap());
    store.wait_for_background();
    drop(store);
    let table = scene.file(top, "owners");
    assert!(table.is_file());
    fs::copy(&table, scene.file(top, "owners.new")).unwrap();
    assert_eq!(scene.check().found, []);
}

#[test]
fn a_store_that_somebody_has_open_is_not_checked() {
    let scene = Scene::new();
    let _open = open(scene.directory.path());
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::open(scene.directory.path()).unwrap());
    let refused = check_structure(&storage, None, &()).unwrap_err();
    let own = std::process::id().to_string();
    assert!(matches!(&refused, StoreError::Locked { holder } if *holder == own), "{refused:?}");
}

#[test]
fn a_store_without_a_lock_file_gets_none() {
    let scene = Scene::new();
    fs::remove_file(scene.path("lock")).unwrap();
    assert_eq!(scene.check().found, []);
}

#[test]
fn damage_of_the_ledger() {
    let scene = Scene::new();
    flip(&scene.path("ledger"), 4096 + 100, 0);
    scene.damaged(FindingKind::LedgerHeaderCopy, &[]);

    // d-1 is in slot 0: one record in each of the two pages of the first pair.
    let scene = Scene::new();
    flip(&scene.path("ledger"), 8192 + 80, 3);
    scene.damaged(FindingKind::LedgerRecord, &["d-1"]);
    flip(&scene.path("ledger"), 12288 + 80, 3);
    scene.damaged(FindingKind::LedgerRecord, &["d-1"]);

    let scene = Scene::new();
    let ledger = fs::OpenOptions::new().write(true).open(scene.path("ledger")).unwrap();
    ledger.write_all_at(&[0; 512], 8192).unwrap();
    scene.damaged(FindingKind::LedgerRecord, &["d-1"]);

    let scene = Scene::new();
    flip(&scene.path("ledger"), 0, 0);
    flip(&scene.path("ledger"), 4096, 0);
    scene.damaged(FindingKind::LedgerUnreadable, &[]);

    let scene = Scene::new();
    let ledger = fs::OpenOptions::new().write(true).open(scene.path("ledger")).unwrap();
    ledger.set_len(8192 + (100 << 10)).unwrap();
    scene.finds(FindingKind::LedgerLength, Severity::Note, &[]);
}

#[test]
fn damage_of_a_layers_files() {
    let on_image = ["d-1", "d-2", "m-1", "s-1"];
    let scene = Scene::new();
    fs::remove_file(scene.file(scene.snapshot, "data")).unwrap();
    scene.damaged(FindingKind::LayerFile, &["d-2", "s-1"]);

    let scene = Scene::new();
    let map = scene.file(scene.image, "map");
    fs::rename(&map, scene.path("aside")).unwrap();
    std::os::unix::fs::symlink(scene.path("aside"), &map).unwrap();
    scene.damaged(FindingKind::LayerFile, &on_image);

    let scene = Scene::new();
    fs::hard_link(scene.file(scene.head, "data"), scene.path("other-name")).unwrap();
    scene.damaged(FindingKind::LayerFile, &["d-1"]);

    let scene = Scene::new();
    fs::remove_dir_all(scene.path(&format!("layers/{}", scene.image))).unwrap();
    scene.damaged(FindingKind::LayerMissing, &on_image);

    let scene = Scene::new();
    fs::remove_dir_all(scene.path(&format!("layers/{}", scene.head))).unwrap();
    scene.damaged(FindingKind::LayerMissing, &["d-1"]);

    let scene = Scene::new();
    let data = fs::OpenOptions::new().write(true).open(scene.file(scene.image, "data")).unwrap();
    data.set_len(1 << 20).unwrap();
    scene.damaged(FindingKind::LayerLength, &on_image);
}

#[test]
fn damage_of_a_layers_header() {
    let scene = Scene::new();
    flip(&scene.file(scene.image, "map"), 300, 1);
    scene.damaged(FindingKind::LayerHeaderCopy, &["d-1", "d-2", "m-1", "s-1"]);
    flip(&scene.file(scene.image, "map"), 4096 + 300, 1);
    scene.damaged(FindingKind::LayerHeader, &["d-1", "d-2", "m-1", "s-1"]);

    let scene = Scene::new();
    flip(&scene.file(scene.snapshot, "map"), 8, 1);
    scene.damaged(FindingKind::LayerFormat, &["d-2", "s-1"]);

    // A power cut may tear the copy of a head's header that is being written.
    let scene = Scene::new();
    flip(&scene.file(scene.head, "map"), 4000, 1);
    let found = scene.check().found;
    assert!(found.iter().any(|f| f.kind == FindingKind::LayerHeaderCopy), "{found:?}");
}

#[test]
fn damage_of_a_layers_map_and_hashes() {
    let scene = Scene::new();
    flip(&scene.file(scene.head, "map"), 8192 + 504, 1);
    scene.damaged(FindingKind::MapSector, &["d-1"]);

    let scene = Scene::new();
    patch_header(&scene.file(scene.head, "map"), |page| page[32] = 1);
    scene.damaged(FindingKind::MapWord, &["d-1"]);

    let scene = Scene::new();
    let length = fs::metadata(scene.file(scene.snapshot, "map")).unwrap().len();
    flip(&scene.file(scene.snapshot, "map"), length - 4096 + 20, 1);
    scene.damaged(FindingKind::HashTable, &["d-2", "s-1"]);

    let scene = Scene::new();
    patch_header(&scene.file(scene.snapshot, "map"), |page| page[90] ^= 1);
    let found = scene.check().found;
    assert!(found.len() == 1 && found[0].kind == FindingKind::HashRoot, "{found:#?}");
}

#[test]
fn damage_between_layers_and_disks() {
    // The snapshot stands on the image: let it stand on itself.
    let scene = Scene::new();
    let own = scene.snapshot.to_bytes();
    patch_header(&scene.file(scene.snapshot, "map"), |page| page[72..88].copy_from_slice(&own));
    scene.damaged(FindingKind::ChainLoop, &["d-2", "s-1"]);

    let scene = Scene::new();
    patch_header(&scene.file(scene.head, "map"), |page| page[32] = 77);
    scene.damaged(FindingKind::OldLedger, &["d-1"]);

    let scene = Scene::new();
    patch_header(&scene.file(scene.head, "map"), |page| page[130] = b'9');
    scene.damaged(FindingKind::HeadOwner, &["d-1"]);

    let scene = Scene::new();
    patch_header(&scene.file(scene.snapshot, "map"), |page| page[121] = 1);
    scene.damaged(FindingKind::NotSealed, &["d-2", "s-1"]);
}

#[test]
fn the_catalog_against_the_store() {
    let mut scene = Scene::new();
    scene.names.disks.insert(id("d-9"));
    scene.damaged(FindingKind::DiskMissing, &["d-9"]);

    let mut scene = Scene::new();
    let gone = LayerId::from_bytes([7; 16]);
    scene.names.layers.insert(gone, ["s-9".to_owned()].into());
    scene.damaged(FindingKind::LayerMissing, &["s-9"]);

    let mut scene = Scene::new();
    scene.names.disks.remove(&id("d-3"));
    scene.finds(FindingKind::OrphanDisk, Severity::Note, &[]);
}

#[test]
fn what_a_start_cleans_and_what_is_none_of_ours_are_notes() {
    let scene = Scene::new();
    fs::create_dir(scene.path(&format!("layers/{}.old", LayerId::from_bytes([3; 16])))).unwrap();
    scene.finds(FindingKind::Remains, Severity::Note, &[]);

    let scene = Scene::new();
    fs::write(scene.file(scene.head, "deleting"), "").unwrap();
    scene.finds(FindingKind::Marked, Severity::Note, &["d-1"]);

    let scene = Scene::new();
    fs::write(scene.file(scene.head, "letter"), "").unwrap();
    scene.finds(FindingKind::Foreign, Severity::Note, &[]);

    let scene = Scene::new();
    std::os::unix::fs::symlink("/", scene.path("layers/link")).unwrap();
    scene.finds(FindingKind::Foreign, Severity::Note, &[]);
}

/// What all disks read as; none where one is refused.
fn reads(directory: &Path) -> Vec<Option<u32>> {
    let Ok(store) = Store::open(Arc::new(FileStorage::open(directory).unwrap())) else {
        return Vec::new();
    };
    let read = |disk: &str| {
        let handle = store.open_disk(&id(disk)).ok()?;
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
        handle.read_at(&mut bytes, ByteOffset::ZERO).ok()?;
        Some(crc32c::crc32c(&bytes))
    };
    ["d-1", "d-2", "d-3"].map(read).into()
}

/// A step of SplitMix64.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Only what has a checksum: the data files are `scrub`'s.
#[test]
fn every_flipped_bit_of_the_structure_is_found_or_harmless() {
    let trials = std::env::var("REINIT_FLIPS").map_or(300, |value| value.parse().unwrap());
    let scene = Scene::new();
    let right = reads(scene.directory.path());
    assert!(right.iter().all(Option::is_some));
    let mut files = vec![scene.path("ledger")];
    for entry in fs::read_dir(scene.path("layers")).unwrap() {
        files.push(entry.unwrap().path().join("map"));
    }
    files.sort();
    let (mut seed, mut harmless) = (1, 0);
    for trial in 0..trials {
        let file = &files[usize::try_from(next(&mut seed)).unwrap() % files.len()];
        let whole = fs::read(file).unwrap();
        let used: Vec<_> = (0..whole.len() / 512)
            .filter(|sector| whole[sector * 512..][..512].iter().any(|byte| *byte != 0))
            .collect();
        let sector = used[usize::try_from(next(&mut seed)).unwrap() % used.len()];
        let place = u64::try_from(sector).unwrap() * 512 + next(&mut seed) % 512;
        let bit = u8::try_from(next(&mut seed) % 8).unwrap();
        flip(file, place, bit);
        if scene.look().found.is_empty() {
            harmless += 1;
            let read = reads(scene.directory.path());
            assert_eq!(read, right, "trial {trial}: bit {bit} of {place} in {}", file.display());
        }
        flip(file, place, bit);
    }
    assert!(harmless * 2 < trials, "{harmless} of {trials} are not found: too many to be harmless");
    assert_eq!(scene.check().found, []);
}

/// Changes both records of a slot of the first pair.
fn patch_records(path: &Path, slot: u64, change: impl Fn(&mut [u8])) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    for page in [8192, 12288] {
        let mut record = [0; 512];
        file.read_exact_at(&mut record, page + slot * 512).unwrap();
        change(&mut record);
        let crc = crc32c::crc32c(&record[..508]).to_le_bytes();
        record[508..].copy_from_slice(&crc);
        file.write_all_at(&record, page + slot * 512).unwrap();
    }
}

#[test]
fn records_that_cannot_all_be_true() {
    let scene = Scene::new();
    let larger = (SIZE + (1 << 20)).to_le_bytes();
    patch_records(&scene.path("ledger"), 0, |record| record[32..40].copy_from_slice(&larger));
    scene.damaged(FindingKind::HeadSize, &["d-1"]);

    let scene = Scene::new();
    patch_records(&scene.path("ledger"), 0, |record| record[28] = 1);
    scene.damaged(FindingKind::HeadEpoch, &["d-1"]);

    let scene = Scene::new();
    patch_records(&scene.path("ledger"), 2, |record| record[6] = 4);
    let found = scene.check().found;
    assert!(found.iter().all(|f| f.severity == Severity::Note), "{found:#?}");
    assert_eq!(found[0].kind, FindingKind::Unsettled, "{found:#?}");

    let scene = Scene::new();
    patch_records(&scene.path("ledger"), 2, |record| record[74] = b'1');
    let found = scene.check().found;
    assert!(found.iter().any(|f| f.kind == FindingKind::TwinRecords), "{found:#?}");
}

#[test]
fn a_layer_nobody_names_and_a_snapshot_cut_short_are_notes() {
    let scene = Scene::new();
    import(&open(scene.directory.path()), 8);
    scene.finds(FindingKind::OrphanLayer, Severity::Note, &[]);

    let scene = Scene::new();
    patch_header(&scene.file(scene.head, "map"), |page| page[121] = 2);
    scene.finds(FindingKind::CutSnapshot, Severity::Note, &[]);
}

/// Files that can only be read, and some that cannot be read either.
#[derive(Debug)]
struct OnlyReading {
    files: FileStorage,
    /// What nobody may open or list, and what the system says.
    refused: Option<(String, io::ErrorKind)>,
}

impl OnlyReading {
    fn let_through(&self, path: &str) -> io::Result<()> {
        match &self.refused {
            Some((refused, why)) if refused == path => Err((*why).into()),
            _ => Ok(()),
        }
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Storage for OnlyReading {
    fn open(&self, _path: &str) -> io::Result<Arc<dyn StorageFile>> {
        read_only()
    }
    fn open_to_read(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.let_through(path)?;
        self.files.open_to_read(path)
    }
    fn create(&self, _path: &str) -> io::Result<Arc<dyn StorageFile>> {
        read_only()
    }
    fn create_dir(&self, _path: &str) -> io::Result<()> {
        read_only()
    }
    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        read_only()
    }
    fn remove_file(&self, _path: &str) -> io::Result<()> {
        read_only()
    }
    fn remove_dir(&self, _path: &str) -> io::Result<()> {
        read_only()
    }
    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.let_through(path)?;
        self.files.list(path)
    }
    fn exists(&self, path: &str) -> io::Result<bool> {
        self.files.exists(path)
    }
    fn sync_dir(&self, _path: &str) -> io::Result<()> {
        read_only()
    }
    fn lock(&self, _path: &str) -> Result<StoreLock, LockError> {
        read_only().map_err(LockError::Io)
    }
    fn lock_to_read(&self, path: &str) -> Result<StoreLock, LockError> {
        self.files.lock_to_read(path)
    }
    fn space(&self) -> io::Result<(u64, u64)> {
        self.files.space()
    }
}

impl Scene {
    /// What a check tells that may change nothing, and not read this.
    fn check_reading(&self, refused: Option<(String, io::ErrorKind)>) -> Vec<block_store::Finding> {
        let files = FileStorage::open(self.directory.path()).unwrap();
        let storage: Arc<dyn Storage> = Arc::new(OnlyReading { files, refused });
        check_structure(&storage, Some(&self.names), &()).unwrap().found
    }
}

#[test]
fn a_read_only_file_system_is_checked_like_any_other() {
    let scene = Scene::new();
    assert_eq!(scene.check_reading(None), []);
    flip(&scene.file(scene.head, "map"), 8192 + 504, 1);
    let found = scene.check_reading(None);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].kind, FindingKind::MapSector, "{found:#?}");
}

#[test]
fn what_may_not_be_read_is_not_called_damaged() {
    let scene = Scene::new();
    let map = format!("layers/{}/map", scene.image);
    let directory = format!("layers/{}", scene.snapshot);
    for path in ["ledger", &map, &directory, "layers"] {
        for why in [io::ErrorKind::PermissionDenied, io::ErrorKind::OutOfMemory] {
            let found = scene.check_reading(Some((path.into(), why)));
            assert_eq!(found.len(), 1, "{path}: {found:#?}");
            assert_eq!(found[0].severity, Severity::Unknown, "{path}: {found:#?}");
            assert!(found[0].message.starts_with("cannot be looked at: "), "{path}: {found:#?}");
        }
    }
}

#[test]
fn a_store_without_its_layers() {
    let scene = Scene::new();
    fs::rename(scene.path("layers"), scene.path("aside")).unwrap();
    scene.damaged(FindingKind::LayersMissing, &["d-1", "d-2", "d-3", "m-1", "s-1"]);
}

/// Gives the layer this many bytes and no hashes.
fn reshape(scene: &Scene, layer: LayerId, size: u64) {
    patch_header(&scene.file(layer, "map"), |page| {
        page[24..32].copy_from_slice(&size.to_le_bytes());
        page[48..56].fill(0);
        page[88..120].fill(0);
        page[122] = 0;
    });
    let data = fs::OpenOptions::new().write(true).open(scene.file(layer, "data")).unwrap();
    data.set_len(size).unwrap();
}

#[test]
fn a_layer_smaller_than_what_it_stands_on() {
    let scene = Scene::new();
    reshape(&scene, scene.image, SIZE + (1 << 20));
    reshape(&scene, scene.snapshot, SIZE);
    scene.damaged(FindingKind::ChainSize, &["d-2", "s-1"]);
}

/// The hashes of the layer below are of clusters that the upper one has no place for.
#[test]
fn a_hashed_layer_far_smaller_than_what_it_stands_on() {
    let mut scene = Scene::new();
    let store = open(scene.directory.path());
    let file = tempfile::tempfile().unwrap();
    file.set_len(5 << 30).unwrap();
    file.write_all_at(&[1; 4096], 0).unwrap();
    file.write_all_at(&[1; 4096], 9 << 29).unwrap();
    let (format, policy) = (Some(ImageFormat::Raw), BackingPolicy::Refuse);
    let source = ImageSource::open(file, None, format, policy).unwrap();
    let staged = store.import(&source, label(LayerKind::Image, "m-2"), &()).unwrap();
    let large = staged.layer();
    staged.publish().unwrap();
    drop(store);
    scene.names.layers.insert(large, ["m-2".to_owned()].into());
    let below = u128::from_str_radix(&large.to_string(), 16).unwrap().to_be_bytes();
    patch_header(&scene.file(scene.snapshot, "map"), |page| page[72..88].copy_from_slice(&below));
    let found = scene.look().found;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].kind, FindingKind::ChainSize, "{found:#?}");
}

#[test]
fn a_chain_of_more_layers_than_are_followed() {
    const LONGEST: u16 = 1024;
    let mut scene = Scene::new();
    reshape(&scene, scene.snapshot, SIZE);
    let header = fs::read(scene.file(scene.snapshot, "map")).unwrap()[..8192].to_vec();
    let mut below = [0; 16];
    for number in 1..=LONGEST + 1 {
        let mut own = [0xcc; 16];
        own[..2].copy_from_slice(&number.to_be_bytes());
        let layer = LayerId::from_bytes(own);
        fs::create_dir(scene.path(&format!("layers/{layer}"))).unwrap();
        fs::write(scene.file(layer, "data"), "").unwrap();
        fs::write(scene.file(layer, "map"), &header).unwrap();
        let files = [("data", 4096), ("map", 8192 + 4096)];
        for (name, length) in files {
            let file = fs::OpenOptions::new().write(true).open(scene.file(layer, name)).unwrap();
            file.set_len(length).unwrap();
        }
        patch_header(&scene.file(layer, "map"), |page| {
            page[24..32].copy_from_slice(&4096_u64.to_le_bytes());
            page[56..72].copy_from_slice(&own);
            page[72..88].copy_from_slice(&below);
        });
        below = own;
        if number == LONGEST {
            scene.names.layers.insert(layer, ["s-8".to_owned()].into());
            assert_eq!(scene.look().found, [], "{LONGEST} layers are as many as may be");
        }
    }
    scene.names.layers.insert(LayerId::from_bytes(below), ["s-9".to_owned()].into());
    scene.damaged(FindingKind::ChainDepth, &["s-9"]);
}
