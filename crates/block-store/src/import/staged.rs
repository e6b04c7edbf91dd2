//! An imported layer until the catalog names it.
//!
//! What must always hold: it stays only once it is published; a layer that was there already stays
//! whatever becomes of the import.
//! Left to others: what is in it (the parent), naming it (`cloud`).

use std::sync::Arc;

use block_device::ByteLength;

use crate::{
    error::StoreError,
    id::{LayerId, Root},
    layer_files::{self, Mark},
    names::Pin,
    store::Shared,
};

/// A layer that stays only once it is published.
#[derive(Debug)]
#[must_use = "dropping it undoes the import"]
pub struct StagedLayer {
    pub(super) shared: Arc<Shared>,
    pub(super) layer: LayerId,
    pub(super) root: Root,
    pub(super) size: ByteLength,
    pub(super) is_shared: bool,
    pub(super) pin: Option<Pin>,
}

impl StagedLayer {
    /// The layer's name, for the catalog.
    pub fn layer(&self) -> LayerId {
        self.layer
    }

    /// The hash over all its content.
    pub fn root(&self) -> Root {
        self.root
    }

    /// The size of the disk it holds.
    pub fn size(&self) -> ByteLength {
        self.size
    }

    /// Whether a layer with the same content was there already, and is used.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Keeps the layer; called once the catalog names it.
    pub fn publish(mut self) -> Result<(), StoreError> {
        self.shared.names.name(self.layer);
        self.pin = None;
        // A shared one may be about to be deleted by somebody else.
        [Mark::Unfinished, Mark::Deleting]
            .into_iter()
            .try_for_each(|mark| layer_files::unmark(&*self.shared.storage, self.layer, mark))
    }

    /// Neither keeps nor undoes the layer: when it is not known whether the catalog names it, the
    /// next start finds out.
    pub fn leave_to_start(self) {
        // Named for this process: nothing removes it before the next start asks the catalog.
        self.shared.names.name(self.layer);
    }
}

impl Drop for StagedLayer {
    fn drop(&mut self) {
        // An unpublished layer that is not shared has no name; its last pin going removes it.
        self.pin = None;
    }
}
