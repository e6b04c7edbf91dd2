//! The files of a store: headers, map sectors and hash pages of layers, and the ledger.
//!
//! A small store is made once; an input is edits to one kind of its files (`edits`), after which the store is opened
//! and used. The first byte of the input says whether checksums are set right again afterwards.
//!
//! What must be true
//! 1. With the checksums left alone: a disk that is served reads as what was written to it, a hashed layer has its
//!    root. All else is refused. (A map sector of zeros reads as nothing: the stated limit.)
//! 2. In any case: what is served reads the same twice, and a write that was answered is there after the next open.

use std::{collections::BTreeMap, fs, io::Write, path::Path, sync::Arc};

use block_device::{BlockDevice, ByteLength, ByteOffset, Durability, ZeroMode};
use block_store::{
    BackingPolicy, FileStorage, ImageFormat, ImageSource, LayerId, LayerKind, LayerLabel,
    RequestId, Reset, Root, Store,
};
use tempfile::TempDir;
use tests::recorded_storage::scratch;

use crate::{campaign::Trial, edits};

const PAGE: usize = 4096;
/// A header ends with its checksum; a ledger record and a map sector are sectors that do.
const HEADER_CHECKED: usize = PAGE - 4;
const SECTOR: usize = 512;
const DISKS: [&str; 2] = ["d-1", "d-2"];
/// A fixed-up disk may claim to be large; what is read of it is bounded.
const LOOK_AT: usize = 1 << 20;

/// A store in which everything is in use: an image and a snapshot with hashes, heads, a reset.
struct Template {
    files: BTreeMap<String, Vec<u8>>,
    layers: Vec<LayerId>,
    content: BTreeMap<&'static str, Vec<u8>>,
    roots: BTreeMap<LayerId, Root>,
    /// Of a snapshot of each disk after [`use_it`] wrote to it: they rest on the hashes of the layers below.
    roots_after: BTreeMap<&'static str, Root>,
}

/// Edits to the map files of layers.
pub(crate) fn layers() -> Trial {
    let template = Template::make();
    Box::new(move |input| {
        let (first, rest) = input.split_first().unwrap_or((&0, &[]));
        let mut files = template.files.clone();
        let bases = [0, PAGE, 2 * PAGE, 3 * PAGE];
        for edit in edits::read(rest) {
            let layer = template.layers[edit.file % template.layers.len()];
            edit.apply(files.get_mut(&map_of(layer)).unwrap(), &bases);
        }
        for layer in &template.layers {
            let map = files.get_mut(&map_of(*layer)).unwrap();
            fix_map(map, *layer, *first);
        }
        let _ = template.check(&files, first & 7 == 0);
    })
}

/// Edits to the ledger.
pub(crate) fn ledger() -> Trial {
    let template = Template::make();
    Box::new(move |input| {
        let (first, rest) = input.split_first().unwrap_or((&0, &[]));
        let mut files = template.files.clone();
        let ledger = files.get_mut("ledger").unwrap();
        for edit in edits::read(rest) {
            edit.apply(ledger, &[0, PAGE, 2 * PAGE, 2 * PAGE, 3 * PAGE, 3 * PAGE, 4 * PAGE]);
        }
        if first & 1 != 0 {
            ledger.chunks_exact_mut(PAGE).take(2).for_each(fix_header);
        }
        if first & 2 != 0 {
            ledger.chunks_exact_mut(SECTOR).skip(2 * PAGE / SECTOR).for_each(fix_record);
        }
        let _ = template.check(&files, first & 3 == 0);
    })
}

fn map_of(layer: LayerId) -> String {
    format!("layers/{layer}/map")
}

fn fix_header(page: &mut [u8]) {
    let crc = crc32c::crc32c(&page[..HEADER_CHECKED]);
    page[HEADER_CHECKED..].copy_from_slice(&crc.to_le_bytes());
}

fn fix_record(sector: &mut [u8]) {
    if sector.iter().any(|byte| *byte != 0) {
        let crc = crc32c::crc32c(&sector[..SECTOR - 4]);
        sector[SECTOR - 4..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Sets right what the bits ask for: headers, words, hash pages.
fn fix_map(map: &mut [u8], layer: LayerId, what: u8) {
    let id = u128::from_str_radix(&layer.to_string(), 16).unwrap().to_be_bytes();
    if what & 1 != 0 {
        map.chunks_exact_mut(PAGE).take(2).for_each(fix_header);
    }
    if what & 2 != 0 {
        let words = map.get_mut(2 * PAGE..).unwrap_or_default();
        for (number, sector) in words.chunks_exact_mut(SECTOR).take(PAGE / SECTOR).enumerate() {
            if sector.iter().any(|byte| *byte != 0) {
                let crc = crc32c::crc32c_append(crc32c::crc32c(&sector[..504]), &id);
                let number = u64::try_from(number).unwrap().to_le_bytes();
                let crc = u64::from(crc32c::crc32c_append(crc, &number));
                sector[504..].copy_from_slice(&crc.to_le_bytes());
            }
        }
    }
    if what & 4 != 0 {
        for page in map.get_mut(3 * PAGE..).unwrap_or_default().chunks_exact_mut(PAGE) {
            let crc = crc32c::crc32c_append(crc32c::crc32c(&page[..4088]), &id);
            page[4088..4092].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

impl Template {
    fn make() -> Self {
        let directory = scratch();
        let store = create(directory.path());
        let mut template = Self {
            files: BTreeMap::new(),
            layers: Vec::new(),
            content: BTreeMap::new(),
            roots: BTreeMap::new(),
            roots_after: BTreeMap::new(),
        };
        template.fill(&store);
        store.wait_for_background();
        drop(store);
        collect(directory.path(), "", &mut template.files);
        template.layers = template.layers_by_role();
        template.roots_after = template.check(&template.files, true);
        assert_eq!(template.roots_after.len(), DISKS.len(), "all is well where nothing was edited");
        template
    }

    /// Ids are random; an input must mean the same layer each time.
    fn layers_by_role(&self) -> Vec<LayerId> {
        let maps = self.files.iter().filter(|(name, _)| name.ends_with("/map"));
        // Kind and disk of the header.
        let mut maps: Vec<_> = maps.map(|(name, map)| ((map[120], &map[128..160]), name)).collect();
        maps.sort();
        maps.iter().map(|(_, name)| name.split('/').nth(1).unwrap().parse().unwrap()).collect()
    }

    fn fill(&mut self, store: &Store) {
        let mut image = vec![0; 3 << 16];
        image[..20_000].fill(7);
        image[140_000..180_000].fill(9);
        let staged = store.import(&raw_image(&image), label(LayerKind::Image), &()).unwrap();
        let layer = staged.layer();
        staged.publish().unwrap();
        let mut first = image;
        first.resize(4 << 16, 0);
        for (name, base, size) in [("d-1", Some(layer), first.len()), ("d-2", None, 2 << 16)] {
            let size = ByteLength::new(u64::try_from(size).unwrap());
            store.create_disk(&name.parse().unwrap(), size, base).unwrap().publish().unwrap();
        }
        let mut second = vec![0; 2 << 16];
        let disk = store.open_disk(&"d-2".parse().unwrap()).unwrap();
        write(&*disk, &mut second, 512, &[3; 9_000]);
        store
            .snapshot::<()>(&"d-2".parse().unwrap(), label(LayerKind::Snapshot), |layer| {
                self.roots.insert(layer.unwrap(), Root::from_bytes([0; 32]));
                Ok(())
            })
            .unwrap();
        for (layer, root) in &mut self.roots {
            *root = store.hash_layer(*layer, &()).unwrap();
        }
        self.roots.insert(layer, store.hash_layer(layer, &()).unwrap());
        let disk = store.open_disk(&"d-2".parse().unwrap()).unwrap();
        write(&*disk, &mut second, 70_000 / 512 * 512, &[4; 1_024]);
        // Something that a reset leaves behind, and something of the epoch after it.
        let disk = store.open_disk(&"d-1".parse().unwrap()).unwrap();
        disk.write_at(&[5; 30_000 / 512 * 512], ByteOffset::new(4096), Durability::ForceUnitAccess)
            .unwrap();
        reset(store, "d-1", layer);
        let disk = store.open_disk(&"d-1".parse().unwrap()).unwrap();
        write(&*disk, &mut first, 65_536, &[6; 8_192]);
        let (start, length) = (ByteOffset::new(12_288), ByteLength::new(8_192));
        disk.write_zeroes(start, length, ZeroMode::Punch, Durability::ForceUnitAccess).unwrap();
        first[12_288..20_480].fill(0);
        self.content = BTreeMap::from([("d-1", first), ("d-2", second)]);
    }

    /// Opens and uses a store of these files; `unfixed` says that what is wrong in them has a wrong checksum. The roots
    /// of what was served come back.
    fn check(
        &self,
        files: &BTreeMap<String, Vec<u8>>,
        unfixed: bool,
    ) -> BTreeMap<&'static str, Root> {
        let directory = scratch();
        write_to(directory.path(), files);
        let exact = unfixed && !self.lost_a_sector(files);
        let Some(store) = open(directory.path()) else { return BTreeMap::new() };
        for name in DISKS {
            let Some(content) = read_twice(&store, name) else { continue };
            if exact {
                assert!(content == self.content[name], "{name} reads as something else");
            }
        }
        for layer in &self.layers {
            let _ = store.layer(*layer);
            if let (Ok(root), true, Some(known)) =
                (store.hash_layer(*layer, &()), exact, self.roots.get(layer))
            {
                assert_eq!(root, *known, "layer {layer} has another root");
            }
        }
        let roots = use_it(store, &directory);
        for (name, root) in &roots {
            if let (true, Some(known)) = (exact, self.roots_after.get(name)) {
                assert_eq!(root, known, "a snapshot of {name} has another root");
            }
        }
        roots
    }

    /// Whether words that were there are zeros now.
    fn lost_a_sector(&self, files: &BTreeMap<String, Vec<u8>>) -> bool {
        self.layers.iter().any(|layer| {
            let words = |map: &Vec<u8>| map.get(2 * PAGE..).unwrap_or_default().to_vec();
            let (before, now) =
                (words(&self.files[&map_of(*layer)]), words(&files[&map_of(*layer)]));
            let is_zero = |sector: &[u8]| sector.iter().all(|byte| *byte == 0);
            before.chunks(SECTOR).zip(now.chunks(SECTOR)).any(|(b, n)| !is_zero(b) && is_zero(n))
        })
    }
}

/// Writes to what is served, takes a snapshot, closes, and expects what was written there. The roots of the snapshots
/// come back.
fn use_it(store: Store, directory: &TempDir) -> BTreeMap<&'static str, Root> {
    let (mut written, mut roots) = (Vec::new(), BTreeMap::new());
    for name in DISKS {
        let Ok(disk) = store.open_disk(&name.parse().unwrap()) else { continue };
        let data = vec![0xa5; 4096.min(size_of(&*disk))];
        if disk.write_at(&data, ByteOffset::ZERO, Durability::ForceUnitAccess).is_ok() {
            written.push((name, data));
        }
        let label = label(LayerKind::Snapshot);
        let snapshot = store.snapshot::<()>(&name.parse().unwrap(), label, |_| Ok(()));
        // Of a disk that took no write the snapshot is another one than the known.
        let took_it = written.iter().any(|(written, _)| *written == name);
        if let (Ok(Some(layer)), true) = (snapshot, took_it) {
            roots.extend(store.hash_layer(layer, &()).ok().map(|root| (name, root)));
        }
    }
    store.wait_for_background();
    drop(store);
    let Some(store) = open(directory.path()) else {
        assert!(written.is_empty(), "a store that took writes does not open");
        return roots;
    };
    for (name, data) in written {
        let disk = store.open_disk(&name.parse().unwrap());
        let disk = disk.unwrap_or_else(|error| panic!("{name} took a write: {error}"));
        let mut found = vec![0; data.len()];
        disk.read_at(&mut found, ByteOffset::ZERO).unwrap();
        assert!(found == data, "{name} lost a write");
    }
    roots
}

fn open(directory: &Path) -> Option<Store> {
    let store = Store::open(Arc::new(FileStorage::open(directory).unwrap())).ok()?;
    store.settle_alone().ok()?;
    Some(store)
}

fn size_of(disk: &dyn BlockDevice) -> usize {
    usize::try_from(disk.size().get()).unwrap()
}

/// What the disk reads as, if it can be read.
fn read_twice(store: &Store, name: &str) -> Option<Vec<u8>> {
    let disk = store.open_disk(&name.parse().unwrap()).ok()?;
    let length = size_of(&*disk).min(LOOK_AT);
    let (mut once, mut twice) = (vec![0; length], vec![1; length]);
    disk.read_at(&mut once, ByteOffset::ZERO).ok()?;
    disk.read_at(&mut twice, ByteOffset::ZERO).expect("it was read before");
    assert!(once == twice, "{name} reads differently each time");
    Some(once)
}

fn create(directory: &Path) -> Store {
    let storage = Arc::new(FileStorage::open(directory).unwrap());
    Store::create(&*storage).unwrap();
    let store = Store::open(storage).unwrap();
    store.settle_alone().unwrap();
    store
}

fn write(disk: &dyn BlockDevice, content: &mut [u8], at: usize, data: &[u8]) {
    let data = &data[..data.len() / 512 * 512];
    let offset = ByteOffset::new(u64::try_from(at).unwrap());
    disk.write_at(data, offset, Durability::ForceUnitAccess).unwrap();
    content[at..at + data.len()].copy_from_slice(data);
}

fn reset(store: &Store, name: &str, base: LayerId) {
    let reset = Reset {
        disk: name.parse().unwrap(),
        base: Some(base),
        request_id: RequestId::from_bytes([1; 16]),
        time: std::time::SystemTime::UNIX_EPOCH,
    };
    store.reset(&[reset]).pop().unwrap().unwrap();
}

fn raw_image(content: &[u8]) -> ImageSource {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    ImageSource::open(file, None, Some(ImageFormat::Raw), BackingPolicy::Refuse).unwrap()
}

fn label(kind: LayerKind) -> LayerLabel {
    LayerLabel { kind, id: "x-1".into(), account: "lab".into(), name: "fuzz".into() }
}

fn collect(root: &Path, below: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(root, &format!("{name}/"), files);
        } else if name != "lock" {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

fn write_to(root: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, content) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}
