//! CreateInstance and RunInstances.
//!
//! What must always hold: one commit decides over all instances of a call, all their disks and the
//! client token; what is answered can be described, started and attached to at once.
//! A deviation from the reference: a system disk may be as small as its image (rounded up to GiB) and
//! the operator's setting, not 20 GiB; images of a lab are often far smaller.

use std::collections::BTreeSet;

use catalog::{
    Batch,
    record::{Attachment, ChargeType, DiskRole, ImageDisk, Instance, Power, Tags},
};
use jiff::{Timestamp, ToSpan, tz::TimeZone};

use super::{CreateInstance, DataDisk, InstanceCreated, RunInstances};
use crate::{
    Caller, Cloud, CloudError, Countable, Field, InstanceType, SecretText, WhyNotActive,
    caller::Right,
    claim::Hold,
    client_token::TokenSlot,
    disk::{Category, DEFAULT_CATEGORY, DEFAULT_SYSTEM_CATEGORY, DiskPlan, DiskSeed, Given},
    disk::{SYSTEM_DEVICE, free_device},
    first_boot::FirstBoot,
    ids, rules, security_layer, tags, texts,
    world::World,
};

/// Instances in one call.
const MOST_INSTANCES: u32 = 100;
/// Months paid for in advance in one call.
const MOST_MONTHS: u32 = 60;

/// An instance about to be made; its system disk comes first.
struct InstancePlan {
    record: Instance,
    disks: Vec<DiskPlan>,
}

impl Cloud {
    /// Makes a stopped instance with its disks.
    pub fn create_instance(
        &self,
        caller: &Caller,
        request: &CreateInstance,
    ) -> Result<InstanceCreated, CloudError> {
        caller.may(Right::Change, "CreateInstance")?;
        let token = request.client_token.as_deref();
        let secret = revealed(request);
        self.once(caller, "CreateInstance", token, request, &[secret], |slot| {
            self.make_instances(caller, request, 1, Power::Stopped, slot, |made| made[0].clone())
        })
    }

    /// Makes instances and starts them; answers their ids.
    pub fn run_instances(
        &self,
        caller: &Caller,
        request: &RunInstances,
    ) -> Result<Vec<String>, CloudError> {
        caller.may(Right::Change, "RunInstances")?;
        if !(1..=MOST_INSTANCES).contains(&request.amount) {
            let (field, value) = (Field::Amount, request.amount.to_string());
            return Err(CloudError::ValueNotSupported { field, value });
        }
        let template = &request.template;
        let token = template.client_token.as_deref();
        self.once(caller, "RunInstances", token, request, &[revealed(template)], |slot| {
            let ids = |made: &[InstanceCreated]| -> Vec<String> {
                made.iter().map(|one| one.instance.clone()).collect()
            };
            self.make_instances(caller, template, request.amount, Power::Running, slot, ids)
        })
    }

    fn make_instances<T: serde::Serialize>(
        &self,
        caller: &Caller,
        request: &CreateInstance,
        amount: u32,
        power: Power,
        slot: &mut TokenSlot,
        answer: impl FnOnce(&[InstanceCreated]) -> T,
    ) -> Result<T, CloudError> {
        let sources = sources(request);
        let mut world = self.world_when(|world| world.is_quiet(&sources));
        let plan = |_| self.plan_instance(&world, caller, request, power);
        let plans: Vec<_> = (0..amount).map(plan).collect::<Result<_, _>>()?;
        let bytes = plans.iter().flat_map(|plan| &plan.disks).map(|disk| disk.size);
        rules::within_quota(&world, &caller.account, bytes.fold(0, u64::saturating_add))?;
        let holds = plans.iter().flat_map(|plan| &plan.disks).flat_map(DiskPlan::holds);
        let holds: Vec<Hold> = holds.collect();
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);

        let staged = self.stage(plans.iter().flat_map(|plan| &plan.disks))?;
        let made: Vec<_> = plans.iter().map(InstancePlan::made).collect();
        let answer = answer(&made);
        let mut batch = Batch::new();
        for plan in &plans {
            batch.put(&plan.record)?;
            for disk in &plan.disks {
                batch.put(&disk.record)?;
            }
        }
        slot.record(self, &mut batch, &answer)?;
        self.commit_created(&batch, staged)?;
        if power == Power::Running {
            let disks = plans.iter().flat_map(|plan| &plan.disks);
            let disks: Vec<_> = disks.map(|disk| disk.record.id.clone()).collect();
            self.open_exports_of(&disks);
        }
        claim.publish(|world| {
            for plan in plans {
                world.instances.insert(plan.record.id.clone(), plan.record);
                plan.disks.into_iter().for_each(|disk| world.insert_disk(disk));
            }
        });
        Ok(answer)
    }

    fn plan_instance(
        &self,
        world: &World,
        caller: &Caller,
        request: &CreateInstance,
        power: Power,
    ) -> Result<InstancePlan, CloudError> {
        Self::check_account(world, caller)?;
        let record = self.instance_record(caller, request, power)?;
        rules::account_pays(world, &caller.account)?;
        let mut disks = vec![self.plan_system(world, caller, request, &record)?];
        let behind = behind_image(world, request);
        let most = self.inner.settings.data_disks_per_instance;
        if request.data_disks.len().saturating_add(behind.len()) > most {
            return Err(CloudError::TooMany { what: Countable::DataDisks, most });
        }
        let mut taken = BTreeSet::from([SYSTEM_DEVICE.to_owned()]);
        taken.extend(behind.iter().map(|disk| disk.device.clone()));
        let named = request.data_disks.iter().filter_map(|disk| disk.device.clone());
        let named: BTreeSet<_> = named.collect();
        for asked in &request.data_disks {
            let device = match texts::given(asked.device.as_deref()) {
                Some(device) => free_device(&taken, Some(device))?,
                // None that is asked for further on.
                None => free_device(&taken.union(&named).cloned().collect(), None)?,
            };
            taken.insert(device.clone());
            disks.push(self.plan_data(world, caller, asked, &record, device)?);
        }
        for disk in behind {
            disks.push(self.plan_behind(world, caller, disk, &record)?);
        }
        Ok(InstancePlan { record, disks })
    }

    fn instance_record(
        &self,
        caller: &Caller,
        request: &CreateInstance,
        power: Power,
    ) -> Result<Instance, CloudError> {
        let id = ids::instance()?;
        let name = texts::name(Field::InstanceName, request.name.as_deref())?;
        let (charge_type, expires) = self.charge(request)?;
        self.check_login(request.password.as_ref(), request.key_pair.as_deref())?;
        let runs = power == Power::Running;
        let echoed = |field, text: &Option<String>| texts::echoed(field, text.as_deref());
        let groups = request.security_groups.iter();
        let groups = groups.map(|group| texts::echoed(Field::SecurityGroup, Some(group)));
        Ok(Instance {
            account: caller.account.clone(),
            name: if name.is_empty() { id.clone() } else { name },
            id,
            description: texts::description(request.description.as_deref())?,
            host_name: texts::host_name(request.host_name.as_deref())?,
            instance_type: self.instance_type(caller, request)?.id.clone(),
            image_id: request.image.clone().unwrap_or_default(),
            region: self.inner.settings.region.clone(),
            zone: self.zone(texts::given(request.zone.as_deref()))?,
            security_groups: groups.collect::<Result<_, _>>()?,
            vswitch: echoed(Field::VSwitch, &request.vswitch)?,
            vpc: String::new(),
            private_ip: echoed(Field::PrivateIpAddress, &request.private_ip)?,
            charge_type,
            expires,
            power,
            ever_started: runs,
            locks: Vec::new(),
            created: self.now_seconds(),
            started: runs.then(|| self.now_seconds()),
            user_data: texts::user_data(request.user_data.as_deref())?,
            key_pair: texts::key_pair(request.key_pair.as_deref())?,
            internet_charge_type: echoed(Field::InternetChargeType, &request.internet_charge_type)?,
            io_optimized: request.io_optimized.unwrap_or(true),
            serial: ids::serial()?,
            tags: tags::checked(&request.tags)?,
        })
    }

    fn instance_type(
        &self,
        caller: &Caller,
        request: &CreateInstance,
    ) -> Result<&InstanceType, CloudError> {
        let types = &self.inner.settings.instance_types;
        let Some(asked) = texts::given(request.instance_type.as_deref()) else {
            let first = types.first().filter(|_| caller.is_operator());
            return first.ok_or(CloudError::Missing { parameter: "InstanceType" });
        };
        types.iter().find(|kind| kind.id == asked).ok_or_else(|| CloudError::ValueNotSupported {
            field: Field::InstanceType,
            value: asked.into(),
        })
    }

    fn charge(&self, request: &CreateInstance) -> Result<(ChargeType, Option<i64>), CloudError> {
        match texts::given(request.charge_type.as_deref()) {
            None | Some("PostPaid") => Ok((ChargeType::PostPaid, None)),
            Some("PrePaid") => {
                let months = request.period_months.unwrap_or(1);
                let until = months_from(self.now(), months);
                let until = until.filter(|_| (1..=MOST_MONTHS).contains(&months));
                let until = until.ok_or_else(|| CloudError::ValueNotSupported {
                    field: Field::Period,
                    value: months.to_string(),
                })?;
                Ok((ChargeType::PrePaid, Some(until.as_second())))
            }
            Some(other) => Err(CloudError::ValueNotSupported {
                field: Field::InstanceChargeType,
                value: other.into(),
            }),
        }
    }

    fn plan_system(
        &self,
        world: &World,
        caller: &Caller,
        request: &CreateInstance,
        instance: &Instance,
    ) -> Result<DiskPlan, CloudError> {
        let asked = &request.system_disk;
        let active = security_layer::is_active(request.security_enhancement.as_deref())?;
        let given = match texts::given(request.image.as_deref()) {
            Some(image) if active => Given::HardenedImage(image),
            Some(image) => Given::Image(image),
            None if active => {
                return Err(security_layer::refused(WhyNotActive::NoSystemDisk));
            }
            None if caller.is_operator() => Given::Nothing,
            None => return Err(CloudError::Missing { parameter: "ImageId" }),
        };
        let name = texts::given(asked.category.as_deref()).unwrap_or(DEFAULT_SYSTEM_CATEGORY);
        let category = Category::of(name).filter(|category| category.fits_system());
        let seed = DiskSeed {
            account: &caller.account,
            by_operator: caller.is_operator(),
            role: DiskRole::System,
            category: category.ok_or_else(|| not_supported(Field::SystemDiskCategory, name))?,
            zone: &instance.zone,
            given,
            size: asked.size,
            size_field: Field::SystemDiskSize,
            name: asked.name.as_deref(),
            description: asked.description.as_deref(),
            tags: Tags::new(),
            attachment: Some(self.place(instance, SYSTEM_DEVICE.into(), true)),
            charge_type: instance.charge_type,
            expires: instance.expires,
        };
        let mut plan = self.plan_disk(world, seed)?;
        let first = FirstBoot::of(request.password.as_ref(), request.key_pair.as_deref());
        if let Some(data) = first {
            plan.record.pending_reset = Some(self.with_disk(&data, &plan.record.id)?);
        }
        Ok(plan)
    }

    fn plan_data(
        &self,
        world: &World,
        caller: &Caller,
        asked: &DataDisk,
        instance: &Instance,
        device: String,
    ) -> Result<DiskPlan, CloudError> {
        let name = texts::given(asked.category.as_deref()).unwrap_or(DEFAULT_CATEGORY);
        let category =
            Category::of(name).ok_or_else(|| not_supported(Field::DataDiskCategory, name))?;
        let with_instance = category.is_ephemeral() || asked.delete_with_instance.unwrap_or(false);
        let given = texts::given(asked.snapshot.as_deref());
        if given.is_some() && category.is_ephemeral() {
            // It would be an initial state, and these have none.
            return Err(not_supported(Field::DataDiskCategory, name));
        }
        self.plan_disk(
            world,
            DiskSeed {
                account: &caller.account,
                by_operator: caller.is_operator(),
                role: DiskRole::Data,
                category,
                zone: &instance.zone,
                given: given.map_or(Given::Nothing, Given::Snapshot),
                size: asked.size,
                size_field: Field::DataDiskSize,
                name: asked.name.as_deref(),
                description: asked.description.as_deref(),
                tags: Tags::new(),
                attachment: Some(self.place(instance, device, with_instance)),
                charge_type: instance.charge_type,
                expires: instance.expires,
            },
        )
    }

    /// A data disk that comes with the image.
    fn plan_behind(
        &self,
        world: &World,
        caller: &Caller,
        disk: &ImageDisk,
        instance: &Instance,
    ) -> Result<DiskPlan, CloudError> {
        let owner = world.images.get(&instance.image_id).map_or("", |image| &image.account);
        let given = match texts::given(Some(&disk.snapshot)) {
            Some(snapshot) => Given::BehindImage { snapshot, owner },
            None => Given::Nothing,
        };
        let category = Category::of(DEFAULT_CATEGORY);
        self.plan_disk(
            world,
            DiskSeed {
                account: &caller.account,
                // Its size is what the image says.
                by_operator: true,
                role: DiskRole::Data,
                category: category.expect("the default is on offer"),
                zone: &instance.zone,
                given,
                size: Some(disk.size),
                size_field: Field::DataDiskSize,
                name: None,
                description: None,
                tags: Tags::new(),
                attachment: Some(self.place(instance, disk.device.clone(), false)),
                charge_type: instance.charge_type,
                expires: instance.expires,
            },
        )
    }

    fn place(&self, instance: &Instance, device: String, with_instance: bool) -> Attachment {
        Attachment {
            instance: instance.id.clone(),
            device,
            attached: self.now_seconds(),
            delete_with_instance: with_instance,
        }
    }
}

impl InstancePlan {
    fn made(&self) -> InstanceCreated {
        let mut ids = self.disks.iter().map(|disk| disk.record.id.clone());
        InstanceCreated {
            instance: self.record.id.clone(),
            system_disk: ids.next().expect("the system disk comes first"),
            data_disks: ids.collect(),
        }
    }
}

/// The data disks of the image whose devices the request does not give to others.
fn behind_image<'w>(world: &'w World, request: &CreateInstance) -> Vec<&'w ImageDisk> {
    let image = request.image.as_ref().and_then(|id| world.images.get(id));
    let asked =
        |device: &str| request.data_disks.iter().any(|disk| disk.device.as_deref() == Some(device));
    let all = image.into_iter().flat_map(|image| &image.data_disks);
    all.filter(|disk| !asked(&disk.device)).collect()
}

/// What the disks of the request are made from.
fn sources(request: &CreateInstance) -> Vec<&str> {
    let snapshots = request.data_disks.iter().map(|disk| &disk.snapshot);
    snapshots.chain([&request.image]).flatten().map(String::as_str).collect()
}

fn revealed(request: &CreateInstance) -> &str {
    request.password.as_ref().map_or("", SecretText::reveal)
}

fn months_from(time: Timestamp, months: u32) -> Option<Timestamp> {
    let later = time.to_zoned_datetime(TimeZone::UTC).checked_add(i64::from(months).months());
    later.ok().map(|later| later.timestamp())
}

fn not_supported(field: Field, value: &str) -> CloudError {
    CloudError::ValueNotSupported { field, value: value.into() }
}
