//! The catalog as JSON lines, for people, backups and the third rung of recovery.
//!
//! ```text
//! {"reinit_catalog":1}
//! {"kind":"disk","version":1,"record":{...}}
//! ...
//! {"records":2,"crc32c":305419896}
//! ```
//!
//! What must always hold
//! 1. The last line counts the records and carries the checksum of their lines, newlines included:
//!    an export that was cut off or altered is refused as a whole.
//! 2. Reading gives all records or none.
//!
//! Left to others: files (`directory`), how often an export is written (the daemon).

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::batch::seal_checked;
use crate::error::{CatalogError, io_error};
use crate::kinds;
use crate::record::Import;

/// A stored record: key and value.
pub(crate) type Pair = (String, Vec<u8>);

/// The version of the line format; records carry their own.
const FORMAT: u32 = 1;

/// No line of ours is longer: a byte of a record takes at most six characters, and its names few.
const LINE_LIMIT: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    reinit_catalog: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    kind: String,
    version: u16,
    record: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    records: u64,
    crc32c: u32,
}

/// Writes all pairs that belong into an export; how many there were.
pub(crate) fn write(pairs: &[Pair], out: &mut dyn Write) -> Result<u64, CatalogError> {
    let mut last = Last { records: 0, crc32c: 0 };
    put(out, &line_of(&First { reinit_catalog: FORMAT }))?;
    for (key, value) in pairs {
        let Some(line) = exported(key, value)? else { continue };
        put(out, &line)?;
        last =
            Last { records: last.records + 1, crc32c: crc32c::crc32c_append(last.crc32c, &line) };
    }
    put(out, &line_of(&last))?;
    out.flush().map_err(writing())?;
    Ok(last.records)
}

fn exported(key: &str, value: &[u8]) -> Result<Option<Vec<u8>>, CatalogError> {
    let damaged = |source| CatalogError::Damaged { key: key.to_owned(), source };
    let kind = kinds::of_key(key).map_err(damaged)?;
    if !kind.exported {
        return Ok(None);
    }
    let record = (kind.to_json)(key, value).map_err(damaged)?;
    Ok(Some(line_of(&Line { kind: kind.prefix.to_owned(), version: kind.version, record })))
}

fn line_of<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("maps with text keys always have a JSON form");
    line.push(b'\n');
    line
}

fn put(out: &mut dyn Write, line: &[u8]) -> Result<(), CatalogError> {
    out.write_all(line).map_err(writing())
}

fn writing() -> impl FnOnce(io::Error) -> CatalogError {
    io_error("write", Path::new("the export"))
}

/// The records of a whole and unaltered export, sorted by key.
pub(crate) fn read(from: &mut dyn BufRead) -> Result<Vec<Pair>, CatalogError> {
    let mut lines = Lines { from, number: 0 };
    let text = lines.next()?;
    let first: First = lines.parse(&text)?;
    if first.reinit_catalog != FORMAT {
        return Err(lines.bad(format!("format {} is not known", first.reinit_catalog)));
    }
    let (mut pairs, mut crc) = (Vec::new(), 0);
    loop {
        let text = lines.next()?;
        if let Ok(last) = serde_json::from_slice::<Last>(&text) {
            lines.check_end(&last, pairs.len(), crc)?;
            return sorted(pairs, &lines);
        }
        pairs.push(lines.record(&text)?);
        crc = crc32c::crc32c_append(crc, &text);
    }
}

/// The same and the mark of an import; how many records the export had.
pub(crate) fn read_marked(from: &mut dyn BufRead) -> Result<(Vec<Pair>, u64), CatalogError> {
    let mut pairs = read(from)?;
    let records = count(pairs.len());
    pairs.push(seal_checked(&Import { imported: unix_time(), records })?);
    Ok((pairs, records))
}

/// Import wants a catalog without records.
pub(crate) fn check_empty(records: usize) -> Result<(), CatalogError> {
    if records == 0 { Ok(()) } else { Err(CatalogError::NotEmpty { records: count(records) }) }
}

fn count(records: usize) -> u64 {
    u64::try_from(records).expect("no machine holds more than 2^64 records")
}

/// Seconds since 1970; a clock before that counts as 1970.
pub(crate) fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn sorted(mut pairs: Vec<Pair>, lines: &Lines<'_>) -> Result<Vec<Pair>, CatalogError> {
    pairs.sort();
    if let Some(twice) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
        return Err(lines.bad(format!("{} is in it twice", twice[0].0)));
    }
    Ok(pairs)
}

/// The lines of an export, counted for error messages.
struct Lines<'a> {
    from: &'a mut dyn BufRead,
    number: u64,
}

impl Lines<'_> {
    /// The next line with its newline, without which it was cut off.
    fn next(&mut self) -> Result<Vec<u8>, CatalogError> {
        self.number += 1;
        let mut line = Vec::new();
        io::Read::take(&mut *self.from, LINE_LIMIT)
            .read_until(b'\n', &mut line)
            .map_err(io_error("read", Path::new("the export")))?;
        if line.last() == Some(&b'\n') {
            return Ok(line);
        }
        Err(self.bad("it ends here, or the line has no end".to_owned()))
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self, text: &[u8]) -> Result<T, CatalogError> {
        serde_json::from_slice(text).map_err(|error| self.bad(error.to_string()))
    }

    fn record(&self, text: &[u8]) -> Result<Pair, CatalogError> {
        let line: Line = self.parse(text)?;
        let kind = kinds::named(&line.kind)
            .filter(|kind| kind.exported)
            .ok_or_else(|| self.bad(format!("{} is no kind of record", line.kind)))?;
        (kind.from_json)(line.version, &line.record).map_err(|error| self.bad(chain(&error)))
    }

    fn check_end(&self, last: &Last, records: usize, crc: u32) -> Result<(), CatalogError> {
        if u64::try_from(records) != Ok(last.records) {
            return Err(self.bad(format!("{records} records came before, not {}", last.records)));
        }
        if crc != last.crc32c {
            return Err(self.bad("the checksum does not fit: a line was altered".to_owned()));
        }
        Ok(())
    }

    fn bad(&self, reason: String) -> CatalogError {
        CatalogError::BadExport { line: self.number, reason }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
