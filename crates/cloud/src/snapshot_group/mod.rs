//! Snapshot groups: what several disks held at one moment.
//!
//! What must always hold: a group and its snapshots are made by one commit and deleted by one; a group
//! names only snapshots that are there, and one that would name none goes with the last of them.
//! Left to others: the snapshots themselves (`snapshot`); one file per action.

mod create;
mod delete;
mod describe;

use catalog::record::{DiskRole, SnapshotGroup, SnapshotStatus, Tags};
use jiff::Timestamp;
use serde::Serialize;

use crate::{CloudError, Paging, Resource, TagFilter, paging::Listed, world::World};

/// `CreateSnapshotGroup`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CreateSnapshotGroup {
    /// The instance; may be left out where disks are named.
    pub instance: Option<String>,
    /// The disks; all of the instance if none is named.
    pub disks: Vec<String>,
    /// Disks of the instance that are left out.
    pub exclude: Vec<String>,
    /// Free name.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Labels.
    pub tags: Vec<(String, String)>,
    /// Same token and parameters, same answer.
    pub client_token: Option<String>,
}

/// `DescribeSnapshotGroups`: what is none does not restrict.
#[derive(Clone, Debug, Default)]
pub struct DescribeSnapshotGroups {
    /// At most 100; unknown ones are not listed.
    pub ids: Option<Vec<String>>,
    /// Taken of its disks.
    pub instance: Option<String>,
    /// Exact, or with `*`.
    pub name: Option<String>,
    /// Any of them.
    pub statuses: Option<Vec<SnapshotStatus>>,
    /// All of them.
    pub tags: Vec<TagFilter>,
    /// Which page.
    pub paging: Paging,
}

/// A snapshot group as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotGroupView {
    /// `ssg-...`
    pub id: String,
    /// The owner's name.
    pub account: String,
    /// Free name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The instance; empty for disks of several.
    pub instance: String,
    /// Progressing as long as one snapshot is; failed if one failed.
    pub status: SnapshotStatus,
    /// Its snapshots.
    pub snapshots: Vec<GroupedSnapshot>,
    /// When they were taken.
    pub created: Timestamp,
    /// Labels.
    pub tags: Tags,
}

/// A snapshot of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupedSnapshot {
    /// `s-...`
    pub id: String,
    /// The disk.
    pub disk: String,
    /// What that disk was.
    pub disk_role: DiskRole,
    /// The state.
    pub status: SnapshotStatus,
    /// 0 to 100.
    pub progress_percent: u8,
    /// Labels.
    pub tags: Tags,
}

impl Listed for SnapshotGroupView {
    fn place(&self) -> (i64, &str) {
        (self.created.as_second(), &self.id)
    }
}

impl World {
    pub(crate) fn snapshot_group(
        &self,
        account: &str,
        id: &str,
    ) -> Result<&SnapshotGroup, CloudError> {
        let found = self.snapshot_groups.get(id).filter(|group| group.account == account);
        found.ok_or_else(|| CloudError::not_found(Resource::SnapshotGroup, id))
    }

    /// The group that names a snapshot.
    pub(crate) fn group_of(&self, snapshot: &str) -> Option<&SnapshotGroup> {
        self.snapshot_groups.values().find(|group| group.snapshots.iter().any(|id| id == snapshot))
    }
}
