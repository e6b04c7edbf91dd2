//! What we export `qemu-img` finds clean and identical, and it is as sparse as the disk.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicU64, Ordering},
};

use block_device::{
    BlockDevice, ByteLength, ByteOffset, DeviceError, Durability, Extent, ExtentKind, MemoryDisk,
    ZeroMode,
};
use block_store::{ImageError, ImageFormat, Progress, export_qcow2, export_raw};

use super::workshop::{Workshop, mixed};

/// A large disk of blocks of 4 KiB that hold one byte each, holes elsewhere.
#[derive(Debug)]
struct SparseDisk {
    size: u64,
    blocks: BTreeMap<u64, u8>,
}

impl BlockDevice for SparseDisk {
    fn size(&self) -> ByteLength {
        ByteLength::new(self.size)
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read_at(&self, buffer: &mut [u8], offset: ByteOffset) -> Result<(), DeviceError> {
        for (at, byte) in (offset.get()..).zip(buffer) {
            *byte = self.blocks.get(&(at / 4096)).copied().unwrap_or(0);
        }
        Ok(())
    }

    fn extents(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        most: usize,
    ) -> Result<Vec<Extent>, DeviceError> {
        let (mut at, end) = (offset.get(), offset.get() + length.get());
        let mut extents = Vec::new();
        while at < end && extents.len() < most {
            let next = self.blocks.range(at / 4096..).next().map_or(end, |(block, _)| block * 4096);
            let (kind, stop) = if next <= at {
                (ExtentKind::Data, (at / 4096 + 1) * 4096)
            } else {
                (ExtentKind::Hole, next)
            };
            let length = ByteLength::new(stop.min(end) - at);
            extents.push(Extent { length, kind });
            at += length.get();
        }
        Ok(extents)
    }

    fn write_at(&self, _: &[u8], _: ByteOffset, _: Durability) -> Result<(), DeviceError> {
        Err(DeviceError::ReadOnly)
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn discard(&self, _: ByteOffset, _: ByteLength) -> Result<(), DeviceError> {
        Err(DeviceError::ReadOnly)
    }

    fn write_zeroes(
        &self,
        _: ByteOffset,
        _: ByteLength,
        _: ZeroMode,
        _: Durability,
    ) -> Result<(), DeviceError> {
        Err(DeviceError::ReadOnly)
    }
}

fn create(shop: &Workshop, name: &str) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true).open(shop.path(name)).unwrap()
}

#[test]
fn every_byte_comes_back() {
    let Some(shop) = Workshop::open() else { return };
    for length in [512, 4096, 65536, 65536 + 512, (5 << 20) - 512, 24 << 20] {
        let bytes = mixed(length);
        let disk = MemoryDisk::read_only(bytes.clone());
        shop.write("expected.raw", &bytes);
        export_raw(&disk, &create(&shop, "out.raw"), &()).unwrap();
        assert!(shop.bytes("out.raw") == bytes);
        export_qcow2(&disk, &create(&shop, "out"), &()).unwrap();
        shop.qemu_img("check -f qcow2 out");
        shop.qemu_img("compare -f qcow2 -F raw out expected.raw");
        assert!(shop.read("out", ImageFormat::Qcow2) == bytes);
    }
}

#[test]
fn a_large_sparse_disk_stays_sparse() {
    let Some(shop) = Workshop::open() else { return };
    let size = 5 << 40;
    let places = [0, 1, 17, 131_071, 131_072, 9_000_000, 400_000_000, size / 4096 - 1];
    let blocks = places.into_iter().zip(1..).collect();
    let disk = SparseDisk { size, blocks };
    export_raw(&disk, &create(&shop, "out.raw"), &()).unwrap();
    export_qcow2(&disk, &create(&shop, "out"), &()).unwrap();
    for name in ["out.raw", "out"] {
        let blocks = shop.path(name).metadata().unwrap().blocks();
        assert!(blocks < 4096, "{name} takes {blocks} sectors");
    }
    assert_eq!(shop.path("out.raw").metadata().unwrap().len(), size);
    shop.qemu_img("check -f qcow2 out");
    shop.qemu_img("compare -f qcow2 -F raw out out.raw");
}

#[test]
fn what_the_file_held_before_is_gone() {
    let Some(shop) = Workshop::open() else { return };
    let disk = MemoryDisk::new(ByteLength::new(1 << 20));
    shop.write("expected.raw", &[0; 1 << 20]);
    for name in ["out.raw", "out"] {
        shop.write(name, &[0xff; 3 << 20]);
    }
    let again = |name| File::options().read(true).write(true).open(shop.path(name)).unwrap();
    export_raw(&disk, &again("out.raw"), &()).unwrap();
    export_qcow2(&disk, &again("out"), &()).unwrap();
    assert!(shop.bytes("out.raw") == shop.bytes("expected.raw"));
    shop.qemu_img("check -f qcow2 out");
    shop.qemu_img("compare -f qcow2 -F raw out expected.raw");
}

/// Stops after some bytes.
struct StopAt {
    limit: u64,
    done: AtomicU64,
}

impl Progress for StopAt {
    fn advanced(&self, done: ByteLength, total: ByteLength) {
        assert!(done >= ByteLength::new(self.done.load(Ordering::Relaxed)) && done <= total);
        self.done.store(done.get(), Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.limit
    }
}

#[test]
fn progress_only_grows_and_cancelling_stops() {
    let Some(shop) = Workshop::open() else { return };
    let disk = MemoryDisk::read_only(mixed(8 << 20));
    let out = create(&shop, "out");
    let watched = StopAt { limit: u64::MAX, done: AtomicU64::new(0) };
    export_qcow2(&disk, &out, &watched).unwrap();
    assert_eq!(watched.done.load(Ordering::Relaxed), 8 << 20);
    let stopped = StopAt { limit: 2 << 20, done: AtomicU64::new(0) };
    assert!(matches!(export_raw(&disk, &out, &stopped), Err(ImageError::Cancelled)));
    assert!(stopped.done.load(Ordering::Relaxed) < 8 << 20);
}
