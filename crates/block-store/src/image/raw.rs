//! A raw image: the bytes of the disk, with holes.
//!
//! What must always hold: a byte that the file no longer has is an error; a hole is only skipped
//! when the file system says it is one.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

use block_device::SECTOR;
use rustix::{fs::SeekFrom, io::Errno};

use super::{ImageError, witness::Witness};

/// Checks that the file can be a raw disk: whole sectors, at least one.
pub(super) fn size_of(witness: &Witness) -> Result<u64, ImageError> {
    match witness.length() {
        0 => Err(ImageError::refused("the file is empty")),
        length if !length.is_multiple_of(SECTOR) => Err(ImageError::refused(format!(
            "its {length} bytes are not whole sectors of {SECTOR} bytes, as a raw disk's are"
        ))),
        length => Ok(length),
    }
}

/// Fills `buffer` from `offset`.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<(), ImageError> {
    file.read_exact_at(buffer, offset).map_err(|source| {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            ImageError::Changed
        } else {
            ImageError::Io { context: "reading the image", source }
        }
    })
}

/// Reads what there is at `offset`, up to the length of `buffer`.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize, ImageError> {
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + u64::try_from(done).expect("a buffer's length fits");
        match file.read_at(&mut buffer[done..], at) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(ImageError::Io { context: "reading the image", source }),
        }
    }
    Ok(done)
}

/// The next stretch from `from` on that the file system stores bytes for.
pub(super) fn next_data(
    file: &File,
    from: u64,
    size: u64,
) -> Result<Option<Range<u64>>, ImageError> {
    let Some(start) = seek(file, SeekFrom::Data(from), size)? else { return Ok(None) };
    let end = seek(file, SeekFrom::Hole(start), size)?.unwrap_or(size);
    Ok((start < end).then_some(start..end))
}

fn seek(file: &File, place: SeekFrom, size: u64) -> Result<Option<u64>, ImageError> {
    match (rustix::fs::seek(file, place), place) {
        (Ok(found), _) => Ok((found < size).then_some(found)),
        (Err(Errno::NXIO), _) => Ok(None),
        // A file system without holes: all of it is data.
        (Err(Errno::INVAL | Errno::OPNOTSUPP), SeekFrom::Data(from)) => Ok(Some(from)),
        (Err(Errno::INVAL | Errno::OPNOTSUPP), _) => Ok(None),
        (Err(error), _) => {
            Err(ImageError::Io { context: "looking for holes in the image", source: error.into() })
        }
    }
}
