//! StartInstance, StopInstance, RebootInstance; one instance is a batch of one.
//!
//! What must always hold
//! 1. That an instance was started is durable before any of its disks can be written.
//! 2. After a stop no disk of it is exported, whatever failed on the way.
//! 3. No disk comes or goes while the instance starts or stops.
//! 4. One commit decides over all instances of a call.
//!
//! Left to others: what a batch that takes each alone answers (`power_batch`).

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

/// What is asked of the power of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerChange {
    /// The exports of its disks open.
    Start,
    /// What was answered is flushed and the exports of its disks close. A long last flush goes on
    /// after the answer. Where that flush fails the call fails, and the instance is stopped all the
    /// same.
    Stop,
    /// Its exports close and open again: a guest sees the present sizes of its disks.
    Reboot,
}

/// An instance and its disks, as they were when the rules were checked.
struct Target {
    instance: Instance,
    disks: Vec<Disk>,
}

impl Cloud {
    /// Starts an instance.
    pub fn start_instance(&self, caller: &Caller, id: &str) -> Result<(), CloudError> {
        self.change_together(caller, PowerChange::Start, &[id])
    }

    /// Stops an instance.
    pub fn stop_instance(&self, caller: &Caller, id: &str) -> Result<(), CloudError> {
        self.change_together(caller, PowerChange::Stop, &[id])
    }

    /// Reboots an instance.
    pub fn reboot_instance(&self, caller: &Caller, id: &str) -> Result<(), CloudError> {
        self.change_together(caller, PowerChange::Reboot, &[id])
    }

    /// All of them or none: the rules of all are checked and all are claimed in one step. Each id
    /// is there once.
    pub(super) fn change_together(
        &self,
        caller: &Caller,
        change: PowerChange,
        ids: &[&str],
    ) -> Result<(), CloudError> {
        caller.may(change.right(), change.action())?;
        let mut world = self.world_when(|world| ids.iter().all(|id| world.is_quiet_around(id)));
        let targets = ids.iter().map(|id| self.check_power(&world, caller, id, change));
        let targets: Vec<_> = targets.collect::<Result<_, _>>()?;
        let holds = targets.iter().flat_map(|one| one.holds(change)).collect();
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);
        let cloud = self.clone();
        match change {
            PowerChange::Start => self.finish_start(claim, targets),
            PowerChange::Stop => {
                self.answer_soon("stop", move || cloud.finish_stop(claim, targets))
            }
            PowerChange::Reboot => self.answer_soon("reboot", move || {
                let disks = ids_of(&targets);
                let flushed = cloud.close_exports(&disks, FenceMode::Flush);
                cloud.open_exports_of(&disks);
                drop(claim);
                flushed
            }),
        }
    }

    fn finish_start(&self, claim: Claim, targets: Vec<Target>) -> Result<(), CloudError> {
        let opened = ids_of(&targets).into_iter().map(|disk| self.open_export(&disk));
        let opened: Vec<_> = opened.collect::<Result<_, _>>()?;
        let (mut started, mut settled) = (Vec::new(), Vec::new());
        for Target { instance, disks } in targets {
            settled.extend(disks.into_iter().filter(waits_for_start).map(started_after));
            started.push(Instance {
                power: Power::Running,
                ever_started: true,
                started: Some(self.now_seconds()),
                ..instance
            });
        }
        let mut batch = Batch::new();
        for instance in &started {
            batch.put(instance)?;
        }
        for disk in &settled {
            batch.put(disk)?;
        }
        self.commit(&batch)?;
        opened.into_iter().for_each(|disk| self.publish_export(disk));
        claim.publish(|world| {
            world.insert_instances(started);
            world.disks.extend(settled.into_iter().map(|disk| (disk.id.clone(), disk)));
        });
        Ok(())
    }

    fn finish_stop(&self, claim: Claim, targets: Vec<Target>) -> Result<(), CloudError> {
        let disks = ids_of(&targets);
        let flushed = self.close_exports(&disks, FenceMode::Flush);
        let stop = |one: Target| Instance { power: Power::Stopped, ..one.instance };
        let stopped: Vec<_> = targets.into_iter().map(stop).collect();
        let mut batch = Batch::new();
        for instance in &stopped {
            batch.put(instance)?;
        }
        if let Err(error) = self.commit(&batch) {
            // Recorded as running, so they run on.
            self.open_exports_of(&disks);
            return Err(error);
        }
        claim.publish(|world| world.insert_instances(stopped));
        flushed
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
        let claim = self.claim_unasked(&mut world, holds);
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

    fn check_power(
        &self,
        world: &World,
        caller: &Caller,
        id: &str,
        change: PowerChange,
    ) -> Result<Target, CloudError> {
        let instance = world.instance(&caller.account, id)?;
        rules::not_locked(instance)?;
        rules::instance_is_paid(world, self.now_seconds(), instance)?;
        rules::instance_is(world, instance, &[change.from()])?;
        rules::disks_are_settled(world, id)?;
        let disks: Vec<Disk> = world.disks_of(id).into_iter().cloned().collect();
        if change == PowerChange::Start {
            for disk in &disks {
                rules::disk_is_paid(world, self.now_seconds(), disk)?;
            }
        }
        Ok(Target { instance: instance.clone(), disks })
    }
}

impl PowerChange {
    /// The state it leads away from.
    pub(super) fn from(self) -> InstanceStatus {
        match self {
            Self::Start => InstanceStatus::Stopped,
            Self::Stop | Self::Reboot => InstanceStatus::Running,
        }
    }

    pub(super) fn right(self) -> Right {
        match self {
            Self::Start | Self::Stop => Right::Reset,
            Self::Reboot => Right::Change,
        }
    }

    pub(super) fn action(self) -> &'static str {
        match self {
            Self::Start => "StartInstance",
            Self::Stop => "StopInstance",
            Self::Reboot => "RebootInstance",
        }
    }
}

impl Target {
    fn holds(&self, change: PowerChange) -> Vec<Hold> {
        let between = match change {
            PowerChange::Start => InstanceStatus::Starting,
            PowerChange::Stop | PowerChange::Reboot => InstanceStatus::Stopping,
        };
        let mut holds = vec![Hold::Instance(self.instance.id.clone(), between)];
        if change == PowerChange::Start {
            let waiting = self.disks.iter().filter(|disk| waits_for_start(disk));
            holds.extend(waiting.map(|disk| Hold::Quiet(disk.id.clone())));
        }
        holds
    }
}

impl World {
    fn insert_instances(&mut self, changed: Vec<Instance>) {
        self.instances.extend(changed.into_iter().map(|one| (one.id.clone(), one)));
    }
}

fn ids_of(targets: &[Target]) -> Vec<String> {
    targets.iter().flat_map(|one| &one.disks).map(|disk| disk.id.clone()).collect()
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
