//! What time it is, in a way a test can set.
//!
//! What must always hold: ids and order never depend on the time; a clock that jumps changes what is
//! shown and what has expired, nothing else.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicI64, Ordering},
};

use jiff::Timestamp;

/// Where the time comes from.
pub trait Clock: Send + Sync + Debug {
    /// Now, to the second.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        whole_seconds(Timestamp::now().as_second())
    }
}

/// A clock that stands where it is put; for tests.
#[derive(Debug)]
pub struct SetClock {
    /// Seconds since 1970. Relaxed: a test sets it between calls, nothing is ordered by it.
    seconds: AtomicI64,
}

impl SetClock {
    /// A clock that stands at `time`.
    pub fn at(time: Timestamp) -> Self {
        Self { seconds: AtomicI64::new(time.as_second()) }
    }

    /// Moves it.
    pub fn set(&self, time: Timestamp) {
        self.seconds.store(time.as_second(), Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        whole_seconds(self.seconds.load(Ordering::Relaxed))
    }
}

/// The time of so many seconds since 1970; what cannot be shown is the nearest that can.
pub(crate) fn whole_seconds(seconds: i64) -> Timestamp {
    let fallback = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(fallback)
}
