//! DescribeDisks, and what `reinit disk show` prints.

use block_device::{ByteLength, DiskId};
use block_store::{ContentRoot, DiskSpace, LayerId, ResetReceipt, StoreError};
use catalog::record::{Disk, Origin, Snapshot};

use super::{
    AttachmentView, DescribeDisks, DiskDetail, DiskView, LastReset, create::is_running,
    source_snapshot,
};
use crate::{
    Caller, Cloud, CloudError, Countable, Page,
    caller::Right,
    clock::whole_seconds,
    cloud::disk_name,
    filter::{check_ids, equals, equals_text, named, picked, tagged, within},
    security_layer, source,
    world::World,
};

impl Cloud {
    /// The disks of the account that fit.
    pub fn describe_disks(
        &self,
        caller: &Caller,
        asked: &DescribeDisks,
    ) -> Result<Page<DiskView>, CloudError> {
        caller.may(Right::Describe, "DescribeDisks")?;
        check_ids(asked.ids.as_deref(), Countable::DiskIds)?;
        asked.paging.check()?;
        let world = self.world();
        let own = picked(&world.disks, asked.ids.as_deref());
        let own = own.filter(|disk| disk.account == caller.account);
        let fitting = own.filter(|disk| fits(&world, asked, disk)).collect();
        // Only what is shown is copied: the lock is everybody's.
        Ok(asked.paging.cut::<&Disk>(fitting).map(|disk| view(&world, disk)))
    }

    /// One disk with what the store knows of it.
    pub fn show_disk(&self, caller: &Caller, id: &str) -> Result<DiskDetail, CloudError> {
        caller.may(Right::Describe, "disk show")?;
        let world = self.world();
        let view = view(&world, world.disk(&caller.account, id)?);
        let instance = view.attachment.as_ref().map(|place| place.instance.as_str());
        let exported = instance.is_some_and(|instance| is_running(&world, instance));
        let rates = world.rates(id);
        drop(world);
        let name = disk_name(id)?;
        let info = self.inner.store.disk(&name)?;
        let (written_since_reset, space, reason) = self.measured(&name)?;
        let last_reset = info.last_reset.map(|receipt| self.last_reset(id, info.size, &receipt));
        let security_enhanced = self.stands_on_security_layer(id, info.base);
        let (epoch, refusal) = (info.epoch.get(), info.refusal.or(reason));
        Ok(DiskDetail {
            view,
            epoch,
            written_since_reset,
            space,
            last_reset,
            refusal,
            exported,
            rates,
            security_enhanced,
        })
    }

    fn stands_on_security_layer(&self, disk: &str, base: Option<LayerId>) -> bool {
        let world = self.world();
        let disk = world.disks.get(disk);
        disk.is_some_and(|disk| security_layer::under(&world, disk, base).is_some())
    }

    /// What was written and what it takes; of a disk that is refused there is only the reason.
    fn measured(
        &self,
        name: &DiskId,
    ) -> Result<(ByteLength, DiskSpace, Option<String>), CloudError> {
        let store = &self.inner.store;
        let measured = store.written_since_reset(name);
        match measured.and_then(|written| Ok((written, store.measure(name)?))) {
            Ok((written, space)) => Ok((written, space, None)),
            Err(StoreError::Refused { reason, .. }) => {
                Ok((ByteLength::new(0), DiskSpace::default(), Some(reason)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The ledger's receipt, with the names people know its base by.
    fn last_reset(&self, disk: &str, size: ByteLength, receipt: &ResetReceipt) -> LastReset {
        let root = match receipt.base {
            // One that cannot be looked at has no root to show.
            Some(layer) => self.inner.store.layer(layer).ok().and_then(|layer| layer.root),
            None => Some(ContentRoot::new(size).finish()),
        };
        LastReset {
            request_id: receipt.request_id.to_string(),
            time: jiff::Timestamp::try_from(receipt.time).unwrap_or_default(),
            epoch_before: receipt.epoch_before.get(),
            epoch_after: receipt.epoch_after.get(),
            origin: self.origin_on(disk, receipt.base),
            root: root.map(|root| root.to_bytes()),
        }
    }

    /// The origin of the disk if it stands on that layer, else the snapshot of the disk that does.
    fn origin_on(&self, disk: &str, base: Option<LayerId>) -> Option<Origin> {
        let world = self.world();
        let record = world.disks.get(disk)?;
        let origin = source::initial(&world, i64::MIN, record).ok();
        if origin.is_some_and(|found| found.source.layer() == base)
            || security_layer::under(&world, record, base).is_some()
        {
            return Some(record.origin.clone());
        }
        let base = base.map(LayerId::to_bytes);
        let own = |snapshot: &&Snapshot| snapshot.disk == disk && snapshot.layer == base;
        let found = world.snapshots.values().find(own);
        found.map(|snapshot| Origin::Snapshot { id: snapshot.id.clone() })
    }
}

fn fits(world: &World, asked: &DescribeDisks, disk: &Disk) -> bool {
    let place = disk.attachment.as_ref();
    let source = source_snapshot(&disk.origin).unwrap_or_default();
    named(asked.name.as_deref(), &disk.name)
        && equals_text(asked.category.as_deref(), &disk.category)
        && equals(asked.role.as_ref(), &disk.role)
        && asked.status.is_none_or(|status| world.disk_status(disk) == status)
        && equals_text(asked.instance.as_deref(), place.map_or("", |place| &place.instance))
        && equals_text(asked.snapshot.as_deref(), source)
        && equals_text(asked.zone.as_deref(), &disk.zone)
        && equals(asked.portable.as_ref(), &disk.portable)
        && equals(asked.delete_with_instance.as_ref(), &disk.delete_with_instance)
        && equals(asked.enable_auto_snapshot.as_ref(), &disk.enable_auto_snapshot)
        && equals(asked.delete_auto_snapshot.as_ref(), &disk.delete_auto_snapshot)
        && asked.lock.is_none_or(|lock| disk.locks.contains(&lock))
        && equals(asked.charge_type.as_ref(), &disk.charge_type)
        && tagged(&asked.tags, &disk.tags)
        && within(whole_seconds(disk.created), asked.created_from, asked.created_until)
}

fn view(world: &World, disk: &Disk) -> DiskView {
    DiskView {
        id: disk.id.clone(),
        account: disk.account.clone(),
        name: disk.name.clone(),
        description: disk.description.clone(),
        category: disk.category.clone(),
        role: disk.role,
        status: world.disk_status(disk),
        size: ByteLength::new(world.sizes.get(&disk.id).copied().unwrap_or(0)),
        origin: disk.origin.clone(),
        attachment: disk.attachment.as_ref().map(|place| AttachmentView {
            instance: place.instance.clone(),
            device: place.device.clone(),
            attached: whole_seconds(place.attached),
        }),
        detached: disk.detached.map(whole_seconds),
        delete_with_instance: disk.delete_with_instance,
        portable: disk.portable,
        created: whole_seconds(disk.created),
        charge_type: disk.charge_type,
        expires: disk.expires.map(whole_seconds),
        locks: disk.locks.clone(),
        serial: disk.serial.clone(),
        zone: disk.zone.clone(),
        region: disk.region.clone(),
        tags: disk.tags.clone(),
        enable_auto_snapshot: disk.enable_auto_snapshot,
        delete_auto_snapshot: disk.delete_auto_snapshot,
    }
}
