//! `qemu-storage-daemon`: the live peer, driven over QMP the way the best script would.
//!
//! A reset: the export ends, the overlay is closed, a new empty one takes its place (a copy of a
//! template, its sync, a rename and a sync of the directory, so that it is as durable as ours), and
//! a new export begins. The connection to the monitor is kept; overlays of before are unlinked
//! outside of the clock.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::qemu_img::QemuImg;
use crate::program;

/// How long it may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running daemon with one export.
#[derive(Debug)]
pub struct StorageDaemon {
    child: Child,
    monitor: BufReader<UnixStream>,
    folder: PathBuf,
    /// The number of the present overlay.
    number: u32,
    /// Whether the monitor told that the export is gone: before or after it answers the command.
    export_ended: bool,
}

impl StorageDaemon {
    /// Its name in tables.
    pub const NAME: &str = "qemu-storage-daemon";
    /// The name of its export.
    pub const EXPORT: &str = "disk";

    /// Whether this machine has all that is needed.
    pub fn is_here() -> bool {
        program::find(Self::NAME).is_some() && QemuImg::find().is_some()
    }

    /// Starts it in a folder on a raw image; the first overlay is open.
    pub fn start(folder: &Path, image: &Path) -> anyhow::Result<Self> {
        let qemu_img = QemuImg::find().context("qemu-img is not here")?;
        qemu_img.overlay(image, &folder.join("template"))?;
        let child = spawn(folder)?;
        let mut daemon = match connect(&folder.join("qmp.sock")) {
            Ok(monitor) => {
                let folder = folder.to_owned();
                Self { child, monitor, folder, number: 0, export_ended: false }
            }
            Err(error) => {
                end(child);
                return Err(error);
            }
        };
        daemon.greet(image)?;
        daemon.prepare()?;
        daemon.open()?;
        Ok(daemon)
    }

    /// Where its export is.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("nbd.sock")
    }

    /// Makes the next overlay ready; a script may do so ahead of the reset.
    pub fn prepare(&self) -> anyhow::Result<()> {
        let ready = self.folder.join("ready");
        fs::copy(self.folder.join("template"), &ready)?;
        Ok(File::open(&ready)?.sync_all()?)
    }

    /// Unlinks the overlay that is no longer open.
    pub fn unlink_old(&self) {
        // Not there before the first reset.
        let _ = fs::remove_file(self.overlay(self.number - 1));
    }

    /// Ends the export and closes the overlay.
    pub fn close(&mut self) -> anyhow::Result<()> {
        let name = self.node();
        self.export_ended = false;
        self.call("block-export-del", &json!({ "id": "export", "mode": "hard" }))?;
        while !self.export_ended {
            self.read()?;
        }
        self.call("blockdev-del", &json!({ "node-name": name }))
    }

    /// Puts the prepared overlay in place and exports it.
    pub fn open(&mut self) -> anyhow::Result<()> {
        self.number += 1;
        let (node, overlay) = (self.node(), self.overlay(self.number));
        fs::rename(self.folder.join("ready"), &overlay)?;
        File::open(&self.folder)?.sync_all()?;
        let file = json!({ "driver": "file", "filename": overlay });
        let opened =
            json!({ "driver": "qcow2", "node-name": node, "file": file, "backing": "base" });
        self.call("blockdev-add", &opened)?;
        let export = json!({
            "type": "nbd", "id": "export", "node-name": node, "name": Self::EXPORT, "writable": true,
        });
        self.call("block-export-add", &export)
    }

    fn greet(&mut self, image: &Path) -> anyhow::Result<()> {
        self.read()?;
        self.call("qmp_capabilities", &json!({}))?;
        let file = json!({ "driver": "file", "filename": image });
        let base = json!({ "driver": "raw", "node-name": "base", "read-only": true, "file": file });
        self.call("blockdev-add", &base)
    }

    fn node(&self) -> String {
        format!("overlay{}", self.number)
    }

    fn overlay(&self, number: u32) -> PathBuf {
        self.folder.join(format!("overlay{number}"))
    }

    fn call(&mut self, command: &str, arguments: &Value) -> anyhow::Result<()> {
        let text = json!({ "execute": command, "arguments": arguments }).to_string();
        self.monitor.get_mut().write_all(format!("{text}\n").as_bytes())?;
        loop {
            let answer = self.read()?;
            if answer.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = answer.get("error") {
                bail!("{command}: {error}");
            }
        }
    }

    fn read(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        if self.monitor.read_line(&mut line)? == 0 {
            bail!("{} ended", Self::NAME);
        }
        let message: Value = serde_json::from_str(&line)?;
        self.export_ended |= message["event"] == "BLOCK_EXPORT_DELETED";
        Ok(message)
    }
}

impl Drop for StorageDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path) -> anyhow::Result<Child> {
    let socket = |name: &str| folder.join(name).display().to_string();
    let monitor = format!("socket,id=qmp,path={},server=on,wait=off", socket("qmp.sock"));
    let nbd = format!("addr.type=unix,addr.path={}", socket("nbd.sock"));
    Command::new(StorageDaemon::NAME)
        .args(["--chardev", &monitor, "--monitor", "chardev=qmp", "--nbd-server", &nbd])
        .stdin(Stdio::null())
        .spawn()
        .context(StorageDaemon::NAME)
}

fn connect(socket: &Path) -> anyhow::Result<BufReader<UnixStream>> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(BufReader::new(stream)),
            Err(_) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error).context("connecting to the QMP monitor"),
        }
    }
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}
