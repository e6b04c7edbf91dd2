//! What a check of the store says: findings, and how much was looked at.
//!
//! What must always hold: a finding names one thing, says what is wrong with it, what that means
//! and what to do; damage is what somebody has to act upon, a note is not. What this process may
//! not look at is neither: nothing is known of it.

use std::{collections::BTreeSet, io};

use crate::error::StoreError;

/// Whether somebody has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is lost, refused, or no longer protected twice.
    Damage,
    /// It cannot be looked at, so that nothing is known of it.
    Unknown,
    /// Nothing is lost: the next start cleans it, or it is only kept and told.
    Note,
}

/// What kind of thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// The ledger has no header that can be believed, or a newer program wrote it.
    LedgerUnreadable,
    /// One of the ledger's two headers is broken.
    LedgerHeaderCopy,
    /// The ledger does not end where a segment ends.
    LedgerLength,
    /// A slot of the ledger cannot be believed.
    LedgerRecord,
    /// Several records speak of one disk.
    TwinRecords,
    /// A disk half made or half deleted.
    Unsettled,
    /// A file or directory that the system does not let this process read.
    NotReadable,
    /// The directory of all layers is gone.
    LayersMissing,
    /// A disk that was rebuilt and waits for the operator's choice.
    ClosedDisk,
    /// A layer that something stands on has no directory.
    LayerMissing,
    /// A file of a layer is missing or is not a plain file of its own.
    LayerFile,
    /// Neither copy of a layer's header can be believed.
    LayerHeader,
    /// One copy of a layer's header is broken.
    LayerHeaderCopy,
    /// A newer program wrote the layer.
    LayerFormat,
    /// A layer's files are too short or too long.
    LayerLength,
    /// A map sector's check word is wrong.
    MapSector,
    /// A map word no program of ours writes, or one of an epoch above the header's.
    MapWord,
    /// A page of hashes is wrong.
    HashTable,
    /// A layer's root is not that of its hashes.
    HashRoot,
    /// A layer others stand on can still change.
    NotSealed,
    /// A chain of layers comes back to itself.
    ChainLoop,
    /// A chain of layers is longer than is followed.
    ChainDepth,
    /// A layer is larger than the one that stands on it.
    ChainSize,
    /// A disk's head belongs to another disk.
    HeadOwner,
    /// A disk's head is smaller than the disk.
    HeadSize,
    /// A head's header is of an epoch so long ago that its words would count again.
    HeadEpoch,
    /// A disk's head is of a later epoch than the ledger.
    OldLedger,
    /// A disk's head was sealed by a snapshot that was cut short.
    CutSnapshot,
    /// A layer whose fate is open.
    Marked,
    /// What a half made or half removed layer left.
    Remains,
    /// A name that is none of ours.
    Foreign,
    /// A layer that nobody names or stands on.
    OrphanLayer,
    /// The catalog names a disk that the ledger does not know.
    DiskMissing,
    /// The ledger has a disk that the catalog does not name.
    OrphanDisk,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Whether somebody has to act.
    pub severity: Severity,
    /// What kind it is.
    pub kind: FindingKind,
    /// The file, layer, slot or disk.
    pub thing: String,
    /// The disks, snapshots and images that cannot be believed because of it.
    pub affects: BTreeSet<String>,
    /// What is wrong, what it means and what to do.
    pub message: String,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Disks of the ledger.
    pub disks: u64,
    /// Layers.
    pub layers: u64,
    /// Map sectors that hold something.
    pub map_sectors: u64,
    /// Entries of hash pages.
    pub hashes: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// All findings, damage first.
    pub found: Vec<Finding>,
    /// How much was looked at.
    pub checked: Checked,
}

impl Findings {
    /// Whether anything needs somebody to act.
    pub fn has_damage(&self) -> bool {
        self.found.iter().any(|finding| finding.severity == Severity::Damage)
    }

    /// Whether there is something that could not be looked at.
    pub fn has_unknown(&self) -> bool {
        self.found.iter().any(|finding| finding.severity == Severity::Unknown)
    }

    /// Tells of a failure: as damage of this kind with what to do, unless it is no fault of the
    /// thing that it cannot be read.
    pub(crate) fn failure(
        &mut self,
        kind: FindingKind,
        thing: impl Into<String>,
        error: &StoreError,
        message: impl Into<String>,
    ) -> &mut Finding {
        match error {
            StoreError::Io { context, source } if is_out_of_reach(source) => {
                let message = format!(
                    "cannot be looked at: {context}: {source}; that tells nothing of damage; check \
                     again as the store's owner, when the system lets it be read"
                );
                self.push(Severity::Unknown, FindingKind::NotReadable, thing.into(), message)
            }
            _ => self.damage(kind, thing, message),
        }
    }

    pub(crate) fn damage(
        &mut self,
        kind: FindingKind,
        thing: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Finding {
        self.push(Severity::Damage, kind, thing.into(), message.into())
    }

    pub(crate) fn note(
        &mut self,
        kind: FindingKind,
        thing: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Finding {
        self.push(Severity::Note, kind, thing.into(), message.into())
    }

    fn push(
        &mut self,
        severity: Severity,
        kind: FindingKind,
        thing: String,
        message: String,
    ) -> &mut Finding {
        self.found.push(Finding { severity, kind, thing, affects: BTreeSet::new(), message });
        self.found.last_mut().expect("it was pushed just now")
    }
}

/// Whether the system refused this process, which says nothing of what the device holds: anything
/// but names that are not as they should be, files that end early, and what a device or its file
/// system call broken.
fn is_out_of_reach(error: &io::Error) -> bool {
    const BROKEN: [rustix::io::Errno; 3] =
        [rustix::io::Errno::IO, rustix::io::Errno::UCLEAN, rustix::io::Errno::BADMSG];
    let of_the_thing = [
        io::ErrorKind::NotFound,
        io::ErrorKind::NotADirectory,
        io::ErrorKind::IsADirectory,
        io::ErrorKind::InvalidData,
        io::ErrorKind::UnexpectedEof,
    ];
    let is_broken = rustix::io::Errno::from_io_error(error).is_some_and(|e| BROKEN.contains(&e));
    !of_the_thing.contains(&error.kind()) && !is_broken
}
