//! Sector contents that tell who wrote them.
//!
//! What must always hold: a sector is one number, all over; any mixture of two writes is told.

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// The content of a sector: a number that no other write has, or 0 for zeros.
pub type Stamp = u64;

/// The bytes of sectors with these stamps.
pub fn bytes_of(stamps: &[Stamp]) -> Vec<u8> {
    stamps.iter().flat_map(|stamp| stamp.to_le_bytes().repeat(SECTOR / 8)).collect()
}

/// The stamp of a sector; none if it is a mixture.
pub fn stamp_of(sector: &[u8]) -> Option<Stamp> {
    let (first, _) = sector.split_at(8);
    let is_whole = sector[8..] == sector[..sector.len() - 8];
    is_whole.then(|| Stamp::from_le_bytes(first.try_into().expect("8 bytes")))
}
