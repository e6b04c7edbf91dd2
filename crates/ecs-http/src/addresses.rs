//! How many connections each client address has open.
//!
//! What must always hold: no address has more than its share, so that one client cannot take the places of
//! all others; memory is bounded by the connections there are and by who was refused of late.
//! Left to others: closing what is refused (`server`), how much it is (`limits`).
//!
//! Whoever has an IPv6 address has the 2^64 beside it: they count as one.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A refusal of one address is told once in so long.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Above this many, addresses that have no connection open are forgotten, unless they were just told of.
const REMEMBERED: usize = 1024;

/// The connections of all addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    most: usize,
    open: Mutex<HashMap<IpAddr, Share>>,
}

/// What is known of an address.
#[derive(Debug, Default)]
struct Share {
    open: usize,
    told: Option<Instant>,
}

/// A connection of an address, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Seat {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    /// One more connection of that address, unless it has its share.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Seat> {
        let address = whole(address);
        let mut shares = self.lock();
        if shares.len() >= REMEMBERED && !shares.contains_key(&address) {
            shares.retain(|_, share| share.open > 0 || !share.may_be_told(now));
        }
        let share = shares.entry(address).or_default();
        if share.open < self.most {
            share.open += 1;
            return Some(Seat { addresses: Arc::clone(self), address });
        }
        if share.may_be_told(now) {
            share.told = Some(now);
            let most = self.most;
            tracing::warn!(%address, most, "connections of an address beyond its share are closed");
        }
        None
    }

    /// Whatever a panic left is a count.
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Share>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    fn may_be_told(&self, now: Instant) -> bool {
        self.told.is_none_or(|told| now.duration_since(told) >= TOLD_AGAIN_AFTER)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shares = self.addresses.lock();
        let Some(share) = shares.get_mut(&self.address) else { return };
        share.open -= 1;
        if share.open == 0 && share.told.is_none() {
            shares.remove(&self.address);
        }
    }
}

/// What counts as one address.
fn whole(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_share_and_gets_back_what_it_lets_go() {
        let (addresses, now) = (Addresses::new(2), Instant::now());
        let admit = |text: &str| addresses.admit(at(text), now);
        let (first, second) = (admit("10.0.0.1"), admit("10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(admit("10.0.0.1").is_none() && admit("::ffff:10.0.0.1").is_none());
        assert!(admit("10.0.0.2").is_some());
        drop(first);
        let again = admit("10.0.0.1");
        assert!(again.is_some() && admit("10.0.0.1").is_none());
    }

    #[test]
    fn a_neighbourhood_of_ipv6_counts_as_one() {
        let (addresses, now) = (Addresses::new(1), Instant::now());
        let held = addresses.admit(at("2001:db8:0:1::1"), now);
        assert!(held.is_some());
        assert!(addresses.admit(at("2001:db8:0:1:ffff::2"), now).is_none());
        assert!(addresses.admit(at("2001:db8:0:2::1"), now).is_some());
    }

    #[test]
    fn a_refusal_is_told_once_a_minute_also_when_all_connections_ended_meanwhile() {
        let (addresses, begun) = (Addresses::new(1), Instant::now());
        let told = |seconds| {
            let now = begun + Duration::from_secs(seconds);
            let held = addresses.admit(at("10.0.0.1"), now);
            assert!(held.is_some() && addresses.admit(at("10.0.0.1"), now).is_none());
            addresses.lock()[&at("10.0.0.1")].told.unwrap()
        };
        assert_eq!((told(0), told(30), told(59)), (begun, begun, begun));
        assert_eq!(told(60), begun + Duration::from_secs(60));
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let (addresses, begun) = (Addresses::new(1), Instant::now());
        let refused: Vec<_> = (0..1024_u32).map(|n| IpAddr::V4(n.into())).collect();
        for address in &refused {
            let held = addresses.admit(*address, begun);
            assert!(held.is_some() && addresses.admit(*address, begun).is_none());
        }
        drop(addresses.admit(at("10.0.0.1"), begun));
        assert_eq!(addresses.lock().len(), REMEMBERED, "those that were just told of stay");
        let _held = addresses.admit(at("10.0.0.1"), begun + TOLD_AGAIN_AFTER);
        assert_eq!(addresses.lock().len(), 1);
    }
}
