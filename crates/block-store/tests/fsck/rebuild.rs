//! Rebuild: a lost ledger comes back from the headers, every disk of it closed until somebody chose; nothing
//! that can be read is replaced, and nothing stale is ever served unasked.

use std::{fs, os::unix::fs::FileExt, sync::Arc};

use block_device::{BlockDevice, ByteOffset, Durability};
use block_store::{
    Accepted, Epoch, FileStorage, FindingKind, Rebuild, RequestId, Storage, StoreError, Survey,
    accept_disk,
};

use crate::{SIZE, Scene, id, open, patch_header, reads, reset, write};

const DISKS: [&str; 3] = ["d-1", "d-2", "d-3"];

impl Scene {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(FileStorage::open(self.directory.path()).unwrap())
    }

    fn rebuild(&self) -> (Survey, Option<String>) {
        let rebuild = Rebuild::begin(self.storage()).unwrap();
        let survey = rebuild.survey(None).unwrap();
        let aside = rebuild.make_ledger(&survey).unwrap();
        (survey, aside)
    }

    fn accept(&self, disk: &str, accepted: Accepted) -> Result<(), StoreError> {
        accept_disk(&self.storage(), &id(disk), accepted).map(drop)
    }

    /// What a disk reads as.
    fn content_of(&self, disk: &str) -> Vec<u8> {
        let handle = open(self.directory.path()).open_disk(&id(disk)).unwrap();
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
        handle.read_at(&mut bytes, ByteOffset::ZERO).unwrap();
        bytes
    }
}

fn origin(base: Option<block_store::LayerId>) -> Accepted {
    let (request_id, time) = (RequestId::from_bytes([7; 16]), std::time::SystemTime::now());
    Accepted::Origin { base, request_id, time }
}

#[test]
fn a_lost_ledger_comes_back_and_every_disk_is_closed_until_somebody_chose() {
    for is_gone in [true, false] {
        let scene = Scene::new();
        let right = reads(scene.directory.path());
        let ledger = scene.path("ledger");
        let lost = {
            let file = fs::OpenOptions::new().write(true).open(&ledger).unwrap();
            [0, 4096].into_iter().for_each(|place| file.write_all_at(&[9; 8], place).unwrap());
            fs::read(&ledger).unwrap()
        };
        if is_gone {
            fs::remove_file(&ledger).unwrap();
        }
        let (survey, aside) = scene.rebuild();
        assert_eq!((survey.disks.len(), survey.layers.len()), (3, 2));
        assert_eq!((survey.lost, survey.spare_heads), (vec![], vec![]));
        assert_eq!(aside.is_some(), !is_gone);
        if let Some(aside) = aside {
            assert!(fs::read(scene.path(&aside)).unwrap() == lost, "kept to the byte");
        }
        let found = scene.look().found;
        assert!(found.iter().all(|found| found.kind == FindingKind::ClosedDisk), "{found:#?}");
        assert_eq!(found.len(), 3);
        let store = open(scene.directory.path());
        for disk in DISKS {
            let refused = store.open_disk(&id(disk)).unwrap_err().to_string();
            assert!(refused.contains(&format!("reinit fsck --accept {disk}")), "{refused}");
            assert!(store.delete_disk(&id(disk)).is_err(), "an undone delete would open it");
            assert_eq!(store.disk(&id(disk)).unwrap().size.get(), SIZE);
        }
        let order = block_store::Reset {
            disk: id("d-1"),
            base: None,
            request_id: RequestId::from_bytes([1; 16]),
            time: std::time::SystemTime::now(),
        };
        assert!(store.reset(&[order]).remove(0).is_err());
        drop(store);
        // A start changed nothing of it.
        assert_eq!(scene.look().found.len(), 3);
        for disk in DISKS {
            scene.accept(disk, Accepted::AsFound).unwrap();
        }
        assert_eq!(reads(scene.directory.path()), right);
        assert_eq!(scene.look().found, []);
        assert!(matches!(scene.accept("d-1", Accepted::AsFound), Err(StoreError::DiskExists(_))));
        assert!(matches!(scene.accept("d-9", Accepted::AsFound), Err(StoreError::UnknownDisk(_))));
        // And it goes on as any other store: what was flushed stays, a reset takes all of it away.
        let store = open(scene.directory.path());
        write(&store, "d-1", 4, 0);
        drop(store);
        assert_eq!(scene.content_of("d-1")[..8], [4; 8]);
        let store = open(scene.directory.path());
        reset(&store, "d-1", Some(scene.image));
        drop(store);
        assert_eq!(scene.content_of("d-1")[..3 << 20], [9; 3 << 20]);
        assert!(scene.content_of("d-1")[3 << 20..].iter().all(|byte| *byte == 0));
        assert_eq!(scene.look().found, []);
    }
}

/// Resets `d-1` once more, and puts its head's map back to what it was before: the header of a head that did not
/// follow the reset before the power went.
fn with_a_header_from_before_the_reset() -> (Scene, Vec<u8>) {
    let scene = Scene::new();
    let before = scene.content_of("d-1");
    let map = fs::read(scene.file(scene.head, "map")).unwrap();
    let store = open(scene.directory.path());
    reset(&store, "d-1", Some(scene.image));
    drop(store);
    fs::write(scene.file(scene.head, "map"), map).unwrap();
    fs::remove_file(scene.path("ledger")).unwrap();
    scene.rebuild();
    (scene, before)
}

#[test]
fn a_header_older_than_the_last_reset_is_served_only_by_choice() {
    let (scene, before) = with_a_header_from_before_the_reset();
    scene.accept("d-1", Accepted::AsFound).unwrap();
    assert!(scene.content_of("d-1") == before);
    let store = open(scene.directory.path());
    reset(&store, "d-1", Some(scene.image));
    let handle = store.open_disk(&id("d-1")).unwrap();
    handle.write_at(&[5; 512], ByteOffset::new(4 << 20), Durability::ForceUnitAccess).unwrap();
    drop((handle, store));
    let mut expected = vec![0; usize::try_from(SIZE).unwrap()];
    expected[..3 << 20].fill(9);
    expected[4 << 20..(4 << 20) + 512].fill(5);
    assert!(scene.content_of("d-1") == expected, "nothing of before a reset shows");
}

#[test]
fn back_at_its_origin_nothing_of_the_head_ever_counts_again() {
    let (scene, before) = with_a_header_from_before_the_reset();
    scene.accept("d-1", origin(Some(scene.image))).unwrap();
    let info = open(scene.directory.path()).disk(&id("d-1")).unwrap();
    assert_eq!((info.head, info.base), (None, Some(scene.image)));
    assert_eq!(info.epoch, Epoch::new(info.last_reset.unwrap().epoch_before.get() + 1));
    let mut expected = vec![0; usize::try_from(SIZE).unwrap()];
    expected[..3 << 20].fill(9);
    assert!(before != expected && scene.content_of("d-1") == expected);
    let store = open(scene.directory.path());
    for round in 0..4 {
        let handle = store.open_disk(&id("d-1")).unwrap();
        handle.write_at(&[6; 512], ByteOffset::new(4 << 20), Durability::ForceUnitAccess).unwrap();
        let mut written = expected.clone();
        written[4 << 20..(4 << 20) + 512].fill(6);
        let mut bytes = vec![0; written.len()];
        handle.read_at(&mut bytes, ByteOffset::ZERO).unwrap();
        assert!(bytes == written, "round {round}");
        drop(handle);
        reset(&store, "d-1", Some(scene.image));
    }
}

#[test]
fn a_head_with_words_above_its_header_can_only_go_to_its_origin() {
    let scene = Scene::new();
    patch_header(&scene.file(scene.head, "map"), |page| page[32] = 1);
    fs::remove_file(scene.path("ledger")).unwrap();
    scene.rebuild();
    let refused = scene.accept("d-1", Accepted::AsFound).unwrap_err().to_string();
    assert!(refused.contains("above the header"), "{refused}");
    assert!(scene.look().found.iter().any(|found| found.thing == "disk d-1"), "still closed");
    scene.accept("d-1", origin(None)).unwrap();
    assert!(scene.content_of("d-1").iter().all(|byte| *byte == 0));
    // No layer but a sealed one that fits is an origin.
    let larger = scene.head;
    let scene = Scene::new();
    fs::remove_file(scene.path("ledger")).unwrap();
    scene.rebuild();
    for base in [larger, scene.head] {
        assert!(scene.accept("d-2", origin(Some(base))).is_err());
    }
    assert_eq!(scene.look().found.len(), 3, "all are closed as before");
}

#[test]
fn a_lost_header_names_what_it_took_down() {
    let scene = Scene::new();
    let map = fs::OpenOptions::new().write(true).open(scene.file(scene.image, "map")).unwrap();
    [0, 4096].into_iter().for_each(|place| map.write_all_at(&[9; 8], place).unwrap());
    fs::remove_file(scene.path("ledger")).unwrap();
    let (survey, _) = scene.rebuild();
    assert_eq!(survey.lost.len(), 1, "{survey:#?}");
    assert_eq!(survey.lost[0].layer, scene.image);
    assert_eq!(Vec::from_iter(&survey.lost[0].affects), ["d-1", "d-2", "s-1"]);
    // What does not stand on it is there.
    scene.accept("d-3", Accepted::AsFound).unwrap();
    assert_eq!(scene.content_of("d-3")[1 << 20], 1);

    let scene = Scene::new();
    fs::remove_dir_all(scene.path(&format!("layers/{}", scene.snapshot))).unwrap();
    fs::remove_file(scene.path("ledger")).unwrap();
    let (survey, _) = scene.rebuild();
    assert_eq!(survey.lost[0].layer, scene.snapshot, "{survey:#?}");
    assert_eq!(Vec::from_iter(&survey.lost[0].affects), ["d-2"]);
}

#[test]
fn of_several_heads_none_is_taken() {
    let scene = Scene::new();
    let other = block_store::LayerId::from_bytes([4; 16]);
    fs::create_dir(scene.path(&format!("layers/{other}"))).unwrap();
    for name in ["data", "map"] {
        fs::copy(scene.file(scene.head, name), scene.file(other, name)).unwrap();
    }
    patch_header(&scene.file(other, "map"), |page| page[56..72].copy_from_slice(&[4; 16]));
    fs::remove_file(scene.path("ledger")).unwrap();
    let rebuild = Rebuild::begin(scene.storage()).unwrap();
    let survey = rebuild.survey(None).unwrap();
    assert_eq!(survey.disks.len(), 2, "{survey:#?}");
    assert_eq!(survey.spare_heads.len(), 2, "{survey:#?}");
    // One that a reset was about to leave behind is not the one.
    fs::write(scene.file(other, "deleting"), "").unwrap();
    let survey = rebuild.survey(None).unwrap();
    let found = survey.disks.iter().find(|found| found.disk == id("d-1")).unwrap();
    assert_eq!(found.head, Some(scene.head));
}

#[test]
fn a_disk_without_a_head_comes_back_only_if_the_catalog_names_it() {
    let scene = Scene::new();
    let head = open(scene.directory.path()).disk(&id("d-2")).unwrap().head.unwrap();
    fs::remove_dir_all(scene.path(&format!("layers/{head}"))).unwrap();
    fs::remove_file(scene.path("ledger")).unwrap();
    let rebuild = Rebuild::begin(scene.storage()).unwrap();
    let survey = rebuild.survey(None).unwrap();
    assert_eq!(Vec::from_iter(&survey.headless), [&id("d-2")]);
    assert!(survey.disks.iter().all(|found| found.disk != id("d-2")));
    let survey = rebuild.survey(Some(&scene.names)).unwrap();
    let found = survey.disks.iter().find(|found| found.disk == id("d-2")).unwrap();
    assert_eq!((found.base, found.head), (Some(scene.snapshot), None));
}

#[test]
fn a_ledger_that_can_be_read_is_never_replaced() {
    let scene = Scene::new();
    // One broken header and a broken record: the rest is served, so that it is no lost ledger.
    crate::flip(&scene.path("ledger"), 100, 0);
    crate::flip(&scene.path("ledger"), 8192 + 80, 3);
    let before = fs::read(scene.path("ledger")).unwrap();
    let rebuild = Rebuild::begin(scene.storage()).unwrap();
    assert!(!rebuild.has_lost_ledger().unwrap());
    let survey = rebuild.survey(None).unwrap();
    assert!(matches!(rebuild.make_ledger(&survey), Err(StoreError::NotEmpty)));
    assert!(fs::read(scene.path("ledger")).unwrap() == before);
    // Nor one of a newer program.
    drop(rebuild);
    let scene = Scene::new();
    let file = fs::OpenOptions::new().read(true).write(true).open(scene.path("ledger")).unwrap();
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 0).unwrap();
    page[8] = 2;
    let crc = crc32c::crc32c(&page[..4092]).to_le_bytes();
    page[4092..].copy_from_slice(&crc);
    [0, 4096].into_iter().for_each(|place| file.write_all_at(&page, place).unwrap());
    let rebuild = Rebuild::begin(scene.storage()).unwrap();
    assert!(matches!(rebuild.has_lost_ledger(), Err(StoreError::UnknownFormat { .. })));
}

#[test]
fn a_store_in_use_is_not_rebuilt() {
    let scene = Scene::new();
    let _open = open(scene.directory.path());
    assert!(matches!(Rebuild::begin(scene.storage()), Err(StoreError::Locked { .. })));
    let refused = scene.accept("d-1", Accepted::AsFound).unwrap_err();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused:?}");
}
