//! The durable record of every resource: who owns what, what it is called, what it goes back to.
//!
//! What must always hold
//! 1. An answered [`Catalog::commit`] survives kill -9 and power loss, wholly; an unanswered one is
//!    wholly there or wholly not.
//! 2. A reader sees whole commits only, and only those that are durable.
//! 3. Damage is found when a record is read, at the latest; no wrong record is ever returned.
//! 4. After a failed write to the device no further commit is taken: a later success would prove
//!    nothing.
//!
//! ```
//! use catalog::record::Account;
//! use catalog::{Batch, Catalog, MemoryCatalog, Precondition, Records};
//!
//! # fn main() -> Result<(), catalog::CatalogError> {
//! let catalog = MemoryCatalog::new();
//! let account = Account {
//!     name: "lab".to_owned(),
//!     number: 1_000_000_000_000_001,
//!     created: 1_790_000_000,
//!     in_arrears: false,
//!     quota_bytes: None,
//! };
//! let mut batch = Batch::new();
//! batch.put(&account)?;
//! catalog.commit(&batch, &[Precondition::absent::<Account>("lab")])?;
//! assert_eq!(catalog.get::<Account>("lab")?, Some(account));
//! # Ok(())
//! # }
//! ```
//!
//! Left to others: a disk's epoch, base, head and size (the ledger of the block store), rules
//! between records (`cloud`), how often the export for recovery is written (the daemon).

mod batch;
mod census;
mod codec;
mod envelope;
mod error;
mod export;
mod kinds;
mod memory_catalog;
pub mod record;
mod recovery;
mod sled_catalog;

use std::io::{BufRead, Write};

pub use batch::{Batch, KEY_LIMIT, Precondition, VALUE_LIMIT};
pub use codec::CodecError;
pub use envelope::{EnvelopeError, Payload};
pub use error::CatalogError;
pub use memory_catalog::MemoryCatalog;
pub use recovery::{EXPORT_NAME, Opening};
pub use sled_catalog::{DataSync, LogSync, SledCatalog};

use record::{Record, key_of};

/// Keeps records. All calls block; none may be made from an async task.
pub trait Catalog: Send + Sync {
    /// The stored bytes under a key.
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, CatalogError>;

    /// All keys that begin with `prefix`, in order, with their stored bytes, as of one moment.
    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, CatalogError>;

    /// Makes all changes of the batch if every precondition holds, else none; durable when it
    /// returns.
    fn commit(&self, batch: &Batch, preconditions: &[Precondition]) -> Result<(), CatalogError>;

    /// Writes everything as JSON lines, as of one moment; how many records there were.
    fn export(&self, out: &mut dyn Write) -> Result<u64, CatalogError>;

    /// Renews the export that recovery falls back to; how many records there were.
    fn save_export(&self) -> Result<u64, CatalogError>;

    /// Fills an empty catalog from an export, wholly or not at all, and marks it with
    /// [`record::Import`]; how many records came in.
    fn import(&self, from: &mut dyn BufRead) -> Result<u64, CatalogError>;

    /// Writes the database anew, without what overwritten records left behind.
    fn compact(&self) -> Result<(), CatalogError>;
}

/// Typed reads, for every [`Catalog`].
pub trait Records: Catalog {
    /// The record with this id.
    fn get<R: Record>(&self, id: &str) -> Result<Option<R>, CatalogError> {
        let key = key_of::<R>(id);
        self.read(&key)?.map(|value| unseal(&key, &value)).transpose()
    }

    /// All records of one kind, in the order of their ids, as of one moment.
    fn all<R: Record>(&self) -> Result<Vec<R>, CatalogError> {
        let pairs = self.scan(&key_of::<R>(""))?;
        pairs.iter().map(|(key, value)| unseal(key, value)).collect()
    }
}

impl<C: Catalog + ?Sized> Records for C {}

fn unseal<R: Record>(key: &str, value: &[u8]) -> Result<R, CatalogError> {
    envelope::unseal(key, value)
        .map_err(|source| CatalogError::Damaged { key: key.to_owned(), source })
}
