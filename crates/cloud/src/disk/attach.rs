//! AttachDisk.
//!
//! What must always hold: the commit decides; where the instance runs, the disk can be opened before
//! the commit and is exported only after it.

use catalog::{
    Batch,
    record::{Attachment, Disk, Instance},
};

use super::{
    AttachDisk,
    create::{SETTLED, is_running},
    free_device,
};
use crate::{
    Caller, Cloud, CloudError, DiskStatus, caller::Right, claim::Hold, rules, world::World,
};

impl Cloud {
    /// Attaches a disk to an instance of its zone.
    pub fn attach_disk(&self, caller: &Caller, request: &AttachDisk) -> Result<(), CloudError> {
        caller.may(Right::Change, "AttachDisk")?;
        let names = [request.disk.as_str(), request.instance.as_str()];
        let mut world = self.world_when(|world| world.is_quiet(&names));
        let (disk, instance) = self.check_attach(&world, caller, request)?;
        let mut attached = disk.clone();
        let attachment = self.attachment(&world, instance, request)?;
        let holds = vec![
            Hold::Disk(disk.id.clone(), DiskStatus::Attaching),
            Hold::Arriving {
                disk: disk.id.clone(),
                instance: attachment.instance.clone(),
                device: attachment.device.clone(),
            },
        ];
        let exported = is_running(&world, &instance.id);
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);

        attached.delete_with_instance = attachment.delete_with_instance;
        attached.attachment = Some(attachment);
        let handle = if exported { Some(self.open_export(&attached.id)?) } else { None };
        let mut batch = Batch::new();
        batch.put(&attached)?;
        self.commit(&batch)?;
        if let Some(handle) = handle {
            self.publish_export(handle);
        }
        claim.publish(|world| world.disks.insert(attached.id.clone(), attached));
        Ok(())
    }

    fn check_attach<'w>(
        &self,
        world: &'w World,
        caller: &Caller,
        request: &AttachDisk,
    ) -> Result<(&'w Disk, &'w Instance), CloudError> {
        let disk = world.disk(&caller.account, &request.disk)?;
        let instance = world.instance(&caller.account, &request.instance)?;
        let status = world.disk_status(disk);
        if status != DiskStatus::Available {
            return Err(CloudError::IncorrectDiskStatus { disk: disk.id.clone(), status });
        }
        rules::not_locked(instance)?;
        rules::instance_is_paid(world, self.now_seconds(), instance)?;
        rules::disk_is_paid(world, self.now_seconds(), disk)?;
        rules::instance_is(world, instance, SETTLED)?;
        if disk.zone != instance.zone {
            let (disk, instance) = (disk.id.clone(), instance.id.clone());
            return Err(CloudError::NotSameZone { disk, instance });
        }
        self.has_room(world, &instance.id)?;
        Ok((disk, instance))
    }

    fn attachment(
        &self,
        world: &World,
        instance: &Instance,
        request: &AttachDisk,
    ) -> Result<Attachment, CloudError> {
        let taken = world.devices_of(&instance.id);
        Ok(Attachment {
            instance: instance.id.clone(),
            device: free_device(&taken, request.device.as_deref())?,
            attached: self.now_seconds(),
            delete_with_instance: request.delete_with_instance.unwrap_or(false),
        })
    }
}
