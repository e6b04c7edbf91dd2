//! How many records the catalog holds and how many rounds of commits it saw, kept by itself.
//!
//! What must always hold: it changes in the transaction that changes the records. A log that lost
//! something without noticing then shows at the next open: an empty file has no census, a hole does
//! not match its count, and a log that lost its end has fewer rounds than the mark beside it says
//! (`high_water`).

use serde::{Deserialize, Serialize};

use crate::record::Record;

pub(crate) type Census = CensusV1;

/// The census, version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CensusV1 {
    /// All records but this one.
    pub(crate) records: u64,
    /// Rounds that changed something since this database was built.
    pub(crate) commits: u64,
}

impl CensusV1 {
    /// Where it lies.
    pub(crate) const KEY: &'static str = "census/records";
}

impl Record for CensusV1 {
    const KIND: u16 = 10;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "census";

    fn id(&self) -> String {
        "records".to_owned()
    }
}
