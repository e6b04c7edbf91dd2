//! ReplaceSystemDisk over the wire: its codes, and a disk in the old one's place.

use crate::{harness::Service, signing::signed};

#[test]
fn a_system_disk_is_replaced() {
    let service = Service::start();
    let key = service.key();
    let (first, second) =
        (service.image("default", "one", &[]), service.image("default", "two", &[]));
    let (id, disks) = service.instance(&key, &first, &[("DataDisk.1.Size", "5")]);
    let base = [("InstanceId", id.as_str()), ("ImageId", second.as_str()), ("ClientToken", "t-1")];
    let call = |more: &[(&'static str, &'static str)]| {
        service.call(&key, "ReplaceSystemDisk", &[&base[..], more].concat())
    };
    call(&[("InstanceId", "")]).refused("MissingParameter", 400);
    call(&[("ImageId", "")]).refused("MissingParameter", 400);
    call(&[("InstanceId", "i-no")]).refused("InvalidInstanceId.NotFound", 404);
    call(&[("ImageId", "m-no")]).refused("InvalidImageId.NotFound", 404);
    call(&[("DiskId", "d-no")]).refused("InvalidDiskId.NotFound", 400);
    call(&[("SystemDisk.Size", "0")]).refused("InvalidSystemDiskSize.LessThanMinSize", 404);
    call(&[("SystemDisk.Size", "9999")]).refused("InvalidSystemDiskSize.MoreThanMaxSize", 404);
    call(&[("SystemDisk.Size", "x")]).refused("InvalidParameter", 400);
    call(&[("Password", "x")]).refused("InvalidPassword.Malformed", 400);
    call(&[("SecurityEnhancementStrategy", "Active")]).refused("InvalidParameter", 400);
    call(&[("DryRun", "true")]).refused("DryRunOperation", 400);
    service.start_instance(&key, &id);
    call(&[]).refused("IncorrectInstanceStatus", 403);
    service.stop_instance(&key, &id);

    let request = signed(&key, "GET", "XML", "ReplaceSystemDisk", &base).request("GET");
    let xml = service.send(request);
    assert_eq!(xml.status, 200, "{}", xml.body);
    let new = xml.body.split("<DiskId>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert_ne!(new, disks[0]);
    assert_eq!(call(&[]).text("DiskId"), new, "the same token, the same answer");
    call(&[("SystemDisk.Size", "2")]).refused("IdempotentParameterMismatch", 403);

    let found = service.call(&key, "DescribeDisks", &[("InstanceId", &id), ("DiskType", "system")]);
    let found = found.ok();
    assert_eq!(found["TotalCount"], 1);
    let disk = &found["Disks"]["Disk"][0];
    assert_eq!((&disk["DiskId"], &disk["ImageId"]), (&new.into(), &second.into()));
    assert_eq!((&disk["Status"], &disk["Device"]), (&"In_use".into(), &"/dev/xvda".into()));
    service
        .call(&key, "ReInitDisk", &[("DiskId", &disks[0])])
        .refused("InvalidDiskId.NotFound", 404);
}
