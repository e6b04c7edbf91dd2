//! DescribeImages.

use std::collections::HashSet;

use block_device::ByteLength;
use catalog::record::{Image, ImageStatus, SecurityLayer};

use super::{DescribeImages, ImageDataDisk, ImageOwnerAlias, ImageView, SecurityLayerView};
use crate::{
    Caller, Cloud, CloudError, Countable, Page,
    caller::Right,
    clock::whole_seconds,
    filter::{check_ids, equals, equals_text, listed, named, tagged, within},
    world::World,
};

impl Cloud {
    /// The images the account may use, and its own that are being made.
    pub fn describe_images(
        &self,
        caller: &Caller,
        asked: &DescribeImages,
    ) -> Result<Page<ImageView>, CloudError> {
        caller.may(Right::Describe, "DescribeImages")?;
        check_ids(asked.ids.as_deref(), Countable::ImageIds)?;
        asked.paging.check()?;
        let world = self.world();
        let of_account = world.instances.values().filter(|one| one.account == caller.account);
        let used: HashSet<_> = of_account.map(|one| one.image_id.as_str()).collect();
        let coming = world.importing.values().filter(|image| image.account == caller.account);
        let usable = world.images.values().filter(|image| world.is_visible(image, &caller.account));
        let images = usable.chain(coming).filter(|image| listed(asked.ids.as_deref(), &image.id));
        let region = &self.inner.settings.region;
        let views = images.map(|image| view(&world, caller, &used, region, image));
        Ok(asked.paging.cut(views.filter(|image| fits(asked, image)).collect()))
    }
}

fn fits(asked: &DescribeImages, image: &ImageView) -> bool {
    let snapshot = image.source_snapshot.as_deref().unwrap_or_default();
    let statuses = asked.statuses.as_deref().unwrap_or(&[ImageStatus::Available]);
    statuses.contains(&image.status)
        && named(asked.name.as_deref(), &image.name)
        && equals(asked.owner.as_ref(), &image.owner_alias)
        && equals_text(asked.snapshot.as_deref(), snapshot)
        && equals_text(asked.architecture.as_deref(), &image.architecture)
        && equals_text(asked.os_type.as_deref(), &image.os_type)
        && equals(asked.used_by_instance.as_ref(), &image.used_by_instance)
        && equals(asked.public.as_ref(), &image.public)
        && tagged(&asked.tags, &image.tags)
        && within(image.created, asked.created_from, asked.created_until)
}

fn view(
    world: &World,
    caller: &Caller,
    used: &HashSet<&str>,
    region: &str,
    image: &Image,
) -> ImageView {
    let own = image.account == caller.account;
    let waits = image.status == ImageStatus::Creating && image.source_snapshot.is_some();
    let settled = if waits {
        world.progress_of_waiting(image)
    } else if image.layer.is_some() || image.status == ImageStatus::Available {
        100
    } else {
        0
    };
    ImageView {
        id: image.id.clone(),
        account: image.account.clone(),
        owner_number: world.accounts.get(&image.account).map_or(0, |owner| owner.number),
        owner_alias: alias(world, caller, image),
        name: image.name.clone(),
        description: image.description.clone(),
        version: image.version.clone(),
        size: ByteLength::new(image.size),
        root: image.root,
        architecture: image.architecture.clone(),
        os_type: image.os_type.clone(),
        os_name: image.os_name.clone(),
        platform: image.platform.clone(),
        status: image.status,
        progress_percent: world.progress.get(&image.id).copied().unwrap_or(settled),
        public: image.public,
        shared_by_caller: own && !image.shared_with.is_empty(),
        created: whole_seconds(image.created),
        source_snapshot: image.source_snapshot.clone(),
        format: image.format.clone(),
        data_disks: image.data_disks.iter().map(data_disk).collect(),
        used_by_instance: used.contains(image.id.as_str()),
        region: region.into(),
        tags: if own { image.tags.clone() } else { Default::default() },
        security_layer: image
            .security_layer
            .as_ref()
            .filter(|_| caller.is_operator())
            .map(security),
    }
}

fn security(layer: &SecurityLayer) -> SecurityLayerView {
    SecurityLayerView {
        snapshot: layer.snapshot.clone(),
        size: ByteLength::new(layer.size),
        root: layer.root,
        added: whole_seconds(layer.added),
    }
}

fn data_disk(disk: &catalog::record::ImageDisk) -> ImageDataDisk {
    ImageDataDisk {
        device: disk.device.clone(),
        size: ByteLength::new(disk.size),
        snapshot: disk.snapshot.clone(),
    }
}

fn alias(world: &World, caller: &Caller, image: &Image) -> ImageOwnerAlias {
    if image.account == caller.account {
        ImageOwnerAlias::Own
    } else if world.is_shared_with(image, &caller.account) {
        ImageOwnerAlias::Others
    } else {
        ImageOwnerAlias::System
    }
}
