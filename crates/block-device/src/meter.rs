//! What an export does, counted by its data plane for `/metrics`.
//!
//! What must always hold: counting takes no lock; a snapshot may be in the middle of a request.
//! Left to others: what is told of it, and to whom.

use std::{
    ops::AddAssign,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::ExportCounters;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Looks at content.
    Read,
    /// Stores content.
    Write,
    /// Makes durable.
    Flush,
    /// Discards, or makes zeros.
    Zero,
}

impl Operation {
    /// All of them, in the order of [`ExportCounters::times`].
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Flush, Self::Zero];

    /// Its name in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Zero => "zero",
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Flush => 2,
            Self::Zero => 3,
        }
    }
}

/// How long requests took that were answered without an error: from their last byte that was needed
/// to begin to their answer, which may wait a little for others before it leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestTimes {
    /// Requests in each range of [`RequestTimes::BOUNDS`], and last those above all of them.
    pub counts: [u64; RequestTimes::BOUNDS.len() + 1],
    /// The sum of all times, in nanoseconds.
    pub nanoseconds: u64,
}

impl RequestTimes {
    /// Upper bounds, each belonging to its range, in nanoseconds: 5 microseconds to 10 seconds. The page
    /// cache answers below the first two, a device below the next four.
    pub const BOUNDS: [u64; 11] = [
        5_000,
        20_000,
        100_000,
        500_000,
        2_000_000,
        10_000_000,
        50_000_000,
        200_000_000,
        1_000_000_000,
        3_000_000_000,
        10_000_000_000,
    ];
}

impl AddAssign for RequestTimes {
    fn add_assign(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.nanoseconds += other.nanoseconds;
    }
}

/// The counters of an export. Relaxed everywhere: nothing is decided by them.
#[derive(Debug, Default)]
pub struct ExportMeter {
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
    times: [Times; 4],
}

#[derive(Debug, Default)]
struct Times {
    counts: [AtomicU64; RequestTimes::BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl ExportMeter {
    /// A connection was opened.
    pub fn connection(&self) {
        add(&self.connected, 1);
    }

    /// A request was taken; [`ExportMeter::ended`] follows when it is answered or given up. A panic
    /// in between leaves it counted until the export closes.
    pub fn begun(&self) {
        add(&self.under_way, 1);
    }

    /// A request was answered or given up.
    pub fn ended(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// What a request asks for; a flush has no bytes.
    pub fn asked(&self, operation: Operation, bytes: u64) {
        let (requests, sum) = match operation {
            Operation::Read => (&self.reads, Some(&self.bytes_read)),
            Operation::Write => (&self.writes, Some(&self.bytes_written)),
            Operation::Flush => (&self.flushes, None),
            Operation::Zero => (&self.zeroings, Some(&self.bytes_zeroed)),
        };
        add(requests, 1);
        sum.into_iter().for_each(|sum| add(sum, bytes));
    }

    /// A request was answered without an error.
    pub fn answered(&self, operation: Operation, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let times = &self.times[operation.place()];
        let range = RequestTimes::BOUNDS.iter().position(|bound| nanoseconds <= *bound);
        add(&times.counts[range.unwrap_or(RequestTimes::BOUNDS.len())], 1);
        add(&times.nanoseconds, nanoseconds);
    }

    /// A request was answered with an error.
    pub fn error(&self) {
        add(&self.errors, 1);
    }

    /// What was counted so far, beside the connections that are open.
    pub fn snapshot(&self, connections: u64) -> ExportCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let times = |times: &Times| RequestTimes {
            counts: std::array::from_fn(|range| get(&times.counts[range])),
            nanoseconds: get(&times.nanoseconds),
        };
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
            times: std::array::from_fn(|place| times(&self.times[place])),
        }
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_range_that_holds_it() {
        let meter = ExportMeter::default();
        for nanoseconds in [0, 5_000, 5_001, 1_000_000_000_000] {
            meter.answered(Operation::Flush, Duration::from_nanos(nanoseconds));
        }
        let times = meter.snapshot(0).times;
        let flushes = times[Operation::Flush.place()];
        assert_eq!((flushes.counts[0], flushes.counts[1], flushes.counts[11]), (2, 1, 1));
        assert_eq!(flushes.nanoseconds, 1_000_000_010_001);
        let mut sum = flushes;
        sum += flushes;
        assert_eq!(sum.counts.iter().sum::<u64>(), 8);
        for other in [Operation::Read, Operation::Write, Operation::Zero] {
            assert_eq!(times[other.place()], RequestTimes::default());
        }
    }

    #[test]
    fn the_order_of_the_list_is_that_of_the_counters() {
        for (place, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation.place(), place);
        }
    }
}
