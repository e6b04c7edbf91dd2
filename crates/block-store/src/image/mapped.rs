//! An image whose format the library `imago` understands.
//!
//! What must always hold
//! 1. Every read is resolved to a place in a file first, and that place must be inside the file as
//!    it was opened: the library itself reads past an end as zeros, which would turn a file that
//!    was cut short into a disk with holes.
//! 2. The library never unwinds into our callers. What is known to make it panic is refused before
//!    (see `qcow2_header`); [`contained`] is the last resort against what is not known.
//! 3. One call looks at a bounded part: a buffer's length, or the maps up to the next data.
//!
//! Memory: the library keeps up to 128 L2 tables of each file, 8 MiB with clusters of 64 KiB and
//! 256 MiB at worst (2 MiB clusters, 64 TiB of disk).

use std::{
    fs::File,
    io,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
};

use block_device::{ByteLength, SECTOR};
use imago::{FormatAccess, Mapping, Storage, StorageExt, StorageOpenOptions};

use super::{ImageError, witness::Witness};

/// A file as the library wants it.
pub(super) type Stored = imago::file::File;
/// An open image as the library gives it.
pub(super) type Opened = FormatAccess<Stored>;

/// An open image.
#[derive(Debug)]
pub(super) struct MappedImage {
    image: Opened,
}

/// The kinds of stretches a reader must tell apart.
enum Held<'a> {
    /// Plain bytes in a file.
    Plain(&'a Stored, u64),
    /// Bytes that only the library can decode.
    Encoded,
    /// Zeros.
    Zeros,
}

impl MappedImage {
    /// Takes an image that was opened.
    pub(super) fn new(image: Opened) -> Self {
        Self { image }
    }

    /// The size of the disk in it.
    pub(super) fn size(&self) -> u64 {
        self.image.size()
    }

    /// Fills `buffer` from `offset`.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), ImageError> {
        contained(|| self.read_pieces(buffer, offset))
    }

    /// The next stretch from `from` on that may hold something else than zeros.
    pub(super) fn next_data(&self, from: u64) -> Result<Option<Range<u64>>, ImageError> {
        contained(|| {
            let mut start = from;
            while start < self.size() {
                let (held, length) = self.held_at(start, self.size() - start)?;
                if !matches!(held, Held::Zeros) {
                    return self.end_of_data(start + length).map(|end| Some(start..end));
                }
                start += length;
            }
            Ok(None)
        })
    }

    /// Checks every place the image's maps name; for formats whose maps are a few lines long.
    pub(super) fn check_all(&self) -> Result<(), ImageError> {
        contained(|| {
            let mut at = 0;
            while at < self.size() {
                let (held, length) = self.held_at(at, self.size() - at)?;
                if let Held::Plain(file, offset) = held {
                    inside(file, offset, length)?;
                }
                at += length;
            }
            Ok(())
        })
    }

    fn read_pieces(&self, buffer: &mut [u8], offset: u64) -> Result<(), ImageError> {
        let mut rest = buffer;
        let mut at = offset;
        while !rest.is_empty() {
            let wanted = u64::try_from(rest.len()).expect("a buffer's length fits");
            let (held, length) = self.held_at(at, wanted)?;
            let count = usize::try_from(length).expect("at most what was wanted");
            let (piece, after) = rest.split_at_mut(count);
            match held {
                Held::Plain(file, offset) => {
                    inside(file, offset, length)?;
                    file.read(piece, offset).map_err(ImageError::of_library)?;
                }
                Held::Encoded => self.image.read(piece, at).map_err(ImageError::of_library)?,
                Held::Zeros => piece.fill(0),
            }
            rest = after;
            at += length;
        }
        Ok(())
    }

    /// Grows a stretch of data by what follows it, up to [`LONGEST_STRETCH`].
    fn end_of_data(&self, first_end: u64) -> Result<u64, ImageError> {
        let limit = self.size().min(first_end.saturating_add(LONGEST_STRETCH));
        let mut end = first_end;
        while end < limit {
            match self.held_at(end, limit - end)? {
                (Held::Zeros, _) => break,
                (_, length) => end += length,
            }
        }
        Ok(end)
    }

    /// How the disk is held at `at`, for 1 to `most` bytes.
    fn held_at(&self, at: u64, most: u64) -> Result<(Held<'_>, u64), ImageError> {
        let (mapping, length) = self.image.get_mapping(at, most).map_err(ImageError::of_library)?;
        let held = match mapping {
            Mapping::Raw { storage, offset, .. } => Held::Plain(storage, offset),
            Mapping::Special { .. } => Held::Encoded,
            Mapping::Zero { .. } => Held::Zeros,
            Mapping::Eof { .. } | _ => return Err(maps_end_early()),
        };
        match length.min(most) {
            0 => Err(maps_end_early()),
            length => Ok((held, length)),
        }
    }
}

/// Readers share the work by stretches; longer ones would only delay them.
const LONGEST_STRETCH: u64 = 64 << 20;

/// The largest disk that is read: what a cloud disk can be, and far below where any arithmetic on
/// offsets could wrap.
pub(super) const LARGEST_DISK: u64 = 64 << 40;

/// Checks a size that an image claims.
pub(super) fn check_size(size: u64) -> Result<(), ImageError> {
    if size == 0 {
        Err(ImageError::refused("its disk has no bytes"))
    } else if size > LARGEST_DISK {
        let most = ByteLength::new(LARGEST_DISK);
        Err(ImageError::TooLarge { size: ByteLength::new(size), most })
    } else if !size.is_multiple_of(SECTOR) {
        Err(ImageError::refused(format!(
            "its disk of {size} bytes is not made of whole sectors of {SECTOR} bytes"
        )))
    } else {
        Ok(())
    }
}

/// Gives the library a second handle of the same open file, under a name that leads nowhere.
pub(super) fn stored(witness: &Witness) -> Result<Stored, ImageError> {
    let context = "sharing the handle of the image";
    let handle: File = witness.file().try_clone().map_err(ImageError::io(context))?;
    let options = StorageOpenOptions::new().write(false).filename("./image");
    Stored::from_open_file(handle, options).map_err(ImageError::io(context))
}

/// Runs a call into the library; a panic there refuses the image.
pub(super) fn contained<T>(call: impl FnOnce() -> Result<T, ImageError>) -> Result<T, ImageError> {
    // Unwind safe: images are opened for reading only, and the library's locks guard caches of what
    // is in the file, which a panic leaves either with or without an entry.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(ImageError::refused("its format library cannot make sense of it (it panicked)"))
    })
}

fn maps_end_early() -> ImageError {
    ImageError::refused("its maps end before its disk does")
}

fn inside(file: &Stored, offset: u64, length: u64) -> Result<(), ImageError> {
    let end = file.size().map_err(ImageError::of_library)?;
    match offset.checked_add(length) {
        Some(wanted) if wanted <= end => Ok(()),
        _ => Err(ImageError::refused(format!(
            "it was cut: data at {offset} lies past the end of its file of {end} bytes"
        ))),
    }
}

/// For results of opening calls.
pub(super) fn opened<T>(result: io::Result<T>) -> Result<T, ImageError> {
    result.map_err(ImageError::of_library)
}
