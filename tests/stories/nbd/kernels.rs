//! A kernel without an NBD client of its own, by way of nbdfuse and a loop device: file systems live on a disk.
//!
//! Only root may mount. Where this is not root the stories say that they did not run.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use tests::program::{Outcome, run};

use super::{Bench, shown, tool};

/// A kind of file system and its tools.
struct Kind {
    name: &'static str,
    make: &'static [&'static str],
    /// Finds fault with one that was left in order, and changes nothing.
    check: &'static [&'static str],
}

const EXT4: Kind =
    Kind { name: "ext4", make: &["mkfs.ext4", "-q", "-F"], check: &["e2fsck", "-f", "-n"] };
const XFS: Kind =
    Kind { name: "xfs", make: &["mkfs.xfs", "-q", "-f"], check: &["xfs_repair", "-n"] };
const BTRFS: Kind = Kind {
    name: "btrfs",
    make: &["mkfs.btrfs", "-q", "-f"],
    check: &["btrfs", "check", "--readonly"],
};

/// Why this machine cannot mount anything, if so.
fn hindrance() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can mount a file system");
    }
    let devices = ["/dev/fuse", "/dev/loop-control"];
    let there = devices.iter().all(|device| Path::new(device).exists());
    (!there).then_some("there is no /dev/fuse or no /dev/loop-control")
}

/// A disk as a block device of this machine.
struct Device {
    fuse: Child,
    place: PathBuf,
    /// Such as `/dev/loop0`.
    node: String,
}

impl Device {
    fn of(bench: &Bench) -> Self {
        let place = bench.site.scratch().join("fuse");
        fs::create_dir_all(&place).unwrap();
        let file = place.join("disk");
        let mut nbdfuse = Command::new("nbdfuse");
        let fuse = nbdfuse.arg(&file).arg(bench.uri()).spawn().unwrap();
        let mut device = Self { fuse, place, node: String::new() };
        let until = Instant::now() + Duration::from_secs(30);
        while !file.exists() {
            assert!(Instant::now() < until, "nbdfuse shows no file");
            thread::sleep(Duration::from_millis(10));
        }
        device.node = tool("losetup", &["--find", "--show", &shown(&file)]).stdout.trim().into();
        device
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Whatever was reached is undone; a story that failed early did not get far.
        let _ = Command::new("losetup").args(["--detach", &self.node]).status();
        let _ = Command::new("umount").arg("--lazy").arg(&self.place).status();
        let _ = self.fuse.wait();
    }
}

/// A mounted file system.
struct Mount {
    place: PathBuf,
    /// Whether it was left in order.
    over: bool,
}

impl Mount {
    fn of(kind: &Kind, source: &str, options: &str, place: PathBuf) -> Self {
        fs::create_dir_all(&place).unwrap();
        tool("mount", &["-t", kind.name, "-o", options, source, &shown(&place)]);
        Self { place, over: false }
    }

    fn leave(mut self) {
        tool("umount", &[&shown(&self.place)]);
        self.over = true;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.over {
            let _ = Command::new("umount").arg("--lazy").arg(&self.place).status();
        }
    }
}

/// Bytes of a file by its number.
fn content(number: usize) -> Vec<u8> {
    (0..number * 5000)
        .map(|byte| u8::try_from((byte ^ byte >> 9 ^ number) & 0xff).unwrap())
        .collect()
}

const FILES: usize = 60;

/// Files large and small; every fifth is removed again and every seventh gets another name.
fn load(mount: &Mount) {
    fs::create_dir(mount.path("some")).unwrap();
    for number in 0..FILES {
        fs::write(mount.path(&format!("some/{number}")), content(number)).unwrap();
    }
    for number in (0..FILES).step_by(5) {
        fs::remove_file(mount.path(&format!("some/{number}"))).unwrap();
    }
    for number in (0..FILES).step_by(7).filter(|number| number % 5 != 0) {
        let old = mount.path(&format!("some/{number}"));
        fs::rename(old, mount.path(&format!("renamed-{number}"))).unwrap();
    }
}

fn is_loaded(mount: &Mount) {
    for number in 0..FILES {
        let name = if number % 7 == 0 { "renamed-" } else { "some/" };
        let found = fs::read(mount.path(&format!("{name}{number}"))).ok();
        let wanted = (number % 5 != 0).then(|| content(number));
        assert!(found == wanted, "file {number}");
    }
}

fn check(kind: &Kind, target: &str) -> Outcome {
    let (name, arguments) = kind.check.split_first().unwrap();
    let checked = run(Command::new(name).args(arguments).arg(target));
    assert_eq!(checked.code, Some(0), "{checked}");
    checked
}

/// Whether anything on it is known to blkid.
fn is_blank(target: &str) -> bool {
    let probed = run(Command::new("blkid").args(["--probe", target]));
    match probed.code {
        Some(0) => false,
        Some(2) => true,
        _ => panic!("{probed}"),
    }
}

/// Made, mounted, loaded, left and checked, over the kernel and from the store's files; then reset while it is mounted.
fn story(kind: &Kind) {
    if let Some(why) = hindrance() {
        eprintln!("SKIPPED: {}: {why}", kind.name);
        return;
    }
    let mut bench = Bench::new();
    let place = bench.site.scratch().join("mounted");
    let device = Device::of(&bench);
    let (name, arguments) = kind.make.split_first().unwrap();
    tool(name, &[arguments, &[&device.node]].concat());
    let mount = Mount::of(kind, &device.node, "discard", place.clone());
    load(&mount);
    mount.leave();
    let mount = Mount::of(kind, &device.node, "ro", place.clone());
    is_loaded(&mount);
    mount.leave();
    check(kind, &device.node);
    drop(device);

    let files = shown(&bench.files_of());
    check(kind, &files);
    let copy = Mount::of(kind, &files, "loop,ro", place.clone());
    is_loaded(&copy);
    copy.leave();

    reset_while_mounted(kind, &bench, place);
}

/// A reset is refused while the instance runs. Where it is stopped for it the mounted file system is cut off: nothing that
/// was not written before gets onto the disk, and who comes back finds an empty one.
fn reset_while_mounted(kind: &Kind, bench: &Bench, place: PathBuf) {
    let device = Device::of(bench);
    let mount = Mount::of(kind, &device.node, "defaults", place);
    is_loaded(&mount);
    let refused = bench.site.offline(&["reset", bench.disk()]).fails();
    assert!(refused.complaint().contains("--cycle"), "{refused}");
    let mut open = File::create(mount.path("open")).unwrap();
    open.write_all(b"before").unwrap();
    open.sync_all().unwrap();
    is_loaded(&mount);

    bench.site.run(&["reset", bench.disk(), "--cycle", "--verify"]);
    // The kernel may take it, but it has nowhere to put it.
    let late = open.write_all(&content(40)).and_then(|()| open.sync_all());
    assert!(late.is_err(), "a write after the reset was taken for durable");
    drop(open);
    // nbdfuse has ended by itself, and a file system whose device is gone may complain.
    drop(mount);
    drop(device);
    assert!(bench.is_twin(&bench.uri()), "something of it is left or came later");
    assert_eq!(bench.site.show(bench.disk())["BytesWrittenSinceReset"], 0);

    let device = Device::of(bench);
    assert!(is_blank(&device.node), "the file system is still there");
    let (name, arguments) = kind.make.split_first().unwrap();
    tool(name, &[arguments, &[&device.node]].concat());
    assert!(!is_blank(&device.node), "blkid finds one where there is one");
}

#[test]
fn ext4_lives_on_a_disk_and_goes_with_its_reset() {
    story(&EXT4);
}

#[test]
fn xfs_lives_on_a_disk_and_goes_with_its_reset() {
    story(&XFS);
}

#[test]
fn btrfs_lives_on_a_disk_and_goes_with_its_reset() {
    story(&BTRFS);
}
