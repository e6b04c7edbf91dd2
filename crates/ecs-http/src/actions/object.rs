//! Images as files in buckets: ImportImage and ExportImage.
//!
//! What must always hold: a client names a file only by a bucket and a name beneath it.
//! Left to others: buckets and their files (`cloud`), files named by path (`operator_image`).

use block_store::ImageFormat;
use cloud::{ExportFormat, ExportImage, ImportDisk, ImportObject};

use super::codes::{DESCRIPTION, IMAGE_NAME, IMPORTED, NEW_TAGS, NO_IMAGE, REPEATED};
use super::contract::{REGION, TAGS, gib, needed, text};
use super::shape::text_field;
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
                text("DiskDeviceMapping.N.Device"),
            ],
            TAGS,
        ])
        .answers(&[&[text_field("ImageId"), text_field("TaskId"), text_field("RegionId")]])
        .refuses(&[
            REPEATED,
            NEW_TAGS,
            DESCRIPTION,
            IMAGE_NAME,
            IMPORTED,
            &[
                ("InvalidDevice.InUse", 400),
                ("InvalidDevice.Malformed", 400),
                ("InvalidImageSize", 400),
                ("InvalidOSSBucket.NotFound", 400),
                ("InvalidOSSObject.Malformed", 400),
                ("InvalidOSSObject.NotFound", 400),
                ("MissingParameter.DiskDeviceMapping", 403),
            ],
        ]),
    Action::new("ExportImage", export)
        .takes(&[
            REGION,
            &[needed("ImageId"), needed("OSSBucket"), text("OSSPrefix"), text("ImageFormat")],
        ])
        .answers(&[&[text_field("TaskId"), text_field("RegionId")]])
        .refuses(&[
            NO_IMAGE,
            &[
                ("IncorrectImageStatus", 400),
                ("InvalidImageFormat.Malformed", 400),
                ("InvalidOSSBucket.NotFound", 400),
                ("InvalidOSSPrefix.Malformed", 400),
                ("ImageIsExporting", 403),
                ("ImageNotSupported", 403),
            ],
        ]),
];

const IMPORT_FORMATS: [(&str, ImageFormat); 4] = [
    ("raw", ImageFormat::Raw),
    ("qcow2", ImageFormat::Qcow2),
    ("vmdk", ImageFormat::Vmdk),
    ("vhd", ImageFormat::Vhd),
];

const EXPORT_FORMATS: [(&str, ExportFormat); 3] =
    [("raw", ExportFormat::Raw), ("qcow2", ExportFormat::Qcow2), ("vhd", ExportFormat::Vhd)];

fn import(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let parameters = call.parameters;
    let request = ImportObject {
        disks: disks(call)?,
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

/// The first is the system disk.
fn disks(call: &Call<'_>) -> Result<Vec<ImportDisk>, Refusal> {
    let numbers = call.parameters.numbers("DiskDeviceMapping");
    if numbers.is_empty() {
        let message = "DiskDeviceMapping.1.OSSBucket and DiskDeviceMapping.1.OSSObject are needed.";
        return Err(Refusal::new("MissingParameter.DiskDeviceMapping", 403, message));
    }
    numbers.into_iter().map(|number| disk(call, number)).collect()
}

fn disk(call: &Call<'_>, number: u32) -> Result<ImportDisk, Refusal> {
    let name = |field: &str| format!("DiskDeviceMapping.{number}.{field}");
    // The older of the two names is still sent.
    let size = match call.size(&name("DiskImageSize"))? {
        None => call.size(&name("DiskImSize"))?,
        size => size,
    };
    Ok(ImportDisk {
        bucket: call.parameters.needed(&name("OSSBucket"))?,
        object: call.parameters.needed(&name("OSSObject"))?,
        format: format(call, &name("Format"), &IMPORT_FORMATS)?,
        size,
        device: call.parameters.owned(&name("Device")),
    })
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
