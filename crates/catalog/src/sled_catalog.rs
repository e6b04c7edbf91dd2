//! The catalog on disk: a sled database, written by one thread, read by anyone.
//!
//! ```text
//! commit ──> queue ──> writer: transaction -> flush -> fdatasync of `db` ──> answers
//!                      (all commits that wait share one round)
//! read, scan ────────> view: the database, minus what is not durable yet
//! ```
//!
//! What must always hold
//! 1. sled's flush alone ends in `sync_file_range`, which promises nothing at a power loss; no
//!    commit is answered before our own sync of sled's file.
//! 2. Only the writer thread changes the database, and only it closes or replaces it.
//! 3. No type of sled leaves `database`.
//!
//! Left to others: the rungs of recovery (`recovery`), files and directories (`directory`).

pub(crate) mod database;
pub(crate) mod directory;
mod high_water;
mod log_sync;
mod view;
mod writer;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use log_sync::{DataSync, LogSync};
use parking_lot::Mutex;

use crate::batch::{Batch, Precondition};
use crate::error::CatalogError;
use crate::recovery::{self, EXPORT_NAME, Opening};
use crate::{Catalog, export};
use view::View;
use writer::Writer;

/// A catalog in a directory of its own. One process at a time; it lives as long as this value.
#[derive(Debug)]
pub struct SledCatalog {
    directory: PathBuf,
    /// Held while an export is saved: two would write into one file.
    saving: Mutex<()>,
    view: Arc<View>,
    writer: Writer,
}

impl SledCatalog {
    /// Makes an empty catalog, durable with its directory entry, and opens it.
    pub fn create(directory: &Path) -> Result<Self, CatalogError> {
        directory::create(directory, &[])?;
        Self::open(directory).map(|(catalog, _)| catalog)
    }

    /// Makes a whole catalog of these records, durable, in the place of one that is lost; answers
    /// what that is called now, if there was one. It is opened by the next who asks.
    pub fn replace(directory: &Path, records: &Batch) -> Result<Option<PathBuf>, CatalogError> {
        let changes = records.changes().iter();
        let pairs: Vec<_> = changes
            .filter_map(|change| Some((change.key.clone(), change.value.clone()?)))
            .collect();
        directory::replace(directory, &pairs)
    }

    /// Opens a catalog after reading every record once; says how far down the ladder of recovery it
    /// had to go.
    pub fn open(directory: &Path) -> Result<(Self, Opening), CatalogError> {
        Self::open_with(directory, Arc::new(DataSync))
    }

    /// The same with another way to make the file durable. Only a power-cut test has a use for
    /// that: it must fail when the sync is left out.
    pub fn open_with(
        directory: &Path,
        sync: Arc<dyn LogSync>,
    ) -> Result<(Self, Opening), CatalogError> {
        let (database, opening) = recovery::open(directory)?;
        let database = Arc::new(database);
        let view = Arc::new(View::new(Arc::clone(&database)));
        let writer = Writer::start(directory, database, Arc::clone(&view), sync)?;
        let (directory, saving) = (directory.to_owned(), Mutex::new(()));
        Ok((Self { directory, saving, view, writer }, opening))
    }

    /// Writes the export that recovery looks for ([`EXPORT_NAME`] beside the catalog's directory),
    /// durable, and in one step over the one before; how many records there were.
    pub fn save_export(&self) -> Result<u64, CatalogError> {
        let path = directory::parent(&self.directory).join(EXPORT_NAME);
        let _one_at_a_time = self.saving.lock();
        directory::replace_file(&path, |out| self.export(out))
    }
}

impl Catalog for SledCatalog {
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, CatalogError> {
        self.view.read(key)
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, CatalogError> {
        self.view.scan(prefix)
    }

    fn commit(&self, batch: &Batch, preconditions: &[Precondition]) -> Result<(), CatalogError> {
        self.writer.commit(batch.clone(), preconditions.to_vec())
    }

    fn export(&self, out: &mut dyn Write) -> Result<u64, CatalogError> {
        export::write(&self.scan("")?, out)
    }

    fn save_export(&self) -> Result<u64, CatalogError> {
        Self::save_export(self)
    }

    fn import(&self, from: &mut dyn BufRead) -> Result<u64, CatalogError> {
        let (pairs, records) = export::read_marked(from)?;
        self.writer.fill(pairs)?;
        Ok(records)
    }

    fn compact(&self) -> Result<(), CatalogError> {
        self.writer.compact()
    }
}
