//! A disk: its names, its origin and what it is attached to.
//!
//! Not here, on purpose: size, epoch, base and head. The ledger of the block store alone owns them,
//! and neither side keeps a copy of the other's facts.

use serde::{Deserialize, Serialize};

use super::{ChargeTypeV1, LockV1, Record, Tags};

/// The present version.
pub type Disk = DiskV1;

/// The present version of [`DiskRoleV1`].
pub type DiskRole = DiskRoleV1;

/// The present version of [`OriginV1`].
pub type Origin = OriginV1;

/// The present version of [`AttachmentV1`].
pub type Attachment = AttachmentV1;

/// The present version of [`PendingResetV1`].
pub type PendingReset = PendingResetV1;

/// A disk, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskV1 {
    /// `d-...`
    pub id: String,
    /// The owner.
    pub account: String,
    /// The name shown to people.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Such as `cloud_essd`.
    pub category: String,
    /// System or data disk.
    pub role: DiskRoleV1,
    /// What a reset goes back to.
    pub origin: OriginV1,
    /// The account that owned the origin's image when the disk was made; else the own account.
    pub origin_owner: String,
    /// Whether the origin is a snapshot that stands behind an image's device mapping.
    pub origin_via_image: bool,
    /// The instance it is attached to, if any.
    pub attachment: Option<AttachmentV1>,
    /// When it was last detached.
    pub detached: Option<i64>,
    /// Whether it goes away with the instance it is attached to.
    pub delete_with_instance: bool,
    /// Whether it can be detached and live on its own.
    pub portable: bool,
    /// When it was created.
    pub created: i64,
    /// How it is paid for.
    pub charge_type: ChargeTypeV1,
    /// Until when it is paid for, if so.
    pub expires: Option<i64>,
    /// Why actions on it are refused, if they are.
    pub locks: Vec<LockV1>,
    /// The serial number the guest sees.
    pub serial: String,
    /// The zone.
    pub zone: String,
    /// The region.
    pub region: String,
    /// Free labels.
    pub tags: Tags,
    /// Whether automatic snapshots may be taken.
    pub enable_auto_snapshot: bool,
    /// Whether automatic snapshots go away with the disk.
    pub delete_auto_snapshot: bool,
    /// A reset whose other changes wait for the ledger.
    pub pending_reset: Option<PendingResetV1>,
}

/// What a disk is to its instance, version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskRoleV1 {
    /// The disk it starts from.
    System,
    /// Any other.
    Data,
}

/// What a reset goes back to, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OriginV1 {
    /// Zeros.
    Empty,
    /// An image.
    Image {
        /// Its id.
        id: String,
    },
    /// A snapshot.
    Snapshot {
        /// Its id.
        id: String,
    },
}

/// Where a disk is attached, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentV1 {
    /// The instance.
    pub instance: String,
    /// The device name, such as `/dev/xvda`.
    pub device: String,
    /// Since when.
    pub attached: i64,
    /// Whether it goes away with this instance.
    pub delete_with_instance: bool,
}

/// Changes that become true once the ledger has a reset, version 1.
///
/// Committed before the ledger record is written. Start applies it if the disk's ledger sequence
/// has got to `ledger_sequence`, else drops it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingResetV1 {
    /// The ledger sequence the reset gets.
    pub ledger_sequence: u64,
    /// Whether the instance is started afterwards.
    pub auto_start: bool,
    /// First-boot data (a password, a key), sealed; empty if none.
    pub sealed_first_boot: Vec<u8>,
}

impl Record for DiskV1 {
    const KIND: u16 = 4;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "disk";

    fn id(&self) -> String {
        self.id.clone()
    }
}
