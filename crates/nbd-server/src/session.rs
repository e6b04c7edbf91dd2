//! Transmission: requests in, replies out, until the client or a fence ends it.
//!
//! How it is fast
//! - One receive takes as many requests as the client has sent; replies are gathered and leave
//!   together, at the latest before this thread waits. Two system calls serve a whole queue.
//! - Reads and writes are done right here and in order: from the page cache they take a
//!   microsecond or two, less than handing them to another thread and being woken by it.
//!   Nothing is allocated for them, and payloads are moved once in and once out.
//! - What may wait for the disk below (flush, forced access, trim, zeroes, cache) goes to the slow lane, a
//!   helper thread of this connection, so that reads behind it are answered meanwhile.
//!
//! The known downside: reads of one connection that miss the page cache wait for each other. A
//! client that wants them side by side opens more connections, which every export allows.
//!
//! What must always hold
//! 1. Whatever a client sends, the next request is found where it begins, or the connection ends.
//! 2. A write is answered after its last byte is stored, a forced one after a flush begun since.
//! 3. Nothing is kept back: before this thread waits for the client, all its replies have left.

use std::{io, sync::Arc, time::Instant};

use block_device::{ByteLength, ByteOffset, ByteRange, DeviceError, Durability, Operation};

use crate::{
    connection::Connection,
    errno::{Access, Errno},
    inbox::{Amount, Inbox, PIECE},
    large_replies::LargeReply,
    outbox::Outbox,
    reply::Asked,
    request::{Command, Pieces, RequestHead, SlowCommand, StatusQuery},
    slow_lane::{Job, SlowLane},
    status,
};

/// Serves a connection to its end.
pub(crate) fn serve(connection: Connection) {
    let connection = Arc::new(connection);
    let mut session = Session {
        inbox: Inbox::new(),
        outbox: Outbox::new(Arc::clone(&connection)),
        slow_lane: SlowLane::new(Arc::clone(&connection)),
        begun: Instant::now(),
        connection,
    };
    let end = session.run();
    tracing::debug!(?end, "an NBD connection ends");
    // Who has gone does not take them; that is no failure.
    let _ = session.outbox.flush();
    let connection = Arc::clone(&session.connection);
    // The helper answers what was handed in before it ends.
    drop(session);
    connection.socket.say_goodbye();
}

#[derive(Debug)]
struct Session {
    inbox: Inbox,
    outbox: Outbox,
    slow_lane: SlowLane,
    /// When the request under way was taken.
    begun: Instant,
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
        let style = self.connection.agreed.style;
        let length = RequestHead::length_in(style);
        self.await_bytes(length, Amount::Everything)?;
        let parsed = RequestHead::parse(style, &self.inbox.held()[..length]);
        let head = parsed.ok_or(End::Nonsense("a request without magic"))?;
        self.inbox.consume(length);
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

    /// A request that is answered here took this long.
    fn took(&self, operation: Operation) {
        self.connection.meter().answered(operation, self.begun.elapsed());
    }

    /// What is handed to the slow lane is counted there until it is answered.
    fn serve_counted(&mut self, head: &RequestHead) -> Result<(), End> {
        self.connection.meter().begun();
        self.begun = Instant::now();
        let served = self.serve(head);
        self.connection.meter().ended();
        served
    }

    fn serve(&mut self, head: &RequestHead) -> Result<(), End> {
        let asked = head.asked();
        match head.understand(&self.connection.agreed) {
            Ok(Command::Read { range, pieces }) => self.read(asked, range, pieces),
            Ok(Command::Write { range, durable }) => self.write(asked, range, durable),
            Ok(Command::Slow(command)) => self.hand_over(asked, command),
            Ok(Command::BlockStatus(query)) => self.block_status(asked, query),
            Ok(Command::ChosenStatus) => self.chosen_status(head),
            Ok(Command::Disconnect) => Err(End::Disconnected),
            Err(errno) => self.refuse(head, errno),
        }
    }

    fn read(&mut self, asked: Asked, range: ByteRange, pieces: Pieces) -> Result<(), End> {
        self.connection.meter().asked(Operation::Read, range.length());
        self.await_turn(range.length())?;
        let whole = usize_of(range.length());
        let head = self.connection.agreed.style.data_head_length();
        if pieces == Pieces::One && !Outbox::fits(head + whole) {
            return self.read_large(asked, range);
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
                return self.fail(asked, errno);
            }
            let last = end == range.end();
            self.connection.agreed.style.put_data_head(room, asked, start, last);
            self.outbox.commit(head + length)?;
            start = end;
        }
        self.took(Operation::Read);
        Ok(())
    }

    /// A read whose reply must be whole and is larger than the outbox.
    fn read_large(&mut self, asked: Asked, range: ByteRange) -> Result<(), End> {
        let head = self.connection.agreed.style.data_head_length();
        let Some(mut reply) = LargeReply::take(head + usize_of(range.length())) else {
            self.connection.meter().error();
            return self.fail(asked, Errno::OutOfMemory);
        };
        let data = &mut reply.bytes[head..];
        let offset = ByteOffset::new(range.start());
        if let Err(error) = self.connection.device().and_then(|device| device.read_at(data, offset))
        {
            let errno = self.connection.failed(&error, Access::Look);
            return self.fail(asked, errno);
        }
        let style = self.connection.agreed.style;
        style.put_data_head(&mut reply.bytes, asked, range.start(), true);
        self.took(Operation::Read);
        self.outbox.flush()?;
        Ok(self.connection.send(&reply.bytes)?)
    }

    fn write(&mut self, asked: Asked, range: ByteRange, durable: bool) -> Result<(), End> {
        self.connection.meter().asked(Operation::Write, range.length());
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
            Ok(()) if durable => self.submit(asked, SlowCommand::Flush, Some(Operation::Write)),
            Ok(()) => {
                self.took(Operation::Write);
                self.done(asked)
            }
            Err(error) => {
                let errno = self.connection.failed(&error, Access::Store);
                self.fail(asked, errno)
            }
        }
    }

    fn store(&self, length: usize, offset: ByteOffset) -> Result<(), DeviceError> {
        let device = self.connection.device()?;
        device.write_at(&self.inbox.held()[..length], offset, Durability::Cached)
    }

    /// A block status whose payload says of what. It is short, so it is taken whole.
    fn chosen_status(&mut self, head: &RequestHead) -> Result<(), End> {
        let agreed = self.connection.agreed;
        let length = usize_of(head.payload(agreed.style));
        self.await_bytes(length, Amount::Everything)?;
        let understood = head.choose(&self.inbox.held()[..length], &agreed);
        self.inbox.consume(length);
        match understood {
            Ok(Command::BlockStatus(query)) => self.block_status(head.asked(), query),
            Ok(_) => unreachable!("what is chosen is a block status"),
            Err(errno) => {
                self.connection.meter().error();
                self.fail(head.asked(), errno)
            }
        }
    }

    fn block_status(&mut self, asked: Asked, query: StatusQuery) -> Result<(), End> {
        // All is looked at before anything is told: a failure is the whole answer.
        let mut chunks = Vec::new();
        for context in query.contexts.iter() {
            let device = self.connection.device();
            match device.and_then(|it| status::look(it, context, query.range, query.answer)) {
                Ok(told) => chunks.push((context, told)),
                Err(error) => {
                    let errno = self.connection.failed(&error, Access::Look);
                    return self.fail(asked, errno);
                }
            }
        }
        let last = chunks.len();
        for (number, (context, told)) in (1..).zip(&chunks) {
            let chunk = status::chunk_of(query.form, asked, *context, told, number == last);
            self.outbox.push(&chunk)?;
        }
        Ok(())
    }

    fn hand_over(&mut self, asked: Asked, command: SlowCommand) -> Result<(), End> {
        let meter = self.connection.meter();
        // Spec ("NBD_CMD_FLAG_FAST_ZERO"): quickly, and before anything is changed.
        if self.is_too_slow(command) {
            meter.error();
            return self.fail(asked, Errno::NotSupported);
        }
        let operation = command.operation();
        match command {
            SlowCommand::Flush => meter.asked(Operation::Flush, 0),
            SlowCommand::Trim { range, .. } | SlowCommand::WriteZeroes { range, .. } => {
                meter.asked(Operation::Zero, range.length());
                self.await_turn(0)?;
            }
            SlowCommand::Cache { .. } => {}
        }
        self.submit(asked, command, operation)
    }

    /// Whether this is a zeroing that is wanted only if it is fast, and would not be.
    fn is_too_slow(&self, command: SlowCommand) -> bool {
        let SlowCommand::WriteZeroes { range, fast: true, .. } = command else { return false };
        let (offset, length) = (ByteOffset::new(range.start()), ByteLength::new(range.length()));
        // A fenced device refuses it by itself.
        self.connection.device().is_ok_and(|device| !device.zeroes_fast(offset, length))
    }

    /// To the slow lane, which answers it.
    fn submit(
        &mut self,
        asked: Asked,
        command: SlowCommand,
        operation: Option<Operation>,
    ) -> Result<(), End> {
        // The lane may make this thread wait, and what is answered must not wait with it.
        self.outbox.flush()?;
        match self.slow_lane.submit(Job { asked, command, operation, begun: self.begun }) {
            Ok(()) => Ok(()),
            Err(errno) => {
                self.connection.meter().error();
                self.fail(asked, errno)
            }
        }
    }

    fn refuse(&mut self, head: &RequestHead, errno: Errno) -> Result<(), End> {
        self.connection.meter().error();
        let style = self.connection.agreed.style;
        let payload = head.payload(style);
        if payload > RequestHead::largest_dropped(style) {
            return Err(End::Nonsense("a payload far larger than the limit"));
        }
        self.drop_payload(usize_of(payload))?;
        self.fail(head.asked(), errno)
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

    fn done(&mut self, asked: Asked) -> Result<(), End> {
        Ok(self.outbox.push(self.connection.agreed.style.done(asked).as_ref())?)
    }

    fn fail(&mut self, asked: Asked, errno: Errno) -> Result<(), End> {
        Ok(self.outbox.push(&self.connection.agreed.style.failed(asked, errno))?)
    }
}

/// How much of a range is done at once: up to the next multiple of a piece, so that all pieces
/// but the first begin at one and no block of the disk is cut by our own doing.
fn piece_length(start: u64, end: u64) -> usize {
    let piece = u64_of(PIECE);
    usize_of((piece - start % piece).min(end - start))
}

fn usize_of(length: u64) -> usize {
    usize::try_from(length).expect("a payload or piece, at most 64 MiB")
}

fn u64_of(length: usize) -> u64 {
    u64::try_from(length).expect("usize is at most 64 bits")
}
