//! Sealed layers, and chains of them: what a head stands on.
//!
//! What must always hold
//! 1. A sealed layer never changes, so it is opened and mapped once, however many disks share it.
//! 2. A chain is bounded and has no loop; each layer is at least as large as the one below.
//! 3. A layer whose header, files or map are not as they must be is refused, never guessed at.
//!
//! Left to others: who names layers and when they are removed (`names`).

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use block_device::DeviceError;
use parking_lot::Mutex;

use crate::{
    cluster_map::ClusterMap,
    error::StoreError,
    geometry::{ClusterIndex, index},
    header::{Header, LayerState, StoredHeader},
    id::LayerId,
    layer_files::LayerFiles,
    resolve::{Owner, Stack},
    storage::Storage,
    word::Blocks,
};

/// The longest chain that is followed, in layers: bounds the walk of a read and the time to open.
pub(crate) const MAX_CHAIN: usize = 1024;

/// A layer that will never change.
#[derive(Debug)]
pub(crate) struct SealedLayer {
    pub(crate) files: LayerFiles,
    map: ClusterMap,
    /// The header as it was found; hashes may be added to the file later.
    pub(crate) header: Header,
}

impl SealedLayer {
    fn open(storage: &dyn Storage, layer: LayerId) -> Result<Self, StoreError> {
        let files = LayerFiles::open(storage, layer).map_err(|error| match error {
            StoreError::Damaged { detail, .. } if detail.ends_with("missing") => {
                StoreError::UnknownLayer(layer)
            }
            other => other,
        })?;
        files.believe_only_the_device()?;
        let header = StoredHeader::read(&*files.map, layer)?.header;
        if header.state != LayerState::Sealed {
            return Err(StoreError::damaged(format!("layer {layer}"), "it was never sealed"));
        }
        files.check_lengths(&header)?;
        let map =
            ClusterMap::of_sealed(files.map.clone(), layer, header.geometry, header.epoch.tag())?;
        Ok(Self { files, map, header })
    }

    /// What the layer says of a cluster.
    pub(crate) fn said(&self, cluster: ClusterIndex) -> Result<Blocks, StoreError> {
        Ok(self.map.word(cluster)?.at(self.header.epoch.tag()))
    }

    /// The clusters this layer says something about, in order.
    pub(crate) fn touched(&self) -> Result<Vec<ClusterIndex>, StoreError> {
        let tag = self.header.epoch.tag();
        let words = self.map.stored_words()?;
        Ok(words.into_iter().filter(|(_, w)| w.at(tag).known() != 0).map(|(c, _)| c).collect())
    }

    /// Reads data blocks; what lies past the layer's end reads as zeros.
    fn read_data(&self, buffer: &mut [u8], offset: u64) -> Result<(), DeviceError> {
        let held = index(self.header.geometry.size().saturating_sub(offset)).min(buffer.len());
        self.files.data.read_exact_at(&mut buffer[..held], offset)?;
        buffer[held..].fill(0);
        Ok(())
    }
}

/// A sealed layer and its ancestors, uppermost first.
#[derive(Debug)]
pub(crate) struct Chain {
    layers: Vec<Arc<SealedLayer>>,
}

impl Chain {
    /// The uppermost layer.
    pub(crate) fn top(&self) -> &Arc<SealedLayer> {
        &self.layers[0]
    }

    pub(crate) fn layer(&self) -> LayerId {
        self.top().files.layer
    }

    /// Bytes the chain covers.
    pub(crate) fn size(&self) -> u64 {
        self.top().header.geometry.size()
    }

    /// The chain from this place on downwards.
    pub(crate) fn below(&self, place: usize) -> Self {
        Self { layers: self.layers[place..].to_vec() }
    }

    /// Uppermost first.
    pub(crate) fn layers(&self) -> &[Arc<SealedLayer>] {
        &self.layers
    }

    /// Fills the buffer with what the chain reads as from `offset`.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), DeviceError> {
        let stack = Stack { head: None, base: Some(self) };
        read_stack(&stack, buffer, offset)
    }
}

/// Fills the buffer with what the stack reads as from `offset`.
pub(crate) fn read_stack(
    stack: &Stack<'_>,
    buffer: &mut [u8],
    offset: u64,
) -> Result<(), DeviceError> {
    let end = offset + crate::geometry::bytes(buffer.len());
    stack.pieces(offset..end, |piece| {
        let part = &mut buffer[index(piece.range.start - offset)..index(piece.range.end - offset)];
        match (piece.owner, stack.head, stack.base) {
            (Owner::Head, Some((head, _)), _) => {
                head.data().read_exact_at(part, piece.range.start)?;
            }
            (Owner::Layer(place), _, Some(chain)) => {
                chain.layers[place].read_data(part, piece.range.start)?;
            }
            _ => part.fill(0),
        }
        Ok::<_, DeviceError>(true)
    })
}

/// All sealed layers that are open, each once.
#[derive(Debug, Default)]
pub(crate) struct OpenLayers {
    open: Mutex<OpenMaps>,
}

#[derive(Debug, Default)]
struct OpenMaps {
    layers: HashMap<LayerId, Weak<SealedLayer>>,
    chains: HashMap<LayerId, Weak<Chain>>,
}

impl OpenLayers {
    /// The chain whose uppermost layer this is.
    pub(crate) fn chain(
        &self,
        storage: &dyn Storage,
        top: LayerId,
    ) -> Result<Arc<Chain>, StoreError> {
        let mut open = self.open.lock();
        if let Some(chain) = open.chains.get(&top).and_then(Weak::upgrade) {
            return Ok(chain);
        }
        let chain = Arc::new(Chain { layers: open.collect(storage, top)? });
        open.chains.retain(|_, chain| chain.strong_count() > 0);
        open.chains.insert(top, Arc::downgrade(&chain));
        Ok(chain)
    }

    /// Whether anybody has the layer open.
    pub(crate) fn is_open(&self, layer: LayerId) -> bool {
        self.open.lock().layers.get(&layer).is_some_and(|layer| layer.strong_count() > 0)
    }
}

impl OpenMaps {
    /// The layer and its ancestors. A loop would meet the bound.
    fn collect(
        &mut self,
        storage: &dyn Storage,
        top: LayerId,
    ) -> Result<Vec<Arc<SealedLayer>>, StoreError> {
        let mut layers: Vec<Arc<SealedLayer>> = Vec::new();
        let mut next = Some(top);
        while let Some(id) = next {
            if layers.len() == MAX_CHAIN {
                return Err(StoreError::damaged(
                    format!("the chain of layer {top}"),
                    format!("it is longer than {MAX_CHAIN} layers, or has a loop"),
                ));
            }
            let layer = self.layer(storage, id).map_err(|error| match error {
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
        &mut self,
        storage: &dyn Storage,
        id: LayerId,
    ) -> Result<Arc<SealedLayer>, StoreError> {
        if let Some(layer) = self.layers.get(&id).and_then(Weak::upgrade) {
            return Ok(layer);
        }
        let layer = Arc::new(SealedLayer::open(storage, id)?);
        self.layers.retain(|_, layer| layer.strong_count() > 0);
        self.layers.insert(id, Arc::downgrade(&layer));
        Ok(layer)
    }
}
