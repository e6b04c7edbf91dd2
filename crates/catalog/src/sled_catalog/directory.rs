//! The catalog's directory and the export beside it: made, copied, exchanged, set aside.
//!
//! What must always hold
//! 1. From its creation on there is a catalog under its name at every moment: it is made under
//!    another name, synced, and exchanged in one step.
//! 2. What was bad, or cannot be told from it, is renamed `catalog.bad-<time>`, never deleted.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::database::{Database, LOG_NAME, OpenFailure};
use crate::error::{CatalogError, io_error};
use crate::export::{Pair, unix_time};

/// The ending of a catalog that is being made.
pub(crate) const NEW: &str = "new";

/// The ending of a copy that is being tried.
pub(crate) const COPY: &str = "copy";

/// What sled's derived files begin with.
const SNAPSHOT_PREFIX: &str = "snap.";

/// Makes a catalog of these pairs where there is nothing yet.
pub(crate) fn create(directory: &Path, pairs: &[Pair]) -> Result<(), CatalogError> {
    if directory.symlink_metadata().is_ok() {
        return Err(CatalogError::Exists { path: directory.to_owned() });
    }
    let new = beside(directory, NEW);
    set_aside(directory, &new)?;
    build(&new, pairs)?;
    rename(&new, directory, RenameFlags::NOREPLACE)
}

/// Makes a catalog of these pairs, in the place of what may be there; what that is called now.
pub(crate) fn replace(directory: &Path, pairs: &[Pair]) -> Result<Option<PathBuf>, CatalogError> {
    if directory.symlink_metadata().is_err() {
        return create(directory, pairs).map(|()| None);
    }
    let new = beside(directory, NEW);
    set_aside(directory, &new)?;
    build(&new, pairs)?;
    exchange(&new, directory)?;
    set_aside(directory, &new)
}

/// Makes a complete, checked and durable database of these pairs, and closes it.
pub(crate) fn build(directory: &Path, pairs: &[Pair]) -> Result<(), CatalogError> {
    let built = build_and_check(directory, pairs);
    if built.is_err() {
        // Half a copy of records that are all elsewhere; on a full disk it must not stay.
        remove_copy(directory);
    }
    built
}

fn build_and_check(directory: &Path, pairs: &[Pair]) -> Result<(), CatalogError> {
    Database::build(directory, pairs)?;
    let database = Database::open(directory).map_err(OpenFailure::into_error)?;
    database.verify()?;
    drop(database);
    sync_all(directory)
}

/// Copies a database without sled's derived files, which it can do without.
pub(crate) fn copy_without_snapshots(from: &Path, to: &Path) -> Result<(), CatalogError> {
    fs::create_dir(to).map_err(io_error("create", to))?;
    for entry in entries(from)? {
        let name = entry.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with(SNAPSHOT_PREFIX) {
            continue;
        }
        let copy = to.join(name);
        if entry.is_dir() {
            copy_without_snapshots(&entry, &copy)?;
        } else {
            fs::copy(&entry, &copy).map_err(io_error("copy", &entry))?;
        }
    }
    Ok(())
}

/// Syncs every file below and every directory, the given one included.
pub(crate) fn sync_all(directory: &Path) -> Result<(), CatalogError> {
    for entry in entries(directory)? {
        if entry.is_dir() {
            sync_all(&entry)?;
        } else {
            sync(&entry)?;
        }
    }
    sync(directory)
}

/// Puts `other` in the place of `directory` and the other way round, durably.
pub(crate) fn exchange(other: &Path, directory: &Path) -> Result<(), CatalogError> {
    rename(other, directory, RenameFlags::EXCHANGE)
}

/// Writes a file under another name, syncs it and puts it in its place in one step. A reader, and a
/// crash, finds the old or the new one, whole.
pub(crate) fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<u64, CatalogError>,
) -> Result<u64, CatalogError> {
    let new = beside(path, NEW);
    let mut out = BufWriter::new(File::create(&new).map_err(io_error("create", &new))?);
    let records = write(&mut out)?;
    out.flush().map_err(io_error("write", &new))?;
    sync(&new)?;
    rename(&new, path, RenameFlags::empty())?;
    Ok(records)
}

/// Renames `path`, if it exists, to a name that says it is bad; which one.
pub(crate) fn set_aside(directory: &Path, path: &Path) -> Result<Option<PathBuf>, CatalogError> {
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let now = unix_time();
    let names = (0..).map(|n: u32| match n {
        0 => beside(directory, &format!("bad-{now}")),
        n => beside(directory, &format!("bad-{now}-{n}")),
    });
    for bad in names {
        match rename(path, &bad, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(Some(bad)),
            Err(CatalogError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    unreachable!("there are more names than directories")
}

/// Removes a directory whose every record is in another one that is durable. If that fails it is
/// only in the way, and set aside later.
pub(crate) fn remove_copy(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        tracing::warn!(path = %directory.display(), %error, "cannot remove a copy of the catalog");
    }
}

/// The path with `.ending` after its name.
pub(crate) fn beside(directory: &Path, ending: &str) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    directory.with_file_name(name)
}

/// The size of sled's file.
pub(crate) fn log_size(directory: &Path) -> u64 {
    directory.join(LOG_NAME).metadata().map_or(0, |metadata| metadata.len())
}

/// The directory that this one lies in.
pub(crate) fn parent(directory: &Path) -> &Path {
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), CatalogError> {
    let renamed = renameat_with(CWD, from, CWD, to, flags);
    renamed.map_err(|errno| io_error("rename", from)(errno.into()))?;
    sync(parent(to))
}

fn sync(path: &Path) -> Result<(), CatalogError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(io_error("sync", path))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, CatalogError> {
    let listed = fs::read_dir(directory).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
    });
    listed.map_err(io_error("list", directory))
}
