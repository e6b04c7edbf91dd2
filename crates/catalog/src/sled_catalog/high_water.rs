//! How far the catalog has come: the number of the last commit round that was made durable.
//!
//! ```text
//! 0         8        12
//! | commits | crc32c |      the file `answered` in the catalog's directory, little endian
//! ```
//!
//! sled believes its log up to the first piece that is wrong. A bit flipped in the middle therefore
//! costs everything behind it, without a word, and what is left is consistent. This mark tells: a
//! log that ends before it has lost its end.
//!
//! What must always hold: the mark is written after the sync of its round, so it is never ahead of
//! what the device holds. It is not synced itself: a power loss may set it back, which only makes it
//! say less. A mark that cannot be read says nothing and is no damage of the records.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{CatalogError, io_error};

const NAME: &str = "answered";
const LENGTH: usize = 12;

/// The open mark.
#[derive(Debug)]
pub(super) struct HighWater {
    file: File,
    /// What it said when it was opened.
    found: Option<u64>,
}

impl HighWater {
    /// Opens it, and makes one that says nothing if there is none.
    pub(super) fn open(directory: &Path) -> Result<Self, CatalogError> {
        let path = directory.join(NAME);
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        let mut bytes = [0; LENGTH];
        let found = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| parse(&bytes));
        if found.is_none() {
            tracing::warn!(path = %path.display(), "the mark of the last commit is missing or damaged");
        }
        Ok(Self { file, found })
    }

    /// What it said when it was opened, if anything.
    pub(super) fn found(&self) -> Option<u64> {
        self.found
    }

    /// Moves it to a round that is durable.
    pub(super) fn rise(&self, commits: u64) -> std::io::Result<()> {
        self.file.write_all_at(&encode(commits), 0)
    }
}

/// Makes one for a database that is being built.
pub(super) fn create(directory: &Path, commits: u64) -> Result<(), CatalogError> {
    let path = directory.join(NAME);
    std::fs::write(&path, encode(commits)).map_err(io_error("write", &path))
}

fn encode(commits: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&commits.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..8]);
    bytes[8..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn parse(bytes: &[u8; LENGTH]) -> Option<u64> {
    let (commits, _) = bytes.split_first_chunk::<8>()?;
    let commits = u64::from_le_bytes(*commits);
    (encode(commits) == *bytes).then_some(commits)
}
