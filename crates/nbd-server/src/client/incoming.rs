//! What the client has received and not yet used.
//!
//! What must always hold: bytes leave in the order they came, whether they were received while
//! waiting for them or while waiting to send.

use std::io;

use crate::socket::Socket;

/// How much is asked of the kernel at once.
const GULP: usize = 256 << 10;

/// What the client has received and not yet used.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Incoming {
    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, socket: &Socket) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(socket, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `target` with the next bytes; much of it comes straight from the socket.
    pub(super) fn fill(&mut self, socket: &Socket, mut target: &mut [u8]) -> io::Result<()> {
        loop {
            let taken = target.len().min(self.end - self.start);
            target[..taken].copy_from_slice(&self.buffer[self.start..][..taken]);
            self.start += taken;
            target = &mut target[taken..];
            if target.is_empty() {
                return Ok(());
            }
            let received = if target.len() >= GULP {
                let received = socket.receive(target)?;
                target = &mut target[received..];
                received
            } else {
                (self.start, self.end) = (0, 0);
                self.make_room();
                self.end = socket.receive(&mut self.buffer)?;
                self.end
            };
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Takes what has been received by now, without waiting.
    pub(super) fn take_what_is_there(&mut self, socket: &Socket) -> io::Result<()> {
        self.make_room();
        match socket.receive_now(&mut self.buffer[self.end..]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(received) => {
                self.end += received;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn make_room(&mut self) {
        if self.buffer.len() - self.end < GULP {
            self.buffer.resize(self.end + GULP, 0);
        }
    }
}
