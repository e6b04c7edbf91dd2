//! What a client asks for in transmission: 28 bytes become a [`RequestHead`], and that, by what
//! was agreed, a [`Command`] or the error that refuses it.
//!
//! ```text
//! | magic u32 | flags u16 | command u16 | cookie u64 | offset u64 | length u32 |
//! ```
//!
//! What must always hold: the range of a [`Command`] lies inside the export, is made of whole
//! sectors, is not empty, and where it is a payload it is at most [`LARGEST_PAYLOAD`].
//! Left to others: doing it (`session`).

use block_device::{ByteLength, ByteOffset, ByteRange, DeviceError, ZeroMode};

use crate::{
    errno::{Access, Errno, errno},
    wire::{Cookie, Fields, LARGEST_PAYLOAD, REQUEST_LENGTH, REQUEST_MAGIC, command, command_flag},
};

/// How the data of a read comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyStyle {
    Simple,
    Structured,
}

/// What client and server agreed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreement {
    pub(crate) size: ByteLength,
    pub(crate) read_only: bool,
    pub(crate) style: ReplyStyle,
    /// Whether `base:allocation` was set, and so BLOCK_STATUS may be asked.
    pub(crate) allocation: bool,
}

/// A request as sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHead {
    pub(crate) flags: u16,
    pub(crate) command: u16,
    pub(crate) cookie: Cookie,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

/// A request, understood and found possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Read { range: ByteRange, pieces: Pieces },
    Write { range: ByteRange, durable: bool },
    Disconnect,
    Slow(SlowCommand),
    BlockStatus { range: ByteRange, answer: StatusAnswer },
}

/// A request that may take as long as the disk below, and so goes to the slow lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlowCommand {
    Flush,
    Trim { range: ByteRange, durable: bool },
    WriteZeroes { range: ByteRange, mode: ZeroMode, durable: bool },
}

/// Into how many chunks the answer to a read may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pieces {
    One,
    Many,
}

/// How much a block status may tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusAnswer {
    OneExtent,
    AllExtents,
}

impl RequestHead {
    /// The request in these bytes; `None` if they do not begin with the magic, and then nothing
    /// behind them can be trusted either.
    pub(crate) fn parse(bytes: &[u8; REQUEST_LENGTH]) -> Option<Self> {
        let mut fields = Fields::of(bytes);
        if fields.u32()? != REQUEST_MAGIC {
            return None;
        }
        Some(Self {
            flags: fields.u16()?,
            command: fields.u16()?,
            cookie: Cookie(fields.u64()?),
            offset: fields.u64()?,
            length: fields.u32()?,
        })
    }

    /// The bytes of the request.
    pub(crate) fn encode(&self) -> [u8; REQUEST_LENGTH] {
        let mut bytes = [0; REQUEST_LENGTH];
        bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// How many bytes of payload follow the request, whether it is refused or not.
    pub(crate) fn payload(&self) -> u32 {
        if self.command == command::WRITE { self.length } else { 0 }
    }

    /// What is asked, if it can be done at all.
    pub(crate) fn understand(&self, agreed: &Agreement) -> Result<Command, Errno> {
        match self.command {
            command::READ => self.read(agreed),
            command::WRITE => self.write(agreed),
            command::DISCONNECT => Ok(Command::Disconnect),
            command::FLUSH => self.flush(),
            command::TRIM => self.trim(agreed),
            command::WRITE_ZEROES => self.write_zeroes(agreed),
            command::BLOCK_STATUS => self.block_status(agreed),
            // CACHE (5) is never offered, so asking for it is as wrong as asking for the unknown.
            _ => Err(Errno::Invalid),
        }
    }

    fn read(&self, agreed: &Agreement) -> Result<Command, Errno> {
        let structured = agreed.style == ReplyStyle::Structured;
        self.only(if structured { command_flag::DF } else { 0 })?;
        self.fits_a_message()?;
        let range = self.range(agreed, Access::Look)?;
        let whole = !structured || self.has(command_flag::DF);
        Ok(Command::Read { range, pieces: if whole { Pieces::One } else { Pieces::Many } })
    }

    fn write(&self, agreed: &Agreement) -> Result<Command, Errno> {
        self.only(0)?;
        self.fits_a_message()?;
        self.writable(agreed)?;
        let range = self.range(agreed, Access::Store)?;
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
        let range = self.range(agreed, Access::Look)?;
        let durable = self.has(command_flag::FUA);
        Ok(Command::Slow(SlowCommand::Trim { range, durable }))
    }

    fn write_zeroes(&self, agreed: &Agreement) -> Result<Command, Errno> {
        self.only(command_flag::NO_HOLE)?;
        self.writable(agreed)?;
        let range = self.range(agreed, Access::Store)?;
        let keep = self.has(command_flag::NO_HOLE);
        let mode = if keep { ZeroMode::KeepAllocated } else { ZeroMode::Punch };
        let durable = self.has(command_flag::FUA);
        Ok(Command::Slow(SlowCommand::WriteZeroes { range, mode, durable }))
    }

    fn block_status(&self, agreed: &Agreement) -> Result<Command, Errno> {
        self.only(command_flag::REQ_ONE)?;
        if !agreed.allocation {
            return Err(Errno::Invalid);
        }
        let range = self.range(agreed, Access::Look)?;
        let one = self.has(command_flag::REQ_ONE);
        let answer = if one { StatusAnswer::OneExtent } else { StatusAnswer::AllExtents };
        Ok(Command::BlockStatus { range, answer })
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Refuses flags other than these and FUA, which the spec allows on every command.
    fn only(&self, flags: u16) -> Result<(), Errno> {
        if self.flags & !(flags | command_flag::FUA) == 0 { Ok(()) } else { Err(Errno::Invalid) }
    }

    fn fits_a_message(&self) -> Result<(), Errno> {
        if self.length <= LARGEST_PAYLOAD { Ok(()) } else { Err(Errno::Invalid) }
    }

    fn writable(&self, agreed: &Agreement) -> Result<(), Errno> {
        if agreed.read_only { Err(errno(&DeviceError::ReadOnly, Access::Store)) } else { Ok(()) }
    }

    fn range(&self, agreed: &Agreement, access: Access) -> Result<ByteRange, Errno> {
        // Spec: an empty range has no defined meaning; a read of it could not be answered by a
        // chunk of data, which must hold at least one byte.
        if self.length == 0 {
            return Err(Errno::Invalid);
        }
        let start = ByteOffset::new(self.offset);
        let length = ByteLength::new(u64::from(self.length));
        ByteRange::checked(start, length, agreed.size).map_err(|error| errno(&error, access))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 1 << 20;

    fn agreed() -> Agreement {
        Agreement {
            size: ByteLength::new(SIZE),
            read_only: false,
            style: ReplyStyle::Structured,
            allocation: true,
        }
    }

    fn head(command: u16, flags: u16, offset: u64, length: u32) -> RequestHead {
        RequestHead { flags, command, cookie: Cookie(7), offset, length }
    }

    fn refusal(head: RequestHead, agreed: &Agreement) -> Errno {
        head.understand(agreed).expect_err("is refused")
    }

    #[test]
    fn what_cannot_be_done_is_told_by_its_number() {
        use command::{BLOCK_STATUS, FLUSH, READ, TRIM, WRITE, WRITE_ZEROES};
        let end = SIZE - 512;
        let fast_zero = 1 << 4;
        let payload_length = 1 << 5;
        let cases = [
            (head(READ, 0, SIZE, 512), Errno::Invalid),
            (head(READ, 0, u64::MAX - 511, 512), Errno::Invalid),
            (head(READ, 0, 1, 512), Errno::Invalid),
            (head(READ, 0, 0, 513), Errno::Invalid),
            (head(READ, 0, 0, 0), Errno::Invalid),
            (head(READ, 0, 0, LARGEST_PAYLOAD + 512), Errno::Invalid),
            (head(READ, command_flag::NO_HOLE, 0, 512), Errno::Invalid),
            (head(WRITE, 0, end, 1024), Errno::NoSpace),
            (head(WRITE, command_flag::DF, 0, 512), Errno::Invalid),
            (head(WRITE, payload_length, 0, 512), Errno::Invalid),
            (head(WRITE_ZEROES, 0, end, 1024), Errno::NoSpace),
            (head(WRITE_ZEROES, fast_zero, 0, 512), Errno::Invalid),
            (head(TRIM, 0, end, 1024), Errno::Invalid),
            (head(TRIM, 0, 0, u32::MAX), Errno::Invalid),
            (head(BLOCK_STATUS, 0, SIZE, 512), Errno::Invalid),
            (head(BLOCK_STATUS, 0, 0, 0), Errno::Invalid),
            (head(FLUSH, 0, 512, 0), Errno::Invalid),
            (head(5, 0, 0, 512), Errno::Invalid),
            (head(4242, 0, 0, 512), Errno::Invalid),
        ];
        for (head, expected) in cases {
            assert_eq!(refusal(head, &agreed()), expected, "{head:?}");
        }
    }

    #[test]
    fn what_was_not_agreed_is_refused() {
        let simple = Agreement { style: ReplyStyle::Simple, allocation: false, ..agreed() };
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
        for command in [0, 1, 4, 6, 7] {
            let head = head(command, command_flag::FUA, 512, 512);
            assert!(head.understand(&agreed()).is_ok(), "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn a_request_goes_there_and_back(bytes in prop::array::uniform28(any::<u8>())) {
            let mut bytes = bytes;
            bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
            let head = RequestHead::parse(&bytes).expect("has the magic");
            prop_assert_eq!(head.encode(), bytes);
        }

        #[test]
        fn an_understood_range_lies_inside(
            flags in 0u16..64,
            command in 0u16..9,
            offset in prop_oneof![0..2 * SIZE, any::<u64>()],
            length in prop_oneof![0u32..65536, any::<u32>()],
        ) {
            let understood = head(command, flags, offset, length).understand(&agreed());
            if let Ok(Command::Read { range, .. } | Command::Write { range, .. }) = understood {
                prop_assert!(range.end() <= SIZE && !range.is_empty());
            }
        }
    }
}
