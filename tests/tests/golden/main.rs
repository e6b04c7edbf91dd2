//! A store of format version 1, kept for ever under `tests/golden/v1`: whole it opens and reads as it did, damaged it
//! is refused, and nothing is changed by that.
//!
//! A failure here means that stores out there can no longer be opened. The way out is a new version beside this one,
//! never new golden files. With `WRITE_GOLDEN=1` files that are missing are written; existing ones never are. Who adds
//! a version copies what `golden/v1/store` is made with (`maker`, `harms`) and the tables here.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, helpers included")]

mod harms;
mod maker;
mod packed;
mod tables;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use block_device::{BlockDevice, ByteOffset};
use block_store::{FileStorage, LayerId, LayerKind, Named, Store};
use packed::{Files, files, pack, unpack};
use sha2::{Digest, Sha256};
use tables::{
    DAMAGED, LAYERS, MADE_GOOD,
    Subject::{self, Disk, Hashes, Layer},
    WHOLE, layer_id, with_ids,
};
use tempfile::TempDir;
use tests::{reader, recorded_storage::scratch};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1")
}

/// The text of the kept store, or of one damaged one.
fn kept(name: &str) -> String {
    static WRITTEN: LazyLock<()> = LazyLock::new(|| {
        if std::env::var_os("WRITE_GOLDEN").is_some() {
            write_missing();
        }
    });
    LazyLock::force(&WRITTEN);
    let path = folder().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Makes the store with the program of today if there is none, and damages that are new.
fn write_missing() {
    let place = scratch();
    if !folder().join("store").exists() {
        let (made, layers) = maker::make(place.path());
        fs::create_dir_all(folder().join("damaged")).unwrap();
        fs::write(folder().join("store"), pack(&Files::new(), &made)).unwrap();
        panic!("the store is written; LAYERS must name what is in it: {layers:?}");
    }
    unpack(&fs::read_to_string(folder().join("store")).unwrap(), place.path());
    let (whole, layers) = (files(place.path()), LAYERS.map(|(name, _)| (name, id(name))).into());
    for harm in harms::harms() {
        let path = folder().join("damaged").join(harm.name);
        if !path.exists() {
            fs::write(path, pack(&whole, &harm.done_to(&whole, &layers))).unwrap();
        }
    }
}

/// The kept store, with one of the damages.
fn unpacked(damage: Option<&str>) -> TempDir {
    let place = scratch();
    unpack(&kept("store"), place.path());
    if let Some(damage) = damage {
        unpack(&kept(&format!("damaged/{damage}")), place.path());
    }
    place
}

fn open(root: &Path) -> Result<Store, String> {
    Store::open(Arc::new(FileStorage::open(root).unwrap())).map_err(|error| error.to_string())
}

/// What our own program reads of the subject, or why it does not.
fn ours(root: &Path, subject: Subject) -> Result<Vec<u8>, String> {
    let store = open(root)?;
    match subject {
        Disk(disk) => content(&*store.open_disk(&disk.parse().unwrap()).map_err(told)?),
        Layer(layer) => content(&*store.open_layer(id(layer)).map_err(told)?),
        Hashes(layer) => {
            store.hash_layer(id(layer), &()).map(|root| root.to_bytes().to_vec()).map_err(told)
        }
    }
}

/// What the reader in another language reads of it, or why it does not.
fn theirs(root: &Path, subject: Subject) -> Result<Vec<u8>, String> {
    match subject {
        Disk(disk) => reader::read(root, "disk", disk),
        Layer(layer) | Hashes(layer) => reader::read(root, "layer", layer_id(layer)),
    }
}

fn id(layer: &str) -> LayerId {
    layer_id(layer).parse().unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn told(error: impl ToString) -> String {
    error.to_string()
}

fn content(device: &dyn BlockDevice) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0xee; usize::try_from(device.size().get()).unwrap()];
    device.read_at(&mut bytes, ByteOffset::ZERO).map_err(told)?;
    Ok(bytes)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn whole_it_reads_as_it_did_to_both_programs() {
    let place = unpacked(None);
    for (subject, hash) in WHOLE {
        let found = theirs(place.path(), subject).unwrap_or_else(|e| panic!("{subject:?}: {e}"));
        assert_eq!(sha256(&found), hash, "{subject:?}, read in Python");
        let found = ours(place.path(), subject).unwrap_or_else(|e| panic!("{subject:?}: {e}"));
        assert_eq!(sha256(&found), hash, "{subject:?}");
    }
}

#[test]
fn what_crashes_left_in_it_is_settled() {
    let place = unpacked(None);
    let store = open(place.path()).unwrap();
    let disks = ["d-live", "d-reset", "d-chain", "d-clean", "d-cut", "d-creating"];
    let named = Named {
        disks: disks.map(|disk| disk.parse().unwrap()).into(),
        layers: ["m-1", "m-2", "s-1", "s-2"].map(id).into(),
    };
    let settled = store.settle(&named).unwrap();
    assert_eq!(settled.finished, ["deleting disk d-deleting", "creating disk d-creating"]);
    let deleted = format!("layer {}", layer_id("m-3"));
    assert!(settled.undone.contains(&deleted), "{settled:?}");
    assert!(settled.missing_disks.is_empty() && settled.orphan_disks.is_empty(), "{settled:?}");
    assert!(settled.orphan_layers.is_empty() && settled.foreign.is_empty(), "{settled:?}");
    store.wait_for_background();
    drop(store);

    let left = files(place.path());
    let marks = ["unfinished", "deleting"];
    let marked = |path: &&PathBuf| marks.contains(&path.file_name().unwrap().to_str().unwrap());
    assert_eq!(left.keys().filter(marked).count(), 0, "{:?}", left.keys());
    for (subject, hash) in WHOLE.into_iter().filter(|(subject, _)| !matches!(subject, Layer("m-3")))
    {
        assert_eq!(ours(place.path(), subject).map(|bytes| sha256(&bytes)), Ok(hash.into()));
    }
    assert_eq!(ours(place.path(), Disk("d-creating")), Ok(vec![0; 409_600]));
    let told = ours(place.path(), Disk("d-deleting")).unwrap_err();
    assert_eq!(told, "there is no disk d-deleting");
}

#[test]
fn its_labels_receipts_and_roots_are_those_it_was_made_with() {
    let place = unpacked(None);
    let store = open(place.path()).unwrap();
    let info = store.disk(&"d-reset".parse().unwrap()).unwrap();
    let receipt = info.last_reset.unwrap();
    let since = receipt.time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!((info.epoch.get(), info.sequence, info.base), (3, 6, Some(id("m-1"))));
    assert_eq!((receipt.epoch_before.get(), receipt.base), (2, Some(id("m-1"))));
    assert_eq!(receipt.request_id.to_bytes(), [2; 16]);
    assert_eq!(since, Duration::new(1_790_000_000, 123_456_789));
    let snapshot = store.layer(id("s-1")).unwrap();
    let label = maker::label(LayerKind::Snapshot, "s-1", "data disk, 数据盘");
    assert_eq!((snapshot.label, snapshot.parent), (label, Some(id("m-1"))));

    // The same content, hashed by the program of today, has the same root.
    for (name, root) in [
        ("m-1", "960b9947005b3d677fcdabde056661b7f9bb97583adb3b23dbb212ea6817a384"),
        ("s-2", "16f67be4712400c2146f8a65d08cbc7a1f3c0ff7d6b39ab59410ef3a12759baf"),
    ] {
        assert_eq!(store.layer(id(name)).unwrap().root.unwrap().to_string(), root);
        let bytes = content(&*store.open_layer(id(name)).unwrap()).unwrap();
        let label = maker::label(LayerKind::Image, "again", "");
        let again = store.import(&maker::image_of(&bytes), label, &()).unwrap();
        assert_eq!(again.root().to_string(), root, "{name}");
    }
}

#[test]
fn damaged_it_is_refused_by_name_and_not_a_byte_is_changed() {
    for (damage, subject, by_us, by_them) in DAMAGED {
        let place = unpacked(Some(damage));
        let before = files(place.path());
        assert_eq!(ours(place.path(), subject), Err(with_ids(by_us)), "{damage}");
        assert_eq!(theirs(place.path(), subject), Err(with_ids(by_them)), "{damage}, in Python");
        let changed = pack(&before, &files(place.path()));
        assert!(changed.is_empty(), "{damage}: {changed}");
    }
}

#[test]
fn the_rest_is_served_beside_what_is_damaged() {
    for (damage, subject, ..) in DAMAGED {
        // A ledger that is not understood is the end of the whole store; d-reset stands on m-1.
        let place = unpacked(Some(damage));
        if damage == "layers-swapped" || open(place.path()).is_err() {
            continue;
        }
        let other = if subject == Disk("d-live") { Disk("d-reset") } else { Disk("d-live") };
        let wanted = WHOLE.iter().find(|(of, _)| *of == other).unwrap().1;
        let found = ours(place.path(), other).map(|bytes| sha256(&bytes));
        assert_eq!(found, Ok(wanted.into()), "{damage}: {other:?}");
    }
}

#[test]
fn what_one_copy_is_enough_for_is_served() {
    for (damage, subject) in MADE_GOOD {
        let place = unpacked(Some(damage));
        let wanted = WHOLE.iter().find(|(of, _)| *of == subject).unwrap().1;
        let read = [theirs(place.path(), subject), ours(place.path(), subject)];
        for found in read {
            assert_eq!(found.map(|bytes| sha256(&bytes)), Ok(wanted.into()), "{damage}");
        }
    }
}

#[test]
fn every_kept_damage_is_tried() {
    kept("store");
    let entries = fs::read_dir(folder().join("damaged")).unwrap();
    let found: BTreeSet<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let refused = DAMAGED.iter().map(|(damage, ..)| *damage);
    let tried = refused.chain(MADE_GOOD.iter().map(|(damage, _)| *damage)).map(str::to_owned);
    assert_eq!(found, tried.collect());
}

#[test]
fn the_harms_of_today_do_to_it_what_they_did() {
    let (place, layers) = (unpacked(None), LAYERS.map(|(name, _)| (name, id(name))).into());
    let whole = files(place.path());
    for harm in harms::harms() {
        let text = pack(&whole, &harm.done_to(&whole, &layers));
        assert_eq!(text, kept(&format!("damaged/{}", harm.name)), "{}", harm.name);
    }
}
