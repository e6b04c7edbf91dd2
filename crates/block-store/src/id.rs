//! Names and counters of the store: layers, epochs, roots, requests.
//!
//! What must always hold: a layer id of zeros and an epoch of 0 never stand for anything; both
//! mean "none" on disk.
//! Left to others: the names of disks (`block-device`) and of images and snapshots (`cloud`).

use std::{fmt, str::FromStr};

/// The name of a layer: 16 random bytes, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId([u8; 16]);

impl LayerId {
    /// A new name that no other layer has.
    pub(crate) fn random() -> Result<Self, std::io::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self(bytes))
    }

    /// The name with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the name.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// What a fixed field on disk says: zeros are no layer.
    pub(crate) fn from_field(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// What a fixed field on disk gets.
    pub(crate) fn to_field(layer: Option<Self>) -> [u8; 16] {
        layer.map_or([0; 16], Self::to_bytes)
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// The text is not the name of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a layer id has 32 hexadecimal digits")]
pub struct InvalidLayerId;

impl FromStr for LayerId {
    type Err = InvalidLayerId;

    fn from_str(text: &str) -> Result<Self, InvalidLayerId> {
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(digits) {
            return Err(InvalidLayerId);
        }
        let mut bytes = [0; 16];
        for (place, byte) in bytes.iter_mut().enumerate() {
            let pair = &text[2 * place..2 * place + 2];
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidLayerId)?;
        }
        Ok(Self(bytes))
    }
}

/// Counter of a disk: a map word counts only if it carries the disk's present epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The first epoch of every disk and of every imported layer.
    pub const FIRST: Self = Self(1);

    /// The epoch with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The part that map words carry.
    pub(crate) fn tag(self) -> EpochTag {
        EpochTag(u32::try_from(self.0 & 0xffff_ffff).expect("masked to 32 bits"))
    }

    /// Whether words carry different tags in the two, if they differ: a head never lives longer.
    pub(crate) fn is_near(self, other: Self) -> bool {
        self.0 >> 32 == other.0 >> 32
    }

    /// The epoch after a reset, and whether the head can be kept: words carry only 32 bits, so
    /// when these would wrap, the head is left behind.
    pub(crate) fn next(self) -> (Self, bool) {
        if self.tag().0 == u32::MAX { (Self(self.0 + 2), false) } else { (Self(self.0 + 1), true) }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The low 32 bits of an epoch, as map words carry them; 0 never counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EpochTag(pub(crate) u32);

/// A hash over the size and all content of a layer as it reads: equal content has an equal root,
/// however it is layered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root([u8; 32]);

impl Root {
    /// The root with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// The name of one request of a client, a UUID; a reset's receipt carries it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// The request with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for RequestId {
    /// Upper case, in groups of 8-4-4-4-12 digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_id_reads_back_from_its_text() {
        let id = LayerId::random().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("../../../../../../../etc/passwd.".parse::<LayerId>(), Err(InvalidLayerId));
    }

    #[test]
    fn an_epoch_whose_low_bits_would_wrap_leaves_the_head_behind() {
        assert_eq!(Epoch::new(7).next(), (Epoch::new(8), true));
        let (next, keeps_head) = Epoch::new(0xffff_ffff).next();
        assert_eq!((next.get(), keeps_head), (0x1_0000_0001, false));
        assert_ne!(next.tag(), EpochTag(0));
    }
}
