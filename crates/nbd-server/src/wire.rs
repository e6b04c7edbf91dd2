//! The numbers of the protocol, and bytes in and out of its fields (all big-endian).
//!
//! What must always hold: reading past the end of what was received gives `None`, never a panic.
//! Left to others: what the fields mean together (`option`, `request`, `reply`).

/// First word of the server: "NBDMAGIC".
pub(crate) const HELLO_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Second word of the server, first of every option: "IHAVEOPT".
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// First word of every reply to an option.
pub(crate) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// First word of every compact request.
pub(crate) const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First word of every extended request.
pub(crate) const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// First word of a simple reply.
pub(crate) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// First word of a chunk of a structured reply.
pub(crate) const CHUNK_MAGIC: u32 = 0x668e_33ef;
/// First word of a chunk of an extended reply.
pub(crate) const EXTENDED_CHUNK_MAGIC: u32 = 0x6e8a_278c;

/// Bytes of a compact request without its payload.
pub(crate) const REQUEST_LENGTH: usize = 28;
/// Bytes of an extended request without its payload.
pub(crate) const EXTENDED_REQUEST_LENGTH: usize = 32;
/// Bytes of a simple reply without its payload.
pub(crate) const SIMPLE_REPLY_LENGTH: usize = 16;
/// Bytes of a structured chunk without its payload.
pub(crate) const CHUNK_LENGTH: usize = 20;
/// Bytes of an extended chunk without its payload.
pub(crate) const EXTENDED_CHUNK_LENGTH: usize = 32;
/// Bytes that say where the data of a chunk belongs.
pub(crate) const CHUNK_OFFSET_LENGTH: usize = 8;

/// The largest name or text (spec: "String lengths").
pub(crate) const LONGEST_STRING: usize = 4096;
/// The smallest request told to clients: a logical sector.
pub(crate) const SMALLEST_BLOCK: u32 = 512;
/// What clients are asked to use: a block.
pub(crate) const PREFERRED_BLOCK: u32 = 4096;
/// The largest payload in either direction (spec: the limit of the portable protocol).
pub(crate) const LARGEST_PAYLOAD: u32 = 32 << 20;

/// Flags of the handshake; the client's have the same places.
pub(crate) mod handshake_flag {
    pub(crate) const FIXED_NEWSTYLE: u16 = 1 << 0;
    pub(crate) const NO_ZEROES: u16 = 1 << 1;
}

/// Options a client may send.
pub(crate) mod option {
    pub(crate) const EXPORT_NAME: u32 = 1;
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const LIST: u32 = 3;
    pub(crate) const STARTTLS: u32 = 5;
    pub(crate) const INFO: u32 = 6;
    pub(crate) const GO: u32 = 7;
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
    pub(crate) const LIST_META_CONTEXT: u32 = 9;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
    pub(crate) const EXTENDED_HEADERS: u32 = 11;
}

/// Kinds of replies to options.
pub(crate) mod option_reply {
    pub(crate) const ACK: u32 = 1;
    pub(crate) const SERVER: u32 = 2;
    pub(crate) const INFO: u32 = 3;
    pub(crate) const META_CONTEXT: u32 = 4;
    pub(crate) const ERROR: u32 = 1 << 31;
    pub(crate) const UNSUPPORTED: u32 = ERROR | 1;
    pub(crate) const POLICY: u32 = ERROR | 2;
    pub(crate) const INVALID: u32 = ERROR | 3;
    pub(crate) const TLS_REQUIRED: u32 = ERROR | 5;
    pub(crate) const UNKNOWN: u32 = ERROR | 6;
    pub(crate) const SHUTDOWN: u32 = ERROR | 7;
    pub(crate) const TOO_BIG: u32 = ERROR | 9;
    pub(crate) const EXTENDED_HEADERS_REQUIRED: u32 = ERROR | 10;
}

/// What an INFO reply tells.
pub(crate) mod info {
    pub(crate) const EXPORT: u16 = 0;
    pub(crate) const NAME: u16 = 1;
    pub(crate) const BLOCK_SIZE: u16 = 3;
}

/// What an export can do.
pub(crate) mod transmission_flag {
    pub(crate) const HAS_FLAGS: u16 = 1 << 0;
    pub(crate) const READ_ONLY: u16 = 1 << 1;
    pub(crate) const SEND_FLUSH: u16 = 1 << 2;
    pub(crate) const SEND_FUA: u16 = 1 << 3;
    pub(crate) const SEND_TRIM: u16 = 1 << 5;
    pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(crate) const SEND_DF: u16 = 1 << 7;
    pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
    pub(crate) const SEND_CACHE: u16 = 1 << 10;
    pub(crate) const SEND_FAST_ZERO: u16 = 1 << 11;
    pub(crate) const BLOCK_STATUS_PAYLOAD: u16 = 1 << 12;
}

/// What a request asks.
pub(crate) mod command {
    pub(crate) const READ: u16 = 0;
    pub(crate) const WRITE: u16 = 1;
    pub(crate) const DISCONNECT: u16 = 2;
    pub(crate) const FLUSH: u16 = 3;
    pub(crate) const TRIM: u16 = 4;
    pub(crate) const CACHE: u16 = 5;
    pub(crate) const WRITE_ZEROES: u16 = 6;
    pub(crate) const BLOCK_STATUS: u16 = 7;
}

/// How a request wants it done.
pub(crate) mod command_flag {
    pub(crate) const FUA: u16 = 1 << 0;
    pub(crate) const NO_HOLE: u16 = 1 << 1;
    pub(crate) const DF: u16 = 1 << 2;
    pub(crate) const REQ_ONE: u16 = 1 << 3;
    pub(crate) const FAST_ZERO: u16 = 1 << 4;
    pub(crate) const PAYLOAD_LENGTH: u16 = 1 << 5;
}

/// The flag of the last chunk of a reply.
pub(crate) const CHUNK_DONE: u16 = 1 << 0;

/// Kinds of chunks.
pub(crate) mod chunk {
    pub(crate) const NONE: u16 = 0;
    pub(crate) const OFFSET_DATA: u16 = 1;
    pub(crate) const OFFSET_HOLE: u16 = 2;
    pub(crate) const BLOCK_STATUS: u16 = 5;
    pub(crate) const BLOCK_STATUS_EXTENDED: u16 = 6;
    pub(crate) const ERROR: u16 = 1 << 15;
    pub(crate) const ERROR_KIND: u16 = ERROR | 1;
}

/// What `base:allocation` says of an extent.
pub(crate) mod allocation_flag {
    pub(crate) const HOLE: u32 = 1 << 0;
    pub(crate) const ZERO: u32 = 1 << 1;
}

/// What `reinit:dirty` says of an extent.
pub(crate) mod dirty_flag {
    pub(crate) const DIRTY: u32 = 1 << 0;
}

/// What a client calls a request by; it comes back in the reply and means nothing to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cookie(pub(crate) u64);

/// Takes fields off the front of received bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// The next `length` bytes, if that many are there.
    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A text with its length before it.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).ok()?)
    }

    /// What has not been taken.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}

/// Appends fields to bytes that will be sent.
#[derive(Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// A text with its length before it.
    pub(crate) fn string(self, text: &[u8]) -> Self {
        self.u32(length_u32(text.len())).bytes(text)
    }

    /// A whole reply to an option.
    pub(crate) fn option_reply(self, code: u32, kind: u32, data: &[u8]) -> Self {
        self.u64(OPTION_REPLY_MAGIC).u32(code).u32(kind).string(data)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The length of something of ours that is far below 4 GiB.
pub(crate) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("our own messages are far below 4 GiB")
}
