//! What of a disk has to be written when it is exported.
//!
//! What must always hold: a stretch that is left out reads as zeros. Holes are skipped by what the
//! disk says of itself, without reading; zeros that are stored are found by looking at them.

use block_device::{BlockDevice, ByteLength, ByteOffset, ExtentKind};

use super::ImageError;
use crate::progress::Progress;

/// How much is read at once.
const PIECE: usize = 1 << 20;
/// How many extents are asked for at once.
const MOST_EXTENTS: usize = 1024;
/// How far ahead the disk is asked for extents, so that progress is told and cancelling works in
/// the emptiest of disks.
const HORIZON: u64 = 1 << 30;

/// Calls `write` for each run of `unit` bytes, aligned to it, that is not all zeros; runs that
/// touch come in one call, of at most [`PIECE`] bytes. The last unit of the disk may be shorter.
pub(super) fn for_each_nonzero(
    device: &dyn BlockDevice,
    unit: usize,
    progress: &dyn Progress,
    mut write: impl FnMut(&[u8], u64) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let size = device.size().get();
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    let mut at = 0;
    while at < size {
        let before = at;
        let ahead = ByteLength::new(HORIZON.min(size - at));
        for extent in device.extents(ByteOffset::new(at), ahead, MOST_EXTENTS)? {
            let end = at + extent.length.get();
            // Whole units are read, also when only a part of one is data; `done` keeps a unit that
            // two extents share from being written twice.
            let mut from = done.max(at - at % wide(unit));
            while extent.kind == ExtentKind::Data && from < end {
                if progress.cancelled() {
                    return Err(ImageError::Cancelled);
                }
                let to = end.next_multiple_of(wide(unit)).min(from + wide(PIECE)).min(size);
                let piece = &mut buffer[..narrow(to - from)];
                device.read_at(piece, ByteOffset::new(from))?;
                write_runs(piece, from, unit, &mut write)?;
                from = to;
                done = to;
                progress.advanced(ByteLength::new(to), device.size());
            }
            at = end;
        }
        assert!(at > before, "a disk answers with at least one extent");
        if progress.cancelled() {
            return Err(ImageError::Cancelled);
        }
        progress.advanced(ByteLength::new(at.max(done)), device.size());
    }
    Ok(())
}

fn write_runs(
    piece: &[u8],
    offset: u64,
    unit: usize,
    write: &mut impl FnMut(&[u8], u64) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let mut start = 0;
    while start < piece.len() {
        let zeros = piece[start..].chunks(unit).take_while(|part| is_zero(part)).map(<[u8]>::len);
        start += zeros.sum::<usize>();
        let data = piece[start..].chunks(unit).take_while(|part| !is_zero(part)).map(<[u8]>::len);
        let length = data.sum::<usize>();
        if length > 0 {
            write(&piece[start..start + length], offset + wide(start))?;
        }
        start += length;
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    // By words of 64 bytes, so that the compiler uses vectors.
    let (words, rest) = bytes.as_chunks::<64>();
    words.iter().all(|word| word.iter().fold(0, |any, byte| any | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits")
}

fn narrow(length: u64) -> usize {
    usize::try_from(length).expect("at most a piece")
}

#[cfg(test)]
mod tests {
    use block_device::{Durability, MemoryDisk};

    use super::*;

    #[test]
    fn units_shared_by_extents_are_written_once_and_zeros_never() {
        let disk = MemoryDisk::new(ByteLength::new(4 * 65536 + 512));
        for sector in [0, 2, 5, 300, 512] {
            let at = ByteOffset::new(sector * 512);
            disk.write_at(&[7; 512], at, Durability::Cached).unwrap();
        }
        let mut runs = Vec::new();
        let noted = |bytes: &[u8], at| {
            runs.push((at, bytes.len()));
            Ok(())
        };
        for_each_nonzero(&disk, 65536, &(), noted).unwrap();
        assert_eq!(runs, [(0, 65536), (2 * 65536, 65536), (4 * 65536, 512)]);
    }
}
