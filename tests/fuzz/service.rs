//! A service of the ECS protocol in this process, whose clock stands where it is put, and a client in raw bytes.
//!
//! What must always hold: every answer is a whole HTTP answer with a document in it, and none says that we made a
//! mistake; what hyper itself refuses has no document.
//! Left to others: what is sent and what must come of it (`parameters`, `signed`).

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
use catalog::MemoryCatalog;
use cloud::{Caller, Cloud, OpenCloud, Role, SetClock, Settings};
use ecs_http::{Front, Limits, OpenFront, serve};
use jiff::Timestamp;
use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;
use tempfile::TempDir;
use tests::{recorded_storage::scratch, signature::Key};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    sync::oneshot,
};

/// When everything happens: 2027-01-15T08:00:00Z.
const START: i64 = 1_800_000_000;

/// A running service.
pub(crate) struct Service {
    address: SocketAddr,
    socket: PathBuf,
    /// A key of its one account.
    pub(crate) key: Key,
    clock: Arc<SetClock>,
    seconds: i64,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
    _directory: TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// None where hyper refused what was no request.
    pub(crate) document: Option<Value>,
}

impl Service {
    pub(crate) fn start() -> Self {
        let directory = scratch();
        let storage = FileStorage::open(directory.path()).unwrap();
        Store::create(&storage).unwrap();
        let clock = Arc::new(SetClock::at(Timestamp::from_second(START).unwrap()));
        let cloud = Cloud::open(OpenCloud {
            store: Store::open(Arc::new(storage)).unwrap(),
            catalog: Arc::new(MemoryCatalog::new()),
            exports: Arc::new(NoExports),
            settings: Settings::default(),
            secret_key: directory.path().join("secret.key"),
            clock: clock.clone(),
        })
        .unwrap();
        let made = cloud.create_key(&Caller::operator("lab"), "lab", Role::Full, None).unwrap();
        let key = Key { id: made.access_key_id, secret: made.secret.reveal().to_owned() };
        let limits = Limits::default();
        let front = OpenFront {
            cloud: cloud.clone(),
            clock: clock.clone(),
            limits,
            nonce_directory: None,
            audit: None,
            tls: None,
        };
        let front = Front::open(front).unwrap();
        let socket = directory.path().join("control.sock");
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
            cloud.close();
        });
        let address = told.recv().unwrap();
        let (stop, served) = (Some(stop), Some(served));
        Self { address, socket, key, clock, seconds: START, stop, served, _directory: directory }
    }

    /// One second later: nonces grow old and are forgotten.
    pub(crate) fn tick(&mut self) {
        self.seconds += 1;
        self.clock.set(self.now());
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_second(self.seconds).unwrap()
    }

    /// The number of the moment: no two ticks have the same.
    pub(crate) fn nonce(&self) -> String {
        format!("nonce-{}", self.seconds)
    }

    /// Over TCP, where requests must be signed.
    pub(crate) fn public(&self, request: &[u8]) -> Answer {
        let stream = TcpStream::connect(self.address).unwrap();
        // Closed at once: in minutes of this no port may be left waiting.
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        exchange(stream, request)
    }

    /// Through the control socket, where they need not be.
    pub(crate) fn control(&self, request: &[u8]) -> Answer {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        exchange(stream, request)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            served.join().unwrap();
        }
    }
}

impl Answer {
    /// The code of a refusal, if there is one.
    pub(crate) fn code(&self) -> &str {
        self.document.as_ref().and_then(|document| document["Code"].as_str()).unwrap_or_default()
    }
}

/// A request with its length told right; the query goes in as it is.
pub(crate) fn request(method: &[u8], query: &[u8], headers: &[u8], body: &[u8]) -> Vec<u8> {
    let length = format!("\r\nContent-Length: {}\r\n", body.len());
    let parts: [&[u8]; 8] =
        [method, b" /?", query, b" HTTP/1.1", length.as_bytes(), headers, b"\r\n\r\n", body];
    parts.concat()
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Answer {
    // A service that hangs up early has still said something.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let mut part = [0; 1 << 14];
    loop {
        if let Some(answer) = whole(&bytes) {
            return answer;
        }
        match stream.read(&mut part) {
            Ok(0) => panic!("no whole answer: {:?}", String::from_utf8_lossy(&bytes)),
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
}

fn whole(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let body = bytes.get(end..end + length.parse::<usize>().unwrap())?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(status != 500, "{head}{}", String::from_utf8_lossy(body));
    if body.is_empty() {
        assert!(matches!(status, 400 | 414 | 431 | 413), "an answer without a document: {head}");
        return Some(Answer { status, document: None });
    }
    let document: Option<Value> = if head.contains("application/json") {
        let document: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(document["RequestId"].as_str().unwrap().len(), 36, "{document}");
        Some(document)
    } else {
        let text = std::str::from_utf8(body).unwrap();
        assert!(text.contains("<RequestId>"), "{head}{text}");
        assert!(
            !text
                .chars()
                .any(|c| c < ' ' && !"\n\r\t".contains(c) || "\u{fffe}\u{ffff}".contains(c)),
            "not XML: {text:?}"
        );
        None
    };
    Some(Answer { status, document })
}
