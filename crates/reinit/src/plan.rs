//! What a reset would change, without changing it.

use block_device::{ByteLength, DiskId};
use block_store::{Epoch, LayerId, Root};

use crate::{ResetEngine, ResetError, ResetOrder};

/// What a reset would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetPlan {
    /// The disk.
    pub disk: DiskId,
    /// The epoch that would end.
    pub epoch_before: Epoch,
    /// The layer it stands on now.
    pub base_before: Option<LayerId>,
    /// The layer it would stand on.
    pub base_after: Option<LayerId>,
    /// What was written since the last reset, in whole blocks, and would be dropped.
    pub dropped: ByteLength,
    /// The hash over all content of the origin, if it is known.
    pub root: Option<Root>,
}

impl ResetEngine {
    /// What the orders would change; nothing is changed, no export is touched.
    pub fn plan(&self, orders: &[ResetOrder]) -> Vec<Result<ResetPlan, ResetError>> {
        orders.iter().map(|order| self.plan_one(order)).collect()
    }

    fn plan_one(&self, order: &ResetOrder) -> Result<ResetPlan, ResetError> {
        let info = self.store().disk(&order.disk)?;
        let base_after = order.source.layer();
        Ok(ResetPlan {
            disk: order.disk.clone(),
            epoch_before: info.epoch,
            base_before: info.base,
            base_after,
            dropped: self.store().written_since_reset(&order.disk)?,
            root: base_after
                .map(|layer| self.store().layer(layer))
                .transpose()?
                .and_then(|l| l.root),
        })
    }
}
