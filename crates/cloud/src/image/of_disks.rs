//! CreateImage from snapshots: of a system disk, with data disks beside it.
//!
//! What must always hold: exactly one of the disks is the system disk, and every snapshot is ready and
//! the account's own; the image is available at once.

use std::collections::BTreeSet;

use catalog::{
    Batch,
    record::{DiskRole, Image, ImageDisk, ImageStatus, Snapshot, SnapshotStatus},
};

use super::{CreateImage, ImageDiskAsked, ImageFrom};
use crate::{
    Caller, Cloud, CloudError, Countable, Field,
    claim::Hold,
    client_token::TokenSlot,
    disk::{SYSTEM_DEVICE, check_system_device, free_device},
    source, texts,
    world::World,
};

/// What an image is to hold.
#[derive(Default)]
struct Content<'w> {
    system: Option<(&'w Snapshot, u64)>,
    data: Vec<ImageDisk>,
}

impl Cloud {
    pub(super) fn make_image_of_disks(
        &self,
        caller: &Caller,
        request: &CreateImage,
        disks: &[ImageDiskAsked],
        slot: &mut TokenSlot,
    ) -> Result<String, CloudError> {
        let snapshots: Vec<_> = disks.iter().filter_map(|disk| disk.snapshot.as_deref()).collect();
        let mut world = self.world_when(|world| world.is_quiet(&snapshots));
        let image = self.check_image(&world, caller, request, disks)?;
        let mut holds: Vec<_> = snapshots.into_iter().map(|id| Hold::Pin(id.into())).collect();
        holds.push(Hold::ImageName(image.account.clone(), image.name.clone()));
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);
        let id = image.id.clone();
        let mut batch = Batch::new();
        batch.put(&image)?;
        slot.record(self, &mut batch, &id)?;
        self.commit(&batch)?;
        claim.publish(|world| world.images.insert(image.id.clone(), image));
        Ok(id)
    }

    fn check_image(
        &self,
        world: &World,
        caller: &Caller,
        request: &CreateImage,
        disks: &[ImageDiskAsked],
    ) -> Result<Image, CloudError> {
        let most = self.inner.settings.data_disks_per_instance;
        if disks.len() > most.saturating_add(1) {
            return Err(CloudError::TooMany { what: Countable::DataDisks, most });
        }
        let mut content = Content::default();
        let mut taken = BTreeSet::from([SYSTEM_DEVICE.to_owned()]);
        // Devices that were asked for are taken before any is chosen.
        let (named, unnamed): (Vec<_>, Vec<_>) =
            disks.iter().partition(|disk| texts::given(disk.device.as_deref()).is_some());
        for asked in named.into_iter().chain(unnamed) {
            self.add_disk(world, caller, asked, &mut taken, &mut content)?;
        }
        let none = || match &request.from {
            ImageFrom::Snapshot(id) => CloudError::SnapshotOfWrongType { snapshot: id.clone() },
            ImageFrom::Disks(_) | ImageFrom::Instance(_) => CloudError::NotOneSystemDisk,
        };
        let (system, size) = content.system.ok_or_else(none)?;
        let image = self.new_image(world, caller, request, world.image_behind(&system.disk))?;
        Ok(Image {
            size,
            layer: system.layer,
            root: system.root,
            status: ImageStatus::Available,
            source_snapshot: Some(system.id.clone()),
            data_disks: content.data,
            ..image
        })
    }

    fn add_disk<'w>(
        &self,
        world: &'w World,
        caller: &Caller,
        asked: &ImageDiskAsked,
        taken: &mut BTreeSet<String>,
        content: &mut Content<'w>,
    ) -> Result<(), CloudError> {
        let snapshot = texts::given(asked.snapshot.as_deref());
        let snapshot = snapshot.map(|id| self.ready_source(world, caller, id)).transpose()?;
        let size = size_of(asked, snapshot)?;
        let role = asked.role.or(snapshot.map(|one| one.disk_role)).unwrap_or(DiskRole::Data);
        let device = asked.device.as_deref();
        if role == DiskRole::System {
            check_system_device(device)?;
        }
        match (role, snapshot) {
            (DiskRole::System, Some(snapshot)) if content.system.is_none() => {
                content.system = Some((snapshot, size));
            }
            (DiskRole::System, _) => return Err(CloudError::NotOneSystemDisk),
            (DiskRole::Data, snapshot) => {
                let device = free_device(taken, device)?;
                taken.insert(device.clone());
                let snapshot = snapshot.map(|one| one.id.clone()).unwrap_or_default();
                content.data.push(ImageDisk { device, size, snapshot });
            }
        }
        Ok(())
    }

    fn ready_source<'w>(
        &self,
        world: &'w World,
        caller: &Caller,
        id: &str,
    ) -> Result<&'w Snapshot, CloudError> {
        let snapshot = world.snapshot(&caller.account, id)?;
        if snapshot.status != SnapshotStatus::Accomplished {
            let status = snapshot.status;
            return Err(CloudError::SnapshotNotReady { snapshot: id.into(), status });
        }
        if source::is_too_old(snapshot, self.snapshot_cutoff()) {
            return Err(CloudError::SnapshotTooOld { snapshot: id.into() });
        }
        Ok(snapshot)
    }
}

fn size_of(asked: &ImageDiskAsked, snapshot: Option<&Snapshot>) -> Result<u64, CloudError> {
    let least = snapshot.map_or(1, |snapshot| snapshot.size);
    match (asked.size, snapshot) {
        (Some(size), _) if size < least => {
            let (field, value) = (Field::DiskSize, format!("{} GiB", size / crate::GIB));
            Err(CloudError::ValueNotSupported { field, value })
        }
        (Some(size), _) => Ok(size),
        (None, Some(snapshot)) => Ok(snapshot.size),
        (None, None) => Err(CloudError::Missing { parameter: "DiskDeviceMapping.N.Size" }),
    }
}
