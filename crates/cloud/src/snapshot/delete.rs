//! DeleteSnapshot.
//!
//! What must always hold: a layer goes only with the last record that names it, and never while
//! something is being made from it; the commit decides.

use block_store::{StagedLayerDelete, StoreError};
use catalog::{
    Batch, CatalogError,
    record::{LayerBytes, Origin, Snapshot, SnapshotStatus},
};

use crate::{
    Caller, Cloud, CloudError, caller::Right, claim::Hold, cloud::layer_name, world::World,
};

impl Cloud {
    /// Deletes a snapshot; with `force` also one that disks were made from, which then cannot be
    /// re-initialised any more.
    pub fn delete_snapshot(
        &self,
        caller: &Caller,
        id: &str,
        force: bool,
    ) -> Result<(), CloudError> {
        caller.may(Right::Change, "DeleteSnapshot")?;
        let mut world = self.world_when(|world| world.is_quiet(&[id]));
        let layer = check_delete(&world, caller, id, force)?.layer;
        let layer = layer.filter(|layer| !world.names_layer(layer, id));
        let mut holds = vec![Hold::Quiet(id.into())];
        holds.extend(layer.map(Hold::Leaving));
        let claim = self.claim(&mut world, holds);
        drop(world);
        let mut batch = Batch::new();
        batch.delete::<Snapshot>(id);
        self.commit_layer_deleted(&batch, layer)?;
        claim.publish(|world| world.snapshots.remove(id));
        Ok(())
    }

    /// The commit of a deletion, and of the layer if no record names it any more.
    pub(crate) fn commit_layer_deleted(
        &self,
        batch: &Batch,
        layer: Option<LayerBytes>,
    ) -> Result<(), CloudError> {
        let staged = layer.map(|layer| self.mark_layer(layer)).transpose()?.flatten();
        if let Err(error) = self.inner.catalog.commit(batch, &[]) {
            if matches!(error, CatalogError::InDoubt { .. }) {
                staged.into_iter().for_each(StagedLayerDelete::leave_to_start);
            }
            return Err(error.into());
        }
        staged.into_iter().for_each(StagedLayerDelete::finish);
        Ok(())
    }

    /// None for a layer that is not there: its record must still be deletable.
    fn mark_layer(&self, layer: LayerBytes) -> Result<Option<StagedLayerDelete>, CloudError> {
        match self.inner.store.delete_layer(layer_name(layer)) {
            Ok(staged) => Ok(Some(staged)),
            Err(StoreError::UnknownLayer(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn check_delete<'w>(
    world: &'w World,
    caller: &Caller,
    id: &str,
    force: bool,
) -> Result<&'w Snapshot, CloudError> {
    let snapshot = world.snapshot(&caller.account, id)?;
    let pinned = world.claims.pins.contains_key(id);
    if snapshot.status == SnapshotStatus::Progressing || pinned {
        return Err(CloudError::Conflict { id: id.into() });
    }
    let in_image = world.images.values().any(|image| {
        let behind = image.data_disks.iter().any(|disk| disk.snapshot == id);
        behind || image.source_snapshot.as_deref() == Some(id)
    });
    if in_image {
        return Err(CloudError::SnapshotCreatedImage { snapshot: id.into() });
    }
    let made = |origin: &Origin| matches!(origin, Origin::Snapshot { id: of } if of == id);
    if !force && world.disks.values().any(|disk| made(&disk.origin)) {
        return Err(CloudError::SnapshotCreatedDisk { snapshot: id.into() });
    }
    Ok(snapshot)
}
