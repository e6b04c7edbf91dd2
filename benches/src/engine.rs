//! A store of its own for a question, driven through the public API of `block-store`.

use std::{
    fs::{self, File},
    sync::Arc,
    time::{Instant, SystemTime},
};

use block_device::{ByteLength, DiskId};
use block_store::{DiskHandle, FileStorage, RequestId, Reset, Store};
use rustix::fs::Advice;
use tempfile::TempDir;

use crate::filesystem::{self, Place};

/// An open store in a folder that goes with it.
#[derive(Debug)]
pub struct Engine {
    // Closed before its folder goes.
    store: Store,
    folder: TempDir,
}

impl Engine {
    /// An empty store on the file system of a place.
    pub fn on(place: &Place) -> anyhow::Result<Self> {
        Self::in_folder(place.folder()?)
    }

    /// An empty store in a temporary folder that is on a disk.
    pub fn temporary() -> anyhow::Result<Self> {
        Self::in_folder(filesystem::disk_folder()?)
    }

    fn in_folder(folder: TempDir) -> anyhow::Result<Self> {
        let storage = FileStorage::open(folder.path())?;
        Store::create(&storage)?;
        Self::opened(folder)
    }

    fn opened(folder: TempDir) -> anyhow::Result<Self> {
        let store = Store::open(Arc::new(FileStorage::open(folder.path())?))?;
        store.settle_alone()?;
        Ok(Self { store, folder })
    }

    /// The same store, closed and opened again.
    pub fn again(self) -> anyhow::Result<Self> {
        let Self { store, folder } = self;
        drop(store);
        Self::opened(folder)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A new empty disk.
    pub fn disk(&self, name: &str, size: u64) -> anyhow::Result<DiskId> {
        let id: DiskId = name.parse()?;
        self.store.create_disk(&id, ByteLength::new(size), None)?.publish()?;
        Ok(id)
    }

    /// Lets go of what is cached of the layers' data, so that reads ask the device.
    pub fn drop_cached_data(&self) -> anyhow::Result<()> {
        for layer in fs::read_dir(self.folder.path().join("layers"))? {
            let data = File::open(layer?.path().join("data"))?;
            data.sync_all()?;
            rustix::fs::fadvise(&data, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }

    /// Opens a disk.
    pub fn open(&self, disk: &DiskId) -> anyhow::Result<Arc<DiskHandle>> {
        Ok(self.store.open_disk(disk)?)
    }

    /// Resets one disk; gives the seconds it took.
    pub fn reset(&self, disk: &DiskId) -> anyhow::Result<f64> {
        self.reset_all(&[order(disk)])
    }

    /// Resets disks in one call; gives the seconds it took.
    pub fn reset_all(&self, orders: &[Reset]) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let receipts = self.store.reset(orders);
        let took = begun.elapsed().as_secs_f64();
        receipts.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(took)
    }
}

/// The order to make a disk empty.
pub fn order(disk: &DiskId) -> Reset {
    Reset {
        disk: disk.clone(),
        base: None,
        request_id: RequestId::from_bytes([1; 16]),
        time: SystemTime::now(),
    }
}
