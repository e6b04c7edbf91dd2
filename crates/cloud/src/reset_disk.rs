//! ResetDisk and ResetDisks: disks back to one of their own snapshots.
//!
//! What must always hold: only the content goes back. The origin stays what it was, so that a later
//! ReInitDisk still leads to the initial state, and so do name, size and attachment.
//! Left to others: everything a reset shares with ReInitDisk (`reinit_disk`).

use std::time::Instant;

use block_store::RequestId;
use catalog::record::{Disk, Instance, Origin, SnapshotStatus};

use crate::{
    Caller, Cloud, CloudError, ResetDone,
    caller::Right,
    reinit_disk::{ReadyReset, not_in_a_snapshot},
    source::{self, Found},
    world::World,
};

/// `ResetDisk`.
#[derive(Clone, Debug, Default)]
pub struct ResetDisk {
    /// The disk.
    pub disk: String,
    /// One of its snapshots.
    pub snapshot: String,
}

impl Cloud {
    /// Puts the content of a disk back to what it was at a snapshot.
    pub fn reset_disk(
        &self,
        caller: &Caller,
        request: &ResetDisk,
        request_id: RequestId,
    ) -> Result<ResetDone, CloudError> {
        let mut done = self.reset_disks(caller, std::slice::from_ref(request), request_id);
        done.pop().expect("one answer for one request")
    }

    /// Puts several disks back with one sync: each is atomic, the batch is not. One answer each, in
    /// order; a disk that is there twice is refused the second time, since it is being reset.
    pub fn reset_disks(
        &self,
        caller: &Caller,
        requests: &[ResetDisk],
        request_id: RequestId,
    ) -> Vec<Result<ResetDone, CloudError>> {
        let ready = requests.iter().map(|request| self.ready_reset(caller, request, request_id));
        self.apply_resets(ready.collect())
    }

    fn ready_reset(
        &self,
        caller: &Caller,
        request: &ResetDisk,
        request_id: RequestId,
    ) -> Result<ReadyReset, CloudError> {
        let begun = Instant::now();
        caller.may(Right::Reset, "ResetDisk")?;
        let mut world = self.world_when(|world| {
            world.is_quiet_behind(&request.disk) && world.is_quiet(&[&request.snapshot])
        });
        let (disk, instance, found) = self.check_reset(&world, caller, request)?;
        let (disk, instance) = (disk.clone(), instance.id.clone());
        let claim = self.claim_reset(caller, &mut world, &disk, &found)?;
        drop(world);
        let order = self.order(&disk.id, &found, request_id)?;
        let (pending, auto_start, root, kept) = (None, false, found.root, None);
        let origin = Origin::Snapshot { id: request.snapshot.clone() };
        Ok(ReadyReset {
            begun,
            disk,
            instance,
            order,
            claim,
            pending,
            auto_start,
            root,
            origin,
            kept,
        })
    }

    fn check_reset<'w>(
        &self,
        world: &'w World,
        caller: &Caller,
        request: &ResetDisk,
    ) -> Result<(&'w Disk, &'w Instance, Found), CloudError> {
        let disk = world.disk(&caller.account, &request.disk)?;
        let snapshot = world.snapshot(&caller.account, &request.snapshot)?;
        let (disk_id, snapshot_id) = (disk.id.clone(), snapshot.id.clone());
        if snapshot.disk != disk.id {
            let (snapshot, disk) = (snapshot_id, disk_id);
            return Err(CloudError::SnapshotOfOtherDisk { snapshot, disk });
        }
        let instance = self.check_resettable(world, disk)?;
        if snapshot.status != SnapshotStatus::Accomplished {
            let status = snapshot.status;
            return Err(CloudError::SnapshotNotReady { snapshot: snapshot_id, status });
        }
        not_in_a_snapshot(world, disk)?;
        if source::is_too_old(snapshot, self.snapshot_cutoff()) {
            return Err(CloudError::SnapshotTooOld { snapshot: snapshot_id });
        }
        Ok((disk, instance, source::of_snapshot(snapshot)))
    }
}
