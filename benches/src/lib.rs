//! Benches: ours against a named peer, interleaved in one run on one file system.
//!
//! What must always hold
//! 1. Both sides of a ratio are measured in the same run, round by round, after the same
//!    preparation; who goes first changes from round to round.
//! 2. What is not part of an operation (making dirt, cleaning up, checking the content) happens
//!    outside of the clock, for both sides alike.
//! 3. A peer that is absent is named as absent, a question that fails is named as failed, and a
//!    budget that is missed is printed as missed.
//!
//! | question | ours | peer |
//! |---|---|---|
//! | [`questions::engine_reset`] | one durable reset in the engine | one fdatasync of a 4 KiB overwrite |
//! | [`questions::live_reset`] | reset of a running daemon's disk and the first read | qemu-storage-daemon over QMP |
//! | [`questions::http_reset`] | a signed `ReInitDisk` over HTTP | the engine alone |
//! | [`questions::http_load`] | many clients at once, and pages of 10 000 disks | the budget; moto |
//! | [`questions::mass_reset`] | 1 000 disks at once | the budget |
//! | [`questions::import`] | import with hashing | `qemu-img convert -O raw` |
//! | [`questions::depth`] | reads and opening of a disk on 200 snapshots | the same on one; the budget |
//! | [`questions::reclaim`] | reads beside a reclaim | the same reads without; the budget |
//! | [`questions::memory`] | memory beyond the maps, per TiB touched | the budget |
//! | [`questions::start`] | a daemon with 1 000 disks of 1 TiB | the budget |
//!
//! Left to others: the cost of single steps (`benches/*.rs`, by criterion).

pub mod daemon;
pub mod dirt;
pub mod engine;
pub mod filesystem;
pub mod http;
pub mod library;
pub mod load;
pub mod machine;
pub mod peers;
pub mod program;
pub mod questions;
pub mod ratio;
pub mod samples;
pub mod table;

/// Bytes of a KiB.
pub const KIB: u64 = 1 << 10;
/// Bytes of a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes of a GiB.
pub const GIB: u64 = 1 << 30;
/// Bytes of a TiB.
pub const TIB: u64 = 1 << 40;

/// A size in whole units, such as `64 MiB`.
pub fn size_text(bytes: u64) -> String {
    let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
    let whole = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes} B"), |(unit, name)| format!("{} {name}", bytes / unit))
}
