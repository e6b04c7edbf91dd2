//! CreateImage in its three forms over the wire.

use serde_json::Value;

use crate::{
    harness::{Service, wait},
    signing::signed,
};

#[test]
fn an_image_of_an_instance_or_of_snapshots() {
    let service = Service::start();
    let key = service.key();
    let base = service.image("default", "base", &[]);
    let (id, disks) = service.instance(&key, &base, &[("DataDisk.1.Size", "5")]);
    let call = |own: &[(&str, &str)]| service.call(&key, "CreateImage", own);
    call(&[("InstanceId", &id)]).refused("IncorrectInstanceStatus", 400);
    service.start_instance(&key, &id);
    let snapshots = [service.snapshot(&key, &disks[0]), service.snapshot(&key, &disks[1])];
    let [system, data] = [snapshots[0].as_str(), snapshots[1].as_str()];

    call(&[]).refused("MissingParameter", 400);
    call(&[("InstanceId", &id), ("SnapshotId", system)]).refused("InvalidParameter.Conflict", 400);
    call(&[("InstanceId", "i-no")]).refused("InvalidInstanceId.NotFound", 404);
    call(&[("SnapshotId", "s-no")]).refused("InvalidSnapshotId.NotFound", 404);
    call(&[("SnapshotId", data)]).refused("OperationDenied", 403);
    let one = ("DiskDeviceMapping.1.SnapshotId", system);
    let two = ("DiskDeviceMapping.2.SnapshotId", data);
    call(&[two]).refused("OperationDenied", 400);
    call(&[one, ("DiskDeviceMapping.2.SnapshotId", system)]).refused("OperationDenied", 400);
    call(&[one, two, ("DiskDeviceMapping.2.Size", "1")])
        .refused("InvalidSize.ValueNotSupported", 400);
    call(&[one, two, ("DiskDeviceMapping.2.Device", "sdb")])
        .refused("InvalidDevice.Malformed", 400);
    let device = ("DiskDeviceMapping.2.Device", "/dev/xvdc");
    let third = [("DiskDeviceMapping.3.Size", "2"), ("DiskDeviceMapping.3.Device", "/dev/xvdc")];
    call(&[&[one, two, device], &third[..]].concat()).refused("InvalidDevice.InUse", 400);
    call(&[one, ("DiskDeviceMapping.1.DiskType", "odd")])
        .refused("InvalidDiskType.ValueNotSupported", 400);
    call(&[one, two, ("ImageName", "base")]).refused("InvalidImageName.Duplicated", 400);
    call(&[one, two, ("DryRun", "true")]).refused("DryRunOperation", 400);

    let made = call(&[one, two, device]).text("ImageId");
    let shown = |id: &str| {
        let asked = [("ImageId", id), ("Status", "Creating,Available")];
        service.call(&key, "DescribeImages", &asked).ok()["Images"]["Image"][0].clone()
    };
    let mappings = |image: &Value| image["DiskDeviceMappings"]["DiskDeviceMapping"].clone();
    let of_disks = mappings(&shown(&made));
    assert_eq!(
        (&of_disks[0]["Type"], &of_disks[0]["SnapshotId"]),
        (&"system".into(), &system.into())
    );
    assert_eq!((&of_disks[1]["Device"], &of_disks[1]["Size"]), (&"/dev/xvdc".into(), &"5".into()));

    let own = [("InstanceId", id.as_str()), ("ImageName", "whole"), ("ClientToken", "c-1")];
    let xml = service.send(signed(&key, "GET", "XML", "CreateImage", &own).request("GET"));
    assert_eq!(xml.status, 200, "{}", xml.body);
    let whole = call(&own).text("ImageId");
    assert!(xml.body.contains(&format!("<ImageId>{whole}</ImageId>")), "{}", xml.body);
    let in_state = |status: &str| {
        service.call(&key, "DescribeImages", &[("ImageId", &whole), ("Status", status)])
    };
    assert_eq!(in_state("ALL").ok()["TotalCount"], 1, "whatever its state");
    in_state("odd").refused("InvalidParamter", 400);
    wait(|| shown(&whole)["Status"] == "Available");
    let of_instance = mappings(&shown(&whole));
    assert_eq!(of_instance.as_array().unwrap().len(), 2);
    assert_eq!(
        (&of_instance[1]["Device"], &of_instance[1]["Progress"]),
        (&"/dev/xvdb".into(), &"100%".into())
    );
    let (_, copied) = service.instance(&key, &whole, &[]);
    assert_eq!(copied.len(), 2);
}

#[test]
fn a_copy_is_an_image_of_ones_own() {
    let service = Service::start();
    let (key, friend) = (service.key(), service.key_of("friend", "full"));
    let image = service.image("default", "base", &[("Public", "true")]);
    let base =
        [("ImageId", image.as_str()), ("DestinationImageName", "mine"), ("ClientToken", "c")];
    let call = |more: &[(&'static str, &'static str)]| {
        service.call(&friend, "CopyImage", &[&base[..], more].concat())
    };
    call(&[("ImageId", "")]).refused("MissingParameter", 400);
    call(&[("ImageId", "m-no")]).refused("InvalidImageId.NotFound", 404);
    call(&[("DestinationRegionId", "mars")]).refused("DestinationRegion.NotFound", 400);
    call(&[("DestinationImageName", "x")]).refused("InvalidImageName.Malformed", 400);
    call(&[("DryRun", "true")]).refused("DryRunOperation", 400);
    let here = [&base[..], &[("DestinationRegionId", "cn-hangzhou")]].concat();
    let xml = service.send(signed(&friend, "GET", "XML", "CopyImage", &here).request("GET"));
    assert_eq!(xml.status, 200, "{}", xml.body);
    let copy = call(&[]).text("ImageId");
    assert!(xml.body.contains(&format!("<ImageId>{copy}</ImageId>")), "{}", xml.body);
    call(&[("ClientToken", "d")]).refused("InvalidImageName.Duplicated", 400);
    service.call(&key, "CopyImage", &[("ImageId", &copy)]).refused("InvalidImageId.NotFound", 404);
    let found = service.call(&friend, "DescribeImages", &[("ImageOwnerAlias", "self")]).ok();
    let shown = &found["Images"]["Image"][0];
    assert_eq!((&shown["ImageId"], &shown["ImageName"]), (&copy.into(), &"mine".into()));
    assert_eq!(shown["IsPublic"], false);
}
