//! What a scrub is told and what it tells.
//!
//! Left to others: the names that a catalog knows (`cloud`), how it is kept (`cursor`).

use std::collections::BTreeSet;

use block_device::{ByteLength, ByteOffset, DiskId};

use crate::id::LayerId;

/// How a scrub runs.
#[derive(Clone, Copy, Debug)]
pub struct Scrub {
    /// Bytes it reads in a second at most; none for no limit.
    pub rate: Option<ByteLength>,
    /// How much is read between two savings of the cursor: what a kill makes it read again.
    pub checkpoint: ByteLength,
}

impl Default for Scrub {
    /// Slow enough to leave most of any disk to its users.
    fn default() -> Self {
        Self { rate: Some(ByteLength::new(64 << 20)), checkpoint: ByteLength::new(256 << 20) }
    }
}

/// What a scrub did and found, the runs it went on from included.
#[derive(Clone, Debug, Default)]
pub struct ScrubReport {
    /// Layers that were looked at.
    pub layers: u64,
    /// Sealed layers that have no hashes yet and were left out.
    pub unhashed: u64,
    /// Clusters that were compared.
    pub clusters: u64,
    /// What was read for that.
    pub bytes: ByteLength,
    /// What is wrong.
    pub findings: Vec<ScrubFinding>,
}

/// A scrub that came to its end or was cut short, as its cursor tells it.
#[derive(Clone, Debug)]
pub struct LastScrub {
    /// Whether it came to its end; else the next goes on there.
    pub is_finished: bool,
    /// What it compared.
    pub done: ByteLength,
    /// What there was to compare, as far as it is known now.
    pub total: ByteLength,
    /// What it found so far. The layers without hashes are those of now.
    pub report: ScrubReport,
}

/// Something wrong with a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubFinding {
    /// The layer.
    pub layer: LayerId,
    /// Where, if it is one cluster.
    pub offset: Option<ByteOffset>,
    /// What.
    pub kind: ScrubFindingKind,
    /// The layer and all that stand on it.
    pub standing: BTreeSet<LayerId>,
    /// The images and snapshots that these were made for, as `kind:id`, by their own headers. Who
    /// has a catalog knows more: several may share a layer.
    pub labels: Vec<String>,
    /// The disks on any of these layers.
    pub disks: Vec<DiskId>,
}

impl ScrubFinding {
    /// The images, snapshots and disks that need the layer, as `kind:id`.
    pub fn affects(&self) -> Vec<String> {
        let disks = self.disks.iter().map(|disk| format!("disk:{disk}"));
        self.labels.iter().cloned().chain(disks).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubFindingKind {
    /// The cluster reads as something else than what was hashed. Reads of it are refused.
    Content,
    /// The cluster cannot be read.
    Unreadable,
    /// The hashes are damaged, or are not those of what the layer holds.
    HashTable,
    /// The hashes do not give the root.
    Root,
    /// The layer, or one below it, cannot be opened.
    Layer,
    /// So much of the layer is damaged that the rest was not looked at. All of it is refused.
    TooMuch,
    /// There is no such layer, though a snapshot, an image, a disk or another layer needs it.
    Missing,
}

impl ScrubFindingKind {
    const ALL: [Self; 7] = [
        Self::Content,
        Self::Unreadable,
        Self::HashTable,
        Self::Root,
        Self::Layer,
        Self::TooMuch,
        Self::Missing,
    ];

    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Content => "Content",
            Self::Unreadable => "Unreadable",
            Self::HashTable => "HashTable",
            Self::Root => "Root",
            Self::Layer => "Layer",
            Self::TooMuch => "TooMuch",
            Self::Missing => "Missing",
        }
    }

    /// Its number in the cursor.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Content => 1,
            Self::Unreadable => 2,
            Self::HashTable => 3,
            Self::Root => 4,
            Self::Layer => 5,
            Self::TooMuch => 6,
            Self::Missing => 7,
        }
    }

    pub(super) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Whether reads are refused for it.
    pub(super) fn is_refused(self) -> bool {
        matches!(self, Self::Content | Self::TooMuch)
    }
}
