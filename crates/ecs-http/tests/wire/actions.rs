//! The flows of real clients, and the shapes they rely on.

use std::io::Write as _;

use serde_json::Value;

use crate::{
    harness::{Answer, Service},
    signing::signed,
};

/// What a client reads as an attribute must be there, also when it is empty.
fn has(object: &Value, fields: &str) {
    for field in fields.split(' ') {
        assert!(object.get(field).is_some_and(|value| !value.is_null()), "{field} in {object}");
    }
}

/// An instance with a data disk: made, started, stopped, both disks reset, deleted.
#[test]
fn an_instance_from_its_making_to_its_end() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let own = [
        ("DataDisk.1.Size", "5"),
        ("InstanceName", "a<b>&数"),
        ("SecurityGroupId", "sg-1"),
        ("VSwitchId", "v-1"),
    ];
    let (id, disks) = service.instance(&key, &image, &own);
    assert_eq!(disks.len(), 2);

    let ids = format!("[\"{id}\"]");
    let page = service.call(&key, "DescribeInstances", &[("InstanceIds", &ids)]).ok();
    has(&page, "TotalCount PageNumber PageSize NextToken Instances");
    let one = &page["Instances"]["Instance"][0];
    has(
        one,
        "CreationTime Description DeviceAvailable EipAddress ExpiredTime HostName ImageId InnerIpAddress \
         InstanceChargeType InstanceId InstanceName InstanceNetworkType InstanceType InstanceTypeFamily \
         InternetChargeType IoOptimized KeyPairName NetworkInterfaces OSName OSType OperationLocks \
         PublicIpAddress RegionId SecurityGroupIds SerialNumber Status Tags VpcAttributes ZoneId",
    );
    assert_eq!(one["Status"], "Stopped");
    assert_eq!(one["InstanceName"], "a<b>&数");
    assert_eq!(one["SecurityGroupIds"]["SecurityGroupId"][0], "sg-1");
    assert_eq!(one["PublicIpAddress"]["IpAddress"], Value::Array(vec![]));
    let time = one["CreationTime"].as_str().unwrap();
    assert_eq!(time.len(), "2024-01-01T00:00Z".len(), "{time}");

    let reset = |disk: &str| service.call(&key, "ReInitDisk", &[("DiskId", disk)]);
    reset(&disks[0]).refused("IncorrectInstanceStatus", 403);
    service.start_instance(&key, &id);
    reset(&disks[0]).refused("IncorrectInstanceStatus", 403);
    service.stop_instance(&key, &id);
    for disk in &disks {
        reset(disk).ok();
    }
    let answer =
        service.call(&key, "ReInitDisk", &[("DiskId", &disks[0]), ("AutoStartInstance", "True")]);
    let request_id = answer.text("RequestId");
    let shown = service.operator("ShowDisk", &[("DiskId", &disks[0])]).ok();
    let last = &shown["LastReset"];
    assert_eq!(last["RequestId"], request_id.as_str());
    assert_eq!((&last["EpochBefore"], &last["EpochAfter"]), (&2.into(), &shown["Epoch"]));
    assert_eq!(last["Origin"], shown["Origin"]);
    assert_eq!(last["Root"].as_str().unwrap().len(), 64, "{last}");
    let verified = service.operator("VerifyDisk", &[("DiskId", &disks[0])]).ok();
    assert_eq!(verified["Root"], last["Root"]);
    service.call(&key, "RebootInstance", &[("InstanceId", &id)]).ok();
    service
        .call(&key, "DeleteInstance", &[("InstanceId", &id)])
        .refused("IncorrectInstanceStatus", 403);
    service.call(&key, "DeleteInstance", &[("InstanceId", &id), ("Force", "true")]).ok();
    let page = service.call(&key, "DescribeInstances", &[("InstanceIds", &ids)]).ok();
    assert_eq!(
        (&page["TotalCount"], &page["Instances"]["Instance"]),
        (&0.into(), &Value::Array(vec![]))
    );
}

/// A snapshot, a disk from it, attached and reset; then its source is deleted.
#[test]
fn a_disk_from_a_snapshot() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (instance, disks) = service.used_instance(&key, &image, &[("DataDisk.1.Size", "5")]);
    let snapshot = service.snapshot(&key, &disks[1]);
    let ids = format!("[\"{snapshot}\"]");
    let found = service.call(&key, "DescribeSnapshots", &[("SnapshotIds", &ids)]).ok();
    has(
        &found["Snapshots"]["Snapshot"][0],
        "Category CreationTime Description Encrypted ProductCode Progress RegionId SnapshotId SnapshotName \
         SourceDiskId SourceDiskSize SourceDiskType SourceSnapshotId Status Tags Usage",
    );
    assert_eq!(found["Snapshots"]["Snapshot"][0]["SourceDiskSize"], "5");

    let disk = service
        .call(&key, "CreateDisk", &[("SnapshotId", &snapshot), ("Size", "5")])
        .text("DiskId");
    let describe = || {
        let ids = format!("[\"{disk}\"]");
        service.call(&key, "DescribeDisks", &[("DiskIds", &ids)]).ok()
    };
    let shown = describe();
    let one = &shown["Disks"]["Disk"][0];
    has(
        one,
        "AttachedTime Category CreationTime DeleteAutoSnapshot DeleteWithInstance Description DetachedTime Device \
         DiskChargeType DiskId DiskName EnableAutoSnapshot Encrypted ExpiredTime ImageId InstanceId OperationLocks \
         Portable ProductCode RegionId SerialNumber Size SourceDiskId SourceSnapshotId Status Tags Type ZoneId",
    );
    assert_eq!((&one["Status"], &one["Size"]), (&"Available".into(), &5.into()));
    assert_eq!(one["SourceSnapshotId"], snapshot.as_str());
    assert_eq!(one["AttachedTime"], "");

    let reset = || service.call(&key, "ReInitDisk", &[("DiskId", &disk)]);
    reset().refused("IncorrectDiskStatus", 403);
    service.call(&key, "AttachDisk", &[("DiskId", &disk), ("InstanceId", &instance)]).ok();
    assert_eq!(describe()["Disks"]["Disk"][0]["Status"], "In_use");
    service.call(&key, "ResizeDisk", &[("DiskId", &disk), ("NewSize", "9")]).ok();
    assert_eq!(describe()["Disks"]["Disk"][0]["Size"], 9);
    reset().ok();
    let delete = |force| {
        service.call(&key, "DeleteSnapshot", &[("SnapshotId", &snapshot), ("Force", force)])
    };
    delete("false").refused("SnapshotCreatedDisk", 403);
    delete("true").ok();
    reset().refused("InvalidSourceSnapshot", 403);
    service.call(&key, "DeleteDisk", &[("DiskId", &disk)]).refused("DiskStillAttached", 403);
    service.call(&key, "DetachDisk", &[("DiskId", &disk), ("InstanceId", &instance)]).ok();
    crate::harness::wait(|| describe()["Disks"]["Disk"][0]["Status"] == "Available");
    service.call(&key, "DeleteDisk", &[("DiskId", &disk)]).ok();
    assert_eq!(describe()["TotalCount"], 0);
}

#[test]
fn a_disk_goes_back_to_one_of_its_snapshots() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (_, disks) = service.used_instance(&key, &image, &[("DataDisk.1.Size", "5")]);
    let snapshot = service.snapshot(&key, &disks[1]);
    let reset = |disk: &str, dry: &str| {
        service.call(
            &key,
            "ResetDisk",
            &[("DiskId", disk), ("SnapshotId", &snapshot), ("DryRun", dry)],
        )
    };
    reset(&disks[1], "true").refused("DryRunOperation", 400);
    reset(&disks[1], "false").ok();
    reset(&disks[0], "false").refused("InvalidParameter.Mismatch", 403);
    service
        .call(&key, "ReInitDisk", &[("DiskId", &disks[1]), ("DryRun", "true")])
        .refused("DryRunOperation", 400);
}

#[test]
fn images_are_described_shared_and_deleted() {
    let service = Service::start();
    let (owner, other) = (service.key_of("owner", "full"), service.key_of("other", "full"));
    let image = service.image("owner", "base", &[]);
    let number = service.operator("ListAccounts", &[]).ok()["Accounts"]["Account"]
        .as_array()
        .unwrap()
        .iter()
        .find(|account| account["Account"] == "other")
        .unwrap()["AccountNumber"]
        .as_str()
        .unwrap()
        .to_owned();
    let seen =
        |key| service.call(key, "DescribeImages", &[("ImageId", &format!("{image},m-x"))]).ok();
    assert_eq!(seen(&other)["TotalCount"], 0);
    let share = |name: &str| {
        service.call(&owner, "ModifyImageSharePermission", &[("ImageId", &image), (name, &number)])
    };
    share("AddAccount.1").ok();
    let found = seen(&other);
    let one = &found["Images"]["Image"][0];
    has(
        one,
        "Architecture CreationTime Description DiskDeviceMappings ImageId ImageName ImageOwnerAlias ImageOwnerId \
         ImageVersion IsCopied IsSelfShared IsSubscribed OSName OSType Platform ProductCode Progress Size Status Tags Usage",
    );
    assert_eq!((&one["ImageOwnerAlias"], &one["IsSelfShared"]), (&"others".into(), &"".into()));
    assert_eq!(seen(&owner)["Images"]["Image"][0]["IsSelfShared"], "sharing");
    let shares = service.call(&owner, "DescribeImageSharePermission", &[("ImageId", &image)]).ok();
    assert_eq!(shares["Accounts"]["Account"][0]["AliyunId"], number.as_str());
    has(&shares, "ImageId RegionId ShareGroups TotalCount PageNumber PageSize");
    let delete = || service.call(&owner, "DeleteImage", &[("ImageId", &image)]);
    delete().refused("ImageUseShared", 403);
    share("RemoveAccount.1").ok();
    service
        .call(&other, "DeleteImage", &[("ImageId", &image)])
        .refused("InvalidImageId.NotFound", 404);
    delete().ok();
    assert_eq!(seen(&owner)["TotalCount"], 0);
}

#[test]
fn what_there_is_to_choose_from() {
    let service = Service::start();
    let key = service.key();
    let zones = service.call(&key, "DescribeZones", &[]).ok();
    let zone = &zones["Zones"]["Zone"][0];
    has(
        zone,
        "AvailableDiskCategories AvailableInstanceTypes AvailableResourceCreation LocalName ZoneId",
    );
    assert!(zone["AvailableDiskCategories"]["DiskCategories"].as_array().unwrap().len() > 3);
    let types = service.call(&key, "DescribeInstanceTypes", &[]).ok();
    let kind = &types["InstanceTypes"]["InstanceType"][0];
    has(kind, "CpuCoreCount InstanceTypeFamily InstanceTypeId MemorySize");
    assert!(kind["MemorySize"].is_f64());
    let image = service.image("default", "base", &[]);
    let (id, _) = service.instance(&key, &image, &[("UserData", "IyEvYmluL3No")]);
    let data = service.call(&key, "DescribeUserData", &[("InstanceId", &id)]).ok();
    assert_eq!(data["UserData"], "IyEvYmluL3No");
    service
        .call(&key, "DescribeUserData", &[("InstanceId", "i-1")])
        .refused("InvalidInstanceId.NotFound", 404);
    let states = service.call(&key, "DescribeInstanceStatus", &[("InstanceId.1", &id)]).ok();
    assert_eq!(states["InstanceStatuses"]["InstanceStatus"][0]["Status"], "Stopped");
}

#[test]
fn several_instances_with_tags_and_a_token() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let own = [
        ("ImageId", image.as_str()),
        ("InstanceType", "ecs.g7.large"),
        ("Amount", "3"),
        ("Tag.1.Key", "k"),
        ("Tag.1.Value", "v"),
        ("ClientToken", "once"),
        ("IoOptimized", "optimized"),
        ("UniqueSuffix", "False"),
        ("SystemDisk.Size", "20"),
    ];
    let ids = || {
        let made = service.call(&key, "RunInstances", &own).ok();
        made["InstanceIdSets"]["InstanceIdSet"].as_array().unwrap().clone()
    };
    let first = ids();
    assert_eq!(first.len(), 3);
    assert_eq!(ids(), first, "the same token, the same answer");
    let tagged = service
        .call(
            &key,
            "DescribeInstances",
            &[("Tag.1.Key", "k"), ("Tag.1.Value", "v"), ("PageSize", "2")],
        )
        .ok();
    assert_eq!(tagged["TotalCount"], 3);
    assert_eq!(tagged["Instances"]["Instance"].as_array().unwrap().len(), 2);
    let past = service.call(&key, "DescribeInstances", &[("PageNumber", "9")]).ok();
    assert_eq!(past["Instances"]["Instance"], Value::Array(vec![]));
    let none = service.call(&key, "DescribeInstances", &[("InstanceIds", "[]")]).ok();
    assert_eq!(none["TotalCount"], 0);
    let id = first[0].as_str().unwrap();
    let tag = [
        ("ResourceType", "instance"),
        ("ResourceId.1", id),
        ("Tag.1.Key", "x"),
        ("Tag.1.Value", "y"),
    ];
    service.call(&key, "TagResources", &tag).ok();
    let listed = service
        .call(&key, "ListTagResources", &[("ResourceType", "instance"), ("ResourceId.1", id)])
        .ok();
    assert_eq!(listed["TagResources"]["TagResource"].as_array().unwrap().len(), 2);
    service
        .call(
            &key,
            "UntagResources",
            &[("ResourceType", "instance"), ("ResourceId.1", id), ("All", "true")],
        )
        .ok();
}

#[test]
fn what_the_reference_asks_for_is_asked_for() {
    let service = Service::start();
    let key = service.key();
    for (action, missing) in [
        ("ReInitDisk", "DiskId"),
        ("ResetDisk", "DiskId"),
        ("DeleteDisk", "DiskId"),
        ("AttachDisk", "DiskId"),
        ("DetachDisk", "DiskId"),
        ("ResizeDisk", "DiskId"),
        ("CreateSnapshot", "DiskId"),
        ("DeleteSnapshot", "SnapshotId"),
        ("DeleteImage", "ImageId"),
        ("StartInstance", "InstanceId"),
        ("CreateInstance", "InstanceType"),
    ] {
        let answer = service.call(&key, action, &[]);
        answer.refused("MissingParameter", 400);
        assert!(answer.json()["Message"].as_str().unwrap().contains(missing), "{answer:?}");
    }
    for (action, own, code, status) in [
        ("ResizeDisk", ("DiskId", "d-1"), "MissingParameter", 400),
        ("DescribeDisks", ("DiskIds", "d-1"), "InvalidParameter.DiskIds", 400),
        ("DescribeDisks", ("Status", "Broken"), "InvalidStatus.ValueNotSupported", 400),
        ("DescribeDisks", ("DiskType", "tape"), "InvalidDiskType.ValueNotSupported", 400),
        ("DescribeDisks", ("PageSize", "101"), "InvalidParameter", 400),
        ("DescribeDisks", ("LockReason", "mood"), "InvalidLockReason.NotFound", 404),
        ("DescribeSnapshots", ("Status", "x"), "InvalidStatus.NotFound", 404),
        ("DescribeSnapshots", ("Filter.1.Key", "x"), "InvalidFilterKey.NotFound", 404),
        (
            "DescribeImages",
            ("ImageOwnerAlias", "me"),
            "InvalidImageOwnerAlias.ValueNotSupported",
            400,
        ),
        ("CreateDisk", ("Size", "99999999999999999999"), "InvalidParameter", 400),
        ("CreateDisk", ("Size", "99999999999"), "InvalidParameter", 400),
        ("CreateDisk", ("DiskName", "x"), "InvalidDiskName.Malformed", 400),
        ("ReInitDisk", ("AutoStartInstance", "maybe"), "MissingParameter", 400),
        ("DescribeZones", ("RegionId", ""), "MissingParameter", 400),
        ("TagResources", ("ResourceId.1", "d-1"), "MissingParameter.ResourceType", 404),
    ] {
        service.call(&key, action, &[own]).refused(code, status);
    }
}

/// One client adds attributes in the order of arrival, and never ends if this order is another.
#[test]
fn keys_arrive_in_alphabetical_order_at_every_depth() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    service.instance(&key, &image, &[]);
    let text = service.call(&key, "DescribeInstances", &[]).body;
    let sorted: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(text, sorted.to_string());
    assert!(text.find("EipAddress").unwrap() < text.find("PublicIpAddress").unwrap());
}

#[test]
fn any_text_comes_back_in_xml() {
    let service = Service::start();
    let key = service.key();
    let name = "a<b>&\"'数";
    service.call(&key, "CreateDisk", &[("Size", "5"), ("DiskName", name)]).ok();
    let mut stream = service.connect();
    let request = signed(&key, "GET", "XML", "DescribeDisks", &[]).request("GET");
    stream.write_all(request.as_bytes()).unwrap();
    let xml = Answer::read(&mut stream).body;
    assert!(xml.contains("<DiskName>a&lt;b&gt;&amp;&quot;&apos;数</DiskName>"), "{xml}");
    assert!(xml.contains("<TotalCount>1</TotalCount>"), "{xml}");
    assert!(xml.contains("<OperationLocks></OperationLocks>"), "{xml}");
}
