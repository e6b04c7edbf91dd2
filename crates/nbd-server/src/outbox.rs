//! Replies of the connection's own thread, gathered until it is worth a system call.
//!
//! What must always hold: it holds whole replies or whole chunks only, so that another thread's
//! replies may be sent between any two calls; data is read from the disk straight into it.

use std::{io, sync::Arc};

use crate::{connection::Connection, inbox::PIECE, reply::LONGEST_DATA_HEAD};

/// A piece of data and what goes before it.
const CAPACITY: usize = PIECE + LONGEST_DATA_HEAD;

/// Gathered replies leave at this size even while more requests wait: the client can begin to
/// work on them, on another processor, while the next are made.
const ENOUGH: usize = 64 << 10;

/// Replies that wait to be sent.
#[derive(Debug)]
pub(crate) struct Outbox {
    connection: Arc<Connection>,
    buffer: Box<[u8]>,
    filled: usize,
}

impl Outbox {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, buffer: vec![0; CAPACITY].into_boxed_slice(), filled: 0 }
    }

    /// Whether a reply of this many bytes fits at all.
    pub(crate) fn fits(length: usize) -> bool {
        length <= CAPACITY
    }

    /// Room for a reply; it counts once it is committed.
    pub(crate) fn room(&mut self, length: usize) -> io::Result<&mut [u8]> {
        if self.filled + length > CAPACITY {
            self.flush()?;
        }
        Ok(&mut self.buffer[self.filled..self.filled + length])
    }

    /// Keeps what was put into the room.
    pub(crate) fn commit(&mut self, length: usize) -> io::Result<()> {
        self.filled += length;
        if self.filled >= ENOUGH { self.flush() } else { Ok(()) }
    }

    /// Adds a small reply.
    pub(crate) fn push(&mut self, reply: &[u8]) -> io::Result<()> {
        self.room(reply.len())?.copy_from_slice(reply);
        self.commit(reply.len())
    }

    /// Sends what is there.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        let filled = std::mem::take(&mut self.filled);
        self.connection.send(&self.buffer[..filled])
    }
}
