//! Every action, answered at least once in each format it is told in, with something in every list.
//!
//! What must always hold: whatever is told has been seen. Of a list that is always empty, or an action that
//! is answered nowhere, nobody would notice that it is told wrongly.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
};

use block_device::{BlockDevice as _, ByteOffset, Durability};
use cloud::{Bucket, Settings};
use ecs_http::Limits;
use serde_json::Value;

use crate::{
    harness::{Service, wait},
    told::{Door, document},
};

/// Lists in which nothing is here: no network, no groups of accounts, no lock of a disk by itself. What a
/// scrub finds, a backup misses and a verification sees differ takes damage.
const EMPTY: &[&str] = &[
    "BeginBackup.LostLayers.LayerId",
    "CancelScrub.Findings.ScrubFinding",
    "DescribeDisks.Disks.Disk.OperationLocks.OperationLock",
    "DescribeImageSharePermission.ShareGroups.ShareGroup",
    "DescribeInstances.Instances.Instance.InnerIpAddress.IpAddress",
    "DescribeInstances.Instances.Instance.NetworkInterfaces.NetworkInterface",
    "DescribeInstances.Instances.Instance.PublicIpAddress.IpAddress",
    "ShowDisk.OperationLocks.OperationLock",
    "ShowScrub.Findings.ScrubFinding",
    "StartScrub.Findings.ScrubFinding",
    "VerifyDisk.DiffersAt.Range",
];

const TAG: [(&str, &str); 2] = [("Tag.1.Key", "k"), ("Tag.1.Value", "a<b>&\"c\"")];

/// An operator who keeps in mind what was answered.
struct Operator {
    service: Service,
    directory: tempfile::TempDir,
    answered: RefCell<BTreeMap<String, Vec<Value>>>,
}

impl Operator {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bucket = Bucket { directory: directory.path().to_owned(), accounts: None };
        let buckets = [("images".to_owned(), bucket)].into();
        let settings = Settings { buckets, ..Settings::default() };
        let service = Service::with(Limits::default(), settings);
        Self { service, directory, answered: RefCell::default() }
    }

    /// What only looks is asked in both formats, and is the same in both.
    fn ask(&self, action: &str, parameters: &[(&str, &str)]) -> Value {
        let (answer, in_xml) = self.service.operator_in("XML", action, parameters);
        assert_eq!(answer.status, 200, "{action}: {answer:?}");
        let looks = ["Describe", "List", "Show", "Plan", "Verify"];
        if looks.iter().any(|look| action.starts_with(look)) {
            let mut in_json = self.service.operator_in("JSON", action, parameters).1;
            in_json["RequestId"] = in_xml["RequestId"].clone();
            assert_eq!(in_json, in_xml, "{action}");
        }
        self.keep(action, in_xml.clone());
        in_xml
    }

    fn keep(&self, action: &str, answer: Value) {
        self.answered.borrow_mut().entry(action.into()).or_default().push(answer);
    }

    fn text(&self, action: &str, parameters: &[(&str, &str)], field: &str) -> String {
        self.ask(action, parameters)[field].as_str().unwrap().to_owned()
    }

    /// A file of that many MiB, each of another content.
    fn file(&self, name: &str, mebibytes: u8) -> String {
        let path = self.directory.path().join(name);
        let bytes: Vec<_> = (1..=mebibytes).flat_map(|byte| vec![byte; 1 << 20]).collect();
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn until(&self, action: &str, parameters: &[(&str, &str)], pointer: &str, so: &str) {
        wait(|| self.service.operator(action, parameters).ok().pointer(pointer).unwrap() == so);
    }

    fn finished(&self, task: &str) {
        self.until("ShowTask", &[("TaskId", task)], "/TaskStatus", "Finished");
    }

    fn in_power(&self, instance: &str, status: &str) {
        let one = [("InstanceId.1", instance)];
        self.until(
            "DescribeInstanceStatus",
            &one,
            "/InstanceStatuses/InstanceStatus/0/Status",
            status,
        );
    }

    fn accomplished(&self, disk: &str) -> String {
        let snapshot = self.text("CreateSnapshot", &[("DiskId", disk)], "SnapshotId");
        let ids = format!("[\"{snapshot}\"]");
        let one = [("SnapshotIds", ids.as_str())];
        self.until("DescribeSnapshots", &one, "/Snapshots/Snapshot/0/Status", "accomplished");
        snapshot
    }

    fn tag(&self, kind: &str, id: &str) {
        let what = [("ResourceType", kind), ("ResourceId.1", id), TAG[0], TAG[1]];
        self.ask("TagResources", &what);
    }

    /// Writes to a disk, as its guest would.
    fn write(&self, disk: &str) {
        let device = self.service.cloud.store().open_disk(&disk.parse().unwrap()).unwrap();
        device.write_at(&[5; 4096], ByteOffset::ZERO, Durability::ForceUnitAccess).unwrap();
    }
}

fn keys_and_accounts(operator: &Operator) {
    operator.ask("CreateAccessKey", &[("Account", "lab"), ("Temporary", "true")]);
    let key = operator.text("CreateAccessKey", &[("Account", "lab")], "AccessKeyId");
    operator.ask("ListAccessKeys", &[]);
    operator.ask("DisableAccessKey", &[("AccessKeyId", &key)]);
    operator.ask("DeleteAccessKey", &[("AccessKeyId", &key)]);
    operator.ask("SetAccount", &[("Account", "lab"), ("QuotaInBytes", "1")]);
    operator.ask("ListAccounts", &[]);
    for place in ["DescribeRegions", "DescribeZones", "DescribeInstanceTypes"] {
        operator.ask(place, &[]);
    }
}

/// An image, imported from a file.
fn images(operator: &Operator) -> String {
    let path = operator.file("base.raw", 2);
    let asked =
        [("Path", path.as_str()), ("ImageName", "base"), ("Public", "true"), TAG[0], TAG[1]];
    let begun = operator.ask("ImportImageFile", &asked);
    let (image, task) = (begun["ImageId"].as_str().unwrap(), begun["TaskId"].as_str().unwrap());
    operator.finished(task);
    operator.ask("ShowTask", &[("TaskId", task)]);
    operator.ask("DescribeTasks", &[]);
    operator.ask("DescribeTaskAttribute", &[("TaskId", task)]);
    let out = operator.directory.path().join("out.raw");
    operator.ask("ExportImageFile", &[("ImageId", image), ("Path", out.to_str().unwrap())]);
    let copy = operator.text("CopyImage", &[("ImageId", image)], "ImageId");
    let accounts = operator.ask("ListAccounts", &[]);
    let accounts = accounts["Accounts"]["Account"].as_array().unwrap();
    let lab = accounts.iter().find(|one| one["Account"] == "lab").unwrap();
    let share =
        [("ImageId", copy.as_str()), ("AddAccount.1", lab["AccountNumber"].as_str().unwrap())];
    operator.ask("ModifyImageSharePermission", &share);
    operator.ask("DescribeImageSharePermission", &[("ImageId", &copy)]);
    operator
        .ask("ModifyImageSharePermission", &[("ImageId", &copy), ("RemoveAccount.1", share[1].1)]);
    operator.ask("DeleteImage", &[("ImageId", &copy)]);
    image.to_owned()
}

fn buckets(operator: &Operator, image: &str) {
    let task =
        operator.text("ExportImage", &[("ImageId", image), ("OSSBucket", "images")], "TaskId");
    operator.finished(&task);
    operator.file("large.raw", 64);
    let import = [
        ("DiskDeviceMapping.1.OSSBucket", "images"),
        ("DiskDeviceMapping.1.OSSObject", "large.raw"),
    ];
    // One may be done before it can be cancelled.
    wait(|| {
        let task = operator.text("ImportImage", &import, "TaskId");
        let cancel = operator.service.operator_in("XML", "CancelTask", &[("TaskId", &task)]);
        let is_cancelled = cancel.0.status == 200;
        if is_cancelled {
            operator.keep("CancelTask", cancel.1);
        }
        is_cancelled
    });
}

/// An instance with its disks, which was started once and is stopped.
fn instances(operator: &Operator, image: &str) -> (String, String, String) {
    let asked = [
        ("ImageId", image),
        ("DataDisk.1.Size", "5"),
        ("SecurityGroupId", "sg-1"),
        ("PrivateIpAddress", "10.0.0.1"),
        TAG[0],
        TAG[1],
        ("Password", "Geheim-123"),
    ];
    let id = operator.text("CreateInstance", &asked, "InstanceId");
    let found = operator.ask("DescribeDisks", &[("InstanceId", &id)]);
    let of = |kind: &str| {
        let mut disks = found["Disks"]["Disk"].as_array().unwrap().iter();
        disks.find(|disk| disk["Type"] == kind).unwrap()["DiskId"].as_str().unwrap().to_owned()
    };
    let (system, data) = (of("system"), of("data"));
    let one = [("InstanceId", id.as_str())];
    let several = [("InstanceId.1", id.as_str())];
    operator.ask("ModifyInstanceAttribute", &[one[0], ("HostName", "host-1")]);
    operator.ask("DescribeUserData", &one);
    operator.ask("ShowInstanceSeed", &one);
    for (change, status, parameters) in [
        ("StartInstance", "Running", &one),
        ("RebootInstance", "Running", &one),
        ("StopInstance", "Stopped", &one),
        ("StartInstances", "Running", &several),
        ("RebootInstances", "Running", &several),
    ] {
        operator.ask(change, parameters);
        operator.in_power(&id, status);
    }
    operator.write(&system);
    operator.ask("StopInstances", &several);
    operator.in_power(&id, "Stopped");
    operator.ask("LockInstance", &[one[0], ("LockReason", "security")]);
    operator.ask("DescribeInstances", &[]);
    operator.ask("UnlockInstance", &one);
    operator.ask("DescribeInstanceStatus", &[]);
    (id, system, data)
}

fn snapshots(operator: &Operator, image: &str, instance: &str, system: &str) {
    let snapshot = operator.accomplished(system);
    operator.tag("snapshot", &snapshot);
    let kind = [("ResourceType", "snapshot"), ("ResourceId.1", snapshot.as_str())];
    operator.ask("DescribeSnapshots", &[]);
    operator.ask("ListTagResources", &kind);
    operator.ask("UntagResources", &[kind[0], kind[1], ("All", "true")]);
    operator.ask("ResetDisk", &[("DiskId", system), ("SnapshotId", &snapshot)]);
    operator.ask("ResetDisks", &[("Disk.1.DiskId", system), ("Disk.1.SnapshotId", &snapshot)]);
    operator.ask("HardenImage", &[("ImageId", image), ("SnapshotId", &snapshot)]);
    operator.ask("DescribeImages", &[]);
    operator.ask("SoftenImage", &[("ImageId", image)]);
    let made = operator.text("CreateImage", &[("SnapshotId", &snapshot)], "ImageId");
    operator.ask("DescribeImages", &[]);
    operator.ask("DeleteImage", &[("ImageId", &made)]);
    operator.ask("DeleteSnapshot", &[("SnapshotId", &snapshot)]);
    let asked = [("InstanceId", instance), TAG[0], TAG[1]];
    let group = operator.text("CreateSnapshotGroup", &asked, "SnapshotGroupId");
    let one = [("SnapshotGroupId.1", group.as_str())];
    operator.until(
        "DescribeSnapshotGroups",
        &one,
        "/SnapshotGroups/SnapshotGroup/0/Status",
        "accomplished",
    );
    for snapshot in
        operator.ask("DescribeSnapshots", &[])["Snapshots"]["Snapshot"].as_array().unwrap()
    {
        operator.tag("snapshot", snapshot["SnapshotId"].as_str().unwrap());
    }
    operator.ask("DescribeSnapshotGroups", &one);
    operator.ask("DeleteSnapshotGroup", &[("SnapshotGroupId", &group)]);
}

fn resets(operator: &Operator, system: &str, data: &str) {
    let several = [("DiskId.1", system), ("DiskId.2", data), ("DiskId.3", "d-no")];
    operator.ask("PlanReInitDisks", &several);
    operator.ask("ReInitDisks", &[several[0], several[1], several[2], ("Keep", "true")]);
    // What was kept is still being hashed, which a reset does not wait for.
    let hashed = [("Status", "progressing")];
    wait(|| operator.service.operator("DescribeSnapshots", &hashed).ok()["TotalCount"] == 0);
    operator.ask("ReInitDisk", &[("DiskId", system)]);
    operator.tag("disk", system);
    operator.ask("ShowDisk", &[("DiskId", system)]);
    operator.ask("VerifyDisk", &[("DiskId", system), ("Deep", "true")]);
    operator.ask("LimitDisk", &[("DiskId", system), ("Iops", "1000")]);
    operator.ask("ReclaimDisk", &[("DiskId", system)]);
    operator.ask("BeginBackup", &[]);
    operator.ask("StartScrub", &[("Rate", "0")]);
    operator.until("ShowScrub", &[], "/Status", "Finished");
    operator.ask("ShowScrub", &[]);
    operator.ask("CancelScrub", &[]);
}

fn disks(operator: &Operator, image: &str, instance: &str, system: &str, data: &str) {
    let place = [("DiskId", data), ("InstanceId", instance)];
    operator.ask("DetachDisk", &place);
    operator.ask("AttachDisk", &place);
    operator.ask("ResizeDisk", &[("DiskId", data), ("NewSize", "6")]);
    operator.ask("ModifyDiskAttribute", &[("DiskId", data), ("DiskName", "named")]);
    let alone = operator.text("CreateDisk", &[("Size", "5")], "DiskId");
    operator.ask("DescribeDisks", &[]);
    operator.ask("DeleteDisk", &[("DiskId", &alone)]);
    operator.ask("VerifyDisk", &[("DiskId", system)]);
    operator.ask("ReplaceSystemDisk", &[("InstanceId", instance), ("ImageId", image)]);
    let several = operator.ask("RunInstances", &[("ImageId", image), ("Amount", "2")]);
    for id in several["InstanceIdSets"]["InstanceIdSet"].as_array().unwrap() {
        let one = [("InstanceId", id.as_str().unwrap()), ("Force", "true")];
        operator.ask("DeleteInstance", &one);
    }
    let another = operator.ask("RunInstances", &[("ImageId", image)]);
    let id = another["InstanceIdSets"]["InstanceIdSet"][0].as_str().unwrap();
    operator.ask("DeleteInstances", &[("InstanceId.1", id), ("Force", "true")]);
}

/// The lists of a schema in which no answer had anything.
fn empty_lists(schema: &Value, answers: &[&Value], path: &str, empty: &mut BTreeSet<String>) {
    for (name, told) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let inner = answers.iter().filter_map(|answer| answer.get(name));
        if told["type"] == "array" {
            let items: Vec<_> = inner.flat_map(|list| list.as_array().unwrap()).collect();
            if items.is_empty() {
                empty.insert(path);
            } else {
                empty_lists(&told["items"], &items, &path, empty);
            }
        } else {
            empty_lists(told, &inner.collect::<Vec<_>>(), &path, empty);
        }
    }
}

#[test]
fn every_action_answers_what_is_told_of_it() {
    let operator = Operator::new();
    keys_and_accounts(&operator);
    let image = images(&operator);
    buckets(&operator, &image);
    let (instance, system, data) = instances(&operator, &image);
    snapshots(&operator, &image, &instance, &system);
    resets(&operator, &system, &data);
    disks(&operator, &image, &instance, &system, &data);

    let document = document(Door::Control);
    let mut empty = BTreeSet::new();
    let answered = operator.answered.borrow();
    let mut missing: BTreeSet<_> = document["paths"].as_object().unwrap().keys().collect();
    for (action, answers) in answered.iter() {
        missing.remove(&format!("/?Action={action}"));
        let schema = &document["components"]["schemas"][format!("{action}Response")];
        empty_lists(schema, &answers.iter().collect::<Vec<_>>(), action, &mut empty);
    }
    assert!(missing.is_empty(), "never answered here: {missing:#?}");
    // Both ways: what is no longer empty leaves the list.
    assert_eq!(empty, EMPTY.iter().map(|path| (*path).to_owned()).collect());
}
