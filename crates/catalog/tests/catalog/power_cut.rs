//! Power is cut: what the device holds is what was synced, and nothing else.
//!
//! The sync handed to the catalog copies sled's file at each of its calls; those copies are all
//! that survives. Every answered commit must be in the newest copy. With the sync left out the very
//! same story must find a loss, else it would prove nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::record::Account;
use catalog::{CatalogError, LogSync, Opening, Records, SledCatalog};

use crate::samples::{account, put};

/// Keeps what is durable in a directory of its own.
#[derive(Debug)]
struct Device {
    /// Where sled works.
    live: PathBuf,
    /// What a power cut leaves.
    durable: PathBuf,
    /// Whether syncs happen at all.
    syncs: bool,
}

impl LogSync for Device {
    fn sync(&self, _log: &File) -> io::Result<()> {
        if self.syncs {
            fs::copy(self.live.join("db"), self.durable.join("db"))?;
        }
        Ok(())
    }
}

/// A catalog whose creation and opening are durable, and nothing after that without a sync.
fn on_device(home: &Path, syncs: bool) -> (SledCatalog, Arc<Device>) {
    let (live, durable) = (home.join("catalog"), home.join("durable"));
    drop(SledCatalog::create(&live).unwrap());
    copy(&live, &durable);
    let device = Arc::new(Device { live: live.clone(), durable, syncs });
    let (catalog, _) = SledCatalog::open_with(&live, device.clone()).unwrap();
    (catalog, device)
}

/// What comes back after a power cut right now; the device itself is left as it is.
fn after_power_cut(
    home: &Path,
    device: &Device,
    number: u64,
) -> Result<Vec<Account>, CatalogError> {
    let image = home.join(format!("image-{number}")).join("catalog");
    fs::create_dir_all(image.parent().unwrap()).unwrap();
    copy(&device.durable, &image);
    // The mark may have reached the device by itself; the worst is that it is the newest.
    fs::copy(device.live.join("answered"), image.join("answered")).unwrap();
    let (catalog, opening) = SledCatalog::open(&image)?;
    assert_eq!(opening, Opening::Clean);
    catalog.all::<Account>()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            fs::copy(&entry, &target).unwrap();
        }
    }
}

/// Commits accounts one after another; the first whose answer a power cut takes back.
fn first_lost(syncs: bool, commits: u64) -> Option<u64> {
    let home = tempfile::tempdir().unwrap();
    let (catalog, device) = on_device(home.path(), syncs);
    let mut answered = Vec::new();
    for number in 0..commits {
        let name = format!("account-{number:04}");
        put(&catalog, &name, number).unwrap();
        answered.push(account(&name, number));
        if after_power_cut(home.path(), &device, number).ok().as_ref() != Some(&answered) {
            return Some(number);
        }
    }
    None
}

#[test]
fn every_answered_commit_survives() {
    assert_eq!(first_lost(true, 25), None);
}

#[test]
fn the_story_above_notices_a_missing_sync() {
    assert_eq!(first_lost(false, 25), Some(0));
}

#[test]
fn every_answered_commit_survives_an_overwrite_heavy_run() {
    let home = tempfile::tempdir().unwrap();
    let (catalog, device) = on_device(home.path(), true);
    for number in 0..2_000 {
        put(&catalog, &format!("account-{}", number % 7), number).unwrap();
    }
    let left = after_power_cut(home.path(), &device, 0).unwrap();
    assert_eq!(left, catalog.all::<Account>().unwrap());
    assert_eq!(left.iter().map(|account| account.number).max(), Some(1_999));
}
