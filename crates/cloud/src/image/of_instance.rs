//! CreateImage of a whole instance: a snapshot of each of its disks, at one moment.
//!
//! What must always hold: one commit makes the snapshots and the image; the image is `Creating` until
//! the hashes of all are there, and that ends also after a restart (`waiting`). Local and ephemeral
//! disks are left out, as they take no snapshot.

use catalog::{
    Batch,
    record::{Disk, DiskRole, Image, ImageDisk, ImageStatus, Snapshot, SnapshotStatus},
};

use super::CreateImage;
use crate::{
    Caller, Cloud, CloudError, CreateSnapshot,
    claim::Hold,
    client_token::TokenSlot,
    disk::{Category, SETTLED},
    rules,
    world::World,
};

impl Cloud {
    pub(super) fn make_image_of_instance(
        &self,
        caller: &Caller,
        request: &CreateImage,
        instance: &str,
        slot: &mut TokenSlot,
    ) -> Result<String, CloudError> {
        let mut world = self.world_when(|world| world.is_quiet_around(instance));
        let found = world.instance(&caller.account, instance)?;
        rules::not_locked(found)?;
        rules::instance_is(&world, found, SETTLED)?;
        let disks = kept_disks(&world, instance);
        let devices: Vec<_> = disks.iter().map(|disk| device_of(disk)).collect();
        let system = disks.iter().find(|disk| disk.role == DiskRole::System);
        let origin = system.and_then(|disk| world.image_behind(&disk.id));
        let snapshots = disks
            .iter()
            .map(|disk| CreateSnapshot { disk: disk.id.clone(), ..CreateSnapshot::default() });
        let snapshots: Vec<_> = snapshots.collect();
        let image = self.new_image(&world, caller, request, origin)?;
        let name = Hold::ImageName(image.account.clone(), image.name.clone());
        let ready = self.ready_snapshots(&mut world, caller, &snapshots, vec![name])?;
        drop(world);
        let complete = |taken: &[Snapshot], batch: &mut Batch| {
            let image = filled(image, taken, &devices)?;
            batch.put(&image)?;
            slot.record(self, batch, &image.id)?;
            Ok(image)
        };
        self.seal_snapshots(ready, complete, |world, image: Image| {
            let id = image.id.clone();
            world.images.insert(id.clone(), image);
            id
        })
    }
}

/// The disks that take snapshots.
fn kept_disks<'w>(world: &'w World, instance: &str) -> Vec<&'w Disk> {
    let keeps =
        |disk: &&Disk| Category::of(&disk.category).is_some_and(|kind| !kind.is_ephemeral());
    world.disks_of(instance).into_iter().filter(keeps).collect()
}

fn device_of(disk: &Disk) -> String {
    disk.attachment.as_ref().map(|place| place.device.clone()).unwrap_or_default()
}

/// The image of these snapshots, which were taken of the disks at these devices.
fn filled(image: Image, taken: &[Snapshot], devices: &[String]) -> Result<Image, CloudError> {
    let is_system = |one: &&Snapshot| one.disk_role == DiskRole::System;
    let system = taken.iter().find(is_system).ok_or(CloudError::NotOneSystemDisk)?;
    let all_done = taken.iter().all(|one| one.status == SnapshotStatus::Accomplished);
    let data = taken.iter().zip(devices).filter(|(one, _)| !is_system(one));
    let data = data.map(|(one, device)| ImageDisk {
        device: device.clone(),
        size: one.size,
        snapshot: one.id.clone(),
    });
    Ok(Image {
        size: system.size,
        layer: system.layer,
        status: if all_done { ImageStatus::Available } else { ImageStatus::Creating },
        source_snapshot: Some(system.id.clone()),
        data_disks: data.collect(),
        ..image
    })
}
