//! `reinit disk limit`: how fast a disk may go.
//!
//! What must always hold: an export runs at the rates in the catalog, from its opening on. So nobody opens or
//! closes an export of the disk while they are changed.
//! Left to others: waiting for turns (`block_device::Pace`, the data planes).

use std::num::NonZeroU64;

use block_device::Rates;
use catalog::{
    Batch,
    record::{Disk, DiskLimits},
};

use super::LimitDisk;
use crate::{
    Caller, Cloud, CloudError, caller::Right, claim::Hold, cloud::disk_name, world::World,
};

impl Cloud {
    /// Changes the limits of a disk; one in use goes at its new pace at once.
    pub fn limit_disk(&self, caller: &Caller, request: &LimitDisk) -> Result<Rates, CloudError> {
        caller.may(Right::Change, "disk limit")?;
        if request.iops.is_none() && request.bytes_per_second.is_none() {
            return Err(CloudError::NothingToModify);
        }
        let id = request.disk.as_str();
        let mut world = self.world_when(|world| world.is_quiet_behind(id) && world.is_at_rest(id));
        world.disk(&caller.account, id)?;
        let now = world.rates(id);
        let rates = Rates {
            iops: request.iops.map_or(now.iops, NonZeroU64::new),
            bytes_per_second: request
                .bytes_per_second
                .map_or(now.bytes_per_second, NonZeroU64::new),
        };
        let claim = self.claim(caller, &mut world, vec![Hold::Quiet(id.into())])?;
        drop(world);
        let limits = limits_of(id, rates);
        let mut batch = Batch::new();
        match &limits {
            Some(limits) => batch.put(limits)?,
            None => batch.delete::<DiskLimits>(id),
        };
        self.commit(&batch)?;
        self.inner.exports.set_rates(&disk_name(id)?, rates);
        claim.publish(|world| match limits {
            Some(limits) => drop(world.limits.insert(id.into(), limits)),
            None => drop(world.limits.remove(id)),
        });
        Ok(rates)
    }
}

/// What is kept of rates; nothing of those without a limit.
fn limits_of(disk: &str, rates: Rates) -> Option<DiskLimits> {
    (rates != Rates::UNLIMITED).then(|| DiskLimits {
        disk: disk.into(),
        iops: rates.iops.map(NonZeroU64::get),
        bytes_per_second: rates.bytes_per_second.map(NonZeroU64::get),
    })
}

/// A disk goes with all that is kept of it.
pub(crate) fn delete_records(batch: &mut Batch, disk: &str) {
    batch.delete::<Disk>(disk).delete::<DiskLimits>(disk);
}

impl World {
    /// How fast the disk may go.
    pub(crate) fn rates(&self, disk: &str) -> Rates {
        let Some(limits) = self.limits.get(disk) else { return Rates::UNLIMITED };
        Rates {
            iops: limits.iops.and_then(NonZeroU64::new),
            bytes_per_second: limits.bytes_per_second.and_then(NonZeroU64::new),
        }
    }

    /// Whether neither the disk nor its instance is on the way from one state to another.
    fn is_at_rest(&self, disk: &str) -> bool {
        let attachment = self.disks.get(disk).and_then(|disk| disk.attachment.as_ref());
        self.is_free(&[disk, attachment.map_or("", |place| place.instance.as_str())])
    }
}
