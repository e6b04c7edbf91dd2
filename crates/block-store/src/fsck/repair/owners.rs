//! Owner tables that are not right: they are derived, so that a reader does without, and the next
//! use of the layer makes a new one where there is none.
//!
//! What must always hold: a table is removed only if it was read whole and is wrong, or is about
//! other layers than it stands on now.

use std::io;

use crate::{
    error::StoreError,
    fsck::{Layers, Seen, layer::is_sealed},
    header::Header,
    id::LayerId,
    layer_files,
    open_layers::MAX_CHAIN,
    owner_file::Lineage,
    owner_table::{self, Untrue},
    storage::Storage,
};

use super::Step;

pub(super) fn plan(storage: &dyn Storage, seen: &Seen) -> Vec<Step> {
    let layers = seen.layers.keys();
    layers.filter_map(|layer| wrong(storage, &seen.layers, *layer)).collect()
}

fn wrong(storage: &dyn Storage, layers: &Layers, layer: LayerId) -> Option<Step> {
    let file = storage.open_to_read(&layer_files::owners_of(layer)).ok()?;
    let chain = chain(layers, layer)?;
    match owner_table::verify(&*file, &Lineage::of_headers(&chain)) {
        Ok(()) => None,
        Err(Untrue::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => None,
        Err(error) => Some(Step::Owners { layer, wrong: error.to_string() }),
    }
}

/// The headers of a chain, uppermost first, if all of it is there and sealed.
fn chain(layers: &Layers, top: LayerId) -> Option<Vec<&Header>> {
    let (mut chain, mut next) = (Vec::new(), Some(top));
    while let Some(layer) = next {
        let header = &layers.get(&layer)?.as_ref()?.header;
        if chain.len() == MAX_CHAIN || !is_sealed(header) {
            return None;
        }
        chain.push(header);
        next = header.parent;
    }
    Some(chain)
}

pub(super) fn remove(storage: &dyn Storage, layer: LayerId) -> Result<(), StoreError> {
    let removed = storage
        .remove_file(&layer_files::owners_of(layer))
        .and_then(|()| storage.sync_dir(&layer_files::directory_of(layer)));
    removed.map_err(StoreError::io(format!("removing the owner table of layer {layer}")))
}
