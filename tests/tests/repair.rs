//! A repair that is cut short: by a failing call or by a power cut at any of its changes the store is as good as it
//! was, or better, and the next repair ends what this one began.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeSet, io::IoSlice, path::Path, sync::Arc};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability};
use block_store::{
    CatalogNames, CommitError, FileStorage, LayerId, LayerKind, LayerLabel, RepairMode,
    RepairState, Repaired, Storage, Store, check_structure, repair_structure,
};
use tests::{
    faulty_storage::{CHANGES, ERRNOS},
    recorded_storage::{RecordedStorage, scratch},
};

const SIZE: u64 = 1 << 20;

/// A store at rest with one of each thing that can be repaired.
struct Broken {
    storage: Arc<RecordedStorage>,
    names: CatalogNames,
    /// What the disks read as, once they are served again.
    right: Vec<Option<u32>>,
}

fn id(name: &str) -> DiskId {
    name.parse().unwrap()
}

fn snapshot(store: &Store, disk: &str, content: u8, offset: u64) -> LayerId {
    let handle = store.open_disk(&id(disk)).unwrap();
    handle
        .write_at(&[content; 4096], ByteOffset::new(offset), Durability::ForceUnitAccess)
        .unwrap();
    drop(handle);
    let label = LayerLabel {
        kind: LayerKind::Snapshot,
        id: format!("s-{content}"),
        account: "lab".into(),
        name: String::new(),
    };
    let layer =
        store.snapshot(&id(disk), label, |_| Ok::<_, CommitError<()>>(())).unwrap().unwrap();
    store.hash_layer(layer, &()).unwrap();
    layer
}

fn flip(storage: &dyn Storage, path: &str, place: u64) {
    let file = storage.open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[IoSlice::new(&[byte[0] ^ 4])], place).unwrap();
    file.sync_data().unwrap();
}

impl Broken {
    fn new() -> Self {
        let storage = RecordedStorage::empty();
        Store::create(&*storage).unwrap();
        let store = Store::open(storage.clone()).unwrap();
        store.settle_alone().unwrap();
        for disk in ["d-1", "d-2"] {
            store.create_disk(&id(disk), ByteLength::new(SIZE), None).unwrap().publish().unwrap();
        }
        let layers: Vec<_> = (1..=3)
            .map(|content| snapshot(&store, "d-1", content, u64::from(content) << 16))
            .collect();
        let needless = snapshot(&store, "d-2", 9, 0);
        let order = block_store::Reset {
            disk: id("d-2"),
            base: None,
            request_id: block_store::RequestId::from_bytes([1; 16]),
            time: std::time::SystemTime::now(),
        };
        store.reset(&[order]).remove(0).unwrap();
        drop(store.open_disk(&id("d-1")).unwrap());
        store.wait_for_background();
        drop(store);
        let names = CatalogNames {
            disks: ["d-1", "d-2"].map(id).into(),
            layers: layers.iter().map(|layer| (*layer, ["s".to_owned()].into())).collect(),
            may_be_older: false,
        };
        let right = reads(storage.path());
        let it = &*storage;
        flip(it, "ledger", 50);
        flip(it, "ledger", 8192 + 80);
        flip(it, &format!("layers/{}/map", layers[0]), older_copy(it, layers[0]) + 300);
        flip(it, &format!("layers/{}/owners", layers[2]), 4096);
        it.create(&format!("layers/{needless}/deleting")).unwrap();
        it.sync_dir(&format!("layers/{needless}")).unwrap();
        let old = format!("layers/{}.old", LayerId::from_bytes([5; 16]));
        it.create_dir(&old).unwrap();
        it.create(&format!("{old}/data")).unwrap();
        it.create("scrub.new").unwrap();
        ["", "layers", &old].into_iter().for_each(|path| it.sync_dir(path).unwrap());
        Self { storage, names, right }
    }

    fn repair(&self, storage: &Arc<dyn Storage>) -> Repaired {
        repair_structure(storage, Some(&self.names), RepairMode::Apply, &()).unwrap()
    }

    /// What is wrong, each thing by what it is.
    fn told(&self, storage: &Arc<dyn Storage>) -> BTreeSet<(String, String)> {
        let found = check_structure(storage, Some(&self.names), &()).unwrap().found;
        found.into_iter().map(|f| (format!("{:?}", f.kind), f.thing)).collect()
    }

    /// What is left of an interrupted repair: nothing worse, and the next one makes it whole.
    fn is_no_worse(&self, path: &Path, before: &BTreeSet<(String, String)>, what: &str) {
        let storage: Arc<dyn Storage> = Arc::new(FileStorage::open(path).unwrap());
        let now = self.told(&storage);
        let worse: Vec<_> = now.difference(before).filter(|(kind, _)| kind != "Remains").collect();
        assert!(worse.is_empty(), "{what}: {worse:?}");
        let again = self.repair(&storage);
        assert!(
            again.repairs.iter().all(|step| step.state == RepairState::Done),
            "{what}: {again:#?}"
        );
        assert!(again.left.found.is_empty(), "{what}: {:#?}", again.left.found);
        assert_eq!(reads(path), self.right, "{what}");
    }
}

fn older_copy(storage: &dyn Storage, layer: LayerId) -> u64 {
    let file = storage.open(&format!("layers/{layer}/map")).unwrap();
    let sequence = |copy: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, copy + 16).unwrap();
        u64::from_le_bytes(bytes)
    };
    if sequence(0) < sequence(4096) { 0 } else { 4096 }
}

/// What the disks read as; none where one is refused.
fn reads(path: &Path) -> Vec<Option<u32>> {
    let store = Store::open(Arc::new(FileStorage::open(path).unwrap())).unwrap();
    let read = |disk| {
        let handle = store.open_disk(&id(disk)).ok()?;
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
        handle.read_at(&mut bytes, ByteOffset::ZERO).ok()?;
        Some(crc32c::crc32c(&bytes))
    };
    ["d-1", "d-2"].map(read).into()
}

#[test]
fn every_change_of_a_repair_may_fail() {
    let mut nth = 0;
    loop {
        nth += 1;
        let broken = Broken::new();
        let storage: Arc<dyn Storage> = broken.storage.clone();
        let before = broken.told(&storage);
        broken.storage.faults().arm(CHANGES, nth, ERRNOS[nth % 4]);
        let repaired = broken.repair(&storage);
        let Some(struck) = broken.storage.faults().disarm() else {
            assert_eq!(repaired.repairs.len(), 7, "all of it is tried: {repaired:#?}");
            assert_eq!(repaired.left.found, []);
            break;
        };
        let failed = |step: &&block_store::Repair| matches!(step.state, RepairState::Failed(_));
        assert_eq!(repaired.repairs.iter().filter(failed).count(), 1, "{nth}: {repaired:#?}");
        broken.is_no_worse(broken.storage.path(), &before, &format!("change {nth}, {struck:?}"));
    }
    assert!(nth > 20, "only {nth} changes");
}

#[test]
fn power_may_fail_at_every_change_of_a_repair() {
    let broken = Broken::new();
    let storage: Arc<dyn Storage> = broken.storage.clone();
    let (before, first) = (broken.told(&storage), broken.storage.moment());
    broken.repair(&storage);
    let last = broken.storage.moment();
    assert!(last - first > 20, "only {} changes", last - first);
    for moment in first..=last {
        for seed in 0..3 {
            for unit in [512, 4096] {
                let directory = scratch();
                broken.storage.cut(moment, seed, unit).write_to(directory.path());
                let what = format!("moment {moment}, seed {seed}, unit {unit}");
                broken.is_no_worse(directory.path(), &before, &what);
            }
        }
    }
}
