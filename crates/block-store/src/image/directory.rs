//! The directory an image lies in: the only place its backing files may come from.
//!
//! What must always hold: a name leads to a regular file beneath the directory, without `..`, links
//! or anything with a protocol. The kernel keeps that (`RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`),
//! so it also holds for names changed during the call.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{self, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use super::{ImageError, witness::Witness};

/// The directory of an image.
#[derive(Debug)]
pub(super) struct Directory {
    handle: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// The directory that holds the image at `path`.
    pub(super) fn of(path: &Path) -> Result<Self, ImageError> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let context = ImageError::io("opening the directory of the image");
        let path = parent.canonicalize().map_err(&context)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle =
            fs::open(&path, flags, Mode::empty()).map_err(|error| context(error.into()))?;
        Ok(Self { handle, path })
    }

    /// Opens the file that an image in the folder `within` calls `name`; also tells where below the
    /// directory it is.
    pub(super) fn open(&self, within: &Path, name: &str) -> Result<(Witness, PathBuf), ImageError> {
        let refuse =
            |reason: &str| ImageError::Backing { name: name.into(), reason: reason.into() };
        let place = self.place_of(within, name).map_err(&refuse)?;
        // NONBLOCK: a FIFO must not hang the open.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let handle =
            fs::openat2(&self.handle, &place, flags, Mode::empty(), resolve).map_err(|error| {
                match error {
                    Errno::LOOP => refuse("it is a link, or below one"),
                    error => refuse(&std::io::Error::from(error).to_string()),
                }
            })?;
        let witness =
            Witness::of(File::from(handle)).map_err(|error| refuse(&error.to_string()))?;
        Ok((witness, place))
    }

    fn place_of(&self, within: &Path, name: &str) -> Result<PathBuf, &'static str> {
        let first = name.split('/').next().unwrap_or(name);
        if name.is_empty() || name.contains('\0') {
            return Err("it has no usable name");
        }
        if first.contains(':') {
            return Err("only plain local files are followed, no protocols or options");
        }
        let name = Path::new(name);
        let place = match name.strip_prefix(&self.path) {
            Ok(below) => below.to_path_buf(),
            Err(_) if name.is_absolute() => {
                return Err("it is outside the directory of the image");
            }
            Err(_) => within.join(name),
        };
        let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if place.components().all(plain) {
            Ok(place)
        } else {
            Err("only files beneath the directory of the image are followed")
        }
    }
}
