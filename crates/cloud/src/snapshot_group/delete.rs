//! DeleteSnapshotGroup.
//!
//! What must always hold: the group goes with all its snapshots or with none: what stands against the
//! deletion of one snapshot stands against that of the group.

use std::collections::BTreeSet;

use catalog::{
    Batch,
    record::{LayerBytes, Snapshot, SnapshotGroup},
};

use crate::{Caller, Cloud, CloudError, caller::Right, claim::Hold, snapshot::check_delete};

impl Cloud {
    /// Deletes a group and its snapshots; answers their ids.
    pub fn delete_snapshot_group(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<Vec<String>, CloudError> {
        caller.may(Right::Change, "DeleteSnapshotGroup")?;
        let mut world = self.world_when(|world| {
            let members = world.snapshot_groups.get(id).map(|group| &group.snapshots[..]);
            let mut members = members.unwrap_or_default().iter();
            world.is_quiet(&[id]) && members.all(|snapshot| world.is_quiet(&[snapshot]))
        });
        let group = world.snapshot_group(&caller.account, id)?.clone();
        let mut layers: BTreeSet<LayerBytes> = BTreeSet::new();
        for snapshot in &group.snapshots {
            layers.extend(check_delete(&world, caller, snapshot, false)?.layer);
        }
        let going: Vec<_> = group.snapshots.iter().map(String::as_str).collect();
        layers.retain(|layer| !world.names_layer(layer, &going));
        let layers: Vec<_> = layers.into_iter().collect();
        let quiet = going.iter().copied().chain([id]).map(|id| Hold::Quiet(id.into()));
        let holds = quiet.chain(layers.iter().copied().map(Hold::Leaving)).collect();
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);
        let mut batch = Batch::new();
        batch.delete::<SnapshotGroup>(id);
        for snapshot in &group.snapshots {
            batch.delete::<Snapshot>(snapshot);
        }
        self.commit_layers_deleted(&batch, &layers)?;
        claim.publish(|world| {
            world.snapshot_groups.remove(id);
            for snapshot in &group.snapshots {
                world.snapshots.remove(snapshot);
            }
        });
        Ok(group.snapshots)
    }
}
