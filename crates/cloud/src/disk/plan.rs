//! A disk about to be made: checked, sized, and what it starts from pinned.
//!
//! What must always hold: planning only looks; what a plan starts from stays until the disk's records
//! are durable, through the holds the plan names.
//! Left to others: making it (`create`, `instance/create`).

use block_device::ByteLength;
use block_store::{LayerId, StagedDisk};
use catalog::{
    Batch, CatalogError,
    record::{
        Attachment, ChargeType, Disk, DiskRole, Image, ImageStatus, LayerBytes, Origin, Snapshot,
        SnapshotStatus, Tags,
    },
};

use crate::{
    Cloud, CloudError, Field, GIB,
    claim::Hold,
    cloud::{disk_name, layer_name},
    disk::Category,
    ids, security_layer, source, texts,
    world::World,
};

/// What a disk starts from, as asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Given<'a> {
    Nothing,
    Image(&'a str),
    /// An image with its security layer.
    HardenedImage(&'a str),
    Snapshot(&'a str),
    /// A snapshot that an image of that account names.
    BehindImage {
        snapshot: &'a str,
        owner: &'a str,
    },
}

/// What is asked of a new disk.
#[derive(Debug)]
pub(crate) struct DiskSeed<'a> {
    pub(crate) account: &'a str,
    /// The operator, and what an image says, is not held to the table of categories.
    pub(crate) by_operator: bool,
    pub(crate) role: DiskRole,
    pub(crate) category: &'static Category,
    pub(crate) zone: &'a str,
    pub(crate) given: Given<'a>,
    pub(crate) size: Option<u64>,
    /// Which size, for the error.
    pub(crate) size_field: Field,
    pub(crate) name: Option<&'a str>,
    pub(crate) description: Option<&'a str>,
    pub(crate) tags: Tags,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) charge_type: ChargeType,
    pub(crate) expires: Option<i64>,
}

/// A disk about to be made.
#[derive(Debug)]
pub(crate) struct DiskPlan {
    pub(crate) record: Disk,
    pub(crate) size: u64,
    base: Option<LayerId>,
    pin: Option<String>,
    layer_pin: Option<LayerBytes>,
}

impl DiskPlan {
    /// What must be held until its records are durable.
    pub(crate) fn holds(&self) -> Vec<Hold> {
        let mut holds = vec![Hold::Bytes(self.record.account.clone(), self.size)];
        holds.extend(self.pin.clone().map(Hold::Pin));
        holds.extend(self.layer_pin.map(Hold::LayerPin));
        holds
    }
}

/// What a disk starts from, found.
struct Start {
    origin: Origin,
    owner: String,
    size: u64,
    base: Option<LayerId>,
    pin: Option<String>,
    layer_pin: Option<LayerBytes>,
}

impl Cloud {
    pub(crate) fn plan_disk(
        &self,
        world: &World,
        seed: DiskSeed<'_>,
    ) -> Result<DiskPlan, CloudError> {
        let name = texts::name(Field::DiskName, seed.name)?;
        let description = texts::description(seed.description)?;
        let start = self.start_of(world, &seed)?;
        let size = self.size_of(&seed, &start)?;
        // A system disk, and one of a local kind, lives and dies with its instance.
        let bound = seed.role == DiskRole::System || seed.category.is_ephemeral();
        let with_instance = seed.attachment.as_ref().is_some_and(|to| to.delete_with_instance);
        let record = Disk {
            id: ids::disk()?,
            account: seed.account.into(),
            name,
            description,
            category: seed.category.name.into(),
            role: seed.role,
            origin: start.origin,
            origin_owner: start.owner,
            origin_via_image: matches!(seed.given, Given::BehindImage { .. }),
            delete_with_instance: with_instance,
            attachment: seed.attachment,
            detached: None,
            portable: !bound,
            created: self.now_seconds(),
            charge_type: seed.charge_type,
            expires: seed.expires,
            locks: Vec::new(),
            serial: ids::serial()?,
            zone: seed.zone.into(),
            region: self.inner.settings.region.clone(),
            tags: seed.tags,
            enable_auto_snapshot: true,
            delete_auto_snapshot: true,
            pending_reset: None,
        };
        let Start { base, pin, layer_pin, .. } = start;
        Ok(DiskPlan { record, size, base, pin, layer_pin })
    }

    fn start_of(&self, world: &World, seed: &DiskSeed<'_>) -> Result<Start, CloudError> {
        let own = seed.account.to_owned();
        match seed.given {
            Given::Nothing => {
                let (base, pin, layer_pin) = (None, None, None);
                Ok(Start { origin: Origin::Empty, owner: own, size: 0, base, pin, layer_pin })
            }
            Given::Snapshot(id) => {
                let snapshot = world.snapshot(seed.account, id)?;
                if snapshot.disk_role != DiskRole::Data && !seed.by_operator {
                    return Err(CloudError::SnapshotOfWrongType { snapshot: id.into() });
                }
                self.start_of_snapshot(snapshot)
            }
            Given::BehindImage { snapshot, owner } => {
                self.start_of_snapshot(world.snapshot(owner, snapshot)?)
            }
            Given::Image(id) => {
                let image = available_image(world, seed.account, id)?;
                Ok(start_of_image(image, image.size, image.layer, None))
            }
            Given::HardenedImage(id) => {
                let image = available_image(world, seed.account, id)?;
                let security = security_layer::of_image(image)?;
                let (size, layer) = (image.size.max(security.size), Some(security.layer));
                Ok(start_of_image(image, size, layer, layer))
            }
        }
    }

    fn start_of_snapshot(&self, snapshot: &Snapshot) -> Result<Start, CloudError> {
        let id = snapshot.id.clone();
        if snapshot.status != SnapshotStatus::Accomplished {
            return Err(CloudError::SnapshotNotReady { snapshot: id, status: snapshot.status });
        }
        if source::is_too_old(snapshot, self.snapshot_cutoff()) {
            return Err(CloudError::SnapshotTooOld { snapshot: id });
        }
        Ok(Start {
            origin: Origin::Snapshot { id: id.clone() },
            owner: snapshot.account.clone(),
            size: snapshot.size,
            base: snapshot.layer.map(layer_name),
            pin: Some(id),
            layer_pin: None,
        })
    }

    /// With a snapshot the larger of the two sizes wins; with an image a smaller one is refused.
    fn size_of(&self, seed: &DiskSeed<'_>, start: &Start) -> Result<u64, CloudError> {
        if let Some(asked) = seed.size {
            self.check_size(seed, asked)?;
        }
        match (seed.given, seed.size) {
            (Given::Nothing, None) => Err(CloudError::Missing { parameter: "Size" }),
            (Given::Nothing, Some(asked)) => Ok(asked),
            (Given::Snapshot(_) | Given::BehindImage { .. }, asked) => {
                Ok(asked.unwrap_or(0).max(start.size))
            }
            (Given::Image(_) | Given::HardenedImage(_), None) => {
                Ok(self.default_size(seed, start.size))
            }
            (Given::Image(_) | Given::HardenedImage(_), Some(asked)) if asked < start.size => {
                let least = start.size.div_ceil(GIB);
                Err(CloudError::SmallerThanImage { gib: asked / GIB, least })
            }
            (Given::Image(_) | Given::HardenedImage(_), Some(asked)) => Ok(asked),
        }
    }

    /// The image's size, in whole GiB, and no less than the operator wants system disks to be.
    fn default_size(&self, seed: &DiskSeed<'_>, image: u64) -> u64 {
        let least = match seed.role {
            DiskRole::System => self.inner.settings.minimum_system_disk_gib,
            DiskRole::Data => 1,
        };
        image.div_ceil(GIB).max(least).saturating_mul(GIB)
    }

    fn check_size(&self, seed: &DiskSeed<'_>, asked: u64) -> Result<(), CloudError> {
        let (field, gib) = (seed.size_field, asked / GIB);
        if seed.by_operator {
            return Ok(());
        }
        let (least, most) = match seed.role {
            DiskRole::System => (self.inner.settings.minimum_system_disk_gib, MOST_SYSTEM_GIB),
            DiskRole::Data => (seed.category.least_gib, seed.category.most_gib),
        };
        if asked < least.saturating_mul(GIB) {
            Err(CloudError::SizeTooSmall { field, gib, least })
        } else if asked > most.saturating_mul(GIB) {
            Err(CloudError::SizeTooLarge { field, gib, most })
        } else {
            Ok(())
        }
    }

    /// Makes the disks of the plans in the store, marked: the commit decides whether they stay.
    pub(crate) fn stage<'p>(
        &self,
        plans: impl IntoIterator<Item = &'p DiskPlan>,
    ) -> Result<Vec<StagedDisk>, CloudError> {
        let make = |plan: &DiskPlan| {
            let name = disk_name(&plan.record.id)?;
            let size = ByteLength::new(plan.size);
            Ok(self.inner.store.create_disk(&name, size, plan.base)?)
        };
        plans.into_iter().map(make).collect()
    }

    /// The commit of a creation; a failed one undoes the staged disks, unless nobody knows whether
    /// it failed: then they stay marked and the next start decides.
    pub(crate) fn commit_created(
        &self,
        batch: &Batch,
        staged: Vec<StagedDisk>,
    ) -> Result<(), CloudError> {
        if let Err(error) = self.inner.catalog.commit(batch, &[]) {
            if matches!(error, CatalogError::InDoubt { .. }) {
                staged.into_iter().for_each(StagedDisk::leave_to_start);
            }
            return Err(error.into());
        }
        for disk in staged {
            // The commit has decided; what remains marked is finished by the next start.
            if let Err(error) = disk.publish() {
                tracing::error!(%error, "a new disk stays marked until the next start");
            }
        }
        Ok(())
    }
}

fn available_image<'w>(world: &'w World, account: &str, id: &str) -> Result<&'w Image, CloudError> {
    let image = world.visible_image(account, id)?;
    if image.status != ImageStatus::Available {
        return Err(CloudError::ImageNotReady { image: id.into() });
    }
    Ok(image)
}

fn start_of_image(
    image: &Image,
    size: u64,
    base: Option<LayerBytes>,
    layer_pin: Option<LayerBytes>,
) -> Start {
    Start {
        origin: Origin::Image { id: image.id.clone() },
        owner: image.account.clone(),
        size,
        base: base.map(layer_name),
        pin: Some(image.id.clone()),
        layer_pin,
    }
}

/// The largest system disk a key may ask for.
const MOST_SYSTEM_GIB: u64 = 2048;

impl World {
    /// Shows a disk that was made.
    pub(crate) fn insert_disk(&mut self, plan: DiskPlan) {
        self.sizes.insert(plan.record.id.clone(), plan.size);
        self.disks.insert(plan.record.id.clone(), plan.record);
    }
}
