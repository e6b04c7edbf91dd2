//! The file of the audit log: whole lines, appended, rotated by size.
//!
//!   audit.jsonl      the present file
//!   audit.jsonl.1    the one before, and so on up to the number that is kept
//!
//! What must always hold
//! 1. A line is whole or not there: what a failed write left is cut off before the next line, and what
//!    a killed process left at the next start.
//! 2. Nothing here fails a request. A line that cannot be written is counted, and told in the log when
//!    lines begin to be lost and when they no longer are.
//! 3. The files are their owner's alone (0600), and take the size times one more than are kept at most.
//!
//! A line is with the kernel when its request is answered, so that it outlives the process; it is not
//! synced: the receipt that outlives a power cut is the ledger's.
//! Left to others: what a line says (`audit`).

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::metering::Metering;

/// Where the audit log is, and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPlace {
    /// The present file; older ones lie beside it.
    pub path: PathBuf,
    /// Above this many bytes a new file is begun.
    pub file_bytes: u64,
    /// How many older files are kept.
    pub files_kept: u32,
}

/// The open audit log.
#[derive(Debug)]
pub(crate) struct AuditLog {
    state: Mutex<State>,
    metering: Metering,
}

#[derive(Debug)]
struct State {
    place: AuditPlace,
    file: File,
    /// The end of the last whole line.
    length: u64,
    /// Something may lie behind that.
    is_torn: bool,
    /// The last line was lost, which was told.
    is_failing: bool,
    /// The last rotation failed, which was told.
    is_stuck: bool,
}

impl AuditLog {
    /// Goes on with the file, or makes it.
    pub(crate) fn open(place: AuditPlace, metering: Metering) -> io::Result<Self> {
        let file = open(&place.path)?;
        let length = end_of_lines(&file)?;
        file.set_len(length)?;
        remove_from(&place, place.files_kept + 1)?;
        let (is_torn, is_failing, is_stuck) = (false, false, false);
        let state = State { place, file, length, is_torn, is_failing, is_stuck };
        Ok(Self { state: Mutex::new(state), metering })
    }

    /// Appends one line, which comes without its end.
    pub(crate) fn append(&self, line: String) {
        let mut bytes = line.into_bytes();
        bytes.push(b'\n');
        // A panic under the lock leaves the length before the line, so that the line is cut off.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rotate_if_full(&bytes);
        match state.write(&bytes) {
            Ok(()) => self.metering.audited(),
            Err(_) => self.metering.audit_lost(),
        }
    }
}

impl State {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.try_write(line);
        match &written {
            Ok(()) if self.is_failing => {
                tracing::warn!("the audit log can be written again; lines before this were lost");
            }
            Err(error) if !self.is_failing => {
                tracing::error!(%error, path = %self.place.path.display(), "the audit log cannot be written; requests go on without it");
            }
            Ok(()) | Err(_) => {}
        }
        self.is_failing = written.is_err();
        written
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.length)?;
        }
        self.is_torn = true;
        self.file.write_all_at(line, self.length)?;
        self.is_torn = false;
        self.length += to_u64(line.len());
        Ok(())
    }

    /// Where no new file can be begun, the present one goes on beyond its size.
    fn rotate_if_full(&mut self, line: &[u8]) {
        if self.length == 0 || self.length + to_u64(line.len()) <= self.place.file_bytes {
            return;
        }
        let rotated = self.rotate();
        if let Err(error) = &rotated
            && !self.is_stuck
        {
            tracing::error!(%error, path = %self.place.path.display(), "no new file of the audit log can be begun");
        }
        self.is_stuck = rotated.is_err();
    }

    /// From the oldest on, so that a crash in between loses none; a gap it left is filled first.
    fn rotate(&mut self) -> io::Result<()> {
        // What a failed write left would otherwise stay at the end of the older file.
        self.file.set_len(self.length)?;
        let place = &self.place;
        let gap = (1..place.files_kept).find(|n| !place.older(*n).exists());
        for n in (1..gap.unwrap_or(place.files_kept)).rev() {
            fs::rename(place.older(n), place.older(n + 1))?;
        }
        match fs::rename(&place.path, place.older(1)) {
            Ok(()) => {}
            // An earlier try came this far.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.file = open(&place.path)?;
        (self.length, self.is_torn) = (0, false);
        Ok(())
    }
}

impl AuditPlace {
    /// The name of the `n`th older file.
    fn older(&self, n: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{n}"));
        name.into()
    }
}

/// Files beyond the number that is kept, which was larger before.
fn remove_from(place: &AuditPlace, first: u32) -> io::Result<()> {
    let there = (first..).map(|n| place.older(n)).take_while(|path| path.exists());
    there.into_iter().try_for_each(fs::remove_file)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    // One that was there may have come from a copy that others could read.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Where the last whole line ends.
fn end_of_lines(file: &File) -> io::Result<u64> {
    const STEP: usize = 64 * 1024;
    let mut end = file.metadata()?.len();
    let mut chunk = [0; STEP];
    while end > 0 {
        let length = STEP.min(usize::try_from(end).unwrap_or(STEP));
        let begin = end - to_u64(length);
        file.read_exact_at(&mut chunk[..length], begin)?;
        if let Some(place) = chunk[..length].iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + to_u64(place) + 1);
        }
        end = begin;
    }
    Ok(0)
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).expect("64 bits are enough for what is in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(directory: &Path, file_bytes: u64, files_kept: u32) -> AuditPlace {
        AuditPlace { path: directory.join("audit.jsonl"), file_bytes, files_kept }
    }

    fn log(place: &AuditPlace) -> AuditLog {
        AuditLog::open(place.clone(), Metering::new()).unwrap()
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn lines_are_appended_over_a_restart_and_are_the_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path(), 1000, 2);
        log(&place).append("one".into());
        fs::set_permissions(&place.path, Permissions::from_mode(0o644)).unwrap();
        log(&place).append("two".into());
        assert_eq!(read(&place.path), "one\ntwo\n");
        assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_torn_last_line_is_cut_off_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path(), 1 << 20, 2);
        let torn = "x".repeat(100_000);
        for (left, kept) in [(format!("one\n{torn}"), "one\n"), (torn.clone(), "")] {
            fs::write(&place.path, left).unwrap();
            log(&place).append("two".into());
            assert_eq!(read(&place.path), format!("{kept}two\n"));
        }
    }

    #[test]
    fn full_files_move_on_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path(), 8, 2);
        let log = log(&place);
        for line in ["1", "2", "3", "4", "5", "6", "7", "8", "9"] {
            log.append(line.repeat(3));
        }
        assert_eq!(read(&place.path), "999\n");
        assert_eq!(read(&place.older(1)), "777\n888\n");
        assert_eq!(read(&place.older(2)), "555\n666\n");
        assert!(!place.older(3).exists());
        // A line longer than a file still gets one.
        log.append("long ".repeat(9));
        assert_eq!(read(&place.path).lines().count(), 1);
    }

    #[test]
    fn a_gap_that_a_crash_left_is_filled_and_fewer_kept_are_fewer() {
        let directory = tempfile::tempdir().unwrap();
        let mut place = place(directory.path(), 4, 4);
        let log_of_four = log(&place);
        for line in ["111", "222", "333"] {
            log_of_four.append(line.into());
        }
        // A rotation that was cut short: the second moved on, the first not yet.
        fs::rename(place.older(2), place.older(3)).unwrap();
        log_of_four.append("444".into());
        let older = [1, 2, 3].map(|n| read(&place.older(n)));
        assert_eq!(older, ["333\n", "222\n", "111\n"]);
        place.files_kept = 1;
        drop(log(&place));
        assert!(place.older(1).exists() && !place.older(2).exists() && !place.older(3).exists());
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_later_ones_are_whole() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path(), 1 << 20, 2);
        let metering = Metering::new();
        let log = AuditLog::open(place.clone(), metering.clone()).unwrap();
        log.append("before".into());
        let good = log.state.lock().unwrap().file.try_clone().unwrap();
        // Every write to this device fails as on a full disk.
        log.state.lock().unwrap().file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        log.append("lost".into());
        log.append("lost".into());
        assert!(metering.render().contains("reinit_audit_lost_total 2"), "{}", metering.render());
        // What a write left that was cut short by the full disk.
        good.write_all_at(b"{\"torn", 7).unwrap();
        log.state.lock().unwrap().file = good;
        log.append("x".into());
        assert_eq!(read(&place.path), "before\nx\n");
        assert!(metering.render().contains("reinit_audit_lines_total 2"));
    }

    #[test]
    fn where_no_file_can_be_begun_the_present_one_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path(), 4, 1);
        // A directory in the way of the older file.
        fs::create_dir_all(place.older(1).join("in the way")).unwrap();
        let log = log(&place);
        log.append("one".into());
        log.append("two".into());
        assert_eq!(read(&place.path), "one\ntwo\n");
        fs::remove_dir_all(place.older(1)).unwrap();
        log.append("three".into());
        assert_eq!(
            (read(&place.older(1)), read(&place.path)),
            ("one\ntwo\n".into(), "three\n".into())
        );
    }
}
