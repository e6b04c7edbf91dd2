//! Disk images that strangers made: qcow2, VMDK, VHD, raw.
//!
//! What must be true: an image is refused, or imported into a layer that reads as the image does and whose root is that
//! of its content. Where qemu-img is installed and takes a qcow2 image that we take, both read the same; for some of
//! the inputs only, for it is slow.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use block_device::{BlockDevice, ByteOffset};
use block_store::{
    BackingPolicy, FileStorage, ImageError, ImageFormat, ImageSource, LayerId, LayerKind,
    LayerLabel, Store,
};
use tests::recorded_storage::scratch;

use crate::campaign::Trial;

/// Larger ones are only looked at here and there.
const WHOLE: u64 = 4 << 20;
/// One of so many inputs is shown to qemu-img.
const JUDGED: u64 = 8;

/// The language of descriptors.
pub(crate) const VMDK_WORDS: [&[u8]; 9] = [
    b"RW ",
    b"RDONLY ",
    b" FLAT \"flat\" 0\n",
    b" ZERO\n",
    b" SPARSE ",
    b"createType=\"monolithicFlat\"\n",
    b"../",
    b"128",
    b"\n",
];

pub(crate) fn qcow2() -> Trial {
    prepare(ImageFormat::Qcow2, |input| input.to_vec())
}

pub(crate) fn raw() -> Trial {
    // Lengths that are no whole sectors are refused; most inputs should get further.
    prepare(ImageFormat::Raw, |input| {
        let mut bytes = input.to_vec();
        if bytes.first().is_some_and(|byte| byte % 8 != 0) {
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes
    })
}

/// The descriptor of a VMDK; a flat file it may name lies beside it.
pub(crate) fn vmdk() -> Trial {
    prepare(ImageFormat::Vmdk, |input| input.to_vec())
}

pub(crate) fn vhd() -> Trial {
    prepare(ImageFormat::Vhd, vhd_of)
}

/// An input begins with the footer, which a file has at its end, and leaves out the zeros that blocks end with.
/// Most sums are put right: what lies behind them should be reached.
fn vhd_of(input: &[u8]) -> Vec<u8> {
    const FIXED: &[u8] = &[0, 0, 0, 2];
    const FOOTER: usize = 512;
    const HEADER: usize = 1024;
    const BLOCK: usize = 512 << 10;
    let mut file = input.to_vec();
    if file.len() < FOOTER {
        return file;
    }
    if file.len() % 8 != 7 {
        sum_up(&mut file[..FOOTER], 64);
        let place = u64::from_be_bytes(file[16..24].try_into().unwrap());
        let header =
            usize::try_from(place).ok().and_then(|from| file.get_mut(from..)?.get_mut(..HEADER));
        header.into_iter().for_each(|header| sum_up(header, 36));
    }
    let footer = file[..FOOTER].to_vec();
    if &footer[60..64] == FIXED {
        file.drain(..FOOTER);
    } else {
        file.resize(file.len() + BLOCK, 0);
    }
    file.extend(footer);
    file
}

/// Puts at `place` the sum over the bytes, which is what VHD has for a checksum.
fn sum_up(bytes: &mut [u8], place: usize) {
    bytes[place..place + 4].fill(0);
    let sum = bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    bytes[place..place + 4].copy_from_slice(&(!sum).to_be_bytes());
}

/// Images are tried in a directory of their own: what they name must lie in it.
fn prepare(format: ImageFormat, shape: fn(&[u8]) -> Vec<u8>) -> Trial {
    let directory = scratch();
    let store = directory.path().join("store");
    fs::create_dir(&store).unwrap();
    let storage = Arc::new(FileStorage::open(&store).unwrap());
    Store::create(&*storage).unwrap();
    let store = Store::open(storage).unwrap();
    store.settle_alone().unwrap();
    let flat: Vec<u8> = (0..64 << 10).map(|at| u8::try_from(at / 512 % 251).unwrap()).collect();
    // What the seeds stand on.
    for name in ["flat", "d.raw"] {
        fs::write(directory.path().join(name), &flat).unwrap();
    }
    let mut tried = 0;
    Box::new(move |input| {
        tried += 1;
        let path = directory.path().join("image");
        fs::write(&path, shape(input)).unwrap();
        drop(open(&path, None));
        let Ok(image) = open(&path, Some(format)) else { return };
        if image.size().get() > WHOLE {
            return look_around(&image);
        }
        let content = content(&image);
        check_import(&store, &image, content.as_deref());
        if let (Some(content), ImageFormat::Qcow2, 0) = (content, format, tried % JUDGED) {
            check_with_qemu(&path, &content);
        }
    })
}

fn open(path: &Path, format: Option<ImageFormat>) -> Result<ImageSource, ImageError> {
    ImageSource::open(File::open(path).unwrap(), Some(path), format, BackingPolicy::Follow)
}

/// All of a small image; none if a part of it cannot be read.
fn content(image: &ImageSource) -> Option<Vec<u8>> {
    let mut content = vec![0; usize::try_from(image.size().get()).unwrap()];
    image.read_at(&mut content, 0).ok()?;
    // What is skipped as empty must be zeros.
    let mut sparse = vec![0; content.len()];
    let mut from = 0;
    while let Ok(Some(range)) = image.next_data(from) {
        assert!(range.start >= from && range.end > range.start, "{range:?} after {from}");
        let (start, end) =
            (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        sparse[start..end].copy_from_slice(&content[start..end]);
        from = range.end;
    }
    assert!(sparse == content, "a stretch that is told to be empty is not");
    Some(content)
}

/// A few stretches of an image that claims to be large.
fn look_around(image: &ImageSource) {
    let mut buffer = vec![0; 256 << 10];
    let mut from = 0;
    for _ in 0..40 {
        let Ok(Some(range)) = image.next_data(from) else { return };
        let length = (range.end - range.start).min(256 << 10);
        let _ = image.read_at(&mut buffer[..usize::try_from(length).unwrap()], range.start);
        from = range.start + length;
    }
}

fn check_import(store: &Store, image: &ImageSource, content: Option<&[u8]>) {
    let label = LayerLabel {
        kind: LayerKind::Image,
        id: "m-1".into(),
        account: "lab".into(),
        name: "fuzz".into(),
    };
    let Ok(staged) = store.import(image, label, &()) else {
        assert!(content.is_none(), "an image that can be read is refused at its import");
        return;
    };
    let content = content.expect("what cannot be read is not imported");
    let (layer, root) = (staged.layer(), staged.root());
    staged.publish().unwrap();
    assert!(read(store, layer, content.len()) == content, "the layer reads as something else");
    assert_eq!(store.hash_layer(layer, &()).unwrap(), root);
    store.delete_layer(layer).unwrap().finish();
}

fn read(store: &Store, layer: LayerId, length: usize) -> Vec<u8> {
    let mut content = vec![0; length];
    store.open_layer(layer).unwrap().read_at(&mut content, ByteOffset::ZERO).unwrap();
    content
}

/// If qemu-img reads the image at all, it reads the same.
fn check_with_qemu(path: &Path, content: &[u8]) {
    let out = path.with_extension("raw");
    let mut qemu = Command::new("qemu-img");
    qemu.args(["convert", "-f", "qcow2", "-O", "raw"]).arg(path).arg(&out);
    let Ok(status) = qemu.stdout(Stdio::null()).stderr(Stdio::null()).status() else { return };
    if status.success() {
        assert!(fs::read(&out).unwrap() == content, "qemu-img reads something else");
    }
}
