//! Opening a disk to clients, and ending all its I/O from outside its data planes.
//!
//! What must always hold: when [`ExportFence::fence`] has returned, no connection of the disk is
//! open and none can be opened until the export is published again.
//! Left to others: draining the disk itself (`block-store` does that under its own gate).

use std::{fmt::Debug, ops::AddAssign, sync::Arc};

use crate::{BlockDevice, DiskId, Pace, Rates, RequestTimes};

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
    /// Opens the export of the disk, in place of an earlier one of that name. Its requests wait for
    /// their turns; the pace ends with the export.
    fn publish(&self, disk: &DiskId, device: Arc<dyn BlockDevice>, pace: Arc<Pace>);

    /// Changes how fast the disk may go, if its export is open.
    fn set_rates(&self, disk: &DiskId, rates: Rates);

    /// What its exports do. One that has none, or counts nothing, has nothing to tell.
    fn activity(&self) -> PlaneActivity {
        PlaneActivity::default()
    }
}

/// What a data plane has done and has in hand.
#[derive(Clone, Debug, Default)]
pub struct PlaneActivity {
    /// The exports that are open, in the order of their names.
    pub exports: Vec<(DiskId, ExportCounters)>,
    /// The sum over those that are closed.
    pub closed: ExportCounters,
}

impl PlaneActivity {
    /// The sum over all exports, open and closed: what was counted in it never goes back.
    pub fn total(&self) -> ExportCounters {
        let mut total = self.closed;
        self.exports.iter().for_each(|(_, counters)| total += *counters);
        total
    }
}

/// What an export has done since it was published, and has in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportCounters {
    /// Connections open now.
    pub connections: u64,
    /// Requests taken from clients and not answered yet.
    pub under_way: u64,
    /// Connections ever opened.
    pub connected: u64,
    /// READ requests.
    pub reads: u64,
    /// Bytes asked by them.
    pub bytes_read: u64,
    /// WRITE requests.
    pub writes: u64,
    /// Bytes sent with them.
    pub bytes_written: u64,
    /// FLUSH requests.
    pub flushes: u64,
    /// TRIM and WRITE_ZEROES requests.
    pub zeroings: u64,
    /// Bytes asked by them.
    pub bytes_zeroed: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// How long the others took, by [`Operation`](crate::Operation), in the order of its list.
    pub times: [RequestTimes; 4],
}

impl AddAssign for ExportCounters {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.under_way += other.under_way;
        self.connected += other.connected;
        self.reads += other.reads;
        self.bytes_read += other.bytes_read;
        self.writes += other.writes;
        self.bytes_written += other.bytes_written;
        self.flushes += other.flushes;
        self.zeroings += other.zeroings;
        self.bytes_zeroed += other.bytes_zeroed;
        self.errors += other.errors;
        self.times.iter_mut().zip(other.times).for_each(|(times, more)| *times += more);
    }
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
    fn publish(&self, _disk: &DiskId, _device: Arc<dyn BlockDevice>, _pace: Arc<Pace>) {}

    fn set_rates(&self, _disk: &DiskId, _rates: Rates) {}
}
