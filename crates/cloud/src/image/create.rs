//! CreateImage: what its three forms share.
//!
//! What must always hold: nothing is copied: the image names the snapshot's layer, which stays as long
//! as either of the two names it.
//! Left to others: an image of snapshots (`of_disks`), of an instance (`of_instance`).

use catalog::record::{Image, ImageStatus, Origin};

use super::{CreateImage, ImageDiskAsked, ImageFrom, import::architecture};
use crate::{
    Caller, Cloud, CloudError, Field, Quota, caller::Right, client_token::TokenSlot, ids, rules,
    tags, texts, world::World,
};

impl Cloud {
    /// Makes an image; answers its id.
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
        match &request.from {
            ImageFrom::Snapshot(snapshot) => {
                let snapshot = Some(snapshot.clone());
                let system = ImageDiskAsked { snapshot, ..ImageDiskAsked::default() };
                self.make_image_of_disks(caller, request, &[system], slot)
            }
            ImageFrom::Disks(disks) => self.make_image_of_disks(caller, request, disks, slot),
            ImageFrom::Instance(id) => self.make_image_of_instance(caller, request, id, slot),
        }
    }

    /// The record of an image whose content follows. `origin` is what its system disk came from.
    pub(super) fn new_image(
        &self,
        world: &World,
        caller: &Caller,
        request: &CreateImage,
        origin: Option<&Image>,
    ) -> Result<Image, CloudError> {
        rules::account_pays(world, &caller.account)?;
        let id = ids::image()?;
        let name = texts::name(Field::ImageName, request.name.as_deref())?;
        let name = if name.is_empty() { id.clone() } else { name };
        self.may_add_image(world, &caller.account, &name)?;
        Ok(Image {
            id,
            account: caller.account.clone(),
            name,
            description: texts::description(request.description.as_deref())?,
            version: texts::echoed(Field::ImageVersion, request.version.as_deref())?,
            size: 0,
            layer: None,
            root: None,
            architecture: architecture(request.architecture.as_deref())?,
            os_type: origin.map_or_else(|| "linux".into(), |image| image.os_type.clone()),
            os_name: origin.map(|image| image.os_name.clone()).unwrap_or_default(),
            platform: texts::echoed(Field::Platform, request.platform.as_deref())?,
            status: ImageStatus::Creating,
            public: false,
            shared_with: Default::default(),
            created: self.now_seconds(),
            source_snapshot: None,
            format: String::new(),
            data_disks: Vec::new(),
            tags: tags::checked(&request.tags)?,
            security_layer: None,
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

impl World {
    /// The image a disk was made from, if that is still there.
    pub(super) fn image_behind(&self, disk: &str) -> Option<&Image> {
        match &self.disks.get(disk)?.origin {
            Origin::Image { id } => self.images.get(id),
            Origin::Empty | Origin::Snapshot { .. } => None,
        }
    }
}

pub(super) fn given_or(asked: Option<&str>, default: &str) -> String {
    texts::given(asked).unwrap_or(default).into()
}
