//! Files that an image names: not opened unless asked for, and then only beneath its folder.

use std::{
    fs::{self, File},
    os::unix::fs::{OpenOptionsExt, symlink},
    process::Command,
};

use block_store::{BackingPolicy, ImageError, ImageFormat, ImageSource};

use super::workshop::{Workshop, assert_says, mixed, read_all};

/// An image whose header names `backing`, of which nothing need exist.
fn naming(shop: &Workshop, backing: &str, format: &str) {
    shop.qemu_img(&format!("create -f qcow2 -u -b {backing} -F {format} image 1M"));
}

#[test]
fn nothing_is_followed_by_default() {
    let Some(shop) = Workshop::open() else { return };
    shop.write("base.raw", &mixed(1 << 20));
    for name in ["base.raw", "/etc/passwd", "json:{}", "nbd://host/export", "/dev/vda"] {
        naming(&shop, name, "raw");
        let error = shop.refusal("image");
        assert!(matches!(&error, ImageError::Backing { name: said, .. } if said == name));
    }
    // A FIFO: opening it would hang.
    Command::new("mkfifo").arg(shop.path("fifo")).status().unwrap();
    naming(&shop, "fifo", "raw");
    assert!(matches!(shop.refusal("image"), ImageError::Backing { .. }));
}

#[test]
fn only_plain_files_beneath_the_folder_are_followed() {
    let Some(shop) = Workshop::open() else { return };
    Command::new("mkfifo").arg(shop.path("fifo")).status().unwrap();
    fs::create_dir(shop.path("folder")).unwrap();
    symlink("/etc/passwd", shop.path("link")).unwrap();
    symlink("/etc", shop.path("linked")).unwrap();
    for (name, reason) in [
        ("json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}", "no protocols"),
        ("nbd://127.0.0.1/x", "no protocols"),
        ("ssh://host/file", "no protocols"),
        ("file:base.raw", "no protocols"),
        ("/etc/passwd", "outside the directory"),
        ("/dev/zero", "outside the directory"),
        ("/proc/self/fd/0", "outside the directory"),
        ("../x", "beneath the directory"),
        ("folder/../../x", "beneath the directory"),
        ("link", "it is a link"),
        ("linked/passwd", "it is a link"),
        ("fifo", "not a regular file"),
        ("folder", "not a regular file"),
        ("absent", "No such file"),
    ] {
        naming(&shop, name, "raw");
        let error = shop.try_open("image", None, BackingPolicy::Follow).unwrap_err();
        assert!(matches!(error, ImageError::Backing { .. }), "{error}");
        assert_says(&error, reason);
    }
}

#[test]
fn following_without_a_path_follows_nothing() {
    let Some(shop) = Workshop::open() else { return };
    shop.write("base.raw", &mixed(1 << 20));
    naming(&shop, "base.raw", "raw");
    let file = File::open(shop.path("image")).unwrap();
    let error = ImageSource::open(file, None, None, BackingPolicy::Follow).unwrap_err();
    assert!(matches!(error, ImageError::Backing { .. }));
}

#[test]
fn folders_below_and_absolute_names_within_are_followed() {
    let Some(shop) = Workshop::open() else { return };
    let base = mixed(1 << 20);
    fs::create_dir_all(shop.path("a/b")).unwrap();
    shop.write("a/b/base.raw", &base);
    shop.qemu_img("create -f qcow2 -u -b b/base.raw -F raw a/middle 1M");
    naming(&shop, "a/middle", "qcow2");
    assert!(shop.read("image", ImageFormat::Qcow2) == base);
    let absolute = shop.path("a/middle").canonicalize().unwrap();
    naming(&shop, absolute.to_str().unwrap(), "qcow2");
    assert!(shop.read("image", ImageFormat::Qcow2) == base);
}

#[test]
fn the_format_of_a_backing_file_is_never_guessed() {
    let Some(shop) = Workshop::open() else { return };
    // The base is raw and begins with a header that leads elsewhere.
    shop.qemu_img("create -f qcow2 -u -b /etc/passwd -F raw evil 1M");
    let mut base = shop.bytes("evil");
    base.resize(1 << 20, 3);
    shop.write("base.raw", &base);
    naming(&shop, "base.raw", "raw");
    assert!(shop.read("image", ImageFormat::Qcow2) == base);

    // Without the format extension: its type at 112 becomes an unknown one.
    shop.patch("image", 112, &[1, 2, 3, 4]);
    let error = shop.try_open("image", None, BackingPolicy::Follow).unwrap_err();
    assert_says(&error, "does not say its format");
    naming(&shop, "base.raw", "vmdk");
    let error = shop.try_open("image", None, BackingPolicy::Follow).unwrap_err();
    assert_says(&error, "only raw and qcow2");
}

#[test]
fn chains_that_loop_or_never_end_are_refused() {
    let Some(shop) = Workshop::open() else { return };
    naming(&shop, "itself", "qcow2");
    fs::rename(shop.path("image"), shop.path("itself")).unwrap();
    let error = shop.try_open("itself", None, BackingPolicy::Follow).unwrap_err();
    assert_says(&error, "leads back");
    shop.qemu_img("create -f qcow2 -u -b image -F qcow2 other 1M");
    naming(&shop, "other", "qcow2");
    let error = shop.try_open("image", None, BackingPolicy::Follow).unwrap_err();
    assert_says(&error, "leads back");

    shop.qemu_img("create -f qcow2 layer-0 1M");
    for depth in 1..=70 {
        let below = depth - 1;
        let image = format!("layer-{depth}");
        shop.qemu_img(&format!("create -f qcow2 -u -b layer-{below} -F qcow2 {image} 1M"));
    }
    let error = shop.try_open("layer-70", None, BackingPolicy::Follow).unwrap_err();
    assert_says(&error, "more than 64");
    let deep = shop.try_open("layer-63", None, BackingPolicy::Follow).unwrap();
    assert!(read_all(&deep).iter().all(|byte| *byte == 0));
}

#[test]
fn a_hostile_image_below_a_good_one_is_refused() {
    let Some(shop) = Workshop::open() else { return };
    shop.qemu_img("create -f qcow2 below 1M");
    shop.patch("below", 40, &512_u64.to_be_bytes());
    naming(&shop, "below", "qcow2");
    let error = shop.try_open("image", None, BackingPolicy::Follow).unwrap_err();
    assert_says(&error, "does not start at a cluster");
}

#[test]
fn vmdk_extents_are_held_to_the_same_rules() {
    let Some(shop) = Workshop::open() else { return };
    for name in ["/etc/passwd", "../x", "nbd:host", "/dev/zero", "absent"] {
        let text = format!("# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"{name}\" 0\n");
        shop.write("image.vmdk", text.as_bytes());
        for policy in [BackingPolicy::Refuse, BackingPolicy::Follow] {
            let error = shop.try_open("image.vmdk", None, policy).unwrap_err();
            assert!(matches!(&error, ImageError::Backing { name: said, .. } if said == name));
        }
    }
    shop.write("flat", &[1; 512]);
    let many = "RW 1 FLAT \"flat\" 0\n".repeat(1000);
    shop.write("image.vmdk", format!("# Disk DescriptorFile\nversion=1\n{many}").as_bytes());
    let error = shop.try_open("image.vmdk", None, BackingPolicy::Follow).unwrap_err();
    assert_says(&error, "more than 64 files");
}

#[test]
fn handles_of_what_is_no_file_are_refused() {
    let Some(shop) = Workshop::open() else { return };
    Command::new("mkfifo").arg(shop.path("fifo")).status().unwrap();
    let fifo = File::options().read(true).write(true).open(shop.path("fifo")).unwrap();
    let path_only = 0o10000000; // O_PATH of Linux: a handle that cannot even be read
    let handles = [
        fifo,
        File::open(shop.path("")).unwrap(),
        File::open("/dev/zero").unwrap(),
        File::options().read(true).custom_flags(path_only).open("/dev/null").unwrap(),
    ];
    for handle in handles {
        for format in [None, Some(ImageFormat::Raw), Some(ImageFormat::Qcow2)] {
            let handle = handle.try_clone().unwrap();
            let error = ImageSource::open(handle, None, format, BackingPolicy::Refuse);
            assert_says(&error.unwrap_err(), "not a regular file");
        }
    }
}

#[test]
fn names_are_shown_escaped() {
    let Some(shop) = Workshop::open() else { return };
    naming(&shop, "base.raw", "raw");
    let at = shop.number("image", 8);
    shop.patch("image", at, b"a\x1b[2J\nb");
    let text = shop.refusal("image").to_string();
    assert!(!text.contains(['\x1b', '\n']), "{text:?}");
}
