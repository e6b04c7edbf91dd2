//! A snapshot: what a disk held at one moment.

use serde::{Deserialize, Serialize};

use super::{DiskRoleV1, LayerBytes, Record, RootBytes, Tags};

/// The present version.
pub type Snapshot = SnapshotV1;

/// The present version of [`SnapshotStatusV1`].
pub type SnapshotStatus = SnapshotStatusV1;

/// A snapshot, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotV1 {
    /// `s-...`
    pub id: String,
    /// The owner.
    pub account: String,
    /// The name shown to people.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The disk it was taken of, which may be gone.
    pub disk: String,
    /// What that disk was to its instance.
    pub disk_role: DiskRoleV1,
    /// Bytes of the disk at that moment.
    pub size: u64,
    /// The layer that holds it; none for a snapshot of an empty disk.
    pub layer: Option<LayerBytes>,
    /// The root of that layer, once known.
    pub root: Option<RootBytes>,
    /// How far it is.
    pub status: SnapshotStatusV1,
    /// When it was taken.
    pub created: i64,
    /// Whether its bytes are encrypted at rest.
    pub encrypted: bool,
    /// Free labels.
    pub tags: Tags,
}

/// How far a snapshot is, version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotStatusV1 {
    /// Taken; its hashes are being made.
    Progressing,
    /// Done.
    Accomplished,
    /// Could not be finished.
    Failed,
}

impl Record for SnapshotV1 {
    const KIND: u16 = 6;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "snapshot";

    fn id(&self) -> String {
        self.id.clone()
    }
}
