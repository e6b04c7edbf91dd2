//! Our daemon as users run it: the released program, a store, the control socket.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    http::{HttpClient, Key, Prepared},
    machine, program,
};

/// The program `reinit`.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// The one given, or the release build of this workspace, brought up to date first.
    pub fn get(given: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(given) = given {
            ensure!(given.is_file(), "{} is not there", given.display());
            return Ok(Self(given.to_owned()));
        }
        let mut build = Command::new("cargo");
        build.args(["build", "--quiet", "--release", "--package", "cli", "--bin", "reinit"]);
        build.args(["--message-format", "json"]);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        let messages = program::run(&mut build).context("building the daemon")?;
        let built = messages.lines().rev().find_map(executable);
        built.map(Self).context("cargo built no program reinit")
    }
}

/// The program that a message of cargo speaks of.
fn executable(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    message["executable"].as_str().map(PathBuf::from)
}

/// A running daemon; ends with its value.
#[derive(Debug)]
pub struct Daemon {
    program: Program,
    store: PathBuf,
    child: Child,
    http: SocketAddr,
    /// From the start of the process to its ready line, in seconds.
    pub ready_after: f64,
}

impl Daemon {
    /// Makes an empty store in a folder that must not exist yet, and serves it.
    pub fn on_new_store(program: &Program, store: &Path) -> anyhow::Result<Self> {
        program::run(Command::new(&program.0).arg("--store").arg(store).arg("init"))?;
        Self::start(program, store)
    }

    /// Serves a store.
    pub fn start(program: &Program, store: &Path) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let mut command = Command::new(&program.0);
        command.arg("--store").arg(store).args(["serve", "--listen", "127.0.0.1:0"]);
        let log = store.with_extension("log");
        command.env("REINIT_LOG", "warn").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(fs::File::create(&log)?);
        let mut child = command.spawn().context("starting the daemon")?;
        let line = ready_line(&mut child);
        let ready_after = begun.elapsed().as_secs_f64();
        let (program, store) = (program.clone(), store.to_owned());
        let http = line.as_ref().ok().and_then(|line| line["http"].as_str()?.parse().ok());
        let Some(http) = http else {
            let _ = child.kill();
            let _ = child.wait();
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(line.err().unwrap_or_else(|| anyhow::anyhow!("no address")).context(said));
        };
        Ok(Self { program, store, child, http, ready_after })
    }

    /// A connection to its control socket.
    pub fn control(&self) -> anyhow::Result<HttpClient<UnixStream>> {
        HttpClient::unix(&self.store.join("run/control.sock")).context("the control socket")
    }

    /// Where it serves HTTP.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where it serves NBD.
    pub fn nbd_socket(&self) -> PathBuf {
        self.store.join("run/nbd.sock")
    }

    /// Runs a command of the program on this store, and gives its document.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.program.0);
        command.arg("--store").arg(&self.store).arg("--json").args(arguments);
        let text = program::run(&mut command)?;
        serde_json::from_str(&text).with_context(|| format!("{arguments:?} printed {text}"))
    }

    /// A new access key that may do everything.
    pub fn key(&self) -> anyhow::Result<Key> {
        let made = self.command(&["key", "create"])?;
        Ok(Key { id: text(&made, "AccessKeyId")?, secret: text(&made, "AccessKeySecret")? })
    }

    /// An instance with a system disk made from an image file; it was started once and is stopped.
    pub fn stopped_instance(&self, image: &Path) -> anyhow::Result<Instance> {
        let image = image.to_str().context("a path that is text")?;
        let imported = self.command(&["image", "import", image, "--name", "bench"])?;
        let image = text(&imported, "ImageId")?;
        let made = self.command(&["instance", "create", "--image", &image])?;
        let instance =
            Instance { id: text(&made, "InstanceId")?, disk: text(&made, "SystemDiskId")? };
        let mut control = self.control()?;
        control.send(&instance.start())?;
        control.send(&instance.stop())?;
        Ok(instance)
    }

    /// What of it is in memory, in MiB.
    pub fn resident_mebibytes(&self) -> anyhow::Result<f64> {
        let status = format!("/proc/{}/status", self.child.id());
        let text = machine::field(&status, "VmRSS").context("no VmRSS")?;
        let kib: f64 = text.trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    /// Ends it in order.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.ask_to_end();
        let status = self.child.wait()?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }

    fn ask_to_end(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Gone already is as good.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // `stop` has waited already; then these do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An instance and its system disk.
#[derive(Clone, Debug)]
pub struct Instance {
    id: String,
    /// The id of its system disk, and so the name of its export.
    pub disk: String,
}

impl Instance {
    /// Opens its exports.
    pub fn start(&self) -> Prepared {
        Prepared::plain("StartInstance", &[("InstanceId", &self.id)])
    }

    /// Flushes and closes them.
    pub fn stop(&self) -> Prepared {
        Prepared::plain("StopInstance", &[("InstanceId", &self.id)])
    }

    /// Asks for its state.
    pub fn describe(&self) -> Prepared {
        let ids = format!("[\"{}\"]", self.id);
        Prepared::plain("DescribeInstances", &[("InstanceIds", &ids)])
    }

    /// What the answer to [`Instance::describe`] says.
    pub fn is_stopped(&self, answer: &Value) -> bool {
        answer["Instances"]["Instance"][0]["Status"] == "Stopped"
    }

    /// Resets its system disk.
    pub fn reset(&self) -> Prepared {
        Prepared::plain("ReInitDisk", &[("DiskId", &self.disk)])
    }

    /// Resets its system disk and opens its exports.
    pub fn reset_and_start(&self) -> Prepared {
        let auto = ("AutoStartInstance", "true");
        Prepared::plain("ReInitDisk", &[("DiskId", &self.disk), auto])
    }
}

/// A field of an answer that must be there.
pub fn text(answer: &Value, field: &str) -> anyhow::Result<String> {
    let found = answer[field].as_str().with_context(|| format!("no {field} in {answer}"))?;
    Ok(found.to_owned())
}

fn ready_line(child: &mut Child) -> anyhow::Result<Value> {
    let out = child.stdout.as_mut().context("the output is a pipe")?;
    let mut line = String::new();
    BufReader::new(out.take(64 << 10)).read_line(&mut line)?;
    serde_json::from_str(&line).with_context(|| format!("no ready line but {line:?}"))
}
