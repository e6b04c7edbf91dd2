//! What the operator may do with images: files of this machine in and out, security layers.
//!
//! What must always hold: only regular files are read or made; a file that is there is never
//! overwritten, and an export that fails or whose operator leaves removes what it made.
//! Left to others: formats (`block-store`), the task of an import (`cloud`).
//!
//! Messages here name paths: they go to the one who named them.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use block_store::{BackingPolicy, ImageError, ImageFormat, export_qcow2, export_raw, export_vhd};
use cloud::{DescribeImages, ImageStatus, ImportImage, Paging};

use super::codes::{DESCRIPTION, IMAGE_NAME, IMPORTED, NEW_TAGS, NO_IMAGE, NO_SNAPSHOT, NO_TASK};
use super::contract::{TAGS, flag, needed, text};
use super::shape::{text_field, whole_field};
use super::{Action, Call, Fields, task};
use crate::{client::Client, refusal::Refusal};

pub(super) const ACTIONS: &[Action] = &[
    Action::for_operator("ImportImageFile", import)
        .takes(&[
            &[
                flag("Backing"),
                text("ImageFormat"),
                needed("ImageName"),
                text("Description"),
                text("Architecture"),
                text("OSType"),
                text("Platform"),
                flag("Public"),
                needed("Path"),
            ],
            TAGS,
        ])
        .answers(&[&[text_field("ImageId"), text_field("TaskId")]])
        .refuses(&[
            NEW_TAGS,
            DESCRIPTION,
            IMAGE_NAME,
            IMPORTED,
            &[("InvalidPath", 400), ("InvalidPath.NotFound", 404)],
        ]),
    Action::for_operator("ExportImageFile", export)
        .takes(&[&[needed("ImageId"), text("ImageFormat"), needed("Path")]])
        .answers(&[&[text_field("ImageId")]])
        .refuses(&[
            NO_IMAGE,
            &[
                ("Cancelled", 400),
                ("IncorrectImageStatus", 400),
                ("InvalidImageFormat.Malformed", 400),
                ("InvalidPath", 400),
                ("ExportImageFailed", 403),
                ("InvalidPath.NotFound", 404),
                ("InvalidPath.AlreadyExists", 409),
            ],
        ]),
    Action::for_operator("ShowTask", show_task)
        .takes(&[&[needed("TaskId")]])
        .answers(&[
            task::TASK,
            &[
                text_field("ResourceId"),
                whole_field("BytesTotal"),
                whole_field("BytesDone"),
                text_field("ErrorCode"),
                text_field("ErrorMessage"),
            ],
        ])
        .refuses(&[NO_TASK]),
    Action::for_operator("HardenImage", harden)
        .takes(&[&[needed("ImageId"), needed("SnapshotId")]])
        .answers(&[&[text_field("ImageId"), text_field("SnapshotId")]])
        .refuses(&[
            NO_IMAGE,
            NO_SNAPSHOT,
            &[
                ("InvalidParameter.Mismatch", 403),
                ("InvalidSnapshotId.NotDataDiskSnapshot", 403),
                ("InvalidSnapshotId.NotReady", 403),
                ("Operation.Conflict", 403),
            ],
        ]),
    Action::for_operator("SoftenImage", soften)
        .takes(&[&[needed("ImageId")]])
        .answers(&[&[text_field("ImageId")]])
        .refuses(&[NO_IMAGE, &[("Operation.Conflict", 403)]]),
];

const IMPORT_FORMATS: [(&str, ImageFormat); 4] = [
    ("raw", ImageFormat::Raw),
    ("qcow2", ImageFormat::Qcow2),
    ("vmdk", ImageFormat::Vmdk),
    ("vhd", ImageFormat::Vhd),
];

/// A format that can be written.
#[derive(Clone, Copy, Debug)]
enum ExportFormat {
    Raw,
    Qcow2,
    Vhd,
}

const EXPORT_FORMATS: [(&str, ExportFormat); 3] =
    [("raw", ExportFormat::Raw), ("qcow2", ExportFormat::Qcow2), ("vhd", ExportFormat::Vhd)];

const WRONG_FORMAT: (&str, u16) = ("InvalidImageFormat.Malformed", 400);

fn import(call: &Call<'_>) -> Result<Fields, Refusal> {
    let parameters = call.parameters;
    let path = path(call)?;
    let follow = parameters.flag("Backing")?.unwrap_or(false);
    let request = ImportImage {
        file: open(&path)?,
        format: call.one_of("ImageFormat", &IMPORT_FORMATS, WRONG_FORMAT)?,
        backing: if follow { BackingPolicy::Follow } else { BackingPolicy::Refuse },
        path: Some(path),
        name: parameters.needed("ImageName")?,
        description: parameters.owned("Description"),
        architecture: parameters.owned("Architecture"),
        os_type: parameters.owned("OSType"),
        platform: parameters.owned("Platform"),
        public: parameters.flag("Public")?.unwrap_or(false),
        tags: parameters.tags(),
    };
    let begun = call.ask(|cloud, caller| cloud.import_image(caller, request))?;
    Ok(vec![("ImageId", begun.image.into()), ("TaskId", begun.task.into())])
}

fn path(call: &Call<'_>) -> Result<PathBuf, Refusal> {
    let path = PathBuf::from(call.parameters.needed("Path")?);
    if path.is_absolute() { Ok(path) } else { Err(Refusal::invalid("Path must be absolute.")) }
}

/// Looked at before it is opened, for opening a pipe would wait for its other end, and after, for it
/// may have been changed for another in between.
fn open(path: &Path) -> Result<File, Refusal> {
    let failed = |error: io::Error| file_failed(path, &error);
    let irregular =
        || Refusal::new("InvalidPath", 400, format!("{} is no regular file.", path.display()));
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(irregular());
    }
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_file() { Ok(file) } else { Err(irregular()) }
}

fn file_failed(path: &Path, error: &io::Error) -> Refusal {
    let (code, status) = match error.kind() {
        io::ErrorKind::NotFound => ("InvalidPath.NotFound", 404),
        io::ErrorKind::AlreadyExists => ("InvalidPath.AlreadyExists", 409),
        io::ErrorKind::StorageFull => ("InsufficientStorage", 507),
        _ => ("InvalidPath", 400),
    };
    Refusal::new(code, status, format!("{}: {error}.", path.display()))
}

fn export(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("ImageId")?;
    let path = path(call)?;
    let format =
        call.one_of("ImageFormat", &EXPORT_FORMATS, WRONG_FORMAT)?.unwrap_or(ExportFormat::Raw);
    let image = call.ask(|cloud, caller| cloud.open_image(caller, &id))?;
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true);
    let file = options.open(&path).map_err(|error| file_failed(&path, &error))?;
    let written = match format {
        ExportFormat::Raw => export_raw(image.device.as_ref(), &file, call.client),
        ExportFormat::Qcow2 => export_qcow2(image.device.as_ref(), &file, call.client),
        ExportFormat::Vhd => export_vhd(image.device.as_ref(), &file, call.client),
    };
    written.map_err(|error| abandoned(&path, call.client, &error))?;
    Ok(vec![("ImageId", id.into())])
}

fn abandoned(path: &Path, client: &Client, error: &ImageError) -> Refusal {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "half an export could not be removed");
    }
    if client.is_gone() {
        return Refusal::new("Cancelled", 400, "The export was cancelled; nothing of it is left.");
    }
    Refusal::new("ExportImageFailed", 403, format!("{}: {}.", path.display(), error.told()))
}

fn harden(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("ImageId")?;
    let snapshot = call.parameters.needed("SnapshotId")?;
    call.ask(|cloud, caller| cloud.harden_image(caller, &id, &snapshot))?;
    Ok(vec![("ImageId", id.into()), ("SnapshotId", snapshot.into())])
}

fn soften(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("ImageId")?;
    call.ask(|cloud, caller| cloud.soften_image(caller, &id))?;
    Ok(vec![("ImageId", id.into())])
}

fn show_task(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("TaskId")?;
    let found = call.ask(|cloud, caller| cloud.describe_task(caller, &id))?;
    let total = image_bytes(call, &found.resource)?;
    let percent = u64::from(found.progress_percent);
    let mut fields = task::view(&found);
    fields.extend([
        ("ResourceId", found.resource.into()),
        ("BytesTotal", total.into()),
        // The percentage is what is kept; below 100 GiB it is exact to a GiB.
        ("BytesDone", (total / 100 * percent).into()),
        ("ErrorCode", found.error_code.into()),
        ("ErrorMessage", found.error_message.into()),
    ]);
    Ok(fields)
}

/// The size of the image a task makes; 0 once there is none.
fn image_bytes(call: &Call<'_>, id: &str) -> Result<u64, Refusal> {
    let states = [ImageStatus::Creating, ImageStatus::Waiting, ImageStatus::Available];
    let asked = DescribeImages {
        ids: Some(vec![id.to_owned()]),
        statuses: Some(states.into()),
        paging: Paging::All,
        ..DescribeImages::default()
    };
    let found = call.ask(|cloud, caller| cloud.describe_images(caller, &asked))?;
    Ok(found.items.first().map_or(0, |image| image.size.get()))
}
