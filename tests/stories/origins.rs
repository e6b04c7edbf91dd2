//! "A data disk goes back to what it began as: empty, or the snapshot it was made from."

use tests::{
    qemu,
    signature::Signature,
    site::{REGION, Site},
};

/// A site with a small image and one instance with an empty data disk.
fn site() -> (Site, tests::site::Machine) {
    let site = Site::new();
    let image = qemu::ext4_image(site.scratch(), 8);
    let id = site.import(&image, &["--format", "raw"]);
    let machine = site.machine(&id, &["1G"]);
    (site, machine)
}

/// A raw file with the content the disk has now.
fn copy_of(site: &Site, disk: &str, name: &str) -> std::path::PathBuf {
    let copy = site.scratch().join(name);
    let mut convert = std::process::Command::new("qemu-img");
    convert.args(["convert", "-f", "raw", "-O", "raw", &site.nbd(disk)]).arg(&copy);
    tests::program::run(&mut convert).ok();
    copy
}

#[test]
fn an_empty_disk_goes_back_to_zeros() {
    let (site, machine) = site();
    let data = &machine.data[0];
    let zeros = site.scratch().join("zeros");
    std::fs::File::create(&zeros).unwrap().set_len(1 << 30).unwrap();
    for signature in [Signature::V1, Signature::Acs3] {
        site.start(&machine.instance);
        assert!(site.holds(data, &zeros, "raw"));
        site.ruin(data);
        assert!(!site.holds(data, &zeros, "raw"));
        site.stop(&machine.instance);
        site.reinit(data, signature);
    }
    site.start(&machine.instance);
    assert!(site.holds(data, &zeros, "raw"));
}

#[test]
fn a_disk_from_a_snapshot_goes_back_to_it_and_the_snapshot_never_changes() {
    let (site, machine) = site();
    let source = &machine.data[0];
    site.start(&machine.instance);
    site.io(source, &["write -P 0x21 0 1M", "write -P 0x22 64M 3M", "discard 256k 64k"]);
    site.stop(&machine.instance);
    let snapshot = site.snapshot(source);
    site.start(&machine.instance);
    let initial = copy_of(&site, source, "initial");
    site.io(source, &["write -P 0xff 0 2M"]);
    site.stop(&machine.instance);

    let made = site.run(&["disk", "create", "--snapshot", &snapshot]);
    let disk = made["DiskId"].as_str().unwrap();
    site.run(&["disk", "attach", disk, &machine.instance]);
    for signature in [Signature::V1, Signature::Acs3] {
        site.start(&machine.instance);
        assert!(site.holds(disk, &initial, "raw"), "it begins as the snapshot");
        site.ruin(disk);
        site.stop(&machine.instance);
        site.reinit(disk, signature);
    }
    site.start(&machine.instance);
    assert!(site.holds(disk, &initial, "raw"));
}

#[test]
fn a_rollback_goes_to_the_snapshot_named() {
    let (site, machine) = site();
    let data = &machine.data[0];
    site.start(&machine.instance);
    site.io(data, &["write -P 0x21 0 1M"]);
    let before = copy_of(&site, data, "before");
    site.stop(&machine.instance);
    let snapshot = site.snapshot(data);
    site.start(&machine.instance);
    site.ruin(data);
    site.stop(&machine.instance);
    site.ecs().call("ResetDisk", &[("DiskId", data), ("SnapshotId", &snapshot)]).ok();
    site.wait_for_disk(data, "In_use");
    site.start(&machine.instance);
    assert!(site.holds(data, &before, "raw"));
}

#[test]
fn a_reset_starts_the_instance_again_when_asked() {
    let (site, machine) = site();
    site.start(&machine.instance);
    site.ruin(&machine.system);
    site.stop(&machine.instance);
    let call = [("DiskId", machine.system.as_str()), ("AutoStartInstance", "True")];
    site.ecs().call("ReInitDisk", &call).ok();
    site.wait_for_instance(&machine.instance, "Running");
    let image = site.scratch().join("ext4.raw");
    assert!(site.holds(&machine.system, &image, "raw"));
}

#[test]
fn several_disks_go_back_with_one_command() {
    let (site, machine) = site();
    site.start(&machine.instance);
    site.ruin(&machine.system);
    site.ruin(&machine.data[0]);
    let done = site.run(&["reset", "--instance", &machine.instance, "--cycle", "--verify"]);
    let disks = done["Disks"].as_array().unwrap();
    assert_eq!(disks.len(), 2);
    for disk in disks {
        assert_eq!(disk["Epoch"], 2, "{disk}");
        assert!(disk["ElapsedMicros"].as_u64().is_some(), "{disk}");
    }
    site.wait_for_instance(&machine.instance, "Running");
    assert!(site.holds(&machine.system, &site.scratch().join("ext4.raw"), "raw"));
}

#[test]
fn a_dry_run_says_what_would_go_and_changes_nothing() {
    let (site, machine) = site();
    site.start(&machine.instance);
    site.ruin(&machine.system);
    let before = site.show(&machine.system);
    let planned = site.run(&["reset", &machine.system, "--cycle", "--dry-run"]);
    let plan = &planned["Disks"][0];
    assert!(plan["BytesDropped"].as_u64().unwrap() > 0, "{plan}");
    assert_eq!(site.show(&machine.system), before);
    // Without --cycle the running instance stands in the way, and the dry run says so.
    let blocked = site.offline(&["reset", &machine.system, "--dry-run", "--json"]).fails();
    assert_eq!(blocked.json()["Code"], "IncorrectInstanceStatus");
}

#[test]
fn a_deep_verification_tells_an_initial_disk_from_a_written_one() {
    let (site, machine) = site();
    site.start(&machine.instance);
    site.stop(&machine.instance);
    let verified = site.run(&["disk", "verify", &machine.system, "--deep"]);
    assert_eq!(verified["InInitialState"], true, "{verified}");
    site.start(&machine.instance);
    site.io(&machine.system, &["write -P 0x01 4M 4k", "flush"]);
    site.stop(&machine.instance);
    site.offline(&["disk", "verify", &machine.system, "--deep"]).fails();
    site.reinit(&machine.system, Signature::V1);
    let verified = site.run(&["disk", "verify", &machine.system]);
    assert_eq!(verified["InInitialState"], true, "{verified}");
}

#[test]
fn disks_with_a_tag_are_reset_together() {
    let (site, machine) = site();
    site.start(&machine.instance);
    let mut tagged = Vec::new();
    for _ in 0..2 {
        let call = [
            REGION,
            ("DiskCategory", "cloud_auto"),
            ("Size", "1"),
            ("Tag.1.Key", "bench"),
            ("Tag.1.Value", "run1"),
        ];
        let made = site
            .ecs()
            .call("CreateDisk", &[&call[..], &[("ZoneId", "cn-hangzhou-b")]].concat())
            .ok();
        let disk = made.text("DiskId");
        site.wait_for_disk(&disk, "Available");
        site.run(&["disk", "attach", &disk, &machine.instance]);
        site.ruin(&disk);
        tagged.push(disk);
    }
    let done = site.run(&["reset", "--tag", "bench=run1", "--cycle"]);
    let mut reset: Vec<String> = done["Disks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|disk| tests::site::text(disk, "DiskId"))
        .collect();
    reset.sort();
    tagged.sort();
    assert_eq!(reset, tagged);
}
