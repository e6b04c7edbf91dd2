//! "I reset my disk, and then I miss what was on it. I kept it, so I get it back."

use serde_json::Value;
use tests::{
    qemu,
    site::{Machine, Site, text},
};

const OLD: &str = "read -P 0x61 1M 1M";
const EMPTY: &str = "read -P 0 0 16M";

/// A running machine whose data disk holds something old.
fn written(site: &Site) -> Machine {
    let image = qemu::ext4_image(site.scratch(), 8);
    let id = site.import(&image, &["--format", "raw"]);
    let machine = site.machine(&id, &["1G"]);
    site.start(&machine.instance);
    site.io(&machine.data[0], &["write -P 0x61 1M 1M", "flush"]);
    machine
}

fn snapshots(site: &Site) -> Vec<Value> {
    site.run(&["snapshot", "ls"])["Snapshots"].as_array().unwrap().clone()
}

/// Polls the way a person would.
fn wait_until_accomplished(site: &Site) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while snapshots(site).iter().any(|one| one["Status"] != "accomplished") {
        assert!(std::time::Instant::now() < until, "{:?}", snapshots(site));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A new disk from the snapshot, open on the machine.
fn disk_from(site: &Site, snapshot: &str, machine: &Machine) -> String {
    let disk = text(&site.run(&["disk", "create", "--snapshot", snapshot]), "DiskId");
    site.run(&["disk", "attach", &disk, &machine.instance]);
    disk
}

#[test]
fn what_was_kept_comes_back_on_another_disk_and_on_the_same() {
    let mut site = Site::new();
    let machine = written(&site);
    let data = &machine.data[0];
    let plan = site.run(&["reset", data, "--cycle", "--keep", "--dry-run"]);
    assert_eq!(plan["Disks"][0]["BytesDropped"], 1 << 20);
    assert!(snapshots(&site).is_empty(), "a dry run keeps nothing");

    let done = site.run(&["reset", data, "--cycle", "--keep", "--verify"]);
    let kept = text(&done["Disks"][0], "SnapshotId");
    site.io(data, &[EMPTY, "write -P 0x62 0 64k"]);
    let listed = snapshots(&site);
    assert!(text(&listed[0], "SnapshotName").starts_with("before-reset-"), "{listed:?}");

    wait_until_accomplished(&site);
    site.crash();
    site.stop(&machine.instance);
    let copy = disk_from(&site, &kept, &machine);
    site.start(&machine.instance);
    site.io(&copy, &[OLD]);

    site.stop(&machine.instance);
    site.run(&["disk", "rollback", data, &kept]);
    site.start(&machine.instance);
    site.io(data, &[OLD, "read -P 0 0 64k"]);
    site.stop(&machine.instance);
    let proof = site.offline(&["disk", "verify", data]).fails();
    assert!(proof.complaint().contains("something else than its origin"), "{proof}");
    site.run(&["reset", data]);
    site.start(&machine.instance);
    site.io(data, &[EMPTY]);
}

#[test]
fn an_instance_or_a_tag_is_kept_disk_by_disk() {
    let site = Site::new();
    let machine = written(&site);
    let done = site.run(&["reset", "--instance", &machine.instance, "--cycle", "--keep"]);
    let rows = done["Disks"].as_array().unwrap();
    let kept = |row: &Value| text(row, "SnapshotId");
    assert_eq!(rows.len(), 2);
    assert_ne!(kept(&rows[0]), kept(&rows[1]));
    wait_until_accomplished(&site);

    let tag = [
        tests::site::REGION,
        ("ResourceType", "disk"),
        ("ResourceId.1", machine.data[0].as_str()),
        ("Tag.1.Key", "run"),
        ("Tag.1.Value", "1"),
    ];
    site.ecs().call("TagResources", &tag).ok();
    let done = site.run(&["reset", "--tag", "run=1", "--cycle", "--keep"]);
    assert!(kept(&done["Disks"][0]).starts_with("s-"), "{done}");
    let told = site.offline(&["reset", "d-unknown", "--keep"]).fails();
    assert!(told.complaint().contains("d-unknown"), "{told}");
    assert_eq!(snapshots(&site).len(), 3);
}

/// Killed at many moments: the disk is wholly before or wholly after its reset, and where it is after,
/// what it held is there.
#[test]
fn kill_9_around_the_snapshot_and_the_reset() {
    let mut site = Site::new();
    let machine = written(&site);
    let data = machine.data[0].clone();
    site.stop(&machine.instance);
    let epoch = |site: &Site| site.show(&data)["Epoch"].as_u64().unwrap();
    for round in 0..12u64 {
        let (before, known) = (epoch(&site), snapshots(&site).len());
        let store = site.store().display().to_string();
        let disk = data.clone();
        let reset = std::thread::spawn(move || {
            tests::program::reinit(["--store", &store, "reset", &disk, "--keep", "--json"])
        });
        std::thread::sleep(std::time::Duration::from_millis(4 * round));
        site.crash();
        let answered = reset.join().unwrap().code == Some(0);
        let (after, now) = (epoch(&site), snapshots(&site).len());
        eprintln!(
            "round {round}: answered {answered}, epoch {before} to {after}, {known} to {now} kept"
        );
        assert!(after == before || after == before + 1);
        assert!(now == known || now == known + 1);
        assert!(after == before || now == known + 1, "a reset, and nothing was kept");
        assert!(!answered || after == before + 1, "what was answered holds");
        wait_until_accomplished(&site);
        site.start(&machine.instance);
        if after == before {
            site.io(&data, &[OLD]);
        } else {
            site.io(&data, &[EMPTY, "write -P 0x61 1M 1M", "flush"]);
        }
        site.stop(&machine.instance);
        for snapshot in &snapshots(&site)[..now - known] {
            let id = text(snapshot, "SnapshotId");
            let copy = disk_from(&site, &id, &machine);
            site.start(&machine.instance);
            site.io(&copy, &[OLD]);
            site.stop(&machine.instance);
            site.run(&["disk", "detach", &copy]);
            site.run(&["disk", "rm", &copy]);
        }
    }
}

#[test]
fn a_proof_is_told_with_its_root_and_a_difference_with_its_place() {
    let site = Site::new();
    let machine = written(&site);
    let (system, data) = (&machine.system, &machine.data[0]);
    site.io(data, &["write -P 0x11 8389120 512", "write -z 1M 1M"]);
    site.stop(&machine.instance);
    let refused = site.offline(&["disk", "verify", data]).fails();
    assert!(refused.complaint().contains("was written since"), "{refused}");
    let refused = site.offline(&["disk", "verify", data, "--deep"]).fails();
    assert!(refused.complaint().contains("512 bytes differ, the first at 8389120"), "{refused}");
    for disk in [system, data] {
        let done = site.run(&["reset", disk]);
        let receipt = &site.show(disk)["LastReset"];
        assert_eq!(receipt["RequestId"], done["Disks"][0]["RequestId"], "{receipt}");
        assert_eq!(receipt["EpochAfter"], done["Disks"][0]["Epoch"], "{receipt}");
        let root = text(receipt, "Root");
        assert_eq!(root.len(), 64);
        for depth in [&["disk", "verify", disk][..], &["disk", "verify", disk, "--deep"]] {
            let proof = site.run(depth);
            assert_eq!(proof["Root"], root.as_str());
            assert_eq!(proof["MapWasRead"], false, "{proof}");
            assert!(site.offline(depth).ok().stdout.contains(&root));
        }
        assert_eq!(site.run(&["disk", "verify", disk, "--deep"])["ContentRoot"], root.as_str());
    }
}
