//! Importing an image: a task in the background.
//!
//! What must always hold: one commit makes the image and ends the task; a cancelled, failed or
//! interrupted import leaves no image and no layer, only a failed task.
//! Left to others: reading the format, hashing, sharing equal content (`block-store`).

use block_store::{BackingPolicy, ImageSource, LayerKind, LayerLabel, StagedLayer, StoreError};
use catalog::{
    Batch, CatalogError,
    record::{Image, ImageStatus, Task, TaskStatus},
};

use super::{ImportImage, ImportObject, ImportStarted, create::given_or, progress::TaskProgress};
use crate::{
    Caller, Cloud, CloudError, Field, GIB,
    caller::Right,
    claim::{Claim, Hold},
    client_token::TokenSlot,
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
        self.start_import(caller, image, source, &mut TokenSlot::none())
    }

    /// The same with a file in a bucket.
    pub fn import_object(
        &self,
        caller: &Caller,
        request: &ImportObject,
    ) -> Result<ImportStarted, CloudError> {
        caller.may(Right::Change, "ImportImage")?;
        let token = request.client_token.as_deref();
        self.once(caller, "ImportImage", token, request, &[], |slot| {
            let file = self.bucket(caller, &request.bucket)?.object(&request.object)?;
            let import = ImportImage {
                file,
                path: None,
                format: request.format,
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
            if let Some(size) = request.size {
                let (gib, least) = (size / GIB, source.size().get().div_ceil(GIB));
                if size < source.size().get() {
                    return Err(CloudError::ImageSizeTooSmall { gib, least });
                }
                image.size = size;
            }
            self.start_import(caller, image, source, slot)
        })
    }

    /// The size of the image is what was asked for, but no less than that of the source.
    fn start_import(
        &self,
        caller: &Caller,
        image: Image,
        source: ImageSource,
        slot: &mut TokenSlot,
    ) -> Result<ImportStarted, CloudError> {
        let size = source.size().get().max(image.size);
        let image = Image { size, format: source.format().name().into(), ..image };
        let task = self.task_record("ImportImage", &image)?;
        let started = ImportStarted { image: image.id.clone(), task: task.id.clone() };
        let claim = self.begin_import(caller, &image, &task, &started, slot)?;
        let cloud = self.clone();
        self.inner.jobs.add(Queue::Imports, move || {
            cloud.run_import(image, task, &source, claim);
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
            architecture: one_of(
                Field::Architecture,
                request.architecture.as_deref(),
                &["x86_64", "i386", "arm64"],
            )?,
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

    fn run_import(&self, image: Image, task: Task, source: &ImageSource, mut claim: Claim) {
        let id = image.id.clone();
        if let Some(shown) = self.world().importing.get_mut(&id) {
            shown.status = ImageStatus::Creating;
        }
        let done = match self.import_layer(&image, &task, source, &mut claim) {
            Ok(staged) => self.commit_import(image, &task, staged),
            Err(error) => Err(error),
        };
        match done {
            Ok((image, task)) => claim.publish(|world| {
                world.end_import(&id, task);
                world.images.insert(image.id.clone(), image);
            }),
            Err(error) => self.fail_import(&id, task, &error, claim),
        }
    }

    /// The layer may be one that exists: then it must not be on its way out.
    fn import_layer(
        &self,
        image: &Image,
        task: &Task,
        source: &ImageSource,
        claim: &mut Claim,
    ) -> Result<StagedLayer, CloudError> {
        let label = LayerLabel {
            kind: LayerKind::Image,
            id: image.id.clone(),
            account: image.account.clone(),
            name: image.name.clone(),
        };
        let progress = TaskProgress::of(self, &task.id, Some(&image.id));
        loop {
            let staged = self.inner.store.import(source, label.clone(), &progress)?;
            let layer = staged.layer().to_bytes();
            let mut world = self.world();
            if world.cancelled.contains(&task.id) {
                return Err(StoreError::Cancelled.into());
            }
            if !world.claims.leaving.contains(&layer) {
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
        staged: StagedLayer,
    ) -> Result<(Image, Task), CloudError> {
        let image = Image {
            layer: Some(staged.layer().to_bytes()),
            root: Some(staged.root().to_bytes()),
            status: ImageStatus::Available,
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
        if let Err(error) = self.inner.catalog.commit(&batch, &[]) {
            if matches!(error, CatalogError::InDoubt { .. }) {
                staged.leave_to_start();
            }
            return Err(error.into());
        }
        if let Err(error) = staged.publish() {
            tracing::warn!(%error, "a layer keeps a mark that start will take off");
        }
        Ok((image, task))
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

impl World {
    fn end_import(&mut self, image: &str, task: Task) {
        self.importing.remove(image);
        self.progress.remove(image);
        self.progress.remove(&task.id);
        self.cancelled.remove(&task.id);
        self.tasks.insert(task.id.clone(), task);
    }
}

fn open_source(request: ImportImage) -> Result<ImageSource, CloudError> {
    let ImportImage { file, path, format, backing, .. } = request;
    let source = ImageSource::open(file, path.as_deref(), format, backing);
    Ok(source.map_err(StoreError::from)?)
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
