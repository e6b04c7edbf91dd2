//! The reset engine: what a reset would change, doing it, and proving it.
//!
//! What must always hold
//! 1. Exports are fenced before the ledger is written; a plan changes nothing.
//! 2. A batch shares one sync of the ledger and is answered disk by disk.
//! 3. A verification never takes the store's word for what it can look at.
//!
//! Left to others: layers and epochs (`block-store`), which disk may be reset by whom (`cloud`).

mod engine;
mod error;
mod plan;
mod source;
mod verify;

pub use engine::{ResetEngine, ResetOrder};
pub use error::ResetError;
pub use plan::ResetPlan;
pub use source::Source;
pub use verify::{Verification, VerifyDepth};
