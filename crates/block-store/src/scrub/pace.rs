//! Reading no faster than a rate.
//!
//! What must always hold: a scrub that is to stop does so within a nap, however slow it is.
//! Left to others: what the usual rate is (`report`).

use std::{
    thread,
    time::{Duration, Instant},
};

use block_device::ByteLength;

use crate::progress::Progress;

/// How long a slowed down scrub sleeps before it looks whether it is to stop.
const NAP: Duration = Duration::from_millis(20);

/// Keeps to a rate.
pub(super) struct Pace {
    rate: Option<u64>,
    /// When the next read may begin.
    due: Instant,
}

impl Pace {
    pub(super) fn of(rate: Option<ByteLength>) -> Self {
        Self { rate: rate.map(ByteLength::get).filter(|rate| *rate > 0), due: Instant::now() }
    }

    /// Waits until what was read is paid for, or the scrub is to stop. Time lost elsewhere is not
    /// made good by a burst.
    pub(super) fn keep(&mut self, read: u64, progress: &dyn Progress) {
        let Some(rate) = self.rate else { return };
        let cost = Duration::from_micros(read.saturating_mul(1_000_000) / rate);
        self.due = self.due.max(Instant::now()) + cost;
        while !progress.cancelled() {
            let left = self.due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(NAP));
        }
    }
}
