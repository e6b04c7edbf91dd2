//! The contract between a disk and the data planes that serve it.
//!
//! What must always hold
//! 1. Offsets and lengths are multiples of [`SECTOR`] and lie inside the device; anything else is
//!    refused with [`DeviceError::OutOfRange`] or [`DeviceError::Unaligned`] and changes nothing.
//! 2. A device that was fenced ([`DeviceError::Fenced`]) never serves again; whoever wants more
//!    opens it anew.
//! 3. An answered [`BlockDevice::flush`], or a write with [`Durability::ForceUnitAccess`],
//!    survives power loss.
//!
//! Left to others: layers and epochs (`block-store`), wire formats (the data planes), who may
//! open what (`cloud`). Nothing here does I/O.

mod device;
mod error;
mod export;
mod id;
mod memory_disk;
mod meter;
mod pace;
mod units;

pub use device::{BlockDevice, Change, Durability, Extent, ExtentKind, ZeroMode};
pub use error::DeviceError;
pub use export::{
    ExportCounters, ExportFence, ExportPlane, FenceError, FenceMode, NoExports, PlaneActivity,
};
pub use id::{DiskId, InvalidId};
pub use memory_disk::MemoryDisk;
pub use meter::{ExportMeter, Operation, RequestTimes};
pub use pace::{Pace, Rates};
pub use units::{BLOCK, ByteLength, ByteOffset, ByteRange, CLUSTER, SECTOR};
