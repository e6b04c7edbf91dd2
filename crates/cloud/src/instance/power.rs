//! StartInstance, StopInstance, RebootInstance.
//!
//! What must always hold
//! 1. That an instance was started is durable before any of its disks can be written.
//! 2. After a stop no disk of it is exported, whatever failed on the way.
//! 3. No disk comes or goes while the instance starts or stops.

use block_device::FenceMode;
use catalog::{
    Batch,
    record::{Disk, Instance, Power},
};

use crate::{
    Caller, Cloud, CloudError, InstanceStatus,
    caller::Right,
    claim::{Claim, Hold},
    rules,
    world::World,
};

impl Cloud {
    /// Starts an instance: the exports of its disks open.
    pub fn start_instance(&self, caller: &Caller, id: &str) -> Result<(), CloudError> {
        caller.may(Right::Reset, "StartInstance")?;
        let mut world = self.world_when(|world| world.is_quiet_around(id));
        let instance = self.check_power(&world, caller, id, InstanceStatus::Stopped)?.clone();
        let disks: Vec<Disk> = world.disks_of(id).into_iter().cloned().collect();
        for disk in &disks {
            rules::disk_is_paid(&world, self.now_seconds(), disk)?;
        }
        let waiting = disks.iter().filter(|disk| waits_for_start(disk));
        let mut holds: Vec<_> = waiting.map(|disk| Hold::Quiet(disk.id.clone())).collect();
        holds.push(Hold::Instance(id.into(), InstanceStatus::Starting));
        let claim = self.claim(&mut world, holds);
        drop(world);
        self.finish_start(claim, instance, disks)
    }

    fn finish_start(
        &self,
        claim: Claim,
        instance: Instance,
        disks: Vec<Disk>,
    ) -> Result<(), CloudError> {
        let opened: Result<Vec<_>, _> =
            disks.iter().map(|disk| self.open_export(&disk.id)).collect();
        let opened = opened?;
        let started = Instance {
            power: Power::Running,
            ever_started: true,
            started: Some(self.now_seconds()),
            ..instance
        };
        let settled: Vec<_> =
            disks.into_iter().filter(waits_for_start).map(started_after).collect();
        let mut batch = Batch::new();
        batch.put(&started)?;
        for disk in &settled {
            batch.put(disk)?;
        }
        self.commit(&batch)?;
        opened.into_iter().for_each(|disk| self.publish_export(disk));
        claim.publish(|world| {
            world.instances.insert(started.id.clone(), started);
            world.disks.extend(settled.into_iter().map(|disk| (disk.id.clone(), disk)));
        });
        Ok(())
    }

    /// Stops an instance: what was answered is flushed and the exports of its disks close. A long
    /// last flush goes on after the answer. Where that flush fails the call fails, and the instance
    /// is stopped all the same.
    pub fn stop_instance(&self, caller: &Caller, id: &str) -> Result<(), CloudError> {
        caller.may(Right::Reset, "StopInstance")?;
        let mut world = self.world_when(|world| world.is_quiet_around(id));
        let instance = self.check_power(&world, caller, id, InstanceStatus::Running)?.clone();
        let disks = ids_of(&world, id);
        let hold = Hold::Instance(id.into(), InstanceStatus::Stopping);
        let claim = self.claim(&mut world, vec![hold]);
        drop(world);
        let cloud = self.clone();
        self.answer_soon("stop", move || cloud.finish_stop(claim, instance, &disks))
    }

    fn finish_stop(
        &self,
        claim: Claim,
        instance: Instance,
        disks: &[String],
    ) -> Result<(), CloudError> {
        let flushed = self.close_exports(disks, FenceMode::Flush);
        let stopped = Instance { power: Power::Stopped, ..instance };
        let mut batch = Batch::new();
        batch.put(&stopped)?;
        if let Err(error) = self.commit(&batch) {
            // Recorded as running, so it runs on.
            self.open_exports_of(disks);
            return Err(error);
        }
        claim.publish(|world| world.instances.insert(stopped.id.clone(), stopped));
        flushed
    }

    /// Closes and opens the exports of a running instance's disks: a guest sees their present sizes.
    pub fn reboot_instance(&self, caller: &Caller, id: &str) -> Result<(), CloudError> {
        caller.may(Right::Change, "RebootInstance")?;
        let mut world = self.world_when(|world| world.is_quiet_around(id));
        self.check_power(&world, caller, id, InstanceStatus::Running)?;
        let disks = ids_of(&world, id);
        let hold = Hold::Instance(id.into(), InstanceStatus::Stopping);
        let claim = self.claim(&mut world, vec![hold]);
        drop(world);
        let cloud = self.clone();
        self.answer_soon("reboot", move || {
            let flushed = cloud.close_exports(&disks, FenceMode::Flush);
            cloud.open_exports_of(&disks);
            drop(claim);
            flushed
        })
    }

    /// Starts an instance because a reset of its disks asked for it; whether it runs now. A start
    /// that fails is not tried again at some later time, when nobody expects it.
    pub(crate) fn start_or_give_up(&self, account: &str, id: &str) -> bool {
        match self.start_instance(&Caller::operator(account), id) {
            Ok(()) => true,
            // Another disk of the same call had it started.
            Err(CloudError::IncorrectInstanceStatus {
                status: InstanceStatus::Running, ..
            }) => true,
            Err(error) => {
                tracing::warn!(instance = %id, %error, "not started after a reset");
                if let Err(error) = self.forget_start(id) {
                    tracing::error!(instance = %id, %error, "a start stays recorded as pending");
                }
                false
            }
        }
    }

    fn forget_start(&self, id: &str) -> Result<(), CloudError> {
        let mut world = self.world_when(|world| world.is_quiet_around(id));
        let waiting = world.disks_of(id).into_iter().filter(|disk| waits_for_start(disk));
        let settled: Vec<Disk> = waiting.cloned().map(started_after).collect();
        let holds = settled.iter().map(|disk| Hold::Quiet(disk.id.clone())).collect();
        let claim = self.claim(&mut world, holds);
        drop(world);
        let mut batch = Batch::new();
        for disk in &settled {
            batch.put(disk)?;
        }
        self.commit(&batch)?;
        claim.publish(|world| {
            world.disks.extend(settled.into_iter().map(|disk| (disk.id.clone(), disk)));
        });
        Ok(())
    }

    fn check_power<'w>(
        &self,
        world: &'w World,
        caller: &Caller,
        id: &str,
        from: InstanceStatus,
    ) -> Result<&'w Instance, CloudError> {
        let instance = world.instance(&caller.account, id)?;
        rules::not_locked(instance)?;
        rules::instance_is_paid(world, self.now_seconds(), instance)?;
        rules::instance_is(world, instance, &[from])?;
        rules::disks_are_settled(world, id)?;
        Ok(instance)
    }
}

fn ids_of(world: &World, instance: &str) -> Vec<String> {
    world.disks_of(instance).into_iter().map(|disk| disk.id.clone()).collect()
}

/// A reset recorded that its instance be started afterwards.
pub(crate) fn waits_for_start(disk: &Disk) -> bool {
    disk.pending_reset.as_ref().is_some_and(|pending| pending.auto_start)
}

fn started_after(mut disk: Disk) -> Disk {
    if let Some(pending) = &mut disk.pending_reset {
        pending.auto_start = false;
    }
    disk
}
