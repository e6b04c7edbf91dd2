//! "A program reads `/openapi.json` and sends me what it makes of it." schemathesis, which knows nothing of the service
//! but that document and what signs its requests, finds no fault.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::{Value, json};
use tests::{
    ecs,
    program::run,
    qemu,
    sdk::{python, without_proxy},
    site::{Machine, REGION, Site, text},
};

/// Nothing is answered that the document does not tell of the action: no status, no type, no field, no code.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance";

/// Calls of each action. They are the same in every run.
const EXAMPLES: &str = "10";

#[test]
fn schemathesis_finds_no_fault_and_is_answered() {
    let (site, values) = prepared();
    let seen = site.scratch().join("seen.json");
    let client = site.ecs();
    let mut command = Command::new(python().with_file_name("schemathesis"));
    without_proxy(&mut command);
    command
        .current_dir(site.scratch())
        .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("stories/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
        .env("REINIT_KEY", &client.key.id)
        .env("REINIT_SECRET", &client.key.secret)
        .env("REINIT_VALUES", values.to_string())
        .env("REINIT_SEEN", &seen)
        .args(["--no-color", "run", &format!("http://{}/openapi.json", client.address)])
        .args(["--phases", "fuzzing", "--max-examples", EXAMPLES, "--seed", "1", "--no-shrink"])
        .args(["--checks", CHECKS])
        .args(["--generation-database", "none", "--generation-with-security-parameters", "false"])
        .args(["--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off"]);
    let outcome = run(&mut command);
    let seen: Value = serde_json::from_str(&fs::read_to_string(seen).unwrap()).unwrap();
    assert_eq!(seen["faults"], json!([]));
    outcome.ok();

    let (_, document) = ecs::get(&client.address, "/openapi.json");
    let document: Value = serde_json::from_str(&document).unwrap();
    let offered = document["paths"].as_object().unwrap().len();
    let asked: BTreeMap<String, BTreeMap<String, u64>> =
        serde_json::from_value(seen["actions"].clone()).unwrap();
    assert_eq!(asked.len(), offered, "{asked:#?}");
    let refused_always: Vec<_> =
        asked.iter().filter(|(_, statuses)| !statuses.contains_key("200")).collect();
    let answered = offered - refused_always.len();
    assert!(answered * 2 >= offered, "{answered} of {offered}; never: {refused_always:#?}");
    let (status, _) = ecs::get(&client.address, "/readyz");
    assert_eq!(status, 200);
}

/// A site with something of every kind, and the values that tell of them.
fn prepared() -> (Site, Value) {
    let directory = tempfile::Builder::new().prefix("reinit-").tempdir().unwrap();
    let bucket = directory.path().join("bucket");
    fs::create_dir(&bucket).unwrap();
    let config = format!("[buckets.images]\ndirectory = '{}'\n", bucket.display());
    let site = Site::inside(directory, &config, &[]);
    let raw = qemu::ext4_image(site.scratch(), 16);
    fs::copy(&raw, bucket.join("base.raw")).unwrap();
    let image = site.import(&raw, &[]);
    let used = |site: &Site| {
        let machine = site.machine(&image, &["5G"]);
        site.start(&machine.instance);
        site.stop(&machine.instance);
        machine
    };
    let Machine { instance, system, data } = used(&site);
    let running = site.machine(&image, &["5G"]);
    site.start(&running.instance);
    let other = used(&site);
    let snapshot = site.snapshot(&data[0]);
    let of_system = site.snapshot(&system);
    let call = |action: &str, own: &[(&str, &str)]| {
        site.ecs().call(action, &[&[REGION], own].concat()).ok().json()
    };
    let free = text(&call("CreateDisk", &[("Size", "20")]), "DiskId");
    let own = [("InstanceId", other.instance.as_str())];
    let group = text(&call("CreateSnapshotGroup", &own), "SnapshotGroupId");
    let tasks = call("DescribeTasks", &[]);
    let task = text(&tasks["TaskSet"]["Task"][0], "TaskId");
    let ids = |one: &str| [format!("[\"{one}\"]"), "[]".into()];
    let values = json!({
        "*": {
            "RegionId": ["cn-hangzhou"],
            "DiskId": [data[0], system, free, running.data[0]],
            "DiskIds": ids(&data[0]),
            "InstanceId": [instance, running.instance],
            "InstanceIds": ids(&instance),
            "SnapshotId": [snapshot, of_system],
            "SnapshotIds": ids(&snapshot),
            "SnapshotGroupId": [group],
            "ImageId": [image],
            "TaskId": [task],
            "TaskIds": [task],
            "ResourceId": [data[0]],
            "ResourceType": ["disk"],
            "InstanceType": ["ecs.g7.large"],
            "PageNumber": ["1", "2"],
            "PageSize": ["10", "100"],
            "MaxResults": ["10"],
        },
        "AttachDisk": { "DiskId": [free], "InstanceId": [instance] },
        "DetachDisk": { "DiskId": [other.data[0]], "InstanceId": [other.instance] },
        "CreateDisk": { "Size": ["20"] },
        "CreateImage": { "SnapshotId": [of_system] },
        "CreateSnapshot": { "DiskId": [data[0], running.data[0]] },
        "CreateSnapshotGroup": { "InstanceId": [instance, running.instance] },
        "ImportImage": { "OSSBucket": ["images"], "OSSObject": ["base.raw"] },
        "ExportImage": { "OSSBucket": ["images"] },
        "ModifyDiskAttribute": { "DiskId": [data[0], free], "DeleteAutoSnapshot": ["true", "false"] },
        "ReInitDisk": { "DiskId": [data[0], system] },
        "ReplaceSystemDisk": { "InstanceId": [other.instance] },
        "ResetDisk": { "DiskId": [data[0]], "SnapshotId": [snapshot] },
        "ResetDisks": { "Disk.1.DiskId": [data[0]], "Disk.1.SnapshotId": [snapshot] },
        "ResizeDisk": { "DiskId": [free, data[0]], "NewSize": ["30", "31", "32"] },
        "RunInstances": { "ImageId": [image] },
        "TagResources": { "Tag.1.Key": ["k", "another"] },
        "UntagResources": { "TagKey.1": ["k"], "All": ["true"] },
    });
    (site, values)
}
