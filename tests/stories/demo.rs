//! "I have a minute. Show me." The demo is the first thing a stranger runs: it must work, and quickly.

use std::time::{Duration, Instant};

use tests::program;

#[test]
fn the_demo_tells_the_whole_story_in_a_minute_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let mut command = std::process::Command::new(program::binary());
    let told = program::run(command.arg("demo").env("TMPDIR", scratch.path())).ok();
    assert!(began.elapsed() < Duration::from_secs(300));
    for word in ["import", "reset", "identical"] {
        assert!(told.stdout.contains(word), "no {word}: {told}");
    }
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "the store is thrown away");
}

#[test]
fn the_demo_as_json_proves_each_disk() {
    let told = program::reinit(["demo", "--json"]).ok().json();
    let disks = told["Disks"].as_array().unwrap();
    assert_eq!(disks.len(), 3);
    for disk in disks {
        assert_eq!(disk["HashBefore"], disk["HashAfter"], "{disk}");
        assert_ne!(disk["HashBefore"], disk["HashRuined"], "{disk}");
    }
}

#[test]
fn the_demo_works_without_mke2fs_and_says_so() {
    let mut command = std::process::Command::new(program::binary());
    let told = program::run(command.arg("demo").env("PATH", "")).ok();
    assert!(format!("{}{}", told.stdout, told.stderr).contains("mke2fs"), "{told}");
}

#[test]
fn a_kept_store_can_be_served() {
    let scratch = tempfile::tempdir().unwrap();
    let kept = scratch.path().join("kept");
    let path = kept.display().to_string();
    program::reinit(["demo", "--keep", &path]).ok();
    let daemon = tests::daemon::Daemon::start(&kept, &[]);
    let listed = program::reinit(["--store", &path, "disk", "ls", "--json"]).ok().json();
    assert_eq!(listed["Disks"].as_array().unwrap().len(), 3);
    assert!(daemon.terminate().0.success());
    // It never writes into a directory that is there.
    program::reinit(["demo", "--keep", &path]).fails();
}
