//! DescribeSnapshotGroups.

use catalog::record::{Snapshot, SnapshotGroup, SnapshotStatus};

use super::{DescribeSnapshotGroups, GroupedSnapshot, SnapshotGroupView};
use crate::{
    Caller, Cloud, CloudError, Countable, Page,
    caller::Right,
    clock::whole_seconds,
    filter::{check_ids, equals_text, named, picked, tagged},
    world::World,
};

impl Cloud {
    /// The snapshot groups of the account that fit.
    pub fn describe_snapshot_groups(
        &self,
        caller: &Caller,
        asked: &DescribeSnapshotGroups,
    ) -> Result<Page<SnapshotGroupView>, CloudError> {
        caller.may(Right::Describe, "DescribeSnapshotGroups")?;
        check_ids(asked.ids.as_deref(), Countable::SnapshotIds)?;
        asked.paging.check()?;
        let world = self.world();
        let own = picked(&world.snapshot_groups, asked.ids.as_deref());
        let own = own.filter(|group| group.account == caller.account);
        let views = own.map(|group| view(&world, group)).filter(|group| fits(asked, group));
        Ok(asked.paging.cut(views.collect()))
    }
}

fn fits(asked: &DescribeSnapshotGroups, group: &SnapshotGroupView) -> bool {
    named(asked.name.as_deref(), &group.name)
        && equals_text(asked.instance.as_deref(), &group.instance)
        && asked.statuses.as_ref().is_none_or(|statuses| statuses.contains(&group.status))
        && tagged(&asked.tags, &group.tags)
}

fn view(world: &World, group: &SnapshotGroup) -> SnapshotGroupView {
    let members = group.snapshots.iter().filter_map(|id| world.snapshots.get(id));
    let snapshots: Vec<_> = members.map(|one| member(world, one)).collect();
    let any = |status| snapshots.iter().any(|one| one.status == status);
    let status =
        [SnapshotStatus::Progressing, SnapshotStatus::Failed].into_iter().find(|s| any(*s));
    SnapshotGroupView {
        id: group.id.clone(),
        account: group.account.clone(),
        name: group.name.clone(),
        description: group.description.clone(),
        instance: group.instance.clone(),
        status: status.unwrap_or(SnapshotStatus::Accomplished),
        snapshots,
        created: whole_seconds(group.created),
        tags: group.tags.clone(),
    }
}

fn member(world: &World, one: &Snapshot) -> GroupedSnapshot {
    let settled = if one.status == SnapshotStatus::Accomplished { 100 } else { 0 };
    GroupedSnapshot {
        id: one.id.clone(),
        disk: one.disk.clone(),
        disk_role: one.disk_role,
        status: one.status,
        progress_percent: world.progress.get(&one.id).copied().unwrap_or(settled),
        tags: one.tags.clone(),
    }
}
