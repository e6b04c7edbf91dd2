//! The client's side of the handshake: the headers that are wanted and the contexts we know, if
//! the server has them, then GO.

use block_device::ByteLength;

use super::{ClientError, Headers, Told};
use crate::{
    context::Context,
    reply::{ChunkForm, ReplyStyle},
    socket::{Socket, Wait},
    tls::{Tls, TlsWish},
    wire::{
        Fields, HELLO_MAGIC, Message, OPTION_MAGIC, OPTION_REPLY_MAGIC, handshake_flag, info,
        option, option_reply,
    },
};

/// More than any reply to our options needs.
const LARGEST_REPLY: u32 = 64 << 10;

/// More replies than any of our options has before it is acknowledged.
const MOST_REPLIES: usize = 64;

/// The kind and the data of a reply.
type Reply = (u32, Vec<u8>);

/// Shakes hands; gives what the server tells of the export.
pub(super) fn shake(
    socket: &Socket,
    export: &str,
    headers: Headers,
    tls: Option<&TlsWish>,
) -> Result<Told, ClientError> {
    greet(socket)?;
    if let Some(tls) = tls {
        start_tls(socket, tls)?;
    }
    let export = export.as_bytes();
    let style = choose_style(socket, headers)?;
    let contexts = match style {
        ReplyStyle::Simple => Vec::new(),
        ReplyStyle::Chunks(_) => set_contexts(socket, export)?,
    };
    let (size, flags) = go(socket, export)?;
    Ok(Told { size, flags, style, contexts })
}

fn start_tls(socket: &Socket, tls: &TlsWish) -> Result<(), ClientError> {
    send_option(socket, option::STARTTLS, &[])?;
    match receive_reply(socket, option::STARTTLS)? {
        (option_reply::ACK, _) => Ok(socket.begin_tls(Tls::client(tls)?, Wait::Timeout)?),
        (reply, data) => {
            let reason = String::from_utf8_lossy(&data).into_owned();
            Err(ClientError::Refused { reply, reason })
        }
    }
}

fn choose_style(socket: &Socket, headers: Headers) -> Result<ReplyStyle, ClientError> {
    let wanted: &[_] = match headers {
        Headers::Extended => &[
            (option::EXTENDED_HEADERS, ChunkForm::Extended),
            (option::STRUCTURED_REPLY, ChunkForm::Structured),
        ],
        Headers::Compact => &[(option::STRUCTURED_REPLY, ChunkForm::Structured)],
    };
    for (option, form) in wanted {
        send_option(socket, *option, &[])?;
        if acknowledged(socket, *option)?.is_some() {
            return Ok(ReplyStyle::Chunks(*form));
        }
    }
    Ok(ReplyStyle::Simple)
}

/// The contexts the server has, of those we know, with its numbers of them.
fn set_contexts(socket: &Socket, export: &[u8]) -> Result<Vec<(u32, Context)>, ClientError> {
    let count = u32::try_from(Context::ALL.len()).expect("few");
    let query = Message::default().string(export).u32(count);
    let put = |query: Message, context: Context| query.string(context.name());
    let query = Context::ALL.into_iter().fold(query, put);
    send_option(socket, option::SET_META_CONTEXT, &query.into_bytes())?;
    let told = acknowledged(socket, option::SET_META_CONTEXT)?.unwrap_or_default();
    let context = |(kind, data): &Reply| {
        let mut fields = Fields::of(data);
        let id = fields.u32().filter(|_| *kind == option_reply::META_CONTEXT)?;
        let named = |context: &Context| context.name() == fields.rest();
        Context::ALL.into_iter().find(named).map(|context| (id, context))
    };
    Ok(told.iter().filter_map(context).collect())
}

fn greet(socket: &Socket) -> Result<(), ClientError> {
    let hello: [u8; 18] = array(socket)?;
    let mut fields = Fields::of(&hello);
    if (fields.u64(), fields.u64()) != (Some(HELLO_MAGIC), Some(OPTION_MAGIC)) {
        return Err(ClientError::Nonsense("no newstyle greeting"));
    }
    let wanted = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
    if fields.u16().is_none_or(|offered| offered & wanted != wanted) {
        return Err(ClientError::Nonsense("an outdated handshake"));
    }
    Ok(socket.send_all(&u32::from(wanted).to_be_bytes())?)
}

fn go(socket: &Socket, export: &[u8]) -> Result<(ByteLength, u16), ClientError> {
    let query = Message::default().string(export).u16(0).into_bytes();
    send_option(socket, option::GO, &query)?;
    let mut told = None;
    loop {
        let (kind, data) = receive_reply(socket, option::GO)?;
        let mut fields = Fields::of(&data);
        match kind {
            option_reply::ACK => {
                return told.ok_or(ClientError::Nonsense("an export without a size"));
            }
            option_reply::INFO if fields.u16() == Some(info::EXPORT) => {
                told = fields.u64().map(ByteLength::new).zip(fields.u16());
            }
            option_reply::INFO => {}
            reply if reply & option_reply::ERROR != 0 => {
                let reason = String::from_utf8_lossy(&data).into_owned();
                return Err(ClientError::Refused { reply, reason });
            }
            _ => return Err(ClientError::Nonsense("an unknown reply to GO")),
        }
    }
}

/// What came before an option was acknowledged; `None` if it is refused.
fn acknowledged(socket: &Socket, code: u32) -> Result<Option<Vec<Reply>>, ClientError> {
    let mut told = Vec::new();
    // A server that says more has nothing we asked for.
    while told.len() < MOST_REPLIES {
        match receive_reply(socket, code)? {
            (option_reply::ACK, _) => return Ok(Some(told)),
            (kind, _) if kind & option_reply::ERROR != 0 => return Ok(None),
            reply => told.push(reply),
        }
    }
    Err(ClientError::Nonsense("an option is answered without end"))
}

fn send_option(socket: &Socket, code: u32, data: &[u8]) -> Result<(), ClientError> {
    let option = Message::default().u64(OPTION_MAGIC).u32(code).string(data);
    Ok(socket.send_all(&option.into_bytes())?)
}

fn receive_reply(socket: &Socket, code: u32) -> Result<Reply, ClientError> {
    let head: [u8; 20] = array(socket)?;
    let mut fields = Fields::of(&head);
    if (fields.u64(), fields.u32()) != (Some(OPTION_REPLY_MAGIC), Some(code)) {
        return Err(ClientError::Nonsense("a reply to another option"));
    }
    let (Some(kind), Some(length)) = (fields.u32(), fields.u32()) else {
        unreachable!("20 bytes hold all four");
    };
    if length > LARGEST_REPLY {
        return Err(ClientError::Nonsense("an option reply far too large"));
    }
    let mut data = vec![0; usize::try_from(length).expect("at most 64 KiB")];
    fill(socket, &mut data)?;
    Ok((kind, data))
}

fn array<const N: usize>(socket: &Socket) -> Result<[u8; N], ClientError> {
    let mut bytes = [0; N];
    fill(socket, &mut bytes)?;
    Ok(bytes)
}

fn fill(socket: &Socket, mut target: &mut [u8]) -> Result<(), ClientError> {
    while !target.is_empty() {
        match socket.receive(target)? {
            0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            received => target = &mut target[received..],
        }
    }
    Ok(())
}
