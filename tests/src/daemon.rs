//! A running `reinit serve`, from its ready line to its end.
//!
//! What must always hold: no daemon outlives its test, and it is ended by its own process id.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program;

/// No start and no end may take longer.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: Option<thread::JoinHandle<String>>,
    /// Its ready line.
    pub ready: Value,
}

/// Ends a process at once.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Asks a daemon to read anew what it can.
pub fn hang_up(pid: u32) {
    signal(pid, Signal::HUP);
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id is positive");
    // A process that has just ended by itself is as good.
    let _ = kill_process(pid, signal);
}

impl Daemon {
    /// Starts a daemon on this store and waits until it accepts requests.
    pub fn start(store: &Path, arguments: &[&str]) -> Self {
        Self::start_in(store, arguments, &[])
    }

    /// The same with these variables in its environment.
    pub fn start_in(store: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let own = arguments.contains(&"--listen");
        let listen = (!own).then_some(["--listen", "127.0.0.1:0"]);
        let mut child = Command::new(program::binary())
            .env_remove("REINIT_STORE")
            .envs(environment.iter().copied())
            .arg("--store")
            .arg(store)
            .arg("serve")
            .args(listen.into_iter().flatten())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon can be started");
        let stderr = child.stderr.take().expect("its standard error is a pipe");
        let log = Some(thread::spawn(move || read_all(stderr)));
        let stdout = child.stdout.take().expect("its standard output is a pipe");
        let (line, first) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            let _ = BufReader::new(stdout).read_line(&mut text);
            let _ = line.send(text);
        });
        let text = first.recv_timeout(TIME_LIMIT).unwrap_or_default();
        let mut daemon = Self { child, log, ready: Value::Null };
        match serde_json::from_str(&text) {
            Ok(ready) => daemon.ready = ready,
            Err(error) => panic!("no ready line ({error}) but {text:?}; log: {}", daemon.kill()),
        }
        assert_eq!(daemon.ready["event"], "ready");
        daemon
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves HTTP.
    pub fn http(&self) -> String {
        self.ready["http"].as_str().expect("the ready line names the HTTP address").to_owned()
    }

    /// kill -9; gives its log.
    pub fn kill(&mut self) -> String {
        kill(self.child.id());
        self.child.wait().expect("a child can be waited for");
        self.log.take().map(|log| log.join().expect("the log is read")).unwrap_or_default()
    }

    /// SIGTERM: it must end by itself, in time; gives how it ended and its log.
    pub fn terminate(mut self) -> (ExitStatus, String) {
        signal(self.child.id(), Signal::TERM);
        let until = Instant::now() + TIME_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return (status, self.kill());
            }
            assert!(Instant::now() < until, "no end after SIGTERM; log: {}", self.kill());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn read_all(mut stderr: ChildStderr) -> String {
    let mut bytes = Vec::new();
    let _ = stderr.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let running = self.child.try_wait().is_ok_and(|status| status.is_none());
        if running {
            let log = self.kill();
            if thread::panicking() {
                eprintln!("the daemon's log:\n{log}");
            }
        }
    }
}
