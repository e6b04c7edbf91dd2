//! "I run the daemon for others: I hand out keys, watch it, and take access away."

use std::os::unix::fs::PermissionsExt as _;

use tests::{
    ecs,
    site::{REGION, Site, text},
};

#[test]
fn health_readiness_and_metrics_need_no_key() {
    let site = Site::new();
    let address = site.daemon().http();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let (status, body) = ecs::get(&address, path);
        assert_eq!(status, 200, "{path}: {body}");
    }
}

#[test]
fn the_control_socket_is_for_the_operator_alone() {
    let site = Site::new();
    let mode =
        std::fs::metadata(site.store().join("run/control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_ready_line_names_everything() {
    let site = Site::configured("", &["--nbd-listen", "127.0.0.1:0"]);
    let ready = &site.daemon().ready;
    assert_eq!(ready["event"], "ready");
    assert!(ready["http"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(ready["store"].as_str().unwrap(), site.store().display().to_string());
    let nbd = ready["nbd"].as_array().unwrap();
    assert_eq!(nbd.len(), 2, "{ready}");
    assert!(nbd[1].as_str().unwrap().starts_with("nbd://127.0.0.1:"), "{ready}");
}

#[test]
fn a_key_can_be_limited_disabled_and_removed() {
    let site = Site::new();
    let ecs = site.ecs();
    let made = site.run(&["key", "create", "--account", "lab", "--role", "read"]);
    let key = tests::signature::Key {
        id: text(&made, "AccessKeyId"),
        secret: text(&made, "AccessKeySecret"),
    };
    assert_eq!(made["Account"], "lab");
    let reader = ecs.with_key(&key);
    reader.call("DescribeDisks", &[REGION]).ok();
    let create =
        [REGION, ("ZoneId", "cn-hangzhou-b"), ("DiskCategory", "cloud_auto"), ("Size", "1")];
    reader.call("CreateDisk", &create).refuses("Forbidden.RAM", 403);

    let listed = site.run(&["key", "ls"]);
    let keys = listed["AccessKeys"].as_array().unwrap();
    assert!(keys.iter().any(|one| one["AccessKeyId"] == key.id.as_str()), "{listed}");
    assert!(!listed.to_string().contains(&key.secret), "no list shows a secret");

    site.run(&["key", "disable", &key.id]);
    let refused = reader.call("DescribeDisks", &[REGION]);
    assert!([400, 403].contains(&refused.status), "{}", refused.body);
    site.run(&["key", "rm", &key.id]);
    reader.call("DescribeDisks", &[REGION]).refuses("InvalidAccessKeyId.NotFound", 404);
}

#[test]
fn a_wrong_secret_or_a_replayed_request_is_refused() {
    let site = Site::new();
    let ecs = site.ecs();
    let wrong = tests::signature::Key { id: ecs.key.id.clone(), secret: "wrong".into() };
    let refused = ecs.with_key(&wrong).call("DescribeDisks", &[REGION]);
    refused.refuses("SignatureDoesNotMatch", 400);
}

#[test]
fn sigterm_ends_the_daemon_after_a_flush_even_with_a_client_connected() {
    let mut site = Site::new();
    let image = tests::qemu::ext4_image(site.scratch(), 8);
    let id = site.import(&image, &["--format", "raw"]);
    let machine = site.machine(&id, &["1G"]);
    site.start(&machine.instance);
    site.io(&machine.data[0], &["write -P 0x51 1M 1M"]);
    let idle = std::os::unix::net::UnixStream::connect(site.store().join("run/nbd.sock")).unwrap();
    let began = std::time::Instant::now();
    site.end_daemon();
    assert!(began.elapsed() < std::time::Duration::from_secs(60));
    drop(idle);
    site.start_daemon();
    site.io(&machine.data[0], &["read -P 0x51 1M 1M"]);
}
