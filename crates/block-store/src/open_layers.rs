//! The sealed layers that are open, each once, and how a whole chain is opened.
//!
//! What must always hold
//! 1. A sealed layer is opened and mapped once, however many disks share it.
//! 2. A chain is bounded and has no loop; each layer is at least as large as the one below.
//! 3. What a chain consists of is read after the sync of each layer. What was read before only says
//!    which layers are worth opening at the same time: to sync one after another would cost a flush
//!    of the device for each, and the device flushes for many at once.
//!
//! Lock: `open`, held for a moment, never across I/O. Two may open the same layer at a time; one
//! of them wins, and both use what that one opened.
//! Left to others: who names layers and when they are removed (`names`), what a layer says
//! (`sealed_layer`).

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use parking_lot::Mutex;

use crate::{
    error::StoreError,
    header::StoredHeader,
    id::LayerId,
    known_damage::KnownDamage,
    layer_files,
    sealed_layer::{Chain, SealedLayer},
    storage::Storage,
    worker::Job,
};

/// The longest chain that is followed, in layers: bounds the walk of a read and the time to open.
pub(crate) const MAX_CHAIN: usize = 1024;

/// So few layers are opened one after another: threads would cost more.
const FEW: usize = 4;

/// What came of opening layers ahead of the walk that needs them.
type Ahead = HashMap<LayerId, Result<SealedLayer, StoreError>>;

/// All sealed layers that are open, each once.
#[derive(Debug)]
pub(crate) struct OpenLayers {
    open: Mutex<OpenMaps>,
    pub(crate) jobs: mpsc::Sender<Job>,
    /// What reads of them refuse.
    pub(crate) damage: Arc<KnownDamage>,
}

#[derive(Debug, Default)]
struct OpenMaps {
    layers: HashMap<LayerId, Weak<SealedLayer>>,
    chains: HashMap<LayerId, Weak<Chain>>,
}

impl OpenLayers {
    pub(crate) fn new(jobs: mpsc::Sender<Job>) -> Self {
        Self { open: Mutex::default(), jobs, damage: Arc::default() }
    }

    /// The chain whose uppermost layer this is.
    pub(crate) fn chain(
        &self,
        storage: &dyn Storage,
        top: LayerId,
    ) -> Result<Arc<Chain>, StoreError> {
        if let Some(chain) = self.open_chain(top) {
            return Ok(chain);
        }
        let chain = Chain::new(self.collect(storage, top)?, self.damage.clone());
        chain.open_table(storage, &self.jobs);
        let chain = self.open.lock().keep_chain(Arc::new(chain));
        if chain.lacks_table() {
            // When the worker is gone the store is closing; the next one asks again.
            let _ = self.jobs.send(Job::MakeOwners(top));
        }
        Ok(chain)
    }

    /// The chain, if somebody has it open.
    pub(crate) fn open_chain(&self, top: LayerId) -> Option<Arc<Chain>> {
        self.open.lock().chains.get(&top).and_then(Weak::upgrade)
    }

    /// The layers that are open.
    pub(crate) fn all_open(&self) -> Vec<Arc<SealedLayer>> {
        self.open.lock().layers.values().filter_map(Weak::upgrade).collect()
    }

    /// Whether anybody has the layer open.
    pub(crate) fn is_open(&self, layer: LayerId) -> bool {
        self.open.lock().layers.get(&layer).is_some_and(|layer| layer.strong_count() > 0)
    }

    /// The layer and its ancestors. A loop would meet the bound.
    fn collect(
        &self,
        storage: &dyn Storage,
        top: LayerId,
    ) -> Result<Vec<Arc<SealedLayer>>, StoreError> {
        let mut layers: Vec<Arc<SealedLayer>> = Vec::new();
        let mut ahead = self.open_ahead(storage, top);
        let mut next = Some(top);
        while let Some(id) = next {
            if layers.len() == MAX_CHAIN {
                return Err(StoreError::damaged(
                    format!("the chain of layer {top}"),
                    format!("it is longer than {MAX_CHAIN} layers, or has a loop"),
                ));
            }
            let layer = self.layer(storage, id, &mut ahead).map_err(|error| match error {
                StoreError::UnknownLayer(gone) if gone != top => StoreError::damaged(
                    format!("the chain of layer {top}"),
                    format!("layer {gone} is missing from it"),
                ),
                other => other,
            })?;
            if let Some(above) = layers.last()
                && above.header.geometry.size() < layer.header.geometry.size()
            {
                let detail = "a layer is larger than the one that stands on it";
                return Err(StoreError::damaged(format!("the chain of layer {top}"), detail));
            }
            next = layer.header.parent;
            layers.push(layer);
        }
        Ok(layers)
    }

    fn layer(
        &self,
        storage: &dyn Storage,
        id: LayerId,
        ahead: &mut Ahead,
    ) -> Result<Arc<SealedLayer>, StoreError> {
        if let Some(layer) = self.open_layer(id) {
            return Ok(layer);
        }
        let opened = ahead.remove(&id).unwrap_or_else(|| SealedLayer::open(storage, id));
        Ok(self.open.lock().keep_layer(Arc::new(opened?)))
    }

    /// Opens the layers that the walk is going to need, many at a time.
    fn open_ahead(&self, storage: &dyn Storage, top: LayerId) -> Ahead {
        let at_a_time = storage.at_a_time();
        if at_a_time < 2 {
            return Ahead::new();
        }
        let wanted = self.probable_chain(storage, top);
        if wanted.len() <= FEW {
            return Ahead::new();
        }
        let (opened, next) = (Mutex::new(Ahead::new()), AtomicUsize::new(0));
        thread::scope(|scope| {
            let work = || {
                // Relaxed: each number is given once, and nothing else is told by it.
                while let Some(id) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let layer = SealedLayer::open(storage, *id);
                    opened.lock().insert(*id, layer);
                }
            };
            for _ in 0..at_a_time.min(wanted.len()) {
                // Where the system gives no more threads, those there are do it, or else the walk.
                if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
        });
        opened.into_inner()
    }

    /// The layers of the chain that nobody has open, by headers that a killed process may have left
    /// in the cache: good enough to know what to open.
    fn probable_chain(&self, storage: &dyn Storage, top: LayerId) -> Vec<LayerId> {
        let (mut wanted, mut seen) = (Vec::new(), HashSet::new());
        let mut next = Some(top);
        while let Some(id) = next
            && wanted.len() < MAX_CHAIN
            && seen.insert(id)
            // What stands below an open layer is open as well, or soon met.
            && !self.is_open(id)
        {
            wanted.push(id);
            next = layer_files::open_map(storage, id)
                .and_then(|map| StoredHeader::read(&*map, id))
                .ok()
                .and_then(|stored| stored.header.parent);
        }
        wanted
    }

    fn open_layer(&self, id: LayerId) -> Option<Arc<SealedLayer>> {
        self.open.lock().layers.get(&id).and_then(Weak::upgrade)
    }
}

impl OpenMaps {
    /// The layer, or the one that somebody else opened meanwhile.
    fn keep_layer(&mut self, layer: Arc<SealedLayer>) -> Arc<SealedLayer> {
        let id = layer.files.layer;
        if let Some(earlier) = self.layers.get(&id).and_then(Weak::upgrade) {
            return earlier;
        }
        forget_closed(&mut self.layers);
        self.layers.insert(id, Arc::downgrade(&layer));
        layer
    }

    /// The same for a chain.
    fn keep_chain(&mut self, chain: Arc<Chain>) -> Arc<Chain> {
        let top = chain.layer();
        if let Some(earlier) = self.chains.get(&top).and_then(Weak::upgrade) {
            return earlier;
        }
        forget_closed(&mut self.chains);
        self.chains.insert(top, Arc::downgrade(&chain));
        chain
    }
}

/// Forgets what nobody has open, now and then: a look at all of them for each new one would cost
/// ever more the more there are.
fn forget_closed<T>(open: &mut HashMap<LayerId, Weak<T>>) {
    if open.len() == open.capacity() {
        open.retain(|_, value| value.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use block_device::{BlockDevice, ByteLength, ByteOffset, CLUSTER, Durability};

    use super::*;
    use crate::{CommitError, FileStorage, LayerKind, LayerLabel, Store};

    const LAYERS: u8 = 12;

    /// A disk on many layers, closed; answers the layers from below.
    fn deep_disk(directory: &std::path::Path) -> Vec<LayerId> {
        Store::create(&FileStorage::open(directory).unwrap()).unwrap();
        let store = open(directory);
        let disk = "d-1".parse().unwrap();
        store.create_disk(&disk, ByteLength::new(CLUSTER), None).unwrap().publish().unwrap();
        let seal = |number: u8| {
            let handle = store.open_disk(&disk).unwrap();
            let place = ByteOffset::new(u64::from(number) * 4096);
            handle.write_at(&[number + 1; 4096], place, Durability::Cached).unwrap();
            let label = LayerLabel { kind: LayerKind::Snapshot, ..layer_files::head_label() };
            store.snapshot(&disk, label, |_| Ok::<_, CommitError<()>>(())).unwrap().unwrap()
        };
        let layers = (0..LAYERS).map(seal).collect();
        store.wait_for_background();
        layers
    }

    fn open(directory: &std::path::Path) -> Store {
        let store = Store::open(Arc::new(FileStorage::open(directory).unwrap())).unwrap();
        store.settle_alone().unwrap();
        store
    }

    #[test]
    fn all_of_a_long_chain_is_opened_ahead_of_the_walk() {
        let directory = tempfile::tempdir().unwrap();
        let layers = deep_disk(directory.path());
        let storage = FileStorage::open(directory.path()).unwrap();
        let open_layers = OpenLayers::new(mpsc::channel().0);
        let ahead = open_layers.open_ahead(&storage, layers[layers.len() - 1]);
        assert_eq!(ahead.len(), layers.len());
        assert!(layers.iter().all(|layer| ahead[layer].is_ok()));
        let chain = open_layers.chain(&storage, layers[4]).unwrap();
        let ahead = open_layers.open_ahead(&storage, layers[layers.len() - 1]);
        assert_eq!(ahead.len(), layers.len() - chain.layers().len(), "what is open stays as it is");
    }

    #[test]
    fn a_chain_reads_as_it_was_written_and_names_the_layer_it_lacks() {
        let directory = tempfile::tempdir().unwrap();
        let layers = deep_disk(directory.path());
        let disk = "d-1".parse().unwrap();
        let store = open(directory.path());
        let handle = store.open_disk(&disk).unwrap();
        for number in 0..LAYERS {
            let mut block = [0; 4096];
            handle.read_at(&mut block, ByteOffset::new(u64::from(number) * 4096)).unwrap();
            assert_eq!(block, [number + 1; 4096]);
        }
        drop((handle, store));
        fs::remove_dir_all(directory.path().join(layer_files::directory_of(layers[3]))).unwrap();
        let error = open(directory.path()).open_disk(&disk).unwrap_err().to_string();
        assert!(error.contains(&format!("layer {} is missing", layers[3])), "{error}");
    }
}
