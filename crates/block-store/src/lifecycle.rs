//! Making, growing and deleting disks.
//!
//! What must always hold
//! 1. The catalog's commit is the commit point of create and delete: the ledger says `creating`
//!    or `deleting` before it, and is settled after it, or at the next start.
//! 2. Growing changes files first and the ledger last; a crash in between leaves larger files and
//!    the old size.
//!
//! Left to others: settling after a crash (`recovery`).

use std::sync::{Arc, OnceLock, atomic::Ordering};

use block_device::{ByteLength, DeviceError, DiskId};

use crate::{
    disk::{Disk, DiskLayers},
    error::StoreError,
    geometry::Geometry,
    id::{Epoch, LayerId},
    layer_files::{self, Mark},
    ledger::Slot,
    ledger_record::{DiskRecord, SlotState},
    names::Pin,
    store::{Shared, Store},
    worker::{self, Job},
};

impl Store {
    /// Makes a disk of `size` bytes on `base`, or empty. It exists once it is published.
    pub fn create_disk(
        &self,
        id: &DiskId,
        size: ByteLength,
        base: Option<LayerId>,
    ) -> Result<StagedDisk, StoreError> {
        let shared = &self.inner.shared;
        let geometry = possible(size)?;
        let reservation = Reservation::of(shared, id)?;
        let pin = shared.pin_base(base)?;
        if shared.open_base(base)?.is_some_and(|base| base.size() > geometry.size()) {
            return Err(StoreError::InvalidSize { size, reason: "what it stands on is larger" });
        }
        let record = DiskRecord {
            disk: id.clone(),
            geometry,
            epoch: Epoch::FIRST,
            base,
            head: None,
            last_reset: None,
        };
        let slot = shared.ledger.take_slot()?;
        shared.ledger.commit(&[(slot, SlotState::Creating(record.clone()))])?;
        Ok(StagedDisk { slot, record: Some((record, pin)), reservation })
    }

    /// Makes a disk larger. Open handles go on and see the new size.
    pub fn resize(&self, id: &DiskId, size: ByteLength) -> Result<(), StoreError> {
        let shared = self.shared();
        let disk = shared.disk(id)?;
        let _alone = disk.control.lock();
        disk.ensure_open(shared)?;
        let geometry = possible(size)?;
        let mut state = disk.state.write();
        if geometry.size() <= state.record.geometry.size() {
            return Err(StoreError::InvalidSize { size, reason: "a disk can only grow" });
        }
        let grown = match state.head().cloned() {
            Some(head) => {
                disk.flush(shared, &state).map_err(|error| failed(id, error))?;
                OnceLock::from(Arc::new(head.grow(geometry)?))
            }
            None => OnceLock::new(),
        };
        if let Some(layers) = &mut state.layers {
            *layers = DiskLayers { base: layers.base.clone(), head: grown };
        }
        state.record.geometry = geometry;
        disk.size.store(geometry.size(), Ordering::Relaxed);
        let recorded = disk.record(shared, &state);
        if recorded.is_err() {
            state.refusal = Some("recording its new size failed; restart to settle it".into());
        }
        recorded
    }

    /// Begins to delete a disk: ends its handles and hides it. It is gone once finished.
    pub fn delete_disk(&self, id: &DiskId) -> Result<StagedDelete, StoreError> {
        let shared = &self.inner.shared;
        let disk = shared.disk(id)?;
        let alone = disk.control.lock();
        let mut state = disk.state.write();
        state.check_exists(id)?;
        if state.is_closed {
            // An undone delete would bring it back open.
            state.check_served(id)?;
        }
        state.session += 1;
        let record = state.wanted_record();
        shared.ledger.commit(&[(disk.slot, SlotState::Deleting(record.clone()))])?;
        // Who waited for the disk meanwhile must not go on with it.
        state.is_deleted = true;
        // The name stays taken until the disk is gone or back.
        let reservation = Reservation::hold(shared, id);
        shared.disks.write().remove(id);
        drop(state);
        drop(alone);
        Ok(StagedDelete { disk: Some((disk, record)), reservation })
    }
}

fn possible(size: ByteLength) -> Result<Geometry, StoreError> {
    Geometry::checked(size).ok_or(StoreError::InvalidSize {
        size,
        reason: "it must be a multiple of 512 above 0 and at most 256 TiB",
    })
}

fn failed(disk: &DiskId, error: DeviceError) -> StoreError {
    match error {
        DeviceError::NoSpace => StoreError::NoSpace,
        other => StoreError::Refused { disk: disk.clone(), reason: other.to_string() },
    }
}

/// A disk that does not exist yet: dropping it undoes its making.
#[derive(Debug)]
#[must_use = "dropping it undoes the disk"]
pub struct StagedDisk {
    slot: Slot,
    record: Option<(DiskRecord, Option<Pin>)>,
    reservation: Reservation,
}

/// The name of a disk that is being made: nobody else can take it.
#[derive(Debug)]
struct Reservation {
    shared: Arc<Shared>,
    disk: DiskId,
}

impl Reservation {
    fn of(shared: &Arc<Shared>, disk: &DiskId) -> Result<Self, StoreError> {
        let mut making = shared.making.lock();
        let taken = shared.disks.read().contains_key(disk)
            || shared.refused.read().contains_key(disk)
            || !making.insert(disk.clone());
        if taken {
            return Err(StoreError::DiskExists(disk.clone()));
        }
        Ok(Self { shared: shared.clone(), disk: disk.clone() })
    }

    /// Keeps the name of a disk that is about to be hidden.
    fn hold(shared: &Arc<Shared>, disk: &DiskId) -> Self {
        shared.making.lock().insert(disk.clone());
        Self { shared: shared.clone(), disk: disk.clone() }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.making.lock().remove(&self.disk);
    }
}

impl StagedDisk {
    /// Makes the disk exist; called once the catalog names it.
    pub fn publish(mut self) -> Result<(), StoreError> {
        let (record, pin) = self.record.take().expect("taken only here and in drop");
        let disk = Arc::new(Disk::new(self.slot, record.clone(), pin, None));
        let shared = &self.reservation.shared;
        shared
            .ledger
            .commit(&[(self.slot, SlotState::Live(record))])
            .inspect_err(|_| disk.leave_to_start())?;
        shared.disks.write().insert(disk.id.clone(), disk);
        Ok(())
    }

    /// Neither makes nor undoes the disk: when it is not known whether the catalog names it, the
    /// next start finds out.
    pub fn leave_to_start(mut self) {
        if let Some((_, Some(pin))) = self.record.take() {
            pin.keep_until_start();
        }
        self.reservation.shared.doubt(&self.reservation.disk, "its making is in doubt");
    }
}

impl Drop for StagedDisk {
    fn drop(&mut self) {
        if self.record.take().is_some() {
            free_slot(&self.reservation.shared, self.slot);
        }
    }
}

/// A disk that is hidden and about to be gone: dropping it brings the disk back.
#[derive(Debug)]
#[must_use = "dropping it brings the disk back"]
pub struct StagedDelete {
    disk: Option<(Arc<Disk>, DiskRecord)>,
    reservation: Reservation,
}

impl StagedDelete {
    /// Removes the disk's files and frees its slot; called once the catalog has forgotten it.
    pub fn finish(mut self) -> Result<(), StoreError> {
        let (disk, record) = self.disk.take().expect("taken only here and in drop");
        // Handles still hold the files of the head; their space is freed when they are dropped.
        disk.state.write().layers = None;
        let shared = &self.reservation.shared;
        let is_named = record.head.is_some_and(|head| shared.names.is_named(head));
        finish_delete(shared, disk.slot, &record, is_named)
            .inspect_err(|_| shared.doubt(&disk.id, "its files could not be removed"))
    }

    /// Neither deletes the disk nor brings it back: when it is not known whether the catalog has
    /// forgotten it, the next start finds out.
    pub fn leave_to_start(mut self) {
        if let Some((disk, _)) = self.disk.take() {
            disk.leave_to_start();
            self.reservation.shared.doubt(&disk.id, "its deletion is in doubt");
        }
    }
}

impl Drop for StagedDelete {
    fn drop(&mut self) {
        let Some((disk, record)) = self.disk.take() else { return };
        let shared = &self.reservation.shared;
        match shared.ledger.commit(&[(disk.slot, SlotState::Live(record))]) {
            Ok(()) => {
                disk.state.write().is_deleted = false;
                shared.disks.write().insert(disk.id.clone(), disk);
            }
            Err(error) => {
                disk.leave_to_start();
                tracing::error!(disk = %disk.id, %error, "a delete could not be undone");
            }
        }
    }
}

/// Removes the files of a disk whose record says `deleting`, and frees its slot. What it calls its
/// head may be the layer of a snapshot by now, and `is_named` for that.
pub(crate) fn finish_delete(
    shared: &Shared,
    slot: Slot,
    record: &DiskRecord,
    is_named: bool,
) -> Result<(), StoreError> {
    match record.head {
        // A snapshot sealed it and was cut short: it is a layer by its own right now. A damaged
        // header may no longer say so; then the name does.
        Some(head) if is_named || worker::sealed_header(&*shared.storage, head).is_some() => {
            shared.later(Job::Collect(head));
        }
        Some(head) => {
            if let Some(remains) = layer_files::take_name(&*shared.storage, head)? {
                shared.later(Job::RemoveRemains(remains));
            }
        }
        None => {}
    }
    free_slot(shared, slot);
    Ok(())
}

/// Says durably that the slot is free. If that fails the slot stays marked, and start settles it.
pub(crate) fn free_slot(shared: &Shared, slot: Slot) {
    match shared.ledger.commit(&[(slot, SlotState::Free)]) {
        Ok(()) => shared.ledger.give_back(slot),
        Err(error) => tracing::error!(?slot, %error, "a ledger slot could not be freed"),
    }
}

/// Marks a head that its disk leaves behind, before the ledger forgets it.
pub(crate) fn mark_left_behind(shared: &Shared, head: LayerId) -> Result<(), StoreError> {
    layer_files::mark(&*shared.storage, head, Mark::Deleting)
}
