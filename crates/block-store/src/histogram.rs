//! How often a value fell in which range, for whoever shows it.
//!
//! What must always hold: counting takes no lock and orders nothing; a view may be taken in the middle
//! of an observation.
//! Left to others: units and names (who shows it).

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Upper bounds for times, in nanoseconds: 50 microseconds to 5 seconds.
const TIMES: &[u64] = &[
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
];

/// Upper bounds for how many share something.
const GROUPS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Counts of values by range.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound and one for what is above all of them.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramView {
    /// Upper bounds, each belonging to its range.
    pub bounds: &'static [u64],
    /// Values in each range, and last those above all bounds.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl Histogram {
    /// Of times, in nanoseconds.
    pub fn of_times() -> Self {
        Self::new(TIMES)
    }

    /// Of sizes of groups.
    pub fn of_groups() -> Self {
        Self::new(GROUPS)
    }

    fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let range = self.bounds.partition_point(|bound| *bound < value);
        self.counts[range].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts the time since then.
    pub fn observe_since(&self, begun: Instant) {
        self.observe_time(begun.elapsed());
    }

    /// Counts a time.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What was counted until now.
    pub fn view(&self) -> HistogramView {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = self.counts.iter().map(get).collect();
        HistogramView { bounds: self.bounds, counts, sum: get(&self.sum) }
    }
}

impl HistogramView {
    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_in_the_range_whose_bound_it_does_not_pass() {
        let histogram = Histogram::of_groups();
        for value in [1, 2, 3, 4, 256, 257] {
            histogram.observe(value);
        }
        let view = histogram.view();
        assert_eq!(view.counts, [1, 1, 2, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((view.count(), view.sum), (6, 523));
    }
}
