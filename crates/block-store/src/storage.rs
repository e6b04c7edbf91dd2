//! The one seam between the store and the file system.
//!
//! What must always hold: the store changes files through these traits only, so that a test can
//! record, fail or cut any of them. Mappings are private or read-only and change nothing.
//! Left to others: what the bytes mean.

use std::{
    fmt::Debug,
    fs::File,
    io::{self, IoSlice},
    ops::Range,
    os::unix::fs::FileExt,
    sync::Arc,
};

use crate::id::LayerId;

/// The directory tree of a store; paths are relative to its root, with `/` between names.
pub trait Storage: Send + Sync + Debug {
    /// Opens an existing regular file for reading and writing. Never follows a link.
    fn open(&self, path: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Opens an existing regular file for reading only, as far as the system lets this process:
    /// also of a file system that takes no changes. Never follows a link.
    fn open_to_read(&self, path: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Makes a new file of no bytes; fails if the name is taken.
    fn create(&self, path: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Makes a directory; fails if the name is taken.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Moves a file or directory, replacing a file of the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Unlinks a file.
    fn remove_file(&self, path: &str) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &str) -> io::Result<()>;
    /// The names in a directory, in no order.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Whether the name exists.
    fn exists(&self, path: &str) -> io::Result<bool>;
    /// Makes the names in a directory (`""` is the root) durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Takes the exclusive lock that the file of this name stands for; held until the answer is
    /// dropped.
    fn lock(&self, path: &str) -> Result<StoreLock, LockError>;
    /// The same through a lock file that exists, which is only read.
    fn lock_to_read(&self, path: &str) -> Result<StoreLock, LockError>;
    /// Bytes of the file system that are free, and that it has in all.
    fn space(&self) -> io::Result<(u64, u64)>;
    /// A name for a new layer that no other has; a test may repeat its choices.
    fn new_layer_id(&self) -> io::Result<LayerId> {
        LayerId::random()
    }
    /// How many calls are worth making at a time; a test that repeats itself says 1.
    fn at_a_time(&self) -> usize {
        16
    }
}

/// An open file of a store. All methods may be called from many threads.
pub trait StorageFile: Send + Sync + Debug {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Fills the buffer from the offset; a file that ends before is an error.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all the pieces one after another from the offset.
    fn write_all_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Makes the file this long; new bytes read as zeros.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Gives the space of the range back; it reads as zeros afterwards. The length stays.
    fn punch_hole(&self, range: Range<u64>) -> io::Result<()>;
    /// The first stretch at or after `from` that is not a hole.
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>>;
    /// Makes content and length survive power loss.
    fn sync_data(&self) -> io::Result<()>;
    /// Drops clean cached pages, so that the next read asks the device.
    fn drop_cache(&self) -> io::Result<()>;
    /// Bytes of the file system the file takes.
    fn allocated(&self) -> io::Result<u64>;
    /// The file itself, for mapping and for reads by other means; never for changes.
    fn file(&self) -> &File;
}

/// The lock of a store, held until dropped.
#[derive(Debug)]
pub struct StoreLock {
    file: File,
}

impl StoreLock {
    /// The lock that `file` holds.
    pub fn held_by(file: File) -> Self {
        Self { file }
    }

    /// Leaves this process's id in the lock's file, for the message to whoever comes second. What
    /// holds is the lock, never the number; on a full file system it may be missing.
    pub(crate) fn name_holder(&self) {
        let id = format!("{}\n", std::process::id());
        let _ = self.file.set_len(0).and_then(|()| self.file.write_all_at(id.as_bytes(), 0));
    }
}

impl Drop for StoreLock {
    /// Closing the file would not do: a process that is just being started holds a copy of every
    /// open file, and with it the lock, until it runs its own program.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// Why the store's lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the store is in use by process {0}")]
    Held(String),
    /// The lock file could not be opened or written.
    #[error("cannot take the store's lock")]
    Io(#[from] io::Error),
}
