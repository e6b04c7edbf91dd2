//! Importing an image: a task in the background.
//!
//! What must always hold: one commit makes the image with the snapshots behind its data disks and ends
//! the task; a cancelled, failed or interrupted import leaves no image, no snapshot and no layer, only a
//! failed task.
//! Left to others: which files it reads (`import_source`), reading the format, hashing, sharing equal content (`block-store`).

use block_device::ByteLength;
use block_store::{BackingPolicy, ImageSource, LayerKind, LayerLabel, StagedLayer, StoreError};
use catalog::{
    Batch, CatalogError,
    record::{Image, ImageStatus, Snapshot, Task, TaskStatus},
};

use super::{
    ImportImage, ImportObject, ImportStarted,
    create::given_or,
    import_source::{Sources, open_source, size_of},
    progress::TaskProgress,
};
use crate::{
    Caller, Cloud, CloudError, Field,
    caller::Right,
    claim::{Claim, Hold},
    client_token::TokenSlot,
    disk::check_system_device,
    ids,
    jobs::Queue,
    tags, texts,
    world::World,
};

impl Cloud {
    /// Begins to import an image. It can be described at once and used once it is `Available`.
    pub fn import_image(
        &self,
        caller: &Caller,
        request: ImportImage,
    ) -> Result<ImportStarted, CloudError> {
        caller.may(Right::Change, "ImportImage")?;
        if request.public {
            caller.must_be_operator("making an image public")?;
        }
        let image = self.image_record(caller, &request)?;
        let source = open_source(request)?;
        let sources = Sources { system: source, data: Vec::new() };
        self.start_import(caller, image, sources, &mut TokenSlot::none())
    }

    /// The same with files in buckets: a system disk, and perhaps data disks.
    pub fn import_object(
        &self,
        caller: &Caller,
        request: &ImportObject,
    ) -> Result<ImportStarted, CloudError> {
        caller.may(Right::Change, "ImportImage")?;
        let token = request.client_token.as_deref();
        self.once(caller, "ImportImage", token, request, &[], |slot| {
            let none = || CloudError::Missing { parameter: "DiskDeviceMapping.1.OSSObject" };
            let (system, data) = request.disks.split_first().ok_or_else(none)?;
            check_system_device(system.device.as_deref())?;
            let import = ImportImage {
                file: self.bucket(caller, &system.bucket)?.object(&system.object)?,
                path: None,
                format: system.format,
                backing: BackingPolicy::Refuse,
                name: request.name.clone().unwrap_or_default(),
                description: request.description.clone(),
                architecture: request.architecture.clone(),
                os_type: request.os_type.clone(),
                platform: request.platform.clone(),
                public: false,
                tags: request.tags.clone(),
            };
            let mut image = self.image_record(caller, &import)?;
            let source = open_source(import)?;
            image.size = size_of(system, &source)?;
            let data = self.data_sources(caller, data)?;
            self.start_import(caller, image, Sources { system: source, data }, slot)
        })
    }

    /// The size of the image is what was asked for, but no less than that of the source.
    fn start_import(
        &self,
        caller: &Caller,
        image: Image,
        sources: Sources,
        slot: &mut TokenSlot,
    ) -> Result<ImportStarted, CloudError> {
        let size = sources.system.size().get().max(image.size);
        let format = sources.system.format().name().into();
        let image = Image { size, format, ..image };
        let task = self.task_record("ImportImage", &image)?;
        let started = ImportStarted { image: image.id.clone(), task: task.id.clone() };
        let claim = self.begin_import(caller, &image, &task, &started, slot)?;
        let cloud = self.clone();
        self.inner.jobs.add(Queue::Imports, move || {
            cloud.run_import(image, task, sources, claim);
        });
        Ok(started)
    }

    fn image_record(&self, caller: &Caller, request: &ImportImage) -> Result<Image, CloudError> {
        let name = texts::name(Field::ImageName, Some(&request.name))?;
        let id = ids::image()?;
        let platform = texts::echoed(Field::Platform, request.platform.as_deref())?;
        Ok(Image {
            name: if name.is_empty() { id.clone() } else { name },
            id,
            account: caller.account.clone(),
            description: texts::description(request.description.as_deref())?,
            version: String::new(),
            size: 0,
            layer: None,
            root: None,
            architecture: architecture(request.architecture.as_deref())?,
            os_type: one_of(Field::OsType, request.os_type.as_deref(), &["linux", "windows"])?,
            os_name: platform.clone(),
            platform,
            status: ImageStatus::Waiting,
            public: request.public,
            shared_with: Default::default(),
            created: self.now_seconds(),
            source_snapshot: None,
            format: String::new(),
            data_disks: Vec::new(),
            security_layer: None,
            tags: tags::checked(&request.tags)?,
        })
    }

    pub(super) fn task_record(&self, action: &str, image: &Image) -> Result<Task, CloudError> {
        Ok(Task {
            id: ids::task()?,
            account: image.account.clone(),
            action: action.into(),
            resource: image.id.clone(),
            status: TaskStatus::Processing,
            progress_percent: 0,
            created: self.now_seconds(),
            finished: None,
            cancellable: true,
            error_code: String::new(),
            error_message: String::new(),
        })
    }

    fn begin_import(
        &self,
        caller: &Caller,
        image: &Image,
        task: &Task,
        started: &ImportStarted,
        slot: &mut TokenSlot,
    ) -> Result<Claim, CloudError> {
        let mut world = self.world();
        world.account(&image.account)?;
        self.may_add_image(&world, &image.account, &image.name)?;
        let name = Hold::ImageName(image.account.clone(), image.name.clone());
        let claim = self.claim(caller, &mut world, vec![name])?;
        drop(world);
        let mut batch = Batch::new();
        batch.put(task)?;
        slot.record(self, &mut batch, started)?;
        self.commit(&batch)?;
        Ok(claim.publish_keeping(
            |_| true,
            |world| {
                world.tasks.insert(task.id.clone(), task.clone());
                world.importing.insert(image.id.clone(), image.clone());
            },
        ))
    }

    fn run_import(&self, image: Image, task: Task, sources: Sources, mut claim: Claim) {
        let id = image.id.clone();
        if let Some(shown) = self.world().importing.get_mut(&id) {
            shown.status = ImageStatus::Creating;
        }
        let done = match self.import_layers(&image, &task, &sources, &mut claim) {
            Ok(staged) => self.commit_import(image, &task, sources, staged),
            Err(error) => Err(error),
        };
        match done {
            Ok(Imported { image, snapshots, task }) => claim.publish(|world| {
                world.end_import(&id, task);
                world.images.insert(image.id.clone(), image);
                world.snapshots.extend(snapshots.into_iter().map(|one| (one.id.clone(), one)));
            }),
            Err(error) => self.fail_import(&id, task, &error, claim),
        }
    }

    /// Disk after disk, the system disk first.
    fn import_layers(
        &self,
        image: &Image,
        task: &Task,
        sources: &Sources,
        claim: &mut Claim,
    ) -> Result<Vec<StagedLayer>, CloudError> {
        let label = |kind, id: &str, name: &str| LayerLabel {
            kind,
            id: id.into(),
            account: image.account.clone(),
            name: name.into(),
        };
        let system = (label(LayerKind::Image, &image.id, &image.name), &sources.system);
        let data = sources.data.iter();
        let data =
            data.map(|one| (label(LayerKind::Snapshot, &one.disk.snapshot, ""), &one.source));
        let (mut done, all) = (ByteLength::ZERO, sources.size());
        let mut staged = Vec::new();
        for (label, source) in std::iter::once(system).chain(data) {
            let progress = TaskProgress::of(self, &task.id, Some(&image.id)).from(done, all);
            staged.push(self.import_layer(&label, task, source, &progress, claim)?);
            done = ByteLength::new(done.get().saturating_add(source.size().get()));
        }
        Ok(staged)
    }

    /// The layer may be one that exists: then it must not be on its way out.
    fn import_layer(
        &self,
        label: &LayerLabel,
        task: &Task,
        source: &ImageSource,
        progress: &TaskProgress<'_>,
        claim: &mut Claim,
    ) -> Result<StagedLayer, CloudError> {
        loop {
            let staged = self.inner.store.import(source, label.clone(), progress)?;
            let layer = staged.layer().to_bytes();
            let mut world = self.world();
            if !world.claims.leaving.contains(&layer) {
                if world.was_cancelled(&task.id) {
                    return Err(StoreError::Cancelled.into());
                }
                claim.add(&mut world, Hold::LayerPin(layer));
                return Ok(staged);
            }
            drop(world);
            drop(staged);
            drop(self.world_when(|world| !world.claims.leaving.contains(&layer)));
        }
    }

    fn commit_import(
        &self,
        image: Image,
        task: &Task,
        sources: Sources,
        staged: Vec<StagedLayer>,
    ) -> Result<Imported, CloudError> {
        let (system, behind) = staged.split_first().expect("the system disk comes first");
        let data = sources.data.iter().zip(behind);
        let snapshots = data.map(|(one, staged)| self.snapshot_behind(&image, &one.disk, staged));
        let snapshots: Vec<_> = snapshots.collect();
        let image = Image {
            layer: Some(system.layer().to_bytes()),
            root: Some(system.root().to_bytes()),
            status: ImageStatus::Available,
            data_disks: sources.data.into_iter().map(|one| one.disk).collect(),
            ..image
        };
        let task = Task {
            status: TaskStatus::Finished,
            progress_percent: 100,
            finished: Some(self.now_seconds()),
            ..task.clone()
        };
        let mut batch = Batch::new();
        batch.put(&image)?.put(&task)?;
        for snapshot in &snapshots {
            batch.put(snapshot)?;
        }
        if let Err(error) = self.inner.catalog.commit(&batch, &[]) {
            if matches!(error, CatalogError::InDoubt { .. }) {
                staged.into_iter().for_each(StagedLayer::leave_to_start);
            }
            return Err(error.into());
        }
        for layer in staged {
            if let Err(error) = layer.publish() {
                tracing::warn!(%error, "a layer keeps a mark that start will take off");
            }
        }
        Ok(Imported { image, snapshots, task })
    }

    fn fail_import(&self, image: &str, task: Task, error: &CloudError, claim: Claim) {
        tracing::warn!(%image, task = %task.id, %error, "an import ended without an image");
        let failed = Task {
            status: TaskStatus::Failed,
            finished: Some(self.now_seconds()),
            error_code: "ImportImageFailed".into(),
            error_message: error.to_string(),
            ..task
        };
        let recorded = self.commit_task(&failed);
        if let Err(error) = recorded {
            tracing::error!(task = %failed.id, %error, "the end of a task could not be recorded");
        }
        claim.publish(|world| world.end_import(image, failed));
    }

    pub(crate) fn commit_task(&self, task: &Task) -> Result<(), CloudError> {
        let mut batch = Batch::new();
        batch.put(task)?;
        self.commit(&batch)
    }
}

/// What an import made.
struct Imported {
    image: Image,
    /// Behind its data disks.
    snapshots: Vec<Snapshot>,
    task: Task,
}

impl World {
    fn end_import(&mut self, image: &str, task: Task) {
        self.importing.remove(image);
        self.progress.remove(image);
        self.progress.remove(&task.id);
        self.cancelled.remove(&task.id);
        self.tasks.insert(task.id.clone(), task);
    }
}

/// The one asked for, or the most common.
pub(super) fn architecture(asked: Option<&str>) -> Result<String, CloudError> {
    one_of(Field::Architecture, asked, &["x86_64", "i386", "arm64"])
}

/// One of these; the first unless another is asked for.
fn one_of(field: Field, asked: Option<&str>, all: &[&str]) -> Result<String, CloudError> {
    let asked = given_or(asked, all[0]);
    if all.contains(&asked.as_str()) {
        Ok(asked)
    } else {
        Err(CloudError::ValueNotSupported { field, value: asked })
    }
}
