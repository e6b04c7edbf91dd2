//! CreateSnapshotGroup.
//!
//! What must always hold: the rules are those of CreateSnapshot for each disk; one commit, made while
//! nothing else is done to the disks, decides over the group and all its snapshots.

use std::collections::BTreeSet;

use catalog::{
    Batch,
    record::{Disk, Snapshot, SnapshotGroup},
};

use super::CreateSnapshotGroup;
use crate::{
    Caller, Cloud, CloudError, Countable, CreateSnapshot, Field, caller::Right,
    client_token::TokenSlot, disk::Category, ids, tags, texts, world::World,
};

/// Disks of one group.
const MOST_DISKS: usize = 16;

impl Cloud {
    /// Takes snapshots of several disks at one moment; answers the id of the group.
    pub fn create_snapshot_group(
        &self,
        caller: &Caller,
        request: &CreateSnapshotGroup,
    ) -> Result<String, CloudError> {
        caller.may(Right::Change, "CreateSnapshotGroup")?;
        let token = request.client_token.as_deref();
        self.once(caller, "CreateSnapshotGroup", token, request, &[], |slot| {
            self.make_group(caller, request, slot)
        })
    }

    fn make_group(
        &self,
        caller: &Caller,
        request: &CreateSnapshotGroup,
        slot: &mut TokenSlot,
    ) -> Result<String, CloudError> {
        let instance = texts::given(request.instance.as_deref());
        let mut world = self.world_when(|world| {
            request.disks.iter().all(|disk| world.is_quiet_behind(disk))
                && instance.is_none_or(|instance| world.is_quiet_around(instance))
        });
        let disks = chosen(&world, caller, request)?;
        let group = self.new_group(caller, request)?;
        let snapshots =
            disks.into_iter().map(|disk| CreateSnapshot { disk, ..CreateSnapshot::default() });
        let snapshots: Vec<_> = snapshots.collect();
        let ready = self.ready_snapshots(&mut world, caller, &snapshots, Vec::new())?;
        drop(world);
        let complete = |taken: &[Snapshot], batch: &mut Batch| {
            let snapshots = taken.iter().map(|one| one.id.clone()).collect();
            let group = SnapshotGroup { snapshots, ..group };
            batch.put(&group)?;
            slot.record(self, batch, &group.id)?;
            Ok(group)
        };
        self.seal_snapshots(ready, complete, |world, group: SnapshotGroup| {
            let id = group.id.clone();
            world.snapshot_groups.insert(id.clone(), group);
            id
        })
    }

    fn new_group(
        &self,
        caller: &Caller,
        request: &CreateSnapshotGroup,
    ) -> Result<SnapshotGroup, CloudError> {
        Ok(SnapshotGroup {
            id: ids::snapshot_group()?,
            account: caller.account.clone(),
            name: texts::name(Field::SnapshotName, request.name.as_deref())?,
            description: texts::description(request.description.as_deref())?,
            instance: request.instance.clone().unwrap_or_default(),
            snapshots: Vec::new(),
            created: self.now_seconds(),
            tags: tags::checked(&request.tags)?,
        })
    }
}

/// The disks named, each once, or all of the instance that take snapshots.
fn chosen(
    world: &World,
    caller: &Caller,
    request: &CreateSnapshotGroup,
) -> Result<Vec<String>, CloudError> {
    if !request.disks.is_empty() && !request.exclude.is_empty() {
        return Err(CloudError::ParametersConflict { first: "DiskId", second: "ExcludeDiskId" });
    }
    let instance = texts::given(request.instance.as_deref());
    let instance = instance.map(|id| world.instance(&caller.account, id)).transpose()?;
    // A wrong id here would take a snapshot that somebody wanted to leave out.
    for id in &request.exclude {
        world.disk(&caller.account, id)?;
    }
    let disks = match instance {
        Some(instance) if request.disks.is_empty() => {
            let all = world.disks_of(&instance.id).into_iter();
            let kept = all.filter(|disk| keeps(disk) && !request.exclude.contains(&disk.id));
            kept.map(|disk| disk.id.clone()).collect()
        }
        _ => {
            let mut seen = BTreeSet::new();
            let once = request.disks.iter().filter(|disk| seen.insert(disk.as_str()));
            once.cloned().collect::<Vec<_>>()
        }
    };
    if disks.is_empty() {
        return Err(CloudError::Missing { parameter: "DiskId.1" });
    }
    if disks.len() > MOST_DISKS {
        return Err(CloudError::TooMany { what: Countable::DiskIds, most: MOST_DISKS });
    }
    for id in &disks {
        let disk = world.disk(&caller.account, id)?;
        let place = disk.attachment.as_ref().map(|place| place.instance.as_str());
        if let Some(instance) = instance.filter(|instance| place != Some(&instance.id)) {
            let instance = instance.id.clone();
            return Err(CloudError::NotAttachedThere { disk: id.clone(), instance });
        }
    }
    Ok(disks)
}

fn keeps(disk: &Disk) -> bool {
    Category::of(&disk.category).is_some_and(|category| !category.is_ephemeral())
}
