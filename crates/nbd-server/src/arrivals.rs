//! Connections from their accept to their end: how many threads serve them, and who of them has
//! not yet said which export they want.
//!
//! What must always hold: clients that say nothing cannot keep others out. When too many shake
//! hands at once, the one that has taken longest is ended to make room for the newest.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::{Condvar, Mutex};

use crate::socket::Socket;

/// All connections of a server.
#[derive(Debug)]
pub(crate) struct Arrivals {
    state: Mutex<State>,
    /// Told whenever a thread ends.
    ended: Condvar,
    most_handshakes: usize,
}

#[derive(Debug, Default)]
struct State {
    /// In order of arrival.
    handshakes: BTreeMap<u64, Arc<Socket>>,
    next: u64,
    threads: usize,
    /// Set once, when the server stops.
    stopped: bool,
}

impl Arrivals {
    pub(crate) fn new(most_handshakes: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), ended: Condvar::new(), most_handshakes })
    }

    /// Notes a new connection; `None` once the server stops.
    pub(crate) fn arrive(self: &Arc<Self>, socket: &Arc<Socket>) -> Option<Arrival> {
        let mut state = self.state.lock();
        if state.stopped {
            return None;
        }
        if state.handshakes.len() >= self.most_handshakes {
            state.end_slowest();
        }
        let number = state.next;
        state.next += 1;
        state.threads += 1;
        state.handshakes.insert(number, Arc::clone(socket));
        Some(Arrival { arrivals: Arc::clone(self), number })
    }

    /// Makes room when the system has none for a new connection.
    pub(crate) fn make_room(&self) {
        self.state.lock().end_slowest();
    }

    /// Ends all that shake hands, lets no one in any more, and waits for every thread.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.handshakes.values().for_each(|socket| socket.end());
        while state.threads > 0 {
            self.ended.wait(&mut state);
        }
    }
}

impl State {
    /// Ends the handshake that has taken longest, if there is one.
    fn end_slowest(&mut self) {
        if let Some((_, slowest)) = self.handshakes.pop_first() {
            slowest.end();
        }
    }
}

/// A connection with a thread of its own; dropped as the last thing of that thread.
#[derive(Debug)]
pub(crate) struct Arrival {
    arrivals: Arc<Arrivals>,
    number: u64,
}

impl Arrival {
    /// The handshake is over: the connection has a seat at an export, which ends it when it closes.
    pub(crate) fn settled(&self) {
        self.arrivals.state.lock().handshakes.remove(&self.number);
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut state = self.arrivals.state.lock();
        state.handshakes.remove(&self.number);
        state.threads -= 1;
        self.arrivals.ended.notify_all();
    }
}
