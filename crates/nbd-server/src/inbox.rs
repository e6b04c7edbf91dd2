//! What a connection has received and not yet used.
//!
//! What must always hold: one buffer, made once per session; a client's claims never grow it.
//! Bytes are moved only when a piece would reach past the buffer's end, and then less than a piece.

use std::io;

use crate::socket::Socket;

/// The most payload one call of the device gets. Big enough that calls do not count, small enough
/// that what came from the socket is still in the processor's cache when it goes to the disk.
pub(crate) const PIECE: usize = 256 << 10;

/// Room for a piece and what may come before and behind it.
const CAPACITY: usize = 2 * PIECE;

/// What a connection has received and not yet used.
#[derive(Debug)]
pub(crate) struct Inbox {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        // Zeroed pages from the kernel: an idle connection touches none of them.
        Self { buffer: vec![0; CAPACITY].into_boxed_slice(), start: 0, end: 0 }
    }

    /// What is there.
    pub(crate) fn held(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Gives up the first bytes of what is there.
    pub(crate) fn consume(&mut self, length: usize) {
        self.start += length;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Waits for bytes, of which `wanted` in a row are to fit. Takes what comes, or, for the
    /// middle of a payload, no more than those: then the next piece starts at the front again and
    /// needs no moving. 0 means the peer has ended.
    pub(crate) fn receive(
        &mut self,
        socket: &Socket,
        wanted: usize,
        amount: Amount,
    ) -> io::Result<usize> {
        debug_assert!(wanted <= PIECE && self.held().len() < wanted);
        if self.start + wanted > CAPACITY {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let until = match amount {
            Amount::Wanted => self.start + wanted,
            Amount::Everything => CAPACITY,
        };
        let received = socket.receive(&mut self.buffer[self.end..until])?;
        self.end += received;
        Ok(received)
    }
}

/// How much a receive may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    /// No more than what is wanted.
    Wanted,
    /// Whatever is there.
    Everything,
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_also_around_the_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (ours, theirs) = (Socket::unix(ours), Socket::unix(theirs));
        let mut inbox = Inbox::new();
        let pattern: Vec<u8> = (0..=250).collect();
        let writer = std::thread::spawn(move || {
            for _ in 0..8000 {
                theirs.send_all(&pattern).unwrap();
            }
        });
        let mut seen = 0;
        for wanted in (1..PIECE).step_by(7919).cycle() {
            while inbox.held().len() < wanted {
                let amount = if wanted % 2 == 0 { Amount::Wanted } else { Amount::Everything };
                if inbox.receive(&ours, wanted, amount).unwrap() == 0 {
                    break;
                }
            }
            if inbox.held().len() < wanted {
                break;
            }
            let right = |(at, byte): (usize, &u8)| usize::from(*byte) == (seen + at) % 251;
            assert!(inbox.held()[..wanted].iter().enumerate().all(right));
            inbox.consume(wanted);
            seen += wanted;
        }
        assert_eq!(seen + inbox.held().len(), 251 * 8000);
        writer.join().unwrap();
    }
}
