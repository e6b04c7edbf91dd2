//! The audit log: one line for each change and each refusal, receipts of resets, no secrets.

use serde_json::Value;

use crate::{
    harness::Service,
    signing::{V1, acs3, signed},
};

/// The lines about this action.
fn of(service: &Service, action: &str) -> Vec<Value> {
    service.audited().into_iter().filter(|line| line["Action"] == action).collect()
}

#[test]
fn a_change_has_its_line_when_it_is_answered_and_a_look_has_none() {
    let service = Service::start();
    let key = service.key_of("lab", "full");
    let made = service.call(&key, "CreateDisk", &[("Size", "5")]);
    let lines = of(&service, "CreateDisk");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    assert_eq!(line["Code"], "OK");
    assert_eq!(line["Status"], 200);
    assert_eq!(line["RequestId"], made.text("RequestId"));
    assert_eq!(line["Account"], "lab");
    assert_eq!(line["Who"], key.id);
    assert!(line["From"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert_eq!(line["Resources"][0], made.text("DiskId"));
    service.call(&key, "DescribeDisks", &[]).ok();
    assert!(of(&service, "DescribeDisks").is_empty());

    let of_operator = &of(&service, "CreateAccessKey")[0];
    assert_eq!(of_operator["Who"], "operator");
    assert_eq!(of_operator["Account"], "lab");
    assert_eq!(of_operator["Resources"][0], key.id);
    let from = of_operator["From"].as_str().unwrap();
    let pid = format!("pid {}", std::process::id());
    assert!(from.starts_with("control socket, uid ") && from.ends_with(&pid), "{from}");
}

#[test]
fn a_refusal_has_its_line_also_of_somebody_unproven() {
    let service = Service::start();
    let key = service.key();
    let refused = service.call(&key, "DeleteDisk", &[("DiskId", "d-none")]);
    refused.refused("InvalidDiskId.NotFound", 404);
    let line = &of(&service, "DeleteDisk")[0];
    assert_eq!((&line["Code"], &line["Status"]), (&"InvalidDiskId.NotFound".into(), &404.into()));
    assert_eq!(line["Resources"][0], "d-none");
    assert_eq!(line["Account"], "default");

    let read_only = service.key_of("default", "read");
    service.call(&read_only, "DeleteDisk", &[("DiskId", "d-1")]).refused("Forbidden.RAM", 403);
    assert_eq!(of(&service, "DeleteDisk")[1]["Who"], read_only.id);

    let forged = signed(&key, "POST", "JSON", "DeleteDisk", &[("DiskId", "d-1")]);
    let forged = forged.set("DiskId", "d-2").request("POST");
    service.send(forged).refused("SignatureDoesNotMatch", 400);
    let line = &of(&service, "DeleteDisk")[2];
    assert_eq!((&line["Account"], &line["Who"]), (&"".into(), &key.id.as_str().into()));
    assert_eq!(line["Resources"].as_array().unwrap().len(), 0, "nothing unproven: {line}");

    service.get("/nowhere").refused("InvalidAction.NotFound", 404);
    crate::harness::wait(|| of(&service, "none").len() == 1);
}

#[test]
fn a_reset_leaves_the_receipt_the_ledger_has() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (_, disks) = service.used_instance(&key, &image, &[("DataDisk.1.Size", "5")]);
    for disk in &disks {
        let answer = service.call(&key, "ReInitDisk", &[("DiskId", disk)]);
        let line = of(&service, "ReInitDisk").pop().unwrap();
        assert_eq!(line["RequestId"], answer.text("RequestId"));
        same_as_shown(&service, disk, &line["Resets"][0]);
    }
    let batch = [("DiskId.1", disks[0].as_str()), ("DiskId.2", &disks[1])];
    service.operator("ReInitDisks", &batch).ok();
    let line = of(&service, "ReInitDisks").pop().unwrap();
    assert_eq!(line["Resets"].as_array().unwrap().len(), 2, "{line}");
    for (disk, receipt) in disks.iter().zip(line["Resets"].as_array().unwrap()) {
        same_as_shown(&service, disk, receipt);
    }
    let unattached = service
        .call(&key, "CreateDisk", &[("ZoneId", "cn-hangzhou-b"), ("Size", "20")])
        .text("DiskId");
    let batch = [("DiskId.1", disks[0].as_str()), ("DiskId.2", &unattached)];
    service.operator("ReInitDisks", &batch).ok();
    let line = of(&service, "ReInitDisks").pop().unwrap();
    assert_eq!(line["Code"], "IncorrectDiskStatus", "one of them was refused: {line}");
    assert_eq!(line["Resets"].as_array().unwrap().len(), 1, "{line}");
    let snapshot = service.snapshot(&key, &disks[1]);
    let asked = [("DiskId", disks[1].as_str()), ("SnapshotId", &snapshot)];
    service.call(&key, "ResetDisk", &asked).ok();
    let receipt = of(&service, "ResetDisk").pop().unwrap()["Resets"][0].clone();
    // The ledger cannot tell the snapshot of a disk nobody wrote to from an empty one.
    assert_eq!(receipt["Origin"], format!("snapshot:{snapshot}"));
    assert_eq!(receipt["EpochAfter"], 4);
    let several = [("Disk.1.DiskId", disks[1].as_str()), ("Disk.1.SnapshotId", &snapshot)];
    let asked: Vec<_> = [("RegionId", "cn-hangzhou")].into_iter().chain(several).collect();
    service.call(&key, "ResetDisks", &asked).ok();
    let receipt = of(&service, "ResetDisks").pop().unwrap()["Resets"][0].clone();
    assert_eq!(
        (&receipt["DiskId"], &receipt["EpochAfter"]),
        (&disks[1].as_str().into(), &5.into())
    );
    service
        .call(&key, "ReInitDisk", &[("DiskId", "d-none")])
        .refused("InvalidDiskId.NotFound", 404);
    assert!(of(&service, "ReInitDisk").pop().unwrap().get("Resets").is_none());
}

fn same_as_shown(service: &Service, disk: &str, receipt: &Value) {
    let shown = service.operator("ShowDisk", &[("DiskId", disk)]).ok()["LastReset"].clone();
    assert_eq!(receipt["DiskId"], disk);
    for field in ["RequestId", "EpochBefore", "EpochAfter", "Origin", "Root"] {
        assert_eq!(receipt[field], shown[field], "{field}: {receipt} {shown}");
        assert_ne!(receipt[field], "", "{field}");
    }
    // The audit log has milliseconds, the page of the disk seconds.
    let (exact, seconds) = (receipt["Time"].as_str().unwrap(), shown["Time"].as_str().unwrap());
    assert_eq!(exact[..19], seconds[..19]);
}

#[test]
fn no_secret_gets_into_it() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (_, disks) = service.used_instance(&key, &image, &[]);
    let disk = disks[0].as_str();
    let (password, token) = ("Pass-w0rd!Secret", "token-SecretText");
    let own = [("DiskId", disk), ("Password", password), ("ClientToken", token)];
    let v1 = signed(&key, "POST", "JSON", "ReInitDisk", &own);
    let signature = v1.0["Signature"].clone();
    service.send(v1.request("POST")).ok();
    let with_token =
        V1::new(&key, "JSON", "ReInitDisk", &own).set("SecurityToken", "sts.SecretToken");
    service.send(with_token.request("POST"));
    let query = format!("DiskId={disk}&Password=Pass-w0rd%21Secret");
    let request = acs3(&key, "ReInitDisk", &format!("?{query}"), &query, "", "text/plain");
    let hex = request.split("Signature=").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
    service.send(request).ok();
    let text = std::fs::read_to_string(service.path().join("audit.jsonl")).unwrap();
    assert!(text.matches("\"ReInitDisk\"").count() >= 3, "{text}");
    for secret in [&key.secret, password, token, "SecretToken", &signature, &hex, "Pass-w0rd"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}
