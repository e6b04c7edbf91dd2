//! Snapshots: what a disk held at one moment.
//!
//! What must always hold: a snapshot that was answered is there after a crash and outlives its disk;
//! `progressing` ends by itself, also after a restart; a disk has at most one in progress.
//! Left to others: sealing the layer and hashing it (`block-store`); one file per action.

mod create;
mod delete;
mod describe;
mod hashing;

use block_device::ByteLength;
use catalog::record::{DiskRole, SnapshotStatus, Tags};
use jiff::Timestamp;
use serde::Serialize;

pub(crate) use create::ReadySnapshots;
pub(crate) use delete::check_delete;
pub(crate) use hashing::percent;

use crate::{Paging, TagFilter, paging::Listed};

/// `CreateSnapshot`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CreateSnapshot {
    /// The disk.
    pub disk: String,
    /// Free name.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Labels.
    pub tags: Vec<(String, String)>,
    /// Same token and parameters, same answer.
    pub client_token: Option<String>,
}

/// What was made from a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usage {
    /// Nothing.
    None,
    /// Disks.
    Disk,
    /// Images.
    Image,
    /// Both.
    ImageAndDisk,
}

/// `DescribeSnapshots`: what is none does not restrict.
#[derive(Clone, Debug, Default)]
pub struct DescribeSnapshots {
    /// At most 100; unknown ones are not listed.
    pub ids: Option<Vec<String>>,
    /// Taken of it.
    pub disk: Option<String>,
    /// Taken of one of its disks.
    pub instance: Option<String>,
    /// Exact, or with `*`.
    pub name: Option<String>,
    /// One state.
    pub status: Option<SnapshotStatus>,
    /// Of a system or a data disk.
    pub source_role: Option<DiskRole>,
    /// What was made from it.
    pub usage: Option<Usage>,
    /// All of them.
    pub tags: Vec<TagFilter>,
    /// Not older.
    pub created_from: Option<Timestamp>,
    /// Not younger.
    pub created_until: Option<Timestamp>,
    /// Which page.
    pub paging: Paging,
}

/// A snapshot as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotView {
    /// `s-...`
    pub id: String,
    /// The owner's name.
    pub account: String,
    /// Free name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The state.
    pub status: SnapshotStatus,
    /// 0 to 100.
    pub progress_percent: u8,
    /// The disk it was taken of, which may be gone.
    pub disk: String,
    /// What that disk was.
    pub disk_role: DiskRole,
    /// Its size then.
    pub size: ByteLength,
    /// What was made from it.
    pub usage: Usage,
    /// When it was taken.
    pub created: Timestamp,
    /// Whether its bytes are encrypted at rest.
    pub encrypted: bool,
    /// The region.
    pub region: String,
    /// The root over its content, once known: 32 bytes.
    pub root: Option<[u8; 32]>,
    /// Labels.
    pub tags: Tags,
}

impl SnapshotView {
    /// The size in whole GiB, rounded up.
    pub fn size_gib(&self) -> u64 {
        self.size.get().div_ceil(crate::GIB)
    }
}

impl Listed for SnapshotView {
    fn place(&self) -> (i64, &str) {
        (self.created.as_second(), &self.id)
    }
}
