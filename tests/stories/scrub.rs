//! "A bit rotted on my disk: I want to know which VMs it hit, before they read it."

use std::{
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::{
    program, qemu,
    site::{Machine, Site, text},
};

const NOTHING_KNOWN: &str = "no scrub is known; `reinit scrub` starts one";

/// A store with one image of 8 MiB and a running instance made from it.
fn lab() -> (Site, String, Machine) {
    let site = Site::new();
    let file = site.scratch().join("image.raw");
    qemu::patterned_image(&file, 8);
    let image = site.import(&file, &["--format", "raw"]);
    let machine = site.machine(&image, &["1G"]);
    site.start(&machine.instance);
    (site, image, machine)
}

/// The one layer of the store that is not in `others`.
fn new_layer(site: &Site, others: &[PathBuf]) -> PathBuf {
    let mut found = layers(site);
    found.retain(|layer| !others.contains(layer));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn layers(site: &Site) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.store().join("layers")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Flips a bit on the device, behind everybody's back.
fn rot(layer: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(layer.join("data")).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
    file.sync_all().unwrap();
}

fn findings(document: &Value) -> &Vec<Value> {
    document["Findings"].as_array().unwrap()
}

fn wait_for(what: &str, mut reached: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !reached() {
        assert!(Instant::now() < until, "waiting for {what} took too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the process has a handler of its own for SIGINT, by what the kernel says.
fn catches_interrupt(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & 0b10 != 0
}

#[test]
fn rot_is_named_with_all_it_hit_and_never_served() {
    let (mut site, image, machine) = lab();
    let layer = new_layer(&site, &[]);
    let healthy = site.run(&["scrub", "--rate", "0"]);
    assert_eq!((&healthy["Layers"], &healthy["Clusters"]), (&1.into(), &128.into()), "{healthy}");
    assert!(findings(&healthy).is_empty(), "{healthy}");

    rot(&layer, 3 << 20);
    let online = site.offline(&["scrub", "--rate", "0", "--json"]).fails();
    let document = online.json();
    let found = &findings(&document)[0];
    assert_eq!(text(found, "LayerId"), layer.file_name().unwrap().to_str().unwrap());
    assert_eq!((&found["Offset"], &found["Kind"]), (&(3 << 20).into(), &"Content".into()));
    let affected = found["Affects"].to_string();
    for hit in [format!("image:{image}"), format!("disk:{}", machine.system)] {
        assert!(affected.contains(&hit), "{hit} is not among {affected}");
    }
    assert!(!affected.contains(&machine.data[0]), "{affected}");
    assert_eq!(site.offline(&["scrub", "--status", "--json"]).fails().json(), document);

    // The cluster is refused, its neighbours and the other disk are not.
    let damaged = || qemu::try_io(&site.nbd(&machine.system), "raw", &["read -P 0x6b 3M 4k"]);
    let refused = damaged();
    assert!(format!("{refused}").contains("Input/output error"), "{refused}");
    site.io(&machine.system, &["read -P 0x6b 0 3M", "read -P 0x6b 3136k 1M"]);
    site.io(&machine.data[0], &["write -P 0x51 0 64k", "read -P 0x51 0 64k"]);

    // The daemon knows it again, and without one the command looks for itself.
    let log = site.end_daemon();
    assert!(log.contains("the scrub found damage"), "{log}");
    let offline = site.offline(&["scrub", "--rate", "0", "--json"]).fails().json();
    assert_eq!(offline, document);
    site.start_daemon();
    let refused = qemu::try_io(&site.nbd(&machine.system), "raw", &["read -P 0x6b 3M 4k"]);
    assert!(format!("{refused}").contains("Input/output error"), "{refused}");
    rot(&layer, 3 << 20);
    assert!(findings(&site.run(&["scrub", "--rate", "0"])).is_empty());
    site.io(&machine.system, &["read -P 0x6b 0 8M"]);
}

#[test]
fn a_scrub_beside_running_vms_disturbs_nobody_and_a_deleted_snapshot_is_no_finding() {
    let (site, _, machine) = lab();
    let before = layers(&site);
    site.io(&machine.data[0], &["write -P 0x51 0 16M"]);
    let snapshot = site.snapshot(&machine.data[0]);
    let layer = new_layer(&site, &before);
    // The disk leaves the snapshot, which then only the scrub needs.
    site.stop(&machine.instance);
    site.run(&["reset", &machine.data[0]]);
    site.start(&machine.instance);

    let begun = site.run(&["scrub", "--background", "--rate", "8M"]);
    assert_eq!(begun["Status"], "Running");
    site.io(&machine.data[0], &["write -P 0x52 0 4M", "read -P 0x52 0 4M"]);
    site.run(&["snapshot", "rm", &snapshot]);
    let done = loop {
        site.io(&machine.data[0], &["write -P 0x53 1M 64k", "read -P 0x53 1M 64k", "flush"]);
        let now = site.run(&["scrub", "--status"]);
        if now.get("Layers").is_some() {
            break now;
        }
        assert_eq!(now["Status"], "Running", "{now}");
        assert!(now["BytesDone"].as_u64() <= now["BytesTotal"].as_u64(), "{now}");
    };
    assert!(findings(&done).is_empty(), "{done}");
    site.io(&machine.system, &["read -P 0x6b 0 8M"]);
    // What the scrub held is let go of in the background.
    wait_for("the end of the deleted snapshot's layer", || !layer.exists());
}

#[test]
fn ctrl_c_stops_it_and_the_next_run_goes_on() {
    let (mut site, ..) = lab();
    let layer = new_layer(&site, &[]);
    rot(&layer, 0);
    site.run(&["scrub", "--background", "--rate", "1M"]);
    let stopped = site.run(&["scrub", "--cancel"]);
    assert_eq!(stopped["Status"], "Cancelled");
    site.end_daemon();

    let mut scrub = Command::new(program::binary());
    let store = site.store();
    let mut scrub = scrub
        .args(["--store", store.to_str().unwrap(), "scrub", "--rate", "1M"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let complaint = BufReader::new(scrub.stderr.take().unwrap());
    // Before it watches for the signal it would just die of it.
    wait_for("the watch for Ctrl-C", || catches_interrupt(scrub.id()));
    let pid = Pid::from_raw(i32::try_from(scrub.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(scrub.wait().unwrap().code(), Some(1));
    let complaint: Vec<String> = complaint.lines().map(Result::unwrap).collect();
    assert!(complaint.iter().any(|line| line.contains("goes on from there")), "{complaint:?}");

    let done = site.offline(&["scrub", "--rate", "0", "--json"]).fails().json();
    assert_eq!(done["Clusters"], 128, "{done}");
    assert_eq!(findings(&done).len(), 1, "{done}");
}

#[test]
fn a_lost_layer_is_told_under_every_name_it_has_and_still_known_after_a_restart() {
    let (mut site, _, machine) = lab();
    let disk = machine.data[0].as_str();
    let before = layers(&site);
    site.io(disk, &["write -P 0x51 0 4M"]);
    let first = site.snapshot(disk);
    let layer = new_layer(&site, &before);
    let second = site.snapshot(disk);
    assert_eq!(site.offline(&["scrub", "--status"]).ok().stdout.trim(), NOTHING_KNOWN);

    site.end_daemon();
    let aside = site.scratch().join("aside");
    fs::rename(&layer, &aside).unwrap();
    site.start_daemon();
    let told = site.offline(&["scrub", "--rate", "0", "--json"]).fails().json();
    let found = &findings(&told)[0];
    assert_eq!((findings(&told).len(), text(found, "Kind").as_str()), (1, "Missing"), "{told}");
    assert_eq!(text(found, "LayerId"), layer.file_name().unwrap().to_str().unwrap());
    let mut affected =
        vec![format!("disk:{disk}"), format!("snapshot:{first}"), format!("snapshot:{second}")];
    affected.sort();
    assert_eq!(found["Affects"], serde_json::json!(affected));
    let table = site.offline(&["scrub", "--rate", "0"]).fails();
    assert!(table.stdout.contains(&second), "{table}");

    site.end_daemon();
    site.start_daemon();
    let known = site.offline(&["scrub", "--status", "--json"]).fails().json();
    assert_eq!(known, told, "what the last scrub found, over a restart");

    site.end_daemon();
    fs::rename(&aside, &layer).unwrap();
    site.start_daemon();
    site.run(&["scrub", "--background", "--rate", "1M"]);
    wait_for("the first cluster", || {
        site.run(&["scrub", "--status"])["BytesDone"].as_u64() > Some(0)
    });
    site.crash();
    let cut = site.run(&["scrub", "--status"]);
    assert_eq!(cut["Status"], "Cancelled", "{cut}");
    assert!(cut["BytesDone"].as_u64() < cut["BytesTotal"].as_u64(), "{cut}");
    assert!(findings(&site.run(&["scrub", "--rate", "0"])).is_empty());
    assert!(findings(&site.run(&["scrub", "--status"])).is_empty());
}
