//! What a client is told of an export before it uses it: size, flags, block sizes, contexts.
//!
//! What must always hold: nothing is offered that a session would refuse as not agreed, and what
//! is offered fits what was agreed so far.
//! Left to others: the conversation (`negotiation`).

use block_device::{BlockDevice, ByteLength};

use crate::{
    context::{Context, Contexts},
    reply::ReplyStyle,
    wire::{
        LARGEST_PAYLOAD, Message, PREFERRED_BLOCK, SMALLEST_BLOCK, info, option_reply,
        transmission_flag,
    },
};

/// What a client is told of an export before it uses it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) size: ByteLength,
    pub(crate) read_only: bool,
    tracks_changes: bool,
}

impl Offer {
    pub(crate) fn of(device: &dyn BlockDevice) -> Self {
        Self {
            size: device.size(),
            read_only: device.is_read_only(),
            tracks_changes: device.tracks_changes(),
        }
    }

    /// The contexts it can be asked for.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = Context> {
        let tracks_changes = self.tracks_changes;
        let has = move |context: &Context| match context {
            Context::Allocation => true,
            Context::Dirty => tracks_changes,
        };
        Context::ALL.into_iter().filter(has)
    }

    /// What a client may ask that has agreed on so much. Multi-conn holds: a flush of the device
    /// covers what was answered on any connection.
    pub(crate) fn transmission_flags(&self, style: ReplyStyle, set: Contexts) -> u16 {
        use transmission_flag::{
            BLOCK_STATUS_PAYLOAD, CAN_MULTI_CONN, HAS_FLAGS, READ_ONLY, SEND_CACHE, SEND_DF,
            SEND_FAST_ZERO, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES,
        };
        let mut flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_CACHE | CAN_MULTI_CONN;
        flags |= match self.read_only {
            true => READ_ONLY,
            false => SEND_TRIM | SEND_WRITE_ZEROES | SEND_FAST_ZERO,
        };
        // Spec: only where replies come in chunks.
        if style != ReplyStyle::Simple {
            flags |= SEND_DF;
        }
        // Spec: only where headers are extended and contexts were set.
        if style.is_extended() && !set.is_empty() {
            flags |= BLOCK_STATUS_PAYLOAD;
        }
        flags
    }

    /// The INFO replies to the option `code`. The block sizes are told whether asked or not: we
    /// enforce them, so a client had better know.
    pub(crate) fn info(&self, code: u32, flags: u16, name: Option<&[u8]>) -> Message {
        let export = Message::default().u16(info::EXPORT).u64(self.size.get()).u16(flags);
        let blocks = Message::default()
            .u16(info::BLOCK_SIZE)
            .u32(SMALLEST_BLOCK)
            .u32(PREFERRED_BLOCK)
            .u32(LARGEST_PAYLOAD);
        let name = name.map(|name| Message::default().u16(info::NAME).bytes(name));
        [Some(export), Some(blocks), name]
            .into_iter()
            .flatten()
            .fold(Message::default(), |replies, told| {
                replies.option_reply(code, option_reply::INFO, &told.into_bytes())
            })
    }
}
