//! "A device or a backup went bad: I ask what is broken and what that means, before I start anything."

use std::{fs, os::unix::fs::FileExt as _, path::PathBuf};

use tests::{program, qemu, site::Site};

use crate::bad_starts::with_own_mounts;

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

#[test]
fn a_store_on_a_read_only_file_system_is_checked() {
    let mut site = Site::new();
    site.run(&["disk", "create", "--size", "1G"]);
    site.end_daemon();
    let script = "mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"; \
                  exec \"$2\" --store \"$1\" fsck --json";
    if let Some(told) = with_own_mounts(script, &[&site.store(), program::binary()]) {
        let report = told.ok().json();
        assert_eq!(report["Findings"].as_array().unwrap().len(), 0, "{report}");
        assert_eq!(report["Checked"]["Disks"], 1, "{report}");
    }
}

/// An operator greps for paths: those of a copy that is gone by then help nobody.
#[test]
fn an_emptied_catalog_is_told_by_its_own_name() {
    let mut site = Site::new();
    site.end_daemon();
    let store = site.store();
    fs::remove_dir_all(store.join("catalog")).unwrap();
    let missing = fsck(&site);
    fs::create_dir(store.join("catalog")).unwrap();
    let emptied = fsck(&site);
    for told in [missing, emptied] {
        assert_eq!(told.code, Some(1), "{told}");
        let finding = &told.json()["Findings"][0];
        assert_eq!(finding["Kind"], "CatalogUnreadable", "{told}");
        let message = finding["Message"].as_str().unwrap();
        assert!(message.contains(&format!("{}/catalog", store.display())), "{message}");
        assert!(message.contains("catalog.export.jsonl"), "{message}");
        let paths = message.split_whitespace().filter(|word| word.starts_with('/'));
        paths.for_each(|path| assert!(path.starts_with(store.to_str().unwrap()), "{message}"));
    }
}

#[test]
fn a_damaged_derived_file_of_the_catalog_is_a_note() {
    let mut site = Site::new();
    site.end_daemon();
    let derived = |site: &Site| -> Vec<PathBuf> {
        let entries = fs::read_dir(site.store().join("catalog")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap."))
            .collect()
    };
    let found = derived(&site);
    assert!(!found.is_empty(), "there is a derived file");
    for path in found {
        fs::write(path, [0xff; 9]).unwrap();
    }
    let report = fsck(&site).ok().json();
    assert_eq!(report["Findings"][0]["Kind"], "CatalogDerived", "{report}");
    assert_eq!(report["Findings"][0]["Severity"], "Note", "{report}");
}

#[test]
fn names_that_are_none_of_ours_are_told() {
    let mut site = Site::new();
    site.end_daemon();
    fs::write(site.store().join("ledger.bak"), "").unwrap();
    let report = fsck(&site).ok().json();
    assert_eq!(report["Findings"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["Findings"][0]["Thing"], "ledger.bak", "{report}");
    assert_eq!(report["Findings"][0]["Severity"], "Note", "{report}");
}

#[test]
fn what_is_proved_is_repaired_and_the_rest_is_told() {
    let mut site = Site::new();
    let disk = tests::site::text(&site.run(&["disk", "create", "--size", "1G"]), "DiskId");
    let refused = site.offline(&["fsck", "--repair"]).fails();
    assert!(refused.complaint().contains(&site.daemon().pid().to_string()), "{refused}");
    site.end_daemon();
    let path = site.store().join("ledger");
    let whole = fs::read(&path).unwrap();
    let mut broken = whole.clone();
    broken[20] ^= 1;
    broken[8192 + 80] ^= 1;
    fs::write(&path, &broken).unwrap();
    fs::write(site.store().join("ledger.new"), "half").unwrap();

    let dry = site.offline(&["fsck", "--repair", "--dry-run", "--json"]);
    assert_eq!(dry.code, Some(1), "{dry}");
    assert_eq!(dry.json()["Repairs"].as_array().unwrap().len(), 3, "{dry}");
    assert!(fs::read(&path).unwrap() == broken, "a dry run changes nothing");
    let done = site.offline(&["fsck", "--repair"]).ok();
    assert_eq!(
        done.stdout.lines().filter(|line| line.starts_with("repaired: ")).count(),
        3,
        "{done}"
    );
    assert!(done.stdout.lines().last().unwrap().starts_with("no damage"), "{done}");
    assert!(fs::read(&path).unwrap() == whole, "every byte is what it was");

    broken[8192 + 90] ^= 1;
    fs::write(&path, &broken).unwrap();
    let left = site.offline(&["fsck", "--repair", "--json"]);
    assert_eq!(left.code, Some(1), "{left}");
    let report = left.json();
    assert_eq!(report["Repairs"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["Findings"][0]["Affects"][0], disk.as_str(), "{report}");
    assert_eq!(site.offline(&["fsck", "--dry-run"]).code, Some(2));
}
