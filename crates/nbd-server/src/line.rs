//! The socket during the handshake: whole messages out, exact numbers of bytes in.
//!
//! What must always hold: no wait for the client goes past the deadline.

use std::{sync::Arc, time::Instant};

use crate::{
    negotiation::HandshakeEnd,
    socket::{Socket, Wait},
    wire::Message,
};

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
            match self.socket.receive_within(buffer, Wait::Until(self.deadline))? {
                0 => return Err(HandshakeEnd::Aborted),
                received => buffer = &mut buffer[received..],
            }
        }
        Ok(())
    }
}
