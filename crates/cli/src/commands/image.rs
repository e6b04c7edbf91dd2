//! `image`: what system disks are made from.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    args::{
        Common, ExportFormat, ImageCommand, ImageExportArgs, ImageHardenArgs, ImageImportArgs,
        ImportFormat, OneImage,
    },
    control::{Control, text},
    failure::Failure,
    output::{self, Report},
    size::Size,
};

/// How often a running import is asked how far it is.
const POLL: Duration = Duration::from_millis(50);

pub(crate) fn run(
    control: &Control,
    common: &Common,
    command: &ImageCommand,
) -> Result<Report, Failure> {
    match command {
        ImageCommand::Import(args) => {
            let (image, document) = import(control, common, args)?;
            let told = format!("{image} is {} ({})", args.name, args.file.display());
            Ok(Report::done(document, vec![image], told))
        }
        ImageCommand::Ls(owner) => {
            let found = control.list("DescribeImages", ["Images", "Image"], &owner.parameters())?;
            let header = ["IMAGE", "NAME", "STATUS", "SIZE", "OWNER", "MADE"];
            let rows = found.iter().map(row).collect();
            Ok(Report::list(json!({ "Images": found }), &header, rows))
        }
        ImageCommand::Show(image) => show(control, image),
        ImageCommand::Export(args) => export(control, args),
        ImageCommand::Harden(args) => harden(control, args),
        ImageCommand::Rm { image, force } => {
            let asked = image.owner.parameters().with("ImageId", &image.image).with("Force", force);
            let answer = control.call("DeleteImage", &asked)?;
            Ok(Report::done(
                answer,
                vec![image.image.clone()],
                format!("{} is deleted", image.image),
            ))
        }
    }
}

fn row(image: &Value) -> Vec<String> {
    vec![
        text(image, "ImageId"),
        text(image, "ImageName"),
        text(image, "Status"),
        Size::of_gib(image["Size"].as_u64().unwrap_or(0)).to_string(),
        text(image, "ImageOwnerAlias"),
        text(image, "CreationTime"),
    ]
}

fn show(control: &Control, image: &OneImage) -> Result<Report, Failure> {
    let asked = image.owner.parameters().with("ImageId", &image.image);
    let answer = control.call("DescribeImages", &asked)?;
    let Some(found) = answer["Images"]["Image"].get(0).cloned() else {
        return Err(Failure {
            code: "InvalidImageId.NotFound".into(),
            message: format!("There is no image {}.", image.image),
            request_id: text(&answer, "RequestId"),
        });
    };
    let names = ["IMAGE", "NAME", "STATUS", "SIZE", "OWNER", "MADE"];
    let mut fields: Vec<(&str, String)> = names.into_iter().zip(row(&found)).collect();
    fields.push(("SECURITY LAYER", security(&found["SecurityLayer"])));
    Ok(Report::fields(found, &image.image, &fields))
}

fn security(layer: &Value) -> String {
    if layer.is_null() {
        return "none".into();
    }
    let size = Size::new(layer["SizeBytes"].as_u64().unwrap_or(0));
    let (snapshot, since) = (text(layer, "SnapshotId"), text(layer, "CreationTime"));
    format!("from {snapshot}, {size}, since {since}")
}

fn harden(control: &Control, args: &ImageHardenArgs) -> Result<Report, Failure> {
    let image = &args.image.image;
    let asked = args.image.owner.parameters().with("ImageId", image);
    let (answer, told) = match &args.from {
        Some(snapshot) => (
            control.call("HardenImage", &asked.with("SnapshotId", snapshot))?,
            format!("{image} has a security layer, made from {snapshot}"),
        ),
        None => {
            (control.call("SoftenImage", &asked)?, format!("{image} has no security layer now"))
        }
    };
    Ok(Report::done(answer, vec![image.clone()], told))
}

/// Imports a file, showing how far it is; gives the image's id and the document.
pub(crate) fn import(
    control: &Control,
    common: &Common,
    args: &ImageImportArgs,
) -> Result<(String, Value), Failure> {
    let mut asked = args
        .owner
        .parameters()
        .with("Path", absolute(&args.file)?.display())
        .with("ImageName", &args.name)
        .with("Backing", args.backing)
        .with("Public", args.public);
    if let Some(format) = args.format {
        asked = asked.with("ImageFormat", format.name());
    }
    let begun = control.call("ImportImageFile", &asked)?;
    let (image, task) = (text(&begun, "ImageId"), text(&begun, "TaskId"));
    wait_for(control, common, args, &task)?;
    let document = json!({ "ImageId": image, "RequestId": begun["RequestId"] });
    Ok((image, document))
}

/// Waits until the task has ended; Ctrl-C cancels it, which leaves nothing of the image.
fn wait_for(
    control: &Control,
    common: &Common,
    args: &ImageImportArgs,
    task: &str,
) -> Result<(), Failure> {
    let asked = args.owner.parameters().with("TaskId", task);
    let bar = output::bytes_bar(common, "importing");
    let mut interrupt = control.interrupt()?;
    loop {
        let now = control.call("ShowTask", &asked)?;
        bar.set_length(now["BytesTotal"].as_u64().unwrap_or(0));
        bar.set_position(now["BytesDone"].as_u64().unwrap_or(0));
        match text(&now, "TaskStatus").as_str() {
            "Finished" => {
                bar.finish_and_clear();
                return Ok(());
            }
            "Failed" => return Err(failed(&args.file, &now)),
            _ => {}
        }
        if control.pause(POLL, &mut interrupt) {
            control.call("CancelTask", &asked)?;
            return Err(Failure::local(
                "Cancelled",
                "the import was cancelled; nothing of it is left",
            ));
        }
    }
}

fn failed(file: &Path, task: &Value) -> Failure {
    Failure {
        code: text(task, "ErrorCode"),
        message: format!(
            "{}: {}.",
            file.display(),
            text(task, "ErrorMessage").trim_end_matches('.')
        ),
        request_id: text(task, "RequestId"),
    }
}

fn export(control: &Control, args: &ImageExportArgs) -> Result<Report, Failure> {
    let by_name = match args.file.extension().and_then(|ending| ending.to_str()) {
        Some("qcow2") => ExportFormat::Qcow2,
        Some("vhd") => ExportFormat::Vhd,
        _ => ExportFormat::Raw,
    };
    let format = args.format.unwrap_or(by_name);
    let asked = args
        .owner
        .parameters()
        .with("ImageId", &args.image)
        .with("Path", absolute(&args.file)?.display())
        .with("ImageFormat", format.name());
    let answer = control.call("ExportImageFile", &asked)?;
    let path = args.file.display().to_string();
    let told = format!("{} is in {path}", args.image);
    Ok(Report::done(answer, vec![path], told))
}

/// The daemon stands elsewhere than this command, so that it needs the whole path.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::local("OperationFailed", format!("{}: {error}", path.display())))
}

impl ImportFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
        }
    }
}

impl ExportFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
        }
    }
}
