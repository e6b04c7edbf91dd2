//! What a copy of the running store must hold, so that a new store can be made of it.
//!
//! What must always hold: the export is durable before the layers are listed, so that the list has
//! every layer the export names and that is still there. What is made after the export is not in it; its
//! layers are at most copied for nothing.
//! Left to others: the copying (any program; sealed layers never change), heads (they do: a snapshot
//! is what can be copied).

use block_store::{LayerFamily, LayerId};

use crate::{Caller, Cloud, CloudError};

impl Cloud {
    /// Renews the export of the catalog, and tells the layers that belong to it.
    pub fn begin_backup(&self, caller: &Caller) -> Result<LayerFamily, CloudError> {
        caller.must_be_operator("backup")?;
        caller.goes_on()?;
        self.inner.catalog.save_export()?;
        let layers: Vec<LayerId> = self.world().layers().collect();
        Ok(self.inner.store.family(layers))
    }
}
