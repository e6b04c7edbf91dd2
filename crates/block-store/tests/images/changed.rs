//! A file that changes while it is imported.

use std::fs::File;

use block_store::{BackingPolicy, ImageError, ImageFormat};

use super::workshop::Workshop;

#[test]
fn a_write_in_place_is_seen() {
    let Some(shop) = Workshop::open() else { return };
    shop.plain_qcow2();
    for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
        let name = if format == ImageFormat::Raw { "plain.raw" } else { "image" };
        let image = shop.try_open(name, Some(format), BackingPolicy::Refuse).unwrap();
        image.check_unchanged().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        shop.patch(name, 4096, &[1]);
        assert!(matches!(image.check_unchanged(), Err(ImageError::Changed)));
    }
}

#[test]
fn a_cut_is_seen_at_the_end_and_a_raw_read_fails_at_once() {
    let Some(shop) = Workshop::open() else { return };
    shop.plain_qcow2();
    for name in ["plain.raw", "image"] {
        let image = shop.try_open(name, None, BackingPolicy::Refuse).unwrap();
        File::options().write(true).open(shop.path(name)).unwrap().set_len(8 << 20).unwrap();
        if image.format() == ImageFormat::Raw {
            let read = image.read_at(&mut [0; 4096], (16 << 20) - 4096);
            assert!(matches!(read, Err(ImageError::Changed)));
        }
        assert!(matches!(image.check_unchanged(), Err(ImageError::Changed)));
    }
}

#[test]
fn a_change_below_is_seen() {
    let Some(shop) = Workshop::open() else { return };
    shop.write("base.raw", &[5; 1 << 20]);
    shop.qemu_img("create -f qcow2 -b base.raw -F raw image 1M");
    let image = shop.try_open("image", None, BackingPolicy::Follow).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    shop.patch("base.raw", 0, &[6]);
    assert!(matches!(image.check_unchanged(), Err(ImageError::Changed)));
}
