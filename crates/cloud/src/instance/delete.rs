//! DeleteInstance.
//!
//! What must always hold: one commit decides over the instance and all its disks: those that go with
//! it are gone, the others are Available, and nothing of it is exported.

use block_device::FenceMode;
use catalog::{
    Batch,
    record::{ChargeType, Disk, DiskRole, Instance},
};

use crate::{
    Caller, Cloud, CloudError, InstanceStatus,
    caller::Right,
    claim::{Claim, Hold},
    cloud::disk_name,
    reinit_disk::not_in_a_snapshot,
    rules,
    world::World,
};

/// The disks of an instance that goes.
struct Leaving {
    /// Deleted with it.
    gone: Vec<String>,
    /// Left behind.
    kept: Vec<Disk>,
}

impl Cloud {
    /// Deletes a stopped instance, or with `force` a running one.
    pub fn delete_instance(
        &self,
        caller: &Caller,
        id: &str,
        force: bool,
    ) -> Result<(), CloudError> {
        caller.may(Right::Change, "DeleteInstance")?;
        let mut world = self.world_when(|world| world.is_quiet_around(id));
        let was_running = self.check_delete_instance(&world, caller, id, force)?;
        let leaving = self.leaving(&world, id)?;
        let kept = leaving.kept.iter().map(|disk| &disk.id);
        let disks: Vec<_> = leaving.gone.iter().chain(kept).cloned().collect();
        let mut holds: Vec<_> = disks.iter().cloned().map(Hold::Quiet).collect();
        holds.push(Hold::Quiet(id.into()));
        let claim = self.claim(&mut world, holds);
        drop(world);
        let deleted = self.finish_delete(claim, id, &leaving, was_running);
        if deleted.is_err() && was_running {
            self.open_exports_of(&disks);
        }
        deleted
    }

    /// Whether `delete_instance` would do it now; nothing changes.
    pub fn may_delete_instance(
        &self,
        caller: &Caller,
        id: &str,
        force: bool,
    ) -> Result<(), CloudError> {
        caller.may(Right::Change, "DeleteInstance")?;
        let world = self.world_when(|world| world.is_quiet_around(id));
        self.check_delete_instance(&world, caller, id, force)?;
        self.leaving(&world, id).map(drop)
    }

    fn finish_delete(
        &self,
        claim: Claim,
        id: &str,
        leaving: &Leaving,
        was_running: bool,
    ) -> Result<(), CloudError> {
        if was_running {
            let kept: Vec<_> = leaving.kept.iter().map(|disk| disk.id.clone()).collect();
            self.close_exports(&kept, FenceMode::Flush)?;
            self.close_exports(&leaving.gone, FenceMode::Drop)?;
        }
        let mark = |disk: &String| Ok(self.inner.store.delete_disk(&disk_name(disk)?)?);
        let staged: Result<Vec<_>, CloudError> = leaving.gone.iter().map(mark).collect();
        let mut batch = Batch::new();
        batch.delete::<Instance>(id);
        for disk in &leaving.gone {
            batch.delete::<Disk>(disk);
        }
        for disk in &leaving.kept {
            batch.put(disk)?;
        }
        self.commit_deleted(&batch, staged?)?;
        claim.publish(|world| {
            world.instances.remove(id);
            leaving.gone.iter().for_each(|disk| world.remove_disk(disk));
            let kept = leaving.kept.iter().map(|disk| (disk.id.clone(), disk.clone()));
            world.disks.extend(kept);
        });
        Ok(())
    }

    /// Whether it is running.
    fn check_delete_instance(
        &self,
        world: &World,
        caller: &Caller,
        id: &str,
        force: bool,
    ) -> Result<bool, CloudError> {
        let instance = world.instance(&caller.account, id)?;
        let allowed = [InstanceStatus::Stopped, InstanceStatus::Running];
        let allowed = if force { &allowed[..] } else { &allowed[..1] };
        let status = rules::instance_is(world, instance, allowed)?;
        rules::disks_are_settled(world, id)?;
        let paid_for = instance.charge_type == ChargeType::PrePaid
            && instance.expires.is_some_and(|expires| expires > self.now_seconds());
        if paid_for && !caller.is_operator() {
            return Err(CloudError::StillPaidFor { instance: id.into() });
        }
        Ok(status == InstanceStatus::Running)
    }

    fn leaving(&self, world: &World, id: &str) -> Result<Leaving, CloudError> {
        let mut leaving = Leaving { gone: Vec::new(), kept: Vec::new() };
        for disk in world.disks_of(id) {
            if disk.role == DiskRole::System || disk.delete_with_instance || !disk.portable {
                not_in_a_snapshot(world, disk)?;
                leaving.gone.push(disk.id.clone());
            } else {
                leaving.kept.push(Disk {
                    attachment: None,
                    detached: Some(self.now_seconds()),
                    delete_with_instance: false,
                    ..disk.clone()
                });
            }
        }
        Ok(leaving)
    }
}
