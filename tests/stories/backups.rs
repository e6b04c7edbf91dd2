//! "I back the store up while my VMs write, and one day I need it." By the letter of `docs/operations.md`.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::Value;
use tests::{
    daemon::Daemon,
    program, qemu,
    site::{Site, text},
};

/// The lines of the shell blocks under "Back up", one script a block.
fn procedure() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("\n## Back up\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let blocks = section.split("```console\n").skip(1);
    let blocks = blocks.map(|rest| rest.split_once("```").unwrap().0);
    let lines = |block: &str| {
        block.lines().map(|line| format!("{}\n", line.trim_start_matches("$ "))).collect()
    };
    blocks.map(lines).collect()
}

/// Runs a block as the shell does that a person pastes it into; gives what it printed, and the snapshot.
fn paste(block: &str, variables: &[(&str, &str)]) -> String {
    let binaries = program::binary().parent().unwrap().display();
    let known = variables.iter().map(|(name, value)| format!("export {name}='{value}'\n"));
    let known: String = known.collect();
    let script =
        format!("set -e\nPATH='{binaries}':\"$PATH\"\n{known}{block}\necho \"${{SNAPSHOT-}}\"\n");
    program::run(Command::new("bash").args(["-c", &script])).ok().stdout
}

fn at(store: &Path, line: &[&str]) -> Value {
    let store = store.display().to_string();
    program::reinit([&["--store", &store, "--json"][..], line].concat()).ok().json()
}

#[test]
fn a_store_comes_back_from_what_was_copied_under_a_writer() {
    let blocks = procedure();
    let [snapshot, copy, restore, again] = &blocks[..] else { panic!("{blocks:#?}") };
    let site = Site::new();
    let file = site.scratch().join("image.raw");
    qemu::patterned_image(&file, 8);
    let image = site.import(&file, &["--format", "raw"]);
    let machine = site.machine(&image, &["1G"]);
    site.start(&machine.instance);
    let disk = machine.data[0].as_str();
    site.io(disk, &["write -P 0x41 0 4M", "flush"]);

    let place = tempfile::Builder::new().prefix("reinit-").tempdir().unwrap();
    let [backup, new] = ["backup", "new"].map(|name| place.path().join(name).display().to_string());
    let id = copy_under_a_writer(&site, disk, snapshot, copy, &backup);
    // The old store is gone for good.
    drop(site);

    paste(restore, &[("BACKUP", &backup), ("NEW", &new)]);
    let new = Path::new(&new);
    let daemon = Daemon::start(new, &[]);
    let listed = at(new, &["snapshot", "ls"]);
    assert_eq!(listed["Snapshots"][0]["SnapshotId"], id.as_str());
    assert_eq!(at(new, &["scrub", "--rate", "0"])["Findings"], serde_json::json!([]));
    let store = new.display().to_string();
    let made = paste(again, &[("REINIT_STORE", &store), ("SNAPSHOT", &id)]);
    let disk = made.lines().next().unwrap();
    assert_eq!(at(new, &["disk", "verify", disk, "--deep"])["InInitialState"], true);

    let machine = at(new, &["instance", "create", "--image", &image]);
    let instance = text(&machine, "InstanceId");
    at(new, &["disk", "attach", disk, &instance]);
    at(new, &["instance", "start", &instance]);
    let nbd = |disk: &str| text(&at(new, &["disk", "show", disk]), "NbdUri");
    qemu::io(&nbd(disk), "raw", &["read -P 0x41 0 4M", "write -P 0x42 0 64k", "flush"]);
    qemu::io(&nbd(&text(&machine, "SystemDiskId")), "raw", &["read -P 0x6b 0 8M"]);
    let (ended, log) = daemon.terminate();
    assert!(ended.success(), "{log}");
    assert!(log.contains("a disk that the ledger does not know"), "{log}");
    // The second start is an ordinary one, and loses nothing.
    let daemon = Daemon::start(new, &[]);
    assert_eq!(at(new, &["scrub", "--rate", "0"])["Findings"], serde_json::json!([]));
    qemu::io(&nbd(disk), "raw", &["read -P 0x42 0 64k"]);
    daemon.terminate();
}

/// By hand, where a shell goes on after a command that failed.
#[test]
fn the_way_back_leaves_a_store_alone_that_is_there_already() {
    let blocks = procedure();
    let mut site = Site::new();
    site.run(&["disk", "create", "--size", "1G"]);
    site.end_daemon();
    let backup = site.scratch().join("backup");
    fs::create_dir_all(backup.join("layers")).unwrap();
    for name in ["secret.key", "catalog.export.jsonl"] {
        fs::write(backup.join(name), "another").unwrap();
    }
    let key = fs::read(site.store().join("secret.key")).unwrap();
    let catalog = || fs::read_dir(site.store().join("catalog")).unwrap().count();
    let before = catalog();
    let by_hand = |new: &str| {
        let binaries = program::binary().parent().unwrap().display();
        let backup = backup.display();
        let script =
            format!("PATH='{binaries}':\"$PATH\"\nBACKUP='{backup}'\nNEW='{new}'\n{}", blocks[2]);
        program::run(Command::new("bash").args(["-c", &script]))
    };
    let refused = by_hand(&site.store().display().to_string());
    assert!(refused.stderr.contains("is a store already"), "{refused}");
    assert_ne!(by_hand("").code, Some(0), "a variable that is not set");
    assert_eq!(fs::read(site.store().join("secret.key")).unwrap(), key);
    assert_eq!(catalog(), before);
}

/// Gives the snapshot.
fn copy_under_a_writer(
    site: &Site,
    disk: &str,
    snapshot: &str,
    copy: &str,
    backup: &str,
) -> String {
    let store = site.store().display().to_string();
    let (stop, nbd) = (AtomicBool::new(false), site.nbd(disk));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                let write = format!("write -P 0x5{} {}M 64k", rounds % 10, 8 + rounds % 100);
                qemu::io(&nbd, "raw", &[&write, "flush"]);
                rounds += 1;
            }
            rounds
        });
        let id = paste(snapshot, &[("REINIT_STORE", &store), ("DISK", disk)]).trim().to_owned();
        assert!(id.starts_with("s-"), "{id}");
        let is_hashed =
            || site.run(&["snapshot", "ls"])["Snapshots"][0]["Status"] == "accomplished";
        assert!((0..1000).any(|_| is_hashed()), "it is never hashed");
        paste(copy, &[("REINIT_STORE", &store), ("STORE", &store), ("BACKUP", backup)]);
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0, "it wrote while the copies were made");
        id
    })
}
