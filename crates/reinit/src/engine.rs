//! Applying resets: fence the exports, then one commit of the ledger for all of them.
//!
//! What must always hold: a disk whose export could not be fenced is not reset. A fence drops
//! what was not flushed: it is about to be gone.
//! Left to others: opening the exports again (`cloud`, when the instance starts).

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use block_device::{DiskId, ExportFence, FenceMode};
use block_store::{Histogram, HistogramView, RequestId, Reset, ResetReceipt, Store};

use crate::{ResetError, Source};

/// An order to reset one disk.
#[derive(Clone, Debug)]
pub struct ResetOrder {
    /// The disk.
    pub disk: DiskId,
    /// What it goes back to.
    pub source: Source,
    /// The request that asked for it.
    pub request_id: RequestId,
    /// When it was asked for.
    pub time: SystemTime,
}

/// Resets disks of a store that may be exported.
#[derive(Clone, Debug)]
pub struct ResetEngine {
    store: Store,
    fences: Arc<dyn ExportFence>,
    /// How long closing the exports took, for each batch.
    closing: Arc<Histogram>,
}

impl ResetEngine {
    /// An engine for the disks of `store`, whose exports `fences` closes.
    pub fn new(store: Store, fences: Arc<dyn ExportFence>) -> Self {
        Self { store, fences, closing: Arc::new(Histogram::of_times()) }
    }

    /// The store whose disks are reset.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How long closing the exports took, in nanoseconds for each batch of resets.
    pub fn closing_times(&self) -> HistogramView {
        self.closing.view()
    }

    /// Resets the disks. All share one sync, each is atomic, the batch is not: after a crash each
    /// disk of an unanswered batch is wholly before or wholly after. The answers are in the order
    /// of the orders.
    pub fn apply(&self, orders: &[ResetOrder]) -> Vec<Result<ResetReceipt, ResetError>> {
        let begun = Instant::now();
        let fenced: Vec<_> =
            orders.iter().map(|order| self.fences.fence(&order.disk, FenceMode::Drop)).collect();
        if !orders.is_empty() {
            self.closing.observe_since(begun);
        }
        let fit = orders.iter().zip(&fenced).filter(|(_, fenced)| fenced.is_ok());
        let resets: Vec<_> = fit.map(|(order, _)| order.to_reset()).collect();
        let mut receipts = self.store.reset(&resets).into_iter();
        let mut answer = |fenced: Result<(), _>| -> Result<ResetReceipt, ResetError> {
            fenced?;
            Ok(receipts.next().expect("one for each fenced disk")?)
        };
        fenced.into_iter().map(&mut answer).collect()
    }
}

impl ResetOrder {
    fn to_reset(&self) -> Reset {
        Reset {
            disk: self.disk.clone(),
            base: self.source.layer(),
            request_id: self.request_id,
            time: self.time,
        }
    }
}
