//! The envelope around every stored record.
//!
//! ```text
//! 0       4      6         8     12       16
//! | magic | kind | version | len | crc32c | payload ... |     all little endian
//! ```
//!
//! What must always hold
//! 1. The checksum covers the first 12 bytes, the payload and the key, so a value that lies under
//!    another record's key is damage, not a record.
//! 2. A version this program does not know is refused by name, never dropped or guessed.
//! 3. Decoding never panics and never allocates more than the input is long.
//!
//! Left to others: what the payload says (`record`), its bytes (`codec`).

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::codec::{self, CodecError};
use crate::record::Record;

const MAGIC: u32 = u32::from_le_bytes(*b"RCAT");
const HEADER: usize = 16;

/// A record's own content, in one of the two forms it exists in.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// As stored.
    Bytes(&'a [u8]),
    /// As exported.
    Json(&'a serde_json::Value),
}

impl Payload<'_> {
    /// The struct this is said to be.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, EnvelopeError> {
        match self {
            Payload::Bytes(bytes) => codec::decode(bytes).map_err(EnvelopeError::Payload),
            Payload::Json(value) => T::deserialize(value).map_err(EnvelopeError::Json),
        }
    }
}

/// What a value's first bytes said, after its checksum was found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    /// Which record.
    pub(crate) kind: u16,
    /// Which version of it.
    pub(crate) version: u16,
    /// The record's own bytes.
    pub(crate) payload: &'a [u8],
}

/// Why bytes are not a record.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// Too short for a header, or not as long as the header says.
    #[error("the value is {actual} bytes long, not {expected}")]
    Length {
        /// What the header asks for.
        expected: usize,
        /// What there is.
        actual: usize,
    },
    /// Not written by this program.
    #[error("the value begins with {found:#010x}, which is not a record's mark")]
    Magic {
        /// The first four bytes.
        found: u32,
    },
    /// Damaged, or moved here from another key.
    #[error("the checksum is {found:#010x}, the bytes and the key give {computed:#010x}")]
    Checksum {
        /// As stored.
        found: u32,
        /// As it should be.
        computed: u32,
    },
    /// A record of another kind than its key says.
    #[error("the record is of kind {found}, the key is one of kind {expected}")]
    Kind {
        /// What the key's prefix stands for.
        expected: u16,
        /// What the envelope says.
        found: u16,
    },
    /// Written by a later program.
    #[error("version {version} of record kind {kind} is not known to this program")]
    UnknownVersion {
        /// Which record.
        kind: u16,
        /// Which version of it.
        version: u16,
    },
    /// The record names itself differently from the key it lies under.
    #[error("the record calls itself {found}")]
    Identity {
        /// The key it would have.
        found: String,
    },
    /// The payload is not the struct that kind and version promise.
    #[error("the payload cannot be read")]
    Payload(#[source] CodecError),
    /// The payload is not the one encoding of what it says.
    #[error("the payload says it in another way than this program does")]
    Encoding,
    /// The exported form is not the struct that kind and version promise.
    #[error("the exported record cannot be read")]
    Json(#[source] serde_json::Error),
    /// The key begins with nothing this program knows.
    #[error("no kind of record lies under such a key")]
    UnknownKind,
}

/// The value to store for a record under its own key.
pub(crate) fn seal<R: Record>(record: &R) -> Result<Vec<u8>, CodecError> {
    let payload = codec::encode(record)?;
    Ok(wrap(&record.key(), R::KIND, R::VERSION, &payload))
}

/// The record stored under `key`, after every check.
pub(crate) fn unseal<R: Record>(key: &str, value: &[u8]) -> Result<R, EnvelopeError> {
    let envelope = unwrap(key, value)?;
    if envelope.kind != R::KIND {
        return Err(EnvelopeError::Kind { expected: R::KIND, found: envelope.kind });
    }
    let record = R::decode(envelope.version, Payload::Bytes(envelope.payload))?;
    let found = record.key();
    if found != key {
        return Err(EnvelopeError::Identity { found });
    }
    check_encoding(&record, &envelope)?;
    Ok(record)
}

/// The record encodes to these very bytes. Else a map's entries are out of order or there twice: some of what is stored
/// would not be in the record, and a precondition, which compares bytes, could never hold again.
fn check_encoding<R: Record>(record: &R, envelope: &Envelope<'_>) -> Result<(), EnvelopeError> {
    let own = codec::encode(record).map_err(EnvelopeError::Payload)?;
    if envelope.version == R::VERSION && own != envelope.payload {
        return Err(EnvelopeError::Encoding);
    }
    Ok(())
}

/// Puts an envelope around a payload.
fn wrap(key: &str, kind: u16, version: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("the codec's limit is far below 4 GiB");
    let mut value = Vec::with_capacity(HEADER + payload.len());
    value.extend_from_slice(&MAGIC.to_le_bytes());
    value.extend_from_slice(&kind.to_le_bytes());
    value.extend_from_slice(&version.to_le_bytes());
    value.extend_from_slice(&length.to_le_bytes());
    let crc = checksum(&value, payload, key);
    value.extend_from_slice(&crc.to_le_bytes());
    value.extend_from_slice(payload);
    value
}

/// Takes the envelope off, if all of it is right.
pub(crate) fn unwrap<'a>(key: &str, value: &'a [u8]) -> Result<Envelope<'a>, EnvelopeError> {
    let too_short = EnvelopeError::Length { expected: HEADER, actual: value.len() };
    let (head, payload) = value.split_at_checked(HEADER).ok_or(too_short)?;
    let magic = u32_at(head, 0);
    if magic != MAGIC {
        return Err(EnvelopeError::Magic { found: magic });
    }
    check_length(u32_at(head, 8), payload)?;
    let (found, computed) = (u32_at(head, 12), checksum(&head[..12], payload, key));
    if found != computed {
        return Err(EnvelopeError::Checksum { found, computed });
    }
    Ok(Envelope { kind: u16_at(head, 4), version: u16_at(head, 6), payload })
}

fn check_length(stated: u32, payload: &[u8]) -> Result<(), EnvelopeError> {
    let expected = usize::try_from(stated).unwrap_or(usize::MAX);
    if expected == payload.len() {
        return Ok(());
    }
    let (expected, actual) = (expected.saturating_add(HEADER), payload.len() + HEADER);
    Err(EnvelopeError::Length { expected, actual })
}

fn checksum(head: &[u8], payload: &[u8], key: &str) -> u32 {
    let crc = crc32c::crc32c(head);
    let crc = crc32c::crc32c_append(crc, payload);
    crc32c::crc32c_append(crc, key.as_bytes())
}

fn u16_at(head: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([head[at], head[at + 1]])
}

fn u32_at(head: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kinds;
    use crate::record::{Account, Key};

    fn account() -> Account {
        Account {
            name: "lab".to_owned(),
            number: 1,
            created: 2,
            in_arrears: false,
            quota_bytes: Some(3),
        }
    }

    #[test]
    fn a_record_under_another_key_is_damage() {
        let value = seal(&account()).unwrap();
        let moved = unseal::<Account>("account/other", &value);
        assert!(matches!(moved, Err(EnvelopeError::Checksum { .. })));
    }

    #[test]
    fn a_record_of_another_kind_is_refused() {
        let payload = codec::encode(&account()).unwrap();
        let value = wrap("key/lab", Account::KIND, Account::VERSION, &payload);
        let found = unseal::<Key>("key/lab", &value);
        assert!(matches!(
            found,
            Err(EnvelopeError::Kind { expected: Key::KIND, found: Account::KIND })
        ));
    }

    #[test]
    fn a_record_that_names_itself_differently_is_refused() {
        let payload = codec::encode(&account()).unwrap();
        let value = wrap("account/other", Account::KIND, Account::VERSION, &payload);
        let found = unseal::<Account>("account/other", &value);
        assert!(matches!(found, Err(EnvelopeError::Identity { .. })));
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        let value = wrap("account/lab", Account::KIND, 2, &[1, 2, 3]);
        let found = unseal::<Account>("account/lab", &value);
        assert!(matches!(found, Err(EnvelopeError::UnknownVersion { kind: 1, version: 2 })));
    }

    #[test]
    fn trailing_bytes_in_a_payload_are_refused() {
        let mut payload = codec::encode(&account()).unwrap();
        payload.push(0);
        let value = wrap("account/lab", Account::KIND, Account::VERSION, &payload);
        let found = unseal::<Account>("account/lab", &value);
        assert!(matches!(found, Err(EnvelopeError::Payload(_))));
    }

    #[test]
    fn tags_in_another_order_or_twice_are_refused() {
        let golden = include_bytes!("../tests/golden/v1/snapshot-done");
        let record = unseal::<crate::record::Snapshot>("snapshot/s-1", golden).unwrap();
        assert!(record.tags.len() > 1, "the order of one tag tells nothing");
        // The tags end the payload.
        let turned: Vec<_> = record.tags.iter().rev().collect();
        let tail = codec::encode(&turned).unwrap();
        let mut payload = codec::encode(&record).unwrap();
        let start = payload.len() - tail.len();
        payload[start..].copy_from_slice(&tail);
        let value = wrap("snapshot/s-1", 6, 1, &payload);
        let found = unseal::<crate::record::Snapshot>("snapshot/s-1", &value);
        assert!(matches!(found, Err(EnvelopeError::Encoding)), "{found:?}");
    }

    #[test]
    fn every_single_bit_counts() {
        let value = seal(&account()).unwrap();
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal::<Account>("account/lab", &flipped).is_err(), "bit {bit}");
        }
        for length in 0..value.len() {
            assert!(unseal::<Account>("account/lab", &value[..length]).is_err());
        }
    }

    const PREFIXES: [&str; 8] =
        ["account", "key", "instance", "disk", "image", "snapshot", "task", "token"];

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(value in prop::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(unwrap("disk/d-1", &value).is_err());
        }

        /// Right envelopes around wrong payloads get past the checksum, to the decoders.
        #[test]
        fn any_payload_is_read_without_a_panic(
            payload in prop::collection::vec(any::<u8>(), 0..512),
            which in 0..PREFIXES.len(),
            version in 0..3_u16,
        ) {
            let number = u16::try_from(which + 1).unwrap();
            let key = format!("{}/x", PREFIXES[which]);
            let value = wrap(&key, number, version, &payload);
            let kind = kinds::of_key(&key).unwrap();
            // A payload may be right by chance, but hardly one whose id is `x`.
            prop_assert!((kind.verify)(&key, &value).is_err());
        }
    }
}
