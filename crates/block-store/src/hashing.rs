//! Hashing sealed layers: what a layer reads as, cluster by cluster, and its root.
//!
//! Only clusters the layer itself touches are read; the others have the hash they had below. So
//! the work is that of what changed.
//!
//! Memory does not grow with the layer: clusters are hashed and written some thousand at a time, and the
//! tables of a chain are merged as streams.
//!
//! What must always hold: the header tells of hashes only once their pages are durable; hashing
//! the same layer twice gives the same bytes.
//! Left to others: when to do it and how fast (`cloud` through [`Progress`]), keeping the pages
//! (`hash_table`).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use block_device::{ByteLength, CLUSTER};
use parking_lot::{Condvar, Mutex};

use crate::{
    error::StoreError,
    geometry::{ClusterIndex, index},
    hash_table::{Entries, PIECE, Pages, Table},
    header::{HashSummary, Header, StoredHeader},
    id::{LayerId, Root},
    progress::Progress,
    root::{self, ClusterHash, RootTree},
    sealed_layer::{Chain, SealedLayer},
    store::Store,
    threads,
};

/// More threads than that wait for the device, not for a processor.
const MOST_WORKERS: usize = 4;

/// Which layers are being hashed: two never work on the same one.
#[derive(Debug, Default)]
pub(crate) struct Hashing {
    running: Mutex<HashSet<LayerId>>,
    ended: Condvar,
}

/// The right to hash one layer.
struct Turn<'h> {
    hashing: &'h Hashing,
    layer: LayerId,
}

impl Hashing {
    fn turn(&self, layer: LayerId) -> Turn<'_> {
        let mut running = self.running.lock();
        while !running.insert(layer) {
            self.ended.wait(&mut running);
        }
        Turn { hashing: self, layer }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.hashing.running.lock().remove(&self.layer);
        self.hashing.ended.notify_all();
    }
}

impl Store {
    /// Makes sure that a sealed layer has its hashes and its root, and answers the root. Layers
    /// below that have none yet get theirs first.
    pub fn hash_layer(&self, layer: LayerId, progress: &dyn Progress) -> Result<Root, StoreError> {
        let shared = self.shared();
        let _pin = shared.names.pin(layer)?;
        let chain = shared.layers.chain(&*shared.storage, layer)?;
        let mut root = None;
        for (place, sealed) in chain.layers().iter().enumerate().rev() {
            let _turn = shared.hashing.turn(sealed.files.layer);
            let stored = StoredHeader::read(&*sealed.files.map, sealed.files.layer)?;
            root = Some(match &stored.header.hashes {
                Some(hashes) if place == 0 => {
                    check_table(sealed, &stored.header, hashes)?;
                    hashes.root
                }
                Some(hashes) => hashes.root,
                None => hash_one_layer(&chain.below(place), stored, progress)?,
            });
        }
        Ok(root.expect("a chain has a layer"))
    }
}

/// A root is not told beside hashes that are damaged.
fn check_table(
    sealed: &SealedLayer,
    header: &Header,
    hashes: &HashSummary,
) -> Result<(), StoreError> {
    let mut entries = Entries::new(&*sealed.files.map, header, hashes.entries);
    entries.try_for_each(|entry| entry.map(drop))
}

/// Hashes the uppermost layer of a chain whose other layers have their hashes: writes the pages, and
/// the header after them.
fn hash_one_layer(
    chain: &Chain,
    mut stored: StoredHeader,
    progress: &dyn Progress,
) -> Result<Root, StoreError> {
    let (sealed, header) = (chain.top(), stored.header.clone());
    let file = &*sealed.files.map;
    let mut pages = Pages::new(file, &header);
    hash_clusters(chain, sealed, &mut pages, progress)?;
    let entries = pages.entries();
    let below = chain.layers()[1..].iter().filter_map(|layer| layer.hashes().transpose());
    let below = below.collect::<Result<Vec<_>, _>>()?;
    let own = [Entries::new(file, &header, entries)].into_iter();
    let tables = own.chain(below.iter().map(Table::entries)).collect();
    let root = root_as_read(tables, header.geometry.size(), progress)?;
    let sync = || {
        let io = StoreError::io(format!("syncing layer {}", header.layer));
        file.sync_data().map_err(io)
    };
    sync()?;
    let hashes = Some(HashSummary { root, entries });
    stored.write(file, Header { hashes, ..header.clone() })?;
    sync()?;
    Ok(root)
}

/// The root of what a chain reads as: of each cluster the hash that the uppermost layer has that
/// touches it. All tables, from the uppermost down, are gone through side by side, so none of them is in
/// memory as a whole.
pub(crate) fn root_as_read(
    mut tables: Vec<Entries<'_>>,
    size: u64,
    progress: &dyn Progress,
) -> Result<Root, StoreError> {
    let layers = tables.len();
    let mut heads = BinaryHeap::new();
    let mut next_of = |place: usize, heads: &mut BinaryHeap<_>| -> Result<(), StoreError> {
        if let Some(entry) = tables[place].next() {
            let (cluster, hash) = entry?;
            heads.push(Reverse((cluster, place, hash)));
        }
        Ok(())
    };
    (0..layers).try_for_each(|place| next_of(place, &mut heads))?;
    let (mut tree, mut last) = (RootTree::new(size), None);
    while let Some(Reverse((cluster, place, hash))) = heads.pop() {
        if progress.cancelled() {
            return Err(StoreError::Cancelled);
        }
        // Of several layers the uppermost comes first.
        if last != Some(cluster) {
            tree.add(cluster, hash);
            last = Some(cluster);
        }
        next_of(place, &mut heads)?;
    }
    Ok(tree.finish())
}

/// Reads and hashes the clusters that the uppermost layer of `chain` touches, as many at a time as
/// are written at a time.
fn hash_clusters(
    chain: &Chain,
    sealed: &SealedLayer,
    pages: &mut Pages<'_>,
    progress: &dyn Progress,
) -> Result<(), StoreError> {
    let mut count = 0;
    for cluster in sealed.each_touched()? {
        cluster?;
        count += 1;
    }
    let done = Done { clusters: AtomicU64::new(0), total: count, progress };
    let mut touched = sealed.each_touched()?;
    loop {
        let piece: Vec<_> = touched.by_ref().take(PIECE).collect::<Result<_, _>>()?;
        if piece.is_empty() {
            return Ok(());
        }
        pages.add(&hash_piece(chain, &piece, &done)?)?;
    }
}

/// How far the hashing of a layer is.
struct Done<'p> {
    clusters: AtomicU64,
    total: u64,
    progress: &'p dyn Progress,
}

impl Done<'_> {
    fn one_more(&self) {
        // Relaxed: a number for a display.
        let done = self.clusters.fetch_add(1, Ordering::Relaxed) + 1;
        let length = |clusters| ByteLength::new(clusters * CLUSTER);
        self.progress.advanced(length(done), length(self.total));
    }
}

fn hash_piece(
    chain: &Chain,
    clusters: &[ClusterIndex],
    done: &Done<'_>,
) -> Result<Vec<(u64, ClusterHash)>, StoreError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut hashes, mut buffer) = (Vec::new(), vec![0; index(CLUSTER)]);
        loop {
            // Relaxed: it only hands out numbers.
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(cluster) = clusters.get(place) else { return Ok(hashes) };
            let hash = match done.progress.cancelled() {
                true => Err(StoreError::Cancelled),
                false => hash_one(chain, *cluster, &mut buffer),
            };
            // A failure of one is the end of all.
            let hash = hash.inspect_err(|_| next.store(clusters.len(), Ordering::Relaxed))?;
            hashes.push((cluster.0, hash));
            done.one_more();
        }
    };
    let mut hashes = threads::share(clusters.len().min(MOST_WORKERS), work)?.concat();
    hashes.sort_unstable_by_key(|(cluster, _)| *cluster);
    Ok(hashes)
}

fn hash_one(
    chain: &Chain,
    cluster: ClusterIndex,
    buffer: &mut [u8],
) -> Result<ClusterHash, StoreError> {
    let held = (chain.size() - cluster.start()).min(CLUSTER);
    let content = &mut buffer[..index(held)];
    chain.read(content, cluster.start()).map_err(|error| {
        StoreError::damaged(format!("layer {}", chain.layer()), error.to_string())
    })?;
    Ok(root::hash_cluster(content))
}
