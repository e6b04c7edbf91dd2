//! The image of the demo: a real ext4 file system with files in it, or, without `mke2fs`, bytes of our own.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 64 * MIB;

/// How the image was made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) told: &'static str,
    /// Why it is not what it should be.
    pub(super) substitute: Option<&'static str>,
}

/// Makes an image in this directory.
pub(super) fn make(directory: &Path) -> anyhow::Result<(PathBuf, Made)> {
    let image = directory.join("demo.raw");
    let files = directory.join("files");
    write_files(&files).context("writing the files of the image")?;
    match run_mke2fs(&files, &image) {
        Ok(()) => Ok((image, Made { told: "an ext4 image of 64 MiB", substitute: None })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_pattern(&image).context("writing the image")?;
            let substitute = Some(
                "mke2fs (Debian: e2fsprogs) is not installed, so the image is a raw one of our own making",
            );
            Ok((image, Made { told: "a raw image of 64 MiB", substitute }))
        }
        Err(error) => bail!("mke2fs: {error}"),
    }
}

fn write_files(files: &Path) -> io::Result<()> {
    fs::create_dir_all(files.join("etc"))?;
    fs::write(files.join("etc/motd"), "This is the initial state.\n")?;
    fs::write(files.join("noise"), noise(1, 8 * MIB))
}

fn run_mke2fs(files: &Path, image: &Path) -> io::Result<()> {
    let mut mke2fs = Command::new(find_mke2fs());
    mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(files).arg(image).arg("64M");
    let output = mke2fs.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Systems keep it where only root looks.
fn find_mke2fs() -> PathBuf {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let usual =
        if search.is_empty() { Vec::new() } else { vec!["/usr/sbin".into(), "/sbin".into()] };
    let mut places = std::env::split_paths(&search).chain(usual).map(|place| place.join("mke2fs"));
    places.find(|path| path.exists()).unwrap_or_else(|| "mke2fs".into())
}

fn write_pattern(image: &Path) -> io::Result<()> {
    let mut file = File::create(image)?;
    file.set_len(SIZE)?;
    file.write_all(b"A raw image of reinit's own making.\n")?;
    file.write_all_at(&noise(1, 8 * MIB), 4 * MIB)
}

/// Bytes that repeat for nobody else, the same ones for the same seed.
pub(super) fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).expect("a few megabytes fit")];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
