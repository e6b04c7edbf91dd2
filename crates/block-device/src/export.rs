//! Opening a disk to clients, and ending all its I/O from outside its data planes.
//!
//! What must always hold: when [`ExportFence::fence`] has returned, no connection of the disk is
//! open and none can be opened until the export is published again.
//! Left to others: draining the disk itself (`block-store` does that under its own gate).

use std::{fmt::Debug, sync::Arc};

use crate::{BlockDevice, DiskId};

/// Whether what was answered must be made durable before the export closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceMode {
    /// Stop, detach, shutdown: drain, flush, close.
    Flush,
    /// Reset, delete: drain, close; what was written is about to be dropped.
    Drop,
}

/// Why a fence could not be completed. The export is closed all the same.
#[derive(Debug, thiserror::Error)]
#[error("fencing the disk {disk}: {detail}")]
pub struct FenceError {
    /// The disk.
    pub disk: DiskId,
    /// What went wrong, for instance a failed flush.
    pub detail: String,
}

/// Whoever holds connections to disks open.
pub trait ExportFence: Send + Sync + Debug {
    /// Closes the export of the disk and ends its connections; does nothing if there is none.
    fn fence(&self, disk: &DiskId, mode: FenceMode) -> Result<(), FenceError>;
}

/// A data plane that can open disks to clients.
pub trait ExportPlane: ExportFence {
    /// Opens the export of the disk, in place of an earlier one of that name.
    fn publish(&self, disk: &DiskId, device: Arc<dyn BlockDevice>);
}

/// No data plane at all: for embedded use of the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExports;

impl ExportFence for NoExports {
    fn fence(&self, _disk: &DiskId, _mode: FenceMode) -> Result<(), FenceError> {
        Ok(())
    }
}

impl ExportPlane for NoExports {
    fn publish(&self, _disk: &DiskId, _device: Arc<dyn BlockDevice>) {}
}
