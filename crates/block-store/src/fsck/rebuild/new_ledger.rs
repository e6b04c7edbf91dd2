//! Writing a ledger anew.
//!
//! What must always hold: it is whole and durable under another name before it takes its place; the
//! lost one is whole and durable under a name of its own before that.

use std::io::{self, IoSlice};

use crate::{
    error::StoreError,
    fsck::rebuild::{FoundDisk, Survey},
    geometry::{Geometry, index},
    ledger,
    ledger_record::{DiskRecord, SlotState},
    storage::{Storage, StorageFile},
};

/// What a lost ledger is called from then on, with a number.
const ASIDE: &str = "ledger.old-";
const UNFINISHED_ASIDE: &str = "ledger.old.new";
/// Bytes copied at a time.
const STRETCH: u64 = 1 << 20;

/// Makes the ledger, and answers what the lost one is called now. Sequences begin anew: what a
/// catalog has waiting is a reset, the fourth record of its slot at the least, and the choice that
/// opens a disk is the third. So the next start finds that it was not reached, and drops it.
pub(super) fn make(storage: &dyn Storage, survey: &Survey) -> Result<Option<String>, StoreError> {
    let records: Vec<_> = survey.disks.iter().map(record).collect::<Result<_, _>>()?;
    let states: Vec<_> = records.into_iter().map(SlotState::Closed).collect();
    ledger::write_unfinished(storage, &states).map_err(StoreError::io("making the ledger"))?;
    let aside = set_aside(storage).map_err(StoreError::io("keeping the lost ledger"))?;
    ledger::put_in_place(storage).map_err(StoreError::io("putting the new ledger in place"))?;
    Ok(aside)
}

fn record(found: &FoundDisk) -> Result<DiskRecord, StoreError> {
    let impossible = || StoreError::damaged(format!("disk {}", found.disk), "an impossible size");
    Ok(DiskRecord {
        disk: found.disk.clone(),
        geometry: Geometry::checked(found.size).ok_or_else(impossible)?,
        epoch: found.epoch,
        base: found.base,
        head: found.head,
        last_reset: None,
    })
}

/// Copies what lies in the ledger's place, so that there is always something under its own name.
fn set_aside(storage: &dyn Storage) -> io::Result<Option<String>> {
    if !storage.exists(ledger::FILE)? {
        return Ok(None);
    }
    if storage.exists(UNFINISHED_ASIDE)? {
        storage.remove_file(UNFINISHED_ASIDE)?;
    }
    let (lost, copy) = (storage.open_to_read(ledger::FILE)?, storage.create(UNFINISHED_ASIDE)?);
    copy_all(&*lost, &*copy)?;
    copy.sync_data()?;
    let mut number = 1;
    while storage.exists(&format!("{ASIDE}{number}"))? {
        number += 1;
    }
    let aside = format!("{ASIDE}{number}");
    storage.rename(UNFINISHED_ASIDE, &aside)?;
    storage.sync_dir("")?;
    Ok(Some(aside))
}

fn copy_all(from: &dyn StorageFile, to: &dyn StorageFile) -> io::Result<()> {
    let (length, mut place) = (from.length()?, 0);
    while place < length {
        let mut stretch = vec![0; index(STRETCH.min(length - place))];
        from.read_exact_at(&mut stretch, place)?;
        to.write_all_at(&[IoSlice::new(&stretch)], place)?;
        place += STRETCH.min(length - place);
    }
    Ok(())
}
