//! CreateSnapshot.
//!
//! What must always hold: the commit of the record, made while the disk is held still, decides; from the
//! first moment until the hashes are there the disk counts as being snapshotted.

use block_store::{CommitError, LayerId, LayerKind, LayerLabel, SnapshotError};
use catalog::{
    Batch, CatalogError,
    record::{Disk, Snapshot, SnapshotStatus},
};

use super::CreateSnapshot;
use crate::{
    Caller, Cloud, CloudError, DiskStatus, Quota,
    caller::Right,
    claim::{Claim, Hold},
    client_token::TokenSlot,
    cloud::disk_name,
    disk::{Category, SETTLED},
    ids, rules, tags, texts,
    world::World,
};

impl Cloud {
    /// Takes a snapshot of what a disk holds now. It answers at once; the hashes are made in the
    /// background while the snapshot is `progressing`.
    pub fn create_snapshot(
        &self,
        caller: &Caller,
        request: &CreateSnapshot,
    ) -> Result<String, CloudError> {
        caller.may(Right::Change, "CreateSnapshot")?;
        let token = request.client_token.as_deref();
        self.once(caller, "CreateSnapshot", token, request, &[], |slot| {
            self.take_snapshot(caller, request, slot)
        })
    }

    fn take_snapshot(
        &self,
        caller: &Caller,
        request: &CreateSnapshot,
        slot: &mut TokenSlot,
    ) -> Result<String, CloudError> {
        let mut world = self.world_when(|world| world.is_quiet_behind(&request.disk));
        let ready = self.ready_snapshot(&mut world, caller, request)?;
        drop(world);
        self.seal_snapshot(ready, slot)
    }

    /// Rules and claim.
    pub(crate) fn ready_snapshot(
        &self,
        world: &mut World,
        caller: &Caller,
        request: &CreateSnapshot,
    ) -> Result<ReadySnapshot, CloudError> {
        let record = self.check_snapshot(world, caller, request)?;
        let claim = self.claim(world, vec![Hold::Snapshotting(request.disk.clone())]);
        Ok(ReadySnapshot { record, claim })
    }

    /// The snapshot is there and durable when this answers; its hashes follow.
    pub(crate) fn seal_snapshot(
        &self,
        ready: ReadySnapshot,
        slot: &mut TokenSlot,
    ) -> Result<String, CloudError> {
        let ReadySnapshot { mut record, mut claim } = ready;
        let label = LayerLabel {
            kind: LayerKind::Snapshot,
            id: record.id.clone(),
            account: record.account.clone(),
            name: record.name.clone(),
        };
        let disk = disk_name(&record.disk)?;
        let sealed = self.inner.store.snapshot(&disk, label, |layer| {
            self.commit_snapshot(&mut record, layer, &mut claim, slot)
        });
        let layer = sealed.map_err(|error| match error {
            SnapshotError::Store(error) => error.into(),
            SnapshotError::Commit(error) => error,
        })?;
        let id = record.id.clone();
        let claim = claim.publish_keeping(
            |hold| layer.is_some() && matches!(hold, Hold::Snapshotting(_)),
            |world| drop(world.snapshots.insert(record.id.clone(), record)),
        );
        if let Some(layer) = layer {
            self.hash_in_background(id.clone(), layer, claim);
        }
        Ok(id)
    }

    /// A disk that was never written may share its layer with an image or an older snapshot.
    fn commit_snapshot(
        &self,
        record: &mut Snapshot,
        layer: Option<LayerId>,
        claim: &mut Claim,
        slot: &mut TokenSlot,
    ) -> Result<(), CommitError<CloudError>> {
        if let Some(layer) = layer {
            let mut world = self.world();
            if world.claims.leaving.contains(&layer.to_bytes()) {
                let conflict = CloudError::Conflict { id: record.disk.clone() };
                return Err(CommitError::NotDone(conflict));
            }
            claim.add(&mut world, Hold::LayerPin(layer.to_bytes()));
        } else {
            record.status = SnapshotStatus::Accomplished;
        }
        record.layer = layer.map(LayerId::to_bytes);
        let mut batch = Batch::new();
        let filled = batch.put(record).map(drop).map_err(CloudError::from);
        filled
            .and_then(|()| slot.record(self, &mut batch, &record.id))
            .map_err(CommitError::NotDone)?;
        self.inner.catalog.commit(&batch, &[]).map_err(|error| match error {
            CatalogError::InDoubt { .. } => CommitError::InDoubt(error.into()),
            other => CommitError::NotDone(other.into()),
        })
    }

    pub(crate) fn check_snapshot(
        &self,
        world: &World,
        caller: &Caller,
        request: &CreateSnapshot,
    ) -> Result<Snapshot, CloudError> {
        let disk = world.disk(&caller.account, &request.disk)?;
        if Category::of(&disk.category).is_none_or(Category::is_ephemeral) {
            let (disk, category) = (disk.id.clone(), disk.category.clone());
            return Err(CloudError::CategoryNotSupported { disk, category });
        }
        check_state(world, disk)?;
        if world.claims.snapshotting.contains(&disk.id) {
            return Err(CloudError::SnapshotInProgress { disk: disk.id.clone() });
        }
        let others = world.snapshots.values().filter(|snapshot| snapshot.disk == disk.id);
        if others.count() >= self.inner.settings.snapshots_per_disk {
            return Err(CloudError::QuotaExceeded { what: Quota::Snapshots });
        }
        Ok(Snapshot {
            id: ids::snapshot()?,
            account: disk.account.clone(),
            name: texts::snapshot_name(request.name.as_deref())?,
            description: texts::description(request.description.as_deref())?,
            disk: disk.id.clone(),
            disk_role: disk.role,
            size: world.sizes.get(&disk.id).copied().unwrap_or(0),
            layer: None,
            root: None,
            status: SnapshotStatus::Progressing,
            created: self.now_seconds(),
            encrypted: false,
            tags: tags::checked(&request.tags)?,
        })
    }
}

/// A snapshot whose rules were checked and whose claim is held.
pub(crate) struct ReadySnapshot {
    record: Snapshot,
    claim: Claim,
}

/// In use by an instance that ever ran, or left behind by one.
fn check_state(world: &World, disk: &Disk) -> Result<(), CloudError> {
    let status = world.disk_status(disk);
    let id = disk.id.clone();
    match (status, &disk.attachment) {
        (DiskStatus::InUse, Some(attachment)) => {
            let instance = world.instance(&disk.account, &attachment.instance)?;
            rules::not_locked(instance)?;
            rules::instance_is(world, instance, SETTLED)?;
            if instance.ever_started { Ok(()) } else { Err(CloudError::NeverUsed { disk: id }) }
        }
        (DiskStatus::Available, _) if disk.detached.is_none() => {
            Err(CloudError::NeverAttached { disk: id })
        }
        (DiskStatus::Available, _) => Ok(()),
        _ => Err(CloudError::IncorrectDiskStatus { disk: id, status }),
    }
}
