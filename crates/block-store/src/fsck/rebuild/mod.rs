//! Rebuild: a ledger that is lost is made anew from the headers of the layers.
//!
//! A head's header names its disk, the epoch and base it had when the header was written, and its
//! size. No flushed word is of a later epoch than the header, for the first flush of an epoch waits
//! for it. But a reset is durable in the ledger alone before the header follows: what the header
//! tells may be the disk *before* its last reset, with blocks among it that were written after that
//! and never flushed. Nobody can tell from the headers. So
//!
//! What must always hold
//! 1. A rebuilt disk is *closed* in the ledger: nothing reads or writes it until the operator chose
//!    (`accept`) what it holds: what the header tells, in the header's own epoch, or its origin,
//!    under a later epoch and with a new head.
//! 2. A ledger that can be read is never replaced. One that cannot is kept under another name,
//!    whole and durable, before the new one takes its place in one step.
//! 3. While a layer may not be read nothing is rebuilt: a disk would be missing.
//! 4. A crash anywhere leaves the ledger as it was or the new one, and rebuilding can begin anew.
//!
//! Left to others: the catalog (`cloud` makes its records from the [`Survey`]).

mod accept;
mod new_ledger;
mod survey;

use std::sync::Arc;

pub use accept::{Accepted, accept};
pub use survey::{FoundDisk, FoundLayer, LostLayer, Survey};

use crate::{
    error::StoreError,
    fsck::CatalogNames,
    layer_files, ledger,
    storage::{Storage, StoreLock},
    store::LOCK,
};

/// A store that is being rebuilt: nobody else has it open.
#[derive(Debug)]
pub struct Rebuild {
    storage: Arc<dyn Storage>,
    _lock: StoreLock,
}

impl Rebuild {
    /// Takes the lock of a store that has its layers.
    pub fn begin(storage: Arc<dyn Storage>) -> Result<Self, StoreError> {
        let exists = storage.exists(layer_files::LAYERS);
        if !exists.map_err(StoreError::io("looking for the layers"))? {
            return Err(StoreError::NotAStore);
        }
        let lock = storage.lock(LOCK)?;
        lock.name_holder();
        Ok(Self { storage, _lock: lock })
    }

    /// Whether the ledger is gone or cannot be believed; one that may not be read, or that a newer
    /// program wrote, is an error.
    pub fn has_lost_ledger(&self) -> Result<bool, StoreError> {
        let exists = self.storage.exists(ledger::FILE);
        if !exists.map_err(StoreError::io("looking for the ledger"))? {
            return Ok(true);
        }
        match ledger::inspect(&*self.storage) {
            Ok(_) => Ok(false),
            Err(StoreError::Damaged { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Makes a ledger in the place of the lost one, all of whose disks are closed; answers what the
    /// lost one is called now, if there was one.
    pub fn make_ledger(&self, survey: &Survey) -> Result<Option<String>, StoreError> {
        if !self.has_lost_ledger()? {
            return Err(StoreError::NotEmpty);
        }
        new_ledger::make(&*self.storage, survey)
    }

    /// What is known of disks and layers: of the disks by the ledger if there is one, else by the
    /// headers; what the catalog knows helps where no head is left.
    pub fn survey(&self, catalog: Option<&CatalogNames>) -> Result<Survey, StoreError> {
        let contents = match self.has_lost_ledger()? {
            true => None,
            false => Some(ledger::inspect(&*self.storage)?.contents),
        };
        Survey::of(&*self.storage, contents.as_ref(), catalog)
    }
}
