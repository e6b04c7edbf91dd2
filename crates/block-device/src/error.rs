//! Why a request to a disk failed, by what the caller can do about it.
//!
//! What must always hold: every kind maps to one wire code in each data plane's own table.

use std::io;

use crate::{ByteLength, ByteOffset};

/// Why a request to a disk failed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The request ends past the disk.
    #[error("{length} bytes at {offset} end past the disk of {size} bytes")]
    OutOfRange {
        /// Where it starts.
        offset: ByteOffset,
        /// How long it is.
        length: ByteLength,
        /// The size of the disk.
        size: ByteLength,
    },
    /// The request is not made of whole sectors.
    #[error("{length} bytes at {offset} are not whole sectors of 512 bytes")]
    Unaligned {
        /// Where it starts.
        offset: ByteOffset,
        /// How long it is.
        length: ByteLength,
    },
    /// The disk can only be read.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The disk was reset, stopped, detached or deleted since it was opened.
    #[error("the disk was fenced; open it again")]
    Fenced,
    /// The file system below is full.
    #[error("no space left for the disk's data")]
    NoSpace,
    /// The disk refuses writes since one of its syncs failed: what it holds durably is unknown.
    #[error("the disk refuses writes since an earlier failure: {reason}")]
    Poisoned {
        /// What failed first.
        reason: String,
    },
    /// The disk's files are damaged; nothing of the damaged part is served.
    #[error("the disk is damaged: {detail}")]
    Damaged {
        /// What was found.
        detail: String,
    },
    /// The system below failed the request.
    #[error("input/output error")]
    Io(#[source] io::Error),
}

impl From<io::Error> for DeviceError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::StorageFull
            || error.kind() == io::ErrorKind::QuotaExceeded
        {
            Self::NoSpace
        } else {
            Self::Io(error)
        }
    }
}
