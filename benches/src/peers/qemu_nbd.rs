//! `qemu-nbd` on a chain of qcow2 overlays.
//!
//! The overlays have subclusters (`extended_l2`), so that a small write copies nothing up and a
//! read may have to go down the chain, as ours may.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nbd_server::client::NbdClient;
use tempfile::TempDir;

use crate::program;

/// How long it may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// A chain of overlays, by its uppermost file.
#[derive(Clone, Debug)]
pub struct OverlayChain {
    top: PathBuf,
}

impl OverlayChain {
    /// Makes an overlay for each list of writes (where, how long), the first one without a base.
    pub fn make(folder: &Path, layers: &[Vec<(u64, u64)>]) -> anyhow::Result<Self> {
        let mut top: Option<PathBuf> = None;
        for (number, writes) in layers.iter().enumerate() {
            let file = folder.join(format!("{}-{number}.qcow2", layers.len()));
            create(&file, top.as_deref())?;
            let mut command = Command::new("qemu-io");
            command.args(["-f", "qcow2"]);
            for (start, length) in writes {
                command.args(["-c", &format!("write -q {start} {length}")]);
            }
            program::run(command.arg(&file))?;
            top = Some(file);
        }
        Ok(Self { top: top.context("a chain of no layers")? })
    }
}

fn create(file: &Path, base: Option<&Path>) -> anyhow::Result<()> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-o", "extended_l2=on"]);
    match base {
        Some(base) => command.args(["-F", "qcow2", "-b"]).arg(base).arg(file),
        None => command.arg(file).arg("1T"),
    };
    program::run(&mut command).map(drop)
}

/// A running server of one chain.
#[derive(Debug)]
pub struct QemuNbd {
    child: Child,
    folder: TempDir,
}

impl QemuNbd {
    /// Whether this machine has all that is needed.
    pub fn is_here() -> bool {
        ["qemu-nbd", "qemu-img", "qemu-io"].iter().all(|name| program::find(name).is_some())
    }

    /// Serves a chain, read only, to whoever comes.
    pub fn serve(chain: &OverlayChain) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let child = Command::new("qemu-nbd")
            .args(["--read-only", "--persistent", "--shared", "8", "--format", "qcow2"])
            .args(["--export-name", "disk", "--socket"])
            .arg(folder.path().join("nbd"))
            .arg(&chain.top)
            .stdin(Stdio::null())
            .spawn()
            .context("qemu-nbd")?;
        Ok(Self { child, folder })
    }

    /// Connects, once it serves.
    pub fn client(&self) -> anyhow::Result<NbdClient> {
        let begun = Instant::now();
        loop {
            match NbdClient::connect_unix(&self.folder.path().join("nbd"), "disk") {
                Ok(client) => return Ok(client),
                Err(_) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(1)),
                Err(error) => bail!("connecting to qemu-nbd: {error}"),
            }
        }
    }
}

impl Drop for QemuNbd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
