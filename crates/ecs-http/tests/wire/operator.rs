//! What the control socket offers, and that TCP does not.

use std::io::Write as _;

use crate::harness::Service;

#[test]
fn nothing_of_the_operator_is_there_over_tcp() {
    let service = Service::start();
    let key = service.key();
    for action in [
        "CreateAccessKey",
        "ListAccessKeys",
        "DisableAccessKey",
        "DeleteAccessKey",
        "ListAccounts",
        "SetAccount",
        "LockInstance",
        "UnlockInstance",
        "ShowDisk",
        "ReInitDisks",
        "PlanReInitDisks",
        "VerifyDisk",
        "LimitDisk",
        "ReclaimDisk",
        "ImportImageFile",
        "ExportImageFile",
        "ShowTask",
        "StartScrub",
        "ShowScrub",
        "CancelScrub",
        "BeginBackup",
    ] {
        service.call(&key, action, &[("DiskId.1", "d-1")]).refused("InvalidAction.NotFound", 404);
        assert_ne!(service.operator(action, &[]).status, 404, "{action}");
    }
    service
        .send(
            "GET /?Action=ListAccounts&Version=2014-05-26&Format=JSON HTTP/1.1\r\nHost: h\r\n\r\n",
        )
        .refused("MissingParameter", 400);
}

#[test]
fn an_account_of_its_own() {
    let service = Service::start();
    service.key_of("lab", "full");
    let disk = service.operator("CreateDisk", &[("Account", "lab"), ("Size", "5")]).text("DiskId");
    assert_eq!(service.operator("DescribeDisks", &[]).ok()["TotalCount"], 0);
    assert_eq!(service.operator("DescribeDisks", &[("Account", "lab")]).ok()["TotalCount"], 1);
    service.operator("ShowDisk", &[("DiskId", &disk)]).refused("InvalidDiskId.NotFound", 404);
    let set = [("Account", "lab"), ("QuotaInBytes", "6000000000"), ("InArrears", "false")];
    assert_eq!(service.operator("SetAccount", &set).ok()["QuotaInBytes"], 6_000_000_000_u64);
    let create = || service.operator("CreateDisk", &[("Account", "lab"), ("Size", "5")]);
    create().refused("QuotaExceed.PortableCloudDisk", 403);
    service.operator("SetAccount", &[("Account", "lab"), ("QuotaInBytes", "none")]).ok();
    create().ok();
    service
        .operator("SetAccount", &[("Account", "nobody"), ("InArrears", "true")])
        .refused("InvalidAccount.NotFound", 404);
    let keys = service.operator("ListAccessKeys", &[]).ok();
    assert_eq!(keys["AccessKeys"]["AccessKey"][0]["Status"], "Active");
    assert!(!keys.to_string().contains("Secret"));
}

#[test]
fn disks_are_planned_reset_and_verified_together() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (id, disks) = service.used_instance(&key, &image, &[("DataDisk.1.Size", "5")]);
    let both =
        [("DiskId.1", disks[0].as_str()), ("DiskId.2", "d-nothing"), ("DiskId.3", &disks[1])];
    let planned = service.operator("PlanReInitDisks", &both).ok();
    let rows = planned["Disks"]["Disk"].as_array().unwrap();
    assert_eq!(rows[0]["BytesDropped"], 0);
    assert_eq!(rows[1]["Code"], "InvalidDiskId.NotFound");
    let before = rows[2]["Epoch"].as_u64().unwrap();
    let done = service.operator("ReInitDisks", &both).ok();
    let rows = done["Disks"]["Disk"].as_array().unwrap();
    assert_eq!(rows[0]["DiskId"], disks[0].as_str());
    assert_eq!(rows[1]["Code"], "InvalidDiskId.NotFound");
    assert_eq!(rows[2]["Epoch"], before + 1);
    assert_eq!(rows[0]["Root"].as_str().unwrap().len(), 64);
    for deep in ["false", "true"] {
        let verified =
            service.operator("VerifyDisk", &[("DiskId", &disks[0]), ("Deep", deep)]).ok();
        assert_eq!(verified["InInitialState"], true, "{verified}");
    }
    let shown = service.operator("ShowDisk", &[("DiskId", &disks[0])]).ok();
    assert_eq!(
        (&shown["Origin"], &shown["Exported"]),
        (&format!("image:{image}").into(), &false.into())
    );
    // Of several disks the strategy means the system disks, of which this one has no layer to go to.
    let active = ("SecurityEnhancementStrategy", "Active");
    for action in ["PlanReInitDisks", "ReInitDisks"] {
        let both = [("DiskId.1", disks[0].as_str()), ("DiskId.2", &disks[1]), active];
        let told = service.operator(action, &both).ok();
        let rows = told["Disks"]["Disk"].as_array().unwrap();
        assert_eq!(rows[0]["Code"], "InvalidParameter");
        assert!(rows[1].get("Code").is_none(), "{told}");
        let alone = service.operator(action, &[("DiskId.1", &disks[1]), active]).ok();
        assert_eq!(alone["Disks"]["Disk"][0]["Code"], "InvalidParameter");
    }
    service.start_instance(&key, &id);
    let plan = |cycle| {
        service.operator("PlanReInitDisks", &[("DiskId.1", &disks[0]), ("Cycle", cycle)]).ok()
    };
    assert_eq!(plan("false")["Disks"]["Disk"][0]["Code"], "IncorrectInstanceStatus");
    assert_eq!(plan("true")["Disks"]["Disk"][0]["BytesDropped"], 0);
}

#[test]
fn an_image_out_and_in_again() {
    let service = Service::start();
    let image = service.image("default", "base", &[]);
    for format in ["raw", "qcow2"] {
        let path = service.path().join(format!("out.{format}"));
        let path = path.to_str().unwrap();
        let asked = [("ImageId", image.as_str()), ("Path", path), ("ImageFormat", format)];
        service.operator("ExportImageFile", &asked).ok();
        service.operator("ExportImageFile", &asked).refused("InvalidPath.AlreadyExists", 409);
        let begun =
            service.operator("ImportImageFile", &[("Path", path), ("ImageName", format)]).ok();
        assert!(begun["ImageId"].as_str().unwrap().starts_with("m-"));
    }
    assert_eq!(std::fs::read(service.path().join("out.raw")).unwrap(), vec![7; 1 << 20]);
}

#[test]
fn only_regular_files_are_imported() {
    let service = Service::start();
    let pipe = service.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let import =
        |path: &str| service.operator("ImportImageFile", &[("Path", path), ("ImageName", "it")]);
    import(pipe.to_str().unwrap()).refused("InvalidPath", 400);
    import("/dev/zero").refused("InvalidPath", 400);
    import("/").refused("InvalidPath", 400);
    import("/no/such/file").refused("InvalidPath.NotFound", 404);
    import("relative").refused("InvalidParameter", 400);
}

#[test]
fn an_operator_who_leaves_in_mid_request_hurts_nobody() {
    let service = Service::start();
    let mut stream = service.connect_control();
    stream.write_all(b"POST /?Action=ListAccounts HTTP/1.1\r\nHost: h\r\n").unwrap();
    drop(stream);
    service.operator("ListAccounts", &[]).ok();
}
