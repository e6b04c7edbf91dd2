//! A snapshot group: snapshots of several disks, taken at one moment.

use serde::{Deserialize, Serialize};

use super::{Record, Tags};

/// The present version.
pub type SnapshotGroup = SnapshotGroupV1;

/// A snapshot group, version 1. How far it is follows from its snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotGroupV1 {
    /// `ssg-...`
    pub id: String,
    /// The owner.
    pub account: String,
    /// The name shown to people.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The instance whose disks they were taken of; empty for disks of several.
    pub instance: String,
    /// Those of its snapshots that are still there; at least one.
    pub snapshots: Vec<String>,
    /// When they were taken.
    pub created: i64,
    /// Free labels.
    pub tags: Tags,
}

impl Record for SnapshotGroupV1 {
    const KIND: u16 = 11;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "snapshot-group";

    fn id(&self) -> String {
        self.id.clone()
    }
}
