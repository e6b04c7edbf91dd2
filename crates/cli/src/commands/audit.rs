//! `audit`: who did what, read from the files of the audit log, oldest first.
//!
//! The files are read as they lie in the store, not asked of the daemon: they are wanted most when there is none.
//!
//! What must always hold: no line is shown twice or half; one that cannot be read is counted, never an end.
//! Left to others: what a line says and when it is written (`ecs-http`).

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    args::{AuditArgs, Common},
    daemon,
    failure::Failure,
    output::{self, Report},
    places::Places,
};

/// How often new lines are looked for.
const POLL: Duration = Duration::from_millis(200);

/// What is gathered before it is printed.
const AT_ONCE: usize = 64 * 1024;

pub(crate) fn run(places: &Places, common: &Common, args: &AuditArgs) -> Result<Report, Failure> {
    if !places.store().join("ledger").exists() {
        return Err(daemon::no_store(places));
    }
    let mut files = open_all(places).context("opening the audit log")?;
    let mut shown = Shown::new(common, args.follow);
    for file in &mut files {
        file.each_line(&mut |line| shown.line(line)).context("reading the audit log")?;
    }
    shown.flush();
    if args.follow {
        let last = files.pop();
        follow(places, last, &mut shown).context("following the audit log")?;
    }
    shown.end();
    Ok(Report::done(Value::Null, Vec::new(), ""))
}

/// A file of the log, and what of its last line is there yet.
struct LogFile {
    reader: BufReader<File>,
    inode: u64,
    begun: Vec<u8>,
}

impl LogFile {
    /// None where there is no such file.
    fn open(path: &PathBuf) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                Ok(Some(Self { reader: BufReader::new(file), inode, begun: Vec::new() }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every whole line that is there and was not seen yet.
    fn each_line(&mut self, see: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        while self.reader.read_until(b'\n', &mut self.begun)? > 0 {
            if self.begun.last() == Some(&b'\n') {
                see(&self.begun[..self.begun.len() - 1]);
                self.begun.clear();
            }
        }
        Ok(())
    }
}

/// The oldest first. They are opened the other way round: one that moves on meanwhile is then met twice, which shows,
/// rather than not at all.
fn open_all(places: &Places) -> io::Result<Vec<LogFile>> {
    let present = places.audit_log();
    let mut seen = HashSet::new();
    let mut files = Vec::new();
    for n in 0_u32.. {
        let path = match n {
            0 => present.clone(),
            n => PathBuf::from(format!("{}.{n}", present.display())),
        };
        match LogFile::open(&path)? {
            Some(file) if seen.insert(file.inode) => files.push(file),
            Some(_) => {}
            // A crash in the middle of moving files on leaves one gap.
            None if n > 0
                && !PathBuf::from(format!("{}.{}", present.display(), n + 1)).exists() =>
            {
                break;
            }
            None => {}
        }
    }
    files.reverse();
    Ok(files)
}

/// Shows what is appended, until the process is ended.
fn follow(places: &Places, last: Option<LogFile>, shown: &mut Shown<'_>) -> io::Result<()> {
    let path = places.audit_log();
    let mut file = last;
    loop {
        let inode = fs::metadata(&path).ok().map(|present| present.ino());
        // What is read after the look is all of a file that has moved on.
        if let Some(file) = &mut file {
            file.each_line(&mut |line| shown.line(line))?;
        }
        shown.flush();
        if inode.is_some() && inode != file.as_ref().map(|file| file.inode) {
            file = LogFile::open(&path)?;
        } else {
            thread::sleep(POLL);
        }
    }
}

/// What is printed, and in which form.
struct Shown<'c> {
    common: &'c Common,
    as_lines: bool,
    gathered: String,
    lines: u64,
    unreadable: u64,
}

impl<'c> Shown<'c> {
    fn new(common: &'c Common, as_lines: bool) -> Self {
        let gathered = if common.json && !as_lines { "{\"Entries\":[" } else { "" };
        Self { common, as_lines, gathered: gathered.into(), lines: 0, unreadable: 0 }
    }

    fn line(&mut self, bytes: &[u8]) {
        let Some((text, entry)) = read(bytes) else {
            self.unreadable += 1;
            return;
        };
        if self.common.json {
            let apart = if self.lines > 0 && !self.as_lines { "," } else { "" };
            self.gathered.push_str(apart);
            self.gathered.push_str(text);
        } else if self.common.quiet {
            self.gathered.push_str(entry["RequestId"].as_str().unwrap_or_default());
        } else {
            self.gathered.push_str(&in_words(&entry));
        }
        if self.as_lines || !self.common.json {
            self.gathered.push('\n');
        }
        self.lines += 1;
        if self.gathered.len() >= AT_ONCE {
            self.flush();
        }
    }

    fn flush(&mut self) {
        output::bytes(std::mem::take(&mut self.gathered).as_bytes());
    }

    fn end(&mut self) {
        if self.common.json && !self.as_lines {
            self.gathered.push_str("]}\n");
        }
        self.flush();
        if self.unreadable > 0 {
            output::note(&format!(
                "reinit: {} lines of the audit log cannot be read, as a power cut may leave them",
                self.unreadable
            ));
        }
    }
}

fn read(bytes: &[u8]) -> Option<(&str, Value)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let entry: Value = serde_json::from_str(text).ok()?;
    entry.is_object().then_some((text, entry))
}

fn in_words(entry: &Value) -> String {
    let text = |field: &str| entry[field].as_str().filter(|it| !it.is_empty()).unwrap_or("-");
    let each = |field: &str| entry[field].as_array().cloned().unwrap_or_default();
    let names: Vec<String> =
        each("Resources").iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
    let resets: Vec<String> = each("Resets").iter().map(reset_in_words).collect();
    let line = [
        text("Time"),
        text("Code"),
        text("Action"),
        &names.join(","),
        text("Account"),
        text("Who"),
        text("From"),
        text("RequestId"),
        &resets.join("; "),
    ];
    line.join("  ").trim_end().to_owned()
}

fn reset_in_words(reset: &Value) -> String {
    let text = |field: &str| reset[field].as_str().unwrap_or_default();
    let epoch = |field: &str| reset.get(field).unwrap_or(&json!(0)).to_string();
    let epochs = format!("{} -> {}", epoch("EpochBefore"), epoch("EpochAfter"));
    format!("{} to {}, epoch {epochs}, root {}", text("DiskId"), text("Origin"), text("Root"))
}
