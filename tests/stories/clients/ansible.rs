//! "I keep my lab with Ansible": the modules of ansible-alicloud make, change and remove; disks are reset with footmark,
//! which they are built on, since no module does.

use std::process::Command;

use serde_json::{Value, json};
use tests::{
    client::{Client, Kind, word},
    program, qemu,
    sdk::{python, without_proxy},
    site::{Site, text},
};

use super::words::*;

/// Runs a module, which must succeed, and gives what it said.
///
/// The modules take no endpoint: they ask a server of Alibaba Cloud, by a proxy, which is the daemon.
fn ansible(site: &Site, module: &str, arguments: &Value) -> Value {
    let client = site.ecs();
    let mut command = Command::new(python().with_file_name("ansible"));
    without_proxy(&mut command);
    command
        .args(["localhost", "-i", "localhost,", "-c", "local", "-m", module, "-a"])
        .arg(arguments.to_string())
        .env("HOME", site.scratch())
        .env("ANSIBLE_HOME", site.scratch().join("ansible"))
        .env("ANSIBLE_PYTHON_INTERPRETER", python())
        .env("ANSIBLE_NOCOLOR", "1")
        .env("LC_ALL", "C.UTF-8")
        .env("HTTP_PROXY", format!("http://{}", client.address))
        .env("ALICLOUD_ACCESS_KEY", &client.key.id)
        .env("ALICLOUD_SECRET_KEY", &client.key.secret)
        .env("ALICLOUD_REGION", REGION);
    let outcome = program::run(&mut command).ok();
    let (_, said) = outcome.stdout.split_once("=> ").unwrap_or_else(|| panic!("{outcome}"));
    serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {outcome}"))
}

#[test]
fn a_lab_is_kept_with_ansible() {
    let site = Site::new();
    let file = qemu::ext4_image(site.scratch(), 8);
    let image = site.import(&file, &["--format", "raw"]);
    let mut footmark = client(&site, Kind::Footmark);
    let instance = make(&site, &image);
    let system = machine(&mut footmark, &instance).system;
    let scratch = attached(&site, &instance, &json!({"disk_name": "scratch", "size": 5}));
    find_by_tag(&site, &instance, &[&system, &scratch]);
    assert!(site.holds(&system, &file, "raw"), "it begins as its image");
    site.io(&scratch, &["write -P 0x21 0 1M", "flush"]);
    let snapshot = snapshot(&mut footmark, &scratch, "kept");
    let restored =
        attached(&site, &instance, &json!({"disk_name": "restored", "snapshot_id": snapshot}));
    site.io(&restored, &["read -P 0x21 0 1M", "read -P 0 1M 1M"]);
    let disks = [&system, &scratch, &restored];
    for disk in disks {
        site.ruin(disk);
        let reset = json!({"DiskId": disk});
        footmark.refuses("ReInitDisk", &reset, "IncorrectInstanceStatus", 403);
    }

    // The module reads the user data to set even where there is none.
    state(&site, &instance, "stopped", &json!({"user_data": ""}));
    for disk in disks {
        footmark.call("ReInitDisk", &json!({"DiskId": disk}));
        wait_for_disk(&mut footmark, disk, "In_use");
    }
    state(&site, &instance, "running", &json!({}));
    assert!(site.holds(&system, &file, "raw"), "it is as its image again");
    site.io(&scratch, &["read -P 0 0 16M"]);
    site.io(&restored, &["read -P 0x21 0 1M", "read -P 0 1M 15M"]);

    make_image(&site, &mut footmark, &system);
    part(&site, &mut footmark, &instance, &restored);
    state(&site, &instance, "absent", &json!({"force": true}));
    let gone = footmark.call("DescribeInstances", &json!({"RegionId": REGION}));
    assert_eq!(word(&gone["TotalCount"]), "0", "{gone}");
}

/// An instance that carries a tag; with it there, the same again changes nothing.
fn make(site: &Site, image: &str) -> String {
    let wanted = json!({
        "image_id": image,
        "instance_type": "ecs.g6.large",
        "instance_name": "lab",
        "security_groups": ["sg-1"],
        "availability_zone": ZONE,
        "system_disk_size": 20,
        "count": 1,
        "count_tag": "{'lab': 'one'}",
    });
    let made = ansible(site, "ali_instance", &wanted);
    assert_eq!(made["changed"], true, "{made}");
    let instance = text(&made["instances"][0], "id");
    assert_eq!(made["instances"][0]["tags"]["lab"], "one", "{made}");
    let again = ansible(site, "ali_instance", &wanted);
    assert_eq!(again["changed"], false, "{again}");
    assert_eq!(text(&again["instances"][0], "id"), instance);
    instance
}

/// The instance and its disks, by a tag that it got later.
fn find_by_tag(site: &Site, instance: &str, disks: &[&String]) {
    let tags = json!({"owner": "a b+c&数据"});
    let tag = json!({"resource_ids": [instance], "resource_type": "instance", "tags": tags});
    assert_eq!(ansible(site, "ali_ecs_tag", &tag)["changed"], true);
    let found = ansible(site, "ali_instance_info", &json!({"tags": tags}));
    assert_eq!(found["ids"], json!([instance]), "{found}");
    let mapped = found["instances"][0]["block_device_mappings"].as_array().unwrap();
    let mut mapped: Vec<_> = mapped.iter().map(|disk| text(disk, "volume_id")).collect();
    let mut disks: Vec<_> = disks.iter().map(|disk| (*disk).clone()).collect();
    mapped.sort();
    disks.sort();
    assert_eq!(mapped, disks, "{found}");
}

/// A disk, made by one call of the module and attached by the next, as when a playbook is run again.
fn attached(site: &Site, instance: &str, wanted: &Value) -> String {
    let mut wanted = wanted.clone();
    let fields = wanted.as_object_mut().unwrap();
    fields.insert("alicloud_zone".into(), ZONE.into());
    fields.insert("description".into(), "for tests".into());
    let made = ansible(site, "ali_disk", &wanted);
    let disk = text(&made, "disk_id");
    site.wait_for_disk(&disk, "Available");
    wanted.as_object_mut().unwrap().insert("instance_id".into(), instance.into());
    let attached = ansible(site, "ali_disk", &wanted);
    assert_eq!(attached["changed"], true, "{attached}");
    assert_eq!(text(&attached, "disk_id"), disk, "found by its name");
    disk
}

fn state(site: &Site, instance: &str, state: &str, more: &Value) {
    let mut wanted = json!({"instance_ids": [instance], "state": state});
    wanted.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
    let done = ansible(site, "ali_instance", &wanted);
    assert_eq!(done["changed"], true, "{done}");
}

/// The module waits until it is there, whatever its state until then.
fn make_image(site: &Site, footmark: &mut Client, system: &str) {
    let snapshot = snapshot(footmark, system, "golden");
    let wanted = json!({"snapshot_id": snapshot, "image_name": "golden", "wait": true});
    let made = ansible(site, "ali_image", &wanted);
    assert_eq!(made["image"]["image_name"], "golden", "{made}");
    let gone = json!({"image_id": text(&made, "image_id"), "state": "absent"});
    assert_eq!(ansible(site, "ali_image", &gone)["changed"], true);
}

fn part(site: &Site, footmark: &mut Client, instance: &str, disk: &str) {
    let parted = json!({"disk_id": disk, "state": "absent", "instance_id": instance});
    ansible(site, "ali_disk", &parted);
    ansible(site, "ali_disk", &json!({"disk_id": disk, "state": "absent"}));
    let reset = json!({"DiskId": disk});
    footmark.refuses("ReInitDisk", &reset, "InvalidDiskId.NotFound", 404);
}
