//! CreateImage, from the snapshot of a system disk.
//!
//! What must always hold: nothing is copied: the image names the snapshot's layer, which stays as long
//! as either of the two names it.

use catalog::{
    Batch,
    record::{DiskRole, Image, ImageStatus, SnapshotStatus},
};

use super::CreateImage;
use crate::{
    Caller, Cloud, CloudError, Field, Quota, caller::Right, claim::Hold, client_token::TokenSlot,
    ids, rules, tags, texts, world::World,
};

impl Cloud {
    /// Makes an image of what a snapshot holds.
    pub fn create_image(
        &self,
        caller: &Caller,
        request: &CreateImage,
    ) -> Result<String, CloudError> {
        caller.may(Right::Change, "CreateImage")?;
        let token = request.client_token.as_deref();
        self.once(caller, "CreateImage", token, request, &[], |slot| {
            self.make_image(caller, request, slot)
        })
    }

    fn make_image(
        &self,
        caller: &Caller,
        request: &CreateImage,
        slot: &mut TokenSlot,
    ) -> Result<String, CloudError> {
        let mut world = self.world_when(|world| world.is_quiet(&[&request.snapshot]));
        let image = self.check_image(&world, caller, request)?;
        let holds = vec![
            Hold::Pin(request.snapshot.clone()),
            Hold::ImageName(image.account.clone(), image.name.clone()),
        ];
        let claim = self.claim(&mut world, holds);
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
    ) -> Result<Image, CloudError> {
        let snapshot = world.snapshot(&caller.account, &request.snapshot)?;
        let snapshot_id = snapshot.id.clone();
        if snapshot.status != SnapshotStatus::Accomplished {
            let status = snapshot.status;
            return Err(CloudError::SnapshotNotReady { snapshot: snapshot_id, status });
        }
        if snapshot.disk_role != DiskRole::System {
            return Err(CloudError::SnapshotOfWrongType { snapshot: snapshot_id });
        }
        rules::account_pays(world, &caller.account)?;
        let id = ids::image()?;
        let name = texts::name(Field::ImageName, request.name.as_deref())?;
        let name = if name.is_empty() { id.clone() } else { name };
        self.may_add_image(world, &caller.account, &name)?;
        let source = world.disks.get(&snapshot.disk).and_then(|disk| match &disk.origin {
            catalog::record::Origin::Image { id } => world.images.get(id),
            _ => None,
        });
        Ok(Image {
            id,
            account: caller.account.clone(),
            name,
            description: texts::description(request.description.as_deref())?,
            version: texts::echoed(Field::ImageVersion, request.version.as_deref())?,
            size: snapshot.size,
            layer: snapshot.layer,
            root: snapshot.root,
            architecture: given_or(request.architecture.as_deref(), "x86_64"),
            os_type: source.map_or_else(|| "linux".into(), |image| image.os_type.clone()),
            os_name: source.map(|image| image.os_name.clone()).unwrap_or_default(),
            platform: texts::echoed(Field::Platform, request.platform.as_deref())?,
            status: ImageStatus::Available,
            public: false,
            shared_with: Default::default(),
            created: self.now_seconds(),
            source_snapshot: Some(snapshot_id),
            format: String::new(),
            data_disks: Vec::new(),
            tags: tags::checked(&request.tags)?,
        })
    }

    /// The account may hold one more image, and has none of that name.
    pub(super) fn may_add_image(
        &self,
        world: &World,
        account: &str,
        name: &str,
    ) -> Result<(), CloudError> {
        let own = || world.images.values().filter(|image| image.account == account);
        let coming = world.claims.image_names.iter().filter(|(of, _)| of == account);
        if own().count() + coming.count() >= self.inner.settings.images_per_account {
            return Err(CloudError::QuotaExceeded { what: Quota::Images });
        }
        let coming = world.claims.image_names.contains(&(account.into(), name.into()));
        if coming || own().any(|image| image.name == name) {
            return Err(CloudError::ImageNameTaken { name: name.into() });
        }
        Ok(())
    }
}

pub(super) fn given_or(asked: Option<&str>, default: &str) -> String {
    texts::given(asked).unwrap_or(default).into()
}
