//! DescribeInstances.

use std::collections::HashMap;

use catalog::record::{Disk, DiskRole, Instance, Lock};

use super::{DescribeInstances, InstanceView};
use crate::{
    Caller, Cloud, CloudError, Countable, Page, Settings,
    caller::Right,
    clock::whole_seconds,
    filter::{check_ids, equals, equals_text, listed, named, picked, tagged, within},
    rules,
    world::World,
};

impl Cloud {
    /// The instances of the account that fit.
    pub fn describe_instances(
        &self,
        caller: &Caller,
        asked: &DescribeInstances,
    ) -> Result<Page<InstanceView>, CloudError> {
        caller.may(Right::Describe, "DescribeInstances")?;
        check_ids(asked.ids.as_deref(), Countable::InstanceIds)?;
        asked.paging.check()?;
        let (now, settings) = (self.now_seconds(), self.settings());
        let world = self.world();
        let attached = attached(&world);
        let own = picked(&world.instances, asked.ids.as_deref());
        let own = own.filter(|one| one.account == caller.account);
        let views = own.map(|one| {
            let disks = attached.get(one.id.as_str()).map_or(&[][..], Vec::as_slice);
            let shown = view(&world, disks, settings, now, one);
            InstanceView { key_pair: self.key_pair_of(one, disks), ..shown }
        });
        Ok(asked.paging.cut(views.filter(|one| fits(asked, one)).collect()))
    }

    /// What the first boot of its system disk sets up says it; an instance for which nothing was
    /// given since it was made is as it was made.
    fn key_pair_of(&self, instance: &Instance, disks: &[&Disk]) -> String {
        let system = disks.iter().find(|disk| disk.role == DiskRole::System);
        let first = system.and_then(|disk| match self.first_boot_of(disk) {
            Ok(first) => first,
            Err(error) => {
                tracing::warn!(disk = %disk.id, %error, "the login of a disk cannot be read");
                None
            }
        });
        match first {
            Some(first) => first.key_pair().unwrap_or_default().to_owned(),
            None => instance.key_pair.clone(),
        }
    }
}

fn fits(asked: &DescribeInstances, one: &InstanceView) -> bool {
    named(asked.name.as_deref(), &one.name)
        && equals_text(asked.image.as_deref(), &one.image)
        && equals(asked.status.as_ref(), &one.status)
        && equals_text(asked.zone.as_deref(), &one.zone)
        && equals_text(asked.instance_type.as_deref(), &one.instance_type)
        && equals_text(asked.family.as_deref(), &one.family)
        && equals_text(asked.key_pair.as_deref(), &one.key_pair)
        && asked.security_group.as_ref().is_none_or(|group| one.security_groups.contains(group))
        && equals_text(asked.vswitch.as_deref(), &one.vswitch)
        && equals_text(asked.vpc.as_deref(), &one.vpc)
        && listed(asked.private_ips.as_deref(), &one.private_ip)
        && equals(asked.io_optimized.as_ref(), &one.io_optimized)
        && asked.lock.is_none_or(|lock| one.locks.contains(&lock))
        && equals(asked.charge_type.as_ref(), &one.charge_type)
        && tagged(&asked.tags, &one.tags)
        && within(one.created, asked.created_from, asked.created_until)
}

/// The disks of all instances, in the order of their devices.
fn attached(world: &World) -> HashMap<&str, Vec<&Disk>> {
    let mut attached: HashMap<_, Vec<_>> = HashMap::new();
    for disk in world.disks.values() {
        if let Some(place) = &disk.attachment {
            attached.entry(place.instance.as_str()).or_default().push(disk);
        }
    }
    let device = |disk: &&Disk| disk.attachment.as_ref().map(|place| place.device.clone());
    attached.values_mut().for_each(|disks| disks.sort_by_key(device));
    attached
}

fn view(
    world: &World,
    disks: &[&Disk],
    settings: &Settings,
    now: i64,
    one: &Instance,
) -> InstanceView {
    let machine = settings.instance_types.iter().find(|kind| kind.id == one.instance_type);
    let image = world.images.get(&one.image_id);
    let is_system = |role| role == DiskRole::System;
    let system = disks.iter().find(|disk| is_system(disk.role));
    let data = disks.iter().filter(|disk| !is_system(disk.role));
    InstanceView {
        id: one.id.clone(),
        account: one.account.clone(),
        name: one.name.clone(),
        description: one.description.clone(),
        host_name: one.host_name.clone(),
        status: world.instance_status(one),
        instance_type: one.instance_type.clone(),
        family: machine.map(|kind| kind.family.clone()).unwrap_or_default(),
        cpu: machine.map_or(0, |kind| kind.cpu),
        memory_mib: machine.map_or(0, |kind| kind.memory_mib),
        image: one.image_id.clone(),
        os_type: image.map_or_else(|| "linux".into(), |image| image.os_type.clone()),
        os_name: image.map(|image| image.os_name.clone()).unwrap_or_default(),
        region: one.region.clone(),
        zone: one.zone.clone(),
        security_groups: one.security_groups.clone(),
        vswitch: one.vswitch.clone(),
        vpc: one.vpc.clone(),
        private_ip: one.private_ip.clone(),
        charge_type: one.charge_type,
        expires: one.expires.map(whole_seconds),
        ever_started: one.ever_started,
        locks: locks(world, now, one),
        created: whole_seconds(one.created),
        started: one.started.map(whole_seconds),
        user_data: one.user_data.clone(),
        key_pair: one.key_pair.clone(),
        internet_charge_type: one.internet_charge_type.clone(),
        io_optimized: one.io_optimized,
        serial: one.serial.clone(),
        tags: one.tags.clone(),
        system_disk: system.map(|disk| disk.id.clone()),
        data_disks: data.map(|disk| disk.id.clone()).collect(),
    }
}

/// An account that owes, or a time that is over, shows as a financial lock.
fn locks(world: &World, now: i64, one: &Instance) -> Vec<Lock> {
    let mut locks = one.locks.clone();
    let unpaid = rules::instance_is_paid(world, now, one).is_err();
    if unpaid && !locks.contains(&Lock::Financial) {
        locks.push(Lock::Financial);
    }
    locks
}
