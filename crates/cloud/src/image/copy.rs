//! CopyImage: an image of one's own from one that may be used.
//!
//! What must always hold: nothing is copied: the copy names the same layers, and snapshots of the
//! caller's own stand behind its data disks, so that nothing of it depends on what others delete.
//! There is one region: source and destination are the same.

use catalog::{
    Batch,
    record::{Image, ImageDisk, ImageStatus, Snapshot},
};

use super::CopyImage;
use crate::{
    Caller, Cloud, CloudError, Field, caller::Right, claim::Hold, client_token::TokenSlot, ids,
    rules, tags, texts, world::World,
};

impl Cloud {
    /// Copies an image; answers the id of the copy.
    pub fn copy_image(&self, caller: &Caller, request: &CopyImage) -> Result<String, CloudError> {
        caller.may(Right::Change, "CopyImage")?;
        let token = request.client_token.as_deref();
        self.once(caller, "CopyImage", token, request, &[], |slot| {
            self.make_copy(caller, request, slot)
        })
    }

    fn make_copy(
        &self,
        caller: &Caller,
        request: &CopyImage,
        slot: &mut TokenSlot,
    ) -> Result<String, CloudError> {
        let mut world = self.world_when(|world| world.is_quiet(&[&request.image]));
        let (copy, snapshots) = self.check_copy(&world, caller, request)?;
        // The pinned image keeps the snapshots behind it, and all their layers.
        let holds = vec![
            Hold::Pin(request.image.clone()),
            Hold::ImageName(copy.account.clone(), copy.name.clone()),
        ];
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);
        let id = copy.id.clone();
        let mut batch = Batch::new();
        batch.put(&copy)?;
        for snapshot in &snapshots {
            batch.put(snapshot)?;
        }
        slot.record(self, &mut batch, &id)?;
        self.commit(&batch)?;
        claim.publish(|world| {
            world.images.insert(copy.id.clone(), copy);
            world.snapshots.extend(snapshots.into_iter().map(|one| (one.id.clone(), one)));
        });
        Ok(id)
    }

    fn check_copy(
        &self,
        world: &World,
        caller: &Caller,
        request: &CopyImage,
    ) -> Result<(Image, Vec<Snapshot>), CloudError> {
        let image = world.visible_image(&caller.account, &request.image)?;
        if image.status != ImageStatus::Available {
            return Err(CloudError::ImageNotReady { image: image.id.clone() });
        }
        rules::account_pays(world, &caller.account)?;
        let id = ids::image()?;
        let name = texts::name(Field::ImageName, request.name.as_deref())?;
        let name = if name.is_empty() { id.clone() } else { name };
        self.may_add_image(world, &caller.account, &name)?;
        let (mut data_disks, mut snapshots) = (Vec::new(), Vec::new());
        for disk in &image.data_disks {
            let behind = world.snapshots.get(&disk.snapshot);
            let behind = behind.map(|one| self.own_snapshot(caller, one)).transpose()?;
            let snapshot = behind.as_ref().map(|one| one.id.clone()).unwrap_or_default();
            data_disks.push(ImageDisk { snapshot, ..disk.clone() });
            snapshots.extend(behind);
        }
        let copy = Image {
            id,
            account: caller.account.clone(),
            name,
            description: texts::description(request.description.as_deref())?,
            public: false,
            shared_with: Default::default(),
            created: self.now_seconds(),
            source_snapshot: None,
            data_disks,
            tags: tags::checked(&request.tags)?,
            // It belongs to the public image; a copy is not public.
            security_layer: None,
            ..image.clone()
        };
        Ok((copy, snapshots))
    }

    /// The same content as a snapshot of the caller; of no disk, for it counts in the quota of none.
    fn own_snapshot(&self, caller: &Caller, behind: &Snapshot) -> Result<Snapshot, CloudError> {
        Ok(Snapshot {
            id: ids::snapshot()?,
            account: caller.account.clone(),
            name: String::new(),
            description: String::new(),
            disk: String::new(),
            created: self.now_seconds(),
            tags: Default::default(),
            ..behind.clone()
        })
    }
}
