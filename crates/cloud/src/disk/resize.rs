//! ResizeDisk.
//!
//! What must always hold: the ledger decides, and only ever upwards; nothing of the content changes.
//! The ledger cannot hold a client token. So a call with a token that asks for the size the disk has
//! is taken for the repetition of a call whose answer was lost, and answered as done.

use block_device::ByteLength;
use catalog::{Batch, record::Disk};

use super::ResizeDisk;
use crate::{
    Caller, Cloud, CloudError, DiskStatus, Field, GIB, InstanceStatus,
    caller::Right,
    claim::Hold,
    client_token::TokenSlot,
    cloud::disk_name,
    disk::{Category, create::SETTLED},
    reinit_disk::not_in_a_snapshot,
    rules,
    world::World,
};

impl Cloud {
    /// Makes a disk larger. A running guest sees it after a reboot.
    pub fn resize_disk(&self, caller: &Caller, request: &ResizeDisk) -> Result<(), CloudError> {
        caller.may(Right::Change, "ResizeDisk")?;
        let token = request.client_token.as_deref();
        self.once(caller, "ResizeDisk", token, request, &[], |slot| {
            self.grow_disk(caller, request, slot)
        })
    }

    fn grow_disk(
        &self,
        caller: &Caller,
        request: &ResizeDisk,
        slot: &mut TokenSlot,
    ) -> Result<(), CloudError> {
        let id = request.disk.as_str();
        let mut world = self.world_when(|world| world.is_quiet_behind(id));
        let disk = world.disk(&caller.account, id)?;
        let now = world.sizes.get(id).copied().unwrap_or(0);
        if !(slot.is_given() && request.size == now) {
            self.check_resize(&world, caller, disk, request, now)?;
        }
        let account = disk.account.clone();
        let more = Hold::Bytes(account, request.size.saturating_sub(now));
        let claim = self.claim(caller, &mut world, vec![Hold::Quiet(id.into()), more])?;
        drop(world);
        if request.size != now {
            self.inner.store.resize(&disk_name(id)?, ByteLength::new(request.size))?;
        }
        let grown = claim.publish_keeping(
            |_| true,
            |world| {
                world.sizes.insert(id.into(), request.size);
            },
        );
        if slot.is_given() {
            let mut batch = Batch::new();
            slot.record(self, &mut batch, &())?;
            self.commit(&batch)?;
        }
        drop(grown);
        Ok(())
    }

    fn check_resize(
        &self,
        world: &World,
        caller: &Caller,
        disk: &Disk,
        request: &ResizeDisk,
        now: u64,
    ) -> Result<(), CloudError> {
        let category = Category::of(&disk.category).filter(|category| !category.is_ephemeral());
        let Some(category) = category else {
            let (disk, category) = (disk.id.clone(), disk.category.clone());
            return Err(CloudError::CategoryNotSupported { disk, category });
        };
        let status = world.disk_status(disk);
        if !matches!(status, DiskStatus::Available | DiskStatus::InUse) {
            return Err(CloudError::IncorrectDiskStatus { disk: disk.id.clone(), status });
        }
        if let Some(attachment) = &disk.attachment {
            let instance = world.instance(&disk.account, &attachment.instance)?;
            rules::not_locked(instance)?;
            rules::instance_is_paid(world, self.now_seconds(), instance)?;
            let allowed = if request.online { &[InstanceStatus::Running][..] } else { SETTLED };
            rules::instance_is(world, instance, allowed)?;
        }
        rules::disk_is_paid(world, self.now_seconds(), disk)?;
        not_in_a_snapshot(world, disk)?;
        check_size(caller, category, request.size, now)?;
        rules::within_quota(world, &disk.account, request.size - now)
    }
}

fn check_size(caller: &Caller, category: &Category, size: u64, now: u64) -> Result<(), CloudError> {
    let (field, gib) = (Field::NewSize, size / GIB);
    if size == now {
        return Err(CloudError::ValueNotSupported { field, value: gib.to_string() });
    }
    if size < now {
        return Err(CloudError::SizeTooSmall { field, gib, least: now / GIB + 1 });
    }
    if size > category.most_gib.saturating_mul(GIB) && !caller.is_operator() {
        return Err(CloudError::SizeTooLarge { field, gib, most: category.most_gib });
    }
    Ok(())
}
