//! Disks: what they are to a client.
//!
//! What must always hold: size, epoch and content are asked of the store each time, name, origin and
//! attachment of the catalog; neither is kept twice. A disk's state is what the catalog says
//! (attached or not) unless a claim in memory says that something is being done to it.
//! Left to others: one file per action; going back to the initial state (`reinit_disk`).

mod attach;
mod category;
mod create;
mod delete;
mod describe;
mod detach;
mod device;
mod limit;
mod modify;
mod plan;
mod replace;
mod resize;

use std::fmt;

use block_device::ByteLength;
use catalog::record::{ChargeType, Disk, DiskRole, Lock, Origin, RootBytes, Tags};
use jiff::Timestamp;
use serde::Serialize;

pub(crate) use category::{
    Category, DEFAULT as DEFAULT_CATEGORY, DEFAULT_SYSTEM as DEFAULT_SYSTEM_CATEGORY,
};
pub(crate) use create::SETTLED;
pub(crate) use device::{SYSTEM_DEVICE, check_system_device, free_device};
pub(crate) use limit::delete_records;
pub(crate) use plan::{DiskPlan, DiskSeed, Given};
pub use replace::ReplaceSystemDisk;

use crate::{Paging, TagFilter, paging::Listed};

/// The state of a disk. Deleted ones are never listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum DiskStatus {
    /// Being made.
    Creating,
    /// Attached to nothing.
    Available,
    /// Being attached.
    Attaching,
    /// Attached.
    InUse,
    /// Being detached.
    Detaching,
    /// Going back to its initial state, or to a snapshot.
    ReIniting,
}

impl fmt::Display for DiskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "Creating",
            Self::Available => "Available",
            Self::Attaching => "Attaching",
            Self::InUse => "In_use",
            Self::Detaching => "Detaching",
            Self::ReIniting => "ReIniting",
        })
    }
}

/// `CreateDisk`, and `reinit disk create`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CreateDisk {
    /// The zone; the first of the cloud if none is given.
    pub zone: Option<String>,
    /// The instance to be attached to at once.
    pub instance: Option<String>,
    /// Bytes. Keys may only ask for what the table of categories allows.
    pub size: Option<u64>,
    /// The snapshot to begin with.
    pub snapshot: Option<String>,
    /// The image to begin with; the operator only.
    pub image: Option<String>,
    /// The category; `cloud` if none is given.
    pub category: Option<String>,
    /// Free name.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Labels.
    pub tags: Vec<(String, String)>,
    /// Same token and parameters, same answer.
    pub client_token: Option<String>,
}

/// `AttachDisk`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AttachDisk {
    /// The disk.
    pub disk: String,
    /// The instance.
    pub instance: String,
    /// `/dev/xvdb` to `/dev/xvdz`; the first free one if none is given.
    pub device: Option<String>,
    /// Whether the disk goes when the instance goes; no, if not given.
    pub delete_with_instance: Option<bool>,
}

/// `ResizeDisk`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ResizeDisk {
    /// The disk.
    pub disk: String,
    /// Bytes; more than now.
    pub size: u64,
    /// Whether its instance runs on meanwhile.
    pub online: bool,
    /// Same token and parameters, same answer.
    pub client_token: Option<String>,
}

/// `reinit disk limit`; what is none stays, 0 takes a limit away.
#[derive(Clone, Debug, Default)]
pub struct LimitDisk {
    /// The disk.
    pub disk: String,
    /// Requests a second.
    pub iops: Option<u64>,
    /// Bytes read and written a second.
    pub bytes_per_second: Option<u64>,
}

/// `ModifyDiskAttribute`; what is none stays.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModifyDisk {
    /// The disks.
    pub disks: Vec<String>,
    /// The new name.
    pub name: Option<String>,
    /// The new text.
    pub description: Option<String>,
    /// Whether it goes when its instance goes.
    pub delete_with_instance: Option<bool>,
    /// Whether automatic snapshots go with it.
    pub delete_auto_snapshot: Option<bool>,
    /// Whether automatic snapshots may be taken.
    pub enable_auto_snapshot: Option<bool>,
}

/// `DescribeDisks`: what is none does not restrict.
#[derive(Clone, Debug, Default)]
pub struct DescribeDisks {
    /// At most 100; unknown ones are not listed.
    pub ids: Option<Vec<String>>,
    /// Exact, or with `*`.
    pub name: Option<String>,
    /// One category.
    pub category: Option<String>,
    /// System or data.
    pub role: Option<DiskRole>,
    /// One state.
    pub status: Option<DiskStatus>,
    /// Attached to it.
    pub instance: Option<String>,
    /// Made from it.
    pub snapshot: Option<String>,
    /// In that zone.
    pub zone: Option<String>,
    /// Whether it can leave its instance.
    pub portable: Option<bool>,
    /// Whether it goes with its instance.
    pub delete_with_instance: Option<bool>,
    /// Whether automatic snapshots may be taken.
    pub enable_auto_snapshot: Option<bool>,
    /// Whether automatic snapshots go with it.
    pub delete_auto_snapshot: Option<bool>,
    /// Carries that lock.
    pub lock: Option<Lock>,
    /// Paid for like that.
    pub charge_type: Option<ChargeType>,
    /// All of them.
    pub tags: Vec<TagFilter>,
    /// Not older.
    pub created_from: Option<Timestamp>,
    /// Not younger.
    pub created_until: Option<Timestamp>,
    /// Which page.
    pub paging: Paging,
}

/// A disk as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskView {
    /// `d-...`
    pub id: String,
    /// The owner's name.
    pub account: String,
    /// Free name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Such as `cloud_essd`.
    pub category: String,
    /// System or data.
    pub role: DiskRole,
    /// The state.
    pub status: DiskStatus,
    /// Bytes.
    pub size: ByteLength,
    /// What a reset goes back to.
    pub origin: Origin,
    /// Where it is attached.
    pub attachment: Option<AttachmentView>,
    /// When it was last detached.
    pub detached: Option<Timestamp>,
    /// Whether it goes with its instance.
    pub delete_with_instance: bool,
    /// Whether it can leave its instance.
    pub portable: bool,
    /// When it was made.
    pub created: Timestamp,
    /// How it is paid for.
    pub charge_type: ChargeType,
    /// Until when, if so.
    pub expires: Option<Timestamp>,
    /// Why actions on it are refused.
    pub locks: Vec<Lock>,
    /// What the guest sees.
    pub serial: String,
    /// The zone.
    pub zone: String,
    /// The region.
    pub region: String,
    /// Labels.
    pub tags: Tags,
    /// Whether automatic snapshots may be taken.
    pub enable_auto_snapshot: bool,
    /// Whether automatic snapshots go with it.
    pub delete_auto_snapshot: bool,
}

/// Where a disk is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentView {
    /// The instance.
    pub instance: String,
    /// Such as `/dev/xvdb`.
    pub device: String,
    /// Since when.
    pub attached: Timestamp,
}

/// A disk as `reinit disk show` prints it: with what the store knows of it.
#[derive(Clone, Debug)]
pub struct DiskDetail {
    /// What a client sees.
    pub view: DiskView,
    /// Its epoch.
    pub epoch: u64,
    /// Bytes in blocks written since the last reset.
    pub written_since_reset: ByteLength,
    /// The space it takes.
    pub space: block_store::DiskSpace,
    /// Its last reset, if it had one.
    pub last_reset: Option<LastReset>,
    /// Why the store serves it no more, if so.
    pub refusal: Option<String>,
    /// Whether it is exported right now.
    pub exported: bool,
    /// How fast it may go.
    pub rates: block_device::Rates,
    /// Whether it stands on the security layer of its image.
    pub security_enhanced: bool,
}

/// The last reset of a disk, from its ledger record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastReset {
    /// Of the call.
    pub request_id: String,
    /// When.
    pub time: Timestamp,
    /// The epoch that ended.
    pub epoch_before: u64,
    /// The epoch that began.
    pub epoch_after: u64,
    /// What it went back to; none if that is gone or names that content no more.
    pub origin: Option<Origin>,
    /// The root over that content, once known; for none, zeros of the size the disk has now.
    pub root: Option<RootBytes>,
}

impl DiskView {
    /// The size in whole GiB, rounded up.
    pub fn size_gib(&self) -> u64 {
        self.size.get().div_ceil(crate::GIB)
    }

    /// The snapshot it was made from; also when that is gone.
    pub fn source_snapshot(&self) -> Option<&str> {
        source_snapshot(&self.origin)
    }

    /// The image it was made from; also when that is gone.
    pub fn source_image(&self) -> Option<&str> {
        match &self.origin {
            Origin::Image { id } => Some(id),
            Origin::Empty | Origin::Snapshot { .. } => None,
        }
    }
}

impl Listed for Disk {
    fn place(&self) -> (i64, &str) {
        (self.created, &self.id)
    }
}

fn source_snapshot(origin: &Origin) -> Option<&str> {
    match origin {
        Origin::Snapshot { id } => Some(id),
        Origin::Empty | Origin::Image { .. } => None,
    }
}
