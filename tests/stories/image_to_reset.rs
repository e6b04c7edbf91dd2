//! "I have a cloud image. I make a VM disk of it, my VM ruins it, and I want it back, byte for byte."

use std::path::{Path, PathBuf};

use tests::{qemu, signature::Signature, site::Site};

/// The whole line, for one image file in its format.
fn story(image: &Path, format: &str, arguments: &[&str]) {
    let site = Site::new();
    let id = site.import(image, arguments);
    let machine = site.machine(&id, &[]);

    site.start(&machine.instance);
    assert!(site.holds(&machine.system, image, format), "the disk begins as its image");

    for signature in [Signature::V1, Signature::Acs3] {
        site.ruin(&machine.system);
        assert!(!site.holds(&machine.system, image, format), "the ruin shows");
        site.stop(&machine.instance);
        site.reinit(&machine.system, signature);
        site.start(&machine.instance);
        assert!(site.holds(&machine.system, image, format), "{signature:?} brought it back");
    }
}

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let raw = qemu::ext4_image(directory.path(), 16);
    (directory, raw)
}

#[test]
fn a_raw_image() {
    let (_directory, raw) = directory();
    story(&raw, "raw", &["--format", "raw"]);
}

#[test]
fn a_plain_qcow2() {
    let (directory, raw) = directory();
    let image = qemu::to_qcow2(&raw, &directory.path().join("plain.qcow2"), &[]);
    story(&image, "qcow2", &[]);
}

#[test]
fn a_compressed_qcow2() {
    let (directory, raw) = directory();
    let image = qemu::to_qcow2(&raw, &directory.path().join("small.qcow2"), &["-c"]);
    story(&image, "qcow2", &["--format", "qcow2"]);
}

#[test]
fn a_qcow2_of_version_2() {
    let (directory, raw) = directory();
    let image = qemu::to_qcow2(&raw, &directory.path().join("old.qcow2"), &["-o", "compat=0.10"]);
    story(&image, "qcow2", &[]);
}

#[test]
fn a_flat_vmdk() {
    let (directory, raw) = directory();
    let image = directory.path().join("flat.vmdk");
    let mut convert = std::process::Command::new("qemu-img");
    convert.args(["convert", "-O", "vmdk", "-o", "subformat=monolithicFlat"]).arg(&raw).arg(&image);
    tests::program::run(&mut convert).ok();
    // The content is in a second file, which like any other is opened only when that is asked for.
    story(&image, "vmdk", &["--format", "vmdk", "--backing"]);
}

#[test]
fn a_qcow2_on_a_backing_file_when_that_is_asked_for() {
    let (directory, raw) = directory();
    let base = qemu::to_qcow2(&raw, &directory.path().join("base.qcow2"), &["-c"]);
    let image = qemu::overlay(&base, &directory.path().join("overlay.qcow2"));
    story(&image, "qcow2", &["--backing"]);
}

#[test]
fn a_backing_file_is_never_opened_unasked() {
    let (directory, raw) = directory();
    let base = qemu::to_qcow2(&raw, &directory.path().join("base.qcow2"), &[]);
    let image = qemu::overlay(&base, &directory.path().join("overlay.qcow2"));
    let site = Site::new();
    let before = site.run(&["image", "ls"]);
    let file = image.display().to_string();
    let refused = site.offline(&["image", "import", &file, "--name", "image"]).fails();
    assert!(refused.complaint().contains("backing"), "{refused}");
    assert_eq!(site.run(&["image", "ls"]), before, "nothing is left of it");
}

#[test]
fn the_same_content_twice_is_one_layer() {
    let (directory, raw) = directory();
    let image = qemu::to_qcow2(&raw, &directory.path().join("plain.qcow2"), &[]);
    let site = Site::new();
    let layers = || std::fs::read_dir(site.store().join("layers")).unwrap().count();
    site.import(&raw, &["--format", "raw"]);
    let once = layers();
    let file = image.display().to_string();
    site.run(&["image", "import", &file, "--name", "again"]);
    assert_eq!(layers(), once);
    assert_eq!(site.run(&["image", "ls"])["Images"].as_array().unwrap().len(), 2);
}

#[test]
fn what_was_imported_can_be_exported() {
    let (directory, raw) = directory();
    let site = Site::new();
    let id = site.import(&raw, &["--format", "raw"]);
    for (name, format) in [("copy.raw", "raw"), ("copy.qcow2", "qcow2")] {
        let copy = directory.path().join(name);
        let file = copy.display().to_string();
        site.run(&["image", "export", &id, &file]);
        let mut compare = std::process::Command::new("qemu-img");
        compare.args(["compare", "-s", "-f", "raw", "-F", format]).arg(&raw).arg(&copy);
        // `-s` also fails on different allocation, which a sparse copy may have; the content is what counts.
        let compared = tests::program::run(&mut compare);
        assert!(!compared.stdout.contains("Content mismatch"), "{compared}");
        site.offline(&["image", "export", &id, &file]).fails();
    }
    let copy = directory.path().join("copy.raw");
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&raw).unwrap());
}

#[test]
fn what_is_no_image_is_refused_and_leaves_nothing() {
    let site = Site::new();
    let check = |name: &str, content: &[u8], arguments: &[&str]| {
        let file = site.scratch().join(name);
        std::fs::write(&file, content).unwrap();
        let file = file.display().to_string();
        let mut line = vec!["image", "import", &file, "--name", "bad"];
        line.extend(arguments);
        site.offline(&line).fails();
    };
    check("empty", b"", &[]);
    check("odd", &[1; 700], &["--format", "raw"]);
    check("short.qcow2", b"QFI\xfb\0\0\0\x03", &["--format", "qcow2"]);
    check("zeros.qcow2", &[0; 4096], &["--format", "qcow2"]);
    site.offline(&["image", "import", "/nonexistent", "--name", "bad"]).fails();
    let directory = site.scratch().display().to_string();
    site.offline(&["image", "import", &directory, "--name", "bad"]).fails();
    assert_eq!(site.run(&["image", "ls"])["Images"].as_array().unwrap().len(), 0);
}
