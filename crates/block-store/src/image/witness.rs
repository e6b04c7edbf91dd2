//! Tells whether a file is still the one that was opened.
//!
//! What must always hold: a witness is taken before the first byte is believed. Size, times and
//! inode then cover every change an honest writer can make; a change within the same tick of the
//! file system's clock, or one that sets the clock back, is not seen.

use std::{fs::File, os::unix::fs::MetadataExt};

use super::ImageError;

/// A file and what it was like when it was opened.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
    seen: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: FileIdentity,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Which file it is, on this machine.
pub(super) type FileIdentity = (u64, u64);

impl Witness {
    /// Looks at the file; anything but a regular file is refused.
    pub(super) fn of(file: File) -> Result<Self, ImageError> {
        let seen = Stamp::of(&file)?;
        Ok(Self { file, seen })
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Its length when it was opened.
    pub(super) fn length(&self) -> u64 {
        self.seen.size
    }

    /// Which file it is.
    pub(super) fn identity(&self) -> FileIdentity {
        self.seen.inode
    }

    /// Fails if the file is not as it was.
    pub(super) fn check_unchanged(&self) -> Result<(), ImageError> {
        if Stamp::of(&self.file)? == self.seen { Ok(()) } else { Err(ImageError::Changed) }
    }
}

impl Stamp {
    fn of(file: &File) -> Result<Self, ImageError> {
        let found = file.metadata().map_err(ImageError::io("looking at the image file"))?;
        if !found.is_file() {
            return Err(ImageError::refused("it is not a regular file"));
        }
        Ok(Self {
            inode: (found.dev(), found.ino()),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}
