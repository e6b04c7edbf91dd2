//! Numbers with a meaning: where on a disk, and how much of it.
//!
//! What must always hold: an offset is never used as a length, and arithmetic never wraps.
//! Left to others: clusters and blocks as indexes (`block-store`'s geometry).

use std::fmt;

use crate::DeviceError;

/// The logical sector: the unit every request is aligned to, in bytes.
pub const SECTOR: u64 = 512;
/// The block: the unit that is present, zero or absent in a layer, in bytes.
pub const BLOCK: u64 = 4096;
/// The cluster: the unit of one map word, in bytes.
pub const CLUSTER: u64 = 65536;

/// A place on a disk, in bytes from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteOffset(u64);

/// An amount of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteLength(u64);

impl ByteOffset {
    /// The start of the disk.
    pub const ZERO: Self = Self(0);

    /// The place `bytes` from the start.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes from the start.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place `length` further on, unless that passes 2^64.
    pub fn checked_add(self, length: ByteLength) -> Option<Self> {
        self.0.checked_add(length.0).map(Self)
    }
}

impl ByteLength {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of `bytes`.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The length of a buffer.
    pub fn of(buffer: &[u8]) -> Self {
        // Lossless: no buffer is longer than 2^64 bytes.
        Self(u64::try_from(buffer.len()).unwrap_or(u64::MAX))
    }

    /// Bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ByteLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A stretch of a disk; its end never passes 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// The stretch of `length` bytes from `start`, if it is aligned to [`SECTOR`] and ends
    /// within `size`. The one check every device makes of every request.
    pub fn checked(
        start: ByteOffset,
        length: ByteLength,
        size: ByteLength,
    ) -> Result<Self, DeviceError> {
        let end = start.checked_add(length).map_or(u64::MAX, ByteOffset::get);
        if end > size.get() {
            return Err(DeviceError::OutOfRange { offset: start, length, size });
        }
        if !start.get().is_multiple_of(SECTOR) || !length.get().is_multiple_of(SECTOR) {
            return Err(DeviceError::Unaligned { offset: start, length });
        }
        Ok(Self { start: start.get(), end })
    }

    /// First byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// First byte after it.
    pub fn end(self) -> u64 {
        self.end
    }

    /// How many bytes.
    pub fn length(self) -> u64 {
        self.end - self.start
    }

    /// Whether it holds nothing.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}
