//! CreateSnapshot, and snapshots of several disks at one moment.
//!
//! What must always hold: the commit of the records, made while nothing else is done to the disks,
//! decides; from the first moment until its hashes are there a disk counts as being snapshotted.

use std::collections::BTreeMap;

use block_device::DiskId;
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
    cloud::{disk_name, layer_name},
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
    ) -> Result<ReadySnapshots, CloudError> {
        self.ready_snapshots(world, caller, std::slice::from_ref(request), Vec::new())
    }

    /// Rules and claim of several snapshots, of a disk each, and what else their call holds.
    pub(crate) fn ready_snapshots(
        &self,
        world: &mut World,
        caller: &Caller,
        requests: &[CreateSnapshot],
        mut holds: Vec<Hold>,
    ) -> Result<ReadySnapshots, CloudError> {
        let check = |request| self.check_snapshot(world, caller, request);
        let records: Vec<_> = requests.iter().map(check).collect::<Result<_, _>>()?;
        holds.extend(records.iter().map(|record| Hold::Snapshotting(record.disk.clone())));
        Ok(ReadySnapshots { claim: self.claim(caller, world, holds)?, records })
    }

    /// The snapshot is there and durable when this answers; its hashes follow.
    pub(crate) fn seal_snapshot(
        &self,
        ready: ReadySnapshots,
        slot: &mut TokenSlot,
    ) -> Result<String, CloudError> {
        let record = |records: &[Snapshot], batch: &mut Batch| {
            let id = records[0].id.clone();
            slot.record(self, batch, &id).map(|()| id)
        };
        self.seal_snapshots(ready, record, |_, id| id)
    }

    /// Takes all of them at one moment. `complete` adds what else their commit decides over, and
    /// `publish` shows that in the same step as the snapshots.
    pub(crate) fn seal_snapshots<T, R>(
        &self,
        ready: ReadySnapshots,
        complete: impl FnOnce(&[Snapshot], &mut Batch) -> Result<T, CloudError>,
        publish: impl FnOnce(&mut World, T) -> R,
    ) -> Result<R, CloudError> {
        let ReadySnapshots { mut records, mut claim } = ready;
        let asked = records.iter().map(|record| Ok((disk_name(&record.disk)?, label_of(record))));
        let asked = asked.collect::<Result<_, CloudError>>()?;
        let mut completed = None;
        let sealed = self.inner.store.snapshot_together(asked, |layers| {
            let made = self.commit_snapshots(&mut records, layers, &mut claim, complete)?;
            completed = Some(made);
            Ok(())
        });
        sealed.map_err(|error| match error {
            SnapshotError::Store(error) => error.into(),
            SnapshotError::Commit(error) => error,
        })?;
        let completed = completed.expect("it was committed");
        let to_hash: Vec<_> = records
            .iter()
            .filter_map(|one| Some((one.id.clone(), one.disk.clone(), layer_name(one.layer?))))
            .collect();
        let goes_on = |hold: &Hold| matches!(hold, Hold::Snapshotting(disk) if to_hash.iter().any(|(_, of, _)| of == disk));
        let mut result = None;
        let mut claim = claim.publish_keeping(goes_on, |world| {
            world.snapshots.extend(records.into_iter().map(|one| (one.id.clone(), one)));
            result = Some(publish(world, completed));
        });
        for (id, disk, layer) in to_hash {
            let own = claim.split_off(|hold| matches!(hold, Hold::Snapshotting(of) if *of == disk));
            self.hash_in_background(id, layer, own);
        }
        Ok(result.expect("it was published"))
    }

    /// A disk that was never written may share its layer with an image or an older snapshot.
    fn commit_snapshots<T>(
        &self,
        records: &mut [Snapshot],
        layers: &BTreeMap<DiskId, Option<LayerId>>,
        claim: &mut Claim,
        complete: impl FnOnce(&[Snapshot], &mut Batch) -> Result<T, CloudError>,
    ) -> Result<T, CommitError<CloudError>> {
        let mut batch = Batch::new();
        let fill = || {
            for record in records.iter_mut() {
                let layer = layers[&disk_name(&record.disk)?];
                if let Some(layer) = layer {
                    self.pin_layer(layer, &record.disk, claim)?;
                } else {
                    record.status = SnapshotStatus::Accomplished;
                }
                record.layer = layer.map(LayerId::to_bytes);
                batch.put(record)?;
            }
            complete(records, &mut batch)
        };
        let completed = fill().map_err(CommitError::NotDone)?;
        let committed = self.inner.catalog.commit(&batch, &[]);
        committed.map(|()| completed).map_err(|error| match error {
            CatalogError::InDoubt { .. } => CommitError::InDoubt(error.into()),
            other => CommitError::NotDone(other.into()),
        })
    }

    fn pin_layer(&self, layer: LayerId, disk: &str, claim: &mut Claim) -> Result<(), CloudError> {
        let mut world = self.world();
        if world.claims.leaving.contains(&layer.to_bytes()) {
            return Err(CloudError::Conflict { id: disk.into() });
        }
        claim.add(&mut world, Hold::LayerPin(layer.to_bytes()));
        Ok(())
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

/// Snapshots whose rules were checked and whose claim is held.
pub(crate) struct ReadySnapshots {
    records: Vec<Snapshot>,
    claim: Claim,
}

fn label_of(record: &Snapshot) -> LayerLabel {
    LayerLabel {
        kind: LayerKind::Snapshot,
        id: record.id.clone(),
        account: record.account.clone(),
        name: record.name.clone(),
    }
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
