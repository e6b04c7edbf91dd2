//! The handshake: fixed newstyle, from the first byte to the admission to an export.
//!
//! What must always hold
//! 1. It ends by its deadline, whatever the client sends or does not send.
//! 2. Every option but EXPORT_NAME is answered, and the next is found where it begins; what
//!    cannot be kept in step ends the connection.
//! 3. Memory grows with what was received, never with what was claimed.
//!
//! Left to others: transmission (`session`).

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    arrivals::Arrival,
    connection::Connection,
    context::{Context, Contexts},
    export_table::{Admission, ExportTable, Refusal},
    line::Line,
    offer::Offer,
    option::{ClientOption, ContextQuery, ExportQuery, OptionFault},
    reply::{ChunkForm, ReplyStyle},
    request::Agreement,
    socket::{Socket, Wait},
    tls::{Tls, TlsOffer},
    wire::{
        Fields, HELLO_MAGIC, Message, OPTION_MAGIC, handshake_flag, info, option, option_reply,
    },
};

/// The most data of an option that is looked at: a name and a good number of contexts.
const LARGEST_OPTION: u32 = 64 << 10;
/// The most data of an option that is read and dropped, to stay in step.
const LARGEST_DROPPED: u32 = 1 << 20;
/// How many options a client may send. Real clients send five or six; a flood is not worth a
/// processor until the deadline.
const MOST_OPTIONS: usize = 256;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeEnd {
    #[error("the client ended it")]
    Aborted,
    #[error("the client does not speak the protocol: {0}")]
    Nonsense(&'static str),
    #[error("the export asked for by EXPORT_NAME cannot be had")]
    Refused,
    #[error("the connection failed")]
    Broken(#[from] io::Error),
}

/// Shakes hands on a new connection; what comes back may begin transmission.
pub(crate) fn negotiate(
    socket: &Arc<Socket>,
    exports: &ExportTable,
    arrival: &Arrival,
    tls: Option<TlsOffer>,
    time: Duration,
) -> Result<Connection, HandshakeEnd> {
    socket.set_send_timeout(Some(time))?;
    let line = Line { socket, deadline: Instant::now() + time };
    let ClientFlags { is_fixed, zeroes } = greet(&line)?;
    // Spec: without fixed newstyle there is no TLS, so where it is required there is nothing.
    if !is_fixed && tls.as_ref().is_some_and(|tls| tls.is_required) {
        return Err(HandshakeEnd::Nonsense("TLS is required, and the client cannot ask for it"));
    }
    let tls = tls.filter(|_| is_fixed);
    let (style, set) = (ReplyStyle::Simple, None);
    let mut handshake = Handshake { line, exports, arrival, tls, zeroes, style, set };
    for _ in 0..MOST_OPTIONS {
        if let Some(connection) = handshake.next_option()? {
            return Ok(connection);
        }
    }
    Err(HandshakeEnd::Nonsense("a flood of options"))
}

/// Whether the answer to EXPORT_NAME ends in 124 zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zeroes {
    Sent,
    LeftOut,
}

/// What the client's flags say.
struct ClientFlags {
    /// It takes replies to options.
    is_fixed: bool,
    zeroes: Zeroes,
}

fn greet(line: &Line<'_>) -> Result<ClientFlags, HandshakeEnd> {
    let ours = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
    line.send(Message::default().u64(HELLO_MAGIC).u64(OPTION_MAGIC).u16(ours))?;
    let theirs = u32::from_be_bytes(line.receive()?);
    // Spec: a flag we did not offer means something we would get wrong.
    if theirs & !u32::from(ours) != 0 {
        return Err(HandshakeEnd::Nonsense("unknown client flags"));
    }
    let has = |flag: u16| theirs & u32::from(flag) != 0;
    let no_zeroes = has(handshake_flag::NO_ZEROES);
    let zeroes = if no_zeroes { Zeroes::LeftOut } else { Zeroes::Sent };
    Ok(ClientFlags { is_fixed: has(handshake_flag::FIXED_NEWSTYLE), zeroes })
}

struct Handshake<'a> {
    line: Line<'a>,
    exports: &'a ExportTable,
    arrival: &'a Arrival,
    /// What this connection may have, until it ends.
    tls: Option<TlsOffer>,
    zeroes: Zeroes,
    style: ReplyStyle,
    /// The export that contexts were set for, and which. Spec: they count for that export only.
    set: Option<(Vec<u8>, Contexts)>,
}

impl Handshake<'_> {
    /// Receives one option and answers it; a connection comes back if transmission begins.
    fn next_option(&mut self) -> Result<Option<Connection>, HandshakeEnd> {
        let header: [u8; 16] = self.line.receive()?;
        let mut fields = Fields::of(&header);
        let (magic, code, length) = (fields.u64(), fields.u32(), fields.u32());
        let (Some(magic), Some(code), Some(length)) = (magic, code, length) else {
            unreachable!("16 bytes hold all three");
        };
        if magic != OPTION_MAGIC {
            return Err(HandshakeEnd::Nonsense("an option without magic"));
        }
        if self.needs_tls_for(code) {
            self.ask_for_tls(code, length)?;
            return Ok(None);
        }
        if length > LARGEST_OPTION {
            self.drop_option(code, length)?;
            return Ok(None);
        }
        let data = self.line.receive_data(length)?;
        match ClientOption::parse(code, &data) {
            Ok(option) => self.serve(code, option),
            Err(fault) => self.refuse(code, fault).map(|()| None),
        }
    }

    fn drop_option(&self, code: u32, length: u32) -> Result<(), HandshakeEnd> {
        if length > LARGEST_DROPPED || code == option::EXPORT_NAME {
            return Err(HandshakeEnd::Nonsense("an option far too large"));
        }
        self.line.drop_data(length)?;
        self.error(code, option_reply::TOO_BIG, "the option is too large")
    }

    /// Spec ("FORCEDTLS mode"): all but these are refused, also what nobody knows.
    fn needs_tls_for(&self, code: u32) -> bool {
        let is_required = self.tls.as_ref().is_some_and(|tls| tls.is_required);
        is_required
            && !self.line.socket.has_tls()
            && !matches!(code, option::STARTTLS | option::ABORT)
    }

    fn ask_for_tls(&self, code: u32, length: u32) -> Result<(), HandshakeEnd> {
        // Spec: EXPORT_NAME has no reply that says no.
        if length > LARGEST_DROPPED || code == option::EXPORT_NAME {
            return Err(HandshakeEnd::Refused);
        }
        self.line.drop_data(length)?;
        self.error(code, option_reply::TLS_REQUIRED, "TLS is required; ask for it by STARTTLS")
    }

    /// Begins TLS; a client that cannot finish it is hung up on, as the spec wants it.
    fn start_tls(&mut self, code: u32) -> Result<(), HandshakeEnd> {
        let Some(tls) = &self.tls else {
            return self.error(code, option_reply::POLICY, "there is no TLS here");
        };
        if self.line.socket.has_tls() {
            return self.error(code, option_reply::INVALID, "TLS is running");
        }
        let tls = Tls::server(Arc::clone(&tls.config))?;
        self.acknowledge(code)?;
        self.line.socket.begin_tls(tls, Wait::Until(self.line.deadline))?;
        // Spec ("NBD_OPT_STARTTLS"): nothing said before it counts. What an eavesdropper could have
        // changed is forgotten.
        self.style = ReplyStyle::Simple;
        self.set = None;
        Ok(())
    }

    fn refuse(&self, code: u32, fault: OptionFault) -> Result<(), HandshakeEnd> {
        match fault {
            OptionFault::Unsupported => {
                self.error(code, option_reply::UNSUPPORTED, "the option is not known here")
            }
            OptionFault::Malformed => {
                self.error(code, option_reply::INVALID, "the option's data is malformed")
            }
            OptionFault::StringTooLong => {
                self.error(code, option_reply::TOO_BIG, "a text is longer than 4096 bytes")
            }
        }
    }

    fn serve(
        &mut self,
        code: u32,
        option: ClientOption<'_>,
    ) -> Result<Option<Connection>, HandshakeEnd> {
        match option {
            ClientOption::ExportName(name) => return self.export_name(name).map(Some),
            ClientOption::Go(query) => return self.go(code, &query),
            ClientOption::Abort => {
                self.acknowledge(code)?;
                return Err(HandshakeEnd::Aborted);
            }
            ClientOption::StartTls => self.start_tls(code)?,
            ClientOption::List => self.list(code)?,
            ClientOption::Info(query) => self.info(code, &query)?,
            ClientOption::StructuredReply => self.structured_reply(code)?,
            ClientOption::ExtendedHeaders => {
                self.style = ReplyStyle::Chunks(ChunkForm::Extended);
                self.acknowledge(code)?;
            }
            ClientOption::ListContexts(query) => self.list_contexts(code, &query)?,
            ClientOption::SetContexts(query) => self.set_contexts(code, &query)?,
        }
        Ok(None)
    }

    fn structured_reply(&mut self, code: u32) -> Result<(), HandshakeEnd> {
        // Spec: extended headers take precedence, and there is no way back.
        if self.style.is_extended() {
            let (kind, text) = (option_reply::EXTENDED_HEADERS_REQUIRED, "headers are extended");
            return self.error(code, kind, text);
        }
        self.style = ReplyStyle::Chunks(ChunkForm::Structured);
        self.acknowledge(code)
    }

    /// The old way in, which has no way to say no but to hang up.
    fn export_name(&self, name: &[u8]) -> Result<Connection, HandshakeEnd> {
        // Spec: a client that has extended headers must not use it.
        if self.style.is_extended() {
            return Err(HandshakeEnd::Nonsense("EXPORT_NAME after EXTENDED_HEADERS"));
        }
        let admission = self.admit(name).map_err(|_| HandshakeEnd::Refused)?;
        let offer = Offer::of(&*admission.device);
        let mut answer =
            Message::default().u64(offer.size.get()).u16(self.transmission_flags(offer, name));
        if self.zeroes == Zeroes::Sent {
            answer = answer.bytes(&[0; 124]);
        }
        self.line.send(answer)?;
        self.begin(admission, offer, name)
    }

    fn go(&self, code: u32, query: &ExportQuery<'_>) -> Result<Option<Connection>, HandshakeEnd> {
        match self.admit(query.export) {
            Ok(admission) => {
                let offer = Offer::of(&*admission.device);
                self.tell_export(code, query, offer)?;
                self.begin(admission, offer, query.export).map(Some)
            }
            Err(refusal) => self.tell_refusal(code, refusal).map(|()| None),
        }
    }

    fn info(&self, code: u32, query: &ExportQuery<'_>) -> Result<(), HandshakeEnd> {
        match self.exports.offer(query.export) {
            Ok(offer) => self.tell_export(code, query, offer),
            Err(refusal) => self.tell_refusal(code, refusal),
        }
    }

    /// Before the client is told: from then on it may not be ended to make room for others.
    fn admit(&self, name: &[u8]) -> Result<Admission, Refusal> {
        let admission = self.exports.admit(name, self.line.socket)?;
        self.arrival.settled();
        Ok(admission)
    }

    fn begin(
        &self,
        admission: Admission,
        offer: Offer,
        name: &[u8],
    ) -> Result<Connection, HandshakeEnd> {
        let agreed = Agreement {
            size: offer.size,
            read_only: offer.read_only,
            style: self.style,
            contexts: self.contexts_of(name),
        };
        self.line.socket.set_receive_timeout(None)?;
        Ok(Connection::new(admission, Arc::clone(self.line.socket), agreed))
    }

    fn tell_export(
        &self,
        code: u32,
        query: &ExportQuery<'_>,
        offer: Offer,
    ) -> Result<(), HandshakeEnd> {
        let flags = self.transmission_flags(offer, query.export);
        let name = query.wanted.contains(&info::NAME).then_some(query.export);
        self.line.send(offer.info(code, flags, name).option_reply(code, option_reply::ACK, &[]))
    }

    fn tell_refusal(&self, code: u32, refusal: Refusal) -> Result<(), HandshakeEnd> {
        match refusal {
            Refusal::Unknown => self.error(code, option_reply::UNKNOWN, "no such export"),
            Refusal::Closing => self.error(code, option_reply::SHUTDOWN, "the export is closing"),
            Refusal::Full => self.error(code, option_reply::POLICY, "too many connections"),
        }
    }

    fn list(&self, code: u32) -> Result<(), HandshakeEnd> {
        let mut replies = Message::default();
        for name in self.exports.names() {
            let name = Message::default().string(name.as_str().as_bytes()).into_bytes();
            replies = replies.option_reply(code, option_reply::SERVER, &name);
        }
        self.line.send(replies.option_reply(code, option_reply::ACK, &[]))
    }

    fn list_contexts(&self, code: u32, query: &ContextQuery<'_>) -> Result<(), HandshakeEnd> {
        let offer = match self.exports.offer(query.export) {
            Ok(offer) => offer,
            Err(refusal) => return self.tell_refusal(code, refusal),
        };
        // Spec: no query, or the bare namespace, asks for all of it.
        let wanted = |context: &Context| {
            query.queries.is_empty() || query.queries.iter().any(|it| context.is_listed_by(it))
        };
        let mut wanted = offer.contexts().filter(wanted);
        wanted.try_for_each(|context| self.tell_context(code, 0, context))?;
        self.acknowledge(code)
    }

    fn set_contexts(&mut self, code: u32, query: &ContextQuery<'_>) -> Result<(), HandshakeEnd> {
        // Spec: what was set before is forgotten, whatever comes of this.
        self.set = None;
        if self.style == ReplyStyle::Simple {
            let text = "contexts need structured replies";
            return self.error(code, option_reply::INVALID, text);
        }
        let offer = match self.exports.offer(query.export) {
            Ok(offer) => offer,
            Err(refusal) => return self.tell_refusal(code, refusal),
        };
        let mut contexts = Contexts::default();
        for context in offer.contexts().filter(|it| query.queries.contains(&it.name())) {
            contexts.add(context);
            self.tell_context(code, context.id(), context)?;
        }
        self.set = Some((query.export.to_vec(), contexts));
        self.acknowledge(code)
    }

    fn tell_context(&self, code: u32, id: u32, context: Context) -> Result<(), HandshakeEnd> {
        let told = Message::default().u32(id).bytes(context.name());
        self.reply(code, option_reply::META_CONTEXT, &told.into_bytes())
    }

    /// The contexts that were set for an export.
    fn contexts_of(&self, name: &[u8]) -> Contexts {
        let set = self.set.as_ref().filter(|(export, _)| export == name);
        set.map_or_else(Contexts::default, |(_, contexts)| *contexts)
    }

    fn transmission_flags(&self, offer: Offer, name: &[u8]) -> u16 {
        offer.transmission_flags(self.style, self.contexts_of(name))
    }

    fn acknowledge(&self, code: u32) -> Result<(), HandshakeEnd> {
        self.reply(code, option_reply::ACK, &[])
    }

    fn error(&self, code: u32, kind: u32, text: &str) -> Result<(), HandshakeEnd> {
        self.reply(code, kind, text.as_bytes())
    }

    fn reply(&self, code: u32, kind: u32, data: &[u8]) -> Result<(), HandshakeEnd> {
        self.line.send(Message::default().option_reply(code, kind, data))
    }
}
