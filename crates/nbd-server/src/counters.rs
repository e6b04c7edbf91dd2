//! What an export has done, counted for `/metrics`.
//!
//! What must always hold: counting takes no lock; a snapshot may be in the middle of a request.

use std::sync::atomic::{AtomicU64, Ordering};

/// What an export has done since it was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportCounters {
    /// Connections open now.
    pub connections: u64,
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
}

/// The counters of an export. Relaxed everywhere: nothing is decided by them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connected: AtomicU64,
    reads: AtomicU64,
    bytes_read: AtomicU64,
    writes: AtomicU64,
    bytes_written: AtomicU64,
    flushes: AtomicU64,
    zeroings: AtomicU64,
    bytes_zeroed: AtomicU64,
    errors: AtomicU64,
}

impl Counters {
    pub(crate) fn connection(&self) {
        add(&self.connected, 1);
    }

    pub(crate) fn read(&self, bytes: u64) {
        add(&self.reads, 1);
        add(&self.bytes_read, bytes);
    }

    pub(crate) fn write(&self, bytes: u64) {
        add(&self.writes, 1);
        add(&self.bytes_written, bytes);
    }

    pub(crate) fn flush(&self) {
        add(&self.flushes, 1);
    }

    pub(crate) fn zeroing(&self, bytes: u64) {
        add(&self.zeroings, 1);
        add(&self.bytes_zeroed, bytes);
    }

    pub(crate) fn error(&self) {
        add(&self.errors, 1);
    }

    pub(crate) fn snapshot(&self, connections: u64) -> ExportCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ExportCounters {
            connections,
            connected: get(&self.connected),
            reads: get(&self.reads),
            bytes_read: get(&self.bytes_read),
            writes: get(&self.writes),
            bytes_written: get(&self.bytes_written),
            flushes: get(&self.flushes),
            zeroings: get(&self.zeroings),
            bytes_zeroed: get(&self.bytes_zeroed),
            errors: get(&self.errors),
        }
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
