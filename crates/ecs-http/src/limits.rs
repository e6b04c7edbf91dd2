//! How much one request, one client and all clients together may take.
//!
//! What must always hold: everything a stranger can send has a bound here, in bytes, in number or in
//! time.
//! Left to others: applying them (`parameters`, `server`, `front`, `throttle`, `addresses`).

use std::time::Duration;

/// Parameters of one request.
pub(crate) const PARAMETERS: usize = 2_000;
/// Bytes of a parameter's name.
pub(crate) const PARAMETER_NAME_BYTES: usize = 1_024;
/// Bytes of a parameter's value.
pub(crate) const PARAMETER_VALUE_BYTES: usize = 64 * 1024;
/// Bytes of a body.
pub(crate) const BODY_BYTES: usize = 1024 * 1024;
/// Bytes of request line and headers together; the line alone is bounded to 64 KiB by hyper.
pub(crate) const HEAD_BYTES: usize = 128 * 1024;
/// Headers of one request.
pub(crate) const HEADERS: usize = 100;

/// How many requests one access key may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerKey {
    /// In the long run.
    pub a_second: u32,
    /// At once, after a rest.
    pub burst: u32,
}

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections open at once; more wait in the listen queue.
    pub connections: usize,
    /// Of them, connections of one client address over TCP; more are closed at once.
    pub connections_per_address: usize,
    /// Calls into the cloud at once; more wait, and are refused after [`Limits::wait_for_turn`].
    pub calls: usize,
    /// Requests of one access key; none = as many as come.
    pub per_key: Option<PerKey>,
    /// How long a connection may take to send the head of its next request, or stay idle.
    pub head_within: Duration,
    /// How long a request may take to send its body.
    pub body_within: Duration,
    /// How long a client may take no byte of its answer.
    pub write_within: Duration,
    /// How long a call waits for its turn.
    pub wait_for_turn: Duration,
    /// How long a call may take before its client is told that nothing is known of its outcome.
    /// A `ReInitDisk` is waited for whatever it takes.
    pub answer_within: Duration,
    /// How long requests under way may take to end once the server is told to stop.
    pub drain_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8_192,
            connections_per_address: 256,
            calls: 256,
            per_key: None,
            head_within: Duration::from_secs(20),
            body_within: Duration::from_secs(20),
            write_within: Duration::from_secs(20),
            wait_for_turn: Duration::from_secs(5),
            answer_within: Duration::from_secs(60),
            drain_within: Duration::from_secs(4),
        }
    }
}
