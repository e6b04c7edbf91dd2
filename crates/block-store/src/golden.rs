//! The bytes this program writes for given content, held against those of format version 1 under
//! `tests/golden/v1`.
//!
//! What must always hold: a map file and a ledger made of the same names, times and words are the
//! same bytes for ever; another byte is another format, and needs another version. With
//! `WRITE_GOLDEN=1` files that are missing are written; existing ones never are.
//! Left to others: that files of old are read (`golden` in the harness of the tests).

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use block_device::ByteLength;

use crate::{
    cluster_map::ClusterMap,
    file_storage::FileStorage,
    geometry::{ClusterIndex, Geometry},
    hash_table,
    header::{HashSummary, Header, LayerKind, LayerLabel, LayerState, StoredHeader},
    id::{Epoch, EpochTag, LayerId, RequestId, Root},
    layer_files::LayerFiles,
    ledger::{self, Ledger},
    ledger_record::{DiskRecord, LastReset, SlotState},
    storage::{Storage, StorageFile},
    word::{Blocks, Word},
};

const LAYER: LayerId = LayerId::from_bytes(*b"\x01the layer's id\x02");
const PARENT: LayerId = LayerId::from_bytes(*b"\x03its parent's id");

fn geometry() -> Geometry {
    Geometry::checked(ByteLength::new(100 * 65536 - 512)).unwrap()
}

fn header() -> Header {
    Header {
        layer: LAYER,
        parent: Some(PARENT),
        geometry: geometry(),
        state: LayerState::Open,
        epoch: Epoch::new(0x0102_0304_0506_0708),
        ledger_sequence: 12,
        disk: Some("d-golden".parse().unwrap()),
        label: LayerLabel {
            kind: LayerKind::Head,
            id: String::new(),
            account: String::new(),
            name: String::new(),
        },
        hashes: None,
    }
}

/// A head that is sealed, hashed and labelled, each step of it written over the older copy.
fn write_map(storage: &dyn Storage) {
    let (files, mut stored) = LayerFiles::create(storage, header()).unwrap();
    let highest = EpochTag(0x0506_0708);
    let map = ClusterMap::of_head(files.map.clone(), LAYER, geometry(), highest).unwrap();
    let word = |tag, data, zero| Word::new(EpochTag(tag), Blocks { data, zero });
    map.persist(&[
        (ClusterIndex(0), word(0x0506_0708, 0x8001, 0x0100)),
        (ClusterIndex(62), word(7, 0, 0xffff)),
        (ClusterIndex(63), word(0x0506_0708, 0xf00f, 0)),
        (ClusterIndex(99), word(1, 1, 0)),
    ])
    .unwrap();
    let label = LayerLabel {
        kind: LayerKind::Snapshot,
        id: "s-golden".into(),
        account: "an account".into(),
        name: "数据盘".into(),
    };
    let sealed = Header { state: LayerState::Sealed, label, ..header() };
    stored.write(&*files.map, sealed.clone()).unwrap();
    let hashes: Vec<_> = [(0, [0xab; 32]), (63, [0xcd; 32])].into();
    hash_table::write(&*files.map, &sealed, &hashes).unwrap();
    let hashes = Some(HashSummary { root: Root::from_bytes([0xef; 32]), entries: 2 });
    stored.write(&*files.map, Header { hashes, ..sealed }).unwrap();
}

fn record(disk: &str, last_reset: Option<LastReset>) -> DiskRecord {
    DiskRecord {
        disk: disk.parse().unwrap(),
        geometry: geometry(),
        epoch: Epoch::new(0x0102_0304_0506_0708),
        base: Some(PARENT),
        head: Some(LAYER),
        last_reset,
    }
}

/// One slot in each state, one of them in a second pair of pages.
fn write_ledger(storage: &dyn Storage) {
    Ledger::create(storage).unwrap();
    let (ledger, _) = Ledger::open(storage).unwrap();
    let slots: Vec<_> = (0..10).map(|_| ledger.take_slot().unwrap()).collect();
    let reset = LastReset {
        request_id: RequestId::from_bytes(*b"a request's id.."),
        time: SystemTime::UNIX_EPOCH + Duration::new(1_790_000_000, 123_456_789),
        epoch_before: Epoch::new(0x0102_0304_0506_0707),
        base: Some(PARENT),
    };
    let live = SlotState::Live(record("d-live", None));
    ledger.commit(&[(slots[0], SlotState::Creating(record("d-creating", None)))]).unwrap();
    ledger.commit(&[(slots[1], live.clone()), (slots[2], live)]).unwrap();
    ledger.commit(&[(slots[1], SlotState::Live(record("d-live", Some(reset))))]).unwrap();
    ledger.commit(&[(slots[2], SlotState::Free)]).unwrap();
    ledger.commit(&[(slots[9], SlotState::Deleting(record("d-deleting", None)))]).unwrap();
}

/// The file has the checked-in bytes, and zeros after them up to its length.
fn check(name: &str, file: &dyn StorageFile, length: usize) {
    let mut written = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    file.read_exact_at(&mut written, 0).unwrap();
    assert_eq!(written.len(), length, "{name}");
    let end = written.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name);
    if std::env::var_os("WRITE_GOLDEN").is_some() && !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &written[..end]).unwrap();
    }
    let golden = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let wrong = (0..end.max(golden.len())).find(|at| golden.get(*at) != written[..end].get(*at));
    assert_eq!(wrong, None, "{name}: the first byte that is written otherwise");
}

#[test]
fn a_map_is_written_as_ever() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::open(directory.path()).unwrap();
    storage.create_dir("layers").unwrap();
    write_map(&storage);
    let map = storage.open(&format!("layers/{LAYER}.new/map")).unwrap();
    check("map", &*map, 12288 + 4096);
    // Not only written: what is read of it is what was meant.
    let header = StoredHeader::read(&*map, LAYER).unwrap().header;
    assert_eq!((header.epoch, header.label.name.as_str()), (self::header().epoch, "数据盘"));
    assert_eq!(hash_table::read(&*map, LAYER).unwrap().unwrap()[1], (63, [0xcd; 32]));
}

#[test]
fn a_ledger_is_written_as_ever() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::open(directory.path()).unwrap();
    write_ledger(&storage);
    check("ledger", &*storage.open(ledger::FILE).unwrap(), 8192 + 256 * 1024);
    let (_, contents) = Ledger::open(&storage).unwrap();
    assert_eq!((contents.slots.len(), contents.damaged.len()), (3, 0));
}
