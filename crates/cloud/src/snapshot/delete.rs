//! DeleteSnapshot; of a group it leaves the others, and the last takes the group along.
//!
//! What must always hold: a layer goes only with the last record that names it, and never while
//! something is being made from it; the commit decides.

use block_store::{StagedLayerDelete, StoreError};
use catalog::{
    Batch, CatalogError,
    record::{LayerBytes, Origin, Snapshot, SnapshotGroup, SnapshotStatus},
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
        let mut world = self.world_when(|world| {
            let group = world.group_of(id).map_or("", |group| &group.id);
            world.is_quiet(&[id, group])
        });
        let layer = check_delete(&world, caller, id, force)?.layer;
        let layer = layer.filter(|layer| !world.names_layer(layer, &[id]));
        let group = world.group_of(id).map(|group| without(group, id));
        let mut holds = vec![Hold::Quiet(id.into())];
        holds.extend(group.as_ref().map(|group| Hold::Quiet(group.id.clone())));
        holds.extend(layer.map(Hold::Leaving));
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);
        let mut batch = Batch::new();
        batch.delete::<Snapshot>(id);
        match &group {
            Some(group) if group.snapshots.is_empty() => {
                batch.delete::<SnapshotGroup>(&group.id);
            }
            Some(group) => drop(batch.put(group)?),
            None => {}
        }
        self.commit_layers_deleted(&batch, layer.as_slice())?;
        claim.publish(|world| {
            world.snapshots.remove(id);
            match group {
                Some(group) if group.snapshots.is_empty() => {
                    world.snapshot_groups.remove(&group.id);
                }
                Some(group) => drop(world.snapshot_groups.insert(group.id.clone(), group)),
                None => {}
            }
        });
        Ok(())
    }

    /// The commit of a deletion, and of the layers that no record names any more.
    pub(crate) fn commit_layers_deleted(
        &self,
        batch: &Batch,
        layers: &[LayerBytes],
    ) -> Result<(), CloudError> {
        let staged = layers.iter().map(|layer| self.mark_layer(*layer));
        let staged: Vec<_> = staged.collect::<Result<_, _>>()?;
        let staged = staged.into_iter().flatten();
        if let Err(error) = self.inner.catalog.commit(batch, &[]) {
            if matches!(error, CatalogError::InDoubt { .. }) {
                staged.for_each(StagedLayerDelete::leave_to_start);
            }
            return Err(error.into());
        }
        staged.for_each(StagedLayerDelete::finish);
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

/// The group without that snapshot.
fn without(group: &SnapshotGroup, snapshot: &str) -> SnapshotGroup {
    let mut changed = group.clone();
    changed.snapshots.retain(|id| id != snapshot);
    changed
}

pub(crate) fn check_delete<'w>(
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
