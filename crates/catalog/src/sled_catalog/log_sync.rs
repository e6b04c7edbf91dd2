//! How the bytes that sled handed to the kernel get onto the device.

use std::fmt::Debug;
use std::fs::File;
use std::io;

/// Makes sled's file durable; called after each flush, before any commit of it is answered.
pub trait LogSync: Send + Sync + Debug {
    /// Returns once everything written to `log` so far survives a power loss.
    fn sync(&self, log: &File) -> io::Result<()>;
}

/// The real one: `fdatasync`.
#[derive(Debug, Clone, Copy, Default)]
pub struct DataSync;

impl LogSync for DataSync {
    fn sync(&self, log: &File) -> io::Result<()> {
        log.sync_data()
    }
}
