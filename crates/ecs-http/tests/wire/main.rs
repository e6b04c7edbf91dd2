//! The wire: a real front over a real cloud and store, driven by bytes on a socket.
//!
//! Left to others: unmodified SDKs, NBD and the daemon (the workspace's own tests).

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "nobody's library, and a failed unwrap is a failed test"
)]

mod actions;
mod answers;
mod audit;
mod batches;
mod codes;
mod filters;
mod gate;
mod groups;
mod harness;
mod image_forms;
mod misuse;
mod must_fields;
mod objects;
mod openapi;
mod operator;
mod reinit_rows;
mod replacements;
mod signing;
mod temporary_keys;
mod told;
mod transport;
