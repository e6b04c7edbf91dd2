//! Reset: a new ledger record with the next epoch and the layer of the origin as base.
//!
//! No data is read, written, copied or unlinked; the cost is one in-place write and one sync of
//! the ledger, which all resets of a batch share.
//!
//! What must always hold
//! 1. From before the ledger's write until after its sync nobody reads or writes the disk: the
//!    write side of its state is held. Handles of before are refused ever after.
//! 2. After the write there is no way back. If it fails, every disk of the batch stays fenced,
//!    and opening the store again settles what happened.
//! 3. A batch is one sync, not one atom: after a crash each disk is wholly before or after.
//!
//! Left to others: the rules and the exports (`reinit`, `cloud`), which layer the origin is.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::{Instant, SystemTime},
};

use block_device::DiskId;
use parking_lot::{MutexGuard, RwLockWriteGuard};

use crate::{
    disk::{Disk, DiskLayers, Generation},
    error::StoreError,
    histogram::Histogram,
    id::{Epoch, LayerId, RequestId},
    ledger::Slot,
    ledger_record::{DiskRecord, LastReset, SlotState},
    lifecycle,
    names::Pin,
    sealed_layer::Chain,
    space::DiskSpace,
    store::{Shared, Store},
    worker::Job,
};

/// An order to reset one disk.
#[derive(Clone, Debug)]
pub struct Reset {
    /// The disk.
    pub disk: DiskId,
    /// The layer of its origin; none for an empty disk.
    pub base: Option<LayerId>,
    /// The request that asked for it; kept in the receipt.
    pub request_id: RequestId,
    /// When it was asked for; kept in the receipt, and nothing depends on it.
    pub time: SystemTime,
}

/// The proof of a reset, as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetReceipt {
    /// The disk.
    pub disk: DiskId,
    /// The request that asked for it.
    pub request_id: RequestId,
    /// When it was asked for.
    pub time: SystemTime,
    /// The epoch that ended.
    pub epoch_before: Epoch,
    /// The epoch that began.
    pub epoch_after: Epoch,
    /// The layer the disk went back to; none for an empty disk.
    pub base: Option<LayerId>,
}

impl ResetReceipt {
    /// The receipt a record keeps.
    pub(crate) fn of(record: &DiskRecord) -> Option<Self> {
        record.last_reset.map(|reset| Self {
            disk: record.disk.clone(),
            request_id: reset.request_id,
            time: reset.time,
            epoch_before: reset.epoch_before,
            epoch_after: reset.epoch_before.next().0,
            base: reset.base,
        })
    }
}

/// Where the time of resets goes.
#[derive(Debug)]
pub(crate) struct ResetTimes {
    pub(crate) opening: Histogram,
    pub(crate) ledger: Histogram,
}

impl Default for ResetTimes {
    fn default() -> Self {
        Self { opening: Histogram::of_times(), ledger: Histogram::of_times() }
    }
}

impl Store {
    /// Resets disks, all with one sync of the ledger; the answers are in the order of the orders.
    pub fn reset(&self, resets: &[Reset]) -> Vec<Result<ResetReceipt, StoreError>> {
        let (shared, begun) = (self.shared(), Instant::now());
        let mut answers: Vec<Option<Result<ResetReceipt, StoreError>>> = Vec::new();
        let (mut batch, mut seen) = (Vec::new(), HashSet::new());
        for (place, reset) in resets.iter().enumerate() {
            let found = if seen.insert(&reset.disk) {
                Target::find(shared, reset)
            } else {
                Err(StoreError::NamedTwice(reset.disk.clone()))
            };
            answers.push(None);
            match found {
                Ok(target) => batch.push((place, target)),
                Err(error) => answers[place] = Some(Err(error)),
            }
        }
        // In the order of names, so that two batches never wait for each other.
        batch.sort_by(|(_, a), (_, b)| a.disk.id.cmp(&b.disk.id));
        let (places, targets): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        for (place, answer) in places.into_iter().zip(reset_all(shared, &targets, begun)) {
            answers[place] = Some(answer);
        }
        answers.into_iter().map(|answer| answer.expect("answered above")).collect()
    }
}

/// A disk to reset, and what it will stand on.
struct Target<'r> {
    disk: Arc<Disk>,
    reset: &'r Reset,
    pin: Option<Pin>,
    base: Option<Arc<Chain>>,
}

impl<'r> Target<'r> {
    fn find(shared: &Shared, reset: &'r Reset) -> Result<Self, StoreError> {
        let disk = shared.disk(&reset.disk)?;
        // Pinned first: a layer that is being removed is not opened.
        let pin = shared.pin_base(reset.base)?;
        // Let go of before files are opened: who waits to change the disk would hold up its readers.
        let open = disk.state.read().open_base(reset.base);
        let base = match open {
            Some(base) => Some(base),
            None => shared.open_base(reset.base)?,
        };
        Ok(Self { disk, reset, pin, base })
    }
}

/// A disk that nobody can reach any more, and what it is about to become.
struct Fenced<'t> {
    target: &'t Target<'t>,
    _alone: MutexGuard<'t, ()>,
    state: RwLockWriteGuard<'t, Generation>,
    next: DiskRecord,
    /// The head that does not go along.
    left_behind: Option<LayerId>,
}

fn reset_all(
    shared: &Shared,
    targets: &[Target<'_>],
    begun: Instant,
) -> Vec<Result<ResetReceipt, StoreError>> {
    let fenced: Vec<_> = targets.iter().map(|target| fence(shared, target)).collect();
    let records = fenced.iter().flatten().map(Fenced::entry).collect::<Vec<_>>();
    let committed = if records.is_empty() { Ok(()) } else { commit(shared, &records, begun) };
    let failure = committed.err().map(|error| error.to_string());
    let finish = |fenced: Result<Fenced<'_>, StoreError>| match (&failure, fenced?) {
        (None, fenced) => Ok(fenced.swap(shared)),
        (Some(reason), fenced) => Err(fenced.refuse(reason)),
    };
    fenced.into_iter().map(finish).collect()
}

fn commit(
    shared: &Shared,
    records: &[(Slot, SlotState)],
    begun: Instant,
) -> Result<(), StoreError> {
    shared.reset_times.opening.observe_since(begun);
    let opened = Instant::now();
    let committed = shared.ledger.commit(records);
    shared.reset_times.ledger.observe_since(opened);
    committed
}

/// Drains the disk and keeps everybody out.
fn fence<'t>(shared: &Shared, target: &'t Target<'t>) -> Result<Fenced<'t>, StoreError> {
    let alone = target.disk.control.lock();
    target.disk.ensure_open(shared)?;
    let mut state = target.disk.state.write();
    let size = state.record.geometry.size();
    if target.base.as_ref().is_some_and(|base| base.size() > size) {
        let size = block_device::ByteLength::new(size);
        return Err(StoreError::InvalidSize { size, reason: "the origin is larger than the disk" });
    }
    let (epoch, fits) = state.record.epoch.next();
    let poisoned = state.head().is_some_and(|head| head.poisoned().is_some());
    let left_behind = state.wanted_record().head.filter(|_| !fits || poisoned);
    if let Some(head) = left_behind {
        lifecycle::mark_left_behind(shared, head)?;
    }
    state.session += 1;
    let last_reset = LastReset {
        request_id: target.reset.request_id,
        time: target.reset.time,
        epoch_before: state.record.epoch,
        base: target.reset.base,
    };
    let before = state.wanted_record();
    let next = DiskRecord {
        epoch,
        base: target.reset.base,
        head: before.head.filter(|_| left_behind.is_none()),
        last_reset: Some(last_reset),
        ..before
    };
    Ok(Fenced { target, _alone: alone, state, next, left_behind })
}

impl Fenced<'_> {
    fn entry(&self) -> (Slot, SlotState) {
        (self.target.disk.slot, SlotState::Live(self.next.clone()))
    }

    /// The ledger has it: the disk in memory follows.
    fn swap(mut self, shared: &Shared) -> ResetReceipt {
        let disk = &self.target.disk;
        let receipt = ResetReceipt::of(&self.next).expect("it was reset just now");
        let head = self.state.head().filter(|_| self.left_behind.is_none()).cloned();
        if let Some(head) = &head {
            head.changed.forget();
            let position = disk.position(shared, &self.next);
            shared.later(Job::RefreshHeader { head: head.clone(), position });
        }
        if let Some(head) = self.left_behind {
            shared.later(Job::RemoveHead(head));
        }
        let head = head.map_or_else(OnceLock::new, OnceLock::from);
        self.state.layers = Some(DiskLayers { base: self.target.base.clone(), head });
        self.state.base_pin = self.target.pin.clone();
        self.state.record = self.next.clone();
        self.remeasure();
        disk.was_recorded(shared, self.next.clone());
        receipt
    }

    /// The figures follow without a walk: the head stays as it is and nothing of it counts.
    fn remeasure(&self) {
        let mut measured = self.target.disk.measured.lock();
        match self.left_behind {
            None => measured.iter_mut().for_each(DiskSpace::reset),
            Some(_) => *measured = None,
        }
    }

    /// The ledger failed: what it holds is unknown until the store is opened again.
    fn refuse(mut self, reason: &str) -> StoreError {
        let reason = format!("its reset may or may not have happened: {reason}");
        self.state.refusal = Some(reason.clone());
        // The disk may stand on this one, as it may on the one it keeps itself.
        self.target.pin.iter().cloned().for_each(Pin::keep_until_start);
        StoreError::Refused { disk: self.target.disk.id.clone(), reason }
    }
}
