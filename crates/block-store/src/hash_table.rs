//! The hash pages of a sealed layer: the hash, as read at this layer, of each cluster it touches.
//!
//! ```text
//! page:  0      entries: cluster u64 | hash (32), at most 102, sorted by cluster
//!        4080   count u32 | 4084 page index u32 | 4088 crc32c u32 over bytes 0..4088 and the
//!        4092   zeros                             layer's id
//! ```
//! The pages follow the words in the map file; the header says how many entries there are and is
//! written after them.
//!
//! What must always hold: a page whose checksum, index or order is wrong, or that tells of a cluster
//! past the end of its layer, is damage.
//! Left to others: what the hashes prove (`hashing`, `root`).

use std::io::IoSlice;

use crate::{
    error::StoreError,
    geometry::{PAGE, bytes, index},
    header::{HashSummary, Header, StoredHeader},
    id::{LayerId, Root},
    root::ClusterHash,
    storage::StorageFile,
};

const PAGE_ENTRIES: usize = 102;
const COUNT: usize = 4080;
const CHECKED: usize = 4088;

/// Writes the pages of a layer; sorted by cluster.
#[cfg(test)]
pub(crate) fn write(
    file: &dyn StorageFile,
    header: &Header,
    entries: &[(u64, ClusterHash)],
) -> Result<(), StoreError> {
    let mut pages = Pages::new(file, header);
    entries.chunks(PIECE).try_for_each(|piece| pages.add(piece))
}

/// As many entries as are written at a time, in full pages.
pub(crate) const PIECE: usize = PAGE_ENTRIES * 64;

/// The pages of a layer while they are made.
pub(crate) struct Pages<'f> {
    file: &'f dyn StorageFile,
    layer: LayerId,
    start: u64,
    entries: u64,
}

impl<'f> Pages<'f> {
    pub(crate) fn new(file: &'f dyn StorageFile, header: &Header) -> Self {
        Self { file, layer: header.layer, start: header.geometry.words_end(), entries: 0 }
    }

    /// Writes the next entries, sorted by cluster: [`PIECE`] of them, or fewer at the end.
    pub(crate) fn add(&mut self, entries: &[(u64, ClusterHash)]) -> Result<(), StoreError> {
        let first = self.entries / bytes(PAGE_ENTRIES);
        debug_assert!(self.entries.is_multiple_of(bytes(PAGE_ENTRIES)), "only the last is short");
        let pages: Vec<u8> = (index(first)..)
            .zip(entries.chunks(PAGE_ENTRIES))
            .flat_map(|(page, entries)| encode(self.layer, page, entries))
            .collect();
        let io = StoreError::io(format!("writing the hashes of layer {}", self.layer));
        self.file.write_all_at(&[IoSlice::new(&pages)], self.start + first * PAGE).map_err(io)?;
        self.entries += bytes(entries.len());
        Ok(())
    }

    /// How many entries were written.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }
}

/// Reads the hashes of a layer; none if they were not made yet.
pub(crate) fn read(
    file: &dyn StorageFile,
    layer: LayerId,
) -> Result<Option<Vec<(u64, ClusterHash)>>, StoreError> {
    let Some(table) = Table::of(file, layer)? else { return Ok(None) };
    table.entries().collect::<Result<_, _>>().map(Some)
}

/// The hashes of a layer, as its header tells of them.
pub(crate) struct Table<'f> {
    file: &'f dyn StorageFile,
    header: Header,
    count: u64,
    /// What they and those below are to give.
    pub(crate) root: Root,
}

impl<'f> Table<'f> {
    /// None if they were not made yet.
    pub(crate) fn of(
        file: &'f dyn StorageFile,
        layer: LayerId,
    ) -> Result<Option<Self>, StoreError> {
        let header = StoredHeader::read(file, layer)?.header;
        let table = |hashes: HashSummary| Self {
            file,
            count: hashes.entries,
            root: hashes.root,
            header: header.clone(),
        };
        Ok(header.hashes.map(table))
    }

    pub(crate) fn entries(&self) -> Entries<'f> {
        Entries::new(self.file, &self.header, self.count)
    }
}

/// The entries of a layer one after another, a page at a time: a layer may have as many as it has
/// clusters.
pub(crate) struct Entries<'f> {
    file: &'f dyn StorageFile,
    layer: LayerId,
    start: u64,
    /// How many the layer has.
    clusters: u64,
    page: u64,
    /// How many are to come after those of this page.
    left: u64,
    read: std::vec::IntoIter<(u64, ClusterHash)>,
    last: Option<u64>,
}

impl<'f> Entries<'f> {
    /// So many entries; after a failure there are no more.
    pub(crate) fn new(file: &'f dyn StorageFile, header: &Header, entries: u64) -> Self {
        let (start, clusters) = (header.geometry.words_end(), header.geometry.clusters());
        let (layer, read) = (header.layer, Vec::new().into_iter());
        Self { file, layer, start, clusters, page: 0, left: entries, read, last: None }
    }

    fn read_page(&mut self) -> Result<(), StoreError> {
        let (layer, page) = (self.layer, self.page);
        let mut buffer = [0; index(PAGE)];
        self.file
            .read_exact_at(&mut buffer, self.start + page * PAGE)
            .map_err(|_| damage(layer, page, "it cannot be read"))?;
        let mut entries = Vec::new();
        parse(&buffer, layer, page, &mut entries)?;
        let places = self.last.into_iter().chain(entries.iter().map(|(cluster, _)| *cluster));
        let is_full = bytes(entries.len()) == self.left.min(bytes(PAGE_ENTRIES));
        let is_inside = entries.last().is_none_or(|(cluster, _)| *cluster < self.clusters);
        if !places.is_sorted_by(|a, b| a < b) || !is_inside || !is_full {
            return Err(damage(layer, page, "the entries are not those that were written"));
        }
        self.left -= bytes(entries.len());
        self.last = entries.last().map(|(cluster, _)| *cluster);
        self.page += 1;
        self.read = entries.into_iter();
        Ok(())
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(u64, ClusterHash), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(entry) = self.read.next() {
            return Some(Ok(entry));
        }
        if self.left == 0 {
            return None;
        }
        if let Err(error) = self.read_page() {
            self.left = 0;
            return Some(Err(error));
        }
        self.read.next().map(Ok)
    }
}

fn encode(layer: LayerId, page: usize, entries: &[(u64, ClusterHash)]) -> [u8; index(PAGE)] {
    let mut buffer = [0; index(PAGE)];
    for (place, (cluster, hash)) in buffer.chunks_exact_mut(40).zip(entries) {
        place[..8].copy_from_slice(&cluster.to_le_bytes());
        place[8..].copy_from_slice(hash);
    }
    let short = |number: usize| u32::try_from(number).expect("few").to_le_bytes();
    buffer[COUNT..COUNT + 4].copy_from_slice(&short(entries.len()));
    buffer[COUNT + 4..CHECKED].copy_from_slice(&short(page));
    let crc = checksum(&buffer, layer).to_le_bytes();
    buffer[CHECKED..CHECKED + 4].copy_from_slice(&crc);
    buffer
}

fn parse(
    buffer: &[u8; index(PAGE)],
    layer: LayerId,
    page: u64,
    entries: &mut Vec<(u64, ClusterHash)>,
) -> Result<(), StoreError> {
    let word =
        |place: usize| u32::from_le_bytes(buffer[place..place + 4].try_into().expect("4 bytes"));
    if word(CHECKED) != checksum(buffer, layer) || u64::from(word(COUNT + 4)) != page {
        return Err(damage(layer, page, "its checksum is wrong"));
    }
    let count = index(u64::from(word(COUNT)));
    if count > PAGE_ENTRIES {
        return Err(damage(layer, page, "it claims more entries than it has room for"));
    }
    for entry in buffer.chunks_exact(40).take(count) {
        let cluster = u64::from_le_bytes(entry[..8].try_into().expect("8 bytes"));
        entries.push((cluster, entry[8..].try_into().expect("32 bytes")));
    }
    Ok(())
}

fn checksum(page: &[u8], layer: LayerId) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&page[..CHECKED]), &layer.to_bytes())
}

fn damage(layer: LayerId, page: u64, detail: &str) -> StoreError {
    StoreError::damaged(format!("hash page {page} of layer {layer}"), detail)
}

#[cfg(test)]
mod tests {
    use block_device::ByteLength;

    use crate::{Epoch, FileStorage, Storage, geometry::Geometry, header::LayerState, layer_files};

    use super::*;

    #[test]
    fn entries_written_in_pieces_read_back_one_after_another_and_a_page_out_of_place_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        let file = FileStorage::open(directory.path()).unwrap().create("map").unwrap();
        let header = Header {
            layer: LayerId::random().unwrap(),
            parent: None,
            geometry: Geometry::checked(ByteLength::new(4 << 30)).unwrap(),
            state: LayerState::Sealed,
            epoch: Epoch::FIRST,
            ledger_sequence: 1,
            disk: None,
            label: layer_files::head_label(),
            hashes: None,
        };
        let count = bytes(2 * PIECE + 5);
        let entries: Vec<_> = (0..count).map(|place| (3 * place, [7; 32])).collect();
        write(&*file, &header, &entries).unwrap();
        let found = || Entries::new(&*file, &header, count).collect::<Result<Vec<_>, _>>();
        assert!(found().unwrap() == entries);
        let few = Entries::new(&*file, &header, count - 1).collect::<Result<Vec<_>, _>>();
        assert!(few.is_err(), "the header tells of another number");

        // The first page of the second piece, where the last but one of the first should be.
        let (start, mut page) = (header.geometry.words_end(), [0; index(PAGE)]);
        file.read_exact_at(&mut page, start + 64 * PAGE).unwrap();
        file.write_all_at(&[IoSlice::new(&page)], start + 62 * PAGE).unwrap();
        assert!(found().is_err());

        // No root has a place for a cluster past the end.
        let clusters = header.geometry.clusters();
        for (cluster, is_believed) in [(clusters - 1, true), (clusters, false)] {
            write(&*file, &header, &[(cluster, [7; 32])]).unwrap();
            let mut found = Entries::new(&*file, &header, 1);
            assert_eq!(found.all(|entry| entry.is_ok()), is_believed, "cluster {cluster}");
        }
    }
}
