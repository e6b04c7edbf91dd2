//! A store with a daemon on it, and the words the stories are told in.
//!
//! What must always hold: every step goes the way a user goes: the command line, signed HTTP, NBD.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    daemon::Daemon,
    ecs::{Ecs, Format},
    program::{self, Outcome},
    qemu,
    signature::{Key, Signature},
};

/// Nothing that is waited for may take longer.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A store with a daemon on it.
#[derive(Debug)]
pub struct Site {
    directory: TempDir,
    daemon: Option<Daemon>,
    arguments: Vec<String>,
    key: Key,
}

/// An instance and its disks.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its id.
    pub instance: String,
    /// The disk made from the image.
    pub system: String,
    /// The disks made empty.
    pub data: Vec<String>,
}

impl Site {
    /// A new store with a running daemon and a key of the default account.
    pub fn new() -> Self {
        Self::configured("", &[])
    }

    /// The same with this `reinit.toml` and these further arguments of `serve`.
    pub fn configured(config: &str, arguments: &[&str]) -> Self {
        // Sockets allow no long paths, so that the store lies right below the temporary directory.
        let directory = tempfile::Builder::new().prefix("reinit-").tempdir().expect("a directory");
        Self::inside(directory, config, arguments)
    }

    /// The same in a directory that is there.
    pub fn inside(directory: TempDir, config: &str, arguments: &[&str]) -> Self {
        let mut site = Self {
            directory,
            daemon: None,
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            key: Key { id: String::new(), secret: String::new() },
        };
        site.offline(&["init"]).ok();
        if !config.is_empty() {
            fs::write(site.store().join("reinit.toml"), config).expect("the file can be written");
        }
        site.start_daemon();
        site.key = site.key_of("default");
        site
    }

    /// The store's directory.
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// A place for files of the test beside the store.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    // The daemon

    /// The running daemon.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("the daemon runs")
    }

    /// Starts the daemon that was killed or ended.
    pub fn start_daemon(&mut self) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.daemon = Some(Daemon::start(&self.store(), &arguments));
    }

    /// SIGTERM; it must end well. Gives its log.
    pub fn end_daemon(&mut self) -> String {
        let (status, log) = self.daemon.take().expect("the daemon runs").terminate();
        assert!(status.success(), "{status}: {log}");
        log
    }

    /// kill -9.
    pub fn kill_daemon(&mut self) {
        self.daemon.take().expect("the daemon runs").kill();
    }

    /// kill -9, and the next daemon on what is left.
    pub fn crash(&mut self) {
        self.kill_daemon();
        self.start_daemon();
    }

    // The command line

    /// A command on this store.
    pub fn offline(&self, arguments: &[&str]) -> Outcome {
        let store = self.store().display().to_string();
        program::reinit(["--store", &store].into_iter().chain(arguments.iter().copied()))
    }

    /// A command on this store that must succeed; gives its JSON.
    pub fn run(&self, arguments: &[&str]) -> Value {
        let with_json: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        self.offline(&with_json).ok().json()
    }

    /// A new key of this account.
    pub fn key_of(&self, account: &str) -> Key {
        let made = self.run(&["key", "create", "--account", account]);
        Key { id: text(&made, "AccessKeyId"), secret: text(&made, "AccessKeySecret") }
    }

    /// Imports an image file, with these further arguments.
    pub fn import(&self, file: &Path, arguments: &[&str]) -> String {
        let file = file.display().to_string();
        let mut line = vec!["image", "import", &file, "--name", "image"];
        line.extend(arguments);
        text(&self.run(&line), "ImageId")
    }

    /// A new instance from this image, with a system disk of 1 GiB and these data disks.
    pub fn machine(&self, image: &str, data: &[&str]) -> Machine {
        let mut line = vec!["instance", "create", "--image", image, "--size", "1G"];
        for size in data {
            line.extend(["--data-disk", size]);
        }
        let made = self.run(&line);
        let data = made["DataDiskIds"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|id| id.as_str().expect("an id").to_owned());
        Machine {
            instance: text(&made, "InstanceId"),
            system: text(&made, "SystemDiskId"),
            data: data.collect(),
        }
    }

    /// Starts an instance.
    pub fn start(&self, instance: &str) {
        self.run(&["instance", "start", instance]);
        self.wait_for_instance(instance, "Running");
    }

    /// Stops an instance.
    pub fn stop(&self, instance: &str) {
        self.run(&["instance", "stop", instance]);
        self.wait_for_instance(instance, "Stopped");
    }

    /// Snapshots a disk and waits until that is done.
    pub fn snapshot(&self, disk: &str) -> String {
        let id = text(&self.run(&["snapshot", "create", disk]), "SnapshotId");
        self.wait_for("the snapshot", || {
            let ids = format!("[\"{id}\"]");
            let answer =
                self.ecs().call("DescribeSnapshots", &[REGION, ("SnapshotIds", &ids)]).ok();
            answer.text("Status") == "accomplished"
        });
        id
    }

    /// What `disk show` says.
    pub fn show(&self, disk: &str) -> Value {
        self.run(&["disk", "show", disk])
    }

    // HTTP

    /// A client with the key of the default account: version 1, JSON.
    pub fn ecs(&self) -> Ecs {
        Ecs {
            address: self.daemon().http(),
            key: self.key.clone(),
            signature: Signature::V1,
            format: Format::Json,
        }
    }

    /// ReInitDisk over HTTP, signed in this way; waits until the disk is in use again.
    pub fn reinit(&self, disk: &str, signature: Signature) {
        self.ecs().signing(signature).call("ReInitDisk", &[("DiskId", disk)]).ok();
        self.wait_for_disk(disk, "In_use");
    }

    /// Waits for a state of an instance.
    pub fn wait_for_instance(&self, instance: &str, status: &str) {
        let ids = format!("[\"{instance}\"]");
        self.wait_for(&format!("{instance} being {status}"), || {
            let answer = self.ecs().call("DescribeInstances", &[REGION, ("InstanceIds", &ids)]);
            answer.ok().text("Status") == status
        });
    }

    /// Waits for a state of a disk.
    pub fn wait_for_disk(&self, disk: &str, status: &str) {
        self.wait_for(&format!("{disk} being {status}"), || {
            self.disk_field(disk, "Status") == status
        });
    }

    /// One field of a disk as DescribeDisks shows it.
    pub fn disk_field(&self, disk: &str, field: &str) -> String {
        let ids = format!("[\"{disk}\"]");
        self.ecs().call("DescribeDisks", &[REGION, ("DiskIds", &ids)]).ok().text(field)
    }

    fn wait_for(&self, what: &str, mut reached: impl FnMut() -> bool) {
        let until = Instant::now() + TIME_LIMIT;
        while !reached() {
            assert!(Instant::now() < until, "waiting for {what} took too long");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    // NBD

    /// The address of a disk for QEMU's tools.
    pub fn nbd(&self, disk: &str) -> String {
        format!("nbd+unix:///{disk}?socket={}", self.store().join("run/nbd.sock").display())
    }

    /// Whether the open disk has the content of this image file.
    pub fn holds(&self, disk: &str, image: &Path, format: &str) -> bool {
        qemu::identical(image, format, &self.nbd(disk))
    }

    /// Runs `qemu-io` commands on the open disk.
    pub fn io(&self, disk: &str, commands: &[&str]) {
        qemu::io(&self.nbd(disk), "raw", commands);
    }

    /// Patterns, discards, zeros and flushes all over the first megabytes of an open disk.
    pub fn ruin(&self, disk: &str) {
        self.io(
            disk,
            &[
                "write -P 0xa5 0 64k",
                "write -P 0x5a 1052672 4k",
                "write -P 0x11 3584 512",
                "discard 256k 512k",
                "write -z 2M 1M",
                "flush",
                "write -P 0x77 5M 3M",
                "write -f -P 0x42 9M 4k",
                "discard 5243392 8k",
            ],
        );
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

/// What every action that wants a region is given.
pub const REGION: (&str, &str) = ("RegionId", "cn-hangzhou");

/// A text field of a document.
pub fn text(document: &Value, field: &str) -> String {
    document[field].as_str().unwrap_or_else(|| panic!("no {field} in {document}")).to_owned()
}
