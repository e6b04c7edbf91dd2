//! Snapshot: seal the head, name it, go on with a new one.
//!
//! A head that holds nothing of the present epoch is not sealed: the base says it all.
//!
//! A header that lost a copy is mended first, beside the running I/O: the copy that says *sealed* then
//! goes to the place that was good all along, not to the one that already lost a copy.
//!
//! Order: hold I/O -> flush -> mark the head sealed (synced) -> I/O goes on -> the catalog's
//! commit -> the ledger moves on to the sealed base.
//!
//! What must always hold
//! 1. A snapshot holds what was answered before it and nothing sent after its answer.
//! 2. The catalog's commit decides. A head that was sealed without one stays the disk's base and
//!    is removed when the disk leaves it.
//!
//! Left to others: hashing (`hashing`), the record of the snapshot (`cloud`).

use std::sync::OnceLock;

use block_device::DiskId;

use crate::{
    disk::{Disk, DiskLayers, Generation},
    error::{CommitError, SnapshotError, StoreError},
    geometry::Geometry,
    head::Head,
    header::{LayerLabel, LayerState},
    id::LayerId,
    layer_files::{self, Mark},
    open_layers::MAX_CHAIN,
    store::{Shared, Store},
};

impl Store {
    /// Takes a snapshot of a disk. `commit` makes the snapshot exist: it durably names the layer,
    /// or, when there is none, an empty disk. A disk that was not written since its last snapshot
    /// or reset gives the layer it stands on.
    pub fn snapshot<E>(
        &self,
        id: &DiskId,
        label: LayerLabel,
        commit: impl FnOnce(Option<LayerId>) -> Result<(), CommitError<E>>,
    ) -> Result<Option<LayerId>, SnapshotError<E>> {
        let shared = self.shared();
        let disk = shared.disk(id)?;
        let _alone = disk.control.lock();
        disk.ensure_open(shared)?;
        // Looked at beside the running I/O; only what seems untouched is looked at again alone.
        let untouched = disk.state.read().is_untouched()?;
        if let (false, Some(head)) = (untouched, disk.state.read().head()) {
            head.mend_header()?;
        }
        let layer = {
            let mut state = disk.state.write();
            let untouched = untouched && state.is_untouched()?;
            if untouched { state.record.base } else { seal(shared, &disk, &mut state, label)? }
        };
        let committed = name_and_commit(shared, layer, commit);
        // The disk stands on the sealed layer either way; until the ledger knows, start would
        // find the same out by itself.
        if let Err(error) = disk.record(shared, &disk.state.read()) {
            tracing::error!(disk = %id, %error, "the ledger did not move on after a snapshot");
        }
        committed.map_err(SnapshotError::Commit)?;
        Ok(layer)
    }
}

fn name_and_commit<E>(
    shared: &Shared,
    layer: Option<LayerId>,
    commit: impl FnOnce(Option<LayerId>) -> Result<(), CommitError<E>>,
) -> Result<(), E> {
    // The disk keeps it alive until it is named, which is after the commit: an old base may lose
    // the name it had, or another disk's snapshot give it one, in the meantime.
    match commit(layer) {
        Ok(()) => {
            if let Some(layer) = layer {
                shared.names.name(layer);
                take_marks_off(shared, layer);
            }
            Ok(())
        }
        // Named for this process: nothing removes it before the next start asks the catalog.
        Err(CommitError::InDoubt(error)) => {
            layer.into_iter().for_each(|layer| shared.names.name(layer));
            Err(error)
        }
        Err(CommitError::NotDone(error)) => {
            let unnamed = layer.filter(|layer| !shared.names.is_named(*layer));
            unnamed.into_iter().for_each(|layer| forget(shared, layer));
            Err(error)
        }
    }
}

/// The layer may be a head that was named just now, or an old base whose image was deleted.
fn take_marks_off(shared: &Shared, layer: LayerId) {
    for mark in [Mark::Unfinished, Mark::Deleting] {
        if let Err(error) = layer_files::unmark(&*shared.storage, layer, mark) {
            tracing::warn!(%layer, %error, "a layer keeps a mark that start will take off");
        }
    }
}

/// Marked before the ledger moves on to it, so that it is swept once the disk leaves it.
fn forget(shared: &Shared, layer: LayerId) {
    if let Err(error) = layer_files::mark(&*shared.storage, layer, Mark::Deleting) {
        tracing::warn!(%layer, %error, "a layer without a name could not be marked");
    }
}

/// Seals the head, if there is one, and makes it the base.
fn seal(
    shared: &Shared,
    disk: &Disk,
    state: &mut Generation,
    label: LayerLabel,
) -> Result<Option<LayerId>, StoreError> {
    let Some(head) = state.head().cloned() else { return Ok(state.record.base) };
    let base = state.layers.as_ref().and_then(|layers| layers.base.clone());
    if base.as_ref().is_some_and(|base| base.layers().len() >= MAX_CHAIN - 1) {
        return Err(StoreError::ChainTooLong(head.layer()));
    }
    let refused = |reason: String| StoreError::Refused { disk: disk.id.clone(), reason };
    disk.flush(shared, state).map_err(|error| refused(error.to_string()))?;
    let (layer, geometry) = (head.layer(), state.record.geometry);
    let sealed = seal_files(&head, state, label).and_then(|()| {
        debug_assert_eq!(head.header().geometry, geometry);
        shared.open_base(Some(layer))
    });
    let chain = sealed.inspect_err(|error| {
        state.refusal = Some(format!("sealing its head failed: {error}"));
    })?;
    let pin = shared.pin_base(Some(layer))?;
    state.layers = Some(DiskLayers { base: chain, head: OnceLock::new() });
    state.record.base = Some(layer);
    state.record.head = None;
    state.base_pin = pin;
    *disk.measured.lock() = None;
    Ok(Some(layer))
}

/// Marks the head sealed, durably.
fn seal_files(head: &Head, state: &Generation, label: LayerLabel) -> Result<(), StoreError> {
    let record = &state.record;
    cut_to_size(head, record.geometry)?;
    head.change_header(|header| {
        header.state = LayerState::Sealed;
        header.label = label;
        header.parent = record.base;
        header.epoch = record.epoch;
    })
}

/// Growing that was cut short leaves a head larger than its disk; a sealed layer is exact. The
/// header first: the files of a head may be longer than it says, never shorter.
fn cut_to_size(head: &Head, geometry: Geometry) -> Result<(), StoreError> {
    if head.header().geometry != geometry {
        head.change_header(|header| header.geometry = geometry)?;
    }
    let (data, size) = (head.data(), geometry.size());
    let cut = data.length().and_then(|length| match length == size {
        true => Ok(()),
        false => data.set_len(size).and_then(|()| data.sync_data()),
    });
    cut.map_err(StoreError::io(format!("sealing layer {}", head.layer())))
}
