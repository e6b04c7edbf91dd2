//! A folder to make images in with the real `qemu-img`, and the ways to open and patch them.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use block_store::{BackingPolicy, ImageError, ImageFormat, ImageSource};
use tempfile::TempDir;

/// A folder to make images in.
pub(crate) struct Workshop {
    folder: TempDir,
}

impl Workshop {
    /// None, and a loud line, without `qemu-img`.
    pub(crate) fn open() -> Option<Self> {
        if Command::new("qemu-img").arg("--version").output().is_err() {
            eprintln!("SKIPPED: this test needs qemu-img (package qemu-utils)");
            return None;
        }
        Some(Self { folder: tempfile::tempdir().unwrap() })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `qemu-img` in the folder; it must succeed.
    pub(crate) fn qemu_img(&self, arguments: &str) {
        let answer = Command::new("qemu-img")
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert!(answer.status.success(), "qemu-img {arguments}: {said}");
    }

    /// Runs `qemu-io` commands on an image; they must succeed.
    pub(crate) fn qemu_io(&self, image: &str, commands: &[&str]) {
        let mut call = Command::new("qemu-io");
        for command in commands {
            call.args(["-c", command]);
        }
        let answer = call.arg(image).current_dir(self.folder.path()).output().unwrap();
        assert!(answer.status.success(), "qemu-io {commands:?}: {answer:?}");
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// A qcow2 image named `image` of 16 MiB of [`mixed`] bytes.
    pub(crate) fn plain_qcow2(&self) -> PathBuf {
        self.write("plain.raw", &mixed(16 << 20));
        self.qemu_img("convert -f raw -O qcow2 plain.raw image");
        self.path("image")
    }

    /// Overwrites bytes of a file.
    pub(crate) fn patch(&self, name: &str, offset: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(self.path(name)).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    /// A big-endian number in a file.
    pub(crate) fn number(&self, name: &str, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        File::open(self.path(name)).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        u64::from_be_bytes(bytes)
    }

    pub(crate) fn try_open(
        &self,
        name: &str,
        format: Option<ImageFormat>,
        backing: BackingPolicy,
    ) -> Result<ImageSource, ImageError> {
        open(&self.path(name), format, backing)
    }

    /// Opens as qcow2, following nothing; it must be refused.
    pub(crate) fn refusal(&self, name: &str) -> ImageError {
        self.try_open(name, Some(ImageFormat::Qcow2), BackingPolicy::Refuse).unwrap_err()
    }

    /// Reads the whole disk in an image, following what it names beneath the folder.
    pub(crate) fn read(&self, name: &str, format: ImageFormat) -> Vec<u8> {
        read_all(&self.try_open(name, Some(format), BackingPolicy::Follow).unwrap())
    }
}

pub(crate) fn open(
    path: &Path,
    format: Option<ImageFormat>,
    backing: BackingPolicy,
) -> Result<ImageSource, ImageError> {
    ImageSource::open(File::open(path).unwrap(), Some(path), format, backing)
}

/// Reads a disk twice: all of it straight, and only what is said to be data; both must agree.
pub(crate) fn read_all(source: &ImageSource) -> Vec<u8> {
    let size = usize::try_from(source.size().get()).unwrap();
    let mut straight = vec![1; size];
    let mut at = 0;
    for piece in straight.chunks_mut(1 << 20) {
        source.read_at(piece, at).unwrap();
        at += 1 << 20;
    }
    let mut sparse = vec![0; size];
    let mut from = 0;
    while let Some(range) = source.next_data(from).unwrap() {
        assert!(range.start >= from && range.start < range.end);
        let place = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        source.read_at(&mut sparse[place], range.start).unwrap();
        from = range.end;
    }
    assert!(straight == sparse, "next_data left data out");
    source.check_unchanged().unwrap();
    straight
}

/// Bytes of which parts are zeros, parts repeat and parts are noise, none of it in step with
/// clusters.
pub(crate) fn mixed(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let run = usize::try_from(state % 150_000).unwrap();
        match state >> 32 & 3 {
            0 | 1 => bytes.resize(bytes.len() + run, 0),
            2 => bytes.resize(bytes.len() + run, 0x5a),
            _ => (0..run / 8).for_each(|step| {
                let noise = (state ^ u64::try_from(step).unwrap()).wrapping_mul(state | 1);
                bytes.extend(noise.to_le_bytes());
            }),
        }
    }
    bytes.truncate(length);
    bytes
}

/// Asserts that the error's text holds `words`.
#[track_caller]
pub(crate) fn assert_says(error: &ImageError, words: &str) {
    assert!(error.to_string().contains(words), "{words:?} expected, got: {error}");
}
