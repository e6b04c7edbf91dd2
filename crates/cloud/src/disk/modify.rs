//! ModifyDiskAttribute.
//!
//! What must always hold: all disks named are changed in one commit, or none.

use catalog::{
    Batch,
    record::{Attachment, Disk, DiskRole},
};

use super::ModifyDisk;
use crate::{
    Caller, Cloud, CloudError, Countable, DiskStatus, Field, caller::Right, claim::Hold, texts,
    world::World,
};

/// Disks in one call.
const MOST_DISKS: usize = 100;

impl Cloud {
    /// Changes names, texts and switches of disks.
    pub fn modify_disk(&self, caller: &Caller, request: &ModifyDisk) -> Result<(), CloudError> {
        caller.may(Right::Change, "ModifyDiskAttribute")?;
        check_request(request)?;
        let names: Vec<_> = request.disks.iter().map(String::as_str).collect();
        let mut world = self.world_when(|world| world.is_quiet(&names));
        let mut changed = Vec::new();
        for id in &names {
            changed.push(change(check_modify(&world, caller, id, request)?, request)?);
        }
        let holds = names.iter().map(|id| Hold::Quiet((*id).into())).collect();
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);
        let mut batch = Batch::new();
        for disk in &changed {
            batch.put(disk)?;
        }
        self.commit(&batch)?;
        claim.publish(|world| {
            let pairs = changed.into_iter().map(|disk| (disk.id.clone(), disk));
            world.disks.extend(pairs);
        });
        Ok(())
    }
}

fn check_request(request: &ModifyDisk) -> Result<(), CloudError> {
    if request.disks.is_empty() {
        return Err(CloudError::Missing { parameter: "DiskId" });
    }
    if request.disks.len() > MOST_DISKS {
        return Err(CloudError::TooMany { what: Countable::DiskIds, most: MOST_DISKS });
    }
    let nothing = request.name.is_none()
        && request.description.is_none()
        && request.delete_with_instance.is_none()
        && request.delete_auto_snapshot.is_none()
        && request.enable_auto_snapshot.is_none();
    if nothing { Err(CloudError::NothingToModify) } else { Ok(()) }
}

fn check_modify<'w>(
    world: &'w World,
    caller: &Caller,
    id: &str,
    request: &ModifyDisk,
) -> Result<&'w Disk, CloudError> {
    let disk = world.disk(&caller.account, id)?;
    let status = world.disk_status(disk);
    if !matches!(status, DiskStatus::Available | DiskStatus::InUse) {
        return Err(CloudError::IncorrectDiskStatus { disk: id.into(), status });
    }
    let bound = disk.role == DiskRole::System || !disk.portable;
    if bound && request.delete_with_instance == Some(false) {
        return Err(CloudError::DiskNotPortable { disk: id.into() });
    }
    Ok(disk)
}

fn change(disk: &Disk, request: &ModifyDisk) -> Result<Disk, CloudError> {
    let mut disk = disk.clone();
    if let Some(name) = &request.name {
        disk.name = texts::name(Field::DiskName, Some(name))?;
    }
    if let Some(description) = &request.description {
        disk.description = texts::description(Some(description))?;
    }
    if let Some(with_instance) = request.delete_with_instance {
        disk.delete_with_instance = with_instance && disk.attachment.is_some();
        disk.attachment = disk
            .attachment
            .map(|place| Attachment { delete_with_instance: with_instance, ..place });
    }
    disk.delete_auto_snapshot = request.delete_auto_snapshot.unwrap_or(disk.delete_auto_snapshot);
    disk.enable_auto_snapshot = request.enable_auto_snapshot.unwrap_or(disk.enable_auto_snapshot);
    Ok(disk)
}
