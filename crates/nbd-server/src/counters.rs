//! What an export has done, counted for `/metrics`.
//!
//! What must always hold: counting takes no lock; a snapshot may be in the middle of a request.

use std::sync::atomic::{AtomicU64, Ordering};

use block_device::ExportCounters;

/// The counters of an export. Relaxed everywhere: nothing is decided by them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// The one that also goes down.
    under_way: AtomicU64,
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

    /// A request was taken; [`Counters::ended`] follows when it is answered or given up. A panic
    /// in between leaves it counted until the export closes.
    pub(crate) fn begun(&self) {
        add(&self.under_way, 1);
    }

    pub(crate) fn ended(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
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
            under_way: get(&self.under_way),
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
