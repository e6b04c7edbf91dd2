//! Where it is measured: a directory on a real file system.
//!
//! What must always hold
//! 1. Never in memory: a file system without a device answers every sync at once.
//! 2. What was mounted is unmounted, and the file behind it has no name from the moment it is
//!    mounted, so that at most an empty folder is left however the run ends.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::{
    GIB,
    program::{self, on},
};

/// How large a loop file is made; it is sparse.
const LOOP_SIZE: u64 = 24 * GIB;

/// File systems that live in memory.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// A directory to measure in; ends with what was mounted for it.
#[derive(Debug)]
pub struct Place {
    /// The file system in a word or two, for tables.
    pub name: String,
    /// How it is mounted.
    pub options: String,
    directory: PathBuf,
    // Fields are dropped in this order.
    _mounted: Option<Mounted>,
    _holder: TempDir,
}

impl Place {
    /// A folder in a directory that is there already.
    pub fn below(directory: &Path) -> anyhow::Result<Self> {
        let mount = Mount::of(directory)?;
        ensure!(
            !IN_MEMORY.contains(&mount.kind.as_str()),
            "{} is on {}, which lives in memory and has nothing to sync; give --dir on a disk",
            directory.display(),
            mount.kind,
        );
        let holder = tempfile::Builder::new().prefix("reinit-bench-").tempdir_in(directory)?;
        let directory = holder.path().to_owned();
        Ok(Self {
            name: mount.kind,
            options: mount.options,
            directory,
            _mounted: None,
            _holder: holder,
        })
    }

    /// A new file system in a loop file; root only.
    fn in_loop_file(kind: &LoopKind, below: &Path) -> anyhow::Result<Self> {
        let holder = tempfile::Builder::new().prefix("reinit-bench-").tempdir_in(below)?;
        let image = holder.path().join("image");
        File::create_new(&image)?.set_len(LOOP_SIZE)?;
        program::run(&mut on(kind.maker, kind.options, &image))?;
        let directory = holder.path().join(kind.name);
        fs::create_dir(&directory)?;
        let mounted = Mounted::mount(&image, &directory)?;
        fs::remove_file(&image)?;
        let options = Mount::of(&directory)?.options;
        let name = format!("{} (loop)", kind.name);
        Ok(Self { name, options, directory, _mounted: Some(mounted), _holder: holder })
    }

    /// What it is, for the head of the table.
    pub fn line(&self) -> String {
        format!("{}: {}", self.name, self.options)
    }

    /// An empty folder in it, gone with its holder.
    pub fn folder(&self) -> anyhow::Result<TempDir> {
        TempDir::with_prefix_in("b", &self.directory).context("making a folder")
    }

    /// Writes everything back, so that nobody pays for what was before.
    pub fn settle(&self) -> anyhow::Result<()> {
        rustix::fs::syncfs(File::open(&self.directory)?).context("syncing the file system")
    }
}

/// How a file system in a loop file is made.
#[derive(Debug)]
struct LoopKind {
    name: &'static str,
    maker: &'static str,
    options: &'static [&'static str],
}

/// Everything is initialised at once: no lazy work during the rounds.
const LOOP_KINDS: [LoopKind; 2] = [
    LoopKind {
        name: "ext4",
        maker: "mkfs.ext4",
        options: &[
            "-q",
            "-F",
            "-O",
            "has_journal",
            "-T",
            "largefile",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
        ],
    },
    LoopKind { name: "xfs", maker: "mkfs.xfs", options: &["-q", "-K"] },
];

/// The places to measure in, and what had to be left out.
pub fn places(asked: Option<&Path>) -> anyhow::Result<(Vec<Place>, Vec<String>)> {
    if let Some(directory) = asked {
        return Ok((vec![Place::below(directory)?], Vec::new()));
    }
    let below = disk_directory()?;
    if !rustix::process::geteuid().is_root() {
        let skipped = "**Skipped**: ext4 and XFS in loop files, which need root; measured on the \
                       file system of the temporary directory alone";
        return Ok((vec![Place::below(&below)?], vec![skipped.into()]));
    }
    let (mut places, mut skipped) = (Vec::new(), Vec::new());
    for kind in &LOOP_KINDS {
        match Place::in_loop_file(kind, &below) {
            Ok(place) => places.push(place),
            Err(error) => skipped.push(format!("**Skipped**: {}: {error:#}", kind.name)),
        }
    }
    if places.is_empty() {
        places.push(Place::below(&below)?);
    }
    Ok((places, skipped))
}

/// A temporary folder that is not in memory.
pub fn disk_folder() -> anyhow::Result<TempDir> {
    TempDir::with_prefix_in("reinit-bench-", disk_directory()?).context("making a folder")
}

/// A directory that is not in memory: the temporary one, or the one we are in.
fn disk_directory() -> anyhow::Result<PathBuf> {
    for directory in [std::env::temp_dir(), std::env::current_dir()?] {
        if !IN_MEMORY.contains(&Mount::of(&directory)?.kind.as_str()) {
            return Ok(directory);
        }
    }
    bail!("neither the temporary directory nor this one is on a disk; give --dir")
}

/// A mounted file system.
#[derive(Debug)]
struct Mounted(PathBuf);

impl Mounted {
    fn mount(image: &Path, directory: &Path) -> anyhow::Result<Self> {
        let device = attach(image)?;
        let mounted = program::run(Command::new("mount").arg(&device).arg(directory));
        // A device in use is only marked, and goes with its mount.
        let marked = program::run(Command::new("losetup").args(["--detach", &device]));
        mounted.and(marked).map(|_| Self(directory.to_owned()))
    }
}

/// A loop device on the file, past the cache of the file system below where that is possible.
fn attach(image: &Path) -> anyhow::Result<String> {
    let plain = ["--find", "--show"];
    let direct = on("losetup", &[&plain[..], &["--direct-io=on"]].concat(), image);
    let device = [direct, on("losetup", &plain, image)]
        .iter_mut()
        .find_map(|command| program::run(command).ok())
        .context("no loop device could be had")?;
    Ok(device.trim().to_owned())
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a peer that dies slowly must not keep it.
        if let Err(error) = program::run(&mut on("umount", &["--lazy"], &self.0)) {
            eprintln!("unmounting failed: {error:#}");
        }
    }
}

/// The mount a directory is on.
#[derive(Debug)]
pub struct Mount {
    /// Such as `ext4`.
    pub kind: String,
    /// Such as `rw,relatime`.
    pub options: String,
}

impl Mount {
    /// Found in the kernel's list: the longest mount point above the directory, the last one of
    /// several there.
    pub fn of(directory: &Path) -> anyhow::Result<Self> {
        let directory =
            directory.canonicalize().with_context(|| directory.display().to_string())?;
        let list = fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
        let above = list.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, point, kind, options, ..] = fields[..] else { return None };
            directory.starts_with(point).then_some((point.len(), kind, options))
        });
        let (_, kind, options) = above.max_by_key(|(length, ..)| *length).context("no mount")?;
        Ok(Self { kind: kind.into(), options: options.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_refused() {
        let error = Place::below(Path::new("/dev/shm")).unwrap_err().to_string();
        assert!(error.contains("lives in memory"), "{error}");
    }

    #[test]
    fn the_nearest_mount_counts() {
        assert_eq!(Mount::of(Path::new("/proc/self")).unwrap().kind, "proc");
    }
}
