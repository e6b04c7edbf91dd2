//! Opening a catalog, and the ladder to go down when that fails.
//!
//! ```text
//! 1. open it, read every record        -> Clean
//! 2. a copy without sled's `snap.*`    -> WithoutSnapshot   (a torn one makes open fail, though
//!                                                            the log it was derived from is whole)
//! 3. the export beside it              -> FromExport        (older; marked as an import)
//! 4. nothing left                      -> NeedsRebuild      (from the headers of the layers)
//! ```
//!
//! What must always hold
//! 1. No rung is taken for anything but damage: a full disk, a missing right, a second process or a
//!    newer version is an error that changes nothing.
//! 2. The bad directory is renamed, never deleted, and only after its replacement is durable.
//! 3. sled may panic or hang on a damaged file, so every attempt runs on a thread of its own with a
//!    time limit. A hung thread goes on using *paths*, so after a time-out nothing is moved in this
//!    process: a file remembers it, and the next start begins with rung 2.
//!
//! Left to others: writing exports in time, rebuilding from layers, telling the operator (the
//! daemon).

use std::fs::{self, File};
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::error::{CatalogError, io_error};
use crate::export;
use crate::sled_catalog::database::{Database, OpenFailure};
use crate::sled_catalog::directory::{self, COPY, NEW};

/// The name of the export that recovery looks for, in the directory the catalog lies in.
pub const EXPORT_NAME: &str = "catalog.export.jsonl";

/// The ending of the file that remembers an opening without end.
const TIMED_OUT: &str = "timed-out";

/// How a catalog came to be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// As it was left.
    Clean,
    /// A derived file was damaged; no record was lost.
    WithoutSnapshot {
        /// Where the damaged directory is now.
        bad: PathBuf,
        /// What was wrong with it.
        cause: String,
    },
    /// It was unreadable and the export took its place: what came after that export is lost.
    FromExport {
        /// Where the damaged directory is now.
        bad: PathBuf,
        /// The export.
        export: PathBuf,
        /// How many records it had.
        records: u64,
        /// What was wrong with the directory and with a copy of it.
        cause: String,
    },
}

/// Opens the catalog, as far down the ladder as it takes.
pub(crate) fn open(directory: &Path) -> Result<(Database, Opening), CatalogError> {
    if !directory.is_dir() {
        return Err(CatalogError::Missing { path: directory.to_owned() });
    }
    let hung_before = directory::beside(directory, TIMED_OUT);
    let first = if hung_before.exists() {
        Err(OpenFailure::Damaged("the last attempt to open it did not end".to_owned()))
    } else {
        attempt(directory)
    };
    let opened = match first {
        Ok(database) => (database, Opening::Clean),
        Err(OpenFailure::Damaged(cause)) => rescue(directory, cause)?,
        Err(OpenFailure::Other(error)) => {
            if matches!(error, CatalogError::OpenTimedOut { .. }) {
                File::create(&hung_before).map_err(io_error("create", &hung_before))?;
            }
            return Err(error);
        }
    };
    tidy(directory, &hung_before)?;
    Ok(opened)
}

/// Nothing half-made stays beside a catalog that is open.
fn tidy(directory: &Path, hung_before: &Path) -> Result<(), CatalogError> {
    if hung_before.exists() {
        fs::remove_file(hung_before).map_err(io_error("remove", hung_before))?;
    }
    for ending in [NEW, COPY] {
        if let Some(bad) = directory::set_aside(directory, &directory::beside(directory, ending))? {
            tracing::warn!(path = %bad.display(), "set aside what an interrupted start or compaction left");
        }
    }
    Ok(())
}

/// Rungs two to four.
fn rescue(directory: &Path, cause: String) -> Result<(Database, Opening), CatalogError> {
    let copy_cause = match open_copy(directory)? {
        Ok(copy) => {
            let (database, bad) = adopt(&copy, directory)?;
            return Ok((database, Opening::WithoutSnapshot { bad, cause }));
        }
        Err(copy_cause) => copy_cause,
    };
    let cause = format!("{cause}; a copy without derived files: {copy_cause}");
    let export = directory::parent(directory).join(EXPORT_NAME);
    if !export.exists() {
        let export = format!("there is no export {}", export.display());
        return Err(CatalogError::NeedsRebuild { path: directory.to_owned(), cause, export });
    }
    let (new, records) = build_from(&export, directory).map_err(|error| {
        if !matches!(error, CatalogError::BadExport { .. }) {
            return error;
        }
        let (cause, export) = (cause.clone(), export::chain(&error));
        CatalogError::NeedsRebuild { path: directory.to_owned(), cause, export }
    })?;
    let (database, bad) = adopt(&new, directory)?;
    Ok((database, Opening::FromExport { bad, export, records, cause }))
}

/// A copy that opens and is whole, closed and durable; else what is wrong with it.
fn open_copy(directory: &Path) -> Result<Result<PathBuf, String>, CatalogError> {
    let copy = directory::beside(directory, COPY);
    directory::set_aside(directory, &copy)?;
    directory::copy_without_snapshots(directory, &copy)?;
    match attempt(&copy) {
        Ok(database) => drop(database),
        Err(OpenFailure::Damaged(cause)) => {
            directory::remove_copy(&copy);
            return Ok(Err(cause));
        }
        Err(OpenFailure::Other(error @ CatalogError::OpenTimedOut { .. })) => {
            return Ok(Err(error.to_string()));
        }
        Err(OpenFailure::Other(error)) => return Err(error),
    }
    directory::sync_all(&copy)?;
    Ok(Ok(copy))
}

fn build_from(export: &Path, directory: &Path) -> Result<(PathBuf, u64), CatalogError> {
    let file = File::open(export).map_err(io_error("open", export))?;
    let (pairs, records) = export::read_marked(&mut BufReader::new(file))?;
    let new = directory::beside(directory, NEW);
    directory::set_aside(directory, &new)?;
    directory::build(&new, &pairs)?;
    Ok((new, records))
}

/// Puts a good database in the catalog's place; where the bad one is now.
fn adopt(good: &Path, directory: &Path) -> Result<(Database, PathBuf), CatalogError> {
    directory::exchange(good, directory)?;
    let bad = directory::set_aside(directory, good)?
        .ok_or_else(|| CatalogError::Missing { path: good.to_owned() })?;
    let database = attempt(directory).map_err(OpenFailure::into_error)?;
    Ok((database, bad))
}

/// Opens and reads everything, whatever the bytes make sled do.
fn attempt(directory: &Path) -> Result<Database, OpenFailure> {
    let limit = time_limit(directory);
    let path = directory.to_owned();
    let (done, result) = sync_channel(1);
    let opening = move || {
        let opened = catch_unwind(AssertUnwindSafe(|| open_and_verify(&path)));
        let panicked = |panic: Box<dyn std::any::Any + Send>| Err(panic_failure(&*panic));
        // Nobody listens any more after a time-out.
        drop(done.send(opened.unwrap_or_else(panicked)));
    };
    thread::Builder::new()
        .name("catalog-open".to_owned())
        .spawn(opening)
        .map_err(|source| OpenFailure::Other(io_error("start a thread for", directory)(source)))?;
    result.recv_timeout(limit).unwrap_or_else(|error| match error {
        RecvTimeoutError::Timeout => {
            let (path, seconds) = (directory.to_owned(), limit.as_secs());
            Err(OpenFailure::Other(CatalogError::OpenTimedOut { path, seconds }))
        }
        RecvTimeoutError::Disconnected => {
            Err(OpenFailure::Damaged("opening it panicked".to_owned()))
        }
    })
}

fn open_and_verify(directory: &Path) -> Result<Database, OpenFailure> {
    let database = Database::open(directory)?;
    match database.verify() {
        Ok(()) => Ok(database),
        Err(error @ (CatalogError::Damaged { .. } | CatalogError::Unreadable { .. })) => {
            Err(OpenFailure::Damaged(export::chain(&error)))
        }
        Err(error) => Err(OpenFailure::Other(error)),
    }
}

fn panic_failure(panic: &(dyn std::any::Any + Send)) -> OpenFailure {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    OpenFailure::Damaged(format!("opening it panicked: {text}"))
}

/// A minute, and a second for every 4 MiB: far more than a slow disk needs.
fn time_limit(directory: &Path) -> Duration {
    Duration::from_secs(60 + directory::log_size(directory) / (4 << 20))
}
