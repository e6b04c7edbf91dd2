//! A real guest under QEMU without hardware virtualization: a kernel of Debian, a small initrd, and all else on the disk.
//!
//! What must always hold: no guest outlives its test; every wait has a limit, and what the guest said is told when it ends.
//! `bash tests/run` prepares the kernel and the initrd; which disk the guest gets is the story's matter.

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::symlink, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    program::run,
    sdk::{prepared, stories},
};

/// A boot takes some seconds; a busy machine has more to do.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Where `tests/run` put the kernel, the initrd and a busybox that needs no libraries.
pub fn parts() -> PathBuf {
    prepared("REINIT_TEST_GUEST", "test-guest")
}

/// Why there can be no guest here, if so.
pub fn hindrance() -> Option<&'static str> {
    (!cfg!(target_arch = "x86_64")).then_some("the guest is made for x86_64")
}

/// An ext4 file system with an init and a marker on it, as a raw image.
pub fn image(directory: &Path) -> PathBuf {
    let files = directory.join("guest-files");
    for name in ["bin", "sbin", "etc"] {
        fs::create_dir_all(files.join(name)).expect("a directory for the files");
    }
    fs::copy(parts().join("busybox"), files.join("bin/busybox")).expect("the busybox is there");
    symlink("busybox", files.join("bin/sh")).expect("a link can be made");
    let init = stories().join("guest/disk_init");
    fs::copy(init, files.join("sbin/init")).expect("the init is there");
    fs::write(files.join("etc/motd"), "pristine\n").expect("a file can be written");
    let image = directory.join("guest.raw");
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&files).arg(&image).arg("16M");
    run(&mut mke2fs).ok();
    image
}

/// What QEMU is told besides the disk: its serial console is a socket, and a file that keeps what is said there.
pub fn machine(directory: &Path) -> Vec<String> {
    let of = |name: &str| parts().join(name).display().to_string();
    let (socket, log) = (directory.join("console.sock"), directory.join("console.log"));
    let console = format!(
        "socket,id=console,path={},server=on,wait=off,logfile={},logappend=on",
        socket.display(),
        log.display()
    );
    let line = ["-accel", "tcg", "-m", "128", "-nodefaults", "-display", "none", "-no-reboot"];
    let mut line: Vec<String> = line.map(String::from).into();
    line.extend(["-kernel".into(), of("vmlinuz"), "-initrd".into(), of("initrd")]);
    line.extend(["-append".into(), "console=ttyS0 quiet panic=-1".into()]);
    line.extend(["-chardev".into(), console, "-serial".into(), "chardev:console".into()]);
    line
}

/// The serial console of a guest, whoever started it.
#[derive(Debug)]
pub struct Console {
    directory: PathBuf,
    /// How much of the log has been looked at.
    seen: usize,
    /// Kept open: QEMU forgets what a connection sent that is closed again.
    line: Option<UnixStream>,
}

impl Console {
    /// The console of the guest that is started next with [`machine`] of this directory.
    pub fn of(directory: &Path) -> Self {
        let mut console = Self { directory: directory.to_owned(), seen: 0, line: None };
        console.seen = console.said().len();
        console
    }

    fn said(&self) -> String {
        let bytes = fs::read(self.directory.join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the guest says this, after what was waited for before.
    pub fn wait_for(&mut self, text: &str) {
        let until = Instant::now() + TIME_LIMIT;
        loop {
            let said = self.said();
            if let Some(place) = said.get(self.seen..).and_then(|new| new.find(text)) {
                self.seen += place + text.len();
                return;
            }
            assert!(Instant::now() < until, "the guest does not say {text:?} but:\n{said}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types a line.
    pub fn type_line(&mut self, text: &str) {
        let connect = || UnixStream::connect(self.directory.join("console.sock"));
        let line = self.line.take().map_or_else(connect, Ok);
        let typed = line.and_then(|mut line| {
            line.write_all(format!("{text}\n").as_bytes())?;
            Ok(line)
        });
        match typed {
            Ok(line) => self.line = Some(line),
            Err(error) => panic!("{error}; the guest said:\n{}", self.said()),
        }
    }

    /// Has the guest do something, which must succeed.
    pub fn does(&mut self, line: &str) {
        self.type_line(line);
        self.wait_for("guest: done 0");
    }
}

/// A running guest.
#[derive(Debug)]
pub struct Guest {
    qemu: Child,
    /// Its console.
    pub console: Console,
}

impl Guest {
    /// Starts a guest with this disk, as QEMU's arguments have it.
    pub fn start(directory: &Path, disk: &[String]) -> Self {
        let console = Console::of(directory);
        let mut command = Command::new("qemu-system-x86_64");
        command.args(machine(directory)).args(disk).stdin(Stdio::null());
        let qemu = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { qemu, console }
    }

    /// Waits until the guest has switched itself off.
    pub fn ended(mut self) -> ExitStatus {
        let until = Instant::now() + TIME_LIMIT;
        loop {
            if let Some(status) = self.qemu.try_wait().expect("a child can be asked") {
                return status;
            }
            assert!(Instant::now() < until, "QEMU does not end; {}", self.console.said());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
