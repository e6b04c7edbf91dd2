//! Which nonces were used, so that a request seen on the wire cannot be sent a second time.
//!
//! What must always hold
//! 1. A nonce of a key that was let through is not let through again while any request with its time
//!    could still pass the check of the clock, also after a restart (`nonce_journal`).
//! 2. Memory is bounded, in all and per key. Where the bound is reached new requests are refused;
//!    nothing is forgotten early.
//! 3. Where nonces may have been forgotten, requests from before are refused as expired: what is
//!    older than the floor is not let through.
//!
//! The floor is the hard choice here. It rises when the clock jumps forward (a jump back would
//! otherwise reopen a window whose nonces are gone), and to the moment of the start when the journal
//! of the last run is not to be trusted: after a crash of the machine, or when it could not be written.
//! A client whose clock is slow by n seconds is then refused for n seconds, and told that its time has
//! expired, which SDKs show as it is. With a trusted journal - every restart of the daemon
//! alone, kill -9 included - there is no floor and such a client notices nothing. What stays open: after
//! a crash of the machine a request of a client whose clock is fast by n seconds can be sent again
//! for n seconds.
//!
//! Left to others: only right signatures come here (`front`).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::{
    nonce_journal::{Entry, Journal},
    refusal::Refusal,
    signature::{WINDOW_SECONDS, expired},
};

/// 15 minutes at 2 000 requests a second; 17 to 40 bytes each.
const PER_KEY: usize = 1_800_000;
const IN_ALL: usize = 4_000_000;

/// The nonces that were used.
#[derive(Debug)]
pub(crate) struct Nonces {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// By the minute in which they may be forgotten.
    minutes: BTreeMap<u32, Minute>,
    in_all: usize,
    /// Nothing signed before this second is let through.
    floor: i64,
    /// None where nonces are kept in memory only.
    journal: Option<Journal>,
    per_key_limit: usize,
}

#[derive(Debug, Default)]
struct Minute {
    nonces: HashSet<u128>,
    /// How many of them are of which key.
    by_key: HashMap<u64, usize>,
}

impl Nonces {
    /// Goes on where the last run ended, if there is a directory to remember in.
    pub(crate) fn open(directory: Option<&Path>, now: Timestamp) -> std::io::Result<Self> {
        let mut state = State {
            minutes: BTreeMap::new(),
            in_all: 0,
            floor: i64::MIN,
            journal: None,
            per_key_limit: PER_KEY,
        };
        if let Some(directory) = directory {
            let (journal, kept) = Journal::open(directory)?;
            state.journal = Some(journal);
            match kept {
                Some(entries) => entries.iter().for_each(|entry| state.insert(entry)),
                None => state.floor = now.as_second(),
            }
        }
        Ok(Self { state: Mutex::new(state) })
    }

    /// Remembers a nonce whose request was signed at `time`, unless it was used before.
    pub(crate) fn remember(
        &self,
        access_key: &str,
        nonce: &str,
        time: Timestamp,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let key = digest(&[access_key]).to_be_bytes();
        let entry = Entry {
            minute: forgotten_in(time, now),
            key: u64::from_be_bytes(key[..8].try_into().expect("8 of 16 bytes")),
            nonce: digest(&[access_key, nonce]),
        };
        // A panic under the lock leaves at worst a count too high: the set itself stays true.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget_until(now);
        if time.as_second() < state.floor {
            return Err(expired());
        }
        state.check(&entry)?;
        if let Some(journal) = &mut state.journal {
            journal.append(&entry, now);
        }
        state.insert(&entry);
        Ok(())
    }
}

impl State {
    fn check(&self, entry: &Entry) -> Result<(), Refusal> {
        if self.minutes.values().any(|minute| minute.nonces.contains(&entry.nonce)) {
            let message = "Specified signature nonce was used already.";
            return Err(Refusal::new("SignatureNonceUsed", 400, message));
        }
        let of_key: usize =
            self.minutes.values().filter_map(|minute| minute.by_key.get(&entry.key)).sum();
        let message = "Request was denied due to request throttling.";
        if of_key >= self.per_key_limit {
            return Err(Refusal::new("Throttling.User", 400, message));
        }
        if self.in_all >= IN_ALL {
            return Err(Refusal::new("Throttling", 400, message));
        }
        Ok(())
    }

    fn insert(&mut self, entry: &Entry) {
        let minute = self.minutes.entry(entry.minute).or_default();
        if minute.nonces.insert(entry.nonce) {
            *minute.by_key.entry(entry.key).or_default() += 1;
            self.in_all += 1;
        }
    }

    fn forget_until(&mut self, now: Timestamp) {
        let present = minute_of(now.as_second());
        while let Some(first) = self.minutes.first_entry().filter(|first| *first.key() <= present) {
            self.in_all -= first.remove().nonces.len();
            self.floor = self.floor.max(now.as_second() - WINDOW_SECONDS);
        }
    }
}

/// The first minute in which no request of that time passes the check of the clock any more.
fn forgotten_in(time: Timestamp, now: Timestamp) -> u32 {
    minute_of(time.as_second().max(now.as_second()) + WINDOW_SECONDS) + 1
}

/// Minutes since 1970: enough in 32 bits for eight thousand years.
pub(crate) fn minute_of(second: i64) -> u32 {
    u32::try_from(second.div_euclid(60)).unwrap_or(0)
}

/// Half a SHA-256, over the parts with their lengths.
fn digest(parts: &[&str]) -> u128 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    }
    let bytes: [u8; 32] = hash.finalize().into();
    u128::from_be_bytes(bytes[..16].try_into().expect("16 of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn in_memory() -> Nonces {
        Nonces::open(None, at(0)).unwrap()
    }

    fn code(result: Result<(), Refusal>) -> &'static str {
        result.map_or_else(|refusal| refusal.code, |()| "let through")
    }

    #[test]
    fn a_nonce_is_let_through_once_per_key() {
        let nonces = in_memory();
        assert_eq!(code(nonces.remember("a", "n", at(0), at(0))), "let through");
        assert_eq!(code(nonces.remember("a", "n", at(1), at(1))), "SignatureNonceUsed");
        assert_eq!(code(nonces.remember("b", "n", at(1), at(1))), "let through");
        assert_eq!(code(nonces.remember("an", "", at(1), at(1))), "let through");
    }

    #[test]
    fn a_nonce_from_a_fast_clock_is_remembered_longer() {
        let nonces = in_memory();
        let ahead = WINDOW_SECONDS;
        assert_eq!(code(nonces.remember("a", "n", at(ahead), at(0))), "let through");
        assert_eq!(code(nonces.remember("a", "n", at(ahead), at(2 * ahead))), "SignatureNonceUsed");
        let late = at(2 * ahead + 121);
        assert_eq!(code(nonces.remember("a", "n", late, late)), "let through");
    }

    #[test]
    fn a_clock_that_jumps_forth_and_back_opens_no_window() {
        let nonces = in_memory();
        nonces.remember("a", "n", at(0), at(0)).unwrap();
        nonces.remember("a", "m", at(9_000), at(9_000)).unwrap();
        assert_eq!(code(nonces.remember("a", "n", at(0), at(1))), "InvalidTimeStamp.Expired");
    }

    #[test]
    fn a_key_that_fills_its_share_leaves_room_for_others() {
        let nonces = in_memory();
        nonces.state.lock().unwrap().per_key_limit = 2;
        for n in ["1", "2"] {
            nonces.remember("a", n, at(0), at(0)).unwrap();
        }
        assert_eq!(code(nonces.remember("a", "3", at(0), at(0))), "Throttling.User");
        assert_eq!(code(nonces.remember("b", "3", at(0), at(0))), "let through");
        assert_eq!(code(nonces.remember("a", "3", at(1_800), at(1_800))), "let through");
    }

    #[test]
    fn a_restart_forgets_nothing_and_refuses_no_slow_clock() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Nonces::open(Some(directory.path()), at(10)).unwrap();
        assert_eq!(code(open().remember("a", "n", at(5), at(5))), "let through");
        let again = open();
        assert_eq!(code(again.remember("a", "n", at(5), at(11))), "SignatureNonceUsed");
        assert_eq!(code(again.remember("a", "m", at(-300), at(11))), "let through");
    }

    #[test]
    fn an_untrusted_journal_raises_the_floor() {
        let directory = tempfile::tempdir().unwrap();
        Nonces::open(Some(directory.path()), at(0))
            .unwrap()
            .remember("a", "n", at(0), at(0))
            .unwrap();
        crate::nonce_journal::pretend_another_boot(directory.path());
        let again = Nonces::open(Some(directory.path()), at(10)).unwrap();
        assert_eq!(code(again.remember("a", "n", at(0), at(11))), "InvalidTimeStamp.Expired");
        assert_eq!(code(again.remember("a", "m", at(10), at(11))), "let through");
    }
}
