//! Which sectors of a mapped file were found right: one bit each.
//!
//! What must always hold: a bit is set only after its sector was checked, and is never cleared.
//! Left to others: what the check is (`cluster_map`, `owner_table`).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::geometry::index;

/// The sectors that were found right.
#[derive(Debug)]
pub(crate) struct CheckedSectors {
    bits: Box<[AtomicU64]>,
}

impl CheckedSectors {
    /// None of so many.
    pub(crate) fn none_of(sectors: u64) -> Self {
        Self { bits: (0..sectors.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Acquire; pairs with the Release of `add`: who sees the bit sees a checked sector.
    pub(crate) fn holds(&self, sector: u64) -> bool {
        self.bits[index(sector / 64)].load(Ordering::Acquire) & (1 << (sector % 64)) != 0
    }

    /// The sector was found right.
    pub(crate) fn add(&self, sector: u64) {
        self.bits[index(sector / 64)].fetch_or(1 << (sector % 64), Ordering::Release);
    }
}
