//! TLS on a connection (spec: "TLS support"), for a thread that receives and others that send.
//!
//! How the threads keep out of each other's way: the state of TLS is held for as long as bytes are
//! turned into others, never while a socket is waited for. What leaves is turned and sent under
//! `sending`, so that records go out in the order they were made.
//!
//! Locks: `incoming` (by the one thread that receives) -> `sending` -> `state`.
//!
//! What must always hold
//! 1. Once it is begun, no byte passes the socket outside of it.
//! 2. Nothing that came before it is taken for what came through it: the handshake of NBD reads no
//!    byte further than the option that asks for TLS.
//! 3. Memory is bounded: what was received and not used is one buffer.
//!
//! Left to others: which connections may or must use it (`negotiation`), the certificates (who
//! makes the configuration).

use std::{
    fmt,
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use parking_lot::Mutex;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::socket::{Socket, Wait};

/// Bytes of received records: some of the largest.
const RECORDS: usize = 64 << 10;
/// How much is turned into records at once.
const PART: usize = 256 << 10;

/// How connections over TCP get TLS. It is of no concern to unix sockets, whose files are their
/// owner's.
#[derive(Clone)]
pub struct TlsOffer {
    /// The certificate and all else.
    pub config: Arc<ServerConfig>,
    /// Whether clients that do not ask for it are refused everything.
    pub is_required: bool,
}

impl fmt::Debug for TlsOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOffer").field("is_required", &self.is_required).finish_non_exhaustive()
    }
}

/// How a client gets TLS.
#[derive(Clone)]
pub struct TlsWish {
    /// Whom it trusts, and who it says it is.
    pub config: Arc<ClientConfig>,
    /// The name the server's certificate must have.
    pub server: rustls::pki_types::ServerName<'static>,
}

impl fmt::Debug for TlsWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsWish").field("server", &self.server).finish_non_exhaustive()
    }
}

/// TLS as it runs on a connection.
pub(crate) struct Tls {
    /// Held for computing only.
    state: Mutex<Connection>,
    /// Records that were made and not sent yet; empty unless a send is under way or was cut short.
    sending: Mutex<Vec<u8>>,
    incoming: Mutex<Records>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Records that were received and not looked at.
struct Records {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Tls {
    pub(crate) fn server(config: Arc<ServerConfig>) -> io::Result<Self> {
        ServerConnection::new(config).map(|it| Self::new(it.into())).map_err(io::Error::other)
    }

    pub(crate) fn client(wish: &TlsWish) -> io::Result<Self> {
        let connection = ClientConnection::new(Arc::clone(&wish.config), wish.server.clone());
        connection.map(|it| Self::new(it.into())).map_err(io::Error::other)
    }

    fn new(mut connection: Connection) -> Self {
        // What is turned into records is sent at once: the bound is `PART`.
        connection.set_buffer_limit(None);
        let records = Records { buffer: vec![0; RECORDS].into_boxed_slice(), start: 0, end: 0 };
        Self {
            state: Mutex::new(connection),
            sending: Mutex::default(),
            incoming: Mutex::new(records),
        }
    }

    /// Does the handshake of TLS.
    pub(crate) fn shake_hands(&self, socket: &Socket, wait: Wait) -> io::Result<()> {
        let mut records = self.incoming.lock();
        loop {
            self.send_made(socket)?;
            if !self.state.lock().is_handshaking() {
                return Ok(());
            }
            if !self.take_in(socket, &mut records, wait)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Waits for bytes; 0 means the peer has ended, whether it said so or not.
    pub(crate) fn receive(
        &self,
        socket: &Socket,
        buffer: &mut [u8],
        wait: Wait,
    ) -> io::Result<usize> {
        let mut records = self.incoming.lock();
        loop {
            match self.state.lock().reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if !self.take_in(socket, &mut records, wait)? {
                return Ok(0);
            }
        }
    }

    /// Looks at records that are there, or else waits for some; false if none will come.
    fn take_in(&self, socket: &Socket, records: &mut Records, wait: Wait) -> io::Result<bool> {
        if records.start == records.end {
            (records.start, records.end) = (0, 0);
            let received = socket.receive_plain(&mut records.buffer, wait)?;
            records.end = received;
            if received == 0 {
                return Ok(false);
            }
        }
        let processed = {
            let mut state = self.state.lock();
            let mut unread = &records.buffer[records.start..records.end];
            records.start += state.read_tls(&mut unread)?;
            state.process_new_packets()
        };
        // An answer of TLS itself, among them the one that says what is wrong.
        let answered = self.send_made(socket);
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        answered.map(|()| true)
    }

    /// Sends everything.
    pub(crate) fn send_all(&self, socket: &Socket, bytes: &[u8]) -> io::Result<()> {
        let mut records = self.sending.lock();
        for part in bytes.chunks(PART) {
            self.make(part, &mut records)?;
            // Once that fails the connection is of no more use.
            let sent = socket.send_plain(&records);
            records.clear();
            sent?;
        }
        Ok(())
    }

    /// Takes bytes to send if none wait, and sends what the kernel takes without waiting.
    pub(crate) fn send_now(&self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        let mut records = self.sending.lock();
        let taken = if records.is_empty() { bytes.len().min(PART) } else { 0 };
        self.make(&bytes[..taken], &mut records)?;
        while !records.is_empty() {
            match socket.send_plain_now(&records) {
                Ok(sent) => drop(records.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let stuck = taken == 0 && !records.is_empty();
        if stuck { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// Whether bytes that were taken have not been sent.
    pub(crate) fn holds_unsent(&self) -> bool {
        !self.sending.lock().is_empty()
    }

    /// Tells the peer that nothing more comes, unless that would have to wait.
    pub(crate) fn say_goodbye(&self, socket: &Socket) {
        self.state.lock().send_close_notify();
        // A peer that has gone, or takes nothing, need not be told.
        let _ = self.send_now(socket, &[]);
    }

    /// Sends what TLS has to say of its own.
    fn send_made(&self, socket: &Socket) -> io::Result<()> {
        if !self.state.lock().wants_write() {
            return Ok(());
        }
        let mut records = self.sending.lock();
        self.make(&[], &mut records)?;
        let sent = socket.send_plain(&records);
        records.clear();
        sent
    }

    /// Appends the records of these bytes, after whatever TLS has to say of its own.
    fn make(&self, bytes: &[u8], records: &mut Vec<u8>) -> io::Result<()> {
        let mut state = self.state.lock();
        state.writer().write_all(bytes)?;
        while state.wants_write() {
            state.write_tls(records)?;
        }
        Ok(())
    }
}
