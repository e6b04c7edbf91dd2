//! `instance seed`: what cloud-init reads at the first boot, as a directory or an ISO image.
//!
//! What must always hold: what is written is for its owner's eyes only, for it holds the hash of a password; it takes
//! its place whole, also over that of an earlier reset.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{
    args::SeedArgs,
    control::{Control, text},
    failure::Failure,
    iso9660,
    output::Report,
};

pub(crate) fn run(control: &Control, args: &SeedArgs) -> Result<Report, Failure> {
    let instance = &args.instance.instance;
    let asked = args.instance.owner.parameters().with("InstanceId", instance);
    let answer = control.call("ShowInstanceSeed", &asked)?;
    let files = files(&answer)?;
    let parts: Vec<(&str, &[u8])> =
        files.iter().map(|(name, content)| (*name, content.as_slice())).collect();
    let written = match args.out.extension().is_some_and(|ending| ending == "iso") {
        true => write(&args.out, &iso9660::image(&parts)),
        false => write_directory(&args.out, &parts),
    };
    let out = args.out.display().to_string();
    written.map_err(|error| Failure::local("OperationFailed", format!("{out}: {error}")))?;
    let seed = text(&answer, "SeedId");
    let document = json!({ "InstanceId": instance, "SeedId": seed, "Path": out });
    Ok(Report::done(document, vec![out.clone()], format!("{out} is the seed {seed}")))
}

/// cloud-init asks for the first two even where there is nothing in them.
fn files(answer: &Value) -> Result<Vec<(&'static str, Vec<u8>)>, Failure> {
    // What the client gave may be any bytes.
    let user = STANDARD.decode(text(answer, "UserData")).context("reading the answer")?;
    let mut files = vec![("meta-data", text(answer, "MetaData").into_bytes()), ("user-data", user)];
    let vendor = text(answer, "VendorData");
    if !vendor.is_empty() {
        files.push(("vendor-data", vendor.into_bytes()));
    }
    Ok(files)
}

fn write_directory(directory: &Path, files: &[(&str, &[u8])]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    // One of an earlier reset may not be due any more.
    match fs::remove_file(directory.join("vendor-data")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    files.iter().try_for_each(|(name, content)| write(&directory.join(name), content))
}

/// A temporary file has mode 0600, and so has what it becomes.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut draft = NamedTempFile::new_in(parent.unwrap_or(Path::new(".")))?;
    draft.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    draft.write_all(content)?;
    draft.as_file().sync_all()?;
    draft.persist(path).map(drop).map_err(|error| error.error)
}
