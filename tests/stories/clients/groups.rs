//! Tags and groups of snapshots: resources are marked and found by their marks, and all disks of an instance are kept
//! at one moment.

use serde_json::{Value, json};
use tests::{
    client::{Client, Kind, items, word},
    qemu,
    site::{Machine, Site},
};

use super::words::*;

/// Every class of characters that may be in a tag.
const VALUE: &str = "v=1&2 '(夜)'/*~<";

pub(super) fn flow(kind: Kind) {
    let site = Site::new();
    let file = qemu::ext4_image(site.scratch(), 8);
    let image = site.import(&file, &["--format", "raw"]);
    let machine = site.machine(&image, &["1G"]);
    let client = &mut client(&site, kind);
    tags(client, &machine);
    start(client, &machine.instance);
    site.io(&machine.system, &["write -P 0x11 4M 64k", "flush"]);
    site.io(&machine.data[0], &["write -P 0x22 0 64k", "flush"]);
    let group = take(client, &machine);
    site.ruin(&machine.system);
    site.ruin(&machine.data[0]);
    stop(client, &machine.instance);
    put_back(client, &group);
    start(client, &machine.instance);
    site.io(&machine.system, &["read -P 0x11 4M 64k"]);
    site.io(&machine.data[0], &["read -P 0x22 0 64k", "read -P 0 64k 8M"]);
    forget(client, &group);
}

fn tags(client: &mut Client, machine: &Machine) {
    let both = [&machine.system, &machine.data[0]];
    let tags = json!([{"Key": "k/1", "Value": VALUE}, {"Key": "empty", "Value": ""}]);
    let asked =
        json!({"RegionId": REGION, "ResourceType": "disk", "ResourceId": both, "Tag": tags});
    client.call("TagResources", &asked);
    let by_tag = |value: &str| json!({"RegionId": REGION, "Tag": [{"Key": "k/1", "Value": value}]});
    let found = disks(client, &by_tag(VALUE));
    assert_eq!(found.len(), 2, "{client}: by their tag: {found:?}");
    assert_eq!(disks(client, &by_tag("another")).len(), 0, "{client}");
    let pairs: Vec<_> = items(&found[0]["Tags"]["Tag"]).iter().map(pair).collect();
    assert!(pairs.contains(&("k/1".into(), VALUE.into())), "{client}: {pairs:?}");

    let question = json!({"RegionId": REGION, "ResourceType": "disk", "ResourceId": [both[0]]});
    let listed = client.call("ListTagResources", &question);
    assert_eq!(items(&listed["TagResources"]["TagResource"]).len(), 2, "{client}: {listed}");
    let untag = |more: Value| {
        let mut asked = json!({"RegionId": REGION, "ResourceType": "disk", "ResourceId": both});
        asked.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        asked
    };
    client.call("UntagResources", &untag(json!({"TagKey": ["k/1"]})));
    assert_eq!(disks(client, &by_tag(VALUE)).len(), 0, "{client}");
    client.call("UntagResources", &untag(json!({"All": true})));
    let listed = client.call("ListTagResources", &question);
    assert_eq!(items(&listed["TagResources"]["TagResource"]).len(), 0, "{client}: {listed}");
    let unknown =
        json!({"RegionId": REGION, "ResourceType": "disk", "ResourceId": ["d-none"], "Tag": tags});
    client.refuses("TagResources", &unknown, "InvalidResourceId.NotFound", 404);
}

fn pair(tag: &Value) -> (String, String) {
    (word(&tag["TagKey"]), word(&tag["TagValue"]))
}

/// A group of snapshots of all disks of the instance, while it runs.
fn take(client: &mut Client, machine: &Machine) -> String {
    let asked = json!({
        "RegionId": REGION,
        "InstanceId": machine.instance,
        "Name": "before",
        "Tag": [{"Key": "kept", "Value": "yes"}],
    });
    let group = word(&client.call("CreateSnapshotGroup", &asked)["SnapshotGroupId"]);
    let question = json!({"RegionId": REGION, "Tag": [{"Key": "kept", "Value": "yes"}]});
    let done = |answer: &Value| {
        let found = items(&answer["SnapshotGroups"]["SnapshotGroup"]);
        matches!(found, [one] if word(&one["Status"]) == "accomplished")
    };
    let answer = client.until("DescribeSnapshotGroups", &question, done);
    let shown = &items(&answer["SnapshotGroups"]["SnapshotGroup"])[0];
    assert_eq!(word(&shown["SnapshotGroupId"]), group, "{client}: {shown}");
    assert_eq!(word(&items(&shown["Tags"]["Tag"])[0]["Value"]), "yes", "{client}: {shown}");
    group
}

/// Each disk to its snapshot of the group, in one call.
fn put_back(client: &mut Client, group: &str) {
    let question = json!({"RegionId": REGION, "SnapshotGroupId": [group]});
    let answer = client.call("DescribeSnapshotGroups", &question);
    let shown = &items(&answer["SnapshotGroups"]["SnapshotGroup"])[0];
    let disks: Vec<_> = items(&shown["Snapshots"]["Snapshot"])
        .iter()
        .map(|one| json!({"DiskId": word(&one["SourceDiskId"]), "SnapshotId": word(&one["SnapshotId"])}))
        .collect();
    assert_eq!(disks.len(), 2, "{client}: {shown}");
    let answer = client.call("ResetDisks", &json!({"RegionId": REGION, "Disk": disks}));
    assert_eq!(successes(&answer), 2, "{client}: {answer}");
    for disk in disks {
        wait_for_disk(client, &word(&disk["DiskId"]), "In_use");
    }
}

fn forget(client: &mut Client, group: &str) {
    let asked = json!({"RegionId": REGION, "SnapshotGroupId": group});
    let answer = client.call("DeleteSnapshotGroup", &asked);
    assert_eq!(successes(&answer), 2, "{client}: {answer}");
    let question = json!({"RegionId": REGION, "SnapshotGroupId": [group]});
    let answer = client.call("DescribeSnapshotGroups", &question);
    assert!(items(&answer["SnapshotGroups"]["SnapshotGroup"]).is_empty(), "{client}: {answer}");
}

fn successes(answer: &Value) -> usize {
    let rows = items(&answer["OperationProgressSet"]["OperationProgress"]);
    rows.iter().filter(|row| word(&row["OperationStatus"]) == "Success").count()
}
