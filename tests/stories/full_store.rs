//! "The file system below my store is full. What is there stays, I can put disks back and throw some away, and
//! what nobody needs any more comes back to me."
//!
//! On a small file system in memory, which needs the right to mount; skipped, loudly, without it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use tests::{
    qemu,
    signature::Signature,
    site::{Machine, Site},
};

/// A small file system on a directory, for as long as this lives.
struct SmallFileSystem(PathBuf);

impl SmallFileSystem {
    fn on(directory: &Path, mib: u64) -> Option<Self> {
        let size = format!("size={mib}m,mode=0700");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(directory)
            .output();
        if mount.is_ok_and(|done| done.status.success()) {
            return Some(Self(directory.to_owned()));
        }
        eprintln!("SKIPPED: mounting a small file system is not allowed here");
        None
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        // Lazily: a daemon that is being ended may still hold files.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A site on a file system of 128 MiB; what unmounts it goes last.
fn small_site() -> Option<(Site, SmallFileSystem)> {
    let directory: TempDir =
        tempfile::Builder::new().prefix("reinit-").tempdir().expect("a directory");
    let mounted = SmallFileSystem::on(directory.path(), 128)?;
    Some((Site::inside(directory, "", &[]), mounted))
}

fn machine_of(site: &Site) -> Machine {
    let raw = qemu::ext4_image(site.scratch(), 16);
    let image = site.import(&raw, &[]);
    std::fs::remove_file(raw).unwrap();
    let machine = site.machine(&image, &["1G", "1G"]);
    site.start(&machine.instance);
    machine
}

/// Writes until the client is told that there is no space.
fn fill(site: &Site, disk: &str) {
    let told = (0..200).find_map(|mib| {
        let write = format!("write -P 0x77 {mib}M 1M");
        let outcome = qemu::try_io(&site.nbd(disk), "raw", &[&write]);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        said.contains("failed").then_some(said)
    });
    let told = told.expect("the file system is smaller than that");
    assert!(told.contains("No space left on device"), "{told}");
}

#[test]
fn a_full_store_keeps_what_it_has_resets_deletes_and_gets_its_space_back() {
    let Some((mut site, _mounted)) = small_site() else { return };
    let machine = machine_of(&site);
    let [kept, filled] = &machine.data[..] else { panic!("two data disks") };
    site.io(kept, &["write -P 0x31 0 4M", "flush"]);
    fill(&site, filled);
    // Full for good, not only for the size of that write.
    fill(&site, filled);

    // What is there stays, can be written again in place, and is durable.
    site.io(kept, &["read -P 0x31 0 4M", "write -P 0x32 1M 1M", "flush", "read -P 0x32 1M 1M"]);
    site.io(filled, &["read -P 0x77 0 1M"]);
    site.stop(&machine.instance);
    site.crash();

    // Resets, a detach and deletes still work.
    site.reinit(filled, Signature::V1);
    site.run(&["disk", "detach", kept]);
    site.run(&["disk", "rm", kept]);
    let shown = site.run(&["disk", "show", filled]);
    assert_eq!(shown["LiveBytes"], 0, "{shown}");
    let stale = shown["StaleBytes"].as_u64().unwrap();
    assert!(stale > 40 << 20, "{shown}");
    assert_eq!(shown["SharedBytes"], 0, "{shown}");

    // And the space comes back.
    let done = site.run(&["disk", "reclaim", filled, "--rate", "1G"]);
    assert_eq!(done["Disks"][0]["DiskId"], filled.as_str(), "{done}");
    let freed = done["Disks"][0]["FreedBytes"].as_u64().unwrap();
    let after = site.run(&["disk", "show", filled]);
    assert_eq!(after["StaleBytes"], 0, "{after}");
    // The daemon's own watch may have begun before.
    assert!(freed <= stale, "{done}");
    site.start(&machine.instance);
    site.io(
        filled,
        &["read -P 0 0 40M", "write -P 0x12 100M 40M", "flush", "read -P 0x12 100M 40M"],
    );
    assert!(site.run(&["disk", "verify", &machine.system])["InInitialState"] == true);
}

#[test]
fn a_reset_on_a_file_system_full_to_the_last_byte_is_answered_and_lost_audit_lines_are_counted() {
    let Some((site, _mounted)) = small_site() else { return };
    let machine = machine_of(&site);
    site.stop(&machine.instance);
    let reset = || site.reinit(&machine.data[0], Signature::V1);
    reset();
    let filler = site.scratch().join("filler");
    fill_to_the_last_byte(&filler);
    let lost = || {
        let (_, page) = tests::ecs::get(&site.daemon().http(), "/metrics");
        let line = page.lines().find(|line| line.starts_with("reinit_audit_lost_total "));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    };
    // The page that the file has begun holds some more.
    let needed = (1..100).find(|_| {
        reset();
        lost() > 0_u64
    });
    needed.expect("the file system is full");
    std::fs::remove_file(filler).unwrap();
    let before = lost();
    reset();
    assert_eq!(lost(), before);
    let shown = site.run(&["disk", "show", &machine.data[0]]);
    let entries = site.run(&["audit"])["Entries"].as_array().unwrap().clone();
    let last = &entries.last().unwrap()["Resets"][0];
    assert_eq!(last["RequestId"], shown["LastReset"]["RequestId"]);
    // Every line is whole, the one after a torn one too.
    let text = std::fs::read_to_string(site.store().join("audit.jsonl")).unwrap();
    assert_eq!(text.lines().count(), entries.len());
}

fn fill_to_the_last_byte(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
}
