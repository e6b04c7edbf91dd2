//! DeleteImage.
//!
//! What must always hold: a shared image cannot be deleted before the shares are taken back; with force
//! one that instances came from can, and their disks then cannot be re-initialised any more.

use catalog::{
    Batch,
    record::{Image, LayerBytes},
};

use crate::{
    Caller, Cloud, CloudError,
    caller::Right,
    claim::Hold,
    world::{World, image_layers},
};

impl Cloud {
    /// Deletes an own image.
    pub fn delete_image(&self, caller: &Caller, id: &str, force: bool) -> Result<(), CloudError> {
        caller.may(Right::Change, "DeleteImage")?;
        let mut world = self.world_when(|world| world.is_quiet(&[id]));
        let layers = image_layers(check_delete(&world, caller, id, force)?);
        let layers = layers.filter(|layer| !world.names_layer(layer, &[id]));
        let layers: Vec<LayerBytes> = layers.collect();
        let mut holds = vec![Hold::Quiet(id.into())];
        holds.extend(layers.iter().copied().map(Hold::Leaving));
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);
        let mut batch = Batch::new();
        batch.delete::<Image>(id);
        self.commit_layers_deleted(&batch, &layers)?;
        claim.publish(|world| world.images.remove(id));
        Ok(())
    }
}

fn check_delete<'w>(
    world: &'w World,
    caller: &Caller,
    id: &str,
    force: bool,
) -> Result<&'w Image, CloudError> {
    let coming = world.importing.get(id).filter(|image| image.account == caller.account);
    if coming.is_some() {
        return Err(CloudError::ImageIsImporting { image: id.into() });
    }
    let image = world.own_image(&caller.account, id)?;
    if !image.shared_with.is_empty() {
        return Err(CloudError::ImageShared { image: id.into() });
    }
    if world.is_exporting(id) {
        return Err(CloudError::ImageIsExporting { image: id.into() });
    }
    let used = world.instances.values().any(|instance| instance.image_id == id);
    // Something is being made from it right now: force does not help against that.
    let pinned = world.claims.pins.contains_key(id);
    if pinned || (used && !force) {
        return Err(CloudError::ImageUsedByInstance { image: id.into() });
    }
    Ok(image)
}
