//! QEMU's own tools and mke2fs: the judges of what a disk holds.
//!
//! What must always hold: nothing of ours takes part in making or comparing an image.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::program::{Outcome, run};

/// An ext4 file system with files in it, as a raw image of `mib` MiB.
pub fn ext4_image(directory: &Path, mib: u64) -> PathBuf {
    let files = directory.join("files");
    fs::create_dir_all(files.join("etc")).expect("a directory for the files");
    fs::write(files.join("etc/motd"), "the initial state\n").expect("a file can be written");
    let noise: Vec<u8> =
        (0..300_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(files.join("noise"), noise).expect("a file can be written");
    let image = directory.join("ext4.raw");
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&files).arg(&image).arg(format!("{mib}M"));
    run(&mut mke2fs).ok();
    image
}

/// `qemu-img convert` to qcow2, with these further options.
pub fn to_qcow2(source: &Path, target: &Path, options: &[&str]) -> PathBuf {
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-O", "qcow2"]).args(options).arg(source).arg(target);
    run(&mut convert).ok();
    target.to_owned()
}

/// A qcow2 that stands on another one and overwrites some of it.
pub fn overlay(base: &Path, target: &Path) -> PathBuf {
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(base).arg(target);
    run(&mut create).ok();
    io(&target.display().to_string(), "qcow2", &["write -P 0x5a 1M 192k", "write -z 2M 64k"]);
    target.to_owned()
}

/// A raw file of `mib` MiB that is full of a pattern.
pub fn patterned_image(path: &Path, mib: u64) {
    fs::File::create(path).and_then(|file| file.set_len(mib << 20)).expect("a file can be made");
    io(&path.display().to_string(), "raw", &[&format!("write -P 0x6b 0 {mib}M")]);
}

/// Runs `qemu-io` commands one after another; each must succeed.
pub fn io(target: &str, format: &str, commands: &[&str]) {
    let outcome = try_io(target, format, commands).ok();
    let failed = outcome.stdout.contains("failed") || outcome.stderr.contains("failed");
    assert!(!failed, "{outcome}");
}

/// Runs `qemu-io` commands, whatever comes of it.
pub fn try_io(target: &str, format: &str, commands: &[&str]) -> Outcome {
    let mut qemu_io = Command::new("qemu-io");
    // Discards must reach the server, which is not QEMU's default.
    qemu_io.args(["-d", "unmap", "-f", format]);
    for command in commands {
        qemu_io.args(["-c", command]);
    }
    run(qemu_io.arg(target))
}

/// Whether an image and a disk have the same content, by `qemu-img compare`; longer is fine if the rest is zeros.
pub fn identical(image: &Path, format: &str, disk: &str) -> bool {
    let mut compare = Command::new("qemu-img");
    compare.args(["compare", "-f", format, "-F", "raw"]).arg(image).arg(disk);
    let outcome = run(&mut compare);
    match outcome.code {
        Some(0) => true,
        Some(1) => false,
        _ => panic!("{outcome}"),
    }
}

/// The size a disk shows to QEMU, in bytes.
pub fn size(disk: &str) -> u64 {
    let mut info = Command::new("qemu-img");
    let outcome = run(info.args(["info", "--output", "json", "-f", "raw"]).arg(disk)).ok();
    outcome.json()["virtual-size"].as_u64().expect("qemu-img knows the size")
}
