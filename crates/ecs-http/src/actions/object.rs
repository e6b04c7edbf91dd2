//! Images as files in buckets: ImportImage and ExportImage.
//!
//! What must always hold: a client names a file only by a bucket and a name beneath it.
//! Left to others: buckets and their files (`cloud`), files named by path (`operator_image`).

use block_store::ImageFormat;
use cloud::{ExportFormat, ExportImage, ImportObject};

use super::contract::{REGION, TAGS, gib, needed, text};
use super::{Action, Call, Fields};
use crate::refusal::Refusal;

pub(super) const ACTIONS: &[Action] = &[
    Action::new("ImportImage", import)
        .takes(&[
            REGION,
            &[
                gib("DiskDeviceMapping.N.DiskImageSize"),
                needed("DiskDeviceMapping.N.OSSBucket"),
                needed("DiskDeviceMapping.N.OSSObject"),
                text("ImageName"),
                text("Description"),
                text("Architecture"),
                text("OSType"),
                text("Platform"),
                text("ClientToken"),
                gib("DiskDeviceMapping.N.DiskImSize"),
                text("DiskDeviceMapping.N.Format"),
            ],
            TAGS,
        ])
        .with_dry_run(),
    Action::new("ExportImage", export)
        .takes(&[
            REGION,
            &[needed("ImageId"), needed("OSSBucket"), text("OSSPrefix"), text("ImageFormat")],
        ])
        .with_dry_run(),
];

const IMPORT_FORMATS: [(&str, ImageFormat); 3] =
    [("raw", ImageFormat::Raw), ("qcow2", ImageFormat::Qcow2), ("vmdk", ImageFormat::Vmdk)];

const EXPORT_FORMATS: [(&str, ExportFormat); 2] =
    [("raw", ExportFormat::Raw), ("qcow2", ExportFormat::Qcow2)];

fn import(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let parameters = call.parameters;
    let number = only_disk(call)?;
    let name = |field: &str| format!("DiskDeviceMapping.{number}.{field}");
    // The older of the two names is still sent.
    let size = match call.size(&name("DiskImageSize"))? {
        None => call.size(&name("DiskImSize"))?,
        size => size,
    };
    let request = ImportObject {
        bucket: parameters.needed(&name("OSSBucket"))?,
        object: parameters.needed(&name("OSSObject"))?,
        format: format(call, &name("Format"), &IMPORT_FORMATS)?,
        size,
        name: parameters.owned("ImageName"),
        description: parameters.owned("Description"),
        architecture: parameters.owned("Architecture"),
        os_type: parameters.owned("OSType"),
        platform: parameters.owned("Platform"),
        tags: parameters.tags(),
        client_token: parameters.owned("ClientToken"),
    };
    let begun = call.ask(|cloud, caller| cloud.import_object(caller, &request))?;
    Ok(vec![
        ("ImageId", begun.image.into()),
        ("TaskId", begun.task.into()),
        ("RegionId", (&call.cloud.settings().region).into()),
    ])
}

/// Only a system disk can be imported.
fn only_disk(call: &Call<'_>) -> Result<u32, Refusal> {
    let numbers: Vec<_> = call.parameters.numbers("DiskDeviceMapping").into_iter().collect();
    match numbers[..] {
        [number] => Ok(number),
        [] => {
            let message =
                "DiskDeviceMapping.1.OSSBucket and DiskDeviceMapping.1.OSSObject are needed.";
            Err(Refusal::new("MissingParameter.DiskDeviceMapping", 403, message))
        }
        _ => Err(Refusal::invalid("One DiskDeviceMapping is imported, the system disk.")),
    }
}

fn export(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let request = ExportImage {
        image: call.parameters.needed("ImageId")?,
        bucket: call.parameters.needed("OSSBucket")?,
        prefix: call.parameters.owned("OSSPrefix"),
        format: format(call, "ImageFormat", &EXPORT_FORMATS)?.unwrap_or(ExportFormat::Raw),
    };
    let task = call.ask(|cloud, caller| cloud.export_image(caller, &request))?;
    Ok(vec![("TaskId", task.into()), ("RegionId", (&call.cloud.settings().region).into())])
}

/// In any case, as clients write them.
fn format<T: Copy>(
    call: &Call<'_>,
    name: &str,
    formats: &[(&str, T)],
) -> Result<Option<T>, Refusal> {
    let Some(text) = call.parameters.text(name) else { return Ok(None) };
    let found = formats.iter().find(|(format, _)| text.eq_ignore_ascii_case(format));
    let message = || format!("The value {text:?} of the parameter {name} is not supported.");
    let refused = || Refusal::new("InvalidImageFormat.Malformed", 400, message());
    found.map(|(_, format)| Some(*format)).ok_or_else(refused)
}
