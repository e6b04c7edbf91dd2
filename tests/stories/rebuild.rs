//! "The ledger and the catalog are gone, only the layers are left: I want every disk, snapshot and image back, and
//! to be asked before anything is served that may be from before a reset."

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tests::{
    program, qemu,
    site::{Site, text},
};

/// A raw file with the content the open disk has now.
fn copy_of(site: &Site, disk: &str, name: &str) -> PathBuf {
    let copy = site.scratch().join(name);
    let mut convert = std::process::Command::new("qemu-img");
    convert.args(["convert", "-f", "raw", "-O", "raw", &site.nbd(disk)]).arg(&copy);
    program::run(&mut convert).ok();
    copy
}

/// A site that was used: two accounts, an image, snapshots, a clone, resets.
struct Lab {
    site: Site,
    image: String,
    image_file: PathBuf,
    snapshot: String,
    /// What each disk held last.
    disks: BTreeMap<String, PathBuf>,
    system: String,
    clone: String,
    /// The disk of the account `lab`, and its snapshot.
    other: (String, String),
    snapshot_file: PathBuf,
}

impl Lab {
    fn new() -> Self {
        let site = Site::new();
        let image_file = qemu::ext4_image(site.scratch(), 8);
        let image = site.import(&image_file, &["--format", "raw", "--public"]);
        let machine = site.machine(&image, &["1G"]);
        let data = machine.data[0].clone();
        site.start(&machine.instance);
        site.ruin(&machine.system);
        site.io(&data, &["write -P 0x21 0 1M", "write -P 0x22 64M 3M", "flush"]);
        let snapshot_file = copy_of(&site, &data, "snapshot");
        site.stop(&machine.instance);
        let snapshot = site.snapshot(&data);
        site.run(&["reset", &machine.system]);
        let clone = text(&site.run(&["disk", "create", "--snapshot", &snapshot]), "DiskId");
        site.run(&["disk", "attach", &clone, &machine.instance]);

        site.key_of("lab");
        let line = ["instance", "create", "--image", &image, "--size", "1G", "--account", "lab"];
        let made = site.run(&line);
        let (theirs, other) = (text(&made, "InstanceId"), text(&made, "SystemDiskId"));
        site.run(&["instance", "start", &theirs, "--account", "lab"]);
        site.ruin(&other);
        site.run(&["instance", "stop", &theirs, "--account", "lab"]);
        let made =
            site.run(&["snapshot", "create", &other, "--account", "lab", "--name", "theirs"]);
        let theirs_snapshot = text(&made, "SnapshotId");
        site.run(&["instance", "start", &theirs, "--account", "lab"]);
        site.io(&other, &["write -P 0x61 3M 8k", "flush"]);

        site.start(&machine.instance);
        site.io(&machine.system, &["write -P 0x31 2M 64k", "flush"]);
        site.io(&data, &["write -P 0x32 5M 64k", "discard 64M 1M", "flush"]);
        site.io(&clone, &["write -P 0x33 0 4k", "flush"]);
        let all = [&machine.system, &data, &clone, &other];
        let disks = all.map(|disk| (disk.clone(), copy_of(&site, disk, disk))).into();
        let (system, other) = (machine.system, (other, theirs_snapshot));
        Self { site, image, image_file, snapshot, disks, system, clone, other, snapshot_file }
    }

    fn lose(&self, names: &[&str]) {
        for name in names {
            let path = self.site.store().join(name);
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
    }

    /// Attaches the disks to a new instance of the account, and compares them.
    fn compare(&self, disks: &[(&str, &Path)], account: &str) {
        // That an image was everybody's is not in its header.
        let image = match account {
            "default" => self.image.clone(),
            _ => self.site.import(&self.image_file, &["--format", "raw", "--account", account]),
        };
        let line = ["instance", "create", "--image", &image, "--account", account];
        let instance = text(&self.site.run(&line), "InstanceId");
        for (disk, _) in disks {
            self.site.run(&["disk", "attach", disk, &instance, "--account", account]);
        }
        self.site.run(&["instance", "start", &instance, "--account", account]);
        for (disk, content) in disks {
            assert!(self.site.holds(disk, content, "raw"), "{disk}");
        }
        self.site.run(&["instance", "stop", &instance, "--account", account]);
    }

    /// What all disks held is what they hold, but for those.
    fn compare_all(&self, except: &[&str]) {
        let own = |disk: &String| *disk != self.other.0 && !except.contains(&disk.as_str());
        let disks = self.disks.iter().filter(|(disk, _)| own(disk));
        let disks: Vec<_> = disks.map(|(disk, copy)| (disk.as_str(), copy.as_path())).collect();
        self.compare(&disks, "default");
    }

    /// What the snapshot held is what a disk made of it holds.
    fn compare_snapshot(&self) {
        let made = self.site.run(&["disk", "create", "--snapshot", &self.snapshot]);
        self.compare(&[(&text(&made, "DiskId"), &self.snapshot_file)], "default");
    }
}

fn ids(document: &Value, list: &str, id: &str) -> Vec<String> {
    let all = document[list].as_array().unwrap();
    let mut ids: Vec<_> = all.iter().map(|found| text(found, id)).collect();
    ids.sort();
    ids
}

#[test]
fn everything_comes_back_from_the_layers_alone_and_nothing_opens_unasked() {
    let mut lab = Lab::new();
    lab.site.end_daemon();
    lab.lose(&["ledger", "catalog", "catalog.export.jsonl"]);
    let lost = lab.site.offline(&["fsck"]).fails();
    assert!(lost.complaint().contains("fsck --rebuild"), "{lost}");

    let told = lab.site.offline(&["fsck", "--rebuild", "--json"]).ok().json();
    assert_eq!(
        (&told["Ledger"], &told["Catalog"]),
        (&"Rebuilt".into(), &"Rebuilt".into()),
        "{told}"
    );
    let all: Vec<_> = lab.disks.keys().cloned().collect();
    assert_eq!(ids(&told, "Disks", "DiskId"), all);
    assert_eq!(told["Snapshots"].as_array().unwrap().len(), 2, "{told}");
    assert_eq!(told["Images"][0], lab.image.as_str(), "{told}");
    for disk in told["Disks"].as_array().unwrap() {
        let unknown = disk["Unknown"].to_string();
        assert!(disk["Closed"] == true && unknown.contains("before its last reset"), "{told}");
    }
    // As if it had been cut short between the two.
    lab.lose(&["catalog"]);
    let again = lab.site.offline(&["fsck", "--rebuild", "--json"]).ok().json();
    assert_eq!(
        (&again["Ledger"], &again["Catalog"]),
        (&"Whole".into(), &"Rebuilt".into()),
        "{again}"
    );
    assert_eq!(again["Disks"], told["Disks"]);
    let again = lab.site.offline(&["fsck", "--rebuild", "--json"]).ok().json();
    assert_eq!(
        (&again["Ledger"], &again["Catalog"]),
        (&"Whole".into(), &"Whole".into()),
        "{again}"
    );
    let closed = lab.site.offline(&["fsck", "--json"]).json();
    let found = closed["Findings"].as_array().unwrap();
    assert!(
        found.len() == 4 && found.iter().all(|found| found["Kind"] == "ClosedDisk"),
        "{closed}"
    );

    lab.site.start_daemon();
    let refused = lab.site.offline(&["disk", "verify", &lab.system]).fails();
    assert!(refused.complaint().contains("disk show"), "{refused}");
    let reason = text(&lab.site.show(&lab.system), "Refusal");
    assert!(reason.contains(&format!("reinit fsck --accept {}", lab.system)), "{reason}");
    lab.compare_snapshot();
    let log = lab.site.end_daemon();
    assert!(log.contains(&format!("fsck --accept {}", lab.system)), "{log}");

    for disk in lab.disks.keys().filter(|disk| **disk != lab.system) {
        lab.site.offline(&["fsck", "--accept", disk]).ok();
    }
    lab.site.offline(&["fsck", "--accept", &lab.system, "--reset"]).ok();
    lab.site.offline(&["fsck", "--accept", &lab.system]).fails();
    lab.site.offline(&["fsck"]).ok();
    lab.site.start_daemon();
    lab.compare_all(&[&lab.system]);
    lab.compare(&[(&lab.other.0, &lab.disks[&lab.other.0])], "lab");
    let snapshots = lab.site.run(&["snapshot", "ls", "--account", "lab"]);
    assert_eq!(ids(&snapshots, "Snapshots", "SnapshotId"), [lab.other.1.clone()]);
    lab.compare(&[(&lab.system, &lab.image_file)], "default");
    // What they go back to is known again.
    lab.site.run(&["reset", &lab.clone]);
    assert_eq!(lab.site.run(&["disk", "verify", &lab.clone, "--deep"])["InInitialState"], true);
    lab.site.crash();
    assert_eq!(text(&lab.site.show(&lab.system), "Refusal"), "");
}

#[test]
fn a_lost_catalog_alone_leaves_the_disks_open() {
    let mut lab = Lab::new();
    lab.site.end_daemon();
    lab.lose(&["catalog", "catalog.export.jsonl"]);
    let ledger = fs::read(lab.site.store().join("ledger")).unwrap();
    let told = lab.site.offline(&["fsck", "--rebuild", "--json"]).ok().json();
    assert_eq!((&told["Ledger"], &told["Catalog"]), (&"Whole".into(), &"Rebuilt".into()), "{told}");
    assert!(told["Disks"].as_array().unwrap().iter().all(|disk| disk["Closed"] == false), "{told}");
    assert!(fs::read(lab.site.store().join("ledger")).unwrap() == ledger);
    lab.site.offline(&["fsck"]).ok();
    lab.site.start_daemon();
    lab.compare_all(&[]);
    lab.compare_snapshot();
}

#[test]
fn a_lost_ledger_alone_leaves_the_catalog_as_it_is() {
    let mut lab = Lab::new();
    lab.site.end_daemon();
    let ledger = lab.site.store().join("ledger");
    let mut bytes = fs::read(&ledger).unwrap();
    bytes[..8192].fill(0xff);
    fs::write(&ledger, &bytes).unwrap();
    let told = lab.site.offline(&["fsck", "--rebuild", "--json"]).ok().json();
    assert_eq!((&told["Ledger"], &told["Catalog"]), (&"Rebuilt".into(), &"Whole".into()), "{told}");
    let kept = lab.site.store().join(text(&told, "LedgerKeptAs"));
    assert!(fs::read(kept).unwrap() == bytes, "the lost one is kept");
    // Instances are recorded as running, and their disks stay closed all the same.
    lab.site.start_daemon();
    lab.site.offline(&["disk", "verify", &lab.system]).fails();
    lab.site.end_daemon();
    for disk in lab.disks.keys() {
        lab.site.offline(&["fsck", "--accept", disk]).ok();
    }
    lab.site.offline(&["fsck"]).ok();
    lab.site.start_daemon();
    for (disk, content) in &lab.disks {
        assert!(lab.site.holds(disk, content, "raw"), "{disk}");
    }
}

#[test]
fn an_export_that_is_whole_is_not_replaced_by_less() {
    let mut site = Site::new();
    site.run(&["disk", "create", "--size", "1G"]);
    site.end_daemon();
    let database = site.store().join("catalog/db");
    let mut bytes = fs::read(&database).unwrap();
    bytes[..4096].fill(0xff);
    fs::write(&database, &bytes).unwrap();
    let told = site.offline(&["fsck", "--rebuild", "--json"]).ok().json();
    assert_eq!(
        (&told["Ledger"], &told["Catalog"]),
        (&"Whole".into(), &"FromExport".into()),
        "{told}"
    );
    assert!(fs::read(&database).unwrap() == bytes);
    site.start_daemon();
    assert_eq!(site.run(&["disk", "ls"])["Disks"].as_array().unwrap().len(), 1);
    let refused = site.offline(&["fsck", "--rebuild"]).fails();
    assert!(refused.complaint().contains(&site.daemon().pid().to_string()), "{refused}");
}
