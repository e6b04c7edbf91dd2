//! What qemu-img writes is read byte for byte, in every variant we claim.

use block_store::{BackingPolicy, ImageError, ImageFormat};

use super::workshop::{Workshop, assert_says, mixed, read_all};

/// Converts 20 MiB and some sectors with `options` and reads it back.
fn check(options: &str) {
    let Some(shop) = Workshop::open() else { return };
    let disk = mixed((20 << 20) + 3 * 512);
    shop.write("disk.raw", &disk);
    shop.qemu_img(&format!("convert -f raw -O qcow2 {options} disk.raw image"));
    assert!(shop.read("image", ImageFormat::Qcow2) == disk, "{options}");
}

#[test]
fn plain() {
    check("");
}

#[test]
fn compressed() {
    check("-c");
}

#[test]
fn version_2() {
    check("-o compat=0.10");
    check("-c -o compat=0.10");
}

#[test]
fn every_cluster_size() {
    for bits in [9, 10, 12, 15, 17, 21] {
        check(&format!("-o cluster_size={}", 1 << bits));
    }
    check("-c -o cluster_size=2M");
    check("-c -o cluster_size=512");
}

#[test]
fn other_refcounts_and_preallocation() {
    check("-o refcount_bits=1");
    check("-o refcount_bits=64");
    check("-o preallocation=metadata");
    check("-o lazy_refcounts=on");
}

#[test]
fn an_empty_disk_of_a_tebibyte_has_no_data() {
    let Some(shop) = Workshop::open() else { return };
    shop.qemu_img("create -f qcow2 image 1T");
    let image = shop.try_open("image", Some(ImageFormat::Qcow2), BackingPolicy::Refuse).unwrap();
    assert_eq!(image.size().get(), 1 << 40);
    assert_eq!(image.next_data(0).unwrap(), None);
    let mut bytes = [1; 4096];
    image.read_at(&mut bytes, (1 << 40) - 4096).unwrap();
    assert_eq!(bytes, [0; 4096]);
}

#[test]
fn snapshots_inside_the_image_are_left_aside() {
    let Some(shop) = Workshop::open() else { return };
    shop.plain_qcow2();
    shop.qemu_img("snapshot -c before image");
    shop.qemu_io("image", &["write -P 7 1M 3M", "write -z 5M 1M", "discard 8M 1M"]);
    shop.qemu_img("convert -f qcow2 -O raw image expected.raw");
    assert!(shop.read("image", ImageFormat::Qcow2) == shop.bytes("expected.raw"));
}

#[test]
fn backing_chains_are_followed_when_asked_for() {
    let Some(shop) = Workshop::open() else { return };
    shop.write("base.raw", &mixed((3 << 20) + 700));
    shop.qemu_img("create -f qcow2 -b base.raw -F raw middle 5M");
    shop.qemu_io("middle", &["write -P 1 1M 64k", "write -z 2M 128k"]);
    shop.qemu_img("create -f qcow2 -o compat=0.10,cluster_size=4k -b middle -F qcow2 top 8M");
    shop.qemu_io("top", &["write -P 2 100k 8k", "write -P 3 6M 4k"]);
    shop.qemu_img("convert -f qcow2 -O raw top expected.raw");
    assert!(shop.read("top", ImageFormat::Qcow2) == shop.bytes("expected.raw"));
}

#[test]
fn raw_with_holes() {
    let Some(shop) = Workshop::open() else { return };
    shop.write("disk.raw", &mixed(8 << 20));
    shop.qemu_img("convert -f raw -O raw disk.raw sparse.raw");
    assert!(shop.read("sparse.raw", ImageFormat::Raw) == shop.bytes("disk.raw"));
}

#[test]
fn flat_vmdk() {
    let Some(shop) = Workshop::open() else { return };
    let disk = mixed(8 << 20);
    shop.write("disk.raw", &disk);
    shop.qemu_img("convert -f raw -O vmdk -o subformat=monolithicFlat disk.raw image.vmdk");
    assert!(shop.read("image.vmdk", ImageFormat::Vmdk) == disk);
    let refused = shop.try_open("image.vmdk", None, BackingPolicy::Refuse).unwrap_err();
    assert!(matches!(&refused, ImageError::Backing { name, .. } if name == "image-flat.vmdk"));
}

#[test]
fn a_flat_vmdk_whose_data_was_cut_is_refused() {
    let Some(shop) = Workshop::open() else { return };
    shop.qemu_img("create -f vmdk -o subformat=monolithicFlat image.vmdk 4M");
    shop.write("image-flat.vmdk", &[0; 1 << 20]);
    let refused = shop.try_open("image.vmdk", None, BackingPolicy::Follow).unwrap_err();
    assert_says(&refused, "it was cut");
}

#[test]
fn many_threads_read_at_once() {
    let Some(shop) = Workshop::open() else { return };
    let disk = mixed(16 << 20);
    shop.write("disk.raw", &disk);
    shop.qemu_img("convert -c -f raw -O qcow2 -o cluster_size=4k disk.raw image");
    let image = shop.try_open("image", None, BackingPolicy::Refuse).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(read_all(&image) == disk));
        }
    });
}

#[test]
fn the_named_format_counts_and_only_without_one_the_bytes_decide() {
    let Some(shop) = Workshop::open() else { return };
    // A raw disk into which a guest wrote a qcow2 header that names a file of ours.
    shop.qemu_img("create -f qcow2 -u -b /etc/passwd -F raw evil 1M");
    let mut disk = shop.bytes("evil");
    disk.resize(2 << 20, 0xee);
    shop.write("disk.raw", &disk);
    assert!(shop.read("disk.raw", ImageFormat::Raw) == disk);
    let probed = shop.try_open("disk.raw", None, BackingPolicy::Refuse).unwrap_err();
    assert!(matches!(probed, ImageError::Backing { .. }));

    shop.write("zeros", &[0; 4096]);
    let zeros = shop.try_open("zeros", None, BackingPolicy::Refuse).unwrap();
    assert_eq!(zeros.format(), ImageFormat::Raw);
    assert!(matches!(
        shop.refusal("zeros"),
        ImageError::NotThatFormat { format: ImageFormat::Qcow2 }
    ));
    shop.plain_qcow2();
    let image = shop.try_open("image", None, BackingPolicy::Refuse).unwrap();
    assert_eq!(image.format(), ImageFormat::Qcow2);
}

#[test]
fn reads_past_the_end_are_refused() {
    let Some(shop) = Workshop::open() else { return };
    shop.plain_qcow2();
    for format in [ImageFormat::Qcow2, ImageFormat::Raw] {
        let image = shop.try_open("image", Some(format), BackingPolicy::Refuse);
        let Ok(image) = image else { continue };
        let size = image.size().get();
        for at in [size - 511, size, u64::MAX - 100] {
            assert!(image.read_at(&mut [0; 512], at).is_err());
        }
        assert_eq!(image.next_data(size).unwrap(), None);
        assert_eq!(image.next_data(u64::MAX).unwrap(), None);
    }
}
