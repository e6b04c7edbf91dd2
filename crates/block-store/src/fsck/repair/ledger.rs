//! The ledger's broken header, and a record of it of which one bit flipped.
//!
//! Of a slot with one broken record it cannot be known which of the two was the newer: the good one
//! may be the one before a reset, and to take it for the newest would serve what was reset away. So
//! the good one proves nothing of the other. The broken bytes themselves can: if exactly one of
//! their bits, turned back, makes a record of this slot with a right checksum, in its page, next to
//! the other in sequence, then that is what was written there. (Any other record differs from it in
//! more bits than the checksum lets pass; bytes that are not a record come that close with a chance
//! of one in millions, and then still have to fit in all these fields.)
//!
//! What must always hold: the good record is never written over.

use std::io::IoSlice;

use crate::{
    error::StoreError,
    fsck::{Seen, finding::FindingKind},
    geometry::{PAGE, index},
    ledger::{self, Slot},
    ledger_record::{Parsed, RECORD, Record},
    storage::{Storage, StorageFile},
};

use super::Step;

pub(super) fn plan(storage: &dyn Storage, seen: &Seen) -> Result<Vec<Step>, StoreError> {
    let (Some(contents), mut steps) = (&seen.contents, Vec::new()) else { return Ok(Vec::new()) };
    let file = storage.open_to_read(ledger::FILE).map_err(StoreError::io("opening the ledger"))?;
    if seen.findings.found.iter().any(|found| found.kind == FindingKind::LedgerHeaderCopy) {
        steps.push(Step::LedgerHeader);
    }
    for damage in &contents.damaged {
        if mended_record(&*file, damage.slot)?.is_some() {
            steps.push(Step::LedgerRecord { slot: damage.slot });
        }
    }
    Ok(steps)
}

/// The ledger as the device holds it, for changes.
fn open(storage: &dyn Storage) -> Result<std::sync::Arc<dyn StorageFile>, StoreError> {
    let file = storage.open(ledger::FILE).map_err(StoreError::io("opening the ledger"))?;
    settle(&*file)?;
    Ok(file)
}

fn settle(file: &dyn StorageFile) -> Result<(), StoreError> {
    let settled = file.sync_data().and_then(|()| file.drop_cache());
    settled.map_err(StoreError::io("syncing the ledger"))
}

/// Writes the broken copy of the header anew.
pub(super) fn mend_header(storage: &dyn Storage) -> Result<(), StoreError> {
    let file = open(storage)?;
    let changed = || StoreError::damaged("the ledger", "the device holds something else");
    let (good, place) = lone_header(&*file)?.ok_or_else(changed)?;
    file.write_all_at(&[IoSlice::new(&good)], place)
        .map_err(StoreError::io("writing the ledger's header"))?;
    settle(&*file)?;
    match headers(&*file)?.iter().all(ledger::is_header) {
        true => Ok(()),
        false => Err(changed()),
    }
}

fn headers(file: &dyn StorageFile) -> Result<[[u8; 4096]; 2], StoreError> {
    let mut pages = [[0; index(PAGE)]; 2];
    for (page, place) in pages.iter_mut().zip([0, PAGE]) {
        file.read_exact_at(page, place).map_err(StoreError::io("reading the ledger's header"))?;
    }
    Ok(pages)
}

/// The one good header, and where the other should be.
fn lone_header(file: &dyn StorageFile) -> Result<Option<([u8; 4096], u64)>, StoreError> {
    let [first, second] = headers(file)?;
    Ok(match (ledger::is_header(&first), ledger::is_header(&second)) {
        (true, false) => Some((first, PAGE)),
        (false, true) => Some((second, 0)),
        (true, true) | (false, false) => None,
    })
}

/// Turns the flipped bit of a slot's broken record back.
pub(super) fn mend_record(storage: &dyn Storage, slot: Slot) -> Result<(), StoreError> {
    let file = open(storage)?;
    let changed =
        || StoreError::damaged(format!("ledger {slot}"), "the device holds something else");
    let (place, record) = mended_record(&*file, slot)?.ok_or_else(changed)?;
    file.write_all_at(&[IoSlice::new(&record)], place)
        .map_err(StoreError::io(format!("writing ledger {slot}")))?;
    settle(&*file)?;
    let [a, b] = records(&*file, slot)?.map(|(_, bytes)| Record::parse(&bytes, slot.number()));
    match (a, b) {
        (Parsed::Record(a), Parsed::Record(b)) if ledger::are_a_pair(&a, &b) => Ok(()),
        _ => Err(changed()),
    }
}

/// The two records of a slot and where each lies, page A first.
fn records(file: &dyn StorageFile, slot: Slot) -> Result<[(u64, [u8; RECORD]); 2], StoreError> {
    let mut records =
        [1, 2].map(|sequence| (ledger::place_of(slot.number(), sequence), [0; RECORD]));
    for (place, bytes) in &mut records {
        file.read_exact_at(bytes, *place)
            .map_err(StoreError::io(format!("reading ledger {slot}")))?;
    }
    Ok(records)
}

/// What the broken record of a slot was, and where it lies, if that is proved.
fn mended_record(
    file: &dyn StorageFile,
    slot: Slot,
) -> Result<Option<(u64, [u8; RECORD])>, StoreError> {
    let [(place_a, a), (place_b, b)] = records(file, slot)?;
    let parse = |bytes: &[u8; RECORD]| Record::parse(bytes, slot.number());
    Ok(match (parse(&a), parse(&b)) {
        (Parsed::Record(good), Parsed::Damaged(_)) => {
            mended(&b, slot, |record| ledger::are_a_pair(&good, record)).map(|b| (place_b, b))
        }
        (Parsed::Damaged(_), Parsed::Record(good)) => {
            mended(&a, slot, |record| ledger::are_a_pair(record, &good)).map(|a| (place_a, a))
        }
        _ => None,
    })
}

/// The bytes with the one bit turned that makes them a record that fits.
fn mended(
    bytes: &[u8; RECORD],
    slot: Slot,
    fits: impl Fn(&Record) -> bool,
) -> Option<[u8; RECORD]> {
    let turned = (0..RECORD * 8).map(|bit| {
        let mut turned = *bytes;
        turned[bit / 8] ^= 1 << (bit % 8);
        turned
    });
    let mut fitting = turned.filter(|turned| match Record::parse(turned, slot.number()) {
        Parsed::Record(record) => fits(&record),
        Parsed::Zeros | Parsed::Damaged(_) | Parsed::Unknown(_) => false,
    });
    let found = fitting.next()?;
    fitting.next().is_none().then_some(found)
}
