//! The one bincode configuration. Nothing else in the workspace calls bincode.
//!
//! What must always hold: fixed-width little-endian integers, no trailing bytes. The bytes equal
//! those of bincode 2 `legacy()` and of wincode's defaults, which is the way out should this
//! version of bincode have to go. `bincode::serialize` and `DefaultOptions::new()` alone are two
//! *other* formats.

use bincode::{DefaultOptions, Options};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// No payload is larger, so a damaged length never asks for much memory.
pub(crate) const LIMIT: usize = 1 << 20;

/// A payload that is not the struct it is said to be, or a struct that has no encoding.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct CodecError(#[from] bincode::Error);

impl CodecError {
    /// Whether the value is larger than any payload may be.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(*self.0, bincode::ErrorKind::SizeLimit)
    }
}

/// The bytes of a value.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    Ok(options().serialize(value)?)
}

/// The value of these bytes, all of which must be used up.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    Ok(options().deserialize(bytes)?)
}

fn options() -> impl Options {
    DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(LIMIT as u64)
        .reject_trailing_bytes()
}
