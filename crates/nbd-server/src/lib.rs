//! Disks over the NBD protocol, on a unix socket and on TCP.
//!
//! ```text
//!  serve ── accepts, counts, ends      export_table ── name -> export, admission, fence
//!    │ a thread per connection             │ an admission: the device and a seat
//!    └─ negotiation ── options ────────────┘                 (bytes: option, wire)
//!         └─ session ── requests in, replies out      (in order; bytes: request, reply, inbox, outbox)
//!              └─ slow_lane ── flushes, trims, zeroes (one helper thread, made when first needed)
//! ```
//!
//! What must always hold
//! 1. Nothing a client sends panics, blocks another client, or makes the server allocate what the
//!    client merely claims.
//! 2. When a fence has returned, no thread of this crate touches that disk and no connection of it
//!    is open, whatever its clients do.
//! 3. A flush is answered only after a `flush` of the device that began after the request arrived.
//!
//! ```
//! use std::sync::Arc;
//! use block_device::{ByteLength, ByteOffset, Durability, FenceMode, MemoryDisk};
//! use nbd_server::{Limits, NbdServer, client::NbdClient};
//!
//! let server = NbdServer::new(Limits::default());
//! let address = server.listen_tcp("127.0.0.1:0".parse()?)?;
//! let name = "d-1".parse()?;
//! server.publish(&name, Arc::new(MemoryDisk::new(ByteLength::new(1 << 20))));
//!
//! let mut client = NbdClient::connect_tcp(address, "d-1")?;
//! client.write(&[7; 512], ByteOffset::ZERO, Durability::ForceUnitAccess)?;
//! server.fence(&name, FenceMode::Flush)?; // from here the client is cut off
//! assert!(client.flush().is_err());
//! server.shutdown();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Left to others: what a disk is made of (`block-store`), who may open what (`cloud`). Only
//! `block-device` is known here. Rules named "spec" are from `doc/proto.md` of the repository
//! NetworkBlockDevice/nbd.

mod arrivals;
pub mod client;
mod connection;
mod context;
mod errno;
mod export_table;
mod inbox;
mod large_replies;
mod line;
mod negotiation;
mod offer;
mod option;
mod outbox;
mod reply;
mod request;
mod serve;
mod session;
mod slow_lane;
mod socket;
mod status;
mod tls;
mod wire;

pub use block_device::ExportCounters;
pub use errno::Errno;
pub use serve::{Limits, NbdServer};
pub use tls::{TlsOffer, TlsWish};
