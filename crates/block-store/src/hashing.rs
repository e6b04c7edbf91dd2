//! Hashing sealed layers: what a layer reads as, cluster by cluster, and its root.
//!
//! Only clusters the layer itself touches are read; the others have the hash they had below. So
//! the work is that of what changed.
//!
//! What must always hold: the header tells of hashes only once their pages are durable; hashing
//! the same layer twice gives the same bytes.
//! Left to others: when to do it and how fast (`cloud` through [`Progress`]), keeping the pages
//! (`hash_table`).

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use block_device::{ByteLength, CLUSTER};
use parking_lot::{Condvar, Mutex};

use crate::{
    error::StoreError,
    geometry::{ClusterIndex, bytes, index},
    hash_table,
    header::HashSummary,
    header::{Header, StoredHeader},
    id::{LayerId, Root},
    progress::Progress,
    root::{self, ClusterHash},
    sealed_layer::{Chain, SealedLayer},
    store::Store,
};

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
        let mut below = BTreeMap::new();
        let mut root = None;
        for (place, sealed) in chain.layers().iter().enumerate().rev() {
            let _turn = shared.hashing.turn(sealed.files.layer);
            let known = hash_table::read(&*sealed.files.map, sealed.files.layer)?;
            let entries = match known {
                Some(entries) => entries,
                None => hash_clusters(&chain.below(place), sealed, progress)?,
            };
            below.extend(entries.iter().copied());
            root = Some(settle_root(sealed, &entries, &below)?);
        }
        Ok(root.expect("a chain has a layer"))
    }
}

/// The root of a layer whose hashes are these, stored in its header with them if it was not.
fn settle_root(
    sealed: &SealedLayer,
    entries: &[(u64, ClusterHash)],
    as_read: &BTreeMap<u64, ClusterHash>,
) -> Result<Root, StoreError> {
    let (file, layer) = (&*sealed.files.map, sealed.files.layer);
    let mut stored = StoredHeader::read(file, layer)?;
    if let Some(hashes) = stored.header.hashes {
        return Ok(hashes.root);
    }
    let size = sealed.header.geometry.size();
    let root = root::root_of(size, as_read.iter().map(|(cluster, hash)| (*cluster, *hash)));
    let header = stored.header.clone();
    hash_table::write(file, &header, entries)?;
    let sync = || file.sync_data().map_err(StoreError::io(format!("syncing layer {layer}")));
    sync()?;
    let hashes = Some(HashSummary { root, entries: bytes(entries.len()) });
    stored.write(file, Header { hashes, ..header })?;
    sync()?;
    Ok(root)
}

/// Reads and hashes the clusters that the uppermost layer of `chain` touches.
fn hash_clusters(
    chain: &Chain,
    sealed: &Arc<SealedLayer>,
    progress: &dyn Progress,
) -> Result<Vec<(u64, ClusterHash)>, StoreError> {
    let touched = sealed.touched()?;
    let total = ByteLength::new(bytes(touched.len()) * CLUSTER);
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut hashes, mut buffer) = (Vec::new(), vec![0; index(CLUSTER)]);
        loop {
            // Relaxed: it only hands out numbers.
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(cluster) = touched.get(place) else { return Ok(hashes) };
            let hash = match progress.cancelled() {
                true => Err(StoreError::Cancelled),
                false => hash_one(chain, *cluster, &mut buffer),
            };
            // A failure of one is the end of all.
            let hash = hash.inspect_err(|_| next.store(touched.len(), Ordering::Relaxed))?;
            hashes.push((cluster.0, hash));
            progress.advanced(ByteLength::new(bytes(place + 1) * CLUSTER), total);
        }
    };
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(4));
    let parts = thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let join = |handle: thread::ScopedJoinHandle<'_, _>| match handle.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        handles.into_iter().map(join).collect::<Result<Vec<_>, StoreError>>()
    })?;
    let mut hashes = parts.concat();
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
