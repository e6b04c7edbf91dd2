//! Every conversion between bytes, blocks, clusters and places in a map file.
//!
//! What must always hold: nobody else knows how many blocks make a cluster or where a word lies.
//!
//! ```text
//! map file:  0        4096     8192                 words_end
//!            | header | header | sector, sector ... | hash pages (sealed layers)
//! sector:    63 words of 8 bytes, then a check word
//! ```

use std::ops::Range;

use block_device::{BLOCK, ByteLength, CLUSTER};

/// Bytes of one copy of a layer's header, and the alignment of sections of a map file.
pub(crate) const PAGE: u64 = 4096;
/// Bytes of a map sector.
pub(crate) const MAP_SECTOR: u64 = 512;
/// Words of a map sector; the place after them is its check word's.
pub(crate) const SECTOR_WORDS: u64 = 63;
/// Where the first map sector lies: after two copies of the header.
pub(crate) const WORDS_START: u64 = 2 * PAGE;
/// The largest disk: what 2^48 bytes hold keeps every product here far from overflow.
pub(crate) const MAX_SIZE: u64 = 1 << 48;

/// Which cluster of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClusterIndex(pub(crate) u64);

/// Which sector of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SectorIndex(pub(crate) u64);

impl ClusterIndex {
    /// The cluster that holds this byte.
    pub(crate) fn of(offset: u64) -> Self {
        Self(offset / CLUSTER)
    }

    /// Its first byte.
    pub(crate) fn start(self) -> u64 {
        self.0 * CLUSTER
    }

    /// The map sector that holds its word.
    pub(crate) fn sector(self) -> SectorIndex {
        SectorIndex(self.0 / SECTOR_WORDS)
    }

    /// Which word of its sector is its own.
    pub(crate) fn place_in_sector(self) -> usize {
        index(self.0 % SECTOR_WORDS)
    }

    /// Where its word lies in the map file.
    pub(crate) fn word_offset(self) -> usize {
        index(self.sector().offset() + (self.0 % SECTOR_WORDS) * 8)
    }

    /// The blocks of this cluster that the bytes of `range` touch, as bits.
    pub(crate) fn blocks_touched(self, range: &Range<u64>) -> u16 {
        let start = range.start.max(self.start());
        let end = range.end.min(self.start() + CLUSTER);
        if start >= end {
            return 0;
        }
        let first = (start - self.start()) / BLOCK;
        let last = (end - 1 - self.start()) / BLOCK;
        mask(first, last + 1)
    }

    /// The blocks of this cluster that lie wholly inside `range`, as bits.
    pub(crate) fn blocks_covered(self, range: &Range<u64>) -> u16 {
        let start = range.start.max(self.start()) - self.start();
        let end = range.end.min(self.start() + CLUSTER).saturating_sub(self.start());
        let (first, last) = (start.div_ceil(BLOCK), end / BLOCK);
        if first < last { mask(first, last) } else { 0 }
    }
}

impl SectorIndex {
    /// Where it lies in the map file.
    pub(crate) fn offset(self) -> u64 {
        WORDS_START + self.0 * MAP_SECTOR
    }

    /// The first cluster whose word it holds.
    pub(crate) fn first_cluster(self) -> ClusterIndex {
        ClusterIndex(self.0 * SECTOR_WORDS)
    }
}

/// The shape of a layer: how large it is and what follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    size: u64,
}

impl Geometry {
    /// The shape of a layer of `size` bytes, if that is a size a disk can have.
    pub(crate) fn checked(size: ByteLength) -> Option<Self> {
        let size = size.get();
        let fits = (1..=MAX_SIZE).contains(&size) && size.is_multiple_of(512);
        fits.then_some(Self { size })
    }

    /// Bytes of the disk.
    pub(crate) fn size(self) -> u64 {
        self.size
    }

    /// How many clusters it has; the last may be partial.
    pub(crate) fn clusters(self) -> u64 {
        self.size.div_ceil(CLUSTER)
    }

    /// How many map sectors it has.
    pub(crate) fn sectors(self) -> u64 {
        self.clusters().div_ceil(SECTOR_WORDS)
    }

    /// Where the words end in the map file, and other sections may begin.
    pub(crate) fn words_end(self) -> u64 {
        (WORDS_START + self.sectors() * MAP_SECTOR).next_multiple_of(PAGE)
    }

    /// Whether the cluster is one of this layer.
    pub(crate) fn holds(self, cluster: ClusterIndex) -> bool {
        cluster.0 < self.clusters()
    }
}

/// The clusters that the bytes of `range` touch.
pub(crate) fn clusters_of(range: &Range<u64>) -> impl Iterator<Item = ClusterIndex> + use<> {
    (range.start / CLUSTER..range.end.div_ceil(CLUSTER)).map(ClusterIndex)
}

/// Bits `first..end` of a mask of blocks.
fn mask(first: u64, end: u64) -> u16 {
    let bits = ((1_u32 << end) - 1) & !((1_u32 << first) - 1);
    u16::try_from(bits).expect("a cluster has 16 blocks")
}

/// A place in memory; a 64-bit system is required.
#[expect(clippy::cast_possible_truncation, reason = "both have 64 bits, checked when compiled")]
pub(crate) const fn index(place: u64) -> usize {
    const { assert!(usize::BITS == 64, "layers are mapped whole: 64 bits are needed") };
    place as usize
}

/// A length in memory as bytes.
pub(crate) fn bytes(length: usize) -> u64 {
    u64::try_from(length).expect("64-bit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_never_lie_where_check_words_are() {
        for cluster in 0..1000 {
            let offset = ClusterIndex(cluster).word_offset();
            assert_ne!(offset % 512, 504, "cluster {cluster}");
        }
        assert_eq!(ClusterIndex(63).word_offset(), 8192 + 512);
    }

    #[test]
    fn masks_tell_touched_from_covered() {
        let cluster = ClusterIndex(1);
        let range = CLUSTER + 512..CLUSTER + 3 * BLOCK;
        assert_eq!(cluster.blocks_touched(&range), 0b111);
        assert_eq!(cluster.blocks_covered(&range), 0b110);
        assert_eq!(cluster.blocks_covered(&(0..2 * CLUSTER)), 0xffff);
        assert_eq!(ClusterIndex(0).blocks_touched(&range), 0);
        assert_eq!(cluster.blocks_covered(&(CLUSTER + 1..CLUSTER + BLOCK)), 0);
    }

    #[test]
    fn sizes_no_disk_can_have_are_refused() {
        for size in [0, 511, 513, MAX_SIZE + 512, u64::MAX] {
            assert_eq!(Geometry::checked(ByteLength::new(size)), None, "{size}");
        }
        let tib = Geometry::checked(ByteLength::new(1 << 40)).unwrap();
        assert_eq!(tib.words_end() / (1 << 20), 130, "1 TiB costs about 130 MiB of sparse map");
    }
}
