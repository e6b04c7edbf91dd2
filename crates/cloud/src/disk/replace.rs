//! ReplaceSystemDisk: a new system disk from an image in the place of the old one.
//!
//! What must always hold: one commit puts the new disk in the place and deletes the old one: after a
//! crash the instance has exactly one system disk, the one the catalog names. Snapshots of the old disk
//! stay.
//! The security lock does not stand in the way: a machine with an infected system is set up anew like
//! this.

use block_store::{StagedDelete, StagedDisk};
use catalog::{
    Batch, CatalogError,
    record::{Attachment, Disk, DiskRole, Instance},
};
use serde::Serialize;

use crate::{
    Caller, Cloud, CloudError, DiskStatus, Field, InstanceStatus, Resource, SecretText,
    caller::Right,
    claim::Hold,
    client_token::TokenSlot,
    cloud::disk_name,
    disk::{Category, DEFAULT_SYSTEM_CATEGORY, DiskPlan, DiskSeed, Given, delete_records},
    first_boot::FirstBoot,
    reinit_disk::not_in_a_snapshot,
    rules, security_layer, texts,
    world::World,
};

/// `ReplaceSystemDisk`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReplaceSystemDisk {
    /// The instance.
    pub instance: String,
    /// What the new disk starts from.
    pub image: String,
    /// Its present system disk, for those that want to be sure.
    pub disk: Option<String>,
    /// Bytes; the image's size rounded up to GiB if none is given.
    pub size: Option<u64>,
    /// For the first boot; kept sealed.
    #[serde(skip)]
    pub password: Option<SecretText>,
    /// In place of a password.
    pub key_pair: Option<String>,
    /// `Active` or `Deactive`, as given.
    pub security_enhancement: Option<String>,
    /// Same token and parameters, same answer.
    pub client_token: Option<String>,
}

/// Checked, and nothing done yet.
struct Replacement {
    instance: Instance,
    old: Disk,
    new: DiskPlan,
}

impl Cloud {
    /// Gives an instance a new system disk; answers its id.
    pub fn replace_system_disk(
        &self,
        caller: &Caller,
        request: &ReplaceSystemDisk,
    ) -> Result<String, CloudError> {
        caller.may(Right::Change, "ReplaceSystemDisk")?;
        security_layer::is_active(request.security_enhancement.as_deref())?;
        self.check_login(request.password.as_ref(), request.key_pair.as_deref())?;
        let token = request.client_token.as_deref();
        let secret = request.password.as_ref().map_or("", SecretText::reveal);
        self.once(caller, "ReplaceSystemDisk", token, request, &[secret], |slot| {
            self.make_replacement(caller, request, slot)
        })
    }

    fn make_replacement(
        &self,
        caller: &Caller,
        request: &ReplaceSystemDisk,
        slot: &mut TokenSlot,
    ) -> Result<String, CloudError> {
        let mut world = self.world_when(|world| {
            world.is_quiet_around(&request.instance) && world.is_quiet(&[&request.image])
        });
        let Replacement { instance, old, new } = self.check_replace(&world, caller, request)?;
        let mut holds = new.holds();
        holds.push(Hold::Quiet(instance.id.clone()));
        holds.push(Hold::Disk(old.id.clone(), DiskStatus::ReIniting));
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);

        let id = new.record.id.clone();
        let staged = self.stage([&new])?;
        let leaving = self.inner.store.delete_disk(&disk_name(&old.id)?)?;
        let mut batch = Batch::new();
        batch.put(&instance)?.put(&new.record)?;
        delete_records(&mut batch, &old.id);
        slot.record(self, &mut batch, &id)?;
        self.commit_replaced(&batch, staged, leaving)?;
        claim.publish(|world| {
            world.instances.insert(instance.id.clone(), instance);
            world.remove_disk(&old.id);
            world.insert_disk(new);
        });
        Ok(id)
    }

    /// In the order of the documented codes.
    fn check_replace(
        &self,
        world: &World,
        caller: &Caller,
        request: &ReplaceSystemDisk,
    ) -> Result<Replacement, CloudError> {
        let instance = world.instance(&caller.account, &request.instance)?;
        let asked = texts::given(request.disk.as_deref());
        let is_old = |disk: &&&Disk| {
            disk.role == DiskRole::System && asked.is_none_or(|asked| asked == disk.id)
        };
        let old = world.disks_of(&instance.id).iter().find(is_old).copied().cloned();
        let none = || CloudError::not_found(Resource::Disk, asked.unwrap_or_default());
        let old = old.ok_or_else(none)?;
        let mut new = self.plan_replacement(world, caller, request, &old)?;
        rules::instance_is_paid(world, self.now_seconds(), instance)?;
        rules::disk_is_paid(world, self.now_seconds(), &old)?;
        rules::instance_is(world, instance, &[InstanceStatus::Stopped])?;
        let status = world.disk_status(&old);
        if status != DiskStatus::InUse {
            return Err(CloudError::IncorrectDiskStatus { disk: old.id, status });
        }
        not_in_a_snapshot(world, &old)?;
        let size = world.sizes.get(&old.id).copied().unwrap_or(0);
        rules::within_quota(world, &caller.account, new.size.saturating_sub(size))?;
        let first = FirstBoot::of(request.password.as_ref(), request.key_pair.as_deref());
        if let Some(data) = first {
            new.record.pending_reset = Some(self.with_disk(&data, &new.record.id)?);
        }
        let mut instance = instance.clone();
        instance.image_id.clone_from(&request.image);
        // The login goes with the disk it was for.
        instance.key_pair = texts::key_pair(request.key_pair.as_deref())?;
        Ok(Replacement { instance, old, new })
    }

    /// What people gave the old disk, the new one keeps.
    fn plan_replacement(
        &self,
        world: &World,
        caller: &Caller,
        request: &ReplaceSystemDisk,
        old: &Disk,
    ) -> Result<DiskPlan, CloudError> {
        let category =
            Category::of(&old.category).or_else(|| Category::of(DEFAULT_SYSTEM_CATEGORY));
        let attachment = old.attachment.clone();
        let attachment =
            attachment.map(|place| Attachment { attached: self.now_seconds(), ..place });
        let active = security_layer::is_active(request.security_enhancement.as_deref())?;
        let given = if active { Given::HardenedImage } else { Given::Image };
        let mut plan = self.plan_disk(
            world,
            DiskSeed {
                account: &caller.account,
                by_operator: caller.is_operator(),
                role: DiskRole::System,
                category: category.expect("the default is on offer"),
                zone: &old.zone,
                given: given(&request.image),
                size: request.size,
                size_field: Field::SystemDiskSize,
                name: Some(&old.name),
                description: Some(&old.description),
                tags: old.tags.clone(),
                attachment,
                charge_type: old.charge_type,
                expires: old.expires,
            },
        )?;
        plan.record.category.clone_from(&old.category);
        plan.record.delete_with_instance = old.delete_with_instance;
        plan.record.enable_auto_snapshot = old.enable_auto_snapshot;
        plan.record.delete_auto_snapshot = old.delete_auto_snapshot;
        Ok(plan)
    }

    /// A failed commit undoes both, unless nobody knows whether it failed: then the next start
    /// decides, over both alike.
    fn commit_replaced(
        &self,
        batch: &Batch,
        new: Vec<StagedDisk>,
        old: StagedDelete,
    ) -> Result<(), CloudError> {
        if let Err(error) = self.inner.catalog.commit(batch, &[]) {
            if matches!(error, CatalogError::InDoubt { .. }) {
                new.into_iter().for_each(StagedDisk::leave_to_start);
                old.leave_to_start();
            }
            return Err(error.into());
        }
        for disk in new {
            if let Err(error) = disk.publish() {
                tracing::error!(%error, "a new disk stays marked until the next start");
            }
        }
        if let Err(error) = old.finish() {
            tracing::error!(%error, "a deleted disk stays marked until the next start");
        }
        Ok(())
    }
}
