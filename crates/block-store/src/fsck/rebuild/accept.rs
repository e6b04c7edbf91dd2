//! The operator's choice of what a closed disk holds.
//!
//! What must always hold
//! 1. As found: the record gets the epoch and base of the head's header as they were written, and
//!    no word of the head is of a later epoch, or the disk stays closed. A later reset then gets an
//!    epoch that no word has.
//! 2. Back to its origin: under a later epoch, and without the head: none of its words can ever
//!    count again. The head is marked before the ledger forgets it, so that it is found.
//! 3. One ledger record decides: after a crash the disk is closed as before, or open as chosen.

use std::{sync::Arc, time::SystemTime};

use block_device::DiskId;

use crate::{
    error::StoreError,
    fsck::{Findings, Severity, layer},
    id::{LayerId, RequestId},
    layer_files::{self, Mark},
    ledger::{Ledger, Slot},
    ledger_record::{DiskRecord, LastReset, SlotState},
    reset::ResetReceipt,
    storage::Storage,
    store::LOCK,
};

/// What a closed disk is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// What its head's header tells.
    AsFound,
    /// What it was made from.
    Origin {
        /// The layer of the origin; none for an empty disk.
        base: Option<LayerId>,
        /// The request, for the receipt.
        request_id: RequestId,
        /// When, for the receipt.
        time: SystemTime,
    },
}

/// Opens a closed disk of a store that nobody has open; answers the receipt if that was a reset.
pub fn accept(
    storage: &Arc<dyn Storage>,
    disk: &DiskId,
    accepted: Accepted,
) -> Result<Option<ResetReceipt>, StoreError> {
    if !storage.exists(crate::ledger::FILE).map_err(StoreError::io("looking for the ledger"))? {
        return Err(StoreError::NotAStore);
    }
    let storage = &**storage;
    let lock = storage.lock(LOCK)?;
    lock.name_holder();
    let (ledger, contents) = Ledger::open(storage)?;
    let (slot, record) = closed(&contents.slots, disk)?;
    let next = match accepted {
        Accepted::AsFound => as_found(storage, record)?,
        Accepted::Origin { base, request_id, time } => {
            let last_reset = LastReset { request_id, time, epoch_before: record.epoch, base };
            back_to_origin(storage, record, last_reset)?
        }
    };
    ledger.commit(&[(slot, SlotState::Live(next.clone()))])?;
    Ok(ResetReceipt::of(&next))
}

fn closed<'c>(
    slots: &'c [(Slot, SlotState)],
    disk: &DiskId,
) -> Result<(Slot, &'c DiskRecord), StoreError> {
    let mut own =
        slots.iter().filter(|(_, state)| state.record().is_some_and(|record| record.disk == *disk));
    match (own.next(), own.next()) {
        (None, _) => Err(StoreError::UnknownDisk(disk.clone())),
        (Some((slot, SlotState::Closed(record))), None) => Ok((*slot, record)),
        (Some(_), None) => Err(StoreError::DiskExists(disk.clone())),
        (Some(_), Some(_)) => Err(refused(disk, "several ledger records speak of it")),
    }
}

fn refused(disk: &DiskId, reason: impl Into<String>) -> StoreError {
    StoreError::Refused { disk: disk.clone(), reason: reason.into() }
}

/// The disk as its record has it, if nothing is wrong with its head.
fn as_found(storage: &dyn Storage, record: &DiskRecord) -> Result<DiskRecord, StoreError> {
    if let Some(head) = record.head {
        let mut findings = Findings::default();
        layer::look(storage, head, &mut findings);
        let wrong = findings.found.iter().find(|found| found.severity != Severity::Note);
        if let Some(found) = wrong {
            let reason =
                format!("its head: {}; it can be brought back to its origin", found.message);
            return Err(refused(&record.disk, reason));
        }
    }
    Ok(record.clone())
}

fn back_to_origin(
    storage: &dyn Storage,
    record: &DiskRecord,
    last_reset: LastReset,
) -> Result<DiskRecord, StoreError> {
    if let Some(base) = last_reset.base {
        let mut findings = Findings::default();
        let looked = layer::look(storage, base, &mut findings);
        let fits = looked.is_some_and(|looked| {
            looked.is_whole
                && layer::is_sealed(&looked.header)
                && looked.header.geometry.size() <= record.geometry.size()
        });
        if !fits {
            return Err(refused(&record.disk, format!("layer {base} cannot be its origin")));
        }
    }
    if let Some(head) = record.head.filter(|head| layer_files::is_there(storage, *head)) {
        layer_files::mark(storage, head, Mark::Deleting)?;
    }
    let (epoch, _) = record.epoch.next();
    let (base, last_reset) = (last_reset.base, Some(last_reset));
    Ok(DiskRecord { epoch, base, head: None, last_reset, ..record.clone() })
}
