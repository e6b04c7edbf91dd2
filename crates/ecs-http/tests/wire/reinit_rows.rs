//! The eleven reasons for which ReInitDisk is refused, for real and in both formats; and that the disk is
//! as it was.

use std::time::Duration;

use cloud::Settings;
use ecs_http::Limits;

use crate::{
    harness::{Service, wait},
    signing::{Key, signed},
};

/// Refused with this code in JSON and in XML, and nothing changed.
#[track_caller]
fn refused(service: &Service, key: &Key, disk: &str, code: &str, status: u16) {
    let shown = || {
        let shown = service.operator("ShowDisk", &[("DiskId", disk), ("Account", "default")]);
        (shown.status, shown.body.split("RequestId").next().map(str::to_owned))
    };
    let before = shown();
    let own = [("DiskId", disk)];
    service.call(key, "ReInitDisk", &own).refused(code, status);
    let xml = service.send(signed(key, "GET", "XML", "ReInitDisk", &own).request("GET"));
    assert!(xml.head.contains("text/xml;charset=utf-8"), "{xml:?}");
    xml.refused(code, status);
    assert_eq!(shown(), before);
}

fn reset(service: &Service, key: &Key, disk: &str) {
    service.call(key, "ReInitDisk", &[("DiskId", disk)]).ok();
}

#[test]
fn rows_1_to_6() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let own = [("DataDisk.1.Size", "5"), ("DataDisk.1.Category", "ephemeral_ssd")];
    let (id, disks) = service.instance(&key, &image, &own);
    let (system, local) = (&disks[0], &disks[1]);
    refused(&service, &key, system, "IncorrectInstanceStatus", 403);
    service.start_instance(&key, &id);
    refused(&service, &key, system, "IncorrectInstanceStatus", 403);
    service.stop_instance(&key, &id);
    reset(&service, &key, system);

    let stranger = service.key_of("stranger", "full");
    for unknown in ["d-unknown", "../../etc/passwd", "d-%00"] {
        refused(&service, &key, unknown, "InvalidDiskId.NotFound", 404);
    }
    refused(&service, &stranger, system, "InvalidDiskId.NotFound", 404);
    refused(&service, &key, local, "DiskCategory.OperationNotSupported", 400);
    let free = service.call(&key, "CreateDisk", &[("Size", "5")]).text("DiskId");
    refused(&service, &key, &free, "IncorrectDiskStatus", 403);
    service.operator("LockInstance", &[("InstanceId", &id), ("LockReason", "security")]).ok();
    refused(&service, &key, system, "InstanceLockedForSecurity", 403);
    service.operator("UnlockInstance", &[("InstanceId", &id)]).ok();
    service.operator("LockInstance", &[("InstanceId", &id), ("LockReason", "financial")]).ok();
    refused(&service, &key, system, "InstanceExpiredOrInArrears", 403);
    service.operator("UnlockInstance", &[("InstanceId", &id)]).ok();
    service.operator("SetAccount", &[("Account", "default"), ("InArrears", "true")]).ok();
    refused(&service, &key, system, "InstanceExpiredOrInArrears", 403);
    service.operator("SetAccount", &[("Account", "default"), ("InArrears", "false")]).ok();
    reset(&service, &key, system);
}

#[test]
fn row_7_a_snapshot_that_takes_its_time() {
    let settings = Settings { hash_bandwidth: Some(256 * 1024), ..Settings::default() };
    let service = Service::with(Limits::default(), settings);
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (_, disks) = service.used_instance(&key, &image, &[("DataDisk.1.Size", "5")]);
    write(&service, &disks[1]);
    let snapshot =
        service.call(&key, "CreateSnapshot", &[("DiskId", &disks[1])]).text("SnapshotId");
    refused(&service, &key, &disks[1], "DiskCreatingSnapshot", 403);
    let ids = format!("[\"{snapshot}\"]");
    wait(|| {
        let found = service.call(&key, "DescribeSnapshots", &[("SnapshotIds", &ids)]).ok();
        found["Snapshots"]["Snapshot"][0]["Status"] == "accomplished"
    });
    reset(&service, &key, &disks[1]);
}

/// 1 MiB, past the exports, for the snapshot to hash.
pub fn write(service: &Service, disk: &str) {
    use block_device::{BlockDevice as _, ByteOffset, Durability};
    let store = service.cloud.store();
    let handle = store.open_disk(&disk.parse().unwrap()).unwrap();
    handle.write_at(&vec![3; 1 << 20], ByteOffset::new(0), Durability::ForceUnitAccess).unwrap();
}

#[test]
fn row_8_a_snapshot_that_is_too_old() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (id, disks) = service.used_instance(&key, &image, &[("DataDisk.1.Size", "5")]);
    let snapshot = service.snapshot(&key, &disks[1]);
    let disk = service.call(&key, "CreateDisk", &[("SnapshotId", &snapshot)]).text("DiskId");
    let place = [("DiskId", disk.as_str()), ("InstanceId", &id)];
    service.call(&key, "AttachDisk", &place).ok();
    reset(&service, &key, &disk);
    service.call(&key, "DetachDisk", &place).ok();
    wait(|| service.operator("ShowDisk", &[("DiskId", &disk)]).ok()["Status"] == "Available");
    service.call(&key, "AttachDisk", &place).ok();
    reset(&service, &key, &disk);
    let later = jiff::Timestamp::now() + Duration::from_secs(3_600);
    let service = service.restart_with(Settings { snapshot_cutoff: later, ..Settings::default() });
    refused(&service, &key, &disk, "InvalidSnapshot.TooOld", 403);
}

#[test]
fn rows_9_to_11_a_source_that_is_gone() {
    let service = Service::start();
    let key = service.key();
    let owner = service.key_of("owner", "full");
    let image = service.image("default", "base", &[]);
    let (id, disks) = service.used_instance(&key, &image, &[("DataDisk.1.Size", "5")]);
    let snapshot = service.snapshot(&key, &disks[1]);
    let disk = service.call(&key, "CreateDisk", &[("SnapshotId", &snapshot)]).text("DiskId");
    service.call(&key, "AttachDisk", &[("DiskId", &disk), ("InstanceId", &id)]).ok();
    service.call(&key, "DeleteSnapshot", &[("SnapshotId", &snapshot), ("Force", "true")]).ok();
    refused(&service, &key, &disk, "InvalidSourceSnapshot", 403);
    service.call(&key, "DeleteImage", &[("ImageId", &image)]).refused("ImageUsingByInstance", 403);
    service.call(&key, "DeleteImage", &[("ImageId", &image), ("Force", "true")]).ok();
    refused(&service, &key, &disks[0], "OperationDenied", 403);

    let shared = service.image("owner", "shared", &[]);
    let accounts = service.operator("ListAccounts", &[]).ok();
    let mine = accounts["Accounts"]["Account"].as_array().unwrap();
    let mine = mine.iter().find(|account| account["Account"] == "default").unwrap();
    let number = mine["AccountNumber"].as_str().unwrap();
    let share = |name: &str| {
        service
            .call(&owner, "ModifyImageSharePermission", &[("ImageId", &shared), (name, number)])
            .ok();
    };
    share("AddAccount.1");
    let (_, disks) = service.used_instance(&key, &shared, &[]);
    reset(&service, &key, &disks[0]);
    share("RemoveAccount.1");
    refused(&service, &key, &disks[0], "SharedImageDeleted", 403);
    service.call(&owner, "DeleteImage", &[("ImageId", &shared), ("Force", "true")]).ok();
    refused(&service, &key, &disks[0], "SharedImageDeleted", 403);
}

#[test]
fn keep_is_for_the_operator_and_anybody_else_has_it_ignored() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (_, disks) = service.used_instance(&key, &image, &[("DataDisk.1.Size", "5")]);
    let disk = &disks[1];
    write(&service, disk);
    let kept = |of: &str| {
        let found = service.call(&key, "DescribeSnapshots", &[("DiskId", of)]).ok();
        found["TotalCount"].as_u64().unwrap()
    };
    for odd in ["true", "perhaps"] {
        let own = [("DiskId", disk.as_str()), ("Keep", odd)];
        let answer = service.call(&key, "ReInitDisk", &own).ok();
        assert!(answer["SnapshotId"].is_null(), "{answer}");
    }
    assert_eq!(kept(disk), 0);
    write(&service, disk);
    let asked = [("DiskId.1", disk.as_str()), ("DiskId.2", "d-unknown"), ("Keep", "true")];
    let planned = service.operator("PlanReInitDisks", &asked).ok();
    assert_eq!(planned["Disks"]["Disk"][0]["BytesDropped"], 1 << 20);
    assert_eq!(kept(disk), 0, "a plan keeps nothing");
    let done = service.operator("ReInitDisks", &asked).ok();
    let rows = &done["Disks"]["Disk"];
    assert!(rows[0]["SnapshotId"].as_str().unwrap().starts_with("s-"), "{done}");
    assert_eq!(rows[1]["Code"], "InvalidDiskId.NotFound");
    assert!(rows[1]["SnapshotId"].is_null(), "{done}");
    assert_eq!(kept(disk), 1);
    let single = [("DiskId", disks[0].as_str()), ("Keep", "true")];
    let answer = service.operator("ReInitDisk", &single).ok();
    assert!(answer["SnapshotId"].as_str().unwrap().starts_with("s-"), "{answer}");
}
