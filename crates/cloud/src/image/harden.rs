//! `reinit image harden`: a public image gets a security layer, or loses it.
//!
//! What must always hold
//! 1. The layer stands on the image's own: what it adds is what was installed on a disk of that image.
//! 2. The image's record names it from the commit on, and so keeps it alive, also when the snapshot it
//!    was made from is deleted; the commit that takes the name away deletes the layer if nothing else
//!    names it. Disks that stand on it keep it until they are reset.
//! 3. It is not taken away while something is on its way to it.
//!
//! Left to others: who may go to it (`security_layer`), removing files (`block-store`).

use block_store::LayerId;
use catalog::{
    Batch,
    record::{DiskRole, Image, LayerBytes, SecurityLayer, Snapshot, SnapshotStatus},
};

use crate::{
    Caller, Cloud, CloudError, WhyNoSecurityLayer, claim::Hold, cloud::layer_name, world::World,
};

impl Cloud {
    /// Gives a public image the content of a snapshot as its security layer, in place of the one
    /// it may have.
    pub fn harden_image(
        &self,
        caller: &Caller,
        image: &str,
        snapshot: &str,
    ) -> Result<(), CloudError> {
        caller.must_be_operator("image harden")?;
        let mut world = self.world_when(|world| world.is_quiet(&[image, snapshot]));
        let found = world.own_image(&caller.account, image)?.clone();
        let (layer, below) = check_harden(&world, caller, &found, snapshot, self.now_seconds())?;
        let old = leaving(&world, &found, Some(layer.layer))?;
        let mut holds = vec![Hold::Quiet(image.into()), Hold::Pin(snapshot.into())];
        holds.extend(old.map(Hold::Leaving));
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);
        self.must_stand_on(layer_name(layer.layer), layer_name(below), image, snapshot)?;
        let hardened = Image { security_layer: Some(layer), ..found };
        self.commit_security(&hardened, old)?;
        claim.publish(|world| world.images.insert(hardened.id.clone(), hardened));
        Ok(())
    }

    /// Takes the security layer away from an image; disks that stand on it keep what they have
    /// until they are reset.
    pub fn soften_image(&self, caller: &Caller, image: &str) -> Result<(), CloudError> {
        caller.must_be_operator("image harden --remove")?;
        let mut world = self.world_when(|world| world.is_quiet(&[image]));
        let found = world.own_image(&caller.account, image)?.clone();
        if found.security_layer.is_none() {
            return Err(refused(image, WhyNoSecurityLayer::NothingToRemove));
        }
        let old = leaving(&world, &found, None)?;
        let mut holds = vec![Hold::Quiet(image.into())];
        holds.extend(old.map(Hold::Leaving));
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);
        let softened = Image { security_layer: None, ..found };
        self.commit_security(&softened, old)?;
        claim.publish(|world| world.images.insert(softened.id.clone(), softened));
        Ok(())
    }

    fn commit_security(&self, image: &Image, old: Option<LayerBytes>) -> Result<(), CloudError> {
        let mut batch = Batch::new();
        batch.put(image)?;
        self.commit_layers_deleted(&batch, old.as_slice())
    }

    /// Strictly: a snapshot of a disk nobody wrote to names the image's own layer.
    fn must_stand_on(
        &self,
        upper: LayerId,
        lower: LayerId,
        image: &str,
        snapshot: &str,
    ) -> Result<(), CloudError> {
        let snapshot = || snapshot.to_owned();
        if upper == lower {
            return Err(refused(image, WhyNoSecurityLayer::NothingInstalled(snapshot())));
        }
        let mut next = Some(upper);
        while let Some(layer) = next {
            if layer == lower {
                return Ok(());
            }
            next = self.inner.store.layer(layer)?.parent;
        }
        Err(refused(image, WhyNoSecurityLayer::OfOtherImage(snapshot())))
    }
}

/// The layer to be, and the image's own that it must stand on.
fn check_harden(
    world: &World,
    caller: &Caller,
    image: &Image,
    snapshot: &str,
    added: i64,
) -> Result<(SecurityLayer, LayerBytes), CloudError> {
    if !image.public {
        return Err(refused(&image.id, WhyNoSecurityLayer::NotPublic));
    }
    let snapshot = world.snapshot(&caller.account, snapshot)?;
    let id = snapshot.id.clone();
    if snapshot.disk_role != DiskRole::System {
        return Err(CloudError::SnapshotOfWrongType { snapshot: id });
    }
    if snapshot.status != SnapshotStatus::Accomplished {
        return Err(CloudError::SnapshotNotReady { snapshot: id, status: snapshot.status });
    }
    let of_other = || refused(&image.id, WhyNoSecurityLayer::OfOtherImage(snapshot.id.clone()));
    let layers = snapshot.layer.zip(image.layer);
    let (layer, below) = layers.ok_or_else(of_other)?;
    let Snapshot { root, size, .. } = *snapshot;
    Ok((SecurityLayer { layer, root, size, snapshot: id, added }, below))
}

/// The layer that goes when the image stops naming it as its security layer.
fn leaving(
    world: &World,
    image: &Image,
    kept: Option<LayerBytes>,
) -> Result<Option<LayerBytes>, CloudError> {
    let old = image.security_layer.as_ref().map(|security| security.layer);
    let old = old.filter(|old| kept != Some(*old));
    if old.is_some_and(|old| world.claims.layer_pins.contains_key(&old)) {
        return Err(CloudError::Conflict { id: image.id.clone() });
    }
    Ok(old.filter(|old| !world.names_layer(old, &[&image.id])))
}

fn refused(image: &str, why: WhyNoSecurityLayer) -> CloudError {
    CloudError::NoSecurityLayer { image: image.into(), why }
}
