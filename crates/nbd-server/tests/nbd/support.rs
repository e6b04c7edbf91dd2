//! A server of a test, devices that can be held up, and a client that speaks in raw bytes.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use block_device::{
    BlockDevice, ByteLength, ByteOffset, DeviceError, DiskId, Durability, Extent, MemoryDisk,
    ZeroMode,
};
use nbd_server::{Limits, NbdServer, client::NbdClient};

/// No single wait of a test takes longer, on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const MIB: u64 = 1 << 20;

/// A server with a unix socket in a directory of its own, ended with the value.
pub(crate) struct TestServer {
    pub(crate) server: NbdServer,
    directory: tempfile::TempDir,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = NbdServer::new(limits);
        server.listen_unix(&directory.path().join("socket")).unwrap();
        Self { server, directory }
    }

    /// A server that has a disk of this many bytes in memory under the name `disk`.
    pub(crate) fn of_memory(size: u64) -> (Self, Arc<MemoryDisk>) {
        Self::of_memory_with(Limits::default(), size)
    }

    pub(crate) fn of_memory_with(limits: Limits, size: u64) -> (Self, Arc<MemoryDisk>) {
        let test = Self::with(limits);
        let disk = Arc::new(MemoryDisk::new(ByteLength::new(size)));
        test.server.publish(&name(), disk.clone());
        (test, disk)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn listen_tcp(&self) -> SocketAddr {
        self.server.listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    pub(crate) fn client(&self) -> NbdClient {
        NbdClient::connect_unix(&self.path(), "disk").unwrap()
    }

    pub(crate) fn raw(&self) -> RawClient {
        RawClient::greet(&self.path())
    }

    /// A fresh client is served, and soon.
    pub(crate) fn assert_serves(&self) {
        let begun = Instant::now();
        let mut sector = [0; 512];
        self.client().read(&mut sector, ByteOffset::ZERO).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.server.shutdown();
    }
}

pub(crate) fn name() -> DiskId {
    "disk".parse().unwrap()
}

pub(crate) fn at(offset: u64) -> ByteOffset {
    ByteOffset::new(offset)
}

pub(crate) fn bytes(length: u64) -> ByteLength {
    ByteLength::new(length)
}

/// Waits until it is so.
pub(crate) fn eventually(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A client that sends what it likes.
pub(crate) struct RawClient<S = UnixStream>(pub(crate) S);

pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
pub(crate) const ACK: u32 = 1;
pub(crate) const UNSUPPORTED: u32 = 0x8000_0001;
pub(crate) const POLICY: u32 = 0x8000_0002;
pub(crate) const INVALID: u32 = 0x8000_0003;
pub(crate) const TLS_REQUIRED: u32 = 0x8000_0005;
pub(crate) const UNKNOWN: u32 = 0x8000_0006;
pub(crate) const SHUTDOWN: u32 = 0x8000_0007;
pub(crate) const TOO_BIG: u32 = 0x8000_0009;
pub(crate) const EXTENDED_REQUIRED: u32 = 0x8000_000a;

impl RawClient<TcpStream> {
    pub(crate) fn silent_tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub(crate) fn greet_tcp(address: SocketAddr) -> Self {
        let mut raw = Self::silent_tcp(address);
        raw.greeted();
        raw
    }
}

impl RawClient {
    pub(crate) fn silent(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Has read the greeting and sent the client flags.
    pub(crate) fn greet(path: &Path) -> Self {
        let mut raw = Self::silent(path);
        raw.greeted();
        raw
    }

    /// Is in transmission, with simple or structured replies.
    pub(crate) fn open(path: &Path, structured: bool) -> Self {
        let mut raw = Self::greet(path);
        if structured {
            raw.option(8, &[]);
            assert_eq!(raw.option_reply(8), (ACK, vec![]));
        }
        raw.choose_disk();
        raw
    }

    /// Is in transmission, with extended headers and these contexts.
    pub(crate) fn open_extended(path: &Path, contexts: &[&str]) -> Self {
        let mut raw = Self::greet(path);
        raw.option(11, &[]);
        assert_eq!(raw.option_reply(11), (ACK, vec![]));
        raw.option(10, &context_query("disk", contexts));
        while raw.option_reply(10).0 != ACK {}
        raw.choose_disk();
        raw
    }
}

impl<S: Read + Write> RawClient<S> {
    fn greeted(&mut self) {
        let hello = self.take(18);
        assert_eq!(&hello[..16], b"NBDMAGICIHAVEOPT");
        assert_eq!(hello[16..], [0, 3]);
        self.send(&3u32.to_be_bytes());
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Sends to a server that may have hung up already.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    pub(crate) fn choose_disk(&mut self) {
        self.option(7, &go("disk"));
        while self.option_reply(7).0 != ACK {}
    }

    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub(crate) fn option(&mut self, code: u32, data: &[u8]) {
        self.option_claiming(code, u32::try_from(data.len()).unwrap(), data);
    }

    pub(crate) fn option_claiming(&mut self, code: u32, claimed: u32, data: &[u8]) {
        let mut message = OPTION_MAGIC.to_be_bytes().to_vec();
        message.extend(code.to_be_bytes());
        message.extend(claimed.to_be_bytes());
        message.extend(data);
        self.send(&message);
    }

    /// The kind and the data of the next reply, which must be to this option.
    pub(crate) fn option_reply(&mut self, code: u32) -> (u32, Vec<u8>) {
        let head = self.take(20);
        assert_eq!(head[..8], 0x0003_e889_0455_65a9_u64.to_be_bytes());
        assert_eq!(head[8..12], code.to_be_bytes());
        let data = self.take(usize::try_from(u32_at(&head, 16)).unwrap());
        (u32_at(&head, 12), data)
    }

    pub(crate) fn request(
        &mut self,
        flags: u16,
        command: u16,
        cookie: u64,
        offset: u64,
        length: u32,
    ) {
        self.send(&request(flags, command, cookie, offset, length));
    }

    /// The cookie and the error of the next reply, which must be simple and without data.
    pub(crate) fn simple_reply(&mut self) -> (u64, u32) {
        let reply = self.take(16);
        assert_eq!(reply[..4], 0x6744_6698_u32.to_be_bytes());
        (u64::from_be_bytes(reply[8..].try_into().unwrap()), u32_at(&reply, 4))
    }

    /// The flags, the kind and the body of the next extended chunk, which must repeat the cookie
    /// and the offset of its request.
    pub(crate) fn extended_chunk(&mut self, cookie: u64, offset: u64) -> (u16, u16, Vec<u8>) {
        let head = self.take(32);
        assert_eq!(head[..4], 0x6e8a_278c_u32.to_be_bytes());
        assert_eq!(head[8..16], cookie.to_be_bytes());
        assert_eq!(head[16..24], offset.to_be_bytes());
        assert_eq!(u32_at(&head, 24), 0);
        let body = self.take(usize::try_from(u32_at(&head, 28)).unwrap());
        (u16_at(&head, 4), u16_at(&head, 6), body)
    }

    /// The error of the next extended reply, 0 if it says that it is done.
    pub(crate) fn extended_outcome(&mut self, cookie: u64, offset: u64) -> u32 {
        match self.extended_chunk(cookie, offset) {
            (1, 0, body) if body.is_empty() => 0,
            (1, 0x8001, body) => u32_at(&body, 0),
            other => panic!("neither done nor failed: {other:?}"),
        }
    }

    /// The flags, the kind and the body of the next chunk.
    pub(crate) fn chunk(&mut self, cookie: u64) -> (u16, u16, Vec<u8>) {
        let head = self.take(20);
        assert_eq!(head[..4], 0x668e_33ef_u32.to_be_bytes());
        assert_eq!(head[8..16], cookie.to_be_bytes());
        let body = self.take(usize::try_from(u32_at(&head, 16)).unwrap());
        (u16_at(&head, 4), u16_at(&head, 6), body)
    }

    /// The server has hung up, after whatever it had to say.
    pub(crate) fn assert_hung_up(&mut self) {
        let mut scratch = [0; 65536];
        loop {
            match self.0.read(&mut scratch) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the server has not hung up: {error}"),
            }
        }
    }
}

pub(crate) fn request(flags: u16, command: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut message = 0x2560_9513_u32.to_be_bytes().to_vec();
    message.extend(flags.to_be_bytes());
    message.extend(command.to_be_bytes());
    message.extend(cookie.to_be_bytes());
    message.extend(offset.to_be_bytes());
    message.extend(length.to_be_bytes());
    message
}

pub(crate) fn extended_request(
    flags: u16,
    command: u16,
    cookie: u64,
    offset: u64,
    length: u64,
) -> Vec<u8> {
    let mut message = 0x21e4_1c71_u32.to_be_bytes().to_vec();
    message.extend(flags.to_be_bytes());
    message.extend(command.to_be_bytes());
    message.extend(cookie.to_be_bytes());
    message.extend(offset.to_be_bytes());
    message.extend(length.to_be_bytes());
    message
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
pub(crate) fn context_query(export: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = text(export);
    data.extend(u32::try_from(queries.len()).unwrap().to_be_bytes());
    queries.iter().for_each(|query| data.extend(text(query)));
    data
}

/// The data of INFO and GO that asks for nothing special.
pub(crate) fn go(export: &str) -> Vec<u8> {
    let mut data = text(export);
    data.extend(0u16.to_be_bytes());
    data
}

/// A text with its length before it.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut data = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    data.extend(text.as_bytes());
    data
}

pub(crate) fn u16_at(bytes: &[u8], place: usize) -> u16 {
    u16::from_be_bytes(bytes[place..place + 2].try_into().unwrap())
}

pub(crate) fn u32_at(bytes: &[u8], place: usize) -> u32 {
    u32::from_be_bytes(bytes[place..place + 4].try_into().unwrap())
}

/// A disk whose calls of one kind wait until they are let go.
#[derive(Debug)]
pub(crate) struct HeldDisk {
    pub(crate) disk: MemoryDisk,
    held: Held,
    open: Mutex<bool>,
    opened: Condvar,
    /// Calls of any kind that are inside now.
    pub(crate) inside: AtomicUsize,
    /// Flushes that have begun.
    pub(crate) flushes: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Reads,
    Writes,
    Flushes,
}

impl HeldDisk {
    pub(crate) fn new(size: u64, held: Held) -> Arc<Self> {
        Arc::new(Self {
            disk: MemoryDisk::new(bytes(size)),
            held,
            open: Mutex::new(false),
            opened: Condvar::new(),
            inside: AtomicUsize::new(0),
            flushes: AtomicUsize::new(0),
        })
    }

    pub(crate) fn let_go(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass<T>(&self, kind: Held, call: impl FnOnce() -> T) -> T {
        self.inside.fetch_add(1, Ordering::SeqCst);
        if kind == self.held {
            let open = self.open.lock().unwrap();
            let waited = self.opened.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap();
            assert!(*waited.0, "nobody let the disk go");
        }
        let result = call();
        self.inside.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

impl BlockDevice for HeldDisk {
    fn size(&self) -> ByteLength {
        self.disk.size()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read_at(&self, buffer: &mut [u8], offset: ByteOffset) -> Result<(), DeviceError> {
        self.pass(Held::Reads, || self.disk.read_at(buffer, offset))
    }

    fn write_at(
        &self,
        data: &[u8],
        offset: ByteOffset,
        durability: Durability,
    ) -> Result<(), DeviceError> {
        self.pass(Held::Writes, || self.disk.write_at(data, offset, durability))
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.pass(Held::Flushes, || self.disk.flush())
    }

    fn discard(&self, offset: ByteOffset, length: ByteLength) -> Result<(), DeviceError> {
        self.pass(Held::Writes, || self.disk.discard(offset, length))
    }

    fn write_zeroes(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        mode: ZeroMode,
        durability: Durability,
    ) -> Result<(), DeviceError> {
        self.pass(Held::Writes, || self.disk.write_zeroes(offset, length, mode, durability))
    }

    fn extents(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        most: usize,
    ) -> Result<Vec<Extent>, DeviceError> {
        self.disk.extents(offset, length, most)
    }
}
