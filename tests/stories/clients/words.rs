//! What the flows say again and again, in a client's own calls.

use serde_json::{Value, json};
use tests::{
    client::{Client, items, word},
    site::{Machine, Site},
};

pub(super) const REGION: &str = "cn-hangzhou";
pub(super) const ZONE: &str = "cn-hangzhou-b";

/// A JSON list as a text, which is how the API takes lists of ids.
fn ids(id: &str) -> String {
    json!([id]).to_string()
}

pub(super) fn disks(client: &mut Client, question: &Value) -> Vec<Value> {
    items(&client.call("DescribeDisks", question)["Disks"]["Disk"]).to_vec()
}

pub(super) fn disk(client: &mut Client, id: &str) -> Value {
    let found = disks(client, &json!({"RegionId": REGION, "DiskIds": ids(id)}));
    assert_eq!(found.len(), 1, "{client}: {id}: {found:?}");
    found.into_iter().next().unwrap()
}

pub(super) fn wait_for_disk(client: &mut Client, id: &str, status: &str) {
    let question = json!({"RegionId": REGION, "DiskIds": ids(id)});
    client.until("DescribeDisks", &question, |answer| is(&answer["Disks"]["Disk"], status));
}

pub(super) fn wait_for_instance(client: &mut Client, id: &str, status: &str) -> Value {
    let question = json!({"RegionId": REGION, "InstanceIds": ids(id)});
    let reached = |answer: &Value| is(&answer["Instances"]["Instance"], status);
    let answer = client.until("DescribeInstances", &question, reached);
    items(&answer["Instances"]["Instance"])[0].clone()
}

pub(super) fn wait_for_snapshot(client: &mut Client, id: &str) -> Value {
    let question = json!({"RegionId": REGION, "SnapshotIds": ids(id)});
    let done = |answer: &Value| is(&answer["Snapshots"]["Snapshot"], "accomplished");
    let answer = client.until("DescribeSnapshots", &question, done);
    let snapshot = items(&answer["Snapshots"]["Snapshot"])[0].clone();
    assert_eq!(word(&snapshot["Progress"]), "100%", "{client}: {snapshot}");
    snapshot
}

/// Only images that are available are listed unless others are asked for.
pub(super) fn wait_for_image(client: &mut Client, id: &str) -> Value {
    let question = json!({"RegionId": REGION, "ImageId": id});
    let answer = client
        .until("DescribeImages", &question, |found| is(&found["Images"]["Image"], "Available"));
    items(&answer["Images"]["Image"])[0].clone()
}

/// Whether the one item that was asked for has that status.
fn is(listed: &Value, status: &str) -> bool {
    matches!(items(listed), [one] if word(&one["Status"]) == status)
}

pub(super) fn start(client: &mut Client, instance: &str) {
    client.call("StartInstance", &json!({"InstanceId": instance}));
    wait_for_instance(client, instance, "Running");
}

pub(super) fn stop(client: &mut Client, instance: &str) {
    client.call("StopInstance", &json!({"InstanceId": instance}));
    wait_for_instance(client, instance, "Stopped");
}

/// A snapshot of the disk, when it is done.
pub(super) fn snapshot(client: &mut Client, disk: &str, name: &str) -> String {
    let asked = json!({"DiskId": disk, "SnapshotName": name});
    let id = word(&client.call("CreateSnapshot", &asked)["SnapshotId"]);
    wait_for_snapshot(client, &id);
    id
}

/// Its disks, by asking for them.
pub(super) fn machine(client: &mut Client, instance: &str) -> Machine {
    let found = disks(client, &json!({"RegionId": REGION, "InstanceId": instance}));
    let of = |kind: &str| {
        let fit = found.iter().filter(|disk| word(&disk["Type"]) == kind);
        fit.map(|disk| word(&disk["DiskId"])).collect::<Vec<_>>()
    };
    let system = of("system");
    assert_eq!(system.len(), 1, "{client}: {found:?}");
    Machine { instance: instance.to_owned(), system: system[0].clone(), data: of("data") }
}

/// A running instance of this image, with a system disk of 1 GiB.
pub(super) fn run(client: &mut Client, image: &str) -> Machine {
    let asked = json!({
        "RegionId": REGION,
        "ImageId": image,
        "InstanceType": "ecs.g6.large",
        "SecurityGroupId": "sg-1",
        "SystemDisk": {"Category": "cloud_auto", "Size": "1"},
        "Amount": 1,
    });
    let answer = client.call("RunInstances", &asked);
    let made = items(&answer["InstanceIdSets"]["InstanceIdSet"]);
    assert_eq!(made.len(), 1, "{client}: {answer}");
    let instance = word(&made[0]);
    wait_for_instance(client, &instance, "Running");
    machine(client, &instance)
}

/// A site and a client of its default account.
pub(super) fn client(site: &Site, kind: tests::client::Kind) -> Client {
    let account = site.ecs();
    Client::start(kind, &account.address, &account.key)
}
