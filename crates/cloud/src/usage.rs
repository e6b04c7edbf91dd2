//! What the store holds, for health checks and metrics.

use std::collections::BTreeMap;

use block_device::{DiskId, PlaneActivity};
use block_store::{Epoch, HistogramView, SpaceTotals, StoreCounters, StoreSpace};

use crate::{Cloud, CloudError, DiskStatus, InstanceStatus};

/// What the store holds.
#[derive(Clone, Debug)]
pub struct StoreUsage {
    /// Disks by state.
    pub disks: BTreeMap<String, u64>,
    /// Instances by state.
    pub instances: BTreeMap<String, u64>,
    /// Snapshots.
    pub snapshots: u64,
    /// Images.
    pub images: u64,
    /// The file system below.
    pub space: StoreSpace,
    /// What the disks and layers take of it, as last measured.
    pub totals: SpaceTotals,
    /// What the store counted since it was opened.
    pub counters: StoreCounters,
    /// How long resets took to close exports, in nanoseconds for each batch.
    pub reset_closing: HistogramView,
    /// What the exports do.
    pub activity: PlaneActivity,
    /// How often each exported disk was reset since it was made.
    pub resets: Vec<(DiskId, u64)>,
}

impl Cloud {
    /// What the store holds, over all accounts.
    pub fn usage(&self) -> Result<StoreUsage, CloudError> {
        let space = self.inner.store.space()?;
        let totals = self.inner.store.space_totals();
        let counters = self.inner.store.counters();
        let reset_closing = self.inner.engine.closing_times();
        let activity = self.inner.exports.activity();
        let world = self.world();
        let disks = world.disks.values().map(|disk| world.disk_status(disk));
        let instances = world.instances.values().map(|one| world.instance_status(one));
        Ok(StoreUsage {
            disks: counted(disks.map(|status: DiskStatus| status.to_string())),
            instances: counted(instances.map(|status: InstanceStatus| status.to_string())),
            snapshots: u64::try_from(world.snapshots.len()).unwrap_or(u64::MAX),
            images: u64::try_from(world.images.len()).unwrap_or(u64::MAX),
            space,
            totals,
            counters,
            reset_closing,
            resets: self.resets_of(&activity),
            activity,
        })
    }
}

impl Cloud {
    /// The epoch counts them; a disk that is gone by now is left out.
    fn resets_of(&self, activity: &PlaneActivity) -> Vec<(DiskId, u64)> {
        let disks = activity.exports.iter().map(|(disk, _)| disk);
        let resets = disks.filter_map(|disk| {
            let epoch = self.inner.store.disk(disk).ok()?.epoch;
            Some((disk.clone(), epoch.get().saturating_sub(Epoch::FIRST.get())))
        });
        resets.collect()
    }
}

fn counted(states: impl Iterator<Item = String>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    states.for_each(|state| *counts.entry(state).or_default() += 1);
    counts
}
