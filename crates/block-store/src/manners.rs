//! How background work that holds others up for a moment stays out of their way.
//!
//! A request may meet a punch and wait for it. So few of them may that the slowest hundredth is not
//! made of them, and the work may take a small part of the time only. But the rest has an end, however
//! few requests come: on a full file system those who ask wait for the space.
//!
//! What must always hold
//! 1. While requests come, no burst of work begins before the rest after the last one.
//! 2. No rest is longer than it was allowed to be.
//!
//! Neither looks at the clock nor sleeps itself. Left to others: both, and the work (`reclaim`).

use std::time::{Duration, Instant};

/// How long to wait at most before looking again.
pub(crate) const GLANCE: Duration = Duration::from_millis(1);
/// Work that may be done between two rests: as long as one request may wait.
const BURST: Duration = Duration::from_micros(100);
/// So many requests pass for each punch, if they do within the longest rest.
const REQUESTS_PER_PUNCH: u64 = 200;
/// And so many times as long as the work took.
const REST_PER_WORK: u32 = 9;

/// For so many of the longest rests a request counts as somebody who uses the store: a slow device may
/// take that long to answer it.
const REMEMBERED: u32 = 10;

/// Who else uses the store, and what they were made to wait for.
#[derive(Debug)]
pub(crate) struct Manners {
    longest: Duration,
    /// How many requests were seen.
    seen: u64,
    /// Until then somebody uses the store.
    busy_until: Instant,
    punches: u64,
    worked: Duration,
    /// Since when, and since which request, there is a rest.
    resting: Option<(Instant, u64)>,
}

impl Manners {
    /// Rests are no longer than this; requests before this one are nobody's.
    pub(crate) fn new(longest: Duration, requests: u64, now: Instant) -> Self {
        Self {
            longest,
            seen: requests,
            busy_until: now,
            punches: 0,
            worked: Duration::ZERO,
            resting: None,
        }
    }

    /// One punch was made, and took this long.
    pub(crate) fn punched(&mut self, took: Duration) {
        self.punches += 1;
        self.worked += took;
    }

    /// How long to wait before asking again; zero is to go on.
    pub(crate) fn wait(&mut self, now: Instant, requests: u64) -> Duration {
        if requests != self.seen {
            self.seen = requests;
            self.busy_until = now + self.longest * REMEMBERED;
        }
        if self.worked < BURST && self.resting.is_none() {
            return Duration::ZERO;
        }
        let (since, first) = *self.resting.get_or_insert((now, requests));
        let rested = now.saturating_duration_since(since);
        let passed = requests.wrapping_sub(first);
        let is_enough =
            passed >= REQUESTS_PER_PUNCH * self.punches && rested >= self.worked * REST_PER_WORK;
        if now >= self.busy_until || rested >= self.longest || is_enough {
            (self.punches, self.worked, self.resting) = (0, Duration::ZERO, None);
            return Duration::ZERO;
        }
        (self.longest - rested).min(GLANCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(10);
    const MILLI: Duration = Duration::from_millis(1);

    /// How many milliseconds a rest after so many punches takes, with so many requests in each.
    fn rest(punches: u32, each: Duration, requests_a_milli: u64) -> u32 {
        let begun = Instant::now();
        let mut manners = Manners::new(LONGEST, 7, begun);
        (0..punches).for_each(|_| manners.punched(each));
        let requests = |milli: u32| 7 + requests_a_milli * u64::from(milli + 1);
        (0..100)
            .find(|milli| manners.wait(begun + MILLI * *milli, requests(*milli)).is_zero())
            .expect("a rest ends")
    }

    #[test]
    fn with_nobody_there_nothing_rests() {
        assert_eq!(rest(1000, BURST, 0), 0);
    }

    #[test]
    fn a_rest_ends_when_enough_requests_passed_each_punch() {
        assert_eq!(rest(1, BURST, 1000), 1);
        assert_eq!(rest(1, BURST, 100), 2);
        assert_eq!(rest(2, BURST / 2, 100), 4);
        assert_eq!(rest(1, BURST, 20), 10, "few requests: the longest rest");
        assert_eq!(rest(1, BURST, 1), 10);
    }

    #[test]
    fn a_rest_is_in_proportion_to_the_work_and_never_without_end() {
        assert_eq!(rest(1, MILLI / 2, 1_000_000), 5);
        assert_eq!(rest(1, MILLI * 500, 1_000_000), 10);
    }

    #[test]
    fn short_work_goes_on_until_it_is_a_burst() {
        assert_eq!(rest(1, BURST / 2, 1000), 0);
        assert_eq!(rest(2, BURST / 2, 1000), 1);
    }

    #[test]
    fn requests_that_end_are_forgotten() {
        let begun = Instant::now();
        let mut manners = Manners::new(LONGEST, 0, begun);
        let mut burst = |milli, requests| {
            manners.punched(BURST);
            let waits = manners.wait(begun + MILLI * milli, requests);
            manners.wait(begun + MILLI * milli + LONGEST, requests);
            waits
        };
        assert_eq!(burst(0, 1), GLANCE);
        assert_eq!(burst(50, 1), GLANCE, "it may still be waiting for its answer");
        assert_eq!(burst(100, 1), Duration::ZERO, "the last one is long past");
        assert_eq!(burst(150, 2), GLANCE, "and here is another");
    }

    #[test]
    fn no_rest_at_all_may_be_asked_for() {
        let begun = Instant::now();
        let mut manners = Manners::new(Duration::ZERO, 0, begun);
        manners.punched(BURST);
        assert_eq!(manners.wait(begun, 1), Duration::ZERO);
    }
}
