//! The header of a layer, of which one copy is broken.
//!
//! What must always hold: the copy that is left is known to be the newest. That of a sealed layer
//! with hashes is: no header is ever written after it. A head's may have been followed by one that
//! says more, so a head is left as it is; its next header goes over the broken copy by itself.

use crate::{
    error::StoreError,
    fsck::{Seen, finding::FindingKind},
    header,
    id::LayerId,
    layer_files::LayerFiles,
    storage::Storage,
};

use super::Step;

pub(super) fn plan(storage: &dyn Storage, seen: &Seen) -> Vec<Step> {
    let broken =
        seen.findings.found.iter().filter(|found| found.kind == FindingKind::LayerHeaderCopy);
    let layers =
        broken.filter_map(|found| found.thing.strip_prefix("layer ")?.parse::<LayerId>().ok());
    let is_proved = |layer: &LayerId| {
        let files = LayerFiles::open_to_read(storage, *layer);
        files.is_ok_and(|files| header::last_copy(&*files.map, *layer).is_some())
    };
    layers.filter(is_proved).map(Step::LayerHeader).collect()
}

/// Writes the broken copy anew.
pub(super) fn mend(storage: &dyn Storage, layer: LayerId) -> Result<(), StoreError> {
    let files = LayerFiles::open(storage, layer)?;
    files.believe_only_the_device()?;
    let what = || format!("the header of layer {layer}");
    let mut last = header::last_copy(&*files.map, layer)
        .ok_or_else(|| StoreError::damaged(what(), "the device holds something else"))?;
    let header = last.header.clone();
    last.write(&*files.map, header)?;
    files.believe_only_the_device()?;
    match header::broken_copies(&*files.map) {
        0 => Ok(()),
        _ => Err(StoreError::damaged(what(), "the device does not hold what was written")),
    }
}
