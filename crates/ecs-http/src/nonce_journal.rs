//! Nonces on disk, so that a restart of the daemon forgets none.
//!
//! Two files, written in turn: when everything in the older one may be forgotten it becomes the new one.
//!
//!   0            64
//!   | boot id    | records of 28 bytes: minute u32, key u64, nonce u128, little endian ... |
//!
//! What must always hold
//! 1. A record is written before its request is let through. It is not synced: a killed process loses
//!    nothing that was written, a crashed machine may.
//! 2. So a journal counts only if it says that it is of this boot of the machine and whole. When a
//!    record cannot be written the header says so from then on, and requests go on: a full disk must
//!    not stop resets.
//!
//! Left to others: what follows from a journal that does not count (`nonce`).

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use jiff::Timestamp;

use crate::nonce::minute_of;

const HEADER_BYTES: usize = 64;
const RECORD_BYTES: usize = 28;
const NAMES: [&str; 2] = ["nonces.0", "nonces.1"];
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// One nonce that was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The minute in which it may be forgotten.
    pub(crate) minute: u32,
    /// The digest of its access key.
    pub(crate) key: u64,
    /// The digest of access key and nonce.
    pub(crate) nonce: u128,
}

/// The two files.
#[derive(Debug)]
pub(crate) struct Journal {
    current: Half,
    other: Half,
    /// A record is missing.
    incomplete: bool,
}

#[derive(Debug)]
struct Half {
    file: File,
    length: u64,
    /// The latest minute of its records.
    newest: u32,
}

impl Journal {
    /// Opens both, and reads what they hold; none if that may not be all.
    pub(crate) fn open(directory: &Path) -> io::Result<(Self, Option<Vec<Entry>>)> {
        let mut entries = Vec::new();
        let (first, first_counts) = Half::open(&directory.join(NAMES[0]), &mut entries)?;
        let (second, second_counts) = Half::open(&directory.join(NAMES[1]), &mut entries)?;
        let (current, other) =
            if first.newest >= second.newest { (first, second) } else { (second, first) };
        let mut journal = Self { current, other, incomplete: false };
        if first_counts && second_counts {
            return Ok((journal, Some(entries)));
        }
        journal.current.restart()?;
        journal.other.restart()?;
        Ok((journal, None))
    }

    /// Writes one record.
    pub(crate) fn append(&mut self, entry: &Entry, now: Timestamp) {
        if self.incomplete {
            return;
        }
        if let Err(error) = self.try_append(entry, now) {
            self.incomplete = true;
            tracing::warn!(%error, "used nonces are no longer written down: after the next start, requests signed before it are refused");
            let marked = [&self.current, &self.other].map(|half| half.mark_incomplete());
            if let Some(error) = marked.into_iter().find_map(Result::err) {
                tracing::error!(%error, "the journal of nonces could not be marked as incomplete");
            }
        }
    }

    fn try_append(&mut self, entry: &Entry, now: Timestamp) -> io::Result<()> {
        let other_is_over = self.other.newest <= minute_of(now.as_second());
        if other_is_over && self.current.length > to_u64(HEADER_BYTES) {
            self.other.restart()?;
            std::mem::swap(&mut self.current, &mut self.other);
        }
        self.current.append(entry)
    }
}

impl Half {
    fn open(path: &Path, entries: &mut Vec<Entry>) -> io::Result<(Self, bool)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut half = Self { file, length: 0, newest: 0 };
        if bytes.is_empty() {
            half.restart()?;
            return Ok((half, true));
        }
        let Some((header, records)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Ok((half, false));
        };
        let records = records.chunks_exact(RECORD_BYTES).map(decode);
        half.length = to_u64(HEADER_BYTES) + to_u64(records.len() * RECORD_BYTES);
        for entry in records {
            half.newest = half.newest.max(entry.minute);
            entries.push(entry);
        }
        Ok((half, header == this_boot()?))
    }

    /// Empties it.
    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(&this_boot()?, 0)?;
        self.length = to_u64(HEADER_BYTES);
        self.newest = 0;
        Ok(())
    }

    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        self.file.write_all_at(&encode(entry), self.length)?;
        self.length += to_u64(RECORD_BYTES);
        self.newest = self.newest.max(entry.minute);
        Ok(())
    }

    /// Overwrites what is there already, which needs no space.
    fn mark_incomplete(&self) -> io::Result<()> {
        self.file.write_all_at(&[0; HEADER_BYTES], 0)
    }
}

fn this_boot() -> io::Result<[u8; HEADER_BYTES]> {
    let id = std::fs::read(BOOT_ID)?;
    let mut header = [b' '; HEADER_BYTES];
    let length = id.len().min(HEADER_BYTES);
    header[..length].copy_from_slice(&id[..length]);
    Ok(header)
}

fn encode(entry: &Entry) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..4].copy_from_slice(&entry.minute.to_le_bytes());
    bytes[4..12].copy_from_slice(&entry.key.to_le_bytes());
    bytes[12..].copy_from_slice(&entry.nonce.to_le_bytes());
    bytes
}

/// Any 28 bytes are a record: a wrong one could only refuse a nonce nobody uses.
fn decode(bytes: &[u8]) -> Entry {
    let part = "a record has 28 bytes";
    Entry {
        minute: u32::from_le_bytes(bytes[..4].try_into().expect(part)),
        key: u64::from_le_bytes(bytes[4..12].try_into().expect(part)),
        nonce: u128::from_le_bytes(bytes[12..RECORD_BYTES].try_into().expect(part)),
    }
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length fits 64 bits")
}

#[cfg(test)]
pub(crate) fn pretend_another_boot(directory: &Path) {
    for name in NAMES {
        let file = OpenOptions::new().write(true).open(directory.join(name)).unwrap();
        file.write_all_at(b"another-boot", 0).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u32) -> Timestamp {
        Timestamp::from_second(i64::from(minute) * 60).unwrap()
    }

    fn entry(minute: u32, nonce: u128) -> Entry {
        Entry { minute, key: 7, nonce }
    }

    fn kept(directory: &Path) -> Option<Vec<Entry>> {
        Journal::open(directory).unwrap().1
    }

    #[test]
    fn the_files_stay_bounded_and_hold_all_that_counts() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path()).unwrap();
        for minute in 1_000..2_000 {
            journal.append(&entry(minute + 16, minute.into()), at(minute));
        }
        drop(journal);
        let kept = kept(directory.path()).unwrap();
        assert!(kept.len() < 50, "{} records", kept.len());
        for minute in 1_984..2_000_u32 {
            assert!(kept.contains(&entry(minute + 16, minute.into())), "{minute} is missing");
        }
    }

    #[test]
    fn a_torn_last_record_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path()).unwrap();
        for nonce in [1, 2, 3] {
            journal.append(&entry(20, nonce), at(1));
        }
        for name in NAMES {
            let file = OpenOptions::new().write(true).open(directory.path().join(name)).unwrap();
            file.set_len(file.metadata().unwrap().len() - 3).unwrap();
        }
        // The first file held one record, the second two.
        assert_eq!(kept(directory.path()), Some(vec![entry(20, 2)]));
    }

    #[test]
    fn a_journal_marked_incomplete_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path()).unwrap();
        journal.append(&entry(20, 1), at(1));
        journal.current.mark_incomplete().unwrap();
        drop(journal);
        assert_eq!(kept(directory.path()), None);
        assert_eq!(kept(directory.path()), Some(vec![]), "it starts anew");
    }
}
