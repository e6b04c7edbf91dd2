//! A connected stream socket, unix or TCP alike.
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
    time::Duration,
};

use rustix::{
    io::{Errno, retry_on_intr},
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt},
};

/// What is asked of the kernel as room for replies: a quarter of a megabyte lets a 256 KiB piece
/// leave in about one call. The kernel caps it by `net.core.wmem_max`.
const KERNEL_BUFFER: usize = 256 << 10;

/// A connected stream socket.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

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
        let _ = sockopt::set_tcp_nodelay(&socket.0, true);
        let _ = sockopt::set_socket_keepalive(&socket.0, true);
        socket
    }

    fn tuned(fd: OwnedFd) -> Self {
        // A smaller buffer costs speed only.
        let _ = sockopt::set_socket_send_buffer_size(&fd, KERNEL_BUFFER);
        let _ = sockopt::set_socket_recv_buffer_size(&fd, KERNEL_BUFFER);
        Self(fd)
    }

    /// Waits for bytes and takes what is there; 0 means the peer has ended.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive_with(buffer, RecvFlags::empty())
    }

    /// Takes what is there without waiting: `WouldBlock` if nothing is.
    pub(crate) fn receive_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive_with(buffer, RecvFlags::DONTWAIT)
    }

    fn receive_with(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        let (received, _) = retry_on_intr(|| recv(&self.0, &mut *buffer, flags))?;
        Ok(received)
    }

    /// Sends everything, waiting at most the send timeout for the peer to take some of it.
    pub(crate) fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = retry_on_intr(|| send(&self.0, bytes, SendFlags::NOSIGNAL))?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// Sends what the kernel takes without waiting: `WouldBlock` if it takes nothing.
    pub(crate) fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(retry_on_intr(|| send(&self.0, bytes, flags))?)
    }

    /// How long a receive waits from now on; `None` for ever.
    pub(crate) fn set_receive_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, timeout)?)
    }

    /// How long a send waits for a peer that takes nothing.
    pub(crate) fn set_send_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Send, timeout)?)
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
        match shutdown(&self.0, how) {
            // A peer that has gone leaves nothing to shut down.
            Ok(()) | Err(Errno::NOTCONN) => {}
            Err(error) => tracing::debug!(%error, "shutting down a connection"),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
