//! Bad headers and tables, made by patching a good image: each is refused with its reason, and
//! before memory of the size it claims is taken.

use std::{
    fs::File,
    time::{Duration, Instant},
};

use block_store::{BackingPolicy, ImageError, ImageFormat};

use super::workshop::{Workshop, assert_says, mixed, open, read_all};

const VERSION: u64 = 4;
const BACKING_OFFSET: u64 = 8;
const BACKING_LENGTH: u64 = 16;
const CLUSTER_BITS: u64 = 20;
const SIZE: u64 = 24;
const CRYPT_METHOD: u64 = 32;
const L1_ENTRIES: u64 = 36;
const L1_OFFSET: u64 = 40;
const REFCOUNT_OFFSET: u64 = 48;
const REFCOUNT_CLUSTERS: u64 = 56;
const SNAPSHOTS: u64 = 60;
const SNAPSHOTS_OFFSET: u64 = 64;
const INCOMPATIBLE: u64 = 72;
const REFCOUNT_ORDER: u64 = 96;
const HEADER_LENGTH: u64 = 100;

fn short(value: u32) -> Vec<u8> {
    value.to_be_bytes().into()
}

fn long(value: u64) -> Vec<u8> {
    value.to_be_bytes().into()
}

/// Patches a good image and expects the reason.
#[track_caller]
fn check(patches: &[(u64, Vec<u8>)], reason: &str) {
    let Some(shop) = Workshop::open() else { return };
    shop.plain_qcow2();
    for (offset, bytes) in patches {
        shop.patch("image", *offset, bytes);
    }
    let started = Instant::now();
    let error = shop.refusal("image");
    assert_says(&error, reason);
    assert!(started.elapsed() < Duration::from_secs(60), "{reason} took too long");
}

#[test]
fn versions() {
    for version in [0, 1, 4, u32::MAX] {
        check(&[(VERSION, short(version))], "its version is");
    }
}

#[test]
fn cluster_bits() {
    for bits in (0..9).chain([22, 31, 32, 63, 64, u32::MAX]) {
        check(&[(CLUSTER_BITS, short(bits))], "its clusters are of");
    }
}

#[test]
fn refcount_orders() {
    for order in [7, 31, 32, u32::MAX] {
        check(&[(REFCOUNT_ORDER, short(order))], "its refcounts are of");
    }
}

#[test]
fn header_lengths() {
    for length in [0, 72, 103, 105, 65544, 1 << 30, u32::MAX] {
        check(&[(HEADER_LENGTH, short(length))], "its header cannot be");
    }
}

#[test]
fn virtual_sizes() {
    check(&[(SIZE, long(0))], "no bytes");
    for size in [1, 511, 513, (16 << 20) - 1] {
        check(&[(SIZE, long(size))], "whole sectors");
    }
    for size in [1 << 63, u64::MAX, (1 << 63) - 512, (64 << 40) + 512] {
        check(&[(SIZE, long(size))], "the most is");
    }
    check(&[(SIZE, long(64 << 40))], "L1 table is too small");
}

#[test]
fn features_that_change_the_meaning() {
    let feature = |bit: u32| vec![(INCOMPATIBLE, long(1 << bit))];
    check(&feature(0), "dirty");
    check(&feature(1), "corrupt");
    check(&feature(2), "external data files");
    check(&feature(3), "compression");
    check(&feature(4), "extended L2");
    check(&feature(5), "unknown incompatible features (0x20)");
    check(&feature(63), "unknown incompatible features");
    check(&[(104, vec![1])], "compression");
    check(&[(CRYPT_METHOD, short(1))], "AES");
    check(&[(CRYPT_METHOD, short(2))], "LUKS");
    check(&[(CRYPT_METHOD, short(3))], "encryption method 3");
}

#[test]
fn l1_tables() {
    check(&[(L1_ENTRIES, short(0))], "too small");
    check(&[(L1_ENTRIES, short(u32::MAX))], "larger than any");
    check(&[(L1_ENTRIES, short(4 << 20))], "past the end");
    check(&[(L1_OFFSET, long(0))], "overlaps");
    check(&[(L1_OFFSET, long(512))], "does not start at a cluster");
    check(&[(L1_OFFSET, long(1 << 40))], "past the end");
    check(&[(L1_OFFSET, long(u64::MAX << 16))], "past the end");
}

#[test]
fn refcount_tables() {
    check(&[(REFCOUNT_CLUSTERS, short(0))], "impossible size");
    check(&[(REFCOUNT_CLUSTERS, short(u32::MAX))], "impossible size");
    check(&[(REFCOUNT_CLUSTERS, short(3))], "overlaps");
    check(&[(REFCOUNT_OFFSET, long(0))], "overlaps");
    check(&[(REFCOUNT_OFFSET, long(1))], "does not start at a cluster");
    check(&[(REFCOUNT_OFFSET, long(u64::MAX << 16))], "past the end");
    check(&[(REFCOUNT_OFFSET, long(1 << 50))], "past the end");
}

#[test]
fn snapshot_tables() {
    check(&[(SNAPSHOTS, short(u32::MAX))], "snapshots");
    check(&[(SNAPSHOTS, short(65536)), (SNAPSHOTS_OFFSET, long(1 << 40))], "past the end");
    check(&[(SNAPSHOTS, short(1)), (SNAPSHOTS_OFFSET, long(0))], "overlaps");
    check(&[(SNAPSHOTS, short(1)), (SNAPSHOTS_OFFSET, long(7))], "does not start");
    check(&[(SNAPSHOTS, short(1)), (SNAPSHOTS_OFFSET, long(u64::MAX << 16))], "past the end");
}

#[test]
fn extensions_and_names() {
    // The feature name table is the first extension qemu-img writes; its length is at +4.
    check(&[(HEADER_LENGTH, short(112)), (116, short(u32::MAX))], "do not end within");
    // One of a single byte made imago 0.2.6 panic (an index past the last entry).
    let one_byte = [long(0x6803_f857_0000_0001), long(0), long(0)].concat();
    check(&[(112, one_byte)], "within an entry");
    check(&[(112, long(0x4441_5441_0000_0008)), (120, b"/etc/pwd".into())], "/etc/pwd");
    check(&[(BACKING_OFFSET, long(u64::MAX)), (BACKING_LENGTH, short(8))], "backing file");
    check(&[(BACKING_OFFSET, long(600)), (BACKING_LENGTH, short(1024))], "backing file");
    check(&[(BACKING_OFFSET, long(8)), (BACKING_LENGTH, short(8))], "backing file");
    check(&[(BACKING_OFFSET, long(65530)), (BACKING_LENGTH, short(8))], "backing file");
}

#[test]
fn l2_tables() {
    let Some(shop) = Workshop::open() else { return };
    for (entry, reason) in [
        (0, None),
        (1 << 63 | 1, Some("impossible entry")),
        (1 << 60, Some("impossible entry")),
        (1 << 63 | 512, Some("does not start at a cluster")),
        (1 << 63 | 1 << 50, Some("past the end")),
        (1 << 63 | 65536, Some("overlaps its refcount table")),
    ] {
        shop.plain_qcow2();
        let l1 = shop.number("image", L1_OFFSET);
        shop.patch("image", l1, &long(entry));
        match reason {
            Some(reason) => assert_says(&shop.refusal("image"), reason),
            None => assert!(shop.read("image", ImageFormat::Qcow2).iter().all(|byte| *byte == 0)),
        }
    }
    // The L1 table as its own L2 table: a loop.
    shop.plain_qcow2();
    let l1 = shop.number("image", L1_OFFSET);
    shop.patch("image", l1, &long(1 << 63 | l1));
    assert_says(&shop.refusal("image"), "overlaps its L1 table");
}

#[test]
fn gigabytes_of_l2_tables_in_a_tiny_file() {
    let Some(shop) = Workshop::open() else { return };
    // 1024 entries for 512 GiB, all leading to the one table there is.
    shop.qemu_img("create -f qcow2 image 512G");
    shop.qemu_io("image", &["write 0 64k"]);
    let l1 = shop.number("image", L1_OFFSET);
    let table = shop.number("image", l1);
    shop.patch("image", l1, &long(table).repeat(1024));
    assert_says(&shop.refusal("image"), "share one L2 table");
}

#[test]
fn data_that_leads_out_of_the_file_is_never_zeros() {
    let Some(shop) = Workshop::open() else { return };
    shop.write("disk.raw", &[9; 1 << 20]);
    shop.qemu_img("convert -f raw -O qcow2 disk.raw image");
    let l2 = shop.number("image", shop.number("image", L1_OFFSET)) & !(1 << 63);
    for (entry, reason) in [
        (1 << 63 | 1 << 40, "it was cut"),
        (1 << 63 | 0x00ff_ffff_ffff_0000, "it was cut"),
        (1 << 62 | 1 << 40, "decompress"),
        (1 << 62 | 0x3fff_ffff_ffff_ffff, "decompress"),
    ] {
        shop.patch("image", l2, &long(entry));
        let image = shop.try_open("image", None, BackingPolicy::Refuse).unwrap();
        let mut bytes = vec![0; 65536];
        assert_says(&image.read_at(&mut bytes, 0).unwrap_err(), reason);
        image.read_at(&mut bytes, 65536).unwrap();
        assert!(bytes == [9; 65536], "its neighbours can still be read");
    }
    shop.patch("image", l2, &long(1 << 63 | 0x5_0200));
    let image = shop.try_open("image", None, BackingPolicy::Refuse).unwrap();
    assert_says(&image.read_at(&mut [0; 512], 0).unwrap_err(), "not aligned");
    assert_says(&image.next_data(0).unwrap_err(), "not aligned");
}

#[test]
fn an_image_cut_before_the_import_is_refused() {
    let Some(shop) = Workshop::open() else { return };
    let path = shop.plain_qcow2();
    let full = path.metadata().unwrap().len();
    for length in [0, 3, 4, 71, 72, 100, 104, 512, 65536, full / 2, full - 65536] {
        shop.plain_qcow2();
        File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        let image = open(&path, Some(ImageFormat::Qcow2), BackingPolicy::Refuse);
        let read = image.and_then(|image| image.read_at(&mut vec![0; 16 << 20], 0));
        assert!(read.is_err(), "cut at {length}");
    }
}

#[test]
fn a_compressed_bomb_is_bounded_by_the_disk() {
    let Some(shop) = Workshop::open() else { return };
    let disk = vec![0xaa; 64 << 20];
    shop.write("disk.raw", &disk);
    shop.qemu_img("convert -c -f raw -O qcow2 -o cluster_size=2M disk.raw image");
    let length = shop.path("image").metadata().unwrap().len();
    assert!(length < 16 << 20, "64 MiB in {length} bytes");
    assert!(shop.read("image", ImageFormat::Qcow2) == disk);
    // Small reads decode a cluster each and hold no more than that.
    let image = shop.try_open("image", None, BackingPolicy::Refuse).unwrap();
    let mut bytes = [0; 512];
    image.read_at(&mut bytes, (64 << 20) - 512).unwrap();
    assert_eq!(bytes, [0xaa; 512]);
}

#[test]
fn real_images_with_features_we_do_not_read() {
    let Some(shop) = Workshop::open() else { return };
    shop.write("disk.raw", &mixed(1 << 20));
    let refused = |options: &str, feature: &str| {
        shop.qemu_img(&format!("convert -f raw -O qcow2 {options} disk.raw image"));
        let error = shop.refusal("image");
        assert!(matches!(error, ImageError::Unsupported { .. }), "{error}");
        assert_says(&error, feature);
    };
    refused("-c -o compression_type=zstd", "zstd");
    refused("-o extended_l2=on", "extended L2");
    let luks = "--object secret,id=key,data=x -o encrypt.format=luks,encrypt.key-secret=key";
    refused(&format!("{luks},encrypt.iter-time=10"), "LUKS");

    shop.qemu_img("create -f qcow2 -o data_file=data.raw image 1M");
    let error = shop.refusal("image");
    assert!(matches!(&error, ImageError::Backing { name, .. } if name == "data.raw"), "{error}");

    for subformat in ["streamOptimized", "monolithicSparse"] {
        let options = format!("-o subformat={subformat}");
        shop.qemu_img(&format!("convert -f raw -O vmdk {options} disk.raw image.vmdk"));
        let error = shop.try_open("image.vmdk", None, BackingPolicy::Follow).unwrap_err();
        assert!(matches!(error, ImageError::Unsupported { .. }), "{error}");
    }
    shop.qemu_img("convert -f raw -O vmdk -o subformat=twoGbMaxExtentSparse disk.raw two.vmdk");
    let error = shop.try_open("two.vmdk", None, BackingPolicy::Follow).unwrap_err();
    assert!(matches!(error, ImageError::Unsupported { .. }), "{error}");
}

#[test]
fn raw_sizes() {
    let Some(shop) = Workshop::open() else { return };
    for (length, reason) in [(0, "empty"), (1, "whole sectors"), (513, "whole sectors")] {
        shop.write("disk.raw", &vec![7; length]);
        let error = shop.try_open("disk.raw", Some(ImageFormat::Raw), BackingPolicy::Refuse);
        assert_says(&error.unwrap_err(), reason);
    }
    shop.write("disk.raw", &[7; 512]);
    assert_eq!(shop.read("disk.raw", ImageFormat::Raw), [7; 512]);
}

#[test]
fn bytes_that_are_no_vmdk() {
    let Some(shop) = Workshop::open() else { return };
    for bytes in [
        &b""[..],
        b"abc",
        b"# Disk DescriptorFile\nversion=9\n",
        b"# Disk DescriptorFile\nversion=1\n",
        b"# Disk DescriptorFile\nversion=1\nRW 18446744073709551615 ZERO\n",
        b"# Disk DescriptorFile\nversion=1\nRW 36028797018963968 ZERO\nRW 1 ZERO\n",
        b"# Disk DescriptorFile\nversion=1\nRW 0 ZERO\n",
        b"# Disk DescriptorFile\nversion=1\nRW 8 NONSENSE\n",
        b"# Disk DescriptorFile\nversion=1\nNOACCESS 8\n",
        b"# Disk DescriptorFile\nversion=1\nparentFileNameHint=\"/etc/passwd\"\nRW 8 ZERO\n",
        b"\xff\xff\xff\xff\xff",
    ] {
        shop.write("image.vmdk", bytes);
        let opened = shop.try_open("image.vmdk", Some(ImageFormat::Vmdk), BackingPolicy::Follow);
        assert!(opened.is_err(), "{:?}", String::from_utf8_lossy(bytes));
    }
    shop.write("image.vmdk", b"# Disk DescriptorFile\nversion=1\nRW 8 ZERO\n");
    let image = shop.try_open("image.vmdk", None, BackingPolicy::Refuse).unwrap();
    assert_eq!(read_all(&image), [0; 4096]);
}
