//! The reserve: room on a full file system that new blocks never take.
//!
//! Resets write in place, but a delete makes marks and commits to the catalog, a flush may need
//! map sectors, and the next start writes too. Were the last byte given to a client, a full store
//! could neither be emptied nor opened again.
//!
//! What must always hold: clients are told that there is no space while this much is left; what a
//! client overwrites in place is not asked about. Owner tables, which can be done without, take
//! none of it either.
//! Left to others: imports and snapshots, which fail as the file system says (`import`, `snapshot`).

use std::sync::atomic::{AtomicU64, Ordering};

use block_device::DeviceError;

use crate::storage::Storage;

/// The reserve is this part of the file system,
const PART: u64 = 16;
/// and no more than this many bytes: many times what a catalog writes in one go.
const MOST: u64 = 256 << 20;
/// How much of the reserve may be used up between two looks at the file system.
const STRIDE: u64 = 8;

/// How much clients may still take before the file system is asked again.
#[derive(Debug, Default)]
pub(crate) struct Reserve {
    /// Relaxed everywhere: it is an estimate, and each look corrects it.
    budget: AtomicU64,
}

impl Reserve {
    /// Whether a client may take this many bytes more.
    pub(crate) fn admit(&self, storage: &dyn Storage, bytes: u64) -> Result<(), DeviceError> {
        let take = |budget: u64| budget.checked_sub(bytes);
        if self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            return Ok(());
        }
        // What cannot be asked is left to the write itself.
        let Ok((free, total)) = storage.space() else { return Ok(()) };
        let reserve = (total / PART).min(MOST);
        let room = free.saturating_sub(reserve).checked_sub(bytes).ok_or(DeviceError::NoSpace)?;
        self.budget.store(room.min(reserve / STRIDE), Ordering::Relaxed);
        Ok(())
    }
}
