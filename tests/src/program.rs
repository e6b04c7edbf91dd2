//! The command line as a person runs it.
//!
//! What must always hold: every run has a time limit, so that a hang is a failure with a name.
//! The binary is built once, by whoever asks first: cargo tells no package where another one's binary lies.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// No command may take longer.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    command: String,
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its results.
    pub stdout: String,
    /// Everything else it said.
    pub stderr: String,
}

/// The path of the `reinit` binary.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(build)
}

fn build() -> PathBuf {
    // The test runs as TARGET/PROFILE/deps/NAME: the binary belongs into TARGET/PROFILE.
    let own = env::current_exe().expect("a running test has a path");
    let profile = own.ancestors().nth(2).expect("cargo keeps tests in PROFILE/deps");
    let target = profile.parent().expect("cargo keeps profiles in the target directory");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Build scripts look at these, and what they find new is built anew, the running test included.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|of| name.starts_with(of)) {
            cargo.env_remove(&*name);
        }
    }
    // With the same features as `cargo test --workspace`, which asks for the tests of all: everything but the binary
    // is there already. The binary alone would want half of the dependencies built again.
    cargo.args(["build", "--quiet", "--locked", "--workspace", "--bins", "--tests"]);
    cargo.arg("--target-dir").arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "building the command line failed");
    profile.join("reinit")
}

/// Runs `reinit` with these arguments and no environment of its own.
pub fn reinit<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Outcome {
    let mut command = Command::new(binary());
    command.args(arguments).env_remove("REINIT_STORE");
    run(&mut command)
}

/// Runs a command to its end and keeps what it said.
pub fn run(command: &mut Command) -> Outcome {
    let line = format!("{command:?}");
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let watch = Watch::over(child.id(), &line);
    let output = child.wait_with_output().expect("a child can be waited for");
    watch.ended();
    Outcome {
        command: line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Ends a process that takes too long.
#[derive(Debug)]
pub(crate) struct Watch {
    done: std::sync::mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Watch {
    pub(crate) fn over(pid: u32, line: &str) -> Self {
        let (done, waiting) = std::sync::mpsc::channel();
        let line = line.to_owned();
        let until = Instant::now() + TIME_LIMIT;
        let thread = thread::spawn(move || {
            if waiting.recv_timeout(until - Instant::now()).is_err() {
                eprintln!("{line} takes longer than {TIME_LIMIT:?}; ending it");
                crate::daemon::kill(pid);
            }
        });
        Self { done, thread }
    }

    pub(crate) fn ended(self) {
        // A watch that already fired no longer listens.
        let _ = self.done.send(());
        self.thread.join().expect("the watch does not panic");
    }
}

impl Outcome {
    /// It must have succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// It must have failed as an operation, in one line of complaint.
    pub fn fails(self) -> Self {
        assert_eq!(self.code, Some(1), "{self}");
        assert_eq!(self.complaint().lines().count(), 1, "one line, please: {self}");
        self
    }

    /// What it printed, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The lines on standard error that are the program's own complaint, not its log.
    pub fn complaint(&self) -> String {
        let own = self.stderr.lines().filter(|line| line.starts_with("reinit: "));
        own.collect::<Vec<_>>().join("\n")
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "{command}\nexit {code:?}\nstdout: {stdout}\nstderr: {stderr}")
    }
}
