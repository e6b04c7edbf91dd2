//! The peers: programs that users have today, and the limit of the device itself.
//!
//! What must always hold: each is used in the fastest way that gives what ours gives.

pub mod fdatasync;
pub mod moto;
pub mod qemu_img;
pub mod qemu_nbd;
pub mod qemu_storage_daemon;
