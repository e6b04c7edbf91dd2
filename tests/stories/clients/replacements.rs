//! Newer than the clients' habits: a machine gets a new system disk and is put back as a whole.

use serde_json::json;
use tests::{
    client::{Kind, word},
    qemu,
    site::Site,
};

use super::words::*;

pub(super) fn flow(kind: Kind) {
    let site = Site::new();
    let file = qemu::ext4_image(site.scratch(), 8);
    let image = site.import(&file, &["--format", "raw"]);
    let client = &mut client(&site, kind);
    let old = run(client, &image);
    site.io(&old.system, &["write -P 0x33 4M 1M", "flush"]);
    let asked = json!({"RegionId": REGION, "InstanceId": old.instance, "ImageName": "whole"});
    let whole = word(&client.call("CreateImage", &asked)["ImageId"]);
    wait_for_image(client, &whole);

    let replace = |size: &str| json!({"InstanceId": old.instance, "ImageId": whole, "SystemDisk": {"Size": size}});
    client.refuses("ReplaceSystemDisk", &replace("2"), "IncorrectInstanceStatus", 403);
    stop(client, &old.instance);
    let new = word(&client.call("ReplaceSystemDisk", &replace("2"))["DiskId"]);
    assert_ne!(new, old.system, "{client}");
    wait_for_disk(client, &new, "In_use");
    client.refuses("ReInitDisk", &json!({"DiskId": old.system}), "InvalidDiskId.NotFound", 404);
    start(client, &old.instance);
    site.io(&new, &["read -P 0x33 4M 1M", "write -P 0x44 4M 1M", "flush"]);
    let machine = machine(client, &old.instance);
    assert_eq!(machine.system, new, "{client}");
    stop(client, &old.instance);
    client.call("ReInitDisk", &json!({"DiskId": new}));
    wait_for_disk(client, &new, "In_use");
    start(client, &old.instance);
    site.io(&new, &["read -P 0x33 4M 1M"]);
    assert_eq!(word(&disk(client, &new)["Size"]), "2", "{client}");
}
