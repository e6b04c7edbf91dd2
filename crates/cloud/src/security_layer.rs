//! `SecurityEnhancementStrategy`: whether a system disk goes to the plain image or to its security layer.
//!
//! What must always hold
//! 1. Active leads to the security layer of a public image, or nowhere: it is refused, and nothing
//!    has changed.
//! 2. Which of the two a disk stands on is kept nowhere but in the ledger: its base says it.
//! 3. Who goes to a security layer holds a pin of it until that is durable, so that it cannot be taken
//!    away from the image meanwhile.
//!
//! Left to others: giving an image such a layer (`image/harden`), the reset itself (`reinit_disk`).

use block_store::LayerId;
use catalog::record::{Disk, DiskRole, Image, Origin, SecurityLayer};
use reinit::Source;

use crate::{
    CloudError, Field, WhyNotActive, cloud::layer_name, source::Found, texts, world::World,
};

/// Whether `Active` is asked for; none given is `Deactive`.
pub(crate) fn is_active(asked: Option<&str>) -> Result<bool, CloudError> {
    match texts::given(asked) {
        None | Some("Deactive") => Ok(false),
        Some("Active") => Ok(true),
        Some(other) => {
            let (field, value) = (Field::SecurityEnhancementStrategy, other.into());
            Err(CloudError::ValueNotSupported { field, value })
        }
    }
}

/// The security layer of an image, if a new disk or a reset may lead to it.
pub(crate) fn of_image(image: &Image) -> Result<&SecurityLayer, CloudError> {
    let why = |why: fn(String) -> WhyNotActive| refused(why(image.id.clone()));
    if !image.public {
        return Err(why(WhyNotActive::NotPublic));
    }
    image.security_layer.as_ref().ok_or_else(|| why(WhyNotActive::NoLayer))
}

/// What `Active` puts a disk to whose origin was found.
pub(crate) fn for_reset(world: &World, disk: &Disk) -> Result<Found, CloudError> {
    let image = image_behind(world, disk).filter(|_| disk.role == DiskRole::System);
    let image = image.ok_or_else(|| refused(WhyNotActive::NoSystemDisk))?;
    let security = of_image(image)?;
    let size = world.sizes.get(&disk.id).copied().unwrap_or(0);
    if size < security.size {
        let needed = security.size;
        return Err(refused(WhyNotActive::TooSmall { size, needed }));
    }
    Ok(found(image, security))
}

/// The security layer that a disk stands on, as the ledger's base tells it.
pub(crate) fn under(world: &World, disk: &Disk, base: Option<LayerId>) -> Option<Found> {
    let image = image_behind(world, disk)?;
    let security = image.security_layer.as_ref()?;
    (Some(layer_name(security.layer)) == base).then(|| found(image, security))
}

pub(crate) fn refused(why: WhyNotActive) -> CloudError {
    CloudError::SecurityEnhancementRefused { why }
}

fn found(image: &Image, security: &SecurityLayer) -> Found {
    Found {
        source: Source::Image(layer_name(security.layer)),
        pin: Some(image.id.clone()),
        layer_pin: Some(security.layer),
        root: security.root,
    }
}

fn image_behind<'w>(world: &'w World, disk: &Disk) -> Option<&'w Image> {
    match &disk.origin {
        Origin::Image { id } => world.images.get(id),
        Origin::Empty | Origin::Snapshot { .. } => None,
    }
}
