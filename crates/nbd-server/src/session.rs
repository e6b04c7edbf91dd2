//! Transmission: requests in, replies out, until the client or a fence ends it.
//!
//! How it is fast
//! - One receive takes as many requests as the client has sent; replies are gathered and leave
//!   together, at the latest before this thread waits. Two system calls serve a whole queue.
//! - Reads and writes are done right here and in order: from the page cache they take a
//!   microsecond or two, less than handing them to another thread and being woken by it.
//!   Nothing is allocated for them, and payloads are moved once in and once out.
//! - What may wait for the disk below (flush, forced access, trim, zeroes) goes to the slow lane, a
//!   helper thread of this connection, so that reads behind it are answered meanwhile.
//!
//! The known downside: reads of one connection that miss the page cache wait for each other. A
//! client that wants them side by side opens more connections, which every export allows.
//!
//! What must always hold
//! 1. Whatever a client sends, the next request is found where it begins, or the connection ends.
//! 2. A write is answered after its last byte is stored, a forced one after a flush begun since.
//! 3. Nothing is kept back: before this thread waits for the client, all its replies have left.

use std::{io, sync::Arc};

use block_device::{
    ByteLength, ByteOffset, ByteRange, DeviceError, Durability, Extent, ExtentKind,
};

use crate::{
    connection::Connection,
    errno::{Access, Errno},
    inbox::{Amount, Inbox, PIECE},
    large_replies::LargeReply,
    outbox::Outbox,
    request::{Command, Pieces, ReplyStyle, RequestHead, SlowCommand, StatusAnswer},
    slow_lane::{Job, SlowLane},
    wire::{
        ALLOCATION_ID, CHUNK_DONE, CHUNK_LENGTH, CHUNK_OFFSET_LENGTH, Cookie, LARGEST_PAYLOAD,
        REQUEST_LENGTH, SIMPLE_REPLY_LENGTH, allocation_flag, chunk, chunk_head, command,
        length_u32, simple_reply,
    },
};

/// The largest payload that is read and dropped to stay in step with a client that overlooked the
/// limit it was told. Who claims more is not believed, and the connection ends.
const LARGEST_DROPPED: u32 = 2 * LARGEST_PAYLOAD;

/// The most extents of one block status: 32 KiB of reply. Clients ask on from where it ends.
const MOST_EXTENTS: usize = 4096;

/// Serves a connection to its end.
pub(crate) fn serve(connection: Connection) {
    let connection = Arc::new(connection);
    let mut session = Session {
        inbox: Inbox::new(),
        outbox: Outbox::new(Arc::clone(&connection)),
        slow_lane: SlowLane::new(Arc::clone(&connection)),
        connection,
    };
    let end = session.run();
    tracing::debug!(?end, "an NBD connection ends");
    // Who has gone does not take them; that is no failure.
    let _ = session.outbox.flush();
}

#[derive(Debug)]
struct Session {
    inbox: Inbox,
    outbox: Outbox,
    slow_lane: SlowLane,
    connection: Arc<Connection>,
}

/// Why a session is over.
#[derive(Debug)]
#[expect(dead_code, reason = "what it holds is for the debug log")]
enum End {
    /// The client said so.
    Disconnected,
    /// The client is gone, between requests or in the middle of one.
    Gone,
    /// What came is not the protocol.
    Nonsense(&'static str),
    /// The disk was fenced.
    Fenced,
    /// The socket failed, or replies were not taken in time.
    Broken(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl Session {
    fn run(&mut self) -> End {
        loop {
            let served = self.next_request().and_then(|head| self.serve_counted(&head));
            match served {
                Ok(()) if self.connection.is_fenced() => return End::Fenced,
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    fn next_request(&mut self) -> Result<RequestHead, End> {
        self.await_bytes(REQUEST_LENGTH, Amount::Everything)?;
        let bytes = self.inbox.held().first_chunk().expect("awaited");
        let head = RequestHead::parse(bytes).ok_or(End::Nonsense("a request without magic"))?;
        self.inbox.consume(REQUEST_LENGTH);
        Ok(head)
    }

    /// Waits until so many bytes are held; replies leave before it waits.
    fn await_bytes(&mut self, length: usize, amount: Amount) -> Result<(), End> {
        while self.inbox.held().len() < length {
            self.outbox.flush()?;
            if self.inbox.receive(&self.connection.socket, length, amount)? == 0 {
                return Err(End::Gone);
            }
        }
        Ok(())
    }

    /// Waits until a request that moves so many bytes has its turn, if the export has a pace.
    fn await_turn(&mut self, bytes: u64) -> Result<(), End> {
        if self.connection.pace().is_limited() {
            self.outbox.flush()?;
            self.connection.pace().wait(bytes);
        }
        Ok(())
    }

    /// What is handed to the slow lane is counted there until it is answered.
    fn serve_counted(&mut self, head: &RequestHead) -> Result<(), End> {
        self.connection.counters().begun();
        let served = self.serve(head);
        self.connection.counters().ended();
        served
    }

    fn serve(&mut self, head: &RequestHead) -> Result<(), End> {
        let cookie = head.cookie;
        match head.understand(&self.connection.agreed) {
            Ok(Command::Read { range, pieces }) => self.read(cookie, range, pieces),
            Ok(Command::Write { range, durable }) => self.write(cookie, range, durable),
            Ok(Command::Slow(command)) => self.hand_over(cookie, command),
            Ok(Command::BlockStatus { range, answer }) => self.block_status(cookie, range, answer),
            Ok(Command::Disconnect) => Err(End::Disconnected),
            Err(errno) => self.refuse(head, errno),
        }
    }

    fn read(&mut self, cookie: Cookie, range: ByteRange, pieces: Pieces) -> Result<(), End> {
        self.connection.counters().read(range.length());
        self.await_turn(range.length())?;
        let whole = usize_of(range.length());
        let head = data_head_length(self.connection.agreed.style);
        if pieces == Pieces::One && !Outbox::fits(head + whole) {
            return self.read_large(cookie, range);
        }
        let mut start = range.start();
        while start < range.end() {
            // A read in one piece that came here fits as it is.
            let length = match pieces {
                Pieces::One => whole,
                Pieces::Many => piece_length(start, range.end()),
            };
            let end = start + u64_of(length);
            let room = self.outbox.room(head + length)?;
            let data = &mut room[head..];
            let outcome = self
                .connection
                .device()
                .and_then(|device| device.read_at(data, ByteOffset::new(start)));
            if let Err(error) = outcome {
                let errno = self.connection.failed(&error, Access::Look);
                return self.tell_failed(cookie, errno);
            }
            let last = end == range.end();
            write_data_head(room, self.connection.agreed.style, cookie, start, last);
            self.outbox.commit(head + length)?;
            start = end;
        }
        Ok(())
    }

    /// A read whose reply must be whole and is larger than the outbox.
    fn read_large(&mut self, cookie: Cookie, range: ByteRange) -> Result<(), End> {
        let head = data_head_length(self.connection.agreed.style);
        let Some(mut reply) = LargeReply::take(head + usize_of(range.length())) else {
            self.connection.counters().error();
            return self.tell_failed(cookie, Errno::OutOfMemory);
        };
        let data = &mut reply.bytes[head..];
        let offset = ByteOffset::new(range.start());
        if let Err(error) = self.connection.device().and_then(|device| device.read_at(data, offset))
        {
            let errno = self.connection.failed(&error, Access::Look);
            return self.tell_failed(cookie, errno);
        }
        let style = self.connection.agreed.style;
        write_data_head(&mut reply.bytes, style, cookie, range.start(), true);
        self.outbox.flush()?;
        Ok(self.connection.send(&reply.bytes)?)
    }

    fn write(&mut self, cookie: Cookie, range: ByteRange, durable: bool) -> Result<(), End> {
        self.connection.counters().write(range.length());
        self.await_turn(range.length())?;
        let mut outcome = Ok(());
        let mut start = range.start();
        while start < range.end() {
            let length = piece_length(start, range.end());
            let end = start + u64_of(length);
            let last = end == range.end();
            let amount = if last { Amount::Everything } else { Amount::Wanted };
            self.await_bytes(length, amount)?;
            // After a failure the rest of the payload is only taken out of the way.
            if outcome.is_ok() {
                outcome = self.store(length, ByteOffset::new(start));
            }
            self.inbox.consume(length);
            start = end;
        }
        match outcome {
            Ok(()) if durable => self.submit(cookie, SlowCommand::Flush),
            Ok(()) => self.answer(cookie, Ok(())),
            Err(error) => {
                let errno = self.connection.failed(&error, Access::Store);
                self.answer(cookie, Err(errno))
            }
        }
    }

    fn store(&self, length: usize, offset: ByteOffset) -> Result<(), DeviceError> {
        let device = self.connection.device()?;
        device.write_at(&self.inbox.held()[..length], offset, Durability::Cached)
    }

    fn block_status(
        &mut self,
        cookie: Cookie,
        range: ByteRange,
        answer: StatusAnswer,
    ) -> Result<(), End> {
        let most = match answer {
            StatusAnswer::OneExtent => 1,
            StatusAnswer::AllExtents => MOST_EXTENTS,
        };
        let offset = ByteOffset::new(range.start());
        let length = ByteLength::new(range.length());
        let device = self.connection.device();
        match device.and_then(|device| device.extents(offset, length, most)) {
            Ok(extents) => self.tell_extents(cookie, &extents[..extents.len().min(most)]),
            Err(error) => {
                let errno = self.connection.failed(&error, Access::Look);
                self.tell_error_chunk(cookie, errno)
            }
        }
    }

    fn tell_extents(&mut self, cookie: Cookie, extents: &[Extent]) -> Result<(), End> {
        let body = length_u32(4 + 8 * extents.len());
        let mut reply = chunk_head(CHUNK_DONE, chunk::BLOCK_STATUS, cookie, body).to_vec();
        reply.extend(ALLOCATION_ID.to_be_bytes());
        for extent in extents {
            // No extent is longer than the request, whose length had 32 bits.
            let length = u32::try_from(extent.length.get()).unwrap_or(u32::MAX);
            reply.extend(length.to_be_bytes());
            reply.extend(allocation_flags(extent.kind).to_be_bytes());
        }
        Ok(self.outbox.push(&reply)?)
    }

    fn hand_over(&mut self, cookie: Cookie, command: SlowCommand) -> Result<(), End> {
        let counters = self.connection.counters();
        match command {
            SlowCommand::Flush => counters.flush(),
            SlowCommand::Trim { range, .. } | SlowCommand::WriteZeroes { range, .. } => {
                counters.zeroing(range.length());
                self.await_turn(0)?;
            }
        }
        self.submit(cookie, command)
    }

    fn submit(&mut self, cookie: Cookie, command: SlowCommand) -> Result<(), End> {
        // The lane may make this thread wait, and what is answered must not wait with it.
        self.outbox.flush()?;
        match self.slow_lane.submit(Job { cookie, command }) {
            Ok(()) => Ok(()),
            Err(errno) => {
                self.connection.counters().error();
                self.answer(cookie, Err(errno))
            }
        }
    }

    fn refuse(&mut self, head: &RequestHead, errno: Errno) -> Result<(), End> {
        self.connection.counters().error();
        if head.payload() > LARGEST_DROPPED {
            return Err(End::Nonsense("a payload far larger than the limit"));
        }
        self.drop_payload(usize_of(u64::from(head.payload())))?;
        match head.command {
            command::READ | command::BLOCK_STATUS => self.tell_failed(head.cookie, errno),
            _ => self.answer(head.cookie, Err(errno)),
        }
    }

    fn drop_payload(&mut self, mut length: usize) -> Result<(), End> {
        while length > 0 {
            if self.connection.is_closing() {
                return Err(End::Fenced);
            }
            self.await_bytes(1, Amount::Everything)?;
            let dropped = length.min(self.inbox.held().len());
            self.inbox.consume(dropped);
            length -= dropped;
        }
        Ok(())
    }

    /// Fails a read or a block status. Spec: once structured replies are agreed, these are never
    /// answered by simple ones.
    fn tell_failed(&mut self, cookie: Cookie, errno: Errno) -> Result<(), End> {
        match self.connection.agreed.style {
            ReplyStyle::Simple => self.answer(cookie, Err(errno)),
            ReplyStyle::Structured => self.tell_error_chunk(cookie, errno),
        }
    }

    fn tell_error_chunk(&mut self, cookie: Cookie, errno: Errno) -> Result<(), End> {
        let text = errno.to_string();
        let body = length_u32(4 + 2 + text.len());
        let mut reply = chunk_head(CHUNK_DONE, chunk::ERROR_KIND, cookie, body).to_vec();
        reply.extend(errno.code().to_be_bytes());
        reply.extend(u16::try_from(text.len()).expect("our texts are short").to_be_bytes());
        reply.extend(text.as_bytes());
        Ok(self.outbox.push(&reply)?)
    }

    fn answer(&mut self, cookie: Cookie, outcome: Result<(), Errno>) -> Result<(), End> {
        let error = outcome.map_or_else(Errno::code, |()| 0);
        Ok(self.outbox.push(&simple_reply(cookie, error))?)
    }
}

/// How much of a range is done at once: up to the next multiple of a piece, so that all pieces
/// but the first begin at one and no block of the disk is cut by our own doing.
fn piece_length(start: u64, end: u64) -> usize {
    let piece = u64_of(PIECE);
    usize_of((piece - start % piece).min(end - start))
}

fn data_head_length(style: ReplyStyle) -> usize {
    match style {
        ReplyStyle::Simple => SIMPLE_REPLY_LENGTH,
        ReplyStyle::Structured => CHUNK_LENGTH + CHUNK_OFFSET_LENGTH,
    }
}

/// Puts before the data in `reply` what says whose it is.
fn write_data_head(reply: &mut [u8], style: ReplyStyle, cookie: Cookie, start: u64, last: bool) {
    match style {
        ReplyStyle::Simple => {
            reply[..SIMPLE_REPLY_LENGTH].copy_from_slice(&simple_reply(cookie, 0));
        }
        ReplyStyle::Structured => {
            let flags = if last { CHUNK_DONE } else { 0 };
            let length = length_u32(reply.len() - CHUNK_LENGTH);
            let head = chunk_head(flags, chunk::OFFSET_DATA, cookie, length);
            reply[..CHUNK_LENGTH].copy_from_slice(&head);
            reply[CHUNK_LENGTH..][..CHUNK_OFFSET_LENGTH].copy_from_slice(&start.to_be_bytes());
        }
    }
}

fn allocation_flags(kind: ExtentKind) -> u32 {
    match kind {
        ExtentKind::Data => 0,
        ExtentKind::Zero => allocation_flag::ZERO,
        ExtentKind::Hole => allocation_flag::ZERO | allocation_flag::HOLE,
    }
}

fn usize_of(length: u64) -> usize {
    usize::try_from(length).expect("a payload or piece, at most 64 MiB")
}

fn u64_of(length: usize) -> u64 {
    u64::try_from(length).expect("usize is at most 64 bits")
}
