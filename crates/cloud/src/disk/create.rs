//! CreateDisk.
//!
//! What must always hold: the commit of the record decides; a disk asked for with an instance is
//! attached from its first moment.

use catalog::{
    Batch,
    record::{Attachment, ChargeType, DiskRole},
};

use super::{CreateDisk, DiskPlan, DiskSeed, Given, category};
use crate::{
    Caller, Cloud, CloudError, DiskStatus, Field, InstanceStatus, Resource,
    caller::Right,
    claim::Hold,
    client_token::TokenSlot,
    disk::{Category, free_device},
    rules, tags, texts,
    world::World,
};

impl Cloud {
    /// Makes a disk: empty, or with the content of a snapshot or image. Answers its id.
    pub fn create_disk(&self, caller: &Caller, request: &CreateDisk) -> Result<String, CloudError> {
        caller.may(Right::Change, "CreateDisk")?;
        let token = request.client_token.as_deref();
        self.once(caller, "CreateDisk", token, request, &[], |slot| {
            self.make_disk(caller, request, slot)
        })
    }

    fn make_disk(
        &self,
        caller: &Caller,
        request: &CreateDisk,
        slot: &mut TokenSlot,
    ) -> Result<String, CloudError> {
        let sources = [&request.snapshot, &request.image, &request.instance];
        let sources: Vec<_> = sources.into_iter().flatten().map(String::as_str).collect();
        let mut world = self.world_when(|world| world.is_quiet(&sources));
        let plan = self.check_create(&world, caller, request)?;
        let id = plan.record.id.clone();
        let mut holds = plan.holds();
        holds.push(Hold::Disk(id.clone(), DiskStatus::Creating));
        if let Some(Attachment { instance, device, .. }) = plan.record.attachment.clone() {
            holds.push(Hold::Arriving { disk: id.clone(), instance, device });
        }
        let exported = request.instance.as_deref().is_some_and(|id| is_running(&world, id));
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);

        let staged = self.stage([&plan])?;
        let mut batch = Batch::new();
        batch.put(&plan.record)?;
        slot.record(self, &mut batch, &id)?;
        self.commit_created(&batch, staged)?;
        if exported {
            self.open_exports_of(std::slice::from_ref(&id));
        }
        claim.publish(|world| world.insert_disk(plan));
        Ok(id)
    }

    fn check_create(
        &self,
        world: &World,
        caller: &Caller,
        request: &CreateDisk,
    ) -> Result<DiskPlan, CloudError> {
        Self::check_account(world, caller)?;
        let given = self.given_for(caller, request)?;
        let category = alone(request.category.as_deref())?;
        let (zone, attachment) = self.place_of(world, caller, request)?;
        rules::account_pays(world, &caller.account)?;
        let bound = request.instance.is_some();
        let seed = DiskSeed {
            account: &caller.account,
            by_operator: caller.is_operator(),
            role: DiskRole::Data,
            category,
            zone: &zone,
            given,
            size: request.size,
            size_field: Field::DiskSize,
            name: request.name.as_deref(),
            description: request.description.as_deref(),
            tags: tags::checked(&request.tags)?,
            attachment,
            charge_type: ChargeType::PostPaid,
            expires: None,
        };
        let mut plan = self.plan_disk(world, seed)?;
        // A disk bought with its instance stays with it.
        plan.record.portable &= !bound;
        rules::within_quota(world, &caller.account, plan.size)?;
        Ok(plan)
    }

    fn given_for<'r>(
        &self,
        caller: &Caller,
        request: &'r CreateDisk,
    ) -> Result<Given<'r>, CloudError> {
        let snapshot = texts::given(request.snapshot.as_deref());
        match (snapshot, texts::given(request.image.as_deref())) {
            (None, None) => Ok(Given::Nothing),
            (Some(snapshot), None) => Ok(Given::Snapshot(snapshot)),
            (None, Some(image)) => {
                caller.must_be_operator("a disk made from an image by itself")?;
                Ok(Given::Image(image))
            }
            (Some(_), Some(_)) => {
                Err(CloudError::ParametersConflict { first: "SnapshotId", second: "ImageId" })
            }
        }
    }

    /// Its zone, and where it is attached if an instance was named.
    fn place_of(
        &self,
        world: &World,
        caller: &Caller,
        request: &CreateDisk,
    ) -> Result<(String, Option<Attachment>), CloudError> {
        let zone = texts::given(request.zone.as_deref());
        let Some(instance) = texts::given(request.instance.as_deref()) else {
            return Ok((self.zone(zone)?, None));
        };
        if zone.is_some() {
            return Err(CloudError::ParametersConflict { first: "ZoneId", second: "InstanceId" });
        }
        let instance = world.instance(&caller.account, instance)?;
        rules::not_locked(instance)?;
        rules::instance_is_paid(world, self.now_seconds(), instance)?;
        rules::instance_is(world, instance, SETTLED)?;
        self.has_room(world, &instance.id)?;
        let device = free_device(&world.devices_of(&instance.id), None)?;
        let attachment = Attachment {
            instance: instance.id.clone(),
            device,
            attached: self.now_seconds(),
            delete_with_instance: true,
        };
        Ok((instance.zone.clone(), Some(attachment)))
    }

    /// The zone asked for, or the first.
    pub(crate) fn zone(&self, asked: Option<&str>) -> Result<String, CloudError> {
        let zones = &self.inner.settings.zones;
        let found = match asked {
            Some(asked) => zones.iter().find(|zone| *zone == asked),
            None => zones.first(),
        };
        let id = asked.unwrap_or_default();
        found.cloned().ok_or_else(|| CloudError::not_found(Resource::Zone, id))
    }

    /// The instance can take one more data disk.
    pub(crate) fn has_room(&self, world: &World, instance: &str) -> Result<(), CloudError> {
        // The system disk does not count.
        let data = world.devices_of(instance).len().saturating_sub(1);
        if data >= self.inner.settings.data_disks_per_instance {
            return Err(CloudError::DiskLimitExceeded { instance: instance.into() });
        }
        Ok(())
    }

    /// The categories of disks on offer.
    pub fn disk_categories() -> Vec<&'static str> {
        Category::names().collect()
    }
}

/// The states in which disks come and go.
pub(crate) const SETTLED: &[InstanceStatus] = &[InstanceStatus::Running, InstanceStatus::Stopped];

fn alone(asked: Option<&str>) -> Result<&'static Category, CloudError> {
    let name = texts::given(asked).unwrap_or(category::DEFAULT);
    Category::of(name).filter(|category| category.fits_alone()).ok_or_else(|| {
        CloudError::ValueNotSupported { field: Field::DiskCategory, value: name.into() }
    })
}

pub(crate) fn is_running(world: &World, instance: &str) -> bool {
    let found = world.instances.get(instance);
    found.is_some_and(|found| world.instance_status(found) == InstanceStatus::Running)
}
