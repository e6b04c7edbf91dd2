//! VHD: what `qemu-img` writes is read byte for byte, what we write it reads, and what is hostile is refused.

use block_device::MemoryDisk;
use block_store::{BackingPolicy, ImageError, ImageFormat, export_vhd};
use proptest::prelude::*;

use super::{
    fuzz::survive,
    workshop::{Workshop, assert_says, mixed, read_all},
};

const FOOTER: usize = 512;
/// Where the sums over the footer and over the table's header are.
const FOOTER_SUM: usize = 64;
const HEADER_SUM: usize = 36;

/// An image of the disk, as `qemu-img` makes it with these options.
fn convert(shop: &Workshop, disk: &[u8], options: &str) {
    shop.write("disk.raw", disk);
    shop.qemu_img(&format!("convert -f raw -O vpc -o force_size=on,{options} disk.raw image"));
}

fn number(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
}

/// Writes the sum over `bytes[from..to]`, at `place` in it, anew.
fn sum_up(bytes: &mut [u8], from: usize, to: usize, place: usize) {
    put(&mut bytes[from..to], place, 0);
    let sum = bytes[from..to].iter().map(|byte| u32::from(*byte)).sum::<u32>();
    put(&mut bytes[from..to], place, !sum);
}

/// Both sums of a dynamic image.
fn sum_up_all(bytes: &mut [u8]) {
    let end = bytes.len();
    sum_up(bytes, end - FOOTER, end, FOOTER_SUM);
    sum_up(bytes, FOOTER, FOOTER + 1024, HEADER_SUM);
}

#[test]
fn fixed_and_dynamic_images_are_read_as_they_were_written() {
    let Some(shop) = Workshop::open() else { return };
    for length in [512, (5 << 20) + 512, 24 << 20] {
        let disk = mixed(length);
        for options in ["subformat=dynamic", "subformat=fixed"] {
            convert(&shop, &disk, options);
            assert!(shop.read("image", ImageFormat::Vhd) == disk, "{options} {length}");
        }
        convert(&shop, &disk, "subformat=dynamic");
        let guessed = shop.try_open("image", None, BackingPolicy::Refuse).unwrap();
        assert_eq!(guessed.format(), ImageFormat::Vhd);
        // What begins with the bytes of a disk is taken for one.
        convert(&shop, &disk, "subformat=fixed");
        let guessed = shop.try_open("image", None, BackingPolicy::Refuse).unwrap();
        assert_eq!((guessed.format(), guessed.size().get()), {
            (ImageFormat::Raw, u64::try_from(length + FOOTER).unwrap())
        });
    }
}

#[test]
fn a_block_that_was_written_in_part_is_zeros_elsewhere() {
    let Some(shop) = Workshop::open() else { return };
    convert(&shop, &[7; 4 << 20], "subformat=dynamic");
    let mut bytes = shop.bytes("image");
    let table = usize::try_from(shop.number("image", 512 + 16)).unwrap();
    let second = number(&bytes, table + 4) * 512;
    // Of the second block only sectors 0, 9 and the last were written.
    bytes[second..second + 512].fill(0);
    (bytes[second], bytes[second + 1], bytes[second + 511]) = (0x80, 0x40, 1);
    shop.write("image", &bytes);
    let mut expected = vec![7; 4 << 20];
    for (sector, part) in expected[2 << 20..].chunks_mut(512).enumerate() {
        if ![0, 9, 4095].contains(&sector) {
            part.fill(0);
        }
    }
    assert!(shop.read("image", ImageFormat::Vhd) == expected);
    let image = shop.try_open("image", Some(ImageFormat::Vhd), BackingPolicy::Refuse).unwrap();
    let mut across = vec![1; 1500];
    image.read_at(&mut across, (2 << 20) + 4100).unwrap();
    assert!(across == expected[(2 << 20) + 4100..][..1500], "reads need not begin at a sector");
}

#[test]
fn what_is_cut_or_cannot_be_is_refused() {
    let Some(shop) = Workshop::open() else { return };
    let refused = |bytes: &[u8], words: &str| {
        shop.write("evil", bytes);
        let error = shop.try_open("evil", Some(ImageFormat::Vhd), BackingPolicy::Follow);
        assert_says(&error.unwrap_err(), words);
    };
    convert(&shop, &mixed(4 << 20), "subformat=fixed");
    let fixed = shop.bytes("image");
    refused(&[], "not a vhd image");
    refused(&fixed[..fixed.len() - 1], "not a vhd image");
    refused(&fixed[FOOTER..], "cut");
    convert(&shop, &mixed(4 << 20), "subformat=dynamic");
    let whole = shop.bytes("image");
    refused(&whole[..whole.len() - FOOTER], "not a vhd image");
    let (end, table) = (whole.len() - FOOTER, FOOTER + 1024);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        sum_up_all(&mut bytes);
        bytes
    };
    let mut wrong = whole.clone();
    wrong[end + 50] ^= 1;
    refused(&wrong, "sum over its footer");
    let mut wrong = whole.clone();
    wrong[FOOTER + 200] ^= 1;
    refused(&wrong, "header of its table");
    refused(&changed(&|bytes| put(bytes, end + 60, 4)), "based on another");
    refused(&changed(&|bytes| put(bytes, end + 60, 9)), "no kind of VHD");
    refused(&changed(&|bytes| put(bytes, end + 12, 0x0002_0000)), "another version");
    refused(&changed(&|bytes| put(bytes, end + 48, 0x7fff_ffff)), "the most is");
    refused(&changed(&|bytes| put(bytes, end + 48, 0x1000)), "the most is");
    refused(&changed(&|bytes| put(bytes, end + 52, 513)), "whole sectors");
    refused(&changed(&|bytes| put(bytes, end + 16, u32::MAX)), "cut");
    refused(&changed(&|bytes| put(bytes, FOOTER + 32, 3 << 20)), "blocks of");
    refused(&changed(&|bytes| put(bytes, FOOTER + 28, 1)), "shorter than its disk");
    refused(&changed(&|bytes| put(bytes, FOOTER + 16, 1)), "cut");
    assert_eq!(number(&whole, FOOTER + 20), table, "the table follows its header");
    refused(&changed(&|bytes| put(bytes, table, 0x00ff_ffff)), "cut");
    // Named right behind the footer it would run into, or out of, the end.
    let last = u32::try_from(end / 512).unwrap();
    refused(&changed(&|bytes| put(bytes, table, last)), "cut");
    assert!(
        read_all(&shop.try_open("image", None, BackingPolicy::Refuse).unwrap()) == mixed(4 << 20)
    );
}

#[test]
fn what_is_exported_is_read_by_others_and_by_us() {
    let Some(shop) = Workshop::open() else { return };
    for length in [512, 65536 + 512, (5 << 20) - 512, 24 << 20] {
        let bytes = mixed(length);
        let disk = MemoryDisk::read_only(bytes.clone());
        shop.write("expected.raw", &bytes);
        let mut options = std::fs::File::options();
        let out = options.read(true).write(true).create(true).truncate(true);
        export_vhd(&disk, &out.open(shop.path("out")).unwrap(), &()).unwrap();
        shop.qemu_img("compare -f vpc -F raw out expected.raw");
        shop.qemu_img("convert -f vpc -O raw out back.raw");
        assert!(shop.bytes("back.raw") == bytes, "{length}: not a byte more or less");
        assert!(shop.read("out", ImageFormat::Vhd) == bytes);
    }
}

#[test]
fn an_image_that_changes_while_it_is_read_is_found_out() {
    let Some(shop) = Workshop::open() else { return };
    convert(&shop, &mixed(4 << 20), "subformat=dynamic");
    let image = shop.try_open("image", Some(ImageFormat::Vhd), BackingPolicy::Refuse).unwrap();
    image.check_unchanged().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    shop.patch("image", 4096, b"x");
    assert!(matches!(image.check_unchanged(), Err(ImageError::Changed)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn damaged_images_whose_sums_are_right(words in prop::collection::vec((0_usize..900, any::<u32>(), 0_u32..32), 1..6)) {
        static IMAGE: std::sync::OnceLock<Option<Vec<u8>>> = std::sync::OnceLock::new();
        let image = IMAGE.get_or_init(|| {
            let shop = Workshop::open()?;
            convert(&shop, &mixed(4 << 20), "subformat=dynamic");
            Some(shop.bytes("image"))
        });
        if let Some(mut bytes) = image.clone() {
            let end = bytes.len() - FOOTER;
            for (word, value, shift) in words {
                // In the footer, or in the header and table behind its copy.
                let place = if word < 128 { end + word * 4 } else { word * 4 };
                put(&mut bytes, place, value >> shift);
            }
            sum_up_all(&mut bytes);
            survive(&bytes, Some(ImageFormat::Vhd));
        }
    }
}
