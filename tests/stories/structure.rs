//! "A device or a backup went bad: I ask what is broken and what that means, before I start anything."

use std::{fs, os::unix::fs::FileExt as _};

use tests::{program, qemu, site::Site};

fn fsck(site: &Site) -> program::Outcome {
    site.offline(&["fsck", "--json"])
}

/// Neither damage nor anything else but what a start cleans.
fn is_healthy(site: &Site) {
    let report = fsck(site).ok().json();
    let found = report["Findings"].as_array().unwrap();
    assert!(found.iter().all(|found| found["Severity"] == "Note"), "{report}");
}

#[test]
fn a_running_daemon_is_named_and_left_alone() {
    let site = Site::new();
    let refused = site.offline(&["fsck"]).fails();
    assert!(refused.complaint().contains(&site.daemon().pid().to_string()), "{refused}");
    site.run(&["disk", "create", "--size", "1G"]);
}

#[test]
fn a_store_is_healthy_new_used_stopped_and_killed() {
    let mut site = Site::new();
    site.end_daemon();
    is_healthy(&site);
    site.start_daemon();
    let image = site.import(&qemu::ext4_image(site.scratch(), 8), &[]);
    let machine = site.machine(&image, &["1G"]);
    site.start(&machine.instance);
    site.ruin(&machine.system);
    site.snapshot(&machine.system);
    site.ruin(&machine.system);
    site.kill_daemon();
    is_healthy(&site);
    site.start_daemon();
    site.stop(&machine.instance);
    site.end_daemon();
    let report = fsck(&site).ok().json();
    assert_eq!(report["Findings"].as_array().unwrap().len(), 0, "{report}");
    assert_eq!(report["Checked"]["Disks"], 2, "{report}");
}

#[test]
fn what_is_broken_is_named_with_who_suffers() {
    let mut site = Site::new();
    let disk = tests::site::text(&site.run(&["disk", "create", "--size", "1G"]), "DiskId");
    site.end_daemon();
    let ledger = fs::OpenOptions::new().read(true).write(true).open(site.store().join("ledger"));
    ledger.unwrap().write_all_at(&[0xff; 16], 8192 + 200).unwrap();
    let told = site.offline(&["fsck"]).fails();
    let line = told.stdout.lines().next().unwrap();
    assert!(line.starts_with("damage: ledger slot 0") && line.contains(&disk), "{told}");
    let report = fsck(&site).json();
    assert_eq!(report["Findings"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["Findings"][0]["Kind"], "LedgerRecord", "{report}");
    assert_eq!(report["Findings"][0]["Affects"][0], disk.as_str(), "{report}");
}

#[test]
fn a_broken_catalog_is_told_and_not_touched() {
    let mut site = Site::new();
    site.end_daemon();
    let log = site.store().join("catalog/db");
    let mut bytes = fs::read(&log).unwrap();
    bytes[..4096].fill(0xff);
    fs::write(&log, &bytes).unwrap();
    let told = fsck(&site);
    assert_eq!(told.code, Some(1), "{told}");
    assert_eq!(told.json()["Findings"][0]["Kind"], "CatalogUnreadable", "{told}");
    assert!(fs::read(&log).unwrap() == bytes, "the catalog is left as it was");
    assert!(
        !fs::read_dir(site.store()).unwrap().any(|entry| {
            entry.unwrap().file_name().to_string_lossy().starts_with("catalog.bad")
        })
    );
}
