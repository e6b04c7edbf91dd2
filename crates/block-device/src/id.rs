//! The name of a disk.
//!
//! What must always hold: 1 to 32 bytes of `a-z A-Z 0-9 - _`, starting with a letter or digit:
//! safe as a file name, an NBD export name and in a fixed field of 32 bytes.

use std::{fmt, str::FromStr};

/// The name of a disk, such as `d-23jbf2v5m0123456789a`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(String);

/// The text is not the name of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id has 1 to 32 letters, digits, '-' or '_' and starts with a letter or digit")]
pub struct InvalidId;

impl DiskId {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 32;

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DiskId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let fits = (1..=Self::MAX_LENGTH).contains(&text.len());
        let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if fits && starts && text.bytes().all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId)
        }
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
