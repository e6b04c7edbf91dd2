//! Owner tables: who holds a block of a chain, without a walk through it.
//!
//! What must always hold
//! 1. A table is derived: without it a read walks and gives the same bytes. So whatever is wrong
//!    with one is told in the log, and the table is not used again.
//! 2. Nothing of it is believed before it was checked: header and directory when it is opened, each
//!    sector at first touch. Who uses an answer also asks the layer named whether it holds the block.
//!
//! The file needs no sync before it is believed: what a killed process left in the cache is right
//! if its checksums are, and what the device lost is missed by them.
//! Left to others: the bytes (`owner_file`), making one (`owner_builder`).

use std::{
    io,
    ops::Range,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use crate::{
    checked_sectors::CheckedSectors,
    geometry::{ClusterIndex, bytes, index},
    layer_files,
    mapped_file::MappedWords,
    owner_file::{
        self, DIRECTORY_START, IS_ROW, Lineage, ROW_BYTES, Row, SECTOR, SECTOR_ROWS, Speaker,
        Summary,
    },
    storage::{Storage, StorageFile},
    worker::Job,
};

/// An open table.
#[derive(Debug)]
pub(crate) struct OwnerTable {
    lineage: Lineage,
    groups: usize,
    sectors: u64,
    /// All of the file: as many tables may be open as there are layers, so none takes memory that
    /// the kernel cannot take back.
    words: MappedWords,
    checked: CheckedSectors,
    /// Something of it was wrong: the walk does the work.
    is_distrusted: AtomicBool,
    jobs: mpsc::Sender<Job>,
}

/// Who holds the blocks of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holders {
    /// One layer holds all that anybody holds; 0 is nobody.
    One(Speaker),
    /// One for each block.
    Each(Row),
}

/// Why a table is not to be believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untrue {
    #[error("{0}")]
    Detail(&'static str),
    #[error("sector {sector}: {detail}")]
    Sector { sector: u64, detail: &'static str },
    #[error("reading it failed: {0}")]
    Io(#[from] io::Error),
}

impl OwnerTable {
    /// The table of a layer, if it has one that can be believed.
    pub(crate) fn open(
        storage: &dyn Storage,
        lineage: Lineage,
        jobs: &mpsc::Sender<Job>,
    ) -> Option<Self> {
        let layer = lineage.layer;
        let opened = storage
            .open(&layer_files::owners_of(layer))
            .map_err(Untrue::from)
            .and_then(|file| Self::check(&*file, lineage, jobs));
        match opened {
            Ok(table) => Some(table),
            Err(Untrue::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%layer, %error, "an owner table is not used and will be made anew");
                None
            }
        }
    }

    fn check(
        file: &dyn StorageFile,
        lineage: Lineage,
        jobs: &mpsc::Sender<Job>,
    ) -> Result<Self, Untrue> {
        let summary = check_frame(file, &lineage)?;
        let length = length_of(&lineage, summary)?;
        let words = MappedWords::read_only(file.file(), index(length))?;
        words.populate(0, index(lineage.sectors_start()))?;
        Ok(Self {
            words,
            checked: CheckedSectors::none_of(summary.sectors),
            groups: index(lineage.groups()),
            sectors: summary.sectors,
            lineage,
            is_distrusted: AtomicBool::new(false),
            jobs: jobs.clone(),
        })
    }

    /// Whether nothing wrong was found so far.
    pub(crate) fn is_trusted(&self) -> bool {
        // Relaxed: who comes too late finds the same damage.
        !self.is_distrusted.load(Ordering::Relaxed)
    }

    /// Ends the use of the table, and has a new one made.
    #[cold]
    pub(crate) fn distrust(&self, error: &Untrue) {
        // Relaxed: see `is_trusted`.
        if !self.is_distrusted.swap(true, Ordering::Relaxed) {
            let layer = self.lineage.layer;
            tracing::warn!(%layer, %error, "an owner table is damaged; reads walk instead");
            // When the worker is gone the store is closing; the next one finds the damage again.
            let _ = self.jobs.send(Job::RenewOwners(layer));
        }
    }

    /// Who holds the blocks of a cluster.
    pub(crate) fn holders(&self, cluster: ClusterIndex) -> Result<Holders, Untrue> {
        let (group, place) = owner_file::place_of(cluster);
        let sectors = self.sectors_of(group)?;
        let Some(first) = sectors.clone().next() else { return Ok(Holders::One(0)) };
        let word = self.word(first, place / 4 * 8)?;
        let number = Speaker::from_le_bytes(word.as_chunks().0[place % 4]);
        if number & IS_ROW == 0 {
            return self.known(first, number).map(Holders::One);
        }
        let row = usize::from(number & !IS_ROW);
        let sector = first + 1 + bytes(row / SECTOR_ROWS);
        if sector >= sectors.end {
            return Err(Untrue::Sector { sector: first, detail: "it names a row there is not" });
        }
        self.row(sector, row % SECTOR_ROWS).map(Holders::Each)
    }

    /// The groups that anybody may say something of.
    pub(crate) fn groups(&self) -> impl Iterator<Item = usize> {
        // What cannot be told is looked at.
        let is_empty = |group: usize| self.sectors_of(group).is_ok_and(|s| s.is_empty());
        (0..self.groups).filter(move |group| !is_empty(*group))
    }

    /// The sectors of a group; none past the end of the layer.
    fn sectors_of(&self, group: usize) -> Result<Range<u64>, Untrue> {
        if group >= self.groups {
            return Ok(0..0);
        }
        let sectors = self.first_sector(group)..self.first_sector(group + 1);
        if sectors.start > sectors.end || sectors.end > self.sectors {
            return Err(Untrue::Detail("its directory is not what it was"));
        }
        Ok(sectors)
    }

    fn first_sector(&self, group: usize) -> u64 {
        let word = self.words.load(index(DIRECTORY_START) + group / 2 * 8).to_le_bytes();
        u64::from(u32::from_le_bytes(word.as_chunks().0[group % 2]))
    }

    fn row(&self, sector: u64, place: usize) -> Result<Row, Untrue> {
        let mut row = [0; 16];
        for (quarter, speakers) in row.chunks_exact_mut(4).enumerate() {
            let word = self.word(sector, ROW_BYTES * place + 8 * quarter)?;
            for (speaker, bytes) in speakers.iter_mut().zip(word.as_chunks::<2>().0) {
                *speaker = self.known(sector, Speaker::from_le_bytes(*bytes))?;
            }
        }
        Ok(row)
    }

    /// The number, if the chain has such a layer.
    fn known(&self, sector: u64, speaker: Speaker) -> Result<Speaker, Untrue> {
        if speaker > self.lineage.layers {
            return Err(Untrue::Sector { sector, detail: "it names a layer there is not" });
        }
        Ok(speaker)
    }

    /// Eight bytes of a sector, which is checked first.
    fn word(&self, sector: u64, offset: usize) -> Result<[u8; 8], Untrue> {
        if !self.checked.holds(sector) {
            self.check_sector(sector)?;
        }
        Ok(self.words.load(self.start_of(sector) + offset).to_le_bytes())
    }

    #[cold]
    fn check_sector(&self, sector: u64) -> Result<(), Untrue> {
        let start = self.start_of(sector);
        self.words.populate(start, SECTOR)?;
        let mut content = [0; SECTOR];
        for (place, chunk) in content.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&self.words.load(start + 8 * place).to_le_bytes());
        }
        if !self.lineage.fits(sector, &content) {
            return Err(Untrue::Sector { sector, detail: "its check word is wrong" });
        }
        self.checked.add(sector);
        Ok(())
    }

    fn start_of(&self, sector: u64) -> usize {
        index(self.lineage.sectors_start()) + index(sector) * SECTOR
    }
}

/// Whether all of a table is as it was written, for this chain; nothing is mapped.
pub(crate) fn verify(file: &dyn StorageFile, lineage: &Lineage) -> Result<(), Untrue> {
    let summary = check_frame(file, lineage)?;
    for sector in 0..summary.sectors {
        let mut content = [0; SECTOR];
        file.read_exact_at(&mut content, lineage.sectors_start() + sector * bytes(SECTOR))?;
        if !lineage.fits(sector, &content) {
            return Err(Untrue::Sector { sector, detail: "its check word is wrong" });
        }
    }
    Ok(())
}

/// Header, directory and length.
fn check_frame(file: &dyn StorageFile, lineage: &Lineage) -> Result<Summary, Untrue> {
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 0)?;
    let summary = owner_file::parse_header(&page, lineage).map_err(Untrue::Detail)?;
    check_directory(file, lineage, summary)?;
    if file.length()? != length_of(lineage, summary)? {
        return Err(Untrue::Detail("it is cut short or too long"));
    }
    Ok(summary)
}

fn length_of(lineage: &Lineage, summary: Summary) -> Result<u64, Untrue> {
    summary
        .sectors
        .checked_mul(bytes(SECTOR))
        .and_then(|sectors| sectors.checked_add(lineage.sectors_start()))
        .ok_or(Untrue::Detail("it claims to be endless"))
}

fn check_directory(
    file: &dyn StorageFile,
    lineage: &Lineage,
    summary: Summary,
) -> Result<(), Untrue> {
    let mut buffer = vec![0; index(lineage.sectors_start() - DIRECTORY_START)];
    file.read_exact_at(&mut buffer, DIRECTORY_START)?;
    if crc32c::crc32c(&buffer) != summary.directory_crc {
        return Err(Untrue::Detail("the checksum of its directory is wrong"));
    }
    let (numbers, _) = buffer.as_chunks::<4>();
    let numbers = numbers.iter().take(index(lineage.groups() + 1));
    let directory: Vec<u32> = numbers.map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let is_sound = directory.first() == Some(&0)
        && directory.is_sorted()
        && directory.last().map(|end| u64::from(*end)) == Some(summary.sectors);
    if !is_sound {
        return Err(Untrue::Detail("its directory is not in order"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use block_device::{BLOCK, BlockDevice, ByteLength, ByteOffset, CLUSTER, Durability};

    use crate::{
        CommitError, FileStorage, LayerKind, LayerLabel, Store, layer_files, sealed_layer::asked,
    };

    const LAYERS: u64 = 48;
    const CLUSTERS: u64 = 40;

    /// A disk each of whose clusters is mixed from several of many layers.
    fn deep_disk(directory: &std::path::Path) -> Store {
        let storage = Arc::new(FileStorage::open(directory).unwrap());
        Store::create(&*storage).unwrap();
        let store = Store::open(storage).unwrap();
        store.settle_alone().unwrap();
        let disk = "d-1".parse().unwrap();
        let size = ByteLength::new(CLUSTERS * CLUSTER);
        store.create_disk(&disk, size, None).unwrap().publish().unwrap();
        for layer in 0..LAYERS {
            let handle = store.open_disk(&disk).unwrap();
            for cluster in 0..CLUSTERS {
                let place = cluster * CLUSTER + (layer + cluster) % 16 * BLOCK;
                handle.write_at(&[7; 512], ByteOffset::new(place), Durability::Cached).unwrap();
            }
            let label = LayerLabel { kind: LayerKind::Snapshot, ..layer_files::head_label() };
            store.snapshot(&disk, label, |_| Ok::<_, CommitError<()>>(())).unwrap();
        }
        store.wait_for_background();
        store
    }

    /// The most layers that were asked for one block, over all blocks of the disk.
    fn most_asked(store: &Store) -> u64 {
        let handle = store.open_disk(&"d-1".parse().unwrap()).unwrap();
        let mut most = 0;
        for block in 0..CLUSTERS * 16 {
            asked::since_last();
            let mut buffer = [0; 4096];
            handle.read_at(&mut buffer, ByteOffset::new(block * BLOCK)).unwrap();
            assert_eq!(buffer[..512], [7; 512]);
            most = most.max(asked::since_last());
        }
        most
    }

    #[test]
    fn a_read_asks_one_layer_however_many_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let store = deep_disk(directory.path());
        assert_eq!(most_asked(&store), 1, "with the tables that were made just now");
        drop(store);
        let storage = Arc::new(FileStorage::open(directory.path()).unwrap());
        let store = Store::open(storage).unwrap();
        store.settle_alone().unwrap();
        assert_eq!(most_asked(&store), 1, "with the table that was found");
    }
}
