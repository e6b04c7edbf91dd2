//! A layer's header: who the layer is, what it stands on, how far it may be believed.
//!
//! ```text
//!    0  magic "REINITLY"          8  version u32       12  required features u32
//!   16  copy sequence u64        24  size u64          32  epoch u64
//!   40  ledger sequence u64      48  hash entries u64
//!   56  layer id (16)            72  parent id (16)    88  root (32)
//!  120  kind u8  121 state u8   122  hashed u8        123  zeros (5)
//!  128  disk id (32)            160  resource id (32) 192  account (64)     256 name (128)
//!  384  zeros                  4092  crc32c over bytes 0..4092
//! ```
//! What must always hold
//! 1. Two copies lie at 0 and 4096; a rewrite goes over the older one; the newer valid one wins.
//! 2. A kind or state of 0 is never valid, so a page of zeros is no header.
//! 3. Nothing is read of a file whose version or required features are not known here.
//!
//! Left to others: whether the layer may be served (`head`, `sealed_layer`).

use block_device::{ByteLength, DiskId};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U32, U64},
};

use crate::{
    error::StoreError,
    geometry::{Geometry, PAGE, bytes, index},
    id::{Epoch, LayerId, Root},
    storage::StorageFile,
};

const MAGIC: [u8; 8] = *b"REINITLY";
const VERSION: u32 = 1;
/// Feature bits this program understands: none exist yet.
const KNOWN_FEATURES: u32 = 0;
const CHECKED: usize = 4092;

/// What a sealed layer stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A disk's writable layer; its label is empty.
    Head,
    /// The content of a disk at one moment.
    Snapshot,
    /// An imported image.
    Image,
}

/// Whether a layer can still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerState {
    Open,
    Sealed,
}

/// The resource a layer was made for: enough to rebuild a lost catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerLabel {
    /// What the layer stands for.
    pub kind: LayerKind,
    /// The resource's id, at most 32 bytes; cut if longer.
    pub id: String,
    /// The account it belongs to, at most 64 bytes; cut if longer.
    pub account: String,
    /// The resource's name, at most 128 bytes; cut if longer.
    pub name: String,
}

/// A header, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) layer: LayerId,
    pub(crate) parent: Option<LayerId>,
    pub(crate) geometry: Geometry,
    pub(crate) state: LayerState,
    /// No word of the file has a higher one.
    pub(crate) epoch: Epoch,
    pub(crate) ledger_sequence: u64,
    /// The disk whose head it is or was; none for an import.
    pub(crate) disk: Option<DiskId>,
    pub(crate) label: LayerLabel,
    /// The root and the number of entries of the hash pages, once these are durable.
    pub(crate) hashes: Option<HashSummary>,
}

/// What the header says of the hash pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HashSummary {
    pub(crate) root: Root,
    pub(crate) entries: u64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    features: U32,
    copy_sequence: U64,
    size: U64,
    epoch: U64,
    ledger_sequence: U64,
    hash_entries: U64,
    layer: [u8; 16],
    parent: [u8; 16],
    root: [u8; 32],
    kind: u8,
    state: u8,
    hashed: u8,
    padding: [u8; 5],
    disk: [u8; 32],
    resource: [u8; 32],
    account: [u8; 64],
    name: [u8; 128],
    zeros: [u8; 3708],
    crc: U32,
}

const _: () = assert!(size_of::<RawHeader>() == 4096);
const _: () = assert!(std::mem::offset_of!(RawHeader, disk) == 128);
const _: () = assert!(std::mem::offset_of!(RawHeader, crc) == CHECKED);

/// A header on file: the parsed newer copy, and where the next one goes.
#[derive(Debug)]
pub(crate) struct StoredHeader {
    pub(crate) header: Header,
    copy_sequence: u64,
    /// Both copies can be believed, so none newer than this one was lost.
    pub(crate) is_whole: bool,
}

impl StoredHeader {
    /// Writes both copies of a new file's header; the caller syncs.
    pub(crate) fn create(file: &dyn StorageFile, header: Header) -> Result<Self, StoreError> {
        let mut stored = Self { header: header.clone(), copy_sequence: 0, is_whole: true };
        stored.write(file, header.clone())?;
        stored.write(file, header)?;
        Ok(stored)
    }

    /// Reads the newer valid copy.
    pub(crate) fn read(file: &dyn StorageFile, layer: LayerId) -> Result<Self, StoreError> {
        let what = || format!("the header of layer {layer}");
        let mut newest: Option<Self> = None;
        let mut problem = None;
        let mut sequences = Vec::new();
        for copy in 0..2_u64 {
            let mut page = [0; index(PAGE)];
            if let Err(error) = file.read_exact_at(&mut page, copy * PAGE) {
                let is_short = error.kind() == std::io::ErrorKind::UnexpectedEof;
                let error = StoreError::io(format!("reading {}", what()))(error);
                if !is_short {
                    // What cannot be read may be the newer one, and the other is then not true.
                    return Err(error);
                }
                problem = Some(error);
                continue;
            }
            match parse(&page, &what()) {
                Ok(found) => {
                    sequences.push(found.copy_sequence);
                    if newest.as_ref().is_none_or(|n| n.copy_sequence < found.copy_sequence) {
                        newest = Some(found);
                    }
                }
                // A newer program's file is not to be judged by its older copy.
                Err(error @ StoreError::UnknownFormat { .. }) => return Err(error),
                Err(error) => problem = Some(error),
            }
        }
        let mut newest = newest.ok_or_else(|| {
            problem.unwrap_or_else(|| StoreError::damaged(what(), "no valid copy"))
        })?;
        if newest.header.layer != layer {
            return Err(StoreError::damaged(
                what(),
                format!("it belongs to layer {}", newest.header.layer),
            ));
        }
        newest.is_whole = are_a_pair(&sequences);
        Ok(newest)
    }

    /// Makes both copies whole, if one could not be believed when they were read: the header goes
    /// over it as it is, is synced and read back. A place that lost a copy once may lose the next.
    pub(crate) fn mend(&mut self, file: &dyn StorageFile) -> Result<(), StoreError> {
        if self.is_whole {
            return Ok(());
        }
        self.write(file, self.header.clone())?;
        let layer = self.header.layer;
        let synced = file.sync_data().and_then(|()| file.drop_cache());
        synced.map_err(StoreError::io(format!("mending the header of layer {layer}")))?;
        let held = Self::read(file, layer)?;
        if !held.is_whole || held.copy_sequence != self.copy_sequence {
            let detail = "the place of a damaged copy does not hold what was written there";
            return Err(StoreError::damaged(format!("the header of layer {layer}"), detail));
        }
        self.is_whole = true;
        Ok(())
    }

    /// Writes a changed header over the older copy; the caller syncs, and until then does not
    /// rely on it.
    pub(crate) fn write(
        &mut self,
        file: &dyn StorageFile,
        header: Header,
    ) -> Result<(), StoreError> {
        let copy_sequence = self.copy_sequence + 1;
        let page = encode(&header, copy_sequence);
        let place = (copy_sequence % 2) * PAGE;
        file.write_all_at(&[std::io::IoSlice::new(&page)], place)
            .map_err(StoreError::io(format!("writing the header of layer {}", header.layer)))?;
        self.copy_sequence = copy_sequence;
        self.header = header;
        Ok(())
    }
}

/// Whether these are the sequences of both copies, each in its place and the newer one made next
/// after the older.
fn are_a_pair(sequences: &[u64]) -> bool {
    matches!(sequences, [even, odd] if even % 2 == 0 && odd % 2 == 1 && even.abs_diff(*odd) == 1)
}

/// How many of the two copies cannot be believed; the file is read only.
pub(crate) fn broken_copies(file: &dyn StorageFile) -> usize {
    let is_broken = |copy: &u64| {
        let mut page = [0; index(PAGE)];
        let read = file.read_exact_at(&mut page, *copy * PAGE);
        // A copy of the other's place is one that strayed.
        read.is_err() || parse(&page, "").map_or(true, |found| found.copy_sequence % 2 != *copy)
    };
    (0..2).filter(is_broken).count()
}

/// The one good copy of a header whose other copy is broken, if no header can have come after it:
/// that of a sealed layer with hashes is the last one. Writing it again goes over the broken copy.
pub(crate) fn last_copy(file: &dyn StorageFile, layer: LayerId) -> Option<StoredHeader> {
    let (mut good, mut broken) = (None, 0);
    for copy in 0..2_u64 {
        let mut page = [0; index(PAGE)];
        file.read_exact_at(&mut page, copy * PAGE).ok()?;
        match parse(&page, "") {
            Ok(found) if found.copy_sequence % 2 == copy => good = Some(found),
            Err(StoreError::Damaged { .. }) => broken += 1,
            // A copy that strayed, or a newer program's: which one counts is not for us to say.
            Ok(_) | Err(_) => return None,
        }
    }
    let is_last = |header: &Header| {
        header.layer == layer && header.state == LayerState::Sealed && header.hashes.is_some()
    };
    good.filter(|found| broken == 1 && is_last(&found.header) && found.copy_sequence < u64::MAX)
}

fn parse(page: &[u8; 4096], what: &str) -> Result<StoredHeader, StoreError> {
    let raw = RawHeader::ref_from_bytes(page).expect("the size of a header");
    if raw.magic != MAGIC {
        return Err(StoreError::damaged(what, "it does not begin with REINITLY"));
    }
    if raw.version.get() != VERSION {
        let detail = format!("format version {} is not known, only {VERSION}", raw.version);
        return Err(StoreError::UnknownFormat { what: what.into(), detail });
    }
    if crc32c::crc32c(&page[..CHECKED]) != raw.crc.get() {
        return Err(StoreError::damaged(what, "its checksum is wrong"));
    }
    let unknown = raw.features.get() & !KNOWN_FEATURES;
    if unknown != 0 {
        let detail = format!("required feature bit {} is not known", unknown.trailing_zeros());
        return Err(StoreError::UnknownFormat { what: what.into(), detail });
    }
    let header = raw.friendly().ok_or_else(|| {
        StoreError::damaged(what, "a field holds a value that no program of ours writes")
    })?;
    Ok(StoredHeader { header, copy_sequence: raw.copy_sequence.get(), is_whole: false })
}

impl RawHeader {
    fn friendly(&self) -> Option<Header> {
        let kind = match self.kind {
            1 => LayerKind::Head,
            2 => LayerKind::Snapshot,
            3 => LayerKind::Image,
            _ => return None,
        };
        let state = match self.state {
            1 => LayerState::Open,
            2 => LayerState::Sealed,
            _ => return None,
        };
        let disk = text(&self.disk)?;
        let hashes =
            HashSummary { root: Root::from_bytes(self.root), entries: self.hash_entries.get() };
        let geometry = Geometry::checked(ByteLength::new(self.size.get()))?;
        // More entries than clusters would reach past the end of the layer.
        let plausible = self.hashed <= 1 && hashes.entries <= geometry.clusters();
        (plausible && self.epoch.get() != 0).then_some(())?;
        Some(Header {
            layer: LayerId::from_field(self.layer)?,
            parent: LayerId::from_field(self.parent),
            geometry,
            state,
            epoch: Epoch::new(self.epoch.get()),
            ledger_sequence: self.ledger_sequence.get(),
            disk: if disk.is_empty() { None } else { Some(disk.parse().ok()?) },
            label: LayerLabel {
                kind,
                id: text(&self.resource)?,
                account: text(&self.account)?,
                name: text(&self.name)?,
            },
            hashes: (self.hashed == 1).then_some(hashes),
        })
    }
}

fn encode(header: &Header, copy_sequence: u64) -> [u8; 4096] {
    let hashes = header.hashes;
    let raw = RawHeader {
        magic: MAGIC,
        version: VERSION.into(),
        features: KNOWN_FEATURES.into(),
        copy_sequence: copy_sequence.into(),
        size: header.geometry.size().into(),
        epoch: header.epoch.get().into(),
        ledger_sequence: header.ledger_sequence.into(),
        hash_entries: hashes.map_or(0, |hashes| hashes.entries).into(),
        layer: header.layer.to_bytes(),
        parent: LayerId::to_field(header.parent),
        root: hashes.map_or([0; 32], |hashes| hashes.root.to_bytes()),
        kind: match header.label.kind {
            LayerKind::Head => 1,
            LayerKind::Snapshot => 2,
            LayerKind::Image => 3,
        },
        state: match header.state {
            LayerState::Open => 1,
            LayerState::Sealed => 2,
        },
        hashed: u8::from(hashes.is_some()),
        padding: [0; 5],
        disk: field(header.disk.as_ref().map_or("", DiskId::as_str)),
        resource: field(&header.label.id),
        account: field(&header.label.account),
        name: field(&header.label.name),
        zeros: [0; 3708],
        crc: 0.into(),
    };
    let mut page: [u8; 4096] = zerocopy::transmute!(raw);
    let crc = crc32c::crc32c(&page[..CHECKED]);
    page[CHECKED..].copy_from_slice(&crc.to_le_bytes());
    page
}

/// The text of a fixed field, which zeros fill up.
pub(crate) fn text(field: &[u8]) -> Option<String> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    if field[end..].iter().any(|byte| *byte != 0) {
        return None;
    }
    Some(std::str::from_utf8(&field[..end]).ok()?.to_owned())
}

/// A fixed field that holds as much of the text as fits, whole characters only.
pub(crate) fn field<const N: usize>(text: &str) -> [u8; N] {
    let mut end = text.len().min(N);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut field = [0; N];
    field[..end].copy_from_slice(&text.as_bytes()[..end]);
    debug_assert!(bytes(end) <= bytes(N));
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            layer: LayerId::from_bytes([1; 16]),
            parent: Some(LayerId::from_bytes([2; 16])),
            geometry: Geometry::checked(ByteLength::new(1 << 30)).unwrap(),
            state: LayerState::Sealed,
            epoch: Epoch::new(9),
            ledger_sequence: 12,
            disk: Some("d-1".parse().unwrap()),
            label: LayerLabel {
                kind: LayerKind::Snapshot,
                id: "s-1".into(),
                account: "default".into(),
                name: "数据盘".into(),
            },
            hashes: Some(HashSummary { root: Root::from_bytes([7; 32]), entries: 3 }),
        }
    }

    #[test]
    fn a_header_reads_back_and_every_flipped_bit_is_found() {
        let page = encode(&header(), 4);
        let stored = parse(&page, "it").unwrap();
        assert_eq!((stored.header, stored.copy_sequence), (header(), 4));
        for bit in 0..4096 * 8 {
            let mut bad = page;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad, "it").is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_and_an_unknown_feature_are_named() {
        let mut page = encode(&header(), 1);
        page[8] = 2;
        let error = parse(&page, "it").unwrap_err().to_string();
        assert!(error.contains("version 2"), "{error}");
        let mut page = encode(&header(), 1);
        page[12] = 4;
        let crc = crc32c::crc32c(&page[..CHECKED]);
        page[CHECKED..].copy_from_slice(&crc.to_le_bytes());
        let error = parse(&page, "it").unwrap_err().to_string();
        assert!(error.contains("bit 2"), "{error}");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let cut: [u8; 4] = field("数据");
        assert_eq!(text(&cut).unwrap(), "数");
    }
}
