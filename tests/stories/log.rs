//! "Something went wrong at night: I search the log for the request id my client kept, and find all of it."

use std::{fs, process::Command};

use serde_json::Value;
use tests::{
    daemon::Daemon,
    ecs::Ecs,
    program, qemu,
    site::{REGION, Site},
};

#[test]
fn each_line_of_a_request_has_its_id_also_later_ones() {
    let mut site = Site::new();
    let image = site.scratch().join("broken.qcow2");
    let image = qemu::to_qcow2(&qemu::ext4_image(site.scratch(), 8), &image, &[]);
    // The first cluster lies far beyond the file, which is found out only while it is read.
    let mut bytes = fs::read(&image).unwrap();
    let at = |bytes: &[u8], place: usize| {
        let word = u64::from_be_bytes(bytes[place..place + 8].try_into().unwrap());
        usize::try_from(word & 0x00ff_ffff_ffff_fe00).unwrap()
    };
    let clusters = at(&bytes, at(&bytes, 40));
    bytes[clusters..clusters + 8].copy_from_slice(&(1_u64 << 50 | 1 << 63).to_be_bytes());
    fs::write(&image, bytes).unwrap();
    let client = site.ecs();
    site.end_daemon();

    let daemon = Daemon::start_in(&site.store(), &[], &[("REINIT_LOG_FORMAT", "json")]);
    let client = Ecs { address: daemon.http(), ..client };
    let listed = client.call("DescribeDisks", &[REGION]);
    let broken = image.display().to_string();
    site.offline(&["image", "import", &broken, "--name", "broken"]).fails();
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{log}");

    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let id_of = |find: &dyn Fn(&Value) -> bool| {
        let line = lines.iter().find(|line| find(line));
        line.unwrap_or_else(|| panic!("no such line in {log}"))["span"]["request_id"].clone()
    };
    let answered = |action: &'static str| {
        id_of(&move |line| line["message"] == "answered" && line["action"] == action)
    };
    assert_eq!(answered("DescribeDisks"), listed.text("RequestId").as_str());
    let failed = id_of(&|line| line["message"] == "an import ended without an image");
    assert_eq!(failed, answered("ImportImageFile"), "{log}");
}

#[test]
fn an_unknown_form_of_the_log_is_refused_by_name() {
    let site = Site::new();
    let mut serve = Command::new(program::binary());
    serve.arg("--store").arg(site.store()).arg("serve").env("REINIT_LOG_FORMAT", "xml");
    let refused = program::run(&mut serve).fails();
    assert!(refused.complaint().contains("REINIT_LOG_FORMAT"), "{refused}");
}
