//! `moto`: an emulator of the EC2 API in Python, with its volumes in memory.
//!
//! It checks no signature and keeps nothing, so that only what answers a question about what is there
//! can be compared with it. It is installed from PyPI into a folder of its own under `target`.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::program;

/// What is installed.
const PACKAGE: &str = "moto[ec2,server]==5.2.5";

/// Fills the emulator through its own model, for calls over HTTP would take minutes; says where it
/// serves and which volumes there are; ends with its standard input.
const SERVER: &str = r#"
import json, sys
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.server import ThreadedMotoServer

backend = ec2_backends[DEFAULT_ACCOUNT_ID]["us-east-1"]
volumes = [backend.create_volume(size=20, zone_name="us-east-1a").id for _ in range(int(sys.argv[1]))]
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(json.dumps({"address": "%s:%s" % server.get_host_and_port(), "volumes": volumes}), flush=True)
sys.stdin.read()
server.stop()
"#;

/// A running emulator.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    address: SocketAddr,
    volumes: Vec<String>,
}

impl Moto {
    /// Its name in tables.
    pub const NAME: &str = "moto";

    /// Serves so many volumes. Fails where it cannot be installed, which the error says.
    pub fn with_volumes(count: usize) -> anyhow::Result<Self> {
        let python = installed().context("moto cannot be installed here")?;
        let mut command = Command::new(python);
        command.args(["-c", SERVER, &count.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("starting moto")?;
        match said(&mut child) {
            Ok((address, volumes)) => Ok(Self { child, address, volumes }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.context("moto did not start"))
            }
        }
    }

    /// Asks for the first so many volumes by their ids; they must all be in the answer.
    pub fn describe(&self, count: usize) -> anyhow::Result<()> {
        let ids = (1..).zip(self.volumes.iter().take(count));
        let ids: String = ids.map(|(n, id)| format!("&VolumeId.{n}={id}")).collect();
        let body = format!("Action=DescribeVolumes&Version=2016-11-15{ids}");
        let answer = self.post(&body)?;
        let told = answer.matches("<volumeId>").count();
        ensure!(told == count, "moto told of {told} volumes instead of {count}");
        Ok(())
    }

    /// It ends the connection after each answer.
    fn post(&self, body: &str) -> anyhow::Result<String> {
        let scope = "Credential=bench/20260101/us-east-1/ec2/aws4_request";
        let head = format!(
            "POST / HTTP/1.1\r\nhost: ec2.us-east-1.amazonaws.com\r\nconnection: close\r\n\
             authorization: AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
            body.len(),
        );
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.write_all([&head, body].concat().as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1);
        if status != Some("200") {
            bail!("moto answered {}", answer.lines().next().unwrap_or_default());
        }
        Ok(answer)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where it serves, and its volumes.
fn said(child: &mut Child) -> anyhow::Result<(SocketAddr, Vec<String>)> {
    let out = child.stdout.as_mut().context("the output is a pipe")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let told: Value = serde_json::from_str(&line).context("it said nothing of itself")?;
    let address = told["address"].as_str().context("it said no address")?.parse()?;
    let volumes = told["volumes"].as_array().context("it said no volumes")?;
    let volumes = volumes.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
    Ok((address, volumes))
}

/// A Python that has the package. What was installed is written down last, so that a broken-off run is
/// never taken for done.
fn installed() -> anyhow::Result<PathBuf> {
    let folder = target().join("bench-python");
    let (python, done) = (folder.join("bin/python"), folder.join("package"));
    if fs::read_to_string(&done).is_ok_and(|package| package == PACKAGE) {
        return Ok(python);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    program::run(&mut program::on("python3", &["-m", "venv"], &folder))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE];
    program::run(Command::new(&python).args(install))?;
    fs::write(&done, PACKAGE)?;
    Ok(python)
}

fn target() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    env::var_os("CARGO_TARGET_DIR").map_or(beside, PathBuf::from)
}
