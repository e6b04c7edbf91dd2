//! A service on a throw-away store, and a client that sends exactly the bytes it is told to.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use block_device::NoExports;
use block_store::{FileStorage, Store};
use catalog::{Catalog, SledCatalog};
use cloud::{Cloud, OpenCloud, Settings, SystemClock};
use ecs_http::{AuditPlace, Front, Limits, OpenFront, serve};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    sync::oneshot,
};

use crate::{
    signing::{Key, form, signed},
    told::{self, Door},
};

/// A running service.
pub struct Service {
    pub address: SocketAddr,
    pub cloud: Cloud,
    pub catalog: Arc<SledCatalog>,
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
    directory: TempDir,
}

impl Service {
    pub fn start() -> Self {
        Self::with(Limits::default(), Settings::default())
    }

    pub fn with(limits: Limits, settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let storage = FileStorage::open(directory.path()).unwrap();
        Store::create(&storage).unwrap();
        drop(storage);
        drop(SledCatalog::create(&directory.path().join("catalog")).unwrap());
        Self::open(directory, limits, settings)
    }

    fn open(directory: TempDir, limits: Limits, settings: Settings) -> Self {
        let storage = FileStorage::open(directory.path()).unwrap();
        let (catalog, _) = SledCatalog::open(&directory.path().join("catalog")).unwrap();
        let catalog = Arc::new(catalog);
        let records: Arc<dyn Catalog> = Arc::<SledCatalog>::clone(&catalog);
        let cloud = Cloud::open(OpenCloud {
            store: Store::open(Arc::new(storage)).unwrap(),
            catalog: records,
            exports: Arc::new(NoExports),
            settings,
            secret_key: directory.path().join("secret.key"),
            clock: Arc::new(SystemClock),
        })
        .unwrap();
        let front = Front::open(OpenFront {
            cloud: cloud.clone(),
            clock: Arc::new(SystemClock),
            limits,
            nonce_directory: Some(directory.path().to_owned()),
            audit: Some(AuditPlace {
                path: directory.path().join("audit.jsonl"),
                file_bytes: 1 << 20,
                files_kept: 2,
            }),
            tls: None,
        })
        .unwrap();
        let socket = directory.path().join("control.sock");
        let _ = std::fs::remove_file(&socket);
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let control = socket.clone();
        let served = thread::spawn(move || {
            Runtime::new().unwrap().block_on(async {
                let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let control = UnixListener::bind(&control).unwrap();
                tell.send(tcp.local_addr().unwrap()).unwrap();
                serve(&front, tcp, Some(control), async { drop(stopped.await) }).await;
            });
        });
        let address = told.recv().unwrap();
        Self { address, cloud, catalog, socket, stop: Some(stop), served: Some(served), directory }
    }

    /// Stops it; true if it did so in order.
    pub fn stop(&mut self) -> bool {
        let Some(served) = self.served.take() else { return true };
        drop(self.stop.take());
        let ended = served.join().is_ok();
        self.cloud.close();
        ended
    }

    /// Stops it and starts it again on the same store.
    pub fn restart(self) -> Self {
        self.restart_with(Settings::default())
    }

    /// The same with other settings.
    pub fn restart_with(mut self, settings: Settings) -> Self {
        assert!(self.stop());
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        drop(self);
        Self::open(directory, Limits::default(), settings)
    }

    pub fn key(&self) -> Key {
        self.key_of("default", "full")
    }

    pub fn key_of(&self, account: &str, role: &str) -> Key {
        let made = self.operator("CreateAccessKey", &[("Account", account), ("Role", role)]).ok();
        Key {
            id: made["AccessKeyId"].as_str().unwrap().into(),
            secret: made["AccessKeySecret"].as_str().unwrap().into(),
        }
    }

    /// An action through the control socket.
    pub fn operator(&self, action: &str, parameters: &[(&str, &str)]) -> Answer {
        self.operator_in("JSON", action, parameters).0
    }

    /// The same in either format, and the document of the answer as both are read.
    pub fn operator_in(
        &self,
        format: &str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> (Answer, Value) {
        let mut all = vec![("Action", action), ("Format", format)];
        all.extend_from_slice(parameters);
        let request =
            format!("POST /?{} HTTP/1.1\r\nHost: local\r\nContent-Length: 0\r\n\r\n", form(&all));
        let mut stream = self.connect_control();
        stream.write_all(request.as_bytes()).unwrap();
        let answer = Answer::read(&mut stream);
        let document = told::hold(Door::Control, Some(action), &answer).unwrap_or_default();
        (answer, document)
    }

    pub fn connect_control(&self) -> UnixStream {
        UnixStream::connect(&self.socket).unwrap()
    }

    /// A signed action over TCP, answered in JSON.
    pub fn call(&self, key: &Key, action: &str, parameters: &[(&str, &str)]) -> Answer {
        self.send(signed(key, "POST", "JSON", action, parameters).request("POST"))
    }

    /// Bytes over a connection of their own. Whatever is answered must be told by `/openapi.json`.
    pub fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        let answer = self.exchange(request.as_ref());
        told::hold(Door::Public, told::action_of(request.as_ref()).as_deref(), &answer);
        answer
    }

    fn exchange(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        Answer::read(&mut stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    pub fn get(&self, path: &str) -> Answer {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes())
    }

    /// A page through the control socket.
    pub fn operator_page(&self, path: &str) -> Answer {
        let mut stream = self.connect_control();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
        Answer::read(&mut stream)
    }

    /// The lines of the audit log.
    pub fn audited(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path().join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn path(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Imports an image of 1 MiB of an account, and waits until it can be used.
    pub fn image(&self, account: &str, name: &str, more: &[(&str, &str)]) -> String {
        let path = self.path().join(format!("{name}.img"));
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let path = path.to_str().unwrap();
        let mut asked =
            vec![("Account", account), ("Path", path), ("ImageName", name), ("ImageFormat", "raw")];
        asked.extend_from_slice(more);
        let begun = self.operator("ImportImageFile", &asked);
        let task = begun.text("TaskId");
        wait(|| {
            let now = self.operator("ShowTask", &[("Account", account), ("TaskId", &task)]);
            assert_ne!(now.text("TaskStatus"), "Failed", "{now:?}");
            now.text("TaskStatus") == "Finished"
        });
        begun.text("ImageId")
    }

    /// An instance of the account of the key, and its disks: the system disk, then the data disks.
    pub fn instance(&self, key: &Key, image: &str, more: &[(&str, &str)]) -> (String, Vec<String>) {
        let mut asked = vec![("ImageId", image), ("InstanceType", "ecs.g7.large")];
        asked.extend_from_slice(more);
        let id = self.call(key, "CreateInstance", &asked).text("InstanceId");
        let found = self.call(key, "DescribeDisks", &[("InstanceId", &id)]).ok();
        let mut disks: Vec<_> = found["Disks"]["Disk"].as_array().unwrap().clone();
        disks.sort_by_key(|disk| disk["Device"].as_str().unwrap().to_owned());
        (id, disks.iter().map(|disk| disk["DiskId"].as_str().unwrap().to_owned()).collect())
    }

    pub fn start_instance(&self, key: &Key, id: &str) {
        self.call(key, "StartInstance", &[("InstanceId", id)]).ok();
        wait(|| self.status(key, id) == "Running");
    }

    pub fn stop_instance(&self, key: &Key, id: &str) {
        self.call(key, "StopInstance", &[("InstanceId", id)]).ok();
        wait(|| self.status(key, id) == "Stopped");
    }

    /// A stopped instance that was started once.
    pub fn used_instance(
        &self,
        key: &Key,
        image: &str,
        more: &[(&str, &str)],
    ) -> (String, Vec<String>) {
        let made = self.instance(key, image, more);
        self.start_instance(key, &made.0);
        self.stop_instance(key, &made.0);
        made
    }

    fn status(&self, key: &Key, id: &str) -> String {
        let ids = format!("[\"{id}\"]");
        let found = self.call(key, "DescribeInstances", &[("InstanceIds", &ids)]).ok();
        found["Instances"]["Instance"][0]["Status"].as_str().unwrap().to_owned()
    }

    /// A snapshot that is accomplished.
    pub fn snapshot(&self, key: &Key, disk: &str) -> String {
        let id = self.call(key, "CreateSnapshot", &[("DiskId", disk)]).text("SnapshotId");
        let ids = format!("['{id}']");
        wait(|| {
            let found = self.call(key, "DescribeSnapshots", &[("SnapshotIds", &ids)]).ok();
            let found = &found["Snapshots"]["Snapshot"][0];
            found["Status"] == "accomplished" && found["Progress"] == "100%"
        });
        id
    }
}

/// Waits until something is so.
pub fn wait(so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// Reads one answer with a `Content-Length`; whatever came if the connection ends before.
    pub fn read(stream: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        let mut chunk = [0; 65536];
        loop {
            if let Some(answer) = Self::whole(&bytes) {
                return answer;
            }
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return Self::partial(&bytes),
                Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            }
        }
    }

    fn whole(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length: usize = head
            .split("content-length: ")
            .nth(1)
            .map_or(Ok(0), |rest| rest.split("\r\n").next().unwrap().parse())
            .ok()?;
        let body = bytes.get(end..end + length)?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head, body: String::from_utf8(body.to_vec()).ok()? })
    }

    fn partial(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: text.to_ascii_lowercase(), body: String::new() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The document of a success.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        let document = self.json();
        assert_eq!(document["RequestId"].as_str().unwrap().len(), 36, "{self:?}");
        document
    }

    /// The text of a field of a success.
    pub fn text(&self, field: &str) -> String {
        self.ok()[field].as_str().unwrap_or_else(|| panic!("{field} in {self:?}")).to_owned()
    }

    /// Code and status.
    pub fn refusal(&self) -> (String, u16) {
        let code = if self.body.starts_with('<') {
            let rest = self.body.split("<Code>").nth(1).unwrap_or_default();
            rest.split("</Code>").next().unwrap_or_default().to_owned()
        } else {
            self.json()["Code"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
        };
        (code, self.status)
    }

    #[track_caller]
    pub fn refused(&self, code: &str, status: u16) {
        assert_eq!(self.refusal(), (code.to_owned(), status), "{self:?}");
    }
}
