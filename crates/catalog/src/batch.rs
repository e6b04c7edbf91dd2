//! What a commit changes, and what must be true for it.
//!
//! What must always hold: no value above [`VALUE_LIMIT`] and no key above [`KEY_LIMIT`] gets into a
//! batch. The database keeps some twenty of them together, and what grows too large it puts into a
//! file of its own that is never synced at all.

use crate::codec::{self, CodecError};
use crate::envelope;
use crate::error::CatalogError;
use crate::record::{Record, key_of};

/// The most bytes of one stored record, envelope included.
pub const VALUE_LIMIT: usize = 16 * 1024;

/// The most bytes of a key.
pub const KEY_LIMIT: usize = 1024;

/// Changes that are made together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
}

impl Batch {
    /// No changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores the record, over any with its key.
    pub fn put<R: Record>(&mut self, record: &R) -> Result<&mut Self, CatalogError> {
        let (key, value) = seal_checked(record)?;
        self.changes.push(Change { key, value: Some(value) });
        Ok(self)
    }

    /// Removes the record, if it is there.
    pub fn delete<R: Record>(&mut self, id: &str) -> &mut Self {
        self.changes.push(Change { key: key_of::<R>(id), value: None });
        self
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// One key's new value; none to remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
}

/// What must be true of one key for a commit to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    key: String,
    expected: Expected,
}

/// What a key is expected to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Absent,
    Present,
    Equals(Vec<u8>),
}

impl Precondition {
    /// No such record.
    #[must_use]
    pub fn absent<R: Record>(id: &str) -> Self {
        Self { key: key_of::<R>(id), expected: Expected::Absent }
    }

    /// Some such record.
    #[must_use]
    pub fn present<R: Record>(id: &str) -> Self {
        Self { key: key_of::<R>(id), expected: Expected::Present }
    }

    /// Exactly this record.
    pub fn unchanged<R: Record>(record: &R) -> Result<Self, CatalogError> {
        let (key, value) = seal_checked(record)?;
        Ok(Self { key, expected: Expected::Equals(value) })
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Whether it holds, given what the key has; else the error to answer with.
    pub(crate) fn check(&self, found: Option<&[u8]>) -> Result<(), CatalogError> {
        let holds = match &self.expected {
            Expected::Absent => found.is_none(),
            Expected::Present => found.is_some(),
            Expected::Equals(value) => found == Some(value.as_slice()),
        };
        if holds { Ok(()) } else { Err(CatalogError::Conflict { key: self.key.clone() }) }
    }
}

/// Key and value of a record, if the catalog takes them.
pub(crate) fn seal_checked<R: Record>(record: &R) -> Result<(String, Vec<u8>), CatalogError> {
    let key = record.key();
    within(&key, key.len(), KEY_LIMIT)?;
    let value = envelope::seal(record).map_err(|source| encode_error(&key, source))?;
    within(&key, value.len(), VALUE_LIMIT)?;
    Ok((key, value))
}

fn within(key: &str, bytes: usize, limit: usize) -> Result<(), CatalogError> {
    if bytes <= limit {
        return Ok(());
    }
    Err(CatalogError::TooLarge { key: key.chars().take(64).collect(), bytes, limit })
}

/// A value past the codec's own limit is too large as well, and not a mistake of ours.
fn encode_error(key: &str, source: CodecError) -> CatalogError {
    let key = key.to_owned();
    if source.is_too_large() {
        return CatalogError::TooLarge { key, bytes: codec::LIMIT, limit: VALUE_LIMIT };
    }
    CatalogError::Encode { key, source }
}
