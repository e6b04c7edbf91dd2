//! The socket during the handshake: whole messages out, exact numbers of bytes in.
//!
//! What must always hold: no wait for the client goes past the deadline.

use std::{sync::Arc, time::Instant};

use crate::{negotiation::HandshakeEnd, socket::Socket, wire::Message};

/// The socket until the deadline.
pub(crate) struct Line<'a> {
    pub(crate) socket: &'a Arc<Socket>,
    pub(crate) deadline: Instant,
}

impl Line<'_> {
    pub(crate) fn send(&self, message: Message) -> Result<(), HandshakeEnd> {
        Ok(self.socket.send_all(&message.into_bytes())?)
    }

    pub(crate) fn receive<const N: usize>(&self) -> Result<[u8; N], HandshakeEnd> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// So many bytes, of which the caller has made sure that they are few.
    pub(crate) fn receive_data(&self, length: u32) -> Result<Vec<u8>, HandshakeEnd> {
        let mut data = vec![0; usize::try_from(length).expect("at most 64 KiB")];
        self.fill(&mut data)?;
        Ok(data)
    }

    pub(crate) fn drop_data(&self, length: u32) -> Result<(), HandshakeEnd> {
        let mut left = usize::try_from(length).expect("at most 1 MiB");
        let mut scratch = [0; 4096];
        while left > 0 {
            let part = left.min(scratch.len());
            self.fill(&mut scratch[..part])?;
            left -= part;
        }
        Ok(())
    }

    fn fill(&self, mut buffer: &mut [u8]) -> Result<(), HandshakeEnd> {
        while !buffer.is_empty() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(HandshakeEnd::Nonsense("too slow"));
            }
            self.socket.set_receive_timeout(Some(left))?;
            match self.socket.receive(buffer)? {
                0 => return Err(HandshakeEnd::Aborted),
                received => buffer = &mut buffer[received..],
            }
        }
        Ok(())
    }
}
