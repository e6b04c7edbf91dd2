//! Memory for replies that must be whole before they begin: a simple reply, or one the client
//! wants unfragmented, says first whether it succeeded, so all of its data must have been read.
//!
//! What must always hold: all connections together hold at most [`MOST`] bytes of it. A request
//! that finds none left is answered with ENOMEM; nobody waits for memory that a client which
//! never reads its replies may hold. Structured replies, which every common client asks for, are
//! cut into pieces and need none.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Sixteen of the largest replies.
const MOST: usize = 16 * (32 << 20);

/// Bytes held now, over all servers of the process. Relaxed: a count, nothing is read behind it.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// A buffer for one large reply.
#[derive(Debug)]
pub(crate) struct LargeReply {
    pub(crate) bytes: Vec<u8>,
    counted: usize,
}

impl LargeReply {
    /// A buffer of `length` zeros, unless too much is held.
    pub(crate) fn take(length: usize) -> Option<Self> {
        HELD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(length).filter(|held| *held <= MOST)
        })
        .ok()?;
        Some(Self { bytes: vec![0; length], counted: length })
    }
}

impl Drop for LargeReply {
    fn drop(&mut self) {
        HELD.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_end_to_it_and_it_comes_back() {
        assert!(LargeReply::take(MOST + 1).is_none());
        let half = LargeReply::take(MOST / 2).expect("half is there");
        assert!(LargeReply::take(MOST / 2 + 1).is_none());
        drop(half);
        assert!(LargeReply::take(MOST / 2 + 1).is_some());
    }
}
