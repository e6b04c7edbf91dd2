//! The words of one layer, in two views.
//!
//! The live view is mapped memory and answers reads; for a head it is private, so that a word
//! never reaches the file before its data does. The durable view is the file.
//!
//! What must always hold
//! 1. A map sector's check word is verified at first touch, before any word of it is believed or
//!    changed; the file was synced and its cached pages dropped before it was mapped.
//! 2. The durable view gets captured words only, built upon the durable sector.
//! 3. No word has an epoch above the header's: such a word is damage.
//!
//! Left to others: when data is durable (`flush`), which words may change (`head`).

use std::{io::IoSlice, ops::Range, sync::Arc};

use parking_lot::Mutex;

use crate::{
    checked_sectors::CheckedSectors,
    error::StoreError,
    geometry::{
        ClusterIndex, Geometry, MAP_SECTOR, SECTOR_WORDS, SectorIndex, WORDS_START, bytes, index,
    },
    id::{EpochTag, LayerId},
    map_sector::{self, MapSector},
    mapped_file::MappedWords,
    storage::StorageFile,
    word::Word,
};

/// A word of a map that is gone through, or why it cannot be had.
pub(crate) type StoredWord = Result<(ClusterIndex, Word), StoreError>;

/// The words of one layer.
#[derive(Debug)]
pub(crate) struct ClusterMap {
    layer: LayerId,
    geometry: Geometry,
    file: Arc<dyn StorageFile>,
    live: MappedWords,
    /// No word of the file may have a higher epoch.
    highest: EpochTag,
    /// Sectors whose check word was found right.
    verified: CheckedSectors,
    /// Held while a sector is verified, so that nobody stores into it meanwhile.
    verifying: Mutex<()>,
}

impl ClusterMap {
    /// The words of a head: changes stay in this process until they are persisted.
    pub(crate) fn of_head(
        file: Arc<dyn StorageFile>,
        layer: LayerId,
        geometry: Geometry,
        highest: EpochTag,
    ) -> Result<Self, StoreError> {
        let live = MappedWords::private(file.file(), index(geometry.words_end()))
            .map_err(StoreError::io(format!("mapping the map of layer {layer}")))?;
        Ok(Self::new(file, layer, geometry, highest, live))
    }

    /// The words of a sealed layer.
    pub(crate) fn of_sealed(
        file: Arc<dyn StorageFile>,
        layer: LayerId,
        geometry: Geometry,
        highest: EpochTag,
    ) -> Result<Self, StoreError> {
        let live = MappedWords::read_only(file.file(), index(geometry.words_end()))
            .map_err(StoreError::io(format!("mapping the map of layer {layer}")))?;
        Ok(Self::new(file, layer, geometry, highest, live))
    }

    fn new(
        file: Arc<dyn StorageFile>,
        layer: LayerId,
        geometry: Geometry,
        highest: EpochTag,
        live: MappedWords,
    ) -> Self {
        let verified = CheckedSectors::none_of(geometry.sectors());
        Self { layer, geometry, file, live, highest, verified, verifying: Mutex::new(()) }
    }

    /// The word of a cluster; a cluster past the layer's end has an empty one.
    pub(crate) fn word(&self, cluster: ClusterIndex) -> Result<Word, StoreError> {
        #[cfg(test)]
        looked::once_more();
        if !self.geometry.holds(cluster) {
            return Ok(Word::default());
        }
        if !self.is_verified(cluster.sector()) {
            self.verify(cluster.sector())?;
        }
        Ok(Word::from_bits(self.live.load(cluster.word_offset())))
    }

    /// Changes the live word of a cluster. The caller holds the cluster's lock and has looked at
    /// the word, which verified its sector.
    pub(crate) fn set(&self, cluster: ClusterIndex, word: Word) {
        assert!(self.is_verified(cluster.sector()), "a word is looked at before it is changed");
        self.live.store(cluster.word_offset(), word.bits());
    }

    /// Writes captured words into the durable view; sorted by cluster. The caller syncs.
    pub(crate) fn persist(&self, captured: &[(ClusterIndex, Word)]) -> Result<(), StoreError> {
        captured
            .chunk_by(|a, b| b.0.sector().0 - a.0.sector().0 <= 1)
            .try_for_each(|run| self.persist_run(run))
    }

    /// Writes captured words whose sectors follow one another: one read, one write.
    fn persist_run(&self, run: &[(ClusterIndex, Word)]) -> Result<(), StoreError> {
        let [(first, _), ..] = run else { return Ok(()) };
        let last = run[run.len() - 1].0.sector();
        let (first, start) = (first.sector(), first.sector().offset());
        let mut buffer = vec![0; index((last.0 - first.0 + 1) * MAP_SECTOR)];
        let io = |verb: &str| StoreError::io(format!("{verb} the map of layer {}", self.layer));
        self.file.read_exact_at(&mut buffer, start).map_err(io("reading"))?;
        let (sectors, _) = buffer.as_chunks_mut::<{ map_sector::BYTES }>();
        for changes in run.chunk_by(|a, b| a.0.sector() == b.0.sector()) {
            let sector = changes[0].0.sector();
            let bytes = &mut sectors[index(sector.0 - first.0)];
            let mut parsed = MapSector::parse(bytes, self.layer, sector)
                .map_err(|_| self.damage(sector, "its check word is wrong"))?;
            for (cluster, word) in changes {
                parsed.words[cluster.place_in_sector()] = *word;
            }
            *bytes = parsed.encode(self.layer, sector);
        }
        self.file.write_all_at(&[IoSlice::new(&buffer)], start).map_err(io("writing"))
    }

    /// Makes the durable view survive power loss.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }

    /// Clusters whose word may say something, in order, with the word. One after another: there may
    /// be as many as the disk has clusters.
    pub(crate) fn stored_words(&self) -> Result<impl Iterator<Item = StoredWord>, StoreError> {
        let clusters = |sector: SectorIndex| {
            let first = sector.first_cluster().0;
            (first..first + SECTOR_WORDS).map(ClusterIndex)
        };
        let words = self.stored_sectors()?.into_iter().flat_map(clusters);
        let words = words.map(|cluster| Ok((cluster, self.word(cluster)?)));
        Ok(words.filter(|found| !matches!(found, Ok((_, word)) if *word == Word::default())))
    }

    /// Sectors that are not holes of the file, or were touched in this process.
    pub(crate) fn stored_sectors(&self) -> Result<Vec<SectorIndex>, StoreError> {
        #[cfg(test)]
        looked::once_more();
        let mut stored = vec![false; index(self.geometry.sectors())];
        for range in self.stored_ranges()? {
            let first = (range.start.max(WORDS_START) - WORDS_START) / MAP_SECTOR;
            let end = (range.end.max(WORDS_START) - WORDS_START).div_ceil(MAP_SECTOR);
            let end = index(end.min(self.geometry.sectors()));
            stored[index(first).min(end)..end].fill(true);
        }
        let sectors = (0..self.geometry.sectors()).map(SectorIndex);
        Ok(sectors.filter(|s| stored[index(s.0)] || self.is_verified(*s)).collect())
    }

    fn stored_ranges(&self) -> Result<Vec<Range<u64>>, StoreError> {
        let (mut from, mut ranges) = (WORDS_START, Vec::new());
        while from < self.geometry.words_end() {
            let next =
                self.file.next_data(from).map_err(StoreError::io("looking for map words"))?;
            let Some(range) = next else { break };
            from = range.end;
            ranges.push(range);
        }
        Ok(ranges)
    }

    fn is_verified(&self, sector: SectorIndex) -> bool {
        self.verified.holds(sector.0)
    }

    #[cold]
    fn verify(&self, sector: SectorIndex) -> Result<(), StoreError> {
        let _nobody_stores = self.verifying.lock();
        if self.is_verified(sector) {
            return Ok(());
        }
        let start = index(sector.offset());
        self.live
            .populate(start, map_sector::BYTES)
            .map_err(StoreError::io(format!("reading the map of layer {}", self.layer)))?;
        let mut bytes = [0; map_sector::BYTES];
        for (place, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&self.live.load(start + 8 * place).to_le_bytes());
        }
        self.judge(sector, &bytes)?;
        self.verified.add(sector.0);
        Ok(())
    }

    fn judge(
        &self,
        sector: SectorIndex,
        bytes: &[u8; map_sector::BYTES],
    ) -> Result<(), StoreError> {
        let parsed = MapSector::parse(bytes, self.layer, sector)
            .map_err(|_| self.damage(sector, "its check word is wrong"))?;
        if parsed.words.iter().any(|word| word.is_impossible()) {
            return Err(self.damage(sector, "a word says what no word can say"));
        }
        if parsed.words.iter().any(|word| word.epoch() > self.highest) {
            return Err(self.damage(sector, "a word's epoch is above its header's"));
        }
        Ok(())
    }

    fn damage(&self, sector: SectorIndex, detail: &str) -> StoreError {
        StoreError::damaged(
            format!("the map of layer {}", self.layer),
            format!("sector {} at byte {}: {detail}", sector.0, sector.offset()),
        )
    }
}

/// Writes the words of a layer that is being made, sorted by cluster, into a map file of zeros.
pub(crate) fn write_new_words(
    file: &dyn StorageFile,
    layer: LayerId,
    words: &[(ClusterIndex, Word)],
) -> std::io::Result<()> {
    for run in words.chunk_by(|a, b| b.0.sector().0 - a.0.sector().0 <= 1) {
        let mut buffer = Vec::new();
        let first = run[0].0.sector();
        for changes in run.chunk_by(|a, b| a.0.sector() == b.0.sector()) {
            let mut sector = MapSector { words: [Word::default(); map_sector::WORDS] };
            for (cluster, word) in changes {
                sector.words[cluster.place_in_sector()] = *word;
            }
            buffer.extend_from_slice(&sector.encode(layer, changes[0].0.sector()));
        }
        debug_assert_eq!(bytes(buffer.len()) % MAP_SECTOR, 0);
        file.write_all_at(&[IoSlice::new(&buffer)], first.offset())?;
    }
    Ok(())
}

/// How often this thread looked into a map: tests count it.
#[cfg(test)]
pub(crate) mod looked {
    use std::cell::Cell;

    thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });

    pub(super) fn once_more() {
        COUNT.set(COUNT.get() + 1);
    }

    /// How often since the last call.
    pub(crate) fn since_last() -> u64 {
        COUNT.replace(0)
    }
}
