//! What a list or a description shows, the typed clients know to the last field: nothing is misspelt, in another place, or
//! of another type.

use serde_json::{Value, json};
use tests::{
    client::{Client, Kind},
    qemu,
    site::Site,
};

use super::words::*;

#[test]
fn tea_knows_every_field_it_is_shown() {
    flow(Kind::Tea);
}

#[test]
fn tea_of_node_knows_every_field_it_is_shown() {
    flow(Kind::NodeTea);
}

/// The core SDK has no types for answers: what it hands back is what the daemon said.
fn flow(kind: Kind) {
    let directory = tempfile::Builder::new().prefix("reinit-").tempdir().unwrap();
    let config = format!("[buckets.images]\ndirectory = '{}'\n", directory.path().display());
    let site = Site::inside(directory, &config, &[]);
    let typed = &mut client(&site, kind);
    let untyped = &mut client(&site, Kind::Core);
    for (action, question) in questions(&site, typed) {
        let shown = told(untyped, action, &question);
        assert_eq!(told(typed, action, &question), shown, "{typed}: {action} {question}");
    }
}

/// Without the one thing that differs each time.
fn told(client: &mut Client, action: &str, question: &Value) -> Value {
    let mut answer = client.call(action, question);
    answer.as_object_mut().unwrap().remove("RequestId");
    plain(answer)
}

/// Some clients keep fields that were not there, as nothing, and Node knows one kind of number.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, field)| !field.is_null())
            .map(|(name, field)| (name, plain(field)))
            .collect(),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Number(number) => json!(number.as_f64()),
        other => other,
    }
}

/// One of everything there is to ask for, and every question about it.
fn questions(site: &Site, client: &mut Client) -> Vec<(&'static str, Value)> {
    let file = qemu::ext4_image(site.scratch(), 8);
    let image = site.import(&file, &["--format", "raw"]);
    site.key_of("guest");
    let accounts = site.run(&["account", "ls"]);
    let guest =
        accounts["Accounts"].as_array().unwrap().iter().find(|one| one["Account"] == "guest");
    let share = json!({
        "RegionId": REGION,
        "ImageId": image,
        "AddAccount": [guest.unwrap()["AccountNumber"]],
    });
    client.call("ModifyImageSharePermission", &share);
    let machine = run(client, &image);
    site.run(&["instance", "lock", &machine.instance, "--reason", "financial"]);
    let tag = json!({
        "RegionId": REGION,
        "ResourceType": "disk",
        "ResourceId": [machine.system],
        "Tag": [{"Key": "k", "Value": "v"}],
    });
    client.call("TagResources", &tag);
    let kept = snapshot(client, &machine.system, "kept");
    let group = json!({
        "RegionId": REGION,
        "InstanceId": machine.instance,
        "Name": "kept",
        "Tag": [{"Key": "k", "Value": "v"}],
    });
    client.call("CreateSnapshotGroup", &group);
    let done =
        |answer: &Value| answer["SnapshotGroups"]["SnapshotGroup"][0]["Status"] == "accomplished";
    client.until("DescribeSnapshotGroups", &json!({"RegionId": REGION}), done);
    let export = json!({"RegionId": REGION, "ImageId": image, "OSSBucket": "images"});
    let task = client.call("ExportImage", &export)["TaskId"].clone();
    let task = json!({"RegionId": REGION, "TaskId": task});
    client.until("DescribeTaskAttribute", &task, |answer| answer["TaskStatus"] == "Finished");
    let here = json!({"RegionId": REGION});
    let of_image = json!({"RegionId": REGION, "ImageId": image});
    vec![
        ("DescribeRegions", json!({})),
        ("DescribeZones", here.clone()),
        ("DescribeInstanceTypes", json!({})),
        ("DescribeInstances", here.clone()),
        ("DescribeInstanceStatus", here.clone()),
        ("DescribeUserData", json!({"RegionId": REGION, "InstanceId": machine.instance})),
        ("DescribeDisks", here.clone()),
        (
            "DescribeSnapshots",
            json!({"RegionId": REGION, "SnapshotIds": json!([kept]).to_string()}),
        ),
        ("DescribeSnapshotGroups", here.clone()),
        ("DescribeImages", here.clone()),
        ("DescribeImageSharePermission", of_image),
        ("ListTagResources", json!({"RegionId": REGION, "ResourceType": "disk"})),
        ("DescribeTasks", here),
        ("DescribeTaskAttribute", task),
    ]
}
