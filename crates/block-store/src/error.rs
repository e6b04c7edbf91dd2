//! Why the store refused or failed, by what the caller can do about it.
//!
//! What must always hold: each kind maps to one wire code in one exhaustive table (`ecs-http`),
//! and to one [`DeviceError`] here; a message names the thing it is about.

use std::io;

use block_device::{ByteLength, DeviceError, DiskId};

use crate::{LayerId, image::ImageError, storage::LockError};

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No disk of that name.
    #[error("there is no disk {0}")]
    UnknownDisk(DiskId),
    /// The name is taken.
    #[error("there is already a disk {0}")]
    DiskExists(DiskId),
    /// No layer of that name, or it is being deleted.
    #[error("there is no layer {0}")]
    UnknownLayer(LayerId),
    /// The size is none a disk can have, or not larger than before.
    #[error("a size of {size} bytes is not possible: {reason}")]
    InvalidSize {
        /// The size asked for.
        size: ByteLength,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The chain below would become longer than the store follows.
    #[error("the layer {0} already stands on the longest chain allowed")]
    ChainTooLong(LayerId),
    /// The same disk twice in one batch.
    #[error("the disk {0} is named twice in one batch")]
    NamedTwice(DiskId),
    /// The disk is damaged or refuses writes since an earlier failure; others are served.
    #[error("the disk {disk} is refused: {reason}")]
    Refused {
        /// The disk.
        disk: DiskId,
        /// What was found.
        reason: String,
    },
    /// A file of the store is damaged.
    #[error("{what} is damaged: {detail}")]
    Damaged {
        /// Which file or record.
        what: String,
        /// What was found.
        detail: String,
    },
    /// A write or sync of the ledger failed: it takes no further record until the store is
    /// opened again.
    #[error("the ledger takes no further record since {0}; restart to settle what happened")]
    LedgerFailed(String),
    /// Another process has the store open.
    #[error("the store is in use by process {holder}")]
    Locked {
        /// The process that holds the lock, as it wrote itself.
        holder: String,
    },
    /// The directory holds no store.
    #[error("there is no store here")]
    NotAStore,
    /// The directory already holds a store, or layers of one.
    #[error("there is already a store here")]
    NotEmpty,
    /// A file was written by a newer program, or by none of ours.
    #[error("{what}: {detail}")]
    UnknownFormat {
        /// Which file.
        what: String,
        /// Its version or feature that is not known here.
        detail: String,
    },
    /// The file system is full.
    #[error("no space left on the store's file system")]
    NoSpace,
    /// The operation was asked to stop; nothing of it is left.
    #[error("cancelled")]
    Cancelled,
    /// The image to import was refused.
    #[error(transparent)]
    Source(#[from] ImageError),
    /// The system below failed.
    #[error("{context}")]
    Io {
        /// What was being done to what.
        context: String,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// A failure of the system below, told with what was being done.
    pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let context = context.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io { context, source },
        }
    }

    /// Damage found in a file or record.
    pub(crate) fn damaged(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), detail: detail.into() }
    }
}

impl From<LockError> for StoreError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held(holder) => Self::Locked { holder },
            LockError::Io(source) => Self::io("taking the store's lock")(source),
        }
    }
}

impl From<StoreError> for DeviceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSpace => Self::NoSpace,
            StoreError::Io { source, .. } => Self::from(source),
            StoreError::Refused { reason, .. } => Self::Poisoned { reason },
            StoreError::LedgerFailed(reason) => Self::Poisoned { reason },
            other => Self::Damaged { detail: other.to_string() },
        }
    }
}

/// How the caller's own commit failed.
#[derive(Debug)]
pub enum CommitError<E> {
    /// Nothing of it will ever be found.
    NotDone(E),
    /// It may be found after a restart.
    InDoubt(E),
}

/// Why a snapshot was not made.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError<E> {
    /// The store could not make it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller's own commit failed: the snapshot does not exist, or that is in doubt until the
    /// next start. The disk goes on.
    #[error("the snapshot could not be recorded")]
    Commit(E),
}
