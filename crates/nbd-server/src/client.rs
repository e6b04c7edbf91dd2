//! A small blocking NBD client: for tests, benches and `reinit demo`.
//!
//! One request at a time with [`NbdClient::read`] and its like, or many in flight: hand them in
//! with [`NbdClient::submit`], take the answers in any order with [`NbdClient::complete`].
//!
//! What must always hold: it takes replies while it waits to send, so that a server which waits
//! for its replies to be taken, and this client, never wait for each other.
//! After an error other than [`ClientError::Answered`] the connection is of no more use.

mod handshake;
mod incoming;

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    io,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
};

use block_device::{ByteLength, ByteOffset, Change, Durability, Extent, ExtentKind, ZeroMode};
use rustix::event::{PollFd, PollFlags, poll};

use self::incoming::Incoming;
use crate::{
    context::Context,
    errno::Errno,
    reply::{ChunkForm, ReplyStyle},
    request::RequestHead,
    socket::Socket,
    tls::TlsWish,
    wire::{
        CHUNK_DONE, CHUNK_MAGIC, Cookie, EXTENDED_CHUNK_MAGIC, Fields, Message, SIMPLE_REPLY_MAGIC,
        allocation_flag, chunk, command, command_flag, dirty_flag, transmission_flag,
    },
};

/// Payloads below this are gathered with the requests around them; larger ones are sent from
/// where they are.
const SMALL_PAYLOAD: usize = 64 << 10;
/// Gathered requests leave at this size at the latest.
const ENOUGH: usize = 128 << 10;
/// More than any chunk but one of data needs.
const LARGEST_CHUNK: u32 = 1 << 20;

/// Why the client could not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection failed, or the server ended it.
    #[error("the connection to the NBD server failed")]
    Connection(#[from] io::Error),
    /// The server does not give the export.
    #[error("the NBD server refuses the export (reply {reply:#x}): {reason}")]
    Refused {
        /// The number of the reply.
        reply: u32,
        /// What the server says to it.
        reason: String,
    },
    /// The server answered a request with an error.
    #[error("the NBD server answers: {0}")]
    Answered(Errno),
    /// The server does not keep to the protocol.
    #[error("the NBD server sent nonsense: {0}")]
    Nonsense(&'static str),
    /// The server does not tell this of the export.
    #[error("the NBD server does not tell {0} of the export")]
    NotTold(&'static str),
    /// A request of more than 4 GiB, which a request with compact headers cannot say, or a read of
    /// more than one could ever be.
    #[error("{0} bytes are too many for one NBD request")]
    TooLong(ByteLength),
}

/// What the client asks for in the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Headers {
    /// Structured replies and lengths of 32 bits, which every server has.
    Compact,
    /// Lengths of 64 bits; compact headers if the server has none of these.
    #[default]
    Extended,
}

/// A request to hand in. Payloads in either direction are at most 32 MiB.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// Gives [`Answer::Data`].
    Read {
        /// From where.
        offset: ByteOffset,
        /// How much.
        length: ByteLength,
    },
    /// Stores.
    Write {
        /// Where.
        offset: ByteOffset,
        /// What.
        data: &'a [u8],
        /// When it is answered.
        durability: Durability,
    },
    /// Makes what was answered durable.
    Flush,
    /// Gives content up.
    Trim {
        /// From where.
        offset: ByteOffset,
        /// How much.
        length: ByteLength,
    },
    /// Makes a stretch read as zeros.
    WriteZeroes {
        /// From where.
        offset: ByteOffset,
        /// How much.
        length: ByteLength,
        /// What becomes of the space.
        mode: ZeroMode,
        /// When it is answered.
        durability: Durability,
    },
    /// Makes a stretch read as zeros if that is faster than writing them.
    FastZeroes {
        /// From where.
        offset: ByteOffset,
        /// How much.
        length: ByteLength,
        /// What becomes of the space.
        mode: ZeroMode,
    },
    /// Tells that the stretch will be read soon.
    Cache {
        /// From where.
        offset: ByteOffset,
        /// How much.
        length: ByteLength,
    },
    /// Gives [`Answer::Extents`], perhaps of the first part only.
    BlockStatus {
        /// From where.
        offset: ByteOffset,
        /// How much.
        length: ByteLength,
    },
    /// Gives [`Answer::Changes`], perhaps of the first part only.
    Changes {
        /// From where.
        offset: ByteOffset,
        /// How much.
        length: ByteLength,
    },
}

/// Which request an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(Cookie);

/// The end of a request.
#[derive(Debug)]
pub struct Completion {
    /// Which request.
    pub ticket: Ticket,
    /// What came of it.
    pub outcome: Result<Answer, Errno>,
}

/// What a request gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing but that it is done.
    Done,
    /// The bytes of a read.
    Data(Vec<u8>),
    /// The extents of a block status.
    Extents(Vec<Extent>),
    /// What was changed of a stretch.
    Changes(Vec<Change>),
}

/// A connection to one export.
#[derive(Debug)]
pub struct NbdClient {
    socket: Socket,
    told: Told,
    next: u64,
    /// Requests not sent yet.
    outgoing: Vec<u8>,
    incoming: Incoming,
    in_flight: HashMap<Cookie, Pending>,
    finished: VecDeque<Completion>,
}

/// What the server said in the handshake.
#[derive(Debug)]
struct Told {
    size: ByteLength,
    flags: u16,
    style: ReplyStyle,
    /// The contexts that were set, with the server's numbers of them.
    contexts: Vec<(u32, Context)>,
}

/// What stands before the body of a chunk.
struct ChunkHead {
    flags: u16,
    kind: u16,
    cookie: Cookie,
    /// That of the request, where headers are extended.
    offset: Option<u64>,
    length: u32,
}

/// What has come of a request so far.
#[derive(Debug)]
struct Pending {
    offset: u64,
    answer: Answer,
    error: Option<Errno>,
}

impl NbdClient {
    /// Connects to an export over a unix socket.
    pub fn connect_unix(path: &Path, export: &str) -> Result<Self, ClientError> {
        Self::connect_unix_with(path, export, Headers::default())
    }

    /// The same, with the headers one wants.
    pub fn connect_unix_with(
        path: &Path,
        export: &str,
        headers: Headers,
    ) -> Result<Self, ClientError> {
        Self::connect(Socket::unix(UnixStream::connect(path)?), export, headers, None)
    }

    /// Connects to an export over TCP.
    pub fn connect_tcp(address: SocketAddr, export: &str) -> Result<Self, ClientError> {
        let socket = Socket::tcp(TcpStream::connect(address)?);
        Self::connect(socket, export, Headers::default(), None)
    }

    /// Connects to an export over TCP, and says nothing to a server that has no TLS.
    pub fn connect_tls(
        address: SocketAddr,
        export: &str,
        tls: &TlsWish,
    ) -> Result<Self, ClientError> {
        let socket = Socket::tcp(TcpStream::connect(address)?);
        Self::connect(socket, export, Headers::default(), Some(tls))
    }

    fn connect(
        socket: Socket,
        export: &str,
        headers: Headers,
        tls: Option<&TlsWish>,
    ) -> Result<Self, ClientError> {
        let told = handshake::shake(&socket, export, headers, tls)?;
        Ok(Self {
            socket,
            told,
            next: 0,
            outgoing: Vec::new(),
            incoming: Incoming::default(),
            in_flight: HashMap::new(),
            finished: VecDeque::new(),
        })
    }

    /// The size of the export.
    pub fn size(&self) -> ByteLength {
        self.told.size
    }

    /// Whether the server has extended headers.
    pub fn has_extended_headers(&self) -> bool {
        self.told.style.is_extended()
    }

    /// The transmission flags as the server sent them.
    pub fn flags(&self) -> u16 {
        self.told.flags
    }

    /// Whether the export can only be read.
    pub fn is_read_only(&self) -> bool {
        self.told.flags & transmission_flag::READ_ONLY != 0
    }

    /// Fills `buffer` from `offset`.
    pub fn read(&mut self, buffer: &mut [u8], offset: ByteOffset) -> Result<(), ClientError> {
        match self.ask(Request::Read { offset, length: ByteLength::of(buffer) })? {
            Answer::Data(data) => buffer.copy_from_slice(&data),
            _ => unreachable!("a read is answered by data"),
        }
        Ok(())
    }

    /// Stores `data` at `offset`.
    pub fn write(
        &mut self,
        data: &[u8],
        offset: ByteOffset,
        durability: Durability,
    ) -> Result<(), ClientError> {
        self.ask(Request::Write { offset, data, durability }).map(drop)
    }

    /// Makes everything answered before durable.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.ask(Request::Flush).map(drop)
    }

    /// Tells that the content is no longer needed.
    pub fn trim(&mut self, offset: ByteOffset, length: ByteLength) -> Result<(), ClientError> {
        self.ask(Request::Trim { offset, length }).map(drop)
    }

    /// Makes the stretch read as zeros.
    pub fn write_zeroes(
        &mut self,
        offset: ByteOffset,
        length: ByteLength,
        mode: ZeroMode,
        durability: Durability,
    ) -> Result<(), ClientError> {
        self.ask(Request::WriteZeroes { offset, length, mode, durability }).map(drop)
    }

    /// Makes the stretch read as zeros if that is faster than writing them; else nothing is changed
    /// and the answer is [`Errno::NotSupported`].
    pub fn fast_zeroes(
        &mut self,
        offset: ByteOffset,
        length: ByteLength,
        mode: ZeroMode,
    ) -> Result<(), ClientError> {
        self.ask(Request::FastZeroes { offset, length, mode }).map(drop)
    }

    /// Tells that the stretch will be read soon.
    pub fn cache(&mut self, offset: ByteOffset, length: ByteLength) -> Result<(), ClientError> {
        self.ask(Request::Cache { offset, length }).map(drop)
    }

    /// How the stretch is held; the answer may end early.
    pub fn block_status(
        &mut self,
        offset: ByteOffset,
        length: ByteLength,
    ) -> Result<Vec<Extent>, ClientError> {
        match self.ask(Request::BlockStatus { offset, length })? {
            Answer::Extents(extents) => Ok(extents),
            _ => unreachable!("a status is answered by extents"),
        }
    }

    /// What the disk changed of the stretch since it was made, was reset, or had its last
    /// snapshot; the answer may end early.
    pub fn changes(
        &mut self,
        offset: ByteOffset,
        length: ByteLength,
    ) -> Result<Vec<Change>, ClientError> {
        match self.ask(Request::Changes { offset, length })? {
            Answer::Changes(changes) => Ok(changes),
            _ => unreachable!("this is answered by changes"),
        }
    }

    /// Ends the connection as the protocol wishes: what is in flight is answered first.
    pub fn disconnect(mut self) -> Result<(), ClientError> {
        while self.in_flight() > 0 {
            self.complete()?;
        }
        let head = self.head(command::DISCONNECT, 0, ByteOffset::ZERO, ByteLength::ZERO);
        self.put(&head)?;
        self.send_gathered()?;
        self.socket.say_goodbye();
        Ok(())
    }

    fn ask(&mut self, request: Request<'_>) -> Result<Answer, ClientError> {
        let ticket = self.submit(request)?;
        // Answers to others that are in flight are kept for those who ask for them.
        loop {
            let mine = self.finished.iter().position(|finished| finished.ticket == ticket);
            if let Some(completion) = mine.and_then(|mine| self.finished.remove(mine)) {
                return completion.outcome.map_err(ClientError::Answered);
            }
            self.receive_one()?;
        }
    }

    /// How many requests have been handed in and not been taken by [`NbdClient::complete`].
    pub fn in_flight(&self) -> usize {
        self.in_flight.len() + self.finished.len()
    }

    /// Hands a request in. It is sent with others, at the latest when an answer is waited for.
    pub fn submit(&mut self, request: Request<'_>) -> Result<Ticket, ClientError> {
        let (head, payload, answer) = self.encode(request)?;
        self.put(&head)?;
        let pending = Pending { offset: head.offset, answer, error: None };
        self.in_flight.insert(head.cookie, pending);
        if payload.len() < SMALL_PAYLOAD {
            self.outgoing.extend(payload.as_ref());
        } else {
            self.send_gathered()?;
            self.send(&payload)?;
        }
        if self.outgoing.len() >= ENOUGH {
            self.send_gathered()?;
        }
        Ok(Ticket(head.cookie))
    }

    /// Waits for the next request to end, in whatever order the server likes.
    pub fn complete(&mut self) -> Result<Completion, ClientError> {
        loop {
            if let Some(completion) = self.finished.pop_front() {
                return Ok(completion);
            }
            if self.in_flight.is_empty() {
                return Err(io::Error::other("no request is in flight").into());
            }
            self.receive_one()?;
        }
    }

    fn put(&mut self, head: &RequestHead) -> Result<(), ClientError> {
        let too_long = ClientError::TooLong(ByteLength::new(head.length));
        head.encode(self.told.style, &mut self.outgoing).ok_or(too_long)
    }

    fn encode<'a>(
        &mut self,
        request: Request<'a>,
    ) -> Result<(RequestHead, Cow<'a, [u8]>, Answer), ClientError> {
        let none = Cow::Borrowed(&[][..]);
        Ok(match request {
            Request::Read { offset, length } => {
                let head = self.head(command::READ, 0, offset, length);
                let short =
                    u32::try_from(length.get()).map_err(|_| ClientError::TooLong(length))?;
                let data = vec![0; usize::try_from(short).expect("32 bits")];
                (head, none, Answer::Data(data))
            }
            Request::Write { offset, data, durability } => {
                // Spec: in an extended session a write says that it has a payload.
                let extended = self.told.style.is_extended();
                let payload = if extended { command_flag::PAYLOAD_LENGTH } else { 0 };
                let flags = durability_flag(durability) | payload;
                let head = self.head(command::WRITE, flags, offset, ByteLength::of(data));
                (head, Cow::Borrowed(data), Answer::Done)
            }
            Request::Flush => {
                let head = self.head(command::FLUSH, 0, ByteOffset::ZERO, ByteLength::ZERO);
                (head, none, Answer::Done)
            }
            Request::Trim { offset, length } => {
                (self.head(command::TRIM, 0, offset, length), none, Answer::Done)
            }
            Request::WriteZeroes { offset, length, mode, durability } => {
                let flags = durability_flag(durability) | mode_flag(mode);
                (self.head(command::WRITE_ZEROES, flags, offset, length), none, Answer::Done)
            }
            Request::FastZeroes { offset, length, mode } => {
                let flags = command_flag::FAST_ZERO | mode_flag(mode);
                (self.head(command::WRITE_ZEROES, flags, offset, length), none, Answer::Done)
            }
            Request::Cache { offset, length } => {
                (self.head(command::CACHE, 0, offset, length), none, Answer::Done)
            }
            Request::BlockStatus { offset, length } => {
                let (head, choice) = self.status(Context::Allocation, offset, length)?;
                (head, choice, Answer::Extents(Vec::new()))
            }
            Request::Changes { offset, length } => {
                let (head, choice) = self.status(Context::Dirty, offset, length)?;
                (head, choice, Answer::Changes(Vec::new()))
            }
        })
    }

    /// A block status of one context: chosen by a payload where the server takes one, else the
    /// others are told too.
    fn status(
        &mut self,
        wanted: Context,
        offset: ByteOffset,
        length: ByteLength,
    ) -> Result<(RequestHead, Cow<'static, [u8]>), ClientError> {
        let told = self.told.contexts.iter().find(|(_, context)| *context == wanted);
        let id = told.ok_or(ClientError::NotTold(wanted.title()))?.0;
        if self.told.flags & transmission_flag::BLOCK_STATUS_PAYLOAD == 0 {
            let head = self.head(command::BLOCK_STATUS, 0, offset, length);
            return Ok((head, Cow::Borrowed(&[])));
        }
        let choice = Message::default().u64(length.get()).u32(id).into_bytes();
        let (flags, length) = (command_flag::PAYLOAD_LENGTH, ByteLength::of(&choice));
        Ok((self.head(command::BLOCK_STATUS, flags, offset, length), Cow::Owned(choice)))
    }

    fn head(
        &mut self,
        command: u16,
        flags: u16,
        offset: ByteOffset,
        length: ByteLength,
    ) -> RequestHead {
        let cookie = Cookie(self.next);
        self.next += 1;
        RequestHead { flags, command, cookie, offset: offset.get(), length: length.get() }
    }

    fn send_gathered(&mut self) -> Result<(), ClientError> {
        let mut gathered = std::mem::take(&mut self.outgoing);
        self.send(&gathered)?;
        gathered.clear();
        self.outgoing = gathered;
        Ok(())
    }

    /// Sends everything, and takes replies while the server takes nothing.
    fn send(&mut self, mut bytes: &[u8]) -> Result<(), ClientError> {
        while !bytes.is_empty() || self.socket.holds_unsent() {
            match self.socket.send_now(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let events = PollFlags::IN | PollFlags::OUT;
                    let mut ready = [PollFd::new(&self.socket, events)];
                    rustix::io::retry_on_intr(|| poll(&mut ready, None))
                        .map_err(io::Error::from)?;
                    self.incoming.take_what_is_there(&self.socket)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives one reply or chunk of a reply.
    fn receive_one(&mut self) -> Result<(), ClientError> {
        self.send_gathered()?;
        let magic = u32::from_be_bytes(self.incoming.array(&self.socket)?);
        match magic {
            // Spec: an extended session has replies of its own only.
            SIMPLE_REPLY_MAGIC if !self.has_extended_headers() => self.receive_simple(),
            CHUNK_MAGIC if !self.has_extended_headers() => self.receive_chunk(),
            EXTENDED_CHUNK_MAGIC if self.has_extended_headers() => self.receive_chunk(),
            _ => Err(ClientError::Nonsense("a reply without magic")),
        }
    }

    fn receive_simple(&mut self) -> Result<(), ClientError> {
        let error = u32::from_be_bytes(self.incoming.array(&self.socket)?);
        let cookie = Cookie(u64::from_be_bytes(self.incoming.array(&self.socket)?));
        let pending = pending(&mut self.in_flight, cookie)?;
        if error != 0 {
            pending.error = Some(Errno::from_code(error));
        } else if let Answer::Data(data) = &mut pending.answer {
            self.incoming.fill(&self.socket, data)?;
        }
        self.finish(cookie);
        Ok(())
    }

    fn receive_chunk(&mut self) -> Result<(), ClientError> {
        let ChunkHead { flags, kind, cookie, offset, length } = self.chunk_head()?;
        let pending = pending(&mut self.in_flight, cookie)?;
        if offset.is_some_and(|offset| offset != pending.offset) {
            return Err(ClientError::Nonsense("a reply to a request at another offset"));
        }
        if kind == chunk::OFFSET_DATA {
            let place = u64::from_be_bytes(self.incoming.array(&self.socket)?);
            let length = length.checked_sub(8).ok_or(ClientError::Nonsense("a short chunk"))?;
            let target = pending.part(place, length)?;
            self.incoming.fill(&self.socket, target)?;
        } else {
            if length > LARGEST_CHUNK {
                return Err(ClientError::Nonsense("a chunk far too large"));
            }
            let mut body = vec![0; usize::try_from(length).expect("32 bits")];
            self.incoming.fill(&self.socket, &mut body)?;
            pending.note(kind, &body, &self.told.contexts)?;
        }
        if flags & CHUNK_DONE != 0 {
            self.finish(cookie);
        }
        Ok(())
    }

    /// What stands before the body of a chunk, after its magic.
    fn chunk_head(&mut self) -> Result<ChunkHead, ClientError> {
        let (flags, kind) = (self.u16()?, self.u16()?);
        let cookie = Cookie(self.u64()?);
        let (offset, length) = if self.has_extended_headers() {
            let (offset, length) = (self.u64()?, self.u64()?);
            let too_large = ClientError::Nonsense("a chunk far too large");
            (Some(offset), u32::try_from(length).map_err(|_| too_large)?)
        } else {
            (None, u32::from_be_bytes(self.incoming.array(&self.socket)?))
        };
        Ok(ChunkHead { flags, kind, cookie, offset, length })
    }

    fn u16(&mut self) -> Result<u16, ClientError> {
        Ok(u16::from_be_bytes(self.incoming.array(&self.socket)?))
    }

    fn u64(&mut self) -> Result<u64, ClientError> {
        Ok(u64::from_be_bytes(self.incoming.array(&self.socket)?))
    }

    fn finish(&mut self, cookie: Cookie) {
        if let Some(pending) = self.in_flight.remove(&cookie) {
            let outcome = pending.error.map_or(Ok(pending.answer), Err);
            self.finished.push_back(Completion { ticket: Ticket(cookie), outcome });
        }
    }
}

fn pending(
    in_flight: &mut HashMap<Cookie, Pending>,
    cookie: Cookie,
) -> Result<&mut Pending, ClientError> {
    in_flight.get_mut(&cookie).ok_or(ClientError::Nonsense("an answer to no request"))
}

impl Pending {
    /// The part of a read's data that a chunk says it holds.
    fn part(&mut self, place: u64, length: u32) -> Result<&mut [u8], ClientError> {
        let Answer::Data(data) = &mut self.answer else {
            return Err(ClientError::Nonsense("data for a request that reads none"));
        };
        let start = place.checked_sub(self.offset).and_then(|start| usize::try_from(start).ok());
        let length = usize::try_from(length).expect("32 bits");
        start
            .and_then(|start| data.get_mut(start..start.checked_add(length)?))
            .ok_or(ClientError::Nonsense("data outside of what was read"))
    }

    /// Notes a chunk that is not data.
    fn note(
        &mut self,
        kind: u16,
        body: &[u8],
        contexts: &[(u32, Context)],
    ) -> Result<(), ClientError> {
        let short = ClientError::Nonsense("a short chunk");
        let mut fields = Fields::of(body);
        match kind {
            chunk::NONE => Ok(()),
            chunk::OFFSET_HOLE => {
                let (Some(place), Some(length)) = (fields.u64(), fields.u32()) else {
                    return Err(short);
                };
                self.part(place, length)?.fill(0);
                Ok(())
            }
            chunk::BLOCK_STATUS | chunk::BLOCK_STATUS_EXTENDED => {
                let form = match kind {
                    chunk::BLOCK_STATUS => ChunkForm::Structured,
                    _ => ChunkForm::Extended,
                };
                let context = fields.u32().and_then(|id| contexts.iter().find(|it| it.0 == id));
                let unasked = ClientError::Nonsense("a context nobody asked for");
                self.note_extents(context.ok_or(unasked)?.1, form, fields)
            }
            _ if kind & chunk::ERROR != 0 => {
                self.error = Some(Errno::from_code(fields.u32().ok_or(short)?));
                Ok(())
            }
            _ => Err(ClientError::Nonsense("an unknown chunk")),
        }
    }

    fn note_extents(
        &mut self,
        context: Context,
        form: ChunkForm,
        mut fields: Fields<'_>,
    ) -> Result<(), ClientError> {
        if form == ChunkForm::Extended {
            // Spec: how many there are, or 0; the length of the chunk says it too.
            fields.u32();
        }
        while let Some((length, flags)) = descriptor(&mut fields, form) {
            let length = ByteLength::new(length);
            match (context, &mut self.answer) {
                (Context::Allocation, Answer::Extents(extents)) => {
                    extents.push(Extent { length, kind: extent_kind(flags) });
                }
                (Context::Dirty, Answer::Changes(changes)) => {
                    let is_changed = flags & dirty_flag::DIRTY != 0;
                    changes.push(Change { length, is_changed });
                }
                // The other context of the same request.
                (_, Answer::Extents(_) | Answer::Changes(_)) => {}
                _ => return Err(ClientError::Nonsense("extents nobody asked for")),
            }
        }
        Ok(())
    }
}

/// The length and the flags of the next extent.
fn descriptor(fields: &mut Fields<'_>, form: ChunkForm) -> Option<(u64, u32)> {
    match form {
        ChunkForm::Structured => Some((u64::from(fields.u32()?), fields.u32()?)),
        ChunkForm::Extended => {
            let (length, _padding) = (fields.u64()?, fields.u32()?);
            Some((length, fields.u32()?))
        }
    }
}

fn extent_kind(flags: u32) -> ExtentKind {
    let hole = flags & allocation_flag::HOLE != 0;
    let zero = flags & allocation_flag::ZERO != 0;
    match (zero, hole) {
        (true, true) => ExtentKind::Hole,
        (true, false) => ExtentKind::Zero,
        // A hole that does not read as zeros may hold anything.
        (false, _) => ExtentKind::Data,
    }
}

fn mode_flag(mode: ZeroMode) -> u16 {
    match mode {
        ZeroMode::Punch => 0,
        ZeroMode::KeepAllocated => command_flag::NO_HOLE,
    }
}

fn durability_flag(durability: Durability) -> u16 {
    match durability {
        Durability::Cached => 0,
        Durability::ForceUnitAccess => command_flag::FUA,
    }
}
