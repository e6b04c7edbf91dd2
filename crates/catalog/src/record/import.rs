//! The mark that the catalog was filled from an export.
//!
//! An export may be older than the block store beside it. Who starts on such a catalog must sweep
//! nothing; once that start is over it deletes this record with an ordinary commit. Import writes
//! it, export leaves it out.

use serde::{Deserialize, Serialize};

use super::Record;

/// The present version.
pub type Import = ImportV1;

/// The mark of an import, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportV1 {
    /// When.
    pub imported: i64,
    /// How many records came in.
    pub records: u64,
}

impl ImportV1 {
    /// The one id there is.
    pub const ID: &'static str = "last";
}

impl Record for ImportV1 {
    const KIND: u16 = 9;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "import";

    fn id(&self) -> String {
        Self::ID.to_owned()
    }
}
