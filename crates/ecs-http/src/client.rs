//! Whether the client of a call still waits for it.
//!
//! What must always hold: once the connection is gone nobody waits; a long call that only its client
//! wants (an export, a full read-back) looks and stops. Short ones are not stopped: they are done before
//! anyone could tell.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use block_device::ByteLength;
use block_store::Progress;

/// Whether the client of a call still waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    /// Set once, by the drop of the guard. Relaxed: nothing else is told by it.
    gone: Arc<AtomicBool>,
}

/// Lives as long as the client waits.
#[derive(Debug)]
pub(crate) struct Waiting(Client);

impl Client {
    /// A client, and what ends when it goes.
    pub(crate) fn new() -> (Self, Waiting) {
        let client = Self::default();
        (client.clone(), Waiting(client))
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Relaxed);
    }
}

impl Progress for Client {
    fn advanced(&self, _done: ByteLength, _total: ByteLength) {}

    fn cancelled(&self) -> bool {
        self.is_gone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_gone_when_nothing_waits_any_more() {
        let (client, waiting) = Client::new();
        assert!(!client.cancelled());
        drop(waiting);
        assert!(client.cancelled());
    }
}
