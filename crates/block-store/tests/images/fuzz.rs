//! Random damage: it may be refused or read as something else, but never panics, never hangs, never
//! opens another file.

use std::{
    fs::File,
    io::Write,
    sync::OnceLock,
    time::{Duration, Instant},
};

use block_store::{BackingPolicy, ImageError, ImageFormat, ImageSource};
use proptest::prelude::*;

use super::workshop::{Workshop, mixed};

/// Small valid images: plain, compressed, version 2, with a snapshot, with a backing file.
fn images() -> &'static [Vec<u8>] {
    static IMAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let Some(shop) = Workshop::open() else { return Vec::new() };
        shop.write("disk.raw", &mixed(512 << 10));
        let convert = "convert -f raw -O qcow2";
        shop.qemu_img(&format!("{convert} -o cluster_size=4k disk.raw plain"));
        shop.qemu_img(&format!("{convert} -c -o cluster_size=512 disk.raw compressed"));
        shop.qemu_img(&format!("{convert} -c -o compat=0.10,cluster_size=4k disk.raw old"));
        shop.qemu_img(&format!("{convert} -o cluster_size=4k disk.raw kept"));
        shop.qemu_img("snapshot -c kept kept");
        shop.qemu_img("create -f qcow2 -o cluster_size=4k -b disk.raw -F raw child 1M");
        ["plain", "compressed", "old", "kept", "child"].map(|name| shop.bytes(name)).into()
    })
}

/// Opens and reads a bounded part; any outcome is right but a panic or a hang.
pub(crate) fn survive(bytes: &[u8], format: Option<ImageFormat>) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let started = Instant::now();
    let outcome = read_some(file, format);
    if let Err(error) = &outcome {
        assert!(!error.to_string().contains("panicked"), "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(60), "{outcome:?}");
}

fn read_some(file: File, format: Option<ImageFormat>) -> Result<(), ImageError> {
    let image = ImageSource::open(file, None, format, BackingPolicy::Refuse)?;
    let mut buffer = vec![0; 256 << 10];
    let mut from = 0;
    for _ in 0..40 {
        let Some(range) = image.next_data(from)? else { break };
        let length = (range.end - range.start).min(256 << 10);
        let piece = &mut buffer[..usize::try_from(length).unwrap()];
        match image.read_at(piece, range.start) {
            Err(error) if error.to_string().contains("panicked") => return Err(error),
            // One bad cluster does not hide the next.
            _ => from = range.start + length,
        }
    }
    image.check_unchanged()
}

/// Where to damage: half of it in the header, half anywhere.
fn damage() -> impl Strategy<Value = Vec<(bool, u32, u8)>> {
    prop::collection::vec((any::<bool>(), any::<u32>(), any::<u8>()), 1..12)
}

fn damaged(image: &[u8], damage: &[(bool, u32, u8)]) -> Vec<u8> {
    let mut bytes = image.to_vec();
    for (in_header, place, value) in damage {
        let within = if *in_header { 128 } else { bytes.len() };
        let place = usize::try_from(*place).unwrap() % within;
        bytes[place] = *value;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn damaged_images(which in 0_usize..5, damage in damage()) {
        if let Some(image) = images().get(which) {
            survive(&damaged(image, &damage), Some(ImageFormat::Qcow2));
        }
    }

    #[test]
    fn damaged_tables(which in 0_usize..5, words in prop::collection::vec((any::<u16>(), any::<u64>(), 0_u32..64), 1..6)) {
        if let Some(image) = images().get(which) {
            let mut bytes = image.clone();
            for (place, value, shift) in words {
                let place = usize::from(place) * 8 % (bytes.len() - 8);
                bytes[place..place + 8].copy_from_slice(&(value >> shift).to_be_bytes());
            }
            survive(&bytes, Some(ImageFormat::Qcow2));
        }
    }

    #[test]
    fn cut_images(which in 0_usize..5, length in any::<u32>()) {
        if let Some(image) = images().get(which) {
            let length = usize::try_from(length).unwrap() % image.len();
            survive(&image[..length], Some(ImageFormat::Qcow2));
        }
    }

    #[test]
    fn random_bytes(start in 0_usize..3, bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let magic: &[u8] = [&b""[..], b"QFI\xfb\0\0\0\x03", b"# Disk DescriptorFile\n"][start];
        let bytes = [magic, &bytes].concat();
        for format in [None, Some(ImageFormat::Raw), Some(ImageFormat::Qcow2), Some(ImageFormat::Vmdk), Some(ImageFormat::Vhd)] {
            survive(&bytes, format);
        }
    }

    #[test]
    fn random_descriptors(lines in prop::collection::vec("(RW|RDONLY|NOACCESS|version=|CID=|ddb.x=)? ?[0-9]{0,20} ?(FLAT|ZERO|SPARSE)? ?(\"[a-z./]{0,8}\"?)? ?[0-9]{0,20}", 0..20)) {
        let text = format!("# Disk DescriptorFile\nversion=1\n{}\n", lines.join("\n"));
        survive(text.as_bytes(), Some(ImageFormat::Vmdk));
    }
}
