//! Space comes back by itself when the file system runs full, and no more of it than is needed.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use block_device::{BlockDevice, ByteOffset, DiskId, Durability};
use block_store::{FileStorage, LockError, RequestId, Reset, Storage, StorageFile, StoreLock};
use cloud::CreateDisk;

use crate::lab::{Lab, MIB, wait};

/// What the small file system has; less than a tenth of it is pressure.
const TOTAL: u64 = 32 * MIB;
const PRESSURE: u64 = TOTAL / 10;

/// A directory that claims to be on a file system of its own, on which nothing but the data of layers takes
/// space.
#[derive(Debug)]
struct SmallFileSystem {
    inner: FileStorage,
    directory: PathBuf,
}

impl SmallFileSystem {
    fn on(directory: &Path) -> Arc<dyn Storage> {
        let inner = FileStorage::open(directory).unwrap();
        Arc::new(Self { inner, directory: directory.to_owned() })
    }
}

fn free(directory: &Path) -> u64 {
    let layers = fs::read_dir(directory.join("layers")).unwrap();
    let data = layers.map(|layer| fs::metadata(layer.unwrap().path().join("data")).unwrap());
    TOTAL.saturating_sub(data.map(|data| data.blocks() * 512).sum())
}

impl Storage for SmallFileSystem {
    fn open(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.inner.open(path)
    }

    fn open_to_read(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.inner.open_to_read(path)
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.inner.create(path)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn lock(&self, path: &str) -> Result<StoreLock, LockError> {
        self.inner.lock(path)
    }

    fn lock_to_read(&self, path: &str) -> Result<StoreLock, LockError> {
        self.inner.lock_to_read(path)
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        Ok((free(&self.directory), TOTAL))
    }
}

fn write(lab: &Lab, disk: &DiskId, byte: u8, mebibytes: u64) {
    let device = lab.cloud.store().open_disk(disk).unwrap();
    let piece = vec![byte; usize::try_from(MIB).unwrap()];
    for place in 0..mebibytes {
        device.write_at(&piece, ByteOffset::new(place * MIB), Durability::Cached).unwrap();
    }
    device.flush().unwrap();
}

/// A disk with 28 MiB of stale blocks after 2 MiB that count.
fn stale_disk(lab: &Lab) -> DiskId {
    let request = CreateDisk { size: Some(TOTAL), ..Default::default() };
    let disk: DiskId = lab.cloud.create_disk(&lab.operator(), &request).unwrap().parse().unwrap();
    write(lab, &disk, 0x55, 30);
    let (request_id, time) = (RequestId::from_bytes([1; 16]), SystemTime::now());
    let order = Reset { disk: disk.clone(), base: None, request_id, time };
    lab.cloud.store().reset(&[order]).remove(0).unwrap();
    write(lab, &disk, 0x66, 2);
    disk
}

#[test]
fn stale_blocks_are_given_back_under_pressure_until_there_is_room() {
    let lab = Lab::new();
    let disk = stale_disk(&lab);
    assert!(free(lab.directory.path()) < PRESSURE, "the file system runs full");
    let lab = lab.restart_on(SmallFileSystem::on);
    wait(|| free(lab.directory.path()) >= PRESSURE);
    // Ends the watch, and waits for it.
    let lab = lab.restart(|_| ());
    let free = free(lab.directory.path());
    assert!(free < PRESSURE + 2 * MIB, "it stops when there is room, not at {free} bytes");
    let device = lab.cloud.store().open_disk(&disk).unwrap();
    let mut content = vec![0; usize::try_from(4 * MIB).unwrap()];
    device.read_at(&mut content, ByteOffset::ZERO).unwrap();
    let (kept, stale) = content.split_at(content.len() / 2);
    assert!(kept.iter().all(|byte| *byte == 0x66) && stale.iter().all(|byte| *byte == 0));
}
