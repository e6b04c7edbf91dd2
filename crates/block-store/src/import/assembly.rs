//! What the threads of an import found, put in the order of the disk and written as it comes.
//!
//! Memory does not grow with the image: words and hash pages are written some thousand at a time,
//! and of what is found too early only so much is kept as the threads are ahead of the slowest.
//!
//! What must always hold: words, hashes and root are those of all stretches, in order, each once.
//! Left to others: syncing, and the header that tells of the hashes (the parent).

use std::collections::BTreeMap;

use crate::{
    cluster_map,
    error::StoreError,
    geometry::ClusterIndex,
    hash_table::{PIECE, Pages},
    header::{HashSummary, Header},
    id::{Epoch, LayerId},
    root::{ClusterHash, RootTree},
    storage::StorageFile,
    word::{Blocks, Word},
};

/// What an import found out about one cluster.
pub(super) struct Imported {
    pub(super) cluster: ClusterIndex,
    pub(super) blocks: u16,
    pub(super) hash: ClusterHash,
}

/// The map and the hashes of a layer while it is imported.
pub(super) struct Assembly<'f> {
    map: &'f dyn StorageFile,
    layer: LayerId,
    /// The stretch to come next.
    next: u64,
    /// Stretches that were copied before an earlier one.
    early: BTreeMap<u64, Vec<Imported>>,
    /// Not written yet.
    words: Vec<(ClusterIndex, Word)>,
    hashes: Vec<(u64, ClusterHash)>,
    pages: Pages<'f>,
    tree: RootTree,
}

impl<'f> Assembly<'f> {
    pub(super) fn new(map: &'f dyn StorageFile, header: &Header) -> Self {
        Self {
            map,
            layer: header.layer,
            next: 0,
            early: BTreeMap::new(),
            words: Vec::new(),
            hashes: Vec::new(),
            pages: Pages::new(map, header),
            tree: RootTree::new(header.geometry.size()),
        }
    }

    /// Takes what was found in a stretch.
    pub(super) fn take(&mut self, number: u64, found: Vec<Imported>) -> Result<(), StoreError> {
        self.early.insert(number, found);
        while let Some(found) = self.early.remove(&self.next) {
            self.next += 1;
            found.iter().try_for_each(|one| self.add(one))?;
        }
        Ok(())
    }

    fn add(&mut self, found: &Imported) -> Result<(), StoreError> {
        let Imported { cluster, blocks, hash } = *found;
        if self.words.len() >= PIECE && self.is_of_a_new_sector(cluster) {
            self.write_words()?;
        }
        let blocks = Blocks { data: blocks, zero: 0 };
        self.words.push((cluster, Word::new(Epoch::FIRST.tag(), blocks)));
        self.tree.add(cluster.0, hash);
        self.hashes.push((cluster.0, hash));
        if self.hashes.len() == PIECE {
            self.pages.add(&self.hashes)?;
            self.hashes.clear();
        }
        Ok(())
    }

    /// A sector of the map is written once, with all its words.
    fn is_of_a_new_sector(&self, cluster: ClusterIndex) -> bool {
        self.words.last().is_none_or(|(last, _)| last.sector() != cluster.sector())
    }

    fn write_words(&mut self) -> Result<(), StoreError> {
        let io = StoreError::io(format!("writing layer {}", self.layer));
        cluster_map::write_new_words(self.map, self.layer, &self.words).map_err(io)?;
        self.words.clear();
        Ok(())
    }

    /// Writes what is left, and answers what the header is to say.
    pub(super) fn finish(mut self) -> Result<HashSummary, StoreError> {
        debug_assert!(self.early.is_empty(), "a stretch is missing");
        self.write_words()?;
        self.pages.add(&self.hashes)?;
        Ok(HashSummary { root: self.tree.finish(), entries: self.pages.entries() })
    }
}

#[cfg(test)]
mod tests {
    use block_device::ByteLength;

    use super::*;
    use crate::{
        FileStorage, Storage, geometry::Geometry, hash_table::Entries, header::LayerState,
        layer_files, root,
    };

    #[test]
    fn stretches_in_any_order_give_the_words_hashes_and_root_of_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let storage = FileStorage::open(directory.path()).unwrap();
        let header = Header {
            layer: LayerId::random().unwrap(),
            parent: None,
            geometry: Geometry::checked(ByteLength::new(4 << 30)).unwrap(),
            state: LayerState::Sealed,
            epoch: Epoch::FIRST,
            ledger_sequence: 0,
            disk: None,
            label: layer_files::head_label(),
            hashes: None,
        };
        let found = |cluster: u64| Imported {
            cluster: ClusterIndex(cluster),
            blocks: 1 << (cluster % 16),
            hash: [u8::try_from(cluster % 251).unwrap(); 32],
        };
        // Every third cluster, 16 to a stretch; more than are written at a time.
        let stretches = 2 * u64::try_from(PIECE).unwrap() / 16 + 3;
        let of = |number: u64| (0..16).map(move |place| 3 * (16 * number + place));
        let make = |name: &str, order: &[u64]| {
            let map = storage.create(name).unwrap();
            map.set_len(header.geometry.words_end()).unwrap();
            let mut assembly = Assembly::new(&*map, &header);
            for number in order {
                assembly.take(*number, of(*number).map(found).collect()).unwrap();
            }
            (assembly.finish().unwrap(), map)
        };
        let in_order: Vec<_> = (0..stretches).collect();
        let mixed: Vec<_> = (0..stretches / 2).flat_map(|n| [n + stretches / 2, n]).collect();
        let mixed: Vec<_> = mixed.into_iter().chain([stretches - 1]).take(in_order.len()).collect();
        let (one, map) = make("one", &in_order);
        let (other, again) = make("other", &mixed);
        let all: Vec<_> = in_order.iter().flat_map(|number| of(*number)).collect();
        let hashes = || all.iter().map(|cluster| (*cluster, found(*cluster).hash));
        assert_eq!(one.root, root::root_of(header.geometry.size(), hashes()));
        assert_eq!((one.root, one.entries), (other.root, other.entries));
        let read = Entries::new(&*map, &header, one.entries).collect::<Result<Vec<_>, _>>();
        assert!(read.unwrap() == hashes().collect::<Vec<_>>());
        let bytes = |file: &dyn StorageFile| {
            let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert!(bytes(&*map) == bytes(&*again));
    }
}
