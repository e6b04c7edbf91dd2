//! Import: an image becomes a sealed layer, hashed on the way.
//!
//! What must always hold
//! 1. The layer appears under its name only once all of it is durable; a failed, cancelled or
//!    killed import leaves nothing that anybody finds.
//! 2. The same content twice is one layer.
//!
//! Left to others: what an image file means (`image`), reading and writing it (`copy`), naming the layer
//! (`staged` and `cloud`).

mod assembly;
mod copy;
mod staged;

use std::sync::Arc;

use block_device::ByteLength;

pub use staged::StagedLayer;

use crate::{
    error::StoreError,
    geometry::Geometry,
    header::{Header, LayerLabel, LayerState, StoredHeader},
    id::{Epoch, Root},
    image::ImageSource,
    layer_files::{self, LayerFiles},
    names::Pin,
    progress::Progress,
    storage::Storage,
    store::{Shared, Store},
    worker,
};
use assembly::Assembly;

impl Store {
    /// Imports an image. The layer stays once it is published.
    pub fn import(
        &self,
        source: &ImageSource,
        label: LayerLabel,
        progress: &dyn Progress,
    ) -> Result<StagedLayer, StoreError> {
        let shared = &self.inner.shared;
        let geometry = Geometry::checked(source.size()).ok_or(StoreError::InvalidSize {
            size: source.size(),
            reason: "an image must be a multiple of 512 bytes above 0 and at most 256 TiB",
        })?;
        let layer = shared.storage.new_layer_id().map_err(StoreError::io("making a layer id"))?;
        let header = Header {
            layer,
            parent: None,
            geometry,
            state: LayerState::Sealed,
            epoch: Epoch::FIRST,
            ledger_sequence: 0,
            disk: None,
            label,
            hashes: None,
        };
        let (files, stored) = LayerFiles::create(&*shared.storage, header)?;
        let filled = fill(&files, stored, source, progress);
        let staged = filled.and_then(|root| self.name_or_share(&files, geometry, root));
        if staged.is_err() {
            files.abandon(&*shared.storage);
        }
        staged
    }

    /// Makes the new layer durable, or finds one with the same content and drops the new one.
    fn name_or_share(
        &self,
        files: &LayerFiles,
        geometry: Geometry,
        root: Root,
    ) -> Result<StagedLayer, StoreError> {
        let shared = &self.inner.shared;
        let size = ByteLength::new(geometry.size());
        if let Some(pin) = find_same(shared, root, geometry)? {
            files.abandon(&*shared.storage);
            let layer = pin.layer();
            return Ok(StagedLayer {
                shared: shared.clone(),
                layer,
                root,
                size,
                is_shared: true,
                pin: Some(pin),
            });
        }
        files.finish(&*shared.storage)?;
        let (layer, pin) = (files.layer, Some(shared.names.pin(files.layer)?));
        Ok(StagedLayer { shared: shared.clone(), layer, root, size, is_shared: false, pin })
    }
}

/// A named layer with the same content, kept alive.
fn find_same(
    shared: &Arc<Shared>,
    root: Root,
    geometry: Geometry,
) -> Result<Option<Pin>, StoreError> {
    for layer in shared.layer_ids()? {
        let same = worker::sealed_header(&*shared.storage, layer).is_some_and(|header| {
            header.geometry == geometry && header.hashes.is_some_and(|hashes| hashes.root == root)
        });
        if !same || !shared.names.is_named(layer) {
            continue;
        }
        if let Ok(pin) = shared.names.pin(layer) {
            return Ok(Some(pin));
        }
    }
    Ok(None)
}

/// Copies the image into the files, and answers its root, stored in the header.
fn fill(
    files: &LayerFiles,
    mut stored: StoredHeader,
    source: &ImageSource,
    progress: &dyn Progress,
) -> Result<Root, StoreError> {
    let header = stored.header.clone();
    let assembly = Assembly::new(&*files.map, &header);
    let summary = copy::all(&*files.data, source, assembly, progress)?.finish()?;
    source.check_unchanged()?;
    let root = summary.root;
    // Both copies, so that neither says that the hashes are missing.
    let header = Header { hashes: Some(summary), ..header };
    stored.write(&*files.map, header.clone())?;
    stored.write(&*files.map, header)?;
    Ok(root)
}

impl LayerFiles {
    /// Removes what was made of a layer that will not be.
    fn abandon(&self, storage: &dyn Storage) {
        layer_files::remove_tree(storage, &format!("{}/{}.new", layer_files::LAYERS, self.layer));
    }
}
