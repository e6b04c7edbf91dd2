//! Sealed layers from outside: looking at them, reading them, deleting them.
//!
//! What must always hold: a layer that somebody reads is not removed under them; a layer that is
//! to be deleted carries its mark before the catalog forgets it.
//! Left to others: who names it (`cloud`), removing its files (`worker`).

use std::{collections::BTreeSet, io, sync::Arc};

use block_device::{
    BlockDevice, ByteLength, ByteOffset, ByteRange, DeviceError, Durability, Extent, ZeroMode,
};

use crate::{
    disk::stack_extents,
    error::StoreError,
    header::{LayerLabel, LayerState, StoredHeader},
    id::{LayerId, Root},
    layer_files::{self, LayerFiles, Mark},
    names::Pin,
    resolve::Stack,
    sealed_layer::Chain,
    storage::Storage,
    store::{Shared, Store},
};

/// What a sealed layer is, for people.
#[derive(Clone, Debug)]
pub struct LayerInfo {
    /// Its name.
    pub id: LayerId,
    /// The size of the disk it holds.
    pub size: ByteLength,
    /// The layer it stands on.
    pub parent: Option<LayerId>,
    /// The hash over all it reads as, once it was made.
    pub root: Option<Root>,
    /// What its files take of the file system.
    pub allocated: ByteLength,
    /// The resource it was made for.
    pub label: LayerLabel,
}

/// Layers with all that they stand on.
#[derive(Clone, Debug, Default)]
pub struct LayerFamily {
    /// Those that are there.
    pub whole: BTreeSet<LayerId>,
    /// Those that are needed, and are gone or cannot be read.
    pub lost: BTreeSet<LayerId>,
}

impl Store {
    /// These sealed layers and all that they stand on: what a copy of them must hold.
    pub fn family(&self, layers: impl IntoIterator<Item = LayerId>) -> LayerFamily {
        let mut found = LayerFamily::default();
        let mut waiting: Vec<_> = layers.into_iter().collect();
        while let Some(layer) = waiting.pop() {
            if found.whole.contains(&layer) || found.lost.contains(&layer) {
                continue;
            }
            match self.layer(layer) {
                Ok(info) => {
                    found.whole.insert(layer);
                    waiting.extend(info.parent);
                }
                Err(error) => {
                    tracing::error!(%layer, %error, "a layer cannot be opened");
                    found.lost.insert(layer);
                }
            }
        }
        found
    }

    /// What a sealed layer is.
    pub fn layer(&self, layer: LayerId) -> Result<LayerInfo, StoreError> {
        let storage = &*self.shared().storage;
        let files = LayerFiles::open(storage, layer).map_err(|error| match error {
            StoreError::Damaged { detail, .. } if detail.ends_with("missing") => {
                StoreError::UnknownLayer(layer)
            }
            other => other,
        })?;
        let header = StoredHeader::read(&*files.map, layer)?.header;
        if header.state != LayerState::Sealed {
            return Err(StoreError::UnknownLayer(layer));
        }
        let allocated = files
            .data
            .allocated()
            .and_then(|data| {
                Ok(data + files.map.allocated()? + allocated_by_table(storage, layer)?)
            })
            .map_err(StoreError::io(format!("measuring layer {layer}")))?;
        Ok(LayerInfo {
            id: layer,
            size: ByteLength::new(header.geometry.size()),
            parent: header.parent,
            root: header.hashes.map(|hashes| hashes.root),
            allocated: ByteLength::new(allocated),
            label: header.label,
        })
    }

    /// Opens a sealed layer for reading.
    pub fn open_layer(&self, layer: LayerId) -> Result<Arc<LayerReader>, StoreError> {
        let shared = self.shared();
        let pin = shared.names.pin(layer)?;
        let chain = shared.layers.chain(&*shared.storage, layer)?;
        Ok(Arc::new(LayerReader { chain, _pin: pin }))
    }

    /// Begins to delete a layer: marks it. Once finished it is removed, as soon as no disk,
    /// layer or reader needs it.
    pub fn delete_layer(&self, layer: LayerId) -> Result<StagedLayerDelete, StoreError> {
        let shared = &self.inner.shared;
        self.layer(layer)?;
        layer_files::mark(&*shared.storage, layer, Mark::Deleting)?;
        Ok(StagedLayerDelete { shared: shared.clone(), layer: Some(layer) })
    }
}

fn allocated_by_table(storage: &dyn Storage, layer: LayerId) -> io::Result<u64> {
    match storage.open(&layer_files::owners_of(layer)) {
        Ok(table) => table.allocated(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// A layer that is marked to be deleted: dropping it takes the mark off.
#[derive(Debug)]
#[must_use = "dropping it keeps the layer"]
pub struct StagedLayerDelete {
    shared: Arc<Shared>,
    layer: Option<LayerId>,
}

impl StagedLayerDelete {
    /// Lets the layer go; called once the catalog no longer names it.
    pub fn finish(mut self) {
        if let Some(layer) = self.layer.take() {
            self.shared.names.unname(layer);
        }
    }

    /// Neither deletes the layer nor keeps it for sure: when it is not known whether the catalog
    /// still names it, the next start finds out.
    pub fn leave_to_start(mut self) {
        self.layer = None;
    }
}

impl Drop for StagedLayerDelete {
    fn drop(&mut self) {
        let Some(layer) = self.layer.take() else { return };
        if let Err(error) = layer_files::unmark(&*self.shared.storage, layer, Mark::Deleting) {
            tracing::warn!(%layer, %error, "a layer keeps a mark that start will take off");
        }
    }
}

/// A sealed layer opened for reading, with all it stands on.
#[derive(Debug)]
pub struct LayerReader {
    chain: Arc<Chain>,
    _pin: Pin,
}

impl BlockDevice for LayerReader {
    fn size(&self) -> ByteLength {
        ByteLength::new(self.chain.size())
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read_at(&self, buffer: &mut [u8], offset: ByteOffset) -> Result<(), DeviceError> {
        ByteRange::checked(offset, ByteLength::of(buffer), self.size())?;
        self.chain.read(buffer, offset.get())
    }

    fn write_at(&self, _: &[u8], _: ByteOffset, _: Durability) -> Result<(), DeviceError> {
        Err(DeviceError::ReadOnly)
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn discard(&self, _: ByteOffset, _: ByteLength) -> Result<(), DeviceError> {
        Err(DeviceError::ReadOnly)
    }

    fn write_zeroes(
        &self,
        _: ByteOffset,
        _: ByteLength,
        _: ZeroMode,
        _: Durability,
    ) -> Result<(), DeviceError> {
        Err(DeviceError::ReadOnly)
    }

    fn extents(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        most: usize,
    ) -> Result<Vec<Extent>, DeviceError> {
        let range = ByteRange::checked(offset, length, self.size())?;
        stack_extents(&Stack { head: None, base: Some(&self.chain) }, range, most)
    }
}
