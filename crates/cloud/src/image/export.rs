//! ExportImage: a task in the background that writes a file into a bucket.
//!
//! What must always hold: the commit that ends the task decides: before it there is no object, only a
//! part that is removed; after it the part becomes the object, by the next start if need be. The image
//! stays while it is read.
//! Left to others: the formats (`block-store`), names and places (`bucket`).

use std::sync::Arc;

use block_device::{BlockDevice, ByteLength};
use block_store::{ImageError, export_qcow2, export_raw, export_vhd};
use catalog::{
    Batch, CatalogError,
    record::{Image, ImageStatus, Task, TaskStatus},
};

use super::{ExportFormat, ExportImage, empty_disk::EmptyDisk, progress::TaskProgress};
use crate::{
    Caller, Cloud, CloudError, Field,
    bucket::{OpenBucket, Part},
    caller::Right,
    claim::{Claim, Hold},
    cloud::layer_name,
    error::is_full,
    jobs::Queue,
    texts,
    world::World,
};

/// As tasks call it.
const ACTION: &str = "ExportImage";

/// All that an export needs.
struct Export {
    task: Task,
    image: Image,
    format: ExportFormat,
    bucket: OpenBucket,
    part: Part,
}

impl Cloud {
    /// Begins to write an own image into a bucket; answers the id of the task.
    pub fn export_image(
        &self,
        caller: &Caller,
        request: &ExportImage,
    ) -> Result<String, CloudError> {
        caller.may(Right::Change, ACTION)?;
        let prefix = prefix(request.prefix.as_deref())?;
        let bucket = self.bucket(caller, &request.bucket)?;
        let mut world = self.world_when(|world| world.is_quiet(&[&request.image]));
        let image = check_export(&world, caller, &request.image)?.clone();
        let holds = vec![Hold::Quiet(image.id.clone()), Hold::Pin(image.id.clone())];
        let claim = self.claim(caller, &mut world, holds)?;
        drop(world);
        let task = self.task_record(ACTION, &image)?;
        self.commit_task(&task)?;
        let claim = claim.publish_keeping(
            |hold| matches!(hold, Hold::Pin(_)),
            |world| drop(world.tasks.insert(task.id.clone(), task.clone())),
        );
        let ending = match request.format {
            ExportFormat::Raw => "raw",
            ExportFormat::Qcow2 => "qcow2",
            ExportFormat::Vhd => "vhd",
        };
        let object = format!("{prefix}{}_system.{ending}", image.id);
        let part = Part { task: task.id.clone(), object };
        let id = task.id.clone();
        let export = Export { task, image, format: request.format, bucket, part };
        let cloud = self.clone();
        self.inner.jobs.add(Queue::Imports, move || cloud.run_export(&export, claim));
        Ok(id)
    }

    fn run_export(&self, export: &Export, claim: Claim) {
        let written = self.write_part(export).and_then(|()| self.end_export(export));
        let ended = match written {
            Ok(task) => task,
            Err(error) => self.fail_export(export, &error),
        };
        claim.publish(|world| world.end_export(ended));
    }

    /// Whole and safe from a power loss, but not under its name yet.
    fn write_part(&self, export: &Export) -> Result<(), CloudError> {
        let file = export.bucket.create(&export.part)?;
        let progress = TaskProgress::of(self, &export.task.id, None);
        let write = || -> Result<(), CloudError> {
            let device: Arc<dyn BlockDevice> = match export.image.layer {
                Some(layer) => self.inner.store.open_layer(layer_name(layer))?,
                None => Arc::new(EmptyDisk(ByteLength::new(export.image.size))),
            };
            let written = match export.format {
                ExportFormat::Raw => export_raw(device.as_ref(), &file, &progress),
                ExportFormat::Qcow2 => export_qcow2(device.as_ref(), &file, &progress),
                ExportFormat::Vhd => export_vhd(device.as_ref(), &file, &progress),
            };
            written.map_err(write_failed)?;
            export.bucket.sync()
        };
        write().inspect_err(|_| remove(&export.bucket, &export.part))
    }

    /// From the commit on it is an object, whatever happens.
    fn end_export(&self, export: &Export) -> Result<Task, CloudError> {
        if self.world().was_cancelled(&export.task.id) {
            remove(&export.bucket, &export.part);
            return Err(CloudError::Cancelled);
        }
        let task = Task {
            status: TaskStatus::Finished,
            progress_percent: 100,
            finished: Some(self.now_seconds()),
            ..export.task.clone()
        };
        let mut batch = Batch::new();
        batch.put(&task)?;
        if let Err(error) = self.inner.catalog.commit(&batch, &[]) {
            if !matches!(error, CatalogError::InDoubt { .. }) {
                remove(&export.bucket, &export.part);
            }
            return Err(error.into());
        }
        if let Err(error) = export.bucket.finish(&export.part) {
            tracing::error!(task = %task.id, %error, "an export gets its name from the next start");
        }
        Ok(task)
    }

    fn fail_export(&self, export: &Export, error: &CloudError) -> Task {
        let Export { task, image, .. } = export;
        tracing::warn!(image = %image.id, task = %task.id, ?error, "an export ended without a file");
        let failed = Task {
            status: TaskStatus::Failed,
            finished: Some(self.now_seconds()),
            error_code: "ExportImageFailed".into(),
            error_message: error.to_string(),
            ..task.clone()
        };
        if let Err(error) = self.commit_task(&failed) {
            tracing::error!(task = %failed.id, %error, "the end of a task could not be recorded");
        }
        failed
    }

    /// At the start, before any task is called failed: what a finished task left as a part becomes
    /// its object, what an unfinished one left is removed, what no task here knows is left alone.
    pub(crate) fn settle_exports(&self) {
        for (name, bucket) in &self.settings().buckets {
            let settled = OpenBucket::open(&bucket.directory).and_then(|open| {
                let parts = open.parts()?;
                parts.iter().for_each(|part| self.settle_part(&open, part));
                Ok(())
            });
            if let Err(error) = settled {
                tracing::error!(bucket = %name, directory = %bucket.directory.display(), ?error, "the bucket cannot be used");
            }
        }
    }

    fn settle_part(&self, bucket: &OpenBucket, part: &Part) {
        let status = self.world().tasks.get(&part.task).map(|task| task.status);
        match status {
            Some(TaskStatus::Finished) => {
                if let Err(error) = bucket.finish(part) {
                    tracing::error!(object = %part.object, %error, "an export gets no name");
                }
            }
            Some(TaskStatus::Processing | TaskStatus::Failed) => remove(bucket, part),
            None => {}
        }
    }
}

impl World {
    /// Whether a task writes the image into a bucket.
    pub(super) fn is_exporting(&self, image: &str) -> bool {
        self.tasks.values().any(|task| {
            task.status == TaskStatus::Processing && task.action == ACTION && task.resource == image
        })
    }

    fn end_export(&mut self, task: Task) {
        self.progress.remove(&task.id);
        self.cancelled.remove(&task.id);
        self.tasks.insert(task.id.clone(), task);
    }
}

fn check_export<'w>(world: &'w World, caller: &Caller, id: &str) -> Result<&'w Image, CloudError> {
    let image = world.visible_image(&caller.account, id)?;
    if image.account != caller.account {
        return Err(CloudError::ImageNotExportable { image: id.into() });
    }
    if image.status != ImageStatus::Available {
        return Err(CloudError::ImageNotReady { image: id.into() });
    }
    if world.is_exporting(id) {
        return Err(CloudError::ImageIsExporting { image: id.into() });
    }
    Ok(image)
}

fn prefix(asked: Option<&str>) -> Result<String, CloudError> {
    let Some(prefix) = texts::given(asked) else { return Ok(String::new()) };
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let fits = prefix.len() <= 30 && prefix.bytes().all(inner);
    let rule = "1 to 30 letters, digits, - and _";
    if !fits {
        return Err(CloudError::Malformed { field: Field::OssPrefix, rule });
    }
    Ok(format!("{prefix}_"))
}

fn remove(bucket: &OpenBucket, part: &Part) {
    if let Err(error) = bucket.remove(part) {
        tracing::warn!(object = %part.object, %error, "a part of an export stays");
    }
}

fn write_failed(error: ImageError) -> CloudError {
    match error {
        ImageError::Cancelled => CloudError::Cancelled,
        ImageError::Io { source, .. } if is_full(&source) => CloudError::NoSpace,
        error => CloudError::internal(error),
    }
}
