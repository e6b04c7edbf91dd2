//! "A reset that must not happen is refused with the documented code, and nothing changes."
//!
//! One test per row of the error table of ReInitDisk; each is met for real, asked for in both formats and with both
//! signatures, and where it can be cured the same call works afterwards.

use tests::{
    ecs::{Ecs, Format},
    qemu,
    signature::Signature,
    site::{Machine, REGION, Site, text},
};

/// A site with an image and an instance that was started, written to and stopped.
fn used() -> (Site, Machine) {
    used_with("")
}

fn used_with(config: &str) -> (Site, Machine) {
    let site = Site::configured(config, &[]);
    let image = qemu::ext4_image(site.scratch(), 8);
    let id = site.import(&image, &["--format", "raw"]);
    let machine = site.machine(&id, &["1G"]);
    use_once(&site, &machine);
    (site, machine)
}

fn use_once(site: &Site, machine: &Machine) {
    site.start(&machine.instance);
    site.io(&machine.system, &["write -P 0x61 4M 64k", "flush"]);
    site.io(&machine.data[0], &["write -P 0x62 4M 64k", "flush"]);
    site.stop(&machine.instance);
}

/// ReInitDisk must answer this, in both formats and by both signatures, and leave the disk as it was.
fn refused(site: &Site, client: &Ecs, disk: &str, code: &str, status: u16) {
    let before = site.offline(&["disk", "show", disk, "--json"]);
    for format in [Format::Json, Format::Xml] {
        for signature in [Signature::V1, Signature::Acs3] {
            let client = client.asking(format).signing(signature);
            client.call("ReInitDisk", &[("DiskId", disk)]).refuses(code, status);
        }
    }
    let after = site.offline(&["disk", "show", disk, "--json"]);
    if before.code == Some(0) {
        assert_eq!(after.json(), before.json(), "a refusal changes nothing");
    }
    let by_command = site.offline(&["reset", disk, "--json"]).fails();
    assert_eq!(by_command.json()["Code"], code, "{by_command}");
}

/// The disk of a stopped instance must be as it was written, and resettable now.
fn cured(site: &Site, disk: &str) {
    assert_eq!(site.show(disk)["Epoch"], 1, "nothing was reset so far");
    site.reinit(disk, Signature::V1);
    assert_eq!(site.show(disk)["Epoch"], 2);
}

#[test]
fn row_1_no_such_disk_in_this_account() {
    let (site, machine) = used();
    let ecs = site.ecs();
    refused(&site, &ecs, "d-doesnotexist00000000", "InvalidDiskId.NotFound", 404);

    let made = site.run(&["disk", "create", "--size", "1G"]);
    let deleted = text(&made, "DiskId");
    site.run(&["disk", "rm", &deleted]);
    refused(&site, &ecs, &deleted, "InvalidDiskId.NotFound", 404);

    let stranger = ecs.with_key(&site.key_of("stranger"));
    let before = site.show(&machine.system);
    for format in [Format::Json, Format::Xml] {
        let client = stranger.asking(format);
        client
            .call("ReInitDisk", &[("DiskId", &machine.system)])
            .refuses("InvalidDiskId.NotFound", 404);
    }
    assert_eq!(site.show(&machine.system), before);
    cured(&site, &machine.system);
}

#[test]
fn row_2_a_category_without_an_initial_state() {
    let site = Site::new();
    let image = qemu::ext4_image(site.scratch(), 8);
    let id = site.import(&image, &["--format", "raw"]);
    let call = [
        REGION,
        ("ImageId", &id),
        ("InstanceType", "ecs.g6.large"),
        ("DataDisk.1.Size", "5"),
        ("DataDisk.1.Category", "ephemeral_ssd"),
    ];
    let instance = site.ecs().call("CreateInstance", &call).ok().text("InstanceId");
    site.wait_for_instance(&instance, "Stopped");
    site.start(&instance);
    let call = [REGION, ("InstanceId", &instance), ("DiskType", "data")];
    let disk = site.ecs().call("DescribeDisks", &call).ok().text("DiskId");
    site.io(&disk, &["write -P 0x61 4M 64k", "flush"]);
    site.stop(&instance);
    refused(&site, &site.ecs(), &disk, "DiskCategory.OperationNotSupported", 400);
    site.start(&instance);
    site.io(&disk, &["read -P 0x61 4M 64k"]);
}

#[test]
fn row_3_a_disk_that_is_not_in_use() {
    let (site, machine) = used();
    let made = site.run(&["disk", "create", "--size", "1G"]);
    let disk = text(&made, "DiskId");
    refused(&site, &site.ecs(), &disk, "IncorrectDiskStatus", 403);
    site.run(&["disk", "attach", &disk, &machine.instance]);
    site.reinit(&disk, Signature::V1);
    site.run(&["disk", "detach", &disk]);
    refused(&site, &site.ecs(), &disk, "IncorrectDiskStatus", 403);
}

#[test]
fn row_4_an_instance_locked_for_security() {
    let (site, machine) = used();
    site.run(&["instance", "lock", &machine.instance, "--reason", "security"]);
    refused(&site, &site.ecs(), &machine.system, "InstanceLockedForSecurity", 403);
    refused(&site, &site.ecs(), &machine.data[0], "InstanceLockedForSecurity", 403);
    site.run(&["instance", "unlock", &machine.instance]);
    cured(&site, &machine.system);
}

#[test]
fn row_5_an_account_in_arrears_or_an_instance_locked_for_money() {
    let (site, machine) = used();
    site.run(&["account", "set", "default", "--arrears"]);
    refused(&site, &site.ecs(), &machine.system, "InstanceExpiredOrInArrears", 403);
    site.run(&["account", "set", "default", "--no-arrears"]);
    cured(&site, &machine.system);
    site.run(&["instance", "lock", &machine.instance, "--reason", "financial"]);
    refused(&site, &site.ecs(), &machine.data[0], "InstanceExpiredOrInArrears", 403);
    site.run(&["instance", "unlock", &machine.instance]);
    cured(&site, &machine.data[0]);
}

#[test]
fn row_6_an_instance_that_runs_or_never_ran() {
    let (site, machine) = used();
    site.start(&machine.instance);
    refused(&site, &site.ecs(), &machine.system, "IncorrectInstanceStatus", 403);
    site.io(&machine.system, &["read -P 0x61 4M 64k"]);
    site.stop(&machine.instance);
    cured(&site, &machine.system);

    let image = text(&site.run(&["image", "ls"])["Images"][0], "ImageId");
    let fresh = site.machine(&image, &[]);
    refused(&site, &site.ecs(), &fresh.system, "IncorrectInstanceStatus", 403);
}

#[test]
fn row_7_a_snapshot_of_the_disk_is_in_progress() {
    // 64 KiB of content at 8 KiB a second: the hashing takes its time.
    let (site, machine) = used_with("hash_bandwidth = '8K'\n");
    let data = &machine.data[0];
    let made = site.run(&["snapshot", "create", data]);
    refused(&site, &site.ecs(), data, "DiskCreatingSnapshot", 403);
    // Another disk of the instance does not wait.
    site.reinit(&machine.system, Signature::V1);
    let ids = format!("[\"{}\"]", text(&made, "SnapshotId"));
    let answer = site.ecs().call("DescribeSnapshots", &[REGION, ("SnapshotIds", &ids)]).ok();
    assert_eq!(answer.text("Status"), "progressing");
}

#[test]
fn row_8_a_source_snapshot_from_before_the_cut_off() {
    let (mut site, machine) = used();
    let snapshot = site.snapshot(&machine.data[0]);
    let made = site.run(&["disk", "create", "--snapshot", &snapshot]);
    let disk = text(&made, "DiskId");
    site.run(&["disk", "attach", &disk, &machine.instance]);
    site.end_daemon();
    std::fs::write(site.store().join("reinit.toml"), "snapshot_cutoff = '2200-01-01T00:00:00Z'\n")
        .unwrap();
    site.start_daemon();
    // Never detached: still allowed.
    cured(&site, &disk);
    site.run(&["disk", "detach", &disk]);
    site.run(&["disk", "attach", &disk, &machine.instance]);
    refused(&site, &site.ecs(), &disk, "InvalidSnapshot.TooOld", 403);
    site.end_daemon();
    std::fs::remove_file(site.store().join("reinit.toml")).unwrap();
    site.start_daemon();
    site.reinit(&disk, Signature::Acs3);
}

#[test]
fn row_9_the_source_snapshot_is_gone() {
    let (site, machine) = used();
    let snapshot = site.snapshot(&machine.data[0]);
    let made = site.run(&["disk", "create", "--snapshot", &snapshot]);
    let disk = text(&made, "DiskId");
    site.run(&["disk", "attach", &disk, &machine.instance]);
    let unforced = site.offline(&["snapshot", "rm", &snapshot, "--json"]).fails();
    assert_eq!(unforced.json()["Code"], "SnapshotCreatedDisk");
    cured(&site, &disk);
    site.run(&["snapshot", "rm", &snapshot, "--force"]);
    refused(&site, &site.ecs(), &disk, "InvalidSourceSnapshot", 403);
    // The disk itself is as good as before.
    site.start(&machine.instance);
    site.io(&disk, &["read -P 0x62 4M 64k"]);
}

#[test]
fn row_10_the_own_image_is_gone() {
    let (site, machine) = used();
    let image = text(&site.run(&["image", "ls"])["Images"][0], "ImageId");
    let unforced = site.offline(&["image", "rm", &image, "--json"]).fails();
    assert_eq!(unforced.json()["Code"], "ImageUsingByInstance");
    site.run(&["image", "rm", &image, "--force"]);
    refused(&site, &site.ecs(), &machine.system, "OperationDenied", 403);
    // The empty data disk has no image to miss.
    cured(&site, &machine.data[0]);
    site.start(&machine.instance);
    site.io(&machine.system, &["read -P 0x61 4M 64k"]);
}

#[test]
fn row_11_the_shared_image_is_gone_or_no_longer_shared() {
    let site = Site::new();
    let image = qemu::ext4_image(site.scratch(), 8);
    let id = site.import(&image, &["--format", "raw"]);
    let owner = site.ecs();
    let tenant = owner.with_key(&site.key_of("tenant"));
    let number = account_number(&site, "tenant");
    let share = |verb: &str| {
        owner.call("ModifyImageSharePermission", &[REGION, ("ImageId", &id), (verb, &number)]).ok()
    };
    share("AddAccount.1");

    let call = [REGION, ("ImageId", &id), ("InstanceType", "ecs.g6.large")];
    let instance = tenant.call("CreateInstance", &call).ok().text("InstanceId");
    tenant.call("StartInstance", &[("InstanceId", &instance)]).ok();
    let ids = format!("[\"{instance}\"]");
    let status =
        || tenant.call("DescribeInstances", &[REGION, ("InstanceIds", &ids)]).ok().text("Status");
    let until = |wanted: &str| {
        while status() != wanted {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    until("Running");
    tenant.call("StopInstance", &[("InstanceId", &instance)]).ok();
    until("Stopped");
    let disk =
        tenant.call("DescribeDisks", &[REGION, ("InstanceId", &instance)]).ok().text("DiskId");

    let refused = || {
        for format in [Format::Json, Format::Xml] {
            for signature in [Signature::V1, Signature::Acs3] {
                let client = tenant.asking(format).signing(signature);
                client.call("ReInitDisk", &[("DiskId", &disk)]).refuses("SharedImageDeleted", 403);
            }
        }
        let shown = site.run(&["disk", "show", &disk, "--account", "tenant"]);
        assert_eq!(shown["Epoch"], 1, "nothing changed");
    };
    share("RemoveAccount.1");
    refused();
    share("AddAccount.1");
    owner
        .call("DeleteImage", &[REGION, ("ImageId", &id), ("Force", "true")])
        .refuses("ImageUseShared", 403);
    share("RemoveAccount.1");
    owner.call("DeleteImage", &[REGION, ("ImageId", &id), ("Force", "true")]).ok();
    refused();
}

fn account_number(site: &Site, name: &str) -> String {
    let listed = site.run(&["account", "ls"]);
    let accounts = listed["Accounts"].as_array().unwrap();
    let account = accounts.iter().find(|account| account["Account"] == name).unwrap();
    account["AccountNumber"].as_str().unwrap().to_owned()
}

#[test]
fn a_security_strategy_that_is_not_built_is_refused_and_never_ignored() {
    let (site, machine) = used();
    let call = [("DiskId", machine.system.as_str()), ("SecurityEnhancementStrategy", "Active")];
    let answer = site.ecs().call("ReInitDisk", &call);
    assert!((400..500).contains(&answer.status), "{}", answer.body);
    cured(&site, &machine.system);
}
