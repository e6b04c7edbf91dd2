//! The ledger: which disks there are, and in which epoch on which base each of them is.
//!
//! ```text
//!  0          4096       8192              8192 + 4096
//!  | header   | header   | page A of pair 0 | page B of pair 0 | page A of pair 1 ...
//! ```
//! A slot has one record in page A and one in page B of its pair; eight slots share a pair.
//!
//! What must always hold
//! 1. A record lies in one 512-byte sector and a slot's two lie in different pages: no write can
//!    harm both. A wrong checksum is damage, never a crash; the slot is refused.
//! 2. A commit overwrites the older of the two in place and is one sync for all who wait.
//! 3. The sequence belongs to the slot and never goes back, also over delete and reuse.
//! 4. The file grows by segments of written zeros, synced before first use: a commit changes no
//!    metadata of the file system.
//! 5. After a failed write or sync it takes no further record.
//!
//! Left to others: what a disk's record should say (`disk`, `lifecycle`); at most one record of a
//! disk is under way at a time, which the disk's own lock sees to.

use std::{
    io::IoSlice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::{
    error::StoreError,
    geometry::{PAGE, index},
    histogram::Histogram,
    ledger_record::{Parsed, RECORD, Record, SlotState},
    storage::{Storage, StorageFile},
};

/// Its name in the store.
pub const FILE: &str = "ledger";
/// Its name until it is whole.
const UNFINISHED: &str = "ledger.new";
const MAGIC: &[u8; 8] = b"REINITLG";
const VERSION: u32 = 1;
const HEADER: u64 = 2 * PAGE;
const SLOTS_A_PAGE: u64 = 8;
/// Slots that are added at a time: 256 KiB of zeros.
const SEGMENT_SLOTS: u64 = 256;

/// Which place of the ledger a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(u64);

impl Slot {
    /// Its number.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "slot {}", self.0)
    }
}

/// A slot that cannot be believed, and the disk it speaks of as far as that is known.
#[derive(Clone, Debug)]
pub(crate) struct DamagedSlot {
    pub(crate) slot: Slot,
    pub(crate) disk: Option<block_device::DiskId>,
    pub(crate) detail: String,
}

/// What the ledger said when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) slots: Vec<(Slot, SlotState)>,
    pub(crate) damaged: Vec<DamagedSlot>,
}

/// The open ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: Arc<dyn StorageFile>,
    state: Mutex<LedgerState>,
    committed: Condvar,
    /// Syncs done and records written, for those who count; they order nothing.
    pub(crate) commits: AtomicU64,
    pub(crate) records: AtomicU64,
    /// Records that shared a sync.
    pub(crate) groups: Histogram,
}

#[derive(Debug, Default)]
struct LedgerState {
    /// The newest sequence of each slot; its parity tells the page of the newest record.
    sequences: Vec<u64>,
    free: Vec<Slot>,
    waiting: Vec<Record>,
    /// Tickets given out to commits, and the last one that is durable.
    asked: u64,
    durable: u64,
    leading: bool,
    failure: Option<String>,
}

impl Ledger {
    /// Makes the file of a new store: it appears under its name whole and durable.
    pub(crate) fn create(storage: &dyn Storage) -> Result<(), StoreError> {
        let made = write_unfinished(storage, &[]).and_then(|()| put_in_place(storage));
        made.map_err(StoreError::io("making the ledger"))
    }

    /// Opens the ledger and reads all of it; what is believed is what the device holds.
    pub(crate) fn open(storage: &dyn Storage) -> Result<(Self, Contents), StoreError> {
        let file = storage.open(FILE).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => StoreError::NotAStore,
            _ => StoreError::io("opening the ledger")(error),
        })?;
        let io = |verb: &str| StoreError::io(format!("{verb} the ledger"));
        check_header(&*file)?;
        file.sync_data().and_then(|()| file.drop_cache()).map_err(io("syncing"))?;
        let (mut state, contents) = read_slots(&*file)?;
        // The lowest slots are used first.
        state.free.reverse();
        let ledger = Self {
            file,
            state: Mutex::new(state),
            committed: Condvar::new(),
            commits: AtomicU64::new(0),
            records: AtomicU64::new(0),
            groups: Histogram::of_groups(),
        };
        Ok((ledger, contents))
    }

    /// Takes a free slot; the file grows if there is none.
    pub(crate) fn take_slot(&self) -> Result<Slot, StoreError> {
        let mut state = self.state.lock();
        // A failed sync of a file is told once only: no two threads sync the ledger at a time.
        while state.free.is_empty() && state.leading {
            self.committed.wait(&mut state);
        }
        if state.free.is_empty() {
            let first = crate::geometry::bytes(state.sequences.len());
            state.grow(&*self.file, first)?;
            let slots = (first..first + SEGMENT_SLOTS).rev().map(Slot);
            state.free.extend(slots);
            state.sequences.resize(index(first + SEGMENT_SLOTS), 0);
        }
        Ok(state.free.pop().expect("a segment was added"))
    }

    /// Gives a slot back whose last durable record says that it is free.
    pub(crate) fn give_back(&self, slot: Slot) {
        self.state.lock().free.push(slot);
    }

    /// The newest sequence of a slot.
    pub(crate) fn sequence(&self, slot: Slot) -> u64 {
        self.state.lock().sequences[index(slot.0)]
    }

    /// Makes the records durable, all with one sync, which commits that wait at the same time
    /// share.
    pub(crate) fn commit(&self, records: &[(Slot, SlotState)]) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.check()?;
        for (slot, record) in records {
            state.enqueue(*slot, record);
        }
        state.asked += 1;
        let mine = state.asked;
        while state.durable < mine {
            state.check()?;
            if state.leading {
                self.committed.wait(&mut state);
            } else {
                self.lead(&mut state);
            }
        }
        Ok(())
    }

    /// Writes and syncs everything that waits.
    fn lead(&self, state: &mut MutexGuard<'_, LedgerState>) {
        let batch = std::mem::take(&mut state.waiting);
        let last = state.asked;
        state.leading = true;
        let outcome = MutexGuard::unlocked(state, || self.write(&batch));
        state.leading = false;
        match outcome {
            Ok(()) => state.durable = last,
            Err(error) => {
                let reason = format!("writing it failed: {error}");
                tracing::error!(reason, "the ledger takes no further record");
                state.failure = Some(reason);
            }
        }
        self.committed.notify_all();
    }

    fn write(&self, batch: &[Record]) -> std::io::Result<()> {
        for record in batch {
            let place = place_of(record.slot, record.sequence);
            self.file.write_all_at(&[IoSlice::new(&record.encode())], place)?;
        }
        self.file.sync_data()?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        let records = crate::geometry::bytes(batch.len());
        self.records.fetch_add(records, Ordering::Relaxed);
        self.groups.observe(records);
        Ok(())
    }
}

impl LedgerState {
    fn check(&self) -> Result<(), StoreError> {
        self.failure.as_ref().map_or(Ok(()), |why| Err(StoreError::LedgerFailed(why.clone())))
    }

    /// Adds a segment. A failed sync ends the ledger: records written earlier may be lost with it.
    fn grow(&mut self, file: &dyn StorageFile, first_slot: u64) -> Result<(), StoreError> {
        self.check()?;
        let io = || StoreError::io("growing the ledger");
        write_segment(file, first_slot).map_err(io())?;
        file.sync_data().map_err(|error| {
            self.failure = Some(format!("syncing a new segment failed: {error}"));
            io()(error)
        })
    }

    /// Puts a record over the slot's older one. A slot's first record is written to both places,
    /// so that from then on an empty place is damage.
    fn enqueue(&mut self, slot: Slot, record: &SlotState) {
        let sequence = &mut self.sequences[index(slot.0)];
        let copies = if *sequence == 0 { 2 } else { 1 };
        for _ in 0..copies {
            *sequence += 1;
            let (sequence, state) = (*sequence, record.clone());
            self.waiting.push(Record { slot: slot.0, sequence, state });
        }
    }

    fn take(&mut self, slot: Slot, judged: Judged, contents: &mut Contents) {
        let mut sequence = 0;
        match judged {
            Judged::NeverUsed => self.free.push(slot),
            Judged::Says(record) => {
                sequence = record.sequence;
                match record.state {
                    SlotState::Free => self.free.push(slot),
                    state => contents.slots.push((slot, state)),
                }
            }
            Judged::Damaged { disk, detail } => {
                contents.damaged.push(DamagedSlot { slot, disk, detail });
            }
        }
        self.sequences.push(sequence);
    }
}

/// Makes a ledger of these states under a temporary name, whole and durable.
pub(crate) fn write_unfinished(storage: &dyn Storage, states: &[SlotState]) -> std::io::Result<()> {
    if storage.exists(UNFINISHED)? {
        storage.remove_file(UNFINISHED)?;
    }
    let file = storage.create(UNFINISHED)?;
    avoid_copy_on_write(&*file);
    let page = encode_header();
    file.write_all_at(&[IoSlice::new(&page), IoSlice::new(&page)], 0)?;
    let slots = crate::geometry::bytes(states.len());
    for segment in 0..slots.div_ceil(SEGMENT_SLOTS).max(1) {
        write_segment(&*file, segment * SEGMENT_SLOTS)?;
    }
    for (slot, state) in (0..).zip(states) {
        // A slot's first record is written to both places.
        for sequence in [1, 2] {
            let record = Record { slot, sequence, state: state.clone() };
            file.write_all_at(&[IoSlice::new(&record.encode())], place_of(slot, sequence))?;
        }
    }
    file.sync_data()
}

/// Gives what was made under the temporary name its own, in one step.
pub(crate) fn put_in_place(storage: &dyn Storage) -> std::io::Result<()> {
    storage.rename(UNFINISHED, FILE)?;
    storage.sync_dir("")
}

/// What the file says of every slot.
fn read_slots(file: &dyn StorageFile) -> Result<(LedgerState, Contents), StoreError> {
    let io = |verb: &str| StoreError::io(format!("{verb} the ledger"));
    let pairs = (file.length().map_err(io("measuring"))?.saturating_sub(HEADER)) / (2 * PAGE);
    let (mut state, mut contents) = (LedgerState::default(), Contents::default());
    for pair in 0..pairs {
        let mut pages = vec![0; index(2 * PAGE)];
        file.read_exact_at(&mut pages, HEADER + pair * 2 * PAGE).map_err(io("reading"))?;
        let (page_a, page_b) = pages.split_at(index(PAGE));
        let (sectors_a, _) = page_a.as_chunks::<RECORD>();
        let (sectors_b, _) = page_b.as_chunks::<RECORD>();
        for (a, b) in sectors_a.iter().zip(sectors_b) {
            let slot = crate::geometry::bytes(state.sequences.len());
            let judged = judge(Record::parse(a, slot), Record::parse(b, slot))?;
            state.take(Slot(slot), judged, &mut contents);
        }
    }
    Ok((state, contents))
}

/// What a check reads of the ledger.
pub(crate) struct Inspected {
    pub(crate) contents: Contents,
    /// How many of the two headers cannot be believed; one at most.
    pub(crate) broken_headers: usize,
    /// Whether it ends inside a segment.
    pub(crate) is_cut: bool,
}

/// Reads the ledger as it is, and neither syncs it nor drops it from the cache.
pub(crate) fn inspect(storage: &dyn Storage) -> Result<Inspected, StoreError> {
    let file = storage.open_to_read(FILE).map_err(StoreError::io("opening the ledger"))?;
    check_header(&*file)?;
    let io = |verb: &str| StoreError::io(format!("{verb} the ledger"));
    let mut pages = [0; index(HEADER)];
    file.read_exact_at(&mut pages, 0).map_err(io("reading"))?;
    let (copies, _) = pages.as_chunks::<4096>();
    let broken_headers = copies.iter().filter(|page| !is_header(page)).count();
    let length = file.length().map_err(io("measuring"))?;
    let is_cut = !(length - HEADER).is_multiple_of(SEGMENT_SLOTS / SLOTS_A_PAGE * 2 * PAGE);
    let (_, contents) = read_slots(&*file)?;
    Ok(Inspected { contents, broken_headers, is_cut })
}

pub(crate) fn is_header(page: &[u8; 4096]) -> bool {
    page[..8] == *MAGIC && crc32c::crc32c(&page[..4092]).to_le_bytes() == page[4092..]
}

enum Judged {
    NeverUsed,
    Says(Record),
    Damaged { disk: Option<block_device::DiskId>, detail: String },
}

/// Which of a slot's two records counts.
fn judge(a: Parsed, b: Parsed) -> Result<Judged, StoreError> {
    let unknown = |version| StoreError::UnknownFormat {
        what: "the ledger".into(),
        detail: format!("record version {version} is not known, only 1"),
    };
    Ok(match (a, b) {
        (Parsed::Unknown(version), _) | (_, Parsed::Unknown(version)) => {
            return Err(unknown(version));
        }
        (Parsed::Zeros, Parsed::Zeros) => Judged::NeverUsed,
        (Parsed::Record(a), Parsed::Record(b)) if are_a_pair(&a, &b) => {
            Judged::Says(if a.sequence > b.sequence { *a } else { *b })
        }
        (Parsed::Record(a), Parsed::Record(_)) => damaged(Some(&a), "its two records do not fit"),
        // The first record of a slot goes to both places before anything else happens.
        (Parsed::Record(only), Parsed::Zeros) => alone(*only, 1),
        (Parsed::Zeros, Parsed::Record(only)) => alone(*only, 2),
        (Parsed::Record(other), Parsed::Damaged(detail))
        | (Parsed::Damaged(detail), Parsed::Record(other)) => damaged(Some(&other), detail),
        (Parsed::Damaged(detail), _) | (_, Parsed::Damaged(detail)) => damaged(None, detail),
    })
}

/// Follows one another, each in its page: else the next commit would go over the newer one. There must be a next one.
pub(crate) fn are_a_pair(a: &Record, b: &Record) -> bool {
    let newest = a.sequence.max(b.sequence);
    a.sequence.abs_diff(b.sequence) == 1 && a.sequence % 2 == 1 && newest < u64::MAX
}

/// A record whose other place was never written: all is well only if it is the slot's first in this place.
fn alone(record: Record, first: u64) -> Judged {
    match &record.state {
        SlotState::Creating(_) if record.sequence == first => Judged::Says(record),
        _ => damaged(Some(&record), "one of its two records is gone"),
    }
}

fn damaged(other: Option<&Record>, detail: &str) -> Judged {
    let disk = other.and_then(|record| record.state.record()).map(|record| record.disk.clone());
    Judged::Damaged { disk, detail: detail.into() }
}

/// Where the record of this sequence goes: odd ones to page A, even ones to page B.
pub(crate) fn place_of(slot: u64, sequence: u64) -> u64 {
    let page = 2 * (slot / SLOTS_A_PAGE) + (sequence + 1) % 2;
    HEADER + page * PAGE + (slot % SLOTS_A_PAGE) * 512
}

/// Writes zeros for more slots; they are synced before first use, so that commits only overwrite.
fn write_segment(file: &dyn StorageFile, first_slot: u64) -> std::io::Result<()> {
    let zeros = vec![0; index(SEGMENT_SLOTS / SLOTS_A_PAGE * 2 * PAGE)];
    let place = HEADER + first_slot / SLOTS_A_PAGE * 2 * PAGE;
    file.write_all_at(&[IoSlice::new(&zeros)], place)
}

/// Asks a copy-on-write file system to overwrite this file in place; others refuse, which is fine.
fn avoid_copy_on_write(file: &dyn StorageFile) {
    if let Ok(flags) = ioctl_getflags(file.file()) {
        let _ = ioctl_setflags(file.file(), flags | IFlags::NOCOW);
    }
}

fn encode_header() -> [u8; 4096] {
    let mut page = [0; 4096];
    page[..8].copy_from_slice(MAGIC);
    page[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32c::crc32c(&page[..4092]);
    page[4092..].copy_from_slice(&crc.to_le_bytes());
    page
}

/// Both copies of the header never change; one that is right is enough.
fn check_header(file: &dyn StorageFile) -> Result<(), StoreError> {
    let mut pages = [0; 8192];
    file.read_exact_at(&mut pages, 0).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            StoreError::damaged("the ledger", "it is shorter than its header")
        }
        _ => StoreError::io("reading the ledger")(error),
    })?;
    let (copies, _) = pages.as_chunks::<4096>();
    let good = copies.iter().find(|page| is_header(page));
    let Some(page) = good else {
        return Err(StoreError::damaged("the ledger", "no valid copy of its header"));
    };
    let version = u32::from_le_bytes(page[8..12].try_into().expect("4 bytes"));
    // Bytes 12..16 are required features; none exist yet.
    let features = u32::from_le_bytes(page[12..16].try_into().expect("4 bytes"));
    if (version, features) == (VERSION, 0) {
        return Ok(());
    }
    let detail = format!("version {version} with features {features:#x} is not known here");
    Err(StoreError::UnknownFormat { what: "the ledger".into(), detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64) -> Parsed {
        Parsed::Record(Box::new(Record { slot: 0, sequence, state: SlotState::Free }))
    }

    #[test]
    fn records_in_each_others_page_are_damage() {
        let says = |a, b| match judge(record(a), record(b)).unwrap() {
            Judged::Says(record) => Some(record.sequence),
            Judged::NeverUsed | Judged::Damaged { .. } => None,
        };
        assert_eq!((says(3, 2), says(3, 4)), (Some(3), Some(4)));
        // The next commit would go over the newer one.
        assert_eq!((says(2, 3), says(4, 3)), (None, None));
        // There would be no next sequence.
        assert_eq!(says(u64::MAX, u64::MAX - 1), None);
    }
}
