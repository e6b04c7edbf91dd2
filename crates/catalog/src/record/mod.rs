//! The records: one frozen struct per kind of resource and version.
//!
//! What must always hold
//! 1. A published struct (`DiskV1`, `AttachmentV1`, ...) never changes: no field added, removed,
//!    reordered or retyped, no enum variant moved. bincode keeps no field names; any such edit
//!    turns stored bytes into an error at best and into a wrong value at worst.
//!    `tests/golden/` holds the bytes of each version for ever.
//! 2. A change is a new struct `DiskV2` beside the old one, with `impl From<DiskV1> for DiskV2`, a
//!    new `VERSION`, the alias `pub type Disk = DiskV2;` moved on, and a [`Record::decode`] that
//!    reads version 1 and converts. Variants may only be appended to an enum, and then in a new
//!    struct version too, because an older program would refuse them. Stored records of an older
//!    version stay as they are until they are next put; a precondition compares stored bytes, so
//!    whoever first holds such a record to one lets opening rewrite the older ones.
//! 3. Only types with one encoding: `BTreeMap`, `Vec`, `u64`, `i64`, `String`, `Option`, arrays,
//!    enums. No `HashMap` (unstable bytes), no `usize`, no serde attribute that skips, flattens or
//!    defaults a field.
//! 4. A key is `prefix/id`; prefix and kind number belong to one record for ever. Kind 0 is never
//!    valid, so zeroed bytes are not a record.
//!
//! All times are seconds since 1970, UTC. Layer ids and roots are plain bytes here, because the
//! catalog knows nothing of the block store. `account` is always the *name* of an account.
//!
//! Left to others: bytes around the payload (`envelope`), rules between records (`cloud`).

mod account;
mod disk;
mod disk_limits;
mod image;
mod import;
mod instance;
mod key;
mod session;
mod snapshot;
mod snapshot_group;
mod task;
mod token;

#[cfg(test)]
mod golden;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use account::{Account, AccountV1};
pub use disk::{
    Attachment, AttachmentV1, Disk, DiskRole, DiskRoleV1, DiskV1, Origin, OriginV1, PendingReset,
    PendingResetV1,
};
pub use disk_limits::{DiskLimits, DiskLimitsV1};
pub use image::{
    Image, ImageDisk, ImageDiskV1, ImageStatus, ImageStatusV1, ImageV1, ImageV2, SecurityLayer,
    SecurityLayerV1,
};
pub use import::{Import, ImportV1};
pub use instance::{Instance, InstanceV1, Power, PowerV1};
pub use key::{Key, KeyV1, Role, RoleV1};
pub use session::{Session, SessionV1};
pub use snapshot::{Snapshot, SnapshotStatus, SnapshotStatusV1, SnapshotV1};
pub use snapshot_group::{SnapshotGroup, SnapshotGroupV1};
pub use task::{Task, TaskStatus, TaskStatusV1, TaskV1};
pub use token::{Token, TokenV1};

use crate::envelope::{EnvelopeError, Payload};

/// Something the catalog keeps under `PREFIX/id`.
pub trait Record: Serialize + DeserializeOwned {
    /// The number in the envelope that says what the payload is; never reused, never 0.
    const KIND: u16;
    /// The version that is written.
    const VERSION: u16;
    /// The first part of the key, without the slash.
    const PREFIX: &'static str;

    /// The second part of the key: what tells records of one kind apart.
    fn id(&self) -> String;

    /// Where this record lies in the catalog.
    fn key(&self) -> String {
        key_of::<Self>(&self.id())
    }

    /// Reads a payload of any version this program knows; a later version is refused, not guessed.
    fn decode(version: u16, payload: Payload<'_>) -> Result<Self, EnvelopeError> {
        if version != Self::VERSION {
            return Err(EnvelopeError::UnknownVersion { kind: Self::KIND, version });
        }
        payload.read()
    }
}

/// The key of the record of kind `R` with this id.
#[must_use]
pub fn key_of<R: Record>(id: &str) -> String {
    format!("{}/{id}", R::PREFIX)
}

/// Free labels on a resource.
pub type Tags = BTreeMap<String, String>;

/// The 16 bytes of a layer id of the block store.
pub type LayerBytes = [u8; 16];

/// The 32 bytes of a content root of the block store.
pub type RootBytes = [u8; 32];

/// The present version of [`LockV1`].
pub type Lock = LockV1;

/// Why a resource is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockV1 {
    /// Locked for security reasons.
    Security,
    /// Locked because of unpaid bills.
    Financial,
}

/// The present version of [`ChargeTypeV1`].
pub type ChargeType = ChargeTypeV1;

/// How a resource is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChargeTypeV1 {
    /// Pay as you go.
    PostPaid,
    /// Subscription, paid in advance until a date.
    PrePaid,
}
