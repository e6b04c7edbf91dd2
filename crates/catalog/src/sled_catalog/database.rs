//! The only file that knows sled.
//!
//! What must always hold
//! 1. Opening never creates: sled would make an empty database where it finds none.
//! 2. A transaction's closure has no effect but through its transaction, for sled may run it again,
//!    and never flushes, which would wait for itself.
//! 3. The census changes in the same transaction as the records it counts.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use sled::transaction::{
    ConflictableTransactionError, TransactionError, TransactionalTree, UnabortableTransactionError,
};

use super::high_water::{self, HighWater};
use super::log_sync::LogSync;
use super::writer::{Order, Outcome};
use crate::batch::{Change, KEY_LIMIT, VALUE_LIMIT, seal_checked};
use crate::census::Census;
use crate::envelope::{self, EnvelopeError};
use crate::error::{CatalogError, io_error};
use crate::export::Pair;
use crate::kinds;

/// sled keeps this much of the database in memory.
const CACHE_BYTES: u64 = 64 << 20;

/// How much of the log sled writes and frees as one piece; it can never change for a given catalog.
///
/// sled splits a leaf by the number of its values (beyond 16, and up to 3 more may be merged in),
/// not by their size, and a leaf above a quarter of a segment goes into a file under `blobs/`, which
/// sled never syncs. 21 of our largest values, with their keys, must stay below that; with sled's
/// own 512 KiB they would not.
const SEGMENT_BYTES: usize = 2 << 20;

const _: () = assert!(21 * (VALUE_LIMIT + KEY_LIMIT) < SEGMENT_BYTES / 4);

/// The same for its inner nodes, of up to 256 keys and 64 merged in.
const _: () = assert!(321 * (KEY_LIMIT + 16) < SEGMENT_BYTES / 4);

/// sled's own file, which holds all records.
pub(crate) const LOG_NAME: &str = "db";

/// Records that a new database gets at a time; atomic is only the exchange at the end.
const BUILD_CHUNK: usize = 1000;

/// How long the lock of a database closed a moment ago may linger in sled's threads.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// An open database.
pub(crate) struct Database {
    tree: sled::Db,
    /// Our own handle on sled's file: sled has no call that makes it durable.
    log: File,
    high_water: HighWater,
}

/// What a transaction did.
pub(super) struct Transacted {
    /// For each order, in order.
    pub(super) outcomes: Vec<Outcome>,
    /// What the changed keys held before.
    pub(super) before: Before,
    /// The number of this round; none if nothing changed.
    pub(super) round: Option<u64>,
}

/// Keys and what they held before a transaction.
pub(super) type Before = BTreeMap<String, Option<Vec<u8>>>;

/// Why a database does not open.
pub(crate) enum OpenFailure {
    /// Its bytes are wrong; a copy or an export may help.
    Damaged(String),
    /// Something else, which no copy would cure.
    Other(CatalogError),
}

impl OpenFailure {
    /// For a database that nobody would look for a replacement of.
    pub(crate) fn into_error(self) -> CatalogError {
        match self {
            OpenFailure::Damaged(detail) => {
                CatalogError::Unreadable { what: "what was just written".to_owned(), detail }
            }
            OpenFailure::Other(error) => error,
        }
    }
}

impl Database {
    /// Opens what is there. It may panic on damaged files; `recovery` expects that.
    pub(crate) fn open(directory: &Path) -> Result<Self, OpenFailure> {
        let path = directory.join(LOG_NAME);
        let log = File::options().read(true).write(true).open(&path).map_err(|source| {
            if source.kind() == ErrorKind::NotFound {
                return OpenFailure::Damaged(format!("{} is missing", path.display()));
            }
            OpenFailure::Other(io_error("open", &path)(source))
        })?;
        wait_for_lock(&log, directory).map_err(OpenFailure::Other)?;
        settle(&log).map_err(io_error("sync", &path)).map_err(OpenFailure::Other)?;
        let tree = config(directory).open().map_err(|error| open_failure(directory, error))?;
        let high_water = HighWater::open(directory).map_err(OpenFailure::Other)?;
        Ok(Self { tree, log, high_water })
    }

    /// Makes a database of these pairs. Nothing of it is durable yet.
    pub(super) fn build(directory: &Path, pairs: &[Pair]) -> Result<(), CatalogError> {
        let written = |error: sled::Error| write_error(directory, error);
        let tree = config(directory).open().map_err(written)?;
        let records = u64::try_from(pairs.len()).expect("no machine holds more than 2^64 records");
        let census = seal_checked(&Census { records, commits: 0 })?;
        for chunk in [pairs, &[census]].into_iter().flat_map(|all| all.chunks(BUILD_CHUNK)) {
            let mut batch = sled::Batch::default();
            for (key, value) in chunk {
                batch.insert(key.as_str(), value.as_slice());
            }
            tree.apply_batch(batch).map_err(written)?;
        }
        tree.flush().map_err(written)?;
        high_water::create(directory, 0)
    }

    pub(crate) fn read(&self, key: &str) -> Result<Option<Vec<u8>>, CatalogError> {
        let value = self.tree.get(key).map_err(|error| unreadable(key, &error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// All pairs under a prefix, in order, without the census.
    pub(crate) fn scan(&self, prefix: &str) -> Result<Vec<Pair>, CatalogError> {
        let mut pairs = Vec::new();
        for pair in self.tree.scan_prefix(prefix) {
            let (key, value) = pair.map_err(|error| unreadable(prefix, &error))?;
            let key = String::from_utf8(key.to_vec()).map_err(|error| CatalogError::Damaged {
                key: error.to_string(),
                source: EnvelopeError::UnknownKind,
            })?;
            if key != Census::KEY {
                pairs.push((key, value.to_vec()));
            }
        }
        Ok(pairs)
    }

    /// Reads and checks every record, and that none is missing.
    pub(crate) fn verify(&self) -> Result<(), CatalogError> {
        let pairs = self.scan("")?;
        for (key, value) in &pairs {
            let verified = kinds::of_key(key).and_then(|kind| (kind.verify)(key, value));
            verified.map_err(|source| verify_error(key, source))?;
        }
        let found = u64::try_from(pairs.len()).expect("no machine holds more than 2^64 records");
        self.check_census(found)
    }

    fn check_census(&self, found: u64) -> Result<(), CatalogError> {
        let Census { records, commits } = self.census()?;
        let answered = self.high_water.found().unwrap_or(0);
        let detail = if commits < answered {
            format!("its log ends at commit {commits}, but commit {answered} was answered")
        } else if records != found {
            format!("it has {found} records and should have {records}")
        } else {
            return Ok(());
        };
        Err(CatalogError::Unreadable { what: "all records".to_owned(), detail })
    }

    fn census(&self) -> Result<Census, CatalogError> {
        let value = self.read(Census::KEY)?.ok_or_else(|| CatalogError::Unreadable {
            what: Census::KEY.to_owned(),
            detail: "it is missing, so the database was emptied".to_owned(),
        })?;
        let census = envelope::unseal::<Census>(Census::KEY, &value);
        census.map_err(|source| verify_error(Census::KEY, source))
    }

    /// Carries out all orders in one transaction: each wholly, or not if a precondition fails.
    pub(super) fn transact(&self, orders: &[Order]) -> Result<Transacted, String> {
        let done = self.tree.transaction(|tree| {
            let mut step = Step { tree, before: Before::new() };
            let outcomes =
                orders.iter().map(|order| step.carry_out(order)).collect::<Result<_, _>>();
            let outcomes = outcomes?;
            let round = step.count()?;
            let Step { before, .. } = step;
            Ok::<_, ConflictableTransactionError<()>>(Transacted { outcomes, before, round })
        });
        done.map_err(|error| match error {
            TransactionError::Storage(error) => error.to_string(),
            TransactionError::Abort(()) => "the transaction was given up".to_owned(),
        })
    }

    /// Brings everything transacted so far onto the device, and notes how far that is.
    pub(super) fn make_durable(&self, round: u64, sync: &dyn LogSync) -> Result<(), String> {
        self.tree.flush().map_err(|error| format!("flush failed: {error}"))?;
        sync.sync(&self.log).map_err(|error| format!("fdatasync failed: {error}"))?;
        self.high_water.rise(round).map_err(|error| format!("marking the commit failed: {error}"))
    }
}

impl Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("log", &self.log).finish_non_exhaustive()
    }
}

/// One run of a transaction's closure.
struct Step<'a> {
    tree: &'a TransactionalTree,
    before: Before,
}

type StepResult<T> = Result<T, UnabortableTransactionError>;

impl Step<'_> {
    fn carry_out(&mut self, order: &Order) -> StepResult<Outcome> {
        for precondition in &order.preconditions {
            let found = self.tree.get(precondition.key())?;
            if let Err(conflict) = precondition.check(found.as_deref()) {
                return Ok(Err(conflict));
            }
        }
        for change in order.batch.changes() {
            self.change(change)?;
        }
        Ok(Ok(()))
    }

    fn change(&mut self, change: &Change) -> StepResult<()> {
        let key = change.key.as_str();
        let old = match &change.value {
            Some(value) => self.tree.insert(key, value.as_slice())?,
            None => self.tree.remove(key)?,
        };
        // The first change of a key in this transaction alone sees what readers may see.
        self.before.entry(change.key.clone()).or_insert_with(|| old.map(|value| value.to_vec()));
        Ok(())
    }

    /// Moves the census by the keys that appeared and went; the number of this round, if it changed
    /// anything.
    fn count(&self) -> StepResult<Option<u64>> {
        if self.before.is_empty() {
            return Ok(None);
        }
        let (mut appeared, mut gone) = (0_u64, 0_u64);
        for (key, before) in &self.before {
            match (before, self.tree.get(key)?) {
                (None, Some(_)) => appeared += 1,
                (Some(_), None) => gone += 1,
                (None, None) | (Some(_), Some(_)) => {}
            }
        }
        let census = self.tree.get(Census::KEY)?.ok_or_else(lost_census)?;
        let Census { records, commits } =
            envelope::unseal(Census::KEY, &census).map_err(|_| lost_census())?;
        let records = (records + appeared).checked_sub(gone).ok_or_else(lost_census)?;
        let next = Census { records, commits: commits + 1 };
        let (key, value) = seal_checked(&next).map_err(|_| lost_census())?;
        self.tree.insert(key.as_str(), value)?;
        Ok(Some(next.commits))
    }
}

fn lost_census() -> UnabortableTransactionError {
    sled::Error::ReportableBug("the census is gone or wrong".to_owned()).into()
}

fn config(directory: &Path) -> sled::Config {
    sled::Config::new()
        .path(directory)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None)
}

/// What a killed process left in the page cache goes to the device, and is read back from there:
/// nothing is believed that a power loss could still take away.
fn settle(log: &File) -> io::Result<()> {
    log.sync_data()?;
    fadvise(log, 0, None, Advice::DontNeed)?;
    Ok(())
}

/// sled reports a held lock as any other I/O error, so this asks first.
fn wait_for_lock(log: &File, directory: &Path) -> Result<(), CatalogError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    while let Err(error) = log.try_lock() {
        match error {
            TryLockError::WouldBlock if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            TryLockError::WouldBlock => {
                return Err(CatalogError::Busy { path: directory.to_owned() });
            }
            TryLockError::Error(source) => return Err(io_error("lock", directory)(source)),
        }
    }
    log.unlock().map_err(io_error("unlock", directory))
}

fn open_failure(directory: &Path, error: sled::Error) -> OpenFailure {
    if let sled::Error::Io(source) = error {
        // A file that ends too early or says nonsense is damage; a full disk or a missing right is
        // not, and moving files about would only make it worse.
        use ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        if matches!(source.kind(), InvalidData | InvalidInput | Other | UnexpectedEof)
            && source.raw_os_error().is_none()
        {
            return OpenFailure::Damaged(source.to_string());
        }
        return OpenFailure::Other(io_error("open", directory)(source));
    }
    OpenFailure::Damaged(error.to_string())
}

fn unreadable(what: &str, error: &sled::Error) -> CatalogError {
    CatalogError::Unreadable { what: what.to_owned(), detail: error.to_string() }
}

fn verify_error(key: &str, source: EnvelopeError) -> CatalogError {
    let key = key.to_owned();
    if let EnvelopeError::UnknownVersion { version, .. } = source {
        return CatalogError::Newer { key, version };
    }
    CatalogError::Damaged { key, source }
}

fn write_error(directory: &Path, error: sled::Error) -> CatalogError {
    io_error("write the database", directory)(error.into())
}
