//! A disk in memory: the reference the data planes are tested against.
//!
//! What must always hold: it keeps the whole contract of [`BlockDevice`], in the plainest way.
//! It can be fenced, made read-only and told to fail, so that a front can be tested on all of it.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    BLOCK, BlockDevice, ByteLength, ByteOffset, ByteRange, Change, DeviceError, Durability, Extent,
    ExtentKind, ZeroMode,
};

/// A disk in memory.
#[derive(Debug)]
pub struct MemoryDisk {
    bytes: RwLock<Vec<u8>>,
    /// Blocks that a change touched. Taken after `bytes`.
    touched: Mutex<BTreeSet<u64>>,
    read_only: bool,
    /// Set once, by [`MemoryDisk::fence`].
    fenced: AtomicBool,
    /// How many flushes and forced writes were answered; for tests that count them.
    flushes: AtomicU64,
}

impl MemoryDisk {
    /// A disk of `size` bytes of zeros, rounded down to whole sectors.
    pub fn new(size: ByteLength) -> Self {
        let size = usize::try_from(size.get()).unwrap_or(0) & !511;
        Self::holding(vec![0; size], false)
    }

    /// A disk that holds `bytes` and refuses writes.
    pub fn read_only(bytes: Vec<u8>) -> Self {
        Self::holding(bytes, true)
    }

    fn holding(bytes: Vec<u8>, read_only: bool) -> Self {
        Self {
            bytes: RwLock::new(bytes),
            touched: Mutex::default(),
            read_only,
            fenced: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
        }
    }

    /// Ends all I/O; every later call fails with [`DeviceError::Fenced`].
    pub fn fence(&self) {
        // Under the lock: a request that is running ends first.
        let _drained = self.exclusive();
        self.fenced.store(true, Ordering::SeqCst);
    }

    /// How many flushes and forced writes were answered.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::SeqCst)
    }

    fn shared(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Vec<u8>> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(
        &self,
        held: &[u8],
        offset: ByteOffset,
        length: ByteLength,
    ) -> Result<std::ops::Range<usize>, DeviceError> {
        if self.fenced.load(Ordering::SeqCst) {
            return Err(DeviceError::Fenced);
        }
        let range = ByteRange::checked(offset, length, ByteLength::of(held))?;
        let index = |place| usize::try_from(place).expect("inside a vector");
        Ok(index(range.start())..index(range.end()))
    }

    fn change(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<(), DeviceError> {
        let mut bytes = self.exclusive();
        let range = self.check(&bytes, offset, length)?;
        if self.read_only {
            return Err(DeviceError::ReadOnly);
        }
        let blocks = offset.get() / BLOCK..(offset.get() + length.get()).div_ceil(BLOCK);
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).extend(blocks);
        change(&mut bytes[range]);
        Ok(())
    }

    fn count(&self, durability: Durability) {
        if durability == Durability::ForceUnitAccess {
            self.flushes.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl BlockDevice for MemoryDisk {
    fn size(&self) -> ByteLength {
        ByteLength::of(&self.shared())
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&self, buffer: &mut [u8], offset: ByteOffset) -> Result<(), DeviceError> {
        let bytes = self.shared();
        let range = self.check(&bytes, offset, ByteLength::of(buffer))?;
        buffer.copy_from_slice(&bytes[range]);
        Ok(())
    }

    fn write_at(
        &self,
        data: &[u8],
        offset: ByteOffset,
        durability: Durability,
    ) -> Result<(), DeviceError> {
        self.change(offset, ByteLength::of(data), |bytes| bytes.copy_from_slice(data))?;
        self.count(durability);
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        let bytes = self.shared();
        self.check(&bytes, ByteOffset::ZERO, ByteLength::ZERO)?;
        self.count(Durability::ForceUnitAccess);
        Ok(())
    }

    fn discard(&self, offset: ByteOffset, length: ByteLength) -> Result<(), DeviceError> {
        self.change(offset, length, |bytes| {
            let block = usize::try_from(BLOCK).expect("4096");
            let start = usize::try_from(offset.get()).expect("checked");
            let first = start.next_multiple_of(block) - start;
            let last = ((start + bytes.len()) / block * block).saturating_sub(start);
            if first < last {
                bytes[first..last].fill(0);
            }
        })
    }

    fn write_zeroes(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        _mode: ZeroMode,
        durability: Durability,
    ) -> Result<(), DeviceError> {
        self.change(offset, length, |bytes| bytes.fill(0))?;
        self.count(durability);
        Ok(())
    }

    fn extents(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        most: usize,
    ) -> Result<Vec<Extent>, DeviceError> {
        let bytes = self.shared();
        let range = self.check(&bytes, offset, length)?;
        let mut extents: Vec<Extent> = Vec::new();
        for sector in bytes[range].chunks(512) {
            let zero = sector.iter().all(|byte| *byte == 0);
            let kind = if zero { ExtentKind::Zero } else { ExtentKind::Data };
            let length = ByteLength::of(sector);
            let full = extents.len() == most;
            match extents.last_mut() {
                Some(last) if last.kind == kind => {
                    last.length = ByteLength::new(last.length.get() + length.get());
                }
                _ if full => break,
                _ => extents.push(Extent { length, kind }),
            }
        }
        Ok(extents)
    }

    fn tracks_changes(&self) -> bool {
        true
    }

    fn changes(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        most: usize,
    ) -> Result<Vec<Change>, DeviceError> {
        let bytes = self.shared();
        self.check(&bytes, offset, length)?;
        let touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.get() + length.get();
        let mut changes: Vec<Change> = Vec::new();
        let mut place = offset.get();
        while place < end {
            let next = (place / BLOCK * BLOCK + BLOCK).min(end);
            let is_changed = touched.contains(&(place / BLOCK));
            let full = changes.len() == most;
            match changes.last_mut() {
                Some(last) if last.is_changed == is_changed => {
                    last.length = ByteLength::new(last.length.get() + next - place);
                }
                _ if full => break,
                _ => changes.push(Change { length: ByteLength::new(next - place), is_changed }),
            }
            place = next;
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discard_keeps_partial_blocks_at_its_edges() {
        let disk = MemoryDisk::new(ByteLength::new(4 * BLOCK));
        disk.write_at(&[7; 4 * 4096], ByteOffset::ZERO, Durability::Cached).unwrap();
        disk.discard(ByteOffset::new(512), ByteLength::new(2 * BLOCK)).unwrap();
        let kinds: Vec<_> = disk
            .extents(ByteOffset::ZERO, disk.size(), 16)
            .unwrap()
            .iter()
            .map(|extent| (extent.kind, extent.length.get()))
            .collect();
        assert_eq!(
            kinds,
            [(ExtentKind::Data, BLOCK), (ExtentKind::Zero, BLOCK), (ExtentKind::Data, 2 * BLOCK)]
        );
    }

    #[test]
    fn requests_past_the_end_and_fenced_ones_change_nothing() {
        let disk = MemoryDisk::new(ByteLength::new(BLOCK));
        let past = disk.write_at(&[1; 512], ByteOffset::new(BLOCK), Durability::Cached);
        assert!(matches!(past, Err(DeviceError::OutOfRange { .. })));
        let wraps = disk.write_at(&[1; 512], ByteOffset::new(u64::MAX - 511), Durability::Cached);
        assert!(matches!(wraps, Err(DeviceError::OutOfRange { .. })));
        disk.fence();
        let late = disk.write_at(&[1; 512], ByteOffset::ZERO, Durability::Cached);
        assert!(matches!(late, Err(DeviceError::Fenced)));
    }
}
