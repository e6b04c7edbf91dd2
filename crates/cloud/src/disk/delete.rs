//! DeleteDisk.
//!
//! What must always hold: the commit decides; after the answer the disk never comes back, before it it
//! is still whole.

use block_store::StagedDelete;
use catalog::{Batch, CatalogError};

use super::delete_records;
use crate::{
    Caller, Cloud, CloudError, DiskStatus, caller::Right, claim::Hold, cloud::disk_name,
    reinit_disk::not_in_a_snapshot, world::World,
};

impl Cloud {
    /// Deletes a disk that is attached to nothing. Its snapshots stay.
    pub fn delete_disk(&self, caller: &Caller, id: &str) -> Result<(), CloudError> {
        caller.may(Right::Change, "DeleteDisk")?;
        let mut world = self.world_when(|world| world.is_quiet(&[id]));
        check_delete(&world, caller, id)?;
        let claim = self.claim(caller, &mut world, vec![Hold::Quiet(id.into())])?;
        drop(world);
        let staged = vec![self.inner.store.delete_disk(&disk_name(id)?)?];
        let mut batch = Batch::new();
        delete_records(&mut batch, id);
        self.commit_deleted(&batch, staged)?;
        claim.publish(|world| world.remove_disk(id));
        Ok(())
    }

    /// The commit of a deletion; a failed one undoes the marks, unless nobody knows whether it
    /// failed: then the next start decides.
    pub(crate) fn commit_deleted(
        &self,
        batch: &Batch,
        staged: Vec<StagedDelete>,
    ) -> Result<(), CloudError> {
        if let Err(error) = self.inner.catalog.commit(batch, &[]) {
            if matches!(error, CatalogError::InDoubt { .. }) {
                staged.into_iter().for_each(StagedDelete::leave_to_start);
            }
            return Err(error.into());
        }
        for disk in staged {
            if let Err(error) = disk.finish() {
                tracing::error!(%error, "a deleted disk stays marked until the next start");
            }
        }
        Ok(())
    }
}

fn check_delete(world: &World, caller: &Caller, id: &str) -> Result<(), CloudError> {
    let disk = world.disk(&caller.account, id)?;
    match world.disk_status(disk) {
        DiskStatus::Available => not_in_a_snapshot(world, disk),
        DiskStatus::InUse => Err(CloudError::DiskStillAttached { disk: id.into() }),
        status @ (DiskStatus::Creating
        | DiskStatus::Attaching
        | DiskStatus::Detaching
        | DiskStatus::ReIniting) => {
            Err(CloudError::IncorrectDiskStatus { disk: id.into(), status })
        }
    }
}

impl World {
    /// Forgets a disk that was deleted.
    pub(crate) fn remove_disk(&mut self, id: &str) {
        self.disks.remove(id);
        self.sizes.remove(id);
        self.limits.remove(id);
    }
}
