//! Images and tasks: an image is imported, run, taken of a snapshot, run, copied, exported; tasks are watched
//! and cancelled.

use std::path::Path;

use serde_json::{Value, json};
use tests::{
    client::{Client, Kind, items, word},
    qemu,
    site::{Machine, Site},
};

use super::words::*;

/// So large that its import can be cancelled while it runs.
const LARGE_MIB: u64 = 256;

/// How often that is tried, should the machine be too busy with other things.
const TRIES: u32 = 5;

pub(super) fn flow(kind: Kind) {
    let directory = tempfile::Builder::new().prefix("reinit-").tempdir().unwrap();
    let bucket = directory.path().join("bucket");
    std::fs::create_dir(&bucket).unwrap();
    let base = qemu::ext4_image(&bucket, 16);
    let config = format!("[buckets.images]\ndirectory = '{}'\n", bucket.display());
    let site = Site::inside(directory, &config, &[]);
    let client = &mut client(&site, kind);

    let (imported, task) = import(client, "ext4.raw", "fetched");
    end(client, &task, "Finished");
    let cancel = json!({"RegionId": REGION, "TaskId": task});
    client.refuses("CancelTask", &cancel, "InvalidTaskId.IncorrectTaskStatus", 403);
    let first = run(client, &imported);
    assert!(site.holds(&first.system, &base, "raw"), "{client}: as the object in the bucket");
    site.io(&first.system, &["write -P 0x33 12M 1M", "flush"]);

    let golden = of_snapshot(client, &first);
    let second = run(client, &golden);
    site.io(&second.system, &["read -P 0x33 12M 1M"]);
    let copy = copy(client, &golden);
    let delete = json!({"RegionId": REGION, "ImageId": golden});
    client.refuses("DeleteImage", &delete, "ImageUsingByInstance", 403);
    let delete = json!({"RegionId": REGION, "ImageId": golden, "Force": true});
    client.call("DeleteImage", &delete);
    stop(client, &second.instance);
    client.refuses("ReInitDisk", &json!({"DiskId": second.system}), "OperationDenied", 403);
    let exported = bucket.join(export(client, &copy));
    start(client, &second.instance);
    assert!(site.holds(&second.system, &exported, "raw"), "{client}: the export of the copy");
    cancel_an_import(client, &bucket);
}

fn import(client: &mut Client, object: &str, name: &str) -> (String, String) {
    let asked = json!({
        "RegionId": REGION,
        "ImageName": name,
        "Architecture": "x86_64",
        "OSType": "linux",
        "DiskDeviceMapping": [{"Format": "RAW", "OSSBucket": "images", "OSSObject": object}],
    });
    let begun = client.call("ImportImage", &asked);
    (word(&begun["ImageId"]), word(&begun["TaskId"]))
}

/// Watches a task to its end, which must be this one, in both ways to ask.
fn end(client: &mut Client, task: &str, status: &str) -> Value {
    let question = json!({"RegionId": REGION, "TaskIds": task});
    let ended = |answer: &Value| {
        let found = items(&answer["TaskSet"]["Task"]);
        assert_eq!(found.len(), 1, "the task is listed: {answer}");
        word(&found[0]["TaskStatus"]) != "Processing"
    };
    let answer = client.until("DescribeTasks", &question, ended);
    let listed = items(&answer["TaskSet"]["Task"])[0].clone();
    assert_eq!(word(&listed["TaskStatus"]), status, "{client}: {listed}");
    assert_eq!(word(&listed["SupportCancel"]), "false", "{client}: {listed}");
    let question = json!({"RegionId": REGION, "TaskId": task});
    let alone = client.call("DescribeTaskAttribute", &question);
    for field in ["TaskStatus", "TaskAction", "CreationTime", "FinishedTime"] {
        assert_eq!(word(&alone[field]), word(&listed[field]), "{client}: {field}");
        assert!(!word(&alone[field]).is_empty(), "{client}: {field}: {alone}");
    }
    alone
}

/// An image of the system disk; the instance may go on.
fn of_snapshot(client: &mut Client, machine: &Machine) -> String {
    let snapshot = snapshot(client, &machine.system, "golden");
    let asked = json!({
        "RegionId": REGION,
        "SnapshotId": snapshot,
        "ImageName": "golden 金",
        "Tag": [{"Key": "made", "Value": "by hand"}],
    });
    let image = word(&client.call("CreateImage", &asked)["ImageId"]);
    let shown = wait_for_image(client, &image);
    assert_eq!(word(&shown["ImageName"]), "golden 金", "{client}");
    let mapping = &items(&shown["DiskDeviceMappings"]["DiskDeviceMapping"])[0];
    assert_eq!(word(&mapping["SnapshotId"]), snapshot, "{client}: {shown}");
    let delete = json!({"SnapshotId": snapshot});
    client.refuses("DeleteSnapshot", &delete, "SnapshotCreatedImage", 403);
    image
}

fn copy(client: &mut Client, image: &str) -> String {
    let asked = json!({
        "RegionId": REGION,
        "ImageId": image,
        "DestinationRegionId": REGION,
        "DestinationImageName": "a copy",
    });
    let copy = word(&client.call("CopyImage", &asked)["ImageId"]);
    assert_eq!(word(&wait_for_image(client, &copy)["ImageName"]), "a copy", "{client}");
    copy
}

/// The name of the file that holds it then.
fn export(client: &mut Client, image: &str) -> String {
    let asked = json!({
        "RegionId": REGION,
        "ImageId": image,
        "OSSBucket": "images",
        "OSSPrefix": "out",
        "ImageFormat": "raw",
    });
    let task = word(&client.call("ExportImage", &asked)["TaskId"]);
    let ended = end(client, &task, "Finished");
    assert_eq!(word(&ended["TaskProcess"]), "100%", "{client}: {ended}");
    format!("out_{image}_system.raw")
}

/// It ends as failed, and nothing is left of the image.
fn cancel_an_import(client: &mut Client, bucket: &Path) {
    qemu::patterned_image(&bucket.join("large.raw"), LARGE_MIB);
    let (image, task) = (1..=TRIES).find_map(|turn| cancelled_import(client, turn)).unwrap();
    let ended = end(client, &task, "Failed");
    assert_eq!(word(&ended["FailedCount"]), "1", "{client}: {ended}");
    let all = "Creating,Waiting,Available,UnAvailable,CreateFailed";
    let question = json!({"RegionId": REGION, "ImageId": image, "Status": all});
    client.until("DescribeImages", &question, |answer| word(&answer["TotalCount"]) == "0");
}

/// None if it was over, or all but, before it could be cancelled.
fn cancelled_import(client: &mut Client, turn: u32) -> Option<(String, String)> {
    let (image, task) = import(client, "large.raw", &format!("large {turn}"));
    match client.ask("CancelTask", &json!({"RegionId": REGION, "TaskId": task})) {
        Ok(_) => Some((image, task)),
        Err(refused) => {
            assert!(word(&refused["code"]).starts_with("InvalidTaskId."), "{client}: {refused}");
            None
        }
    }
}
