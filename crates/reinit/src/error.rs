//! Why a reset or a verification failed.

use block_device::{DeviceError, DiskId, FenceError};
use block_store::StoreError;

/// Why a reset or a verification failed. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// The store refused, or the ledger failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An export could not be closed in order; it is closed all the same, and the disk was not
    /// reset.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// The disk could not be read back.
    #[error("reading disk {disk} back")]
    Read {
        /// The disk.
        disk: DiskId,
        /// What the disk said.
        source: DeviceError,
    },
}
