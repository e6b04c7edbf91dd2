//! "I mistype, I forget, I am the wrong user: I am told what to do next, and nothing is half done."

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use tests::{
    program::{self, Outcome},
    site::{Machine, Site, text},
};

fn used() -> (Site, Machine) {
    let site = Site::new();
    let file = site.scratch().join("image.raw");
    tests::qemu::patterned_image(&file, 1);
    let image = site.import(&file, &["--format", "raw"]);
    let machine = site.machine(&image, &["1G"]);
    site.start(&machine.instance);
    site.io(&machine.data[0], &["write -P 0x62 0 64k", "flush"]);
    (site, machine)
}

fn snapshots(site: &Site) -> usize {
    site.run(&["snapshot", "ls"])["Snapshots"].as_array().unwrap().len()
}

#[test]
fn a_wrong_name_among_several_leaves_all_as_they_are() {
    let (site, machine) = used();
    let disk = machine.data[0].as_str();
    for cycle in [&["--cycle"][..], &[]] {
        let line = [&["reset", disk, "d-wrong", "--keep"][..], cycle].concat();
        let refused = site.offline(&line).fails();
        assert!(refused.complaint().contains("d-wrong; nothing was reset"), "{refused}");
        assert!(refused.complaint().contains("reinit disk ls"), "{refused}");
        assert_eq!(site.show(disk)["Epoch"], 1);
        assert_eq!(snapshots(&site), 0, "nothing was kept");
        let running = site.run(&["instance", "ls"]);
        assert_eq!(running["Instances"][0]["Status"], "Running", "nothing was stopped");
    }
}

#[test]
fn a_script_learns_what_each_disk_was_kept_as() {
    let (site, machine) = used();
    let (system, data) = (machine.system.as_str(), machine.data[0].as_str());
    let quiet = site.offline(&["reset", data, system, "--keep", "--cycle", "-q"]).ok();
    let kept = site.run(&["snapshot", "ls"]);
    let of = |disk: &str| {
        let all = kept["Snapshots"].as_array().unwrap();
        text(all.iter().find(|one| one["SourceDiskId"] == disk).unwrap(), "SnapshotId")
    };
    let expected = format!("{data} {}\n{system} {}\n", of(data), of(system));
    assert_eq!(quiet.stdout, expected);
    let plain = site.offline(&["reset", system, "--cycle", "-q"]).ok();
    assert_eq!(plain.stdout.trim(), system, "without --keep the bare id");
}

#[test]
fn an_account_that_does_not_exist_is_said_to_not_exist() {
    let site = Site::new();
    for line in [
        &["disk", "ls"][..],
        &["image", "ls"],
        &["snapshot", "ls"],
        &["instance", "ls"],
        &["disk", "create", "--size", "1G"],
        &["reset", "d-1"],
    ] {
        let refused = site.offline(&[line, &["--account", "nobody"]].concat()).fails();
        let told = refused.complaint();
        assert!(told.contains("nobody") && told.contains("reinit account ls"), "{refused}");
    }
    let listed = site.run(&["account", "ls"]);
    assert_eq!(listed["Accounts"].as_array().unwrap().len(), 1, "asking made none: {listed}");
    site.run(&["key", "create", "--account", "nobody"]);
    site.run(&["disk", "ls", "--account", "nobody"]);
}

#[test]
fn a_disk_in_the_wrong_place_is_told_with_the_way_there() {
    let (site, _) = used();
    let lone = text(&site.run(&["disk", "create", "--size", "1G"]), "DiskId");
    for line in [&["reset", &lone][..], &["snapshot", "create", &lone]] {
        let refused = site.offline(line).fails();
        assert!(refused.complaint().contains("reinit disk attach"), "{refused}");
    }
    site.run(&["key", "create", "--account", "lab"]);
    let other = site.run(&["disk", "create", "--size", "1G", "--account", "lab"]);
    for verb in [&["snapshot", "create"][..], &["disk", "show"], &["reset"]] {
        let refused = site.offline(&[verb, &[&text(&other, "DiskId")]].concat()).fails();
        assert!(refused.complaint().contains("--account NAME"), "{refused}");
    }
}

#[test]
fn a_key_that_would_be_over_already_is_not_made() {
    let site = Site::new();
    let keys = || site.run(&["key", "ls"])["AccessKeys"].as_array().unwrap().len();
    let before = keys();
    for kind in [&["--temporary"][..], &[]] {
        let line = [&["key", "create", "--expires", "2020-01-01T00:00:00Z"], kind].concat();
        let refused = site.offline(&line).fails();
        assert!(refused.complaint().contains("is over already"), "{refused}");
    }
    assert_eq!(keys(), before);
}

const COMMANDS: [&[&str]; 5] = [&["disk", "ls"], &["serve"], &["init"], &["fsck"], &["scrub"]];

#[test]
fn a_store_that_is_a_file_is_called_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "mine").unwrap();
    for store in [file.clone(), file.join("deeper")] {
        for command in COMMANDS {
            let store = store.display().to_string();
            let refused = program::reinit([&["--store", &store][..], command].concat()).fails();
            let told = refused.complaint();
            assert!(told.contains("is no directory") && told.contains("--store DIR"), "{refused}");
        }
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
}

#[test]
fn where_there_is_no_store_nobody_is_told_to_serve_it() {
    let directory = tempfile::tempdir().unwrap();
    for store in [directory.path().to_owned(), directory.path().join("missing")] {
        let store = store.display().to_string();
        let refused = program::reinit(["--store", &store, "disk", "ls"]).fails();
        let told = refused.complaint();
        assert!(told.contains("holds no store") && told.contains("--store DIR"), "{refused}");
        assert!(told.contains(&format!("reinit --store {store} init")), "{refused}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// As somebody whom the store does not belong to.
fn as_a_stranger(store: &Path, command: &[&str]) -> Outcome {
    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    stranger.arg(program::binary()).arg("--store").arg(store).args(command);
    program::run(&mut stranger)
}

#[test]
fn another_user_is_told_whose_store_it_is() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become another user");
        return;
    }
    let site = Site::new();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    mode(site.scratch(), 0o755).unwrap();
    for command in COMMANDS {
        let refused = as_a_stranger(&site.store(), command).fails();
        assert!(refused.complaint().contains("may not enter"), "{refused}");
        assert!(refused.complaint().contains("the user the store belongs to"), "{refused}");
    }
    // The directories may be opened to a group; the socket is the operator's alone.
    mode(&site.store(), 0o755).unwrap();
    mode(&site.store().join("run"), 0o755).unwrap();
    let refused = as_a_stranger(&site.store(), &["disk", "ls"]).fails();
    assert!(refused.complaint().contains("control socket"), "{refused}");
    assert!(refused.complaint().contains("run this as the one who runs the daemon"), "{refused}");
    let refused = as_a_stranger(&site.store(), &["serve"]).fails();
    assert!(refused.complaint().contains("belongs to another user"), "{refused}");
}
