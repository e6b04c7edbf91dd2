//! The NBD server from outside: its own client, QEMU's tools, hostile clients, fences.
//!
//! What must always hold: every test ends its server, and every wait has an end.

#![expect(clippy::unwrap_used, reason = "all of this is tests; clippy sees only #[test] as such")]

mod extended;
mod fences;
mod handshake;
mod hostile;
mod life;
mod paces;
mod qemu;
mod random_bytes;
mod requests;
mod support;
mod tls;
