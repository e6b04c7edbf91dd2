//! A token bucket: so many at once, and then so many a second.
//!
//! What must always hold: over any time no more are let through than the burst and what the rate gives
//! for that time; a clock that stands still gives nothing.
//! Left to others: what is counted, and whose bucket it is.

use std::time::{Duration, Instant};

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    /// Tokens a second.
    pub(crate) rate: f64,
    /// Tokens it holds when it is full.
    pub(crate) burst: f64,
}

/// The bucket of one who takes tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    left: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn full(pace: Pace, now: Instant) -> Self {
        Self { left: pace.burst, filled: now }
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, pace: Pace, now: Instant) -> bool {
        self.fill(pace, now);
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    /// How long until there is a token again.
    pub(crate) fn wait(&self, pace: Pace) -> Duration {
        Duration::from_secs_f64(((1.0 - self.left) / pace.rate).clamp(0.0, 3600.0))
    }

    /// Whether a new one would be no different.
    pub(crate) fn is_full(&mut self, pace: Pace, now: Instant) -> bool {
        self.fill(pace, now);
        self.left >= pace.burst
    }

    fn fill(&mut self, pace: Pace, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + passed * pace.rate).min(pace.burst);
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { rate: 2.0, burst: 3.0 };

    #[test]
    fn a_burst_and_then_the_rate() {
        let begun = Instant::now();
        let mut bucket = Bucket::full(PACE, begun);
        let taken = (0..10).filter(|_| bucket.take(PACE, begun)).count();
        assert_eq!(taken, 3);
        assert_eq!(bucket.wait(PACE), Duration::from_millis(500));
        assert!(!bucket.take(PACE, begun + Duration::from_millis(499)));
        assert!(bucket.take(PACE, begun + Duration::from_millis(500)));
        let later = begun + Duration::from_secs(3600);
        assert!(bucket.is_full(PACE, later));
        assert_eq!((0..10).filter(|_| bucket.take(PACE, later)).count(), 3);
    }

    #[test]
    fn an_earlier_moment_gives_nothing() {
        let begun = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::full(PACE, begun);
        while bucket.take(PACE, begun) {}
        assert!(!bucket.take(PACE, begun - Duration::from_secs(5)));
        assert!(!bucket.take(PACE, begun));
    }
}
