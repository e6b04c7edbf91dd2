//! "The daemon cannot start: I get one line that says why, exit 1, and my store is untouched."

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tests::{
    program::{self, Outcome},
    site::Site,
};

/// Every file of a directory with its content; sockets and directories by name alone.
fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
            found.insert(path, Vec::new());
        } else {
            let bytes = if path.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            found.insert(path, bytes);
        }
    }
    found
}

fn serve(store: &Path, listen: &str) -> Outcome {
    let store = store.display().to_string();
    program::reinit(["--store", &store, "serve", "--listen", listen])
}

/// A store that was used and is at rest, which `serve` must refuse and leave as it is.
fn refused_untouched(store: &Path, listen: &str, reason: &str) {
    let before = content(store);
    let refused = serve(store, listen).fails();
    assert!(refused.complaint().contains(reason), "{refused}");
    assert_eq!(refused.stdout, "", "no ready line: {refused}");
    let after = content(store);
    // The lock file holds the number of the process that took it last, and this one had to take it to look further.
    let names = |all: &BTreeMap<PathBuf, Vec<u8>>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    for (path, bytes) in before.into_iter().filter(|(path, _)| !path.ends_with("lock")) {
        assert!(after[&path] == bytes, "{} changed", path.display());
    }
}

fn store_at_rest() -> Site {
    let mut site = Site::new();
    site.run(&["disk", "create", "--size", "1G"]);
    site.end_daemon();
    site
}

#[test]
fn a_second_daemon_names_the_first_and_does_not_harm_it() {
    let site = Site::new();
    let refused = serve(&site.store(), "127.0.0.1:0").fails();
    let pid = site.daemon().pid().to_string();
    assert!(refused.complaint().contains(&pid), "{refused}");
    site.run(&["disk", "create", "--size", "1G"]);
}

#[test]
fn a_port_in_use() {
    let site = store_at_rest();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused_untouched(&site.store(), &address, &address);
}

#[test]
fn a_damaged_ledger_header() {
    let site = store_at_rest();
    let ledger = fs::OpenOptions::new().write(true).open(site.store().join("ledger")).unwrap();
    for copy in 0..16 {
        ledger.write_all_at(&[0xff; 64], copy * 512).unwrap();
    }
    drop(ledger);
    refused_untouched(&site.store(), "127.0.0.1:0", "ledger");
}

#[test]
fn a_directory_that_is_no_store_or_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let refused = serve(&missing, "127.0.0.1:0").fails();
    assert!(refused.complaint().contains("init"), "{refused}");
    assert!(!missing.exists());
    fs::write(directory.path().join("letter"), "not a store").unwrap();
    refused_untouched(directory.path(), "127.0.0.1:0", "store");
}

#[test]
fn an_unknown_key_in_the_configuration() {
    let site = store_at_rest();
    fs::write(site.store().join("reinit.toml"), "hash_bandwith = 1\n").unwrap();
    refused_untouched(&site.store(), "127.0.0.1:0", "hash_bandwith");
}

#[test]
fn a_store_too_deep_for_its_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("d".repeat(100));
    let store = deep.display().to_string();
    let refused = program::reinit(["--store", &store, "serve"]).fails();
    assert!(refused.complaint().contains("bytes"), "{refused}");
}

#[test]
fn init_takes_no_directory_that_holds_something() {
    let site = store_at_rest();
    let before = content(&site.store());
    site.offline(&["init"]).fails();
    assert!(content(&site.store()) == before);
}

/// Runs a script in mount namespace of its own; says so and gives nothing where that is not allowed.
pub(crate) fn with_own_mounts(script: &str, arguments: &[&Path]) -> Option<Outcome> {
    let allowed = Command::new("unshare")
        .args(["--mount", "--map-root-user", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !allowed {
        eprintln!("SKIPPED: this system allows no mount namespace, which the test needs");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-ec", script, "sh"]).args(arguments);
    Some(program::run(&mut command))
}

#[test]
fn a_read_only_file_system() {
    let site = store_at_rest();
    let before = content(&site.store());
    let script = "mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"; \
                  exec \"$2\" --store \"$1\" serve --listen 127.0.0.1:0";
    if let Some(refused) = with_own_mounts(script, &[&site.store(), program::binary()]) {
        let refused = refused.fails();
        assert!(refused.complaint().to_lowercase().contains("read-only"), "{refused}");
    }
    assert!(content(&site.store()) == before);
}

#[test]
fn a_full_file_system() {
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=16k none \"$1\"; dd if=/dev/zero of=\"$1/full\" 2>/dev/null || true; \
                  mkdir \"$1/store\" || true; exec \"$2\" --store \"$1/store\" init";
    if let Some(refused) = with_own_mounts(script, &[directory.path(), program::binary()]) {
        let refused = refused.fails();
        assert!(refused.complaint().to_lowercase().contains("space"), "{refused}");
    }
}

#[test]
fn commands_without_a_daemon_say_how_to_start_one() {
    let site = store_at_rest();
    let refused = site.offline(&["disk", "ls"]).fails();
    assert!(refused.complaint().contains("serve"), "{refused}");
    let refused = site.offline(&["disk", "ls", "--json"]).fails();
    assert_eq!(refused.json()["Code"], "NoDaemon");
}
