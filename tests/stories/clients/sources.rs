//! Flow (b): a disk is made of a snapshot, attached, put back to it, and parts from it.

use serde_json::json;
use tests::{
    client::{Client, word},
    site::{Machine, Site},
};

use super::words::*;

/// The machine runs before and is stopped after.
pub(super) fn flow(site: &Site, client: &mut Client, machine: &Machine) {
    site.io(&machine.data[0], &["write -P 0x21 0 1M", "write -P 0x22 64M 3M", "flush"]);
    let snapshot = snapshot(client, &machine.data[0], "before the upgrade");
    site.io(&machine.data[0], &["write -P 0x7f 0 2M", "flush"]);
    let disk = create(client, &snapshot);
    let reset = json!({"DiskId": disk});
    client.refuses("ReInitDisk", &reset, "IncorrectDiskStatus", 403);

    let place = json!({"DiskId": disk, "InstanceId": machine.instance});
    client.call("AttachDisk", &place);
    wait_for_disk(client, &disk, "In_use");
    let as_the_snapshot =
        ["read -P 0x21 0 1M", "read -P 0 1M 1M", "read -P 0x22 64M 3M", "read -P 0 67M 1M"];
    site.io(&disk, &as_the_snapshot);
    site.ruin(&disk);
    stop(client, &machine.instance);
    client.call("ReInitDisk", &reset);
    wait_for_disk(client, &disk, "In_use");
    start(client, &machine.instance);
    site.io(&disk, &as_the_snapshot);
    stop(client, &machine.instance);

    let delete = json!({"SnapshotId": snapshot});
    client.refuses("DeleteSnapshot", &delete, "SnapshotCreatedDisk", 403);
    client.call("DeleteSnapshot", &json!({"SnapshotId": snapshot, "Force": true}));
    client.refuses("ReInitDisk", &reset, "InvalidSourceSnapshot", 403);
    client.call("DetachDisk", &place);
    wait_for_disk(client, &disk, "Available");
    client.call("DeleteDisk", &json!({"DiskId": disk}));
    let gone = json!({"RegionId": REGION, "DiskIds": json!([disk]).to_string()});
    client.until("DescribeDisks", &gone, |answer| word(&answer["TotalCount"]) == "0");
    client.refuses("ReInitDisk", &reset, "InvalidDiskId.NotFound", 404);
}

/// A disk of the snapshot, as large as that was.
fn create(client: &mut Client, snapshot: &str) -> String {
    let asked = json!({
        "RegionId": REGION,
        "ZoneId": ZONE,
        "DiskName": "restored",
        "DiskCategory": "cloud_auto",
        "SnapshotId": snapshot,
    });
    let id = word(&client.call("CreateDisk", &asked)["DiskId"]);
    wait_for_disk(client, &id, "Available");
    let disk = disk(client, &id);
    assert_eq!(word(&disk["SourceSnapshotId"]), snapshot, "{client}: {disk}");
    assert_eq!(word(&disk["Size"]), "1", "{client}: {disk}");
    let found = disks(client, &json!({"RegionId": REGION, "SnapshotId": snapshot}));
    assert_eq!(found.len(), 1, "{client}: the disks of the snapshot: {found:?}");
    assert_eq!(word(&wait_for_snapshot(client, snapshot)["Usage"]), "disk", "{client}");
    id
}
