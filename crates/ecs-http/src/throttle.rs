//! How many requests one access key may send: a burst, and then so many a second.
//!
//! What must always hold: only proven requests count, so that nobody can use up the share of another's
//! key; memory is bounded by the number of keys there are.
//! Left to others: the bucket itself (`bucket`), how much it is (`limits`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use crate::{
    bucket::{Bucket, Pace},
    limits::PerKey,
    refusal::Refusal,
};

/// Above this many, buckets that are full again are forgotten.
const REMEMBERED: usize = 1024;

/// The shares of all keys.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// None lets everything through.
    pace: Option<Pace>,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Throttle {
    pub(crate) fn new(per_key: Option<PerKey>) -> Self {
        let pace = per_key.map(|per_key| Pace {
            rate: f64::from(per_key.a_second),
            burst: f64::from(per_key.burst),
        });
        Self { pace, buckets: Mutex::default() }
    }

    /// Lets one request of that key through, or says when the next one may come.
    pub(crate) fn admit(&self, access_key: &str, now: Instant) -> Result<(), Refusal> {
        let Some(pace) = self.pace else { return Ok(()) };
        // Whatever a panic left is a bucket.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(access_key) {
            if buckets.len() >= REMEMBERED {
                buckets.retain(|_, bucket| !bucket.is_full(pace, now));
            }
            buckets.insert(access_key.to_owned(), Bucket::full(pace, now));
        }
        let bucket = buckets.get_mut(access_key).expect("put there if it was not");
        if bucket.take(pace, now) {
            return Ok(());
        }
        let message = "Request was denied due to user flow control.";
        Err(Refusal::new("Throttling.User", 400, message).retry_after(bucket.wait(pace)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_key_has_its_own_share_and_is_told_how_long_to_wait() {
        let begun = Instant::now();
        let throttle = Throttle::new(Some(PerKey { a_second: 4, burst: 2 }));
        throttle.admit("a", begun).unwrap();
        throttle.admit("a", begun).unwrap();
        let refused = throttle.admit("a", begun).unwrap_err();
        assert_eq!((refused.code, refused.status), ("Throttling.User", 400));
        assert_eq!(refused.retry_after, Some(Duration::from_millis(250)));
        throttle.admit("b", begun).unwrap();
        throttle.admit("a", begun + Duration::from_millis(250)).unwrap();
        throttle.admit("a", begun + Duration::from_millis(499)).unwrap_err();
    }

    #[test]
    fn without_a_pace_all_is_let_through() {
        let throttle = Throttle::new(None);
        assert!((0..10_000).all(|_| throttle.admit("a", Instant::now()).is_ok()));
        assert!(throttle.buckets.lock().unwrap().is_empty());
    }

    #[test]
    fn keys_that_rest_are_forgotten() {
        let begun = Instant::now();
        let throttle = Throttle::new(Some(PerKey { a_second: 1, burst: 1 }));
        for n in 0..REMEMBERED {
            throttle.admit(&n.to_string(), begun).unwrap();
        }
        throttle.admit("late", begun + Duration::from_secs(1)).unwrap();
        assert_eq!(throttle.buckets.lock().unwrap().len(), 1);
    }
}
