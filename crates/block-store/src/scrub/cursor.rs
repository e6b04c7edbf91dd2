//! The cursor of a scrub: how far it came and what it found, so that the next one goes on there.
//!
//! ```text
//! 0 magic | 8 version u32 | 12 finished u32 | 16 clusters u64 | 24 layer (16) | 40 cluster u64
//! 48 n u32 | 52 f u32 | 56 n done layers (16 each) | f findings (32 each) | crc32c u32
//! finding: layer (16) | cluster u64, all ones for none | kind u8 | 1 if of an earlier run u8 | zeros
//! ```
//! What must always hold: the file is replaced in whole (temporary name, synced, renamed,
//! directory synced), and a cursor that is damaged counts as none: the scrub begins again.
//! Left to others: what the findings mean (`report`).

use std::{
    collections::BTreeSet,
    io::{self, IoSlice},
};

use super::report::ScrubFindingKind;
use crate::{
    error::StoreError,
    geometry::{bytes, index},
    id::LayerId,
    storage::Storage,
};

const FILE: &str = "scrub";
const NEW: &str = "scrub.new";
const MAGIC: [u8; 8] = *b"REINITSC";
const VERSION: u32 = 1;
const FIXED: usize = 56;
const NO_CLUSTER: u64 = u64::MAX;
/// A file that is longer than any we write is none of ours.
const LONGEST: u64 = 1 << 30;

/// How far a scrub came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// It came to its end; what it found is still known.
    pub(super) finished: bool,
    /// Clusters that were compared.
    pub(super) clusters: u64,
    /// The layer in work and its first cluster that was not compared.
    pub(super) at: Option<(LayerId, u64)>,
    /// Layers that were looked at, also of a run that came to its end.
    pub(super) done: BTreeSet<LayerId>,
    pub(super) findings: Vec<Found>,
}

/// A finding, without what can be told anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) layer: LayerId,
    pub(super) cluster: Option<u64>,
    pub(super) kind: ScrubFindingKind,
    /// A run before this one found it, and this one has not come to the layer yet.
    pub(super) earlier: bool,
}

impl Cursor {
    /// What was saved last; none if nothing was, or it cannot be believed.
    pub(super) fn load(storage: &dyn Storage) -> Option<Self> {
        let read = || -> io::Result<Vec<u8>> {
            let file = storage.open(FILE)?;
            let length = file.length()?;
            if length > LONGEST {
                return Err(io::Error::other("it is too long"));
            }
            let mut content = vec![0; index(length)];
            file.read_exact_at(&mut content, 0)?;
            Ok(content)
        };
        match read() {
            Ok(content) => {
                let cursor = Self::parse(&content);
                if cursor.is_none() {
                    tracing::warn!(
                        "the cursor of the last scrub is damaged: the next one begins again"
                    );
                }
                cursor
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, "the cursor of the last scrub cannot be read");
                None
            }
        }
    }

    /// Makes this the cursor, durably.
    pub(super) fn save(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        let save = || -> io::Result<()> {
            // What a kill in the middle left.
            match storage.remove_file(NEW) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = storage.create(NEW)?;
            file.write_all_at(&[IoSlice::new(&self.encode())], 0)?;
            file.sync_data()?;
            storage.rename(NEW, FILE)?;
            storage.sync_dir("")
        };
        save().map_err(StoreError::io("saving the cursor of the scrub"))
    }

    fn encode(&self) -> Vec<u8> {
        let count = |length: usize| u32::try_from(length).expect("few").to_le_bytes();
        let (layer, cluster) = self.at.map_or((None, 0), |(layer, next)| (Some(layer), next));
        let mut out = Vec::from(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(u32::from(self.finished).to_le_bytes());
        out.extend(self.clusters.to_le_bytes());
        out.extend(LayerId::to_field(layer));
        out.extend(cluster.to_le_bytes());
        out.extend(count(self.done.len()));
        out.extend(count(self.findings.len()));
        out.extend(self.done.iter().flat_map(|layer| layer.to_bytes()));
        for found in &self.findings {
            out.extend(found.layer.to_bytes());
            out.extend(found.cluster.unwrap_or(NO_CLUSTER).to_le_bytes());
            out.extend([found.kind.code(), u8::from(found.earlier), 0, 0, 0, 0, 0, 0]);
        }
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let (checked, crc) = content.split_last_chunk::<4>()?;
        let (fixed, lists) = checked.split_at_checked(FIXED)?;
        let short = |at: usize| Some(u32::from_le_bytes(fixed.get(at..at + 4)?.try_into().ok()?));
        let whole = crc32c::crc32c(checked) == u32::from_le_bytes(*crc);
        if !whole || fixed[..8] != MAGIC || short(8)? != VERSION {
            return None;
        }
        let (done, findings) = (u64::from(short(48)?) * 16, u64::from(short(52)?) * 32);
        if bytes(lists.len()) != done + findings {
            return None;
        }
        let (done, findings) = lists.split_at(index(done));
        let next = u64::from_le_bytes(fixed[40..48].try_into().ok()?);
        Some(Self {
            finished: short(12)? != 0,
            clusters: u64::from_le_bytes(fixed[16..24].try_into().ok()?),
            at: LayerId::from_field(fixed[24..40].try_into().ok()?).map(|layer| (layer, next)),
            done: done.as_chunks().0.iter().copied().map(LayerId::from_bytes).collect(),
            findings: findings.as_chunks().0.iter().map(Found::parse).collect::<Option<_>>()?,
        })
    }
}

impl Found {
    fn parse(bytes: &[u8; 32]) -> Option<Self> {
        let cluster = u64::from_le_bytes(bytes[16..24].try_into().ok()?);
        Some(Self {
            layer: LayerId::from_bytes(bytes[..16].try_into().ok()?),
            cluster: (cluster != NO_CLUSTER).then_some(cluster),
            kind: ScrubFindingKind::of_code(bytes[24])?,
            earlier: bytes[25] != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        let layer = |number| LayerId::from_bytes([number; 16]);
        let found = |cluster, earlier| Found {
            layer: layer(3),
            cluster,
            kind: ScrubFindingKind::Content,
            earlier,
        };
        Cursor {
            finished: false,
            clusters: 99,
            at: Some((layer(3), 17)),
            done: [layer(1), layer(2)].into(),
            findings: vec![found(Some(4), false), found(None, true)],
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let none = Cursor { finished: true, ..Cursor::default() };
        for cursor in [cursor(), none] {
            assert_eq!(Cursor::parse(&cursor.encode()), Some(cursor));
        }
    }

    #[test]
    fn a_cursor_with_any_bit_flipped_or_cut_short_is_none() {
        let content = cursor().encode();
        for bit in 0..content.len() * 8 {
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Cursor::parse(&damaged), None, "bit {bit}");
        }
        for length in 0..content.len() {
            assert_eq!(Cursor::parse(&content[..length]), None, "{length} bytes");
        }
    }
}
