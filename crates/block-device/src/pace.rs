//! How fast an export may go, and waiting for one's turn.
//!
//! What must always hold
//! 1. Requests get their turns in the order in which they ask, from all connections and data planes alike.
//! 2. Nobody waits longer than an hour, nor once the export ends ([`Pace::end`]) or its rates are changed.
//! 3. Without a limit a request costs one load of an atomic.
//!
//! Left to others: which requests count (the data planes), who may set rates and where they are kept (`cloud`).

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// What an idle export may do at once: as much as in this time at its rate. Long enough that a timer's
/// lateness costs no throughput, too short to be seen in a second's figures.
const BURST: Duration = Duration::from_millis(100);

/// The most that one request is made to wait, or to make others wait.
const LONGEST: Duration = Duration::from_secs(3600);

/// How fast an export may go; none = as fast as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests a second: reads, writes, and what zeroes or discards.
    pub iops: Option<NonZeroU64>,
    /// Bytes read and written a second.
    pub bytes_per_second: Option<NonZeroU64>,
}

impl Rates {
    /// As fast as it can.
    pub const UNLIMITED: Self = Self { iops: None, bytes_per_second: None };
}

/// The turns of the requests to one export.
#[derive(Debug, Default)]
pub struct Pace {
    /// Whether anybody has to ask at all. Relaxed: a request that sees an old value is one that came a
    /// little earlier.
    limited: AtomicBool,
    turns: Mutex<Turns>,
    /// Told when those who wait need wait no longer.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Turns {
    rates: Rates,
    /// From when on the next request has its turn, by each of the limits.
    next_request: Option<Instant>,
    next_byte: Option<Instant>,
    /// How often those who wait were let go.
    changes: u64,
    ended: bool,
}

impl Pace {
    /// Turns at these rates.
    pub fn new(rates: Rates) -> Self {
        let pace = Self::default();
        pace.set(rates);
        pace
    }

    /// Changes the rates. Who waits by the old ones goes on at once.
    pub fn set(&self, rates: Rates) {
        let mut turns = self.turns.lock();
        if !turns.ended {
            *turns = Turns { rates, changes: turns.changes + 1, ..Turns::default() };
            self.limited.store(rates != Rates::UNLIMITED, Ordering::Relaxed);
            self.changed.notify_all();
        }
    }

    /// The rates.
    pub fn rates(&self) -> Rates {
        self.turns.lock().rates
    }

    /// Nobody waits any more, now or later: the export is being closed.
    pub fn end(&self) {
        let mut turns = self.turns.lock();
        turns.ended = true;
        turns.changes += 1;
        self.limited.store(false, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Whether [`Pace::wait`] may wait at all.
    pub fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Relaxed)
    }

    /// Waits for the turn of a request that moves so many bytes.
    pub fn wait(&self, bytes: u64) {
        if !self.is_limited() {
            return;
        }
        let mut turns = self.turns.lock();
        let Some(turn) = turns.take(Instant::now(), bytes) else { return };
        let changes = turns.changes;
        while turns.changes == changes && !self.changed.wait_until(&mut turns, turn).timed_out() {}
    }
}

impl Turns {
    /// Gives out the next turn; none if it is now. The turns behind it move by what it takes.
    fn take(&mut self, now: Instant, bytes: u64) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let by_requests = advance(&mut self.next_request, now, cost(1, self.rates.iops));
        let by_bytes = advance(&mut self.next_byte, now, cost(bytes, self.rates.bytes_per_second));
        Some(by_requests.max(by_bytes)).filter(|turn| *turn > now)
    }
}

/// The turn at the front, which moves on.
fn advance(next: &mut Option<Instant>, now: Instant, cost: Duration) -> Instant {
    let idle_since = now.checked_sub(BURST).unwrap_or(now);
    let turn = next.map_or(idle_since, |next| next.clamp(idle_since, now + LONGEST));
    *next = Some(turn + cost);
    turn
}

/// How much of the time so many of something take.
fn cost(amount: u64, rate: Option<NonZeroU64>) -> Duration {
    let Some(rate) = rate else { return Duration::ZERO };
    let nanoseconds = u128::from(amount) * 1_000_000_000 / u128::from(rate.get());
    u64::try_from(nanoseconds).map_or(LONGEST, Duration::from_nanos).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    fn rate(iops: u64, bytes_per_second: u64) -> Rates {
        let of = NonZeroU64::new;
        Rates { iops: of(iops), bytes_per_second: of(bytes_per_second) }
    }

    fn turns(rates: Rates) -> Turns {
        Turns { rates, ..Turns::default() }
    }

    #[test]
    fn the_rate_holds_from_the_first_turn_that_waits() {
        let now = Instant::now();
        let mut turns = turns(rate(100, 0));
        // A burst of a tenth of a second, and one that takes its turn before it has to pay.
        let waits: Vec<_> = (0..111).map(|_| turns.take(now, 4096)).collect();
        let at_once = waits.iter().filter(|turn| turn.is_none()).count();
        assert_eq!(at_once, 11);
        assert_eq!(waits[110], Some(now + Duration::from_millis(1000)));
    }

    #[test]
    fn the_slower_of_both_limits_counts() {
        let now = Instant::now();
        let mut turns = turns(rate(1000, 1 << 20));
        turns.take(now, 1 << 20);
        let turn = turns.take(now, 512).expect("waits for the bytes");
        assert_eq!(turn, now + Duration::from_millis(900));
    }

    #[test]
    fn an_idle_export_saves_up_no_more_than_a_burst() {
        let now = Instant::now();
        let mut turns = turns(rate(10, 0));
        turns.take(now, 0);
        let later = now + Duration::from_secs(3000);
        assert_eq!(turns.take(later, 0), None);
        assert_eq!(turns.take(later, 0), None);
        assert!(turns.take(later, 0).is_some());
    }

    #[test]
    fn no_request_is_so_large_that_it_stops_the_disk() {
        let now = Instant::now();
        let mut turns = turns(rate(0, 1));
        for _ in 0..4 {
            turns.take(now, u64::MAX);
        }
        let turn = turns.take(now, 1).expect("waits");
        assert!(turn <= now + LONGEST);
    }

    /// Each ends only because it is let go: its turn is an hour away.
    #[test]
    fn who_waits_is_let_go_by_new_rates_and_by_the_end() {
        for let_go in [|pace: &Pace| pace.set(Rates::UNLIMITED), Pace::end] {
            let pace = Arc::new(Pace::new(rate(0, 1)));
            pace.wait(1 << 30);
            let waiting: Vec<_> = (0..4)
                .map(|_| {
                    let pace = Arc::clone(&pace);
                    thread::spawn(move || pace.wait(1 << 30))
                })
                .collect();
            let_go(&pace);
            waiting.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(!pace.is_limited());
        }
    }

    #[test]
    fn an_export_that_has_ended_gets_no_new_rates() {
        let pace = Pace::default();
        pace.end();
        pace.set(rate(1, 1));
        pace.wait(1 << 30);
        assert!(!pace.is_limited());
    }
}
