//! Damage on disk, and how far down the ladder each kind leads.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use catalog::record::{Account, Import};
use catalog::{Catalog, CatalogError, EXPORT_NAME, Opening, Records, SledCatalog};
use tempfile::TempDir;

use crate::samples::{account, fresh, put};

/// A closed catalog with a few accounts, and its directory.
fn closed(accounts: u64) -> (TempDir, PathBuf) {
    let (home, catalog) = fresh();
    for number in 0..accounts {
        put(&catalog, &format!("account-{number:03}"), number).unwrap();
    }
    drop(catalog);
    let directory = home.path().join("catalog");
    (home, directory)
}

fn export_beside(directory: &Path) {
    let (catalog, _) = SledCatalog::open(directory).unwrap();
    catalog.save_export().unwrap();
}

/// sled itself, without the catalog around it. A process that another test of this binary is
/// just starting holds a copy of every open file, and with it sled's lock, until it runs its own
/// program: the lock of a dropped catalog is waited for, as the catalog does.
fn database(directory: &Path) -> sled::Db {
    let log = File::open(directory.join("db")).unwrap();
    log.lock().unwrap();
    log.unlock().unwrap();
    let config = sled::Config::new().path(directory).segment_size(2 << 20);
    config.flush_every_ms(None).open().unwrap()
}

/// Changes a stored value behind the catalog's back.
fn tamper(directory: &Path, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let tree = database(directory);
    let mut value = tree.get(key).unwrap().map(|value| value.to_vec()).unwrap_or_default();
    change(&mut value);
    tree.insert(key, value).unwrap();
    tree.flush().unwrap();
}

fn snapshots(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap."))
        .collect()
}

fn accounts(catalog: &SledCatalog) -> usize {
    catalog.all::<Account>().unwrap().len()
}

#[test]
fn a_torn_derived_file_costs_nothing() {
    for torn in [0, 1, 20] {
        let (_home, directory) = closed(10);
        drop(SledCatalog::open(&directory).unwrap());
        let found = snapshots(&directory);
        assert!(!found.is_empty(), "sled leaves one at every open");
        for snapshot in found {
            File::options().write(true).open(snapshot).unwrap().set_len(torn).unwrap();
        }
        let (catalog, opening) = SledCatalog::open(&directory).unwrap();
        let Opening::WithoutSnapshot { bad, .. } = opening else { panic!("{opening:?}") };
        assert!(bad.join("db").is_file(), "the bad directory is kept");
        assert!(bad.file_name().unwrap().to_string_lossy().starts_with("catalog.bad-"));
        assert_eq!(accounts(&catalog), 10);
        put(&catalog, "more", 11).unwrap();
        drop(catalog);
        let (catalog, opening) = SledCatalog::open(&directory).unwrap();
        assert_eq!((opening, accounts(&catalog)), (Opening::Clean, 11));
    }
}

#[test]
fn a_flipped_bit_in_a_value_is_found_and_the_export_takes_over() {
    let (_home, directory) = closed(10);
    export_beside(&directory);
    let (catalog, _) = SledCatalog::open(&directory).unwrap();
    put(&catalog, "after-the-export", 99).unwrap();
    drop(catalog);
    tamper(&directory, "account/account-003", |value| value[20] ^= 4);

    let (catalog, opening) = SledCatalog::open(&directory).unwrap();
    let Opening::FromExport { bad, records, cause, .. } = opening else { panic!("{opening:?}") };
    assert!(cause.contains("account/account-003"), "{cause}");
    assert!(bad.join("db").is_file());
    assert_eq!((records, accounts(&catalog)), (10, 10));
    assert!(catalog.get::<Import>(Import::ID).unwrap().is_some(), "nobody may sweep on this");
}

#[test]
fn without_an_export_the_layers_are_asked_for_and_nothing_moves() {
    let (home, directory) = closed(3);
    tamper(&directory, "account/account-001", |value| value[20] ^= 4);
    for _ in 0..2 {
        let error = SledCatalog::open(&directory).unwrap_err();
        assert!(matches!(error, CatalogError::NeedsRebuild { .. }), "{error}");
        assert!(directory.join("db").is_file());
        assert_eq!(home.path().read_dir().unwrap().count(), 1, "no copies are left behind");
    }
}

#[test]
fn a_cut_export_is_not_taken() {
    let (_home, directory) = closed(3);
    export_beside(&directory);
    let export = directory.with_file_name(EXPORT_NAME);
    let length = export.metadata().unwrap().len();
    File::options().write(true).open(&export).unwrap().set_len(length - 5).unwrap();
    tamper(&directory, "account/account-001", |value| value[20] ^= 4);
    let error = SledCatalog::open(&directory).unwrap_err();
    assert!(matches!(error, CatalogError::NeedsRebuild { .. }), "{error}");
}

#[test]
fn a_record_under_a_foreign_key_is_found() {
    let (_home, directory) = closed(3);
    let (catalog, _) = SledCatalog::open(&directory).unwrap();
    let other = catalog.read("account/account-002").unwrap().unwrap();
    drop(catalog);
    tamper(&directory, "key/account-002", |value| *value = other);
    let error = SledCatalog::open(&directory).unwrap_err().to_string();
    assert!(error.contains("key/account-002"), "{error}");
}

#[test]
fn an_unknown_key_is_found() {
    let (_home, directory) = closed(3);
    tamper(&directory, "nonsense", |value| value.push(1));
    assert!(matches!(SledCatalog::open(&directory), Err(CatalogError::NeedsRebuild { .. })));
}

#[test]
fn a_record_that_vanished_is_missed() {
    let (_home, directory) = closed(3);
    let tree = database(&directory);
    tree.remove("account/account-001").unwrap();
    tree.flush().unwrap();
    drop(tree);
    let error = SledCatalog::open(&directory).unwrap_err().to_string();
    assert!(error.contains("it has 2 records and should have 3"), "{error}");
}

#[test]
fn an_emptied_file_is_not_an_empty_catalog() {
    for emptied in [true, false] {
        let (_home, directory) = closed(3);
        export_beside(&directory);
        let log = directory.join("db");
        if emptied {
            File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
        } else {
            fs::remove_file(&log).unwrap();
        }
        let (catalog, opening) = SledCatalog::open(&directory).unwrap();
        assert!(matches!(opening, Opening::FromExport { records: 3, .. }), "{opening:?}");
        assert_eq!(accounts(&catalog), 3);
    }
}

#[test]
fn a_newer_record_stops_the_start_and_changes_nothing() {
    let (home, directory) = closed(3);
    tamper(&directory, "account/account-001", |value| {
        value[6] = 2;
        let crc = crc32c::crc32c(&value[..12]);
        let crc = crc32c::crc32c_append(crc, &value[16..]);
        let crc = crc32c::crc32c_append(crc, b"account/account-001");
        value[12..16].copy_from_slice(&crc.to_le_bytes());
    });
    let error = SledCatalog::open(&directory).unwrap_err();
    assert!(matches!(&error, CatalogError::Newer { version: 2, .. }), "{error}");
    assert_eq!(home.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_second_opening_is_refused_and_moves_nothing() {
    let (home, catalog) = fresh();
    let error = SledCatalog::open(&home.path().join("catalog")).unwrap_err();
    assert!(matches!(error, CatalogError::Busy { .. }), "{error}");
    put(&catalog, "a", 1).unwrap();
    assert_eq!(home.path().read_dir().unwrap().count(), 1);
}

#[test]
fn nothing_is_created_by_opening_and_nothing_overwritten_by_creating() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("catalog");
    assert!(matches!(SledCatalog::open(&directory), Err(CatalogError::Missing { .. })));
    assert!(!directory.exists());
    put(&SledCatalog::create(&directory).unwrap(), "a", 1).unwrap();
    assert!(matches!(SledCatalog::create(&directory), Err(CatalogError::Exists { .. })));
    let (catalog, _) = SledCatalog::open(&directory).unwrap();
    assert_eq!(catalog.all::<Account>().unwrap(), [account("a", 1)]);
}

#[test]
fn leavings_of_an_interrupted_compaction_are_set_aside() {
    let (home, directory) = closed(3);
    fs::create_dir(home.path().join("catalog.new")).unwrap();
    let (catalog, opening) = SledCatalog::open(&directory).unwrap();
    assert_eq!((opening, accounts(&catalog)), (Opening::Clean, 3));
    assert!(!home.path().join("catalog.new").exists());
    assert_eq!(home.path().read_dir().unwrap().count(), 2, "kept under another name");
}

#[test]
fn after_an_opening_without_end_the_next_one_works_on_a_copy() {
    let (home, directory) = closed(3);
    let remembered = home.path().join("catalog.timed-out");
    File::create(&remembered).unwrap();
    let (catalog, opening) = SledCatalog::open(&directory).unwrap();
    assert!(matches!(opening, Opening::WithoutSnapshot { .. }), "{opening:?}");
    assert_eq!(accounts(&catalog), 3);
    assert!(!remembered.exists());
}

#[test]
fn a_refusal_of_the_file_system_is_not_taken_for_damage() {
    let (home, directory) = closed(3);
    export_beside(&directory);
    fs::rename(directory.join("db"), directory.join("db-elsewhere")).unwrap();
    fs::create_dir(directory.join("db")).unwrap();
    let error = SledCatalog::open(&directory).unwrap_err();
    assert!(matches!(error, CatalogError::Io { .. }), "{error}");
    assert_eq!(home.path().read_dir().unwrap().count(), 2, "catalog and export, as before");
}

#[test]
fn a_log_that_lost_its_end_is_found() {
    let (_home, directory) = closed(5);
    let earlier = fs::read(directory.join("db")).unwrap();
    let (catalog, _) = SledCatalog::open(&directory).unwrap();
    put(&catalog, "later", 1).unwrap();
    drop(catalog);
    fs::write(directory.join("db"), earlier).unwrap();
    let error = SledCatalog::open(&directory).unwrap_err().to_string();
    assert!(error.contains("commit 6 was answered"), "{error}");
}

#[test]
fn a_mark_that_is_lost_says_nothing_and_comes_back() {
    let (_home, directory) = closed(5);
    fs::remove_file(directory.join("answered")).unwrap();
    let (catalog, opening) = SledCatalog::open(&directory).unwrap();
    assert_eq!((opening, accounts(&catalog)), (Opening::Clean, 5));
    put(&catalog, "later", 1).unwrap();
    assert_eq!(fs::read(directory.join("answered")).unwrap()[..8], 6_u64.to_le_bytes());
}

/// Bits flipped anywhere in sled's own file: all records come back as they were.
#[test]
fn bits_flipped_in_the_file_never_give_wrong_records() {
    const FLIPS: usize = 24;
    let (home, directory) = closed(60);
    export_beside(&directory);
    let expected: Vec<Account> =
        (0..60).map(|number| account(&format!("account-{number:03}"), number)).collect();
    let log = fs::read(directory.join("db")).unwrap();
    let used = log.iter().rposition(|byte| *byte != 0).unwrap();
    let mut found = 0;
    // The first round flips nothing and shows that the copy as such is fine.
    for round in 0..=FLIPS {
        let mut damaged = log.clone();
        if round > 0 {
            damaged[round * used / FLIPS] ^= 1 << (round % 8);
        }
        let copy = copy_with(&directory, &home.path().join(format!("round-{round}")), &damaged);
        let (catalog, opening) = SledCatalog::open(&copy).unwrap();
        assert_eq!(catalog.all::<Account>().unwrap(), expected, "round {round}: {opening:?}");
        assert!(round > 0 || opening == Opening::Clean, "{opening:?}");
        found += usize::from(opening != Opening::Clean);
    }
    assert!(found > 0, "some flips must matter");
}

/// The catalog, its export and no derived file, with other bytes for a log.
fn copy_with(directory: &Path, place: &Path, log: &[u8]) -> PathBuf {
    let copy = place.join("catalog");
    fs::create_dir_all(copy.join("blobs")).unwrap();
    fs::copy(directory.with_file_name(EXPORT_NAME), place.join(EXPORT_NAME)).unwrap();
    for name in ["conf", "answered"] {
        fs::copy(directory.join(name), copy.join(name)).unwrap();
    }
    fs::write(copy.join("db"), log).unwrap();
    copy
}
