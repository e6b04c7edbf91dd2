//! The limit: one overwrite in place, made durable.
//!
//! What must always hold: the file was written and synced before, so that a sync changes no
//! metadata of the file system. It is what the ledger does, without the ledger.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    time::Instant,
};

use tempfile::TempDir;

use crate::{MIB, filesystem::Place};

/// A file to overwrite, 4 KiB at a time.
#[derive(Debug)]
pub struct Overwrite {
    file: File,
    _folder: TempDir,
}

impl Overwrite {
    /// Its name in tables.
    pub const NAME: &str = "fdatasync";

    /// A written file on the file system of a place.
    pub fn on(place: &Place) -> anyhow::Result<Self> {
        let folder = place.folder()?;
        let path = folder.path().join("overwritten");
        fs::write(&path, vec![1; usize::try_from(MIB)?])?;
        let file = File::options().write(true).open(&path)?;
        file.sync_all()?;
        File::open(folder.path())?.sync_all()?;
        Ok(Self { file, _folder: folder })
    }

    /// Overwrites and syncs; gives the seconds it took.
    pub fn once(&self) -> anyhow::Result<f64> {
        let begun = Instant::now();
        self.file.write_all_at(&[2; 4096], 4096)?;
        self.file.sync_data()?;
        Ok(begun.elapsed().as_secs_f64())
    }
}
