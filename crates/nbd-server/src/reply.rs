//! How replies look in each style: the bytes before their data, and the replies that have none.
//!
//! ```text
//! simple     | magic u32 | error u32 | cookie u64 |
//! structured | magic u32 | flags u16 | kind u16 | cookie u64 | length u32 |
//! extended   | magic u32 | flags u16 | kind u16 | cookie u64 | offset u64 | length u64 |
//! ```
//!
//! What must always hold: a session sees one style only, the one that was agreed; what a reply
//! repeats of its request is taken from there unchanged.
//! Left to others: what is in a reply (`session`, `slow_lane`, `status`).

use crate::{
    errno::Errno,
    wire::{
        CHUNK_DONE, CHUNK_LENGTH, CHUNK_MAGIC, CHUNK_OFFSET_LENGTH, Cookie, EXTENDED_CHUNK_LENGTH,
        EXTENDED_CHUNK_MAGIC, SIMPLE_REPLY_LENGTH, SIMPLE_REPLY_MAGIC, chunk, length_u32,
    },
};

/// The most bytes before the data of a read.
pub(crate) const LONGEST_DATA_HEAD: usize = EXTENDED_CHUNK_LENGTH + CHUNK_OFFSET_LENGTH;

/// How replies look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyStyle {
    Simple,
    /// Cut into chunks that say what they are.
    Chunks(ChunkForm),
}

/// How chunks look, and with them the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkForm {
    /// Of compact headers, whose lengths have 32 bits.
    Structured,
    /// Of extended headers, whose lengths have 64 bits.
    Extended,
}

/// What a reply repeats of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) cookie: Cookie,
    pub(crate) offset: u64,
}

/// A reply without data, or what goes before its data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    bytes: [u8; EXTENDED_CHUNK_LENGTH],
    length: usize,
}

impl AsRef<[u8]> for Head {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Head {
    fn simple(cookie: Cookie, error: u32) -> Self {
        let mut head = Self { bytes: [0; EXTENDED_CHUNK_LENGTH], length: 0 };
        head.put(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        head.put(&error.to_be_bytes());
        head.put(&cookie.0.to_be_bytes());
        head
    }

    fn put(&mut self, field: &[u8]) {
        self.bytes[self.length..][..field.len()].copy_from_slice(field);
        self.length += field.len();
    }
}

impl ReplyStyle {
    pub(crate) fn is_extended(self) -> bool {
        self == Self::Chunks(ChunkForm::Extended)
    }

    /// The bytes before the data of a read.
    pub(crate) fn data_head_length(self) -> usize {
        match self {
            Self::Simple => SIMPLE_REPLY_LENGTH,
            Self::Chunks(form) => form.head_length() + CHUNK_OFFSET_LENGTH,
        }
    }

    /// Puts before the data in `reply`, which begins at `start`, what says whose it is.
    pub(crate) fn put_data_head(self, reply: &mut [u8], asked: Asked, start: u64, last: bool) {
        match self {
            Self::Simple => {
                reply[..SIMPLE_REPLY_LENGTH]
                    .copy_from_slice(Head::simple(asked.cookie, 0).as_ref());
            }
            Self::Chunks(form) => {
                let place = form.head_length();
                let head = form.head(last, chunk::OFFSET_DATA, asked, reply.len() - place);
                reply[..place].copy_from_slice(head.as_ref());
                reply[place..][..CHUNK_OFFSET_LENGTH].copy_from_slice(&start.to_be_bytes());
            }
        }
    }

    /// Says that it is done. Spec: a simple reply will do in a structured session where there is
    /// no data, and never in an extended one.
    pub(crate) fn done(self, asked: Asked) -> Head {
        match self {
            Self::Simple | Self::Chunks(ChunkForm::Structured) => Head::simple(asked.cookie, 0),
            Self::Chunks(form) => form.head(true, chunk::NONE, asked, 0),
        }
    }

    /// Says why it is not done. Spec: in words too, where chunks are agreed.
    pub(crate) fn failed(self, asked: Asked, errno: Errno) -> Vec<u8> {
        match self {
            Self::Simple => Head::simple(asked.cookie, errno.code()).as_ref().to_vec(),
            Self::Chunks(form) => {
                let text = errno.to_string();
                let length = u16::try_from(text.len()).expect("our texts are short");
                let mut body = errno.code().to_be_bytes().to_vec();
                body.extend(length.to_be_bytes());
                body.extend(text.as_bytes());
                form.chunk(true, chunk::ERROR_KIND, asked, &body)
            }
        }
    }
}

impl ChunkForm {
    /// The bytes of a chunk before its body.
    pub(crate) fn head_length(self) -> usize {
        match self {
            Self::Structured => CHUNK_LENGTH,
            Self::Extended => EXTENDED_CHUNK_LENGTH,
        }
    }

    /// A whole chunk.
    pub(crate) fn chunk(self, last: bool, kind: u16, asked: Asked, body: &[u8]) -> Vec<u8> {
        let mut chunk = self.head(last, kind, asked, body.len()).as_ref().to_vec();
        chunk.extend(body);
        chunk
    }

    /// The head of a chunk; `length` counts what follows it.
    fn head(self, last: bool, kind: u16, asked: Asked, length: usize) -> Head {
        let magic = match self {
            Self::Structured => CHUNK_MAGIC,
            Self::Extended => EXTENDED_CHUNK_MAGIC,
        };
        let flags = if last { CHUNK_DONE } else { 0 };
        let length = length_u32(length);
        let mut head = Head { bytes: [0; EXTENDED_CHUNK_LENGTH], length: 0 };
        head.put(&magic.to_be_bytes());
        head.put(&flags.to_be_bytes());
        head.put(&kind.to_be_bytes());
        head.put(&asked.cookie.0.to_be_bytes());
        match self {
            Self::Structured => head.put(&length.to_be_bytes()),
            Self::Extended => {
                head.put(&asked.offset.to_be_bytes());
                head.put(&u64::from(length).to_be_bytes());
            }
        }
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked = Asked { cookie: Cookie(0x0102_0304_0506_0708), offset: 0x1122 };

    #[test]
    fn an_extended_session_sees_no_simple_reply() {
        let style = ReplyStyle::Chunks(ChunkForm::Extended);
        let mut expected = vec![0x6e, 0x8a, 0x27, 0x8c, 0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        expected.extend([0, 0, 0, 0, 0, 0, 0x11, 0x22, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(style.done(ASKED).as_ref(), expected);
        let failed = style.failed(ASKED, Errno::Invalid);
        assert_eq!(failed[..8], [0x6e, 0x8a, 0x27, 0x8c, 0, 1, 0x80, 1]);
        assert_eq!(failed[16..24], expected[16..24]);
        assert_eq!(usize::from(failed[31]), failed.len() - 32);
    }

    #[test]
    fn a_structured_session_is_told_in_words() {
        let style = ReplyStyle::Chunks(ChunkForm::Structured);
        assert_eq!(style.done(ASKED).as_ref()[..4], SIMPLE_REPLY_MAGIC.to_be_bytes());
        assert_eq!(style.failed(ASKED, Errno::NoSpace)[..4], CHUNK_MAGIC.to_be_bytes());
    }

    #[test]
    fn the_longest_data_head_is_the_longest() {
        let chunks = [ChunkForm::Structured, ChunkForm::Extended].map(ReplyStyle::Chunks);
        let longest = chunks.iter().map(|style| style.data_head_length()).max();
        assert_eq!(longest, Some(LONGEST_DATA_HEAD));
    }
}
