//! "I have a tool that speaks NBD. I point it at a disk, and it works as with any other server."
//!
//! One module per family of tools. Each tool writes and reads the disk beside a plain file, the twin; in the end the
//! store's own files, read by the reader in another language, must hold what the twin holds.

mod fio;
mod kernels;
mod libnbd;
mod nbdkit;
mod python;
mod qemu;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tests::{
    program::{Outcome, run},
    reader,
    site::{Machine, Site},
};

/// A mebibyte.
const MIB: u64 = 1 << 20;
/// The size of the disks and the twin.
const SIZE: u64 = 1 << 30;

/// A running machine and the file that holds what its empty data disk must hold.
struct Bench {
    site: Site,
    machine: Machine,
    twin: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let site = Site::new();
        let image = tests::qemu::ext4_image(site.scratch(), 8);
        let id = site.import(&image, &["--format", "raw"]);
        let machine = site.machine(&id, &["1G"]);
        site.start(&machine.instance);
        let twin = site.scratch().join("twin.raw");
        File::create(&twin).and_then(|file| file.set_len(SIZE)).unwrap();
        Self { site, machine, twin }
    }

    /// The data disk's name.
    fn disk(&self) -> &str {
        &self.machine.data[0]
    }

    /// Where the data disk is served.
    fn uri(&self) -> String {
        self.site.nbd(self.disk())
    }

    /// Bytes that no tool would make up, at a place of the twin only.
    fn expect_noise(&self, place: u64, length: u64) {
        let length = usize::try_from(length).unwrap();
        let mut state = place | 1;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()
        };
        let bytes: Vec<u8> = std::iter::repeat_with(next).flatten().take(length).collect();
        self.expect(&bytes, place);
    }

    /// These bytes at a place of the twin only.
    fn expect(&self, bytes: &[u8], place: u64) {
        File::options().write(true).open(&self.twin).unwrap().write_all_at(bytes, place).unwrap();
    }

    /// Whether a file or an address holds what the twin holds.
    fn is_twin(&self, other: &str) -> bool {
        tests::qemu::identical(&self.twin, "raw", other)
    }

    /// The disk as its files have it: read with the daemon at its end, and without any of our code.
    fn files_of(&mut self) -> PathBuf {
        self.site.end_daemon();
        let copy = self.site.scratch().join("files.raw");
        // One from an earlier look.
        let _ = fs::remove_file(&copy);
        reader::copy(&self.site.store(), "disk", self.disk(), &copy).unwrap();
        self.site.start_daemon();
        copy
    }

    /// The end of each story.
    fn files_hold_the_twin(&mut self) {
        let files = self.files_of();
        assert!(self.is_twin(&files.display().to_string()), "the files hold something else");
        assert!(self.is_twin(&self.uri()), "after a restart the disk reads as something else");
    }
}

/// Runs a tool that must succeed.
fn tool(name: &str, arguments: &[&str]) -> Outcome {
    run(Command::new(name).args(arguments)).ok()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
