//! DeleteInstance and DeleteInstances; one instance is a batch of one.
//!
//! What must always hold: one commit decides over all instances of a call and all their disks: those
//! that go with them are gone, the others are Available, and nothing of them is exported. What stands
//! against the deletion of one stands against that of all.

use block_device::FenceMode;
use catalog::{
    Batch,
    record::{ChargeType, Disk, DiskRole, Instance},
};

use super::{DeleteInstances, named::each_once};
use crate::{
    Caller, Cloud, CloudError, InstanceStatus,
    caller::Right,
    claim::{Claim, Hold},
    client_token::TokenSlot,
    cloud::disk_name,
    disk::delete_records,
    reinit_disk::not_in_a_snapshot,
    rules,
    world::World,
};

/// An instance that goes, and its disks.
struct Leaving {
    instance: String,
    was_running: bool,
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
        self.delete_together(caller, &[id], force, &mut TokenSlot::none())
    }

    /// The same with several: all of them go, or none.
    pub fn delete_instances(
        &self,
        caller: &Caller,
        request: &DeleteInstances,
    ) -> Result<(), CloudError> {
        caller.may(Right::Change, "DeleteInstances")?;
        let ids = each_once(&request.instances)?;
        let token = request.client_token.as_deref();
        self.once(caller, "DeleteInstances", token, request, &[], |slot| {
            self.delete_together(caller, &ids, request.force, slot)
        })
    }

    fn delete_together(
        &self,
        caller: &Caller,
        ids: &[&str],
        force: bool,
        slot: &mut TokenSlot,
    ) -> Result<(), CloudError> {
        let mut world = self.world_when(|world| ids.iter().all(|id| world.is_quiet_around(id)));
        let leaving = ids.iter().map(|id| self.check_delete_instance(&world, caller, id, force));
        let leaving: Vec<_> = leaving.collect::<Result<_, _>>()?;
        let holds = leaving.iter().flat_map(Leaving::holds).collect();
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);
        let deleted = self.finish_delete(claim, &leaving, slot);
        if deleted.is_err() {
            let ran = leaving.iter().filter(|one| one.was_running);
            self.open_exports_of(&ran.flat_map(Leaving::disks).cloned().collect::<Vec<_>>());
        }
        deleted
    }

    fn finish_delete(
        &self,
        claim: Claim,
        leaving: &[Leaving],
        slot: &mut TokenSlot,
    ) -> Result<(), CloudError> {
        for one in leaving.iter().filter(|one| one.was_running) {
            let kept: Vec<_> = one.kept.iter().map(|disk| disk.id.clone()).collect();
            self.close_exports(&kept, FenceMode::Flush)?;
            self.close_exports(&one.gone, FenceMode::Drop)?;
        }
        let mark = |disk: &String| Ok(self.inner.store.delete_disk(&disk_name(disk)?)?);
        let gone = leaving.iter().flat_map(|one| &one.gone);
        let staged: Vec<_> = gone.map(mark).collect::<Result<_, CloudError>>()?;
        let mut batch = Batch::new();
        for one in leaving {
            batch.delete::<Instance>(&one.instance);
            one.gone.iter().for_each(|disk| delete_records(&mut batch, disk));
            for disk in &one.kept {
                batch.put(disk)?;
            }
        }
        slot.record(self, &mut batch, &())?;
        self.commit_deleted(&batch, staged)?;
        claim.publish(|world| {
            for one in leaving {
                world.instances.remove(&one.instance);
                one.gone.iter().for_each(|disk| world.remove_disk(disk));
                let kept = one.kept.iter().map(|disk| (disk.id.clone(), disk.clone()));
                world.disks.extend(kept);
            }
        });
        Ok(())
    }

    fn check_delete_instance(
        &self,
        world: &World,
        caller: &Caller,
        id: &str,
        force: bool,
    ) -> Result<Leaving, CloudError> {
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
        self.leaving(world, id, status == InstanceStatus::Running)
    }

    fn leaving(&self, world: &World, id: &str, was_running: bool) -> Result<Leaving, CloudError> {
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for disk in world.disks_of(id) {
            if disk.role == DiskRole::System || disk.delete_with_instance || !disk.portable {
                not_in_a_snapshot(world, disk)?;
                gone.push(disk.id.clone());
            } else {
                kept.push(Disk {
                    attachment: None,
                    detached: Some(self.now_seconds()),
                    delete_with_instance: false,
                    ..disk.clone()
                });
            }
        }
        Ok(Leaving { instance: id.into(), was_running, gone, kept })
    }
}

impl Leaving {
    fn disks(&self) -> impl Iterator<Item = &String> {
        self.gone.iter().chain(self.kept.iter().map(|disk| &disk.id))
    }

    fn holds(&self) -> impl Iterator<Item = Hold> {
        self.disks().chain([&self.instance]).cloned().map(Hold::Quiet)
    }
}
