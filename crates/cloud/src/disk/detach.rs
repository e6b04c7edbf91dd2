//! DetachDisk.
//!
//! What must always hold: before the commit the export is closed and what was answered is flushed; a
//! detach that fails leaves the disk attached and exported as before.

use block_device::FenceMode;
use catalog::{
    Batch,
    record::{Disk, DiskRole},
};

use super::create::{SETTLED, is_running};
use crate::{
    Caller, Cloud, CloudError, DiskStatus,
    caller::Right,
    claim::{Claim, Hold},
    cloud::disk_name,
    rules,
    world::World,
};

impl Cloud {
    /// Detaches a data disk from the instance named. A long last flush goes on after the answer.
    pub fn detach_disk(&self, caller: &Caller, id: &str, instance: &str) -> Result<(), CloudError> {
        caller.may(Right::Change, "DetachDisk")?;
        let mut world = self.world_when(|world| world.is_quiet(&[id, instance]));
        let disk = check_detach(&world, caller, id, instance)?.clone();
        let exported = is_running(&world, instance);
        let claim =
            self.claim(caller, &mut world, vec![Hold::Disk(id.into(), DiskStatus::Detaching)])?;
        drop(world);
        let cloud = self.clone();
        self.answer_soon("detach", move || cloud.finish_detach(claim, disk, exported))
    }

    fn finish_detach(&self, claim: Claim, disk: Disk, exported: bool) -> Result<(), CloudError> {
        let id = disk.id.clone();
        let detached = Disk {
            attachment: None,
            detached: Some(self.now_seconds()),
            delete_with_instance: false,
            ..disk
        };
        let mut batch = Batch::new();
        batch.put(&detached)?;
        let closed =
            if exported { self.close_export(&disk_name(&id)?, FenceMode::Flush) } else { Ok(()) };
        if let Err(error) = closed.and_then(|()| self.commit(&batch)) {
            if exported {
                self.open_exports_of(&[id]);
            }
            return Err(error);
        }
        claim.publish(|world| world.disks.insert(id, detached));
        Ok(())
    }
}

fn check_detach<'w>(
    world: &'w World,
    caller: &Caller,
    id: &str,
    instance: &str,
) -> Result<&'w Disk, CloudError> {
    let disk = world.disk(&caller.account, id)?;
    let instance = world.instance(&caller.account, instance)?;
    let status = world.disk_status(disk);
    let attachment = disk.attachment.as_ref().filter(|_| status == DiskStatus::InUse);
    let Some(attachment) = attachment else {
        return Err(CloudError::IncorrectDiskStatus { disk: disk.id.clone(), status });
    };
    if attachment.instance != instance.id {
        let (disk, instance) = (disk.id.clone(), instance.id.clone());
        return Err(CloudError::NotAttachedThere { disk, instance });
    }
    if disk.role == DiskRole::System || !disk.portable {
        return Err(CloudError::DiskNotPortable { disk: disk.id.clone() });
    }
    rules::not_locked(instance)?;
    rules::instance_is(world, instance, SETTLED)?;
    Ok(disk)
}
