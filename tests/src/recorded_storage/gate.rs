//! A gate before every sync of a file: closed, it holds whoever comes until it is opened.
//!
//! What must always hold: an open gate holds nobody; opening lets everybody on.
//! Left to others: what is done while somebody stands there.

use std::sync::{Condvar, Mutex, MutexGuard};

/// The gate.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    waiting: usize,
    may_pass: usize,
}

impl Gate {
    /// Holds the syncs that come from now on.
    pub fn close(&self) {
        self.state().closed = true;
    }

    /// Waits until somebody stands before the closed gate.
    pub fn wait_for_somebody(&self) {
        let reached = self.changed.wait_while(self.state(), |state| state.waiting == 0);
        drop(reached.expect("nobody panics at the gate"));
    }

    /// Whether nobody stands before the gate.
    pub fn is_empty(&self) -> bool {
        self.state().waiting == 0
    }

    /// Lets one on who stands there, and keeps the gate closed.
    pub fn let_one_on(&self) {
        let mut state = self.state();
        state.may_pass += 1;
        self.changed.notify_all();
        let gone = self.changed.wait_while(state, |state| state.may_pass > 0);
        drop(gone.expect("nobody panics at the gate"));
    }

    /// Lets everybody on.
    pub fn open(&self) {
        self.state().closed = false;
        self.changed.notify_all();
    }

    /// Goes through, when that is possible.
    pub(super) fn pass(&self) {
        let mut state = self.state();
        state.waiting += 1;
        self.changed.notify_all();
        let passed = self.changed.wait_while(state, |state| state.closed && state.may_pass == 0);
        let mut state = passed.expect("nobody panics at the gate");
        state.waiting -= 1;
        state.may_pass = state.may_pass.saturating_sub(1);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics at the gate")
    }
}
