//! The server: listens, gives each connection a thread, and ends them all.
//!
//! What must always hold
//! 1. Nothing a client or the system does ends the accept loop before `shutdown`: out of
//!    descriptors, memory or threads means that new clients wait or are turned away.
//! 2. A unix socket file of ours is never open to others than its owner, not even for a moment.
//! 3. After `shutdown` there is no thread, no connection and no socket file left.
//!
//! Left to others: who may open which disk (`cloud` publishes and fences).

use std::{
    fs::{self, Permissions},
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use block_device::{
    BlockDevice, DiskId, ExportCounters, ExportFence, ExportPlane, FenceError, FenceMode, Pace,
    PlaneActivity, Rates,
};
use parking_lot::Mutex;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen,
    shutdown, socket_with,
};

use crate::{
    arrivals::{Arrival, Arrivals},
    export_table::ExportTable,
    negotiation::negotiate,
    session,
    socket::Socket,
    tls::TlsOffer,
};

/// How long the accept loop rests when the system has no descriptor or memory for a connection.
const REST: Duration = Duration::from_millis(50);

/// How long the log says nothing more of that.
const SILENCE: Duration = Duration::from_secs(60);

/// How many connections the kernel keeps waiting for the accept loop.
const BACKLOG: i32 = 1024;

/// What one server takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sessions at once over all exports. Each has a thread and up to a megabyte of buffers, so
    /// the default of 1024 bounds memory at about a gigabyte, far above what one machine's guests
    /// open.
    pub sessions: usize,
    /// Connections at once that have not chosen an export; beyond it the slowest is ended.
    pub handshakes: usize,
    /// How long a client may take to choose an export.
    pub handshake_time: Duration,
    /// How long a client may leave its replies untaken.
    pub reply_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1024,
            handshakes: 512,
            handshake_time: Duration::from_secs(10),
            reply_time: Duration::from_secs(30),
        }
    }
}

/// An NBD server. Clones are the same server; it ends with [`NbdServer::shutdown`].
#[derive(Clone, Debug)]
pub struct NbdServer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    exports: ExportTable,
    arrivals: Arc<Arrivals>,
    listeners: Mutex<Listeners>,
    /// For connections over TCP that arrive from now on.
    tls: Mutex<Option<TlsOffer>>,
}

#[derive(Debug, Default)]
struct Listeners {
    open: Vec<(Arc<Listener>, JoinHandle<()>)>,
    stopped: bool,
}

impl NbdServer {
    /// A server without exports that listens nowhere yet.
    pub fn new(limits: Limits) -> Self {
        let shared = Shared {
            limits,
            exports: ExportTable::new(limits.sessions),
            arrivals: Arrivals::new(limits.handshakes),
            listeners: Mutex::default(),
            tls: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Listens on a unix socket that only its owner can open. A socket file that a dead server
    /// left is replaced; any other file, or a socket that answers, is an error.
    pub fn listen_unix(&self, path: &Path) -> io::Result<()> {
        remove_stale(path)?;
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        // Nobody can connect before the listen below.
        let file = SocketFile::of(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listen(&socket, BACKLOG)?;
        self.open(Listener { socket, file: Some(file), stopped: AtomicBool::new(false) })
    }

    /// How connections over TCP get TLS from now on; those that are there go on as they began. None,
    /// as it is at first, is for a network of one's own.
    pub fn set_tls(&self, tls: Option<TlsOffer>) {
        *self.shared.tls.lock() = tls;
    }

    /// Listens on TCP. Gives the address, with
    /// the port the system chose if 0 was asked.
    pub fn listen_tcp(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let socket = listener.into();
        self.open(Listener { socket, file: None, stopped: AtomicBool::new(false) })?;
        Ok(address)
    }

    fn open(&self, listener: Listener) -> io::Result<()> {
        let mut listeners = self.shared.listeners.lock();
        if listeners.stopped {
            return Err(io::Error::other("the NBD server has been shut down"));
        }
        let listener = Arc::new(listener);
        let (shared, accepting) = (Arc::clone(&self.shared), Arc::clone(&listener));
        let thread = thread::Builder::new()
            .name("nbd-accept".into())
            .spawn(move || accept_all(&shared, &accepting))?;
        listeners.open.push((listener, thread));
        Ok(())
    }

    /// Opens the export of a disk, in place of an earlier one of that name, whose connections
    /// end first. Does nothing after [`NbdServer::shutdown`].
    pub fn publish(&self, name: &DiskId, device: Arc<dyn BlockDevice>) {
        self.publish_paced(name, device, Arc::default());
    }

    /// As [`NbdServer::publish`]; requests wait for their turns.
    pub fn publish_paced(&self, name: &DiskId, device: Arc<dyn BlockDevice>, pace: Arc<Pace>) {
        self.shared.exports.publish(name, device, pace);
    }

    /// Closes the export of a disk, as [`ExportFence::fence`] says.
    pub fn fence(&self, name: &DiskId, mode: FenceMode) -> Result<(), FenceError> {
        self.shared.exports.fence(name, mode)
    }

    /// How many connections a disk has.
    pub fn connections(&self, name: &DiskId) -> usize {
        self.shared.exports.connections(name)
    }

    /// What each open export has done since it was published.
    pub fn counters(&self) -> Vec<(DiskId, ExportCounters)> {
        self.shared.exports.activity().exports
    }

    /// Stops listening, closes every export as [`FenceMode::Flush`] says, and waits for every
    /// thread. What could not be flushed comes back.
    pub fn shutdown(&self) -> Vec<FenceError> {
        let open = {
            let mut listeners = self.shared.listeners.lock();
            listeners.stopped = true;
            std::mem::take(&mut listeners.open)
        };
        for (listener, _) in &open {
            listener.stop();
        }
        for (listener, thread) in open {
            // It has no way to panic, and if it did the hook has told.
            let _ = thread.join();
            drop(listener);
        }
        let failures = self.shared.exports.stop();
        self.shared.arrivals.stop();
        failures
    }
}

impl ExportFence for NbdServer {
    fn fence(&self, disk: &DiskId, mode: FenceMode) -> Result<(), FenceError> {
        Self::fence(self, disk, mode)
    }
}

impl ExportPlane for NbdServer {
    fn publish(&self, disk: &DiskId, device: Arc<dyn BlockDevice>, pace: Arc<Pace>) {
        self.publish_paced(disk, device, pace);
    }

    fn set_rates(&self, disk: &DiskId, rates: Rates) {
        self.shared.exports.set_rates(disk, rates);
    }

    fn activity(&self) -> PlaneActivity {
        self.shared.exports.activity()
    }
}

/// A listening socket, of a file if it is a unix one.
#[derive(Debug)]
struct Listener {
    socket: OwnedFd,
    file: Option<SocketFile>,
    /// Set before the socket is shut down, so that the loop tells that from other errors.
    stopped: AtomicBool,
}

impl Listener {
    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Err(error) = shutdown(&self.socket, Shutdown::Both) {
            tracing::warn!(%error, "a listening socket was not shut down");
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn accept(&self) -> io::Result<Socket> {
        let accepted = accept_with(&self.socket, SocketFlags::CLOEXEC)?;
        Ok(match self.file {
            Some(_) => Socket::unix(UnixStream::from(accepted)),
            None => Socket::tcp(TcpStream::from(accepted)),
        })
    }
}

fn accept_all(shared: &Arc<Shared>, listener: &Listener) {
    let mut told: Option<Instant> = None;
    while !listener.is_stopped() {
        match listener.accept().and_then(|socket| welcome(shared, listener, socket)) {
            Ok(()) => {}
            Err(_) if listener.is_stopped() => {}
            // The client has gone, or a signal came: the next may be waiting already.
            Err(error) if passes_by_itself(&error) => {}
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() > SILENCE) {
                    tracing::warn!(%error, "new NBD clients wait until the system has room");
                    told = Some(Instant::now());
                }
                shared.arrivals.make_room();
                thread::sleep(REST);
            }
        }
    }
}

fn passes_by_itself(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted)
}

/// Gives a new connection its thread.
fn welcome(shared: &Arc<Shared>, listener: &Listener, socket: Socket) -> io::Result<()> {
    let socket = Arc::new(socket);
    let Some(arrival) = shared.arrivals.arrive(&socket) else {
        return Ok(());
    };
    // Nobody but the owner opens the file of a unix socket.
    let tls = if listener.file.is_some() { None } else { shared.tls.lock().clone() };
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name("nbd".into())
        .spawn(move || attend(&shared, &socket, &arrival, tls))
        .map(drop)
}

/// A connection's thread.
fn attend(shared: &Shared, socket: &Arc<Socket>, arrival: &Arrival, tls: Option<TlsOffer>) {
    let time = shared.limits.handshake_time;
    let connection = match negotiate(socket, &shared.exports, arrival, tls, time) {
        Ok(connection) => connection,
        Err(end) => {
            tracing::debug!(%end, "an NBD handshake ends");
            socket.say_goodbye();
            return;
        }
    };
    if let Err(error) = socket.set_send_timeout(Some(shared.limits.reply_time)) {
        tracing::debug!(%error, "an NBD connection ends");
        return;
    }
    session::serve(connection);
}

/// Takes away what a dead server left; refuses to touch anything else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let text = format!("{} is there and is no socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => {
            let text = format!("another server answers on {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

/// The file of our listening socket, which goes with this value. It is known by its inode: what
/// others have put in its place is theirs.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        // Absolute, so that it is found again whatever the working directory is by then.
        Ok(Self { path: std::path::absolute(path)?, device: found.dev(), inode: found.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a socket file stays behind");
        }
    }
}
