//! The client's side of the handshake: structured replies and `base:allocation` if the server
//! has them, then GO.

use block_device::ByteLength;

use super::ClientError;
use crate::{
    socket::Socket,
    wire::{
        ALLOCATION, Fields, HELLO_MAGIC, Message, OPTION_MAGIC, OPTION_REPLY_MAGIC, handshake_flag,
        info, option, option_reply,
    },
};

/// More than any reply to our options needs.
const LARGEST_REPLY: u32 = 64 << 10;

/// Shakes hands; gives the size and the transmission flags of the export.
pub(super) fn shake(socket: &Socket, export: &str) -> Result<(ByteLength, u16), ClientError> {
    greet(socket)?;
    let export = export.as_bytes();
    send_option(socket, option::STRUCTURED_REPLY, &[])?;
    if acknowledged(socket, option::STRUCTURED_REPLY)? {
        let contexts = Message::default().string(export).u32(1).string(ALLOCATION);
        send_option(socket, option::SET_META_CONTEXT, &contexts.into_bytes())?;
        acknowledged(socket, option::SET_META_CONTEXT)?;
    }
    go(socket, export)
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

/// Whether an option is acknowledged and not refused.
fn acknowledged(socket: &Socket, code: u32) -> Result<bool, ClientError> {
    loop {
        match receive_reply(socket, code)?.0 {
            option_reply::ACK => return Ok(true),
            kind if kind & option_reply::ERROR != 0 => return Ok(false),
            _ => {}
        }
    }
}

fn send_option(socket: &Socket, code: u32, data: &[u8]) -> Result<(), ClientError> {
    let option = Message::default().u64(OPTION_MAGIC).u32(code).string(data);
    Ok(socket.send_all(&option.into_bytes())?)
}

fn receive_reply(socket: &Socket, code: u32) -> Result<(u32, Vec<u8>), ClientError> {
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
