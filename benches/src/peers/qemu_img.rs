//! `qemu-img`: making images, and the conversion our import is compared with.

use std::{fs::File, path::Path, process::Command};

use crate::program;

/// `qemu-img` of this machine.
#[derive(Clone, Copy, Debug)]
pub struct QemuImg(());

/// What a conversion makes of a raw image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Clusters as they are.
    None,
    /// Each cluster deflated.
    Deflate,
}

impl QemuImg {
    /// Its name in tables.
    pub const NAME: &str = "qemu-img";

    /// If it is there.
    pub fn find() -> Option<Self> {
        program::find(Self::NAME).map(|_| Self(()))
    }

    /// A qcow2 image of a raw one.
    pub fn to_qcow2(
        self,
        raw: &Path,
        qcow2: &Path,
        compression: Compression,
    ) -> anyhow::Result<()> {
        let mut command = self.convert("raw", "qcow2");
        if compression == Compression::Deflate {
            command.arg("-c");
        }
        program::run(command.arg(raw).arg(qcow2)).map(drop)
    }

    /// A raw image of a qcow2 one. It syncs nothing.
    pub fn to_raw(self, qcow2: &Path, raw: &Path) -> anyhow::Result<()> {
        program::run(self.convert("qcow2", "raw").arg(qcow2).arg(raw)).map(drop)
    }

    /// A raw image of a qcow2 one, made durable.
    pub fn to_durable_raw(self, qcow2: &Path, raw: &Path) -> anyhow::Result<()> {
        self.to_raw(qcow2, raw)?;
        Ok(File::open(raw)?.sync_all()?)
    }

    /// A new empty overlay.
    pub fn overlay(self, base: &Path, overlay: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(Self::NAME);
        command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
        program::run(command.arg(base).arg(overlay)).map(drop)
    }

    fn convert(self, from: &str, to: &str) -> Command {
        let mut command = Command::new(Self::NAME);
        command.args(["convert", "-f", from, "-O", to]);
        command
    }
}
