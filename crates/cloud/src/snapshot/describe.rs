//! DescribeSnapshots.

use std::collections::HashSet;

use block_device::ByteLength;
use catalog::record::{Origin, Snapshot, SnapshotStatus};

use super::{DescribeSnapshots, SnapshotView, Usage};
use crate::{
    Caller, Cloud, CloudError, Countable, Page,
    caller::Right,
    clock::whole_seconds,
    filter::{check_ids, equals, equals_text, named, picked, tagged, within},
    world::{World, attached_to},
};

impl Cloud {
    /// The snapshots of the account that fit.
    pub fn describe_snapshots(
        &self,
        caller: &Caller,
        asked: &DescribeSnapshots,
    ) -> Result<Page<SnapshotView>, CloudError> {
        caller.may(Right::Describe, "DescribeSnapshots")?;
        check_ids(asked.ids.as_deref(), Countable::SnapshotIds)?;
        asked.paging.check()?;
        let world = self.world();
        let uses = Uses::of(&world);
        let own = picked(&world.snapshots, asked.ids.as_deref());
        let own = own.filter(|one| one.account == caller.account);
        let region = &self.inner.settings.region;
        let views = own.map(|one| view(&world, &uses, region, one));
        Ok(asked.paging.cut(views.filter(|one| fits(&world, asked, one)).collect()))
    }
}

/// What was made from what, gathered once for a whole list.
struct Uses<'w> {
    in_disks: HashSet<&'w str>,
    in_images: HashSet<&'w str>,
}

impl<'w> Uses<'w> {
    fn of(world: &'w World) -> Self {
        let in_disks = world.disks.values().filter_map(|disk| match &disk.origin {
            Origin::Snapshot { id } => Some(id.as_str()),
            Origin::Empty | Origin::Image { .. } => None,
        });
        let in_images = world.images.values().flat_map(|image| {
            let behind = image.data_disks.iter().map(|disk| disk.snapshot.as_str());
            behind.chain(image.source_snapshot.as_deref())
        });
        Self { in_disks: in_disks.collect(), in_images: in_images.collect() }
    }

    fn usage(&self, snapshot: &str) -> Usage {
        match (self.in_images.contains(snapshot), self.in_disks.contains(snapshot)) {
            (true, true) => Usage::ImageAndDisk,
            (true, false) => Usage::Image,
            (false, true) => Usage::Disk,
            (false, false) => Usage::None,
        }
    }
}

fn fits(world: &World, asked: &DescribeSnapshots, one: &SnapshotView) -> bool {
    let of_instance = |instance: &String| {
        world.disks.get(&one.disk).is_some_and(|disk| attached_to(disk, instance))
    };
    named(asked.name.as_deref(), &one.name)
        && equals_text(asked.disk.as_deref(), &one.disk)
        && asked.instance.as_ref().is_none_or(of_instance)
        && equals(asked.status.as_ref(), &one.status)
        && equals(asked.source_role.as_ref(), &one.disk_role)
        && equals(asked.usage.as_ref(), &one.usage)
        && tagged(&asked.tags, &one.tags)
        && within(one.created, asked.created_from, asked.created_until)
}

fn view(world: &World, uses: &Uses<'_>, region: &str, one: &Snapshot) -> SnapshotView {
    let settled = if one.status == SnapshotStatus::Accomplished { 100 } else { 0 };
    SnapshotView {
        id: one.id.clone(),
        account: one.account.clone(),
        name: one.name.clone(),
        description: one.description.clone(),
        status: one.status,
        progress_percent: world.progress.get(&one.id).copied().unwrap_or(settled),
        disk: one.disk.clone(),
        disk_role: one.disk_role,
        size: ByteLength::new(one.size),
        usage: uses.usage(&one.id),
        created: whole_seconds(one.created),
        encrypted: one.encrypted,
        region: region.into(),
        root: one.root,
        tags: one.tags.clone(),
    }
}
