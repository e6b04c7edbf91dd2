//! The bytes of a layer's `owners` file: which layer of its chain holds which block.
//!
//! ```text
//! file:    0        4096        sectors_start
//!          | header | directory | sector 0 | sector 1 | ...
//! header:  0 magic "REINITOW"   8 version u32    12 features u32   16 layer id (16)
//!         32 lineage (32)      64 size u64       72 sectors u64    80 layers u32
//!         84 crc32c u32 of the directory         88 zeros        4092 crc32c over 0..4092
//! sector:  504 bytes, then a check word u64
//! ```
//! The directory has a u32 for each group of 252 clusters, and one more: the number of the group's
//! first sector. A group that nobody says anything of has no sector; any other has one with a u16
//! a cluster, then as many as it needs for its rows, 15 in a sector.
//!
//! ```text
//! u16 a cluster:  0 nobody   1.. layer, counted from the bottom of the chain   0x8000 + n row n
//! row:            16 such numbers, one a block, never a row again
//! ```
//! What must always hold: every byte that is believed is under a checksum that covers its place and
//! the lineage too (which layers, in which order, how large). Nothing reads as "nobody" by being
//! lost: a sector of zeros has a wrong check word.
//! Left to others: reading it (`owner_table`), making it (`owner_builder`).

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U32, U64},
};

use crate::{
    geometry::{ClusterIndex, Geometry, MAP_SECTOR, PAGE, SECTOR_WORDS, bytes, index},
    header::Header,
    id::LayerId,
    sealed_layer::SealedLayer,
};

/// Clusters of a group: those of four map sectors, as many as a sector has room for.
pub(crate) const GROUP: u64 = 4 * SECTOR_WORDS;
/// Rows of a sector.
pub(crate) const SECTOR_ROWS: usize = 15;
/// Bytes of a row.
pub(crate) const ROW_BYTES: usize = 32;
/// Where the directory lies.
pub(crate) const DIRECTORY_START: u64 = PAGE;
/// Set in a cluster's number if the rest of it is the number of a row.
pub(crate) const IS_ROW: u16 = 0x8000;
/// Bytes of a sector.
pub(crate) const SECTOR: usize = 512;

const MAGIC: [u8; 8] = *b"REINITOW";
const VERSION: u32 = 1;
const CHECKED: usize = 4092;
const CHECK_WORD: usize = SECTOR - 8;

/// A layer as counted from the bottom of a chain, from 1; 0 is nobody.
pub(crate) type Speaker = u16;

/// Who holds each of the 16 blocks of a cluster.
pub(crate) type Row = [Speaker; 16];

/// Which chain a table is about: another chain has another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lineage {
    pub(crate) layer: LayerId,
    pub(crate) geometry: Geometry,
    /// Layers of the chain.
    pub(crate) layers: Speaker,
    digest: [u8; 32],
}

impl Lineage {
    /// That of a chain, uppermost first.
    pub(crate) fn of(chain: &[std::sync::Arc<SealedLayer>]) -> Self {
        let headers: Vec<_> = chain.iter().map(|layer| &layer.header).collect();
        Self::of_headers(&headers)
    }

    /// The same from the headers alone.
    pub(crate) fn of_headers(chain: &[&Header]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"reinit owners 1");
        for header in chain.iter().rev() {
            hasher.update(&header.layer.to_bytes());
            hasher.update(&header.epoch.get().to_le_bytes());
            hasher.update(&header.geometry.size().to_le_bytes());
        }
        let top = chain[0];
        Self {
            layer: top.layer,
            geometry: top.geometry,
            layers: Speaker::try_from(chain.len()).expect("a chain is bounded"),
            digest: *hasher.finalize().as_bytes(),
        }
    }

    /// How many groups its clusters make.
    pub(crate) fn groups(&self) -> u64 {
        self.geometry.clusters().div_ceil(GROUP)
    }

    /// Where sector 0 lies: after the directory, whose last sector is filled up with zeros.
    pub(crate) fn sectors_start(&self) -> u64 {
        (DIRECTORY_START + 4 * (self.groups() + 1)).next_multiple_of(MAP_SECTOR)
    }

    /// The check word of a sector.
    pub(crate) fn check_word(&self, sector: u64, content: &[u8]) -> u64 {
        let crc = crc32c::crc32c_append(crc32c::crc32c(content), &self.digest);
        u64::from(crc32c::crc32c_append(crc, &sector.to_le_bytes()))
    }

    /// Whether a sector is what was written there.
    pub(crate) fn fits(&self, sector: u64, bytes: &[u8; SECTOR]) -> bool {
        let (content, check) = bytes.split_at(CHECK_WORD);
        check == self.check_word(sector, content).to_le_bytes()
    }
}

/// The group of a cluster, and its place there.
pub(crate) fn place_of(cluster: ClusterIndex) -> (usize, usize) {
    (index(cluster.0 / GROUP), index(cluster.0 % GROUP))
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    features: U32,
    layer: [u8; 16],
    lineage: [u8; 32],
    size: U64,
    sectors: U64,
    layers: U32,
    directory_crc: U32,
    zeros: [u8; 4004],
    crc: U32,
}

const _: () = assert!(size_of::<RawHeader>() == 4096);
const _: () = assert!(std::mem::offset_of!(RawHeader, crc) == CHECKED);

/// What the header says beside whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) sectors: u64,
    pub(crate) directory_crc: u32,
}

/// The header of a table.
pub(crate) fn encode_header(lineage: &Lineage, summary: Summary) -> [u8; 4096] {
    let raw = RawHeader {
        magic: MAGIC,
        version: VERSION.into(),
        features: 0.into(),
        layer: lineage.layer.to_bytes(),
        lineage: lineage.digest,
        size: lineage.geometry.size().into(),
        sectors: summary.sectors.into(),
        layers: u32::from(lineage.layers).into(),
        directory_crc: summary.directory_crc.into(),
        zeros: [0; 4004],
        crc: 0.into(),
    };
    let mut page: [u8; 4096] = zerocopy::transmute!(raw);
    let crc = crc32c::crc32c(&page[..CHECKED]);
    page[CHECKED..].copy_from_slice(&crc.to_le_bytes());
    page
}

/// What a header says, if it is that of a table of this chain.
pub(crate) fn parse_header(page: &[u8; 4096], lineage: &Lineage) -> Result<Summary, &'static str> {
    let raw = RawHeader::ref_from_bytes(page).expect("the size of a header");
    if crc32c::crc32c(&page[..CHECKED]) != raw.crc.get() || raw.magic != MAGIC {
        return Err("the checksum of its header is wrong");
    }
    if raw.version.get() != VERSION || raw.features.get() != 0 {
        return Err("its version or a feature of it is not known");
    }
    let is_ours = raw.layer == lineage.layer.to_bytes()
        && raw.lineage == lineage.digest
        && raw.size.get() == lineage.geometry.size()
        && raw.layers.get() == u32::from(lineage.layers);
    if !is_ours {
        return Err("it is about another chain of layers");
    }
    Ok(Summary { sectors: raw.sectors.get(), directory_crc: raw.directory_crc.get() })
}

/// The sectors of one group, the first of which has this number; none if nobody says anything.
pub(crate) fn encode_group(lineage: &Lineage, first: u64, rows: &[Row]) -> Vec<u8> {
    let (mut numbers, mut mixed) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        numbers.push(match only_speaker(row) {
            Some(speaker) => speaker,
            None => {
                mixed.push(*row);
                IS_ROW | Speaker::try_from(mixed.len() - 1).expect("fewer than a group's clusters")
            }
        });
    }
    if numbers.iter().all(|number| *number == 0) {
        return Vec::new();
    }
    let mut sectors = sector_of(numbers);
    for rows in mixed.chunks(SECTOR_ROWS) {
        sectors.extend(sector_of(rows.concat()));
    }
    for (number, sector) in sectors.chunks_exact_mut(SECTOR).enumerate() {
        let (content, check) = sector.split_at_mut(CHECK_WORD);
        let word = lineage.check_word(first + bytes(number), content);
        check.copy_from_slice(&word.to_le_bytes());
    }
    sectors
}

/// The one layer that holds all that anybody holds of a cluster, 0 if nobody does; none if there
/// are several.
fn only_speaker(row: &Row) -> Option<Speaker> {
    let first = row.iter().find(|speaker| **speaker != 0).copied().unwrap_or(0);
    row.iter().all(|speaker| *speaker == 0 || *speaker == first).then_some(first)
}

/// The blocks that a layer holds by a row.
pub(crate) fn blocks_of(row: &Row, speaker: Speaker) -> u16 {
    let bit = |block: usize| u16::from(row[block] == speaker) << block;
    (0..row.len()).map(bit).fold(0, |blocks, bit| blocks | bit)
}

fn sector_of(numbers: Vec<Speaker>) -> Vec<u8> {
    let mut sector: Vec<u8> = numbers.into_iter().flat_map(Speaker::to_le_bytes).collect();
    sector.resize(SECTOR, 0);
    sector
}
