//! Repair: what is proved is put right, everything else is left and told, and what is whole stays as it is.

use std::{collections::BTreeMap, fs, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use block_store::{
    CommitError, FileStorage, FindingKind, LayerId, LayerKind, RepairMode, RepairState, Repaired,
    Severity, Storage, StoreError, repair_structure,
};

use crate::{
    Scene, content, flip, id, import, label, open, patch_header, patch_records, reads, write,
};

impl Scene {
    fn repair(&self) -> Repaired {
        self.run_repair(RepairMode::Apply)
    }

    fn run_repair(&self, mode: RepairMode) -> Repaired {
        let storage: Arc<dyn Storage> = Arc::new(FileStorage::open(self.directory.path()).unwrap());
        repair_structure(&storage, Some(&self.names), mode, &()).unwrap()
    }

    /// All bytes, but for the lock, which names who had it last.
    fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let all = content(self.directory.path()).into_iter();
        all.filter(|(path, _)| !path.ends_with("lock"))
            .map(|(path, (bytes, _))| (path, bytes))
            .collect()
    }

    /// One step, which brings every byte back to what it was; a dry run tells it and does nothing.
    fn is_brought_back(&self, damage: impl Fn(&Self)) {
        let right = self.bytes();
        damage(self);
        let broken = content(self.directory.path());
        let told = self.run_repair(RepairMode::DryRun);
        assert!(content(self.directory.path()) == broken, "a dry run changed the store");
        assert_eq!(told.repairs.len(), 1, "{told:#?}");
        assert_eq!(told.repairs[0].state, RepairState::Planned);
        let done = self.repair();
        assert_eq!(done.repairs.len(), 1, "{done:#?}");
        assert_eq!(done.repairs[0].state, RepairState::Done, "{done:#?}");
        assert_eq!(done.repairs[0].action, told.repairs[0].action);
        assert_eq!(done.left.found, []);
        assert!(self.bytes() == right, "not what was there before");
        assert_eq!(self.repair().repairs, [], "there is nothing more to do");
    }

    /// Nothing is done, and the damage is told as before.
    fn is_left(&self, kind: FindingKind) {
        let before = self.bytes();
        let told = self.look().found;
        let left = self.repair();
        assert_eq!(left.repairs, [], "{left:#?}");
        assert_eq!(left.left.found, told);
        assert!(told.iter().any(|found| found.kind == kind), "{told:#?}");
        assert!(self.bytes() == before, "it was not left as it was");
    }
}

#[test]
fn what_is_whole_stays_as_it_is_to_the_byte() {
    let scene = Scene::new();
    let before = scene.bytes();
    let repaired = scene.repair();
    assert_eq!((repaired.repairs, repaired.left.found), (vec![], vec![]));
    assert!(scene.bytes() == before);
}

#[test]
fn a_header_of_the_ledger() {
    for place in [100, 4096 + 100] {
        Scene::new().is_brought_back(|scene| flip(&scene.path("ledger"), place, 2));
    }
}

#[test]
fn a_header_of_a_sealed_and_hashed_layer() {
    for (copy, byte) in [(0, 300), (4096, 300), (0, 2), (4096, 4094)] {
        let scene = Scene::new();
        let map = scene.file(scene.snapshot, "map");
        let older = newer_copy(&map) != copy;
        flip(&map, copy + byte, 1);
        let done = scene.repair();
        // The older copy said less: that the layer was not hashed yet.
        assert_eq!(done.repairs.len(), usize::from(older), "{copy}: {done:#?}");
        if older {
            assert_eq!(done.left.found, []);
            let whole = fs::read(&map).unwrap();
            assert_eq!(whole[24..4092], whole[4096 + 24..8188], "both say the same");
        } else {
            assert!(done.left.found.iter().all(|found| found.kind == FindingKind::LayerHeaderCopy));
        }
        assert!(reads(scene.directory.path()).iter().all(Option::is_some));
    }
}

fn newer_copy(map: &std::path::Path) -> u64 {
    let bytes = fs::read(map).unwrap();
    let sequence =
        |copy: usize| u64::from_le_bytes(bytes[copy + 16..copy + 24].try_into().unwrap());
    if sequence(0) > sequence(4096) { 0 } else { 4096 }
}

#[test]
fn a_flipped_bit_of_a_ledger_record() {
    for (page, byte, bit) in
        [(8192, 80, 3), (12288, 80, 3), (8192, 16, 0), (12288, 509, 7), (8192, 200, 5)]
    {
        Scene::new().is_brought_back(|scene| flip(&scene.path("ledger"), page + byte, bit));
    }
}

#[test]
fn of_a_record_that_is_more_than_a_bit_wrong_nothing_is_guessed() {
    for page in [8192, 12288] {
        let scene = Scene::new();
        flip(&scene.path("ledger"), page + 80, 3);
        flip(&scene.path("ledger"), page + 90, 3);
        scene.is_left(FindingKind::LedgerRecord);

        let scene = Scene::new();
        let ledger = fs::OpenOptions::new().write(true).open(scene.path("ledger")).unwrap();
        ledger.write_all_at(&[0; 512], page).unwrap();
        scene.is_left(FindingKind::LedgerRecord);
    }
    // A record of long ago with one bit flipped is not the one that belongs there.
    let scene = Scene::new();
    patch_records(&scene.path("ledger"), 0, |record| {
        record[16] += if record[16] % 2 == 1 { 4 } else { 0 };
    });
    flip(&scene.path("ledger"), 8192 + 80, 3);
    scene.is_left(FindingKind::LedgerRecord);
    // Both broken.
    let scene = Scene::new();
    flip(&scene.path("ledger"), 8192 + 80, 3);
    flip(&scene.path("ledger"), 12288 + 80, 3);
    scene.is_left(FindingKind::LedgerRecord);
}

#[test]
fn damage_of_layers_is_left() {
    let scene = Scene::new();
    flip(&scene.file(scene.head, "map"), 8192 + 504, 1);
    scene.is_left(FindingKind::MapSector);

    let scene = Scene::new();
    patch_header(&scene.file(scene.head, "map"), |page| page[32] = 1);
    scene.is_left(FindingKind::MapWord);

    let scene = Scene::new();
    let length = fs::metadata(scene.file(scene.snapshot, "map")).unwrap().len();
    flip(&scene.file(scene.snapshot, "map"), length - 4096 + 20, 1);
    scene.is_left(FindingKind::HashTable);

    // A head may have said more in the broken copy.
    let scene = Scene::new();
    flip(&scene.file(scene.head, "map"), 300, 1);
    scene.is_left(FindingKind::LayerHeaderCopy);
}

#[test]
fn an_owner_table_that_is_wrong_goes_and_comes_back() {
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
    let right = fs::read(&table).unwrap();
    assert_eq!(scene.repair().repairs, [], "a table that is right stays");
    assert!(fs::read(&table).unwrap() == right);
    let places = [8, 4096, u64::try_from(right.len()).unwrap() - 300];
    for place in places {
        flip(&table, place, 0);
        let done = scene.repair();
        assert_eq!(done.repairs.len(), 1, "{done:#?}");
        assert!(!table.exists());
        let store = open(scene.directory.path());
        drop(store.open_disk(&id("d-2")).unwrap());
        store.wait_for_background();
        drop(store);
        assert!(fs::read(&table).unwrap() == right, "made anew");
    }
}

#[test]
fn what_interrupted_operations_left_is_removed() {
    let gone = LayerId::from_bytes([3; 16]);
    for name in [format!("layers/{gone}.new"), format!("layers/{gone}.old")] {
        Scene::new().is_brought_back(|scene| {
            fs::create_dir(scene.path(&name)).unwrap();
            fs::write(scene.path(&format!("{name}/data")), "half").unwrap();
        });
    }
    for name in ["ledger.new", "scrub.new"] {
        Scene::new().is_brought_back(|scene| fs::write(scene.path(name), "half").unwrap());
    }
    Scene::new().is_brought_back(|scene| {
        fs::write(scene.file(scene.snapshot, "owners.new"), "half").unwrap();
    });
    // Not with somebody else's file in it.
    let scene = Scene::new();
    fs::create_dir(scene.path(&format!("layers/{gone}.old"))).unwrap();
    fs::write(scene.path(&format!("layers/{gone}.old/letter")), "mine").unwrap();
    scene.is_left(FindingKind::Remains);
}

/// A layer nobody names, with this mark.
fn with_a_marked_layer(mark: &str) -> (Scene, LayerId) {
    let scene = Scene::new();
    let layer = import(&open(scene.directory.path()), 8);
    fs::write(scene.file(layer, mark), "").unwrap();
    (scene, layer)
}

#[test]
fn a_marked_layer_goes_only_when_all_that_could_need_it_is_known() {
    for mark in ["unfinished", "deleting"] {
        let (scene, layer) = with_a_marked_layer(mark);
        let done = scene.repair();
        assert_eq!(done.repairs.len(), 1, "{done:#?}");
        assert_eq!(done.repairs[0].thing, format!("layer {layer}"));
        assert!(!scene.path(&format!("layers/{layer}")).exists());
        assert_eq!(done.left.found, []);
    }
    let stays = |scene: Scene, layer: LayerId, why: &str| {
        let done = scene.repair();
        assert!(
            done.repairs.iter().all(|repair| repair.thing != format!("layer {layer}")),
            "{why}"
        );
        assert!(scene.file(layer, "data").exists(), "{why}");
    };
    let (mut scene, layer) = with_a_marked_layer("deleting");
    scene.names.layers.insert(layer, ["m-9".to_owned()].into());
    stays(scene, layer, "an image names it");
    let (mut scene, layer) = with_a_marked_layer("deleting");
    scene.names.may_be_older = true;
    stays(scene, layer, "the catalog may be an older one");
    let (scene, layer) = with_a_marked_layer("deleting");
    flip(&scene.path("ledger"), 8192 + 80, 3);
    flip(&scene.path("ledger"), 8192 + 90, 3);
    stays(scene, layer, "a record nobody can read may name it");
    let (scene, layer) = with_a_marked_layer("deleting");
    let parent = layer.to_bytes();
    patch_header(&scene.file(scene.snapshot, "map"), |page| page[72..88].copy_from_slice(&parent));
    stays(scene, layer, "a snapshot stands on it");
    for (mark, why) in [("deleting", "a head"), ("unfinished", "a head")] {
        let scene = Scene::new();
        fs::write(scene.file(scene.head, mark), "").unwrap();
        let head = scene.head;
        stays(scene, head, why);
    }
    let scene = Scene::new();
    let layer = import(&open(scene.directory.path()), 8);
    stays(scene, layer, "it has no mark");
}

#[test]
fn without_a_catalog_no_layer_goes() {
    let (scene, layer) = with_a_marked_layer("deleting");
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::open(scene.directory.path()).unwrap());
    let done = repair_structure(&storage, None, RepairMode::Apply, &()).unwrap();
    assert_eq!(done.repairs, []);
    assert!(scene.file(layer, "data").exists());
}

#[test]
fn a_store_that_somebody_has_open_is_not_repaired() {
    let scene = Scene::new();
    flip(&scene.path("ledger"), 100, 0);
    let _open = open(scene.directory.path());
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::open(scene.directory.path()).unwrap());
    for mode in [RepairMode::DryRun, RepairMode::Apply] {
        let refused = repair_structure(&storage, None, mode, &()).unwrap_err();
        assert!(matches!(refused, StoreError::Locked { .. }), "{refused:?}");
    }
    assert!(scene.path("ledger").exists());
}

/// Whatever bit flips: after a repair nothing is worse, and what reads reads as before.
#[test]
fn no_flipped_bit_is_repaired_into_something_else() {
    let scene = Scene::new();
    let right = reads(scene.directory.path());
    let whole = scene.bytes();
    let mut seed = 3;
    for trial in 0..200 {
        let maps = whole.keys().filter(|path| path.ends_with("map") || path.ends_with("ledger"));
        let files: Vec<_> = maps.collect();
        let path = files[usize::try_from(crate::next(&mut seed)).unwrap() % files.len()];
        let used = whole[path].len().min(16384);
        let place = crate::next(&mut seed) % u64::try_from(used).unwrap();
        let bit = u8::try_from(crate::next(&mut seed) % 8).unwrap();
        flip(path, place, bit);
        let before = scene.look().found;
        let repaired = scene.repair();
        let worse: Vec<_> = repaired.left.found.iter().filter(|f| !before.contains(f)).collect();
        assert!(worse.is_empty(), "trial {trial}: {worse:#?}");
        let read = reads(scene.directory.path());
        for (now, right) in read.iter().zip(&right) {
            assert!(
                now.is_none() || now == right,
                "trial {trial}: bit {bit} of {place} in {path:?}"
            );
        }
        let is_told = repaired.left.found.iter().any(|found| found.severity == Severity::Damage);
        assert!(is_told || read == right, "trial {trial}: bit {bit} of {place} in {path:?}");
        fs::write(path, &whole[path]).unwrap();
    }
}
