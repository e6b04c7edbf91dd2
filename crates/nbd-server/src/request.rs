//! What a client asks for in transmission: the bytes of a request become a [`RequestHead`], and
//! that, by what was agreed, a [`Command`] or the error that refuses it.
//!
//! ```text
//! compact   | magic u32 | flags u16 | command u16 | cookie u64 | offset u64 | length u32 |
//! extended  | magic u32 | flags u16 | command u16 | cookie u64 | offset u64 | length u64 |
//! ```
//! The length of an extended request with the flag PAYLOAD_LEN is that of the payload behind it,
//! else that of the stretch it works on.
//!
//! What must always hold: the range of a [`Command`] lies inside the export, is made of whole
//! sectors, is not empty, and where it is a payload it is at most [`LARGEST_PAYLOAD`].
//! Left to others: doing it (`session`).

use block_device::{ByteLength, ByteOffset, ByteRange, DeviceError, Operation, ZeroMode};

use crate::{
    context::{Context, Contexts},
    errno::{Access, Errno, errno},
    reply::{Asked, ChunkForm, ReplyStyle},
    wire::{
        Cookie, EXTENDED_REQUEST_LENGTH, EXTENDED_REQUEST_MAGIC, Fields, LARGEST_PAYLOAD,
        REQUEST_LENGTH, REQUEST_MAGIC, command, command_flag,
    },
};

/// The largest payload of a compact write that is read and dropped, to stay in step with a client
/// that overlooked the limit it was told. Who claims more is not believed, and the connection ends.
const LARGEST_DROPPED: u32 = 2 * LARGEST_PAYLOAD;

/// The payload of a BLOCK_STATUS that names a single context, and how much more each other takes.
const SMALLEST_CHOICE: u64 = 12;
const CHOSEN_CONTEXT: u64 = 4;

/// What client and server agreed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreement {
    pub(crate) size: ByteLength,
    pub(crate) read_only: bool,
    pub(crate) style: ReplyStyle,
    /// What BLOCK_STATUS may be asked for.
    pub(crate) contexts: Contexts,
}

/// A request as sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHead {
    pub(crate) flags: u16,
    pub(crate) command: u16,
    pub(crate) cookie: Cookie,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A request, understood and found possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Read {
        range: ByteRange,
        pieces: Pieces,
    },
    Write {
        range: ByteRange,
        durable: bool,
    },
    Disconnect,
    Slow(SlowCommand),
    BlockStatus(StatusQuery),
    /// A block status whose payload, a short one, says of what: [`RequestHead::choose`] reads it.
    ChosenStatus,
}

/// A request that may take as long as the disk below, and so goes to the slow lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlowCommand {
    Flush,
    Trim {
        range: ByteRange,
        durable: bool,
    },
    /// `fast`: better not at all than as slowly as a write.
    WriteZeroes {
        range: ByteRange,
        mode: ZeroMode,
        durable: bool,
        fast: bool,
    },
    Cache {
        range: ByteRange,
    },
}

impl SlowCommand {
    /// What its time counts for; a hint counts for nothing.
    pub(crate) fn operation(self) -> Option<Operation> {
        match self {
            Self::Flush => Some(Operation::Flush),
            Self::Trim { .. } | Self::WriteZeroes { .. } => Some(Operation::Zero),
            Self::Cache { .. } => None,
        }
    }
}

/// Into how many chunks the answer to a read may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pieces {
    One,
    Many,
}

/// What a block status is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatusQuery {
    pub(crate) form: ChunkForm,
    pub(crate) range: ByteRange,
    pub(crate) answer: StatusAnswer,
    pub(crate) contexts: Contexts,
}

/// How much a block status may tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusAnswer {
    OneExtent,
    AllExtents,
}

impl RequestHead {
    /// The bytes of a request in a session of this style.
    pub(crate) fn length_in(style: ReplyStyle) -> usize {
        if style.is_extended() { EXTENDED_REQUEST_LENGTH } else { REQUEST_LENGTH }
    }

    fn magic_in(style: ReplyStyle) -> u32 {
        if style.is_extended() { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC }
    }

    /// The request in these bytes; `None` if they do not begin with the magic, and then nothing
    /// behind them can be trusted either.
    pub(crate) fn parse(style: ReplyStyle, bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(bytes);
        if fields.u32()? != Self::magic_in(style) {
            return None;
        }
        Some(Self {
            flags: fields.u16()?,
            command: fields.u16()?,
            cookie: Cookie(fields.u64()?),
            offset: fields.u64()?,
            length: if style.is_extended() { fields.u64()? } else { u64::from(fields.u32()?) },
        })
    }

    /// Appends the bytes of the request; `None` if its length is more than they can say.
    pub(crate) fn encode(&self, style: ReplyStyle, bytes: &mut Vec<u8>) -> Option<()> {
        let short = u32::try_from(self.length).ok();
        if short.is_none() && !style.is_extended() {
            return None;
        }
        bytes.extend(Self::magic_in(style).to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.command.to_be_bytes());
        bytes.extend(self.cookie.0.to_be_bytes());
        bytes.extend(self.offset.to_be_bytes());
        match short {
            Some(length) if !style.is_extended() => bytes.extend(length.to_be_bytes()),
            _ => bytes.extend(self.length.to_be_bytes()),
        }
        Some(())
    }

    /// What replies to it repeat.
    pub(crate) fn asked(&self) -> Asked {
        Asked { cookie: self.cookie, offset: self.offset }
    }

    /// How many bytes of payload follow the request, whether it is refused or not.
    ///
    /// Spec: an extended write has the flag PAYLOAD_LEN too. QEMU's client (10.0) leaves it out and
    /// sends the payload all the same, as a write without one would be none; so the flag of a
    /// write is allowed, and not waited for.
    pub(crate) fn payload(&self, style: ReplyStyle) -> u64 {
        let flagged = style.is_extended() && self.has(command_flag::PAYLOAD_LENGTH);
        if flagged || self.command == command::WRITE { self.length } else { 0 }
    }

    /// How much payload of a request that is refused is read and dropped. Spec: an extended
    /// request with more than the limit is better hung up on.
    pub(crate) fn largest_dropped(style: ReplyStyle) -> u64 {
        u64::from(if style.is_extended() { LARGEST_PAYLOAD } else { LARGEST_DROPPED })
    }

    /// What is asked, if it can be done at all.
    pub(crate) fn understand(&self, agreed: &Agreement) -> Result<Command, Errno> {
        match self.command {
            command::READ => self.read(agreed),
            command::WRITE => self.write(agreed),
            command::DISCONNECT => Ok(Command::Disconnect),
            command::FLUSH => self.flush(),
            command::TRIM => self.trim(agreed),
            command::CACHE => self.cache(agreed),
            command::WRITE_ZEROES => self.write_zeroes(agreed),
            command::BLOCK_STATUS => self.block_status(agreed),
            _ => Err(Errno::Invalid),
        }
    }

    fn read(&self, agreed: &Agreement) -> Result<Command, Errno> {
        let chunks = agreed.style != ReplyStyle::Simple;
        self.only(if chunks { command_flag::DF } else { 0 })?;
        self.fits_a_message()?;
        let range = self.range(self.length, agreed, Access::Look)?;
        let whole = !chunks || self.has(command_flag::DF);
        Ok(Command::Read { range, pieces: if whole { Pieces::One } else { Pieces::Many } })
    }

    fn write(&self, agreed: &Agreement) -> Result<Command, Errno> {
        // Spec: no compact request has the flag.
        self.only(if agreed.style.is_extended() { command_flag::PAYLOAD_LENGTH } else { 0 })?;
        self.fits_a_message()?;
        self.writable(agreed)?;
        let range = self.range(self.length, agreed, Access::Store)?;
        Ok(Command::Write { range, durable: self.has(command_flag::FUA) })
    }

    fn flush(&self) -> Result<Command, Errno> {
        self.only(0)?;
        // Spec: both are reserved for a flush of a range, and must be 0 until it exists.
        if self.offset != 0 || self.length != 0 {
            return Err(Errno::Invalid);
        }
        Ok(Command::Slow(SlowCommand::Flush))
    }

    fn trim(&self, agreed: &Agreement) -> Result<Command, Errno> {
        self.only(0)?;
        self.writable(agreed)?;
        let range = self.range(self.length, agreed, Access::Look)?;
        let durable = self.has(command_flag::FUA);
        Ok(Command::Slow(SlowCommand::Trim { range, durable }))
    }

    fn cache(&self, agreed: &Agreement) -> Result<Command, Errno> {
        self.only(0)?;
        let range = self.range(self.length, agreed, Access::Look)?;
        Ok(Command::Slow(SlowCommand::Cache { range }))
    }

    fn write_zeroes(&self, agreed: &Agreement) -> Result<Command, Errno> {
        self.only(command_flag::NO_HOLE | command_flag::FAST_ZERO)?;
        self.writable(agreed)?;
        let range = self.range(self.length, agreed, Access::Store)?;
        let keep = self.has(command_flag::NO_HOLE);
        let mode = if keep { ZeroMode::KeepAllocated } else { ZeroMode::Punch };
        let (durable, fast) = (self.has(command_flag::FUA), self.has(command_flag::FAST_ZERO));
        Ok(Command::Slow(SlowCommand::WriteZeroes { range, mode, durable, fast }))
    }

    fn block_status(&self, agreed: &Agreement) -> Result<Command, Errno> {
        let extended = agreed.style.is_extended();
        let payload = if extended { command_flag::PAYLOAD_LENGTH } else { 0 };
        self.only(command_flag::REQ_ONE | payload)?;
        if agreed.contexts.is_empty() {
            return Err(Errno::Invalid);
        }
        if self.flags & payload == 0 {
            return self.status_of(self.length, agreed.contexts, agreed);
        }
        // More contexts than there are would name one twice, or one that does not exist.
        let most = agreed.contexts.iter().map(|_| CHOSEN_CONTEXT).sum::<u64>() - CHOSEN_CONTEXT;
        if (SMALLEST_CHOICE..=SMALLEST_CHOICE + most).contains(&self.length) {
            Ok(Command::ChosenStatus)
        } else {
            Err(Errno::Invalid)
        }
    }

    /// What a [`Command::ChosenStatus`] with this payload asks (spec: "NBD_CMD_BLOCK_STATUS"):
    ///
    /// ```text
    /// | length of the stretch u64 | context u32 | context u32 ...
    /// ```
    pub(crate) fn choose(&self, payload: &[u8], agreed: &Agreement) -> Result<Command, Errno> {
        let mut fields = Fields::of(payload);
        let length = fields.u64().ok_or(Errno::Invalid)?;
        let mut chosen = Contexts::default();
        while !fields.rest().is_empty() {
            let context = fields.u32().and_then(Context::from_id).ok_or(Errno::Invalid)?;
            if !agreed.contexts.has(context) || chosen.has(context) {
                return Err(Errno::Invalid);
            }
            chosen.add(context);
        }
        self.status_of(length, chosen, agreed)
    }

    fn status_of(
        &self,
        length: u64,
        contexts: Contexts,
        agreed: &Agreement,
    ) -> Result<Command, Errno> {
        let ReplyStyle::Chunks(form) = agreed.style else { return Err(Errno::Invalid) };
        let range = self.range(length, agreed, Access::Look)?;
        let one = self.has(command_flag::REQ_ONE);
        let answer = if one { StatusAnswer::OneExtent } else { StatusAnswer::AllExtents };
        Ok(Command::BlockStatus(StatusQuery { form, range, answer, contexts }))
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Refuses flags other than these and FUA, which the spec allows on every command.
    fn only(&self, flags: u16) -> Result<(), Errno> {
        if self.flags & !(flags | command_flag::FUA) == 0 { Ok(()) } else { Err(Errno::Invalid) }
    }

    fn fits_a_message(&self) -> Result<(), Errno> {
        if self.length <= u64::from(LARGEST_PAYLOAD) { Ok(()) } else { Err(Errno::Invalid) }
    }

    fn writable(&self, agreed: &Agreement) -> Result<(), Errno> {
        if agreed.read_only { Err(errno(&DeviceError::ReadOnly, Access::Store)) } else { Ok(()) }
    }

    fn range(&self, length: u64, agreed: &Agreement, access: Access) -> Result<ByteRange, Errno> {
        // Spec: an empty range has no defined meaning; a read of it could not be answered by a
        // chunk of data, which must hold at least one byte.
        if length == 0 {
            return Err(Errno::Invalid);
        }
        let (start, length) = (ByteOffset::new(self.offset), ByteLength::new(length));
        ByteRange::checked(start, length, agreed.size).map_err(|error| errno(&error, access))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 1 << 20;

    fn contexts(chosen: &[Context]) -> Contexts {
        let mut contexts = Contexts::default();
        chosen.iter().for_each(|context| contexts.add(*context));
        contexts
    }

    fn extended() -> Agreement {
        Agreement { style: ReplyStyle::Chunks(ChunkForm::Extended), ..agreed() }
    }

    fn agreed() -> Agreement {
        Agreement {
            size: ByteLength::new(SIZE),
            read_only: false,
            style: ReplyStyle::Chunks(ChunkForm::Structured),
            contexts: contexts(&Context::ALL),
        }
    }

    fn head(command: u16, flags: u16, offset: u64, length: u64) -> RequestHead {
        RequestHead { flags, command, cookie: Cookie(7), offset, length }
    }

    fn refusal(head: RequestHead, agreed: &Agreement) -> Errno {
        head.understand(agreed).expect_err("is refused")
    }

    #[test]
    fn what_cannot_be_done_is_told_by_its_number() {
        use command::{BLOCK_STATUS, CACHE, FLUSH, READ, TRIM, WRITE, WRITE_ZEROES};
        let end = SIZE - 512;
        let payload_length = 1 << 5;
        let cases = [
            (head(READ, 0, SIZE, 512), Errno::Invalid),
            (head(READ, 0, u64::MAX - 511, 512), Errno::Invalid),
            (head(READ, 0, 1, 512), Errno::Invalid),
            (head(READ, 0, 0, 513), Errno::Invalid),
            (head(READ, 0, 0, 0), Errno::Invalid),
            (head(READ, 0, 0, u64::from(LARGEST_PAYLOAD) + 512), Errno::Invalid),
            (head(READ, command_flag::NO_HOLE, 0, 512), Errno::Invalid),
            (head(WRITE, 0, end, 1024), Errno::NoSpace),
            (head(WRITE, command_flag::DF, 0, 512), Errno::Invalid),
            (head(WRITE, payload_length, 0, 512), Errno::Invalid),
            (head(WRITE_ZEROES, 0, end, 1024), Errno::NoSpace),
            (head(WRITE, command_flag::FAST_ZERO, 0, 512), Errno::Invalid),
            (head(TRIM, 0, end, 1024), Errno::Invalid),
            (head(TRIM, 0, 0, u64::from(u32::MAX)), Errno::Invalid),
            (head(BLOCK_STATUS, 0, SIZE, 512), Errno::Invalid),
            (head(BLOCK_STATUS, 0, 0, 0), Errno::Invalid),
            (head(FLUSH, 0, 512, 0), Errno::Invalid),
            (head(CACHE, 0, 0, SIZE + 512), Errno::Invalid),
            (head(CACHE, command_flag::FAST_ZERO, 0, 512), Errno::Invalid),
            (head(8, 0, 0, 512), Errno::Invalid),
            (head(4242, 0, 0, 512), Errno::Invalid),
        ];
        for (head, expected) in cases {
            assert_eq!(refusal(head, &agreed()), expected, "{head:?}");
        }
    }

    #[test]
    fn what_was_not_agreed_is_refused() {
        let simple = Agreement { style: ReplyStyle::Simple, contexts: contexts(&[]), ..agreed() };
        let df = head(command::READ, command_flag::DF, 0, 512);
        assert_eq!(refusal(df, &simple), Errno::Invalid);
        assert_eq!(refusal(head(command::BLOCK_STATUS, 0, 0, 512), &simple), Errno::Invalid);
        let read_only = Agreement { read_only: true, ..agreed() };
        for command in [command::WRITE, command::TRIM, command::WRITE_ZEROES] {
            assert_eq!(refusal(head(command, 0, 0, 512), &read_only), Errno::NotPermitted);
        }
    }

    #[test]
    fn forced_access_may_be_asked_of_every_command() {
        for command in [0, 1, 4, 5, 6, 7] {
            let head = head(command, command_flag::FUA, 512, 512);
            assert!(head.understand(&agreed()).is_ok(), "{head:?}");
        }
    }

    #[test]
    fn extended_requests_say_what_their_length_is_of() {
        use command::{BLOCK_STATUS, FLUSH, READ, TRIM, WRITE, WRITE_ZEROES};
        let payload = command_flag::PAYLOAD_LENGTH;
        let style = extended().style;
        assert_eq!(head(WRITE, payload, 0, 512).payload(style), 512);
        assert!(head(WRITE, payload, 0, 512).understand(&extended()).is_ok());
        // As QEMU writes.
        assert_eq!(head(WRITE, 0, 0, 512).payload(style), 512);
        assert!(head(WRITE, 0, 0, 512).understand(&extended()).is_ok());
        assert_eq!(head(READ, 0, 0, 512).payload(style), 0);
        for command in [READ, FLUSH, TRIM, WRITE_ZEROES, 5, 4242] {
            let head = head(command, payload, 0, 512);
            assert_eq!(head.payload(style), 512);
            assert_eq!(refusal(head, &extended()), Errno::Invalid);
        }
        let none = Agreement { contexts: contexts(&[]), ..extended() };
        assert_eq!(refusal(head(BLOCK_STATUS, payload, 0, 12), &none), Errno::Invalid);
    }

    #[test]
    fn lengths_of_more_than_32_bits_are_taken_for_what_they_are() {
        let size = ByteLength::new(1 << 40);
        let large = Agreement { size, ..extended() };
        for command in [command::TRIM, command::WRITE_ZEROES, command::BLOCK_STATUS] {
            let whole = head(command, 0, 0, 1 << 40);
            assert!(whole.understand(&large).is_ok(), "{command}");
            let past = head(command, 0, 512, 1 << 40);
            assert!(past.understand(&large).is_err(), "{command}");
            let wraps = head(command, 0, 512, u64::MAX - 511);
            assert!(wraps.understand(&large).is_err(), "{command}");
        }
        let read = head(command::READ, 0, 0, 1 << 32);
        assert_eq!(refusal(read, &large), Errno::Invalid);
    }

    #[test]
    fn a_status_may_choose_its_contexts() {
        let id = Context::Allocation.id();
        let status = |payload: &[u8]| {
            let length = u64::try_from(payload.len()).expect("short");
            let head = head(command::BLOCK_STATUS, command_flag::PAYLOAD_LENGTH, 512, length);
            match head.understand(&extended()) {
                Ok(Command::ChosenStatus) => head.choose(payload, &extended()),
                other => other,
            }
        };
        let payload = |length: u64, ids: &[u32]| {
            let mut bytes = length.to_be_bytes().to_vec();
            ids.iter().for_each(|id| bytes.extend(id.to_be_bytes()));
            bytes
        };
        let Ok(Command::BlockStatus(query)) = status(&payload(1024, &[id])) else {
            panic!("one context may be chosen");
        };
        assert_eq!((query.range.start(), query.range.length()), (512, 1024));
        assert_eq!(query.contexts, contexts(&[Context::Allocation]));
        let mut odd = payload(1024, &[id]);
        odd.push(0);
        let cases = [
            payload(1024, &[]),
            payload(1024, &[id, id]),
            payload(1024, &[id, 77]),
            payload(1024, &[77]),
            payload(1024, &[id, id, id, id, id]),
            payload(0, &[id]),
            payload(SIZE, &[id]),
            payload(u64::MAX, &[id]),
            odd,
            vec![],
            vec![0; 7],
        ];
        for case in cases {
            assert_eq!(status(&case), Err(Errno::Invalid), "{case:?}");
        }
    }

    proptest! {
        #[test]
        fn a_request_goes_there_and_back(bytes in prop::array::uniform32(any::<u8>())) {
            for style in [agreed().style, extended().style] {
                let mut bytes = bytes[..RequestHead::length_in(style)].to_vec();
                bytes[..4].copy_from_slice(&RequestHead::magic_in(style).to_be_bytes());
                let head = RequestHead::parse(style, &bytes).expect("has the magic");
                let mut back = Vec::new();
                prop_assert!(head.encode(style, &mut back).is_some());
                prop_assert_eq!(back, bytes);
            }
        }

        #[test]
        fn an_understood_range_lies_inside(
            flags in 0u16..64,
            command in 0u16..9,
            offset in prop_oneof![0..2 * SIZE, any::<u64>()],
            length in prop_oneof![0u64..65536, any::<u64>()],
        ) {
            for agreed in [agreed(), extended()] {
                let understood = head(command, flags, offset, length).understand(&agreed);
                if let Ok(Command::Read { range, .. } | Command::Write { range, .. }) = understood {
                    prop_assert!(range.end() <= SIZE && !range.is_empty());
                }
            }
        }
    }
}
