//! How fast a disk may go. A disk without one goes as fast as it can.
//!
//! A record of its own, for few disks have limits. It goes in the commit that deletes its disk.

use serde::{Deserialize, Serialize};

use super::Record;

/// The present version.
pub type DiskLimits = DiskLimitsV1;

/// The limits of a disk, version 1; at least one is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskLimitsV1 {
    /// The id of the disk.
    pub disk: String,
    /// Requests a second, if limited.
    pub iops: Option<u64>,
    /// Bytes read and written a second, if limited.
    pub bytes_per_second: Option<u64>,
}

impl Record for DiskLimitsV1 {
    const KIND: u16 = 13;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "disk-limits";

    fn id(&self) -> String {
        self.disk.clone()
    }
}
