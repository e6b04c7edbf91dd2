//! What can go wrong, by what the caller would do about it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::codec::CodecError;
use crate::envelope::EnvelopeError;

/// Why the catalog did not do what it was asked.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// A precondition did not hold; nothing was changed. Read again and decide anew.
    #[error("{key} is not as it was expected to be")]
    Conflict {
        /// The record that was otherwise.
        key: String,
    },
    /// The record or its key is larger than the catalog takes; nothing was changed. The client's
    /// input is too long.
    #[error("{key} needs {bytes} bytes, the most is {limit}")]
    TooLarge {
        /// The record.
        key: String,
        /// What it needs.
        bytes: usize,
        /// What there is.
        limit: usize,
    },
    /// The record has no stored form; nothing was changed. A mistake of ours.
    #[error("{key} cannot be encoded")]
    Encode {
        /// The record.
        key: String,
        /// Why.
        #[source]
        source: CodecError,
    },
    /// Stored bytes are not what was written. Other records are not concerned.
    #[error("the record {key} is damaged")]
    Damaged {
        /// Where it lies.
        key: String,
        /// What is wrong with it.
        #[source]
        source: EnvelopeError,
    },
    /// An earlier write to the device failed, so this commit was not tried. A later success would
    /// prove nothing; restart, which reads what the device holds.
    #[error("the catalog takes no more changes until a restart: {reason}")]
    Refused {
        /// What failed.
        reason: String,
    },
    /// The write to the device failed under this commit: after a restart it may or may not be
    /// there. Undo nothing that rests on it.
    #[error("it is not known whether the change is stored: {reason}")]
    InDoubt {
        /// What failed.
        reason: String,
    },
    /// The database could not answer a read.
    #[error("the database cannot read {what}: {detail}")]
    Unreadable {
        /// What was asked for.
        what: String,
        /// What it says.
        detail: String,
    },
    /// An export is not whole or not one of ours; nothing was changed.
    #[error("the export cannot be used: line {line}: {reason}")]
    BadExport {
        /// Counted from 1.
        line: u64,
        /// What is wrong there.
        reason: String,
    },
    /// Import wants an empty catalog; nothing was changed.
    #[error("the catalog already holds {records} records")]
    NotEmpty {
        /// How many.
        records: u64,
    },
    /// There is no catalog. Create one.
    #[error("there is no catalog at {}", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// There is a catalog already. Open it.
    #[error("there is something at {} already", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("the catalog at {} is in use by another process", path.display())]
    Busy {
        /// Which.
        path: PathBuf,
    },
    /// A later program wrote this catalog. Use that one; nothing was changed.
    #[error("the catalog was written by a newer program: {key} has version {version}")]
    Newer {
        /// A record that shows it.
        key: String,
        /// Its version.
        version: u16,
    },
    /// Opening did not come to an end. Start again: the next start works on a copy.
    #[error("opening {} took longer than {seconds} seconds", path.display())]
    OpenTimedOut {
        /// Which.
        path: PathBuf,
        /// How long it was given.
        seconds: u64,
    },
    /// Neither the database nor a copy nor an export could be read: the catalog has to be rebuilt
    /// from the layers. Nothing was deleted.
    #[error("the catalog at {} cannot be read and must be rebuilt from the layers: {cause}; {export}", path.display())]
    NeedsRebuild {
        /// Which.
        path: PathBuf,
        /// What is wrong with the database and with a copy of it.
        cause: String,
        /// Why the export is no help.
        export: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// For `map_err`: the file system refused `action` on `path`.
pub(crate) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> CatalogError {
    let path = path.to_owned();
    move |source| CatalogError::Io { action, path, source }
}
