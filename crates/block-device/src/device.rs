//! What a disk can do.
//!
//! What must always hold: every method may be called from many threads at once; a call that
//! fails leaves each sector either as it was or as asked.
//! Left to others: how many threads there are and what a client sees (the data planes).

use std::fmt::Debug;

use crate::{ByteLength, ByteOffset, ByteRange, DeviceError};

/// When a write is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once a later read sees it.
    Cached,
    /// Once it survives power loss.
    ForceUnitAccess,
}

/// What zeroing may do with the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroMode {
    /// Give the space back to the file system.
    Punch,
    /// Keep the space allocated where that is possible.
    KeepAllocated,
}

/// How a stretch of a disk is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentKind {
    /// Bytes are stored for it.
    Data,
    /// It reads as zeros because something says so.
    Zero,
    /// It reads as zeros because nothing was ever stored for it.
    Hole,
}

/// A stretch of a disk of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How many bytes.
    pub length: ByteLength,
    /// How they are held.
    pub kind: ExtentKind,
}

/// A stretch of a disk that was changed, or was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// How many bytes.
    pub length: ByteLength,
    /// Whether they may be others than before.
    pub is_changed: bool,
}

/// A disk as the data planes see it.
pub trait BlockDevice: Send + Sync + Debug {
    /// Its size in bytes, a multiple of 512.
    fn size(&self) -> ByteLength;

    /// Whether writes are refused with [`DeviceError::ReadOnly`].
    fn is_read_only(&self) -> bool;

    /// Fills `buffer` from `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: ByteOffset) -> Result<(), DeviceError>;

    /// Stores `data` at `offset`.
    fn write_at(
        &self,
        data: &[u8],
        offset: ByteOffset,
        durability: Durability,
    ) -> Result<(), DeviceError>;

    /// Makes everything answered before the call survive power loss.
    fn flush(&self) -> Result<(), DeviceError>;

    /// Tells that the content is no longer needed: whole blocks of it read as zeros afterwards,
    /// partial blocks at its edges keep theirs.
    fn discard(&self, offset: ByteOffset, length: ByteLength) -> Result<(), DeviceError>;

    /// Makes the stretch read as zeros, to the sector.
    fn write_zeroes(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        mode: ZeroMode,
        durability: Durability,
    ) -> Result<(), DeviceError>;

    /// Whether [`BlockDevice::write_zeroes`] of the stretch is faster than writing zeros would be.
    /// A device that does not know says no.
    fn zeroes_fast(&self, _offset: ByteOffset, _length: ByteLength) -> bool {
        false
    }

    /// How the stretch is held, in order; the lengths add up to `length`, neighbours differ.
    /// A device may stop early after `most` extents.
    fn extents(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        most: usize,
    ) -> Result<Vec<Extent>, DeviceError>;

    /// Whether [`BlockDevice::changes`] knows more than that all may be changed.
    fn tracks_changes(&self) -> bool {
        false
    }

    /// What was written or zeroed since the disk was made, was reset, or had its last snapshot,
    /// whichever came last; told as [`BlockDevice::extents`] tells what it does.
    fn changes(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        most: usize,
    ) -> Result<Vec<Change>, DeviceError> {
        ByteRange::checked(offset, length, self.size())?;
        Ok(if most == 0 { Vec::new() } else { vec![Change { length, is_changed: true }] })
    }
}
