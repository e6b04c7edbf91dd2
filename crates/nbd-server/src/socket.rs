//! A connected stream socket, unix or TCP alike, with TLS on it or not.
//!
//! What must always hold: a signal never shows (interrupted calls are repeated, a vanished peer is
//! an error and not SIGPIPE); any thread may shut it down while others block in it.

use std::{
    io,
    net::TcpStream,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::{
    io::{Errno, retry_on_intr},
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt},
};

use crate::tls::Tls;

/// What is asked of the kernel as room for replies: a quarter of a megabyte lets a 256 KiB piece
/// leave in about one call. The kernel caps it by `net.core.wmem_max`.
const KERNEL_BUFFER: usize = 256 << 10;

/// A connected stream socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    /// Set once, when both sides have agreed on it.
    tls: OnceLock<Tls>,
}

/// How long a receive waits for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// As long as the receive timeout says.
    Timeout,
    /// Until then, however the bytes trickle in.
    Until(Instant),
    /// Not at all.
    No,
}

impl Socket {
    /// Takes a connected unix socket.
    pub(crate) fn unix(stream: UnixStream) -> Self {
        Self::tuned(stream.into())
    }

    /// Takes a connected TCP socket: small replies leave at once, and a peer that vanished without
    /// a word is found out by the kernel's keep-alive.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        let socket = Self::tuned(stream.into());
        // A socket that refuses these works all the same.
        let _ = sockopt::set_tcp_nodelay(&socket.fd, true);
        let _ = sockopt::set_socket_keepalive(&socket.fd, true);
        socket
    }

    fn tuned(fd: OwnedFd) -> Self {
        // A smaller buffer costs speed only.
        let _ = sockopt::set_socket_send_buffer_size(&fd, KERNEL_BUFFER);
        let _ = sockopt::set_socket_recv_buffer_size(&fd, KERNEL_BUFFER);
        Self { fd, tls: OnceLock::new() }
    }

    /// Does the handshake of TLS; from here everything goes through it.
    pub(crate) fn begin_tls(&self, tls: Tls, wait: Wait) -> io::Result<()> {
        tls.shake_hands(self, wait)?;
        self.tls.set(tls).map_err(|_| io::Error::other("TLS was begun before"))
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.tls.get().is_some()
    }

    /// Waits for bytes and takes what is there; 0 means the peer has ended.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive_within(buffer, Wait::Timeout)
    }

    /// Takes what is there without waiting: `WouldBlock` if nothing is.
    pub(crate) fn receive_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive_within(buffer, Wait::No)
    }

    /// Waits for bytes that long.
    pub(crate) fn receive_within(&self, buffer: &mut [u8], wait: Wait) -> io::Result<usize> {
        match self.tls.get() {
            None => self.receive_plain(buffer, wait),
            Some(tls) => tls.receive(self, buffer, wait),
        }
    }

    /// Receives past TLS, for whoever does it.
    pub(crate) fn receive_plain(&self, buffer: &mut [u8], wait: Wait) -> io::Result<usize> {
        let flags = match wait {
            Wait::Timeout => RecvFlags::empty(),
            Wait::No => RecvFlags::DONTWAIT,
            Wait::Until(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                self.set_receive_timeout(Some(left))?;
                RecvFlags::empty()
            }
        };
        let (received, _) = retry_on_intr(|| recv(&self.fd, &mut *buffer, flags))?;
        Ok(received)
    }

    /// Sends everything, waiting at most the send timeout for the peer to take some of it.
    pub(crate) fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self.tls.get() {
            None => self.send_plain(bytes),
            Some(tls) => tls.send_all(self, bytes),
        }
    }

    /// Sends what the kernel takes without waiting: `WouldBlock` if it takes nothing.
    pub(crate) fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.tls.get() {
            None => self.send_plain_now(bytes),
            Some(tls) => tls.send_now(self, bytes),
        }
    }

    /// Whether [`Socket::send_now`] has taken bytes that the kernel has not.
    pub(crate) fn holds_unsent(&self) -> bool {
        self.tls.get().is_some_and(Tls::holds_unsent)
    }

    /// Sends past TLS, for whoever does it.
    pub(crate) fn send_plain(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = retry_on_intr(|| send(&self.fd, bytes, SendFlags::NOSIGNAL))?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    pub(crate) fn send_plain_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(retry_on_intr(|| send(&self.fd, bytes, flags))?)
    }

    /// Closes TLS if there is any. Spec: before the connection is dropped.
    pub(crate) fn say_goodbye(&self) {
        if let Some(tls) = self.tls.get() {
            tls.say_goodbye(self);
        }
    }

    /// How long a receive waits from now on; `None` for ever.
    pub(crate) fn set_receive_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.fd, sockopt::Timeout::Recv, timeout)?)
    }

    /// How long a send waits for a peer that takes nothing.
    pub(crate) fn set_send_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.fd, sockopt::Timeout::Send, timeout)?)
    }

    /// No more is received; replies still leave. Wakes a thread that waits in a receive.
    pub(crate) fn end_receiving(&self) {
        self.shut(Shutdown::Read);
    }

    /// Nothing moves any more. Wakes every thread that waits in this socket.
    pub(crate) fn end(&self) {
        self.shut(Shutdown::Both);
    }

    fn shut(&self, how: Shutdown) {
        match shutdown(&self.fd, how) {
            // A peer that has gone leaves nothing to shut down.
            Ok(()) | Err(Errno::NOTCONN) => {}
            Err(error) => tracing::debug!(%error, "shutting down a connection"),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
