//! Batch forms and dry runs, as clients see them.

use serde_json::{Value, json};

use crate::{harness::Service, signing::signed};

fn rows(document: &Value) -> Vec<(String, String, String)> {
    let rows = document["InstanceResponses"]["InstanceResponse"].as_array().unwrap();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    rows.iter()
        .map(|row| {
            assert!(!text(row, "Message").is_empty());
            (text(row, "Code"), text(row, "PreviousStatus"), text(row, "CurrentStatus"))
        })
        .collect()
}

fn row(code: &str, before: &str, now: &str) -> (String, String, String) {
    (code.into(), before.into(), now.into())
}

#[test]
fn several_instances_change_together_or_each_alone() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (one, _) = service.instance(&key, &image, &[]);
    let (two, _) = service.instance(&key, &image, &[]);
    let both = [("InstanceId.1", one.as_str()), ("InstanceId.2", two.as_str())];
    let with = |more: &[(&'static str, &'static str)]| [&both[..], more].concat();

    service.call(&key, "StartInstances", &[]).refused("MissingParameter", 400);
    service
        .call(&key, "StartInstances", &with(&[("BatchOptimization", "Sometimes")]))
        .refused("InvalidParameter", 400);
    service
        .call(&key, "StartInstances", &with(&[("InstanceId.3", "i-no")]))
        .refused("InvalidInstanceId.NotFound", 404);
    service
        .call(&key, "StartInstances", &with(&[("DryRun", "true")]))
        .refused("DRYRUN.SUCCESS", 400);
    let started = service.call(&key, "StartInstances", &both).ok();
    assert_eq!(
        rows(&started),
        [row("200", "Stopped", "Running"), row("200", "Stopped", "Running")]
    );
    service.call(&key, "StartInstances", &both).refused("IncorrectInstanceStatus", 403);
    service.call(&key, "RebootInstances", &both).ok();

    service.stop_instance(&key, &two);
    let way = ("BatchOptimization", "SuccessFirst");
    let stopped = service.call(&key, "StopInstances", &with(&[way, ("ForceStop", "True")])).ok();
    let refused = row("IncorrectInstanceStatus", "Stopped", "Stopped");
    assert_eq!(rows(&stopped), [row("200", "Running", "Stopped"), refused]);

    let request = signed(&key, "GET", "XML", "StartInstances", &both).request("GET");
    let xml = service.send(request);
    assert_eq!(xml.status, 200);
    let wanted = format!(
        "<InstanceResponses><InstanceResponse><InstanceId>{one}</InstanceId>\
         <PreviousStatus>Stopped</PreviousStatus><CurrentStatus>Running</CurrentStatus>"
    );
    assert!(xml.body.contains(&wanted), "{}", xml.body);

    let found = service
        .call(&key, "DescribeInstanceStatus", &[("InstanceId.1", &one), ("PageSize", "50")])
        .ok();
    let status = json!({"InstanceStatus": [{"InstanceId": one, "Status": "Running"}]});
    assert_eq!((&found["InstanceStatuses"], &found["PageSize"]), (&status, &50.into()));
}

#[test]
fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (id, _) = service.instance(&key, &image, &[]);
    let instance = [("InstanceId", id.as_str()), ("DryRun", "true")];
    let image = [("ImageId", image.as_str()), ("DryRun", "true")];
    service.call(&key, "StopInstance", &instance).refused("IncorrectInstanceStatus", 403);
    service.call(&key, "StartInstance", &instance).refused("DryRunOperation", 400);
    service.call(&key, "DeleteInstance", &instance).refused("DryRunOperation", 400);
    service.call(&key, "DeleteImage", &image).refused("ImageUsingByInstance", 403);
    let forced = [&image[..], &[("Force", "true")]].concat();
    service.call(&key, "DeleteImage", &forced).refused("DryRunOperation", 400);
    service.call(&key, "DescribeDisks", &[("DryRun", "true")]).refused("DryRunOperation", 400);
    let asked = [("DryRun", "true"), ("DiskIds", "no list")];
    service.call(&key, "DescribeDisks", &asked).refused("InvalidParameter.DiskIds", 400);
    service
        .call(&key, "DeleteDisk", &[("DiskId", "d-1"), ("DryRun", "true")])
        .refused("InvalidDiskId.NotFound", 404);
    service
        .operator("SetAccount", &[("Account", "default"), ("DryRun", "true")])
        .refused("InvalidParameter", 400);
    service.start_instance(&key, &id);
}

#[test]
fn each_action_of_everyone_can_be_checked() {
    let service = Service::start();
    let document = service.get("/openapi.json").json();
    for (path, item) in document["paths"].as_object().unwrap() {
        let parameters = item["post"]["parameters"].as_array().unwrap();
        let dry_run = parameters.iter().find(|one| one["name"] == "DryRun").unwrap();
        assert_eq!(dry_run["schema"], json!({"type": "boolean"}), "{path}");
    }
    let key = service.key();
    let asked = [("Size", "5"), ("ClientToken", "t-1")];
    let dry = [&asked[..], &[("DryRun", "True")]].concat();
    service.call(&key, "CreateDisk", &dry).refused("DryRunOperation", 400);
    assert_eq!(service.call(&key, "DescribeDisks", &[]).ok()["TotalCount"], 0);
    let disk = service.call(&key, "CreateDisk", &asked).text("DiskId");
    service.call(&key, "CreateDisk", &dry).refused("DryRunOperation", 400);
    let tag = [
        ("ResourceType", "disk"),
        ("ResourceId.1", disk.as_str()),
        ("Tag.1.Key", "k"),
        ("DryRun", "true"),
    ];
    service.call(&key, "TagResources", &tag).refused("DryRunOperation", 400);
    let tags = service.call(&key, "ListTagResources", &[("ResourceType", "disk")]).ok();
    assert_eq!(tags["TagResources"]["TagResource"], json!([]));
    let reader = service.key_of("default", "read");
    service
        .call(&reader, "DeleteDisk", &[("DiskId", &disk), ("DryRun", "true")])
        .refused("Forbidden.RAM", 403);
}

#[test]
fn several_instances_are_deleted_together() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (one, disks) = service.instance(&key, &image, &[]);
    let (two, _) = service.instance(&key, &image, &[]);
    service.start_instance(&key, &two);
    let both = [("InstanceId.1", one.as_str()), ("InstanceId.2", two.as_str())];
    let delete = |more: &[(&'static str, &'static str)]| {
        service.call(&key, "DeleteInstances", &[&both[..], more].concat())
    };
    service.call(&key, "DeleteInstances", &[]).refused("MissingParameter", 400);
    delete(&[]).refused("IncorrectInstanceStatus", 403);
    delete(&[("InstanceId.3", "i-no"), ("Force", "true")])
        .refused("InvalidInstanceId.NotFound", 404);
    delete(&[("TerminateSubscription", "perhaps")]).refused("InvalidParameter", 400);
    delete(&[("Force", "true"), ("DryRun", "true")]).refused("DRYRUN.SUCCESS", 400);
    let found = service.call(&key, "DescribeInstances", &[]).ok();
    assert_eq!(found["TotalCount"], 2);
    let sure = [("Force", "true"), ("ForceStop", "true"), ("TerminateSubscription", "true")];
    let sure = [&sure[..], &[("ClientToken", "t-1")]].concat();
    delete(&sure).ok();
    delete(&sure).ok();
    delete(&[("Force", "true")]).refused("InvalidInstanceId.NotFound", 404);
    assert_eq!(service.call(&key, "DescribeInstances", &[]).ok()["TotalCount"], 0);
    let ids = format!("[\"{}\"]", disks[0]);
    assert_eq!(service.call(&key, "DescribeDisks", &[("DiskIds", &ids)]).ok()["TotalCount"], 0);
}

#[test]
fn several_disks_go_back_to_their_snapshots() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (id, disks) = service.used_instance(&key, &image, &[("DataDisk.1.Size", "5")]);
    let snapshots = [service.snapshot(&key, &disks[0]), service.snapshot(&key, &disks[1])];
    let asked = [
        ("Disk.1.DiskId", disks[0].as_str()),
        ("Disk.1.SnapshotId", &snapshots[0]),
        ("Disk.2.DiskId", &disks[1]),
        ("Disk.2.SnapshotId", &snapshots[1]),
    ];
    let reader = service.key_of("default", "read");
    service.call(&reader, "ResetDisks", &asked).refused("Forbidden.RAM", 403);
    let each_alone = [("InstanceId.1", id.as_str()), ("BatchOptimization", "SuccessFirst")];
    service.call(&reader, "StartInstances", &each_alone).refused("Forbidden.RAM", 403);
    service.call(&key, "ResetDisks", &[]).refused("MissingParameter", 400);
    service.call(&key, "ResetDisks", &asked[..3]).refused("MissingParameter", 400);
    let dry = [&asked[..], &[("DryRun", "true")]].concat();
    service.call(&key, "ResetDisks", &dry).refused("DRYRUN.SUCCESS", 400);
    service.start_instance(&key, &id);
    let refused = service.call(&key, "ResetDisks", &dry).ok();
    let rows = &refused["OperationProgressSet"]["OperationProgress"];
    assert_eq!(rows[0]["ErrorCode"], "IncorrectInstanceStatus");
    service.stop_instance(&key, &id);

    let asked = [&asked[..3], &[("Disk.2.SnapshotId", snapshots[0].as_str())]].concat();
    let done = service.call(&key, "ResetDisks", &asked).ok();
    let rows = &done["OperationProgressSet"]["OperationProgress"];
    let items = json!({"RelatedItem": [
        {"Name": "DiskId", "Value": disks[0]},
        {"Name": "SnapshotId", "Value": snapshots[0]},
    ]});
    assert_eq!(
        rows[0],
        json!({"OperationStatus": "Success", "ErrorCode": "", "ErrorMsg": "", "RelatedItemSet": items})
    );
    assert_eq!(rows[1]["OperationStatus"], "Failed");
    assert_eq!(rows[1]["ErrorCode"], "InvalidParameter.Mismatch");
    let shown = service.operator("ShowDisk", &[("DiskId", &disks[0])]).ok();
    assert_eq!(shown["LastReset"]["RequestId"], done["RequestId"]);
}
