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
//! 2. Snapshots taken together hold all disks at one moment: what was answered for one before the
//!    write to another is sent is in both or in none.
//! 3. The catalog's commit decides. A head that was sealed without one stays the disk's base and
//!    is removed when the disk leaves it.
//!
//! Left to others: hashing (`hashing`), the record of the snapshot (`cloud`).

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

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
        let asked = BTreeMap::from([(id.clone(), label)]);
        let layers = self.snapshot_together(asked, |layers| commit(layers[id]))?;
        Ok(layers[id])
    }

    /// Takes a snapshot of several disks at one moment: no disk takes I/O while another is being
    /// sealed. One `commit` makes all of them exist.
    pub fn snapshot_together<E>(
        &self,
        asked: BTreeMap<DiskId, LayerLabel>,
        commit: impl FnOnce(&BTreeMap<DiskId, Option<LayerId>>) -> Result<(), CommitError<E>>,
    ) -> Result<BTreeMap<DiskId, Option<LayerId>>, SnapshotError<E>> {
        let shared = self.shared();
        let disks: Vec<_> = asked.keys().map(|id| shared.disk(id)).collect::<Result<_, _>>()?;
        // In the order of names, so that two calls never wait for each other.
        let _alone: Vec<_> = disks.iter().map(|disk| disk.control.lock()).collect();
        for disk in &disks {
            disk.ensure_open(shared)?;
        }
        let mut layers = BTreeMap::new();
        let sealed = seal_all(shared, &disks, asked, &mut layers);
        let committed = match sealed {
            Ok(()) => name_and_commit(shared, &layers, commit).map_err(SnapshotError::Commit),
            Err(error) => {
                layers.values().flatten().for_each(|layer| forget_unnamed(shared, *layer));
                Err(error.into())
            }
        };
        // The disks stand on the sealed layers either way; until the ledger knows, start would
        // find the same out by itself.
        for disk in disks.iter().filter(|disk| layers.contains_key(&disk.id)) {
            if let Err(error) = disk.record(shared, &disk.state.read()) {
                tracing::error!(disk = %disk.id, %error, "the ledger did not move on after a snapshot");
            }
        }
        committed?;
        Ok(layers)
    }
}

/// `layers` tells how far it came, also where it fails.
fn seal_all(
    shared: &Shared,
    disks: &[Arc<Disk>],
    mut asked: BTreeMap<DiskId, LayerLabel>,
    layers: &mut BTreeMap<DiskId, Option<LayerId>>,
) -> Result<(), StoreError> {
    // Looked at beside the running I/O; only what seems untouched is looked at again alone.
    let seems_untouched = |disk: &Arc<Disk>| disk.state.read().is_untouched();
    let untouched: Vec<_> = disks.iter().map(seems_untouched).collect::<Result<_, _>>()?;
    for (disk, _) in disks.iter().zip(&untouched).filter(|(_, untouched)| !**untouched) {
        prepare(shared, disk)?;
    }
    // From the last of these locks on until the first is let go no disk takes I/O.
    let mut states: Vec<_> = disks.iter().map(|disk| disk.state.write()).collect();
    for ((disk, state), untouched) in disks.iter().zip(&mut states).zip(untouched) {
        let label = asked.remove(&disk.id).expect("each disk is there once");
        let untouched = untouched && state.is_untouched()?;
        let layer = if untouched { state.record.base } else { seal(shared, disk, state, label)? };
        layers.insert(disk.id.clone(), layer);
    }
    Ok(())
}

/// What can be done beside the running I/O, so that it is held for what was written meanwhile only.
fn prepare(shared: &Shared, disk: &Disk) -> Result<(), StoreError> {
    let state = disk.state.read();
    if let Some(head) = state.head() {
        head.mend_header()?;
    }
    if let Err(error) = disk.flush(shared, &state) {
        tracing::debug!(disk = %disk.id, %error, "the flush that seals will fail as well");
    }
    Ok(())
}

fn name_and_commit<E>(
    shared: &Shared,
    layers: &BTreeMap<DiskId, Option<LayerId>>,
    commit: impl FnOnce(&BTreeMap<DiskId, Option<LayerId>>) -> Result<(), CommitError<E>>,
) -> Result<(), E> {
    // The disks keep them alive until they are named, which is after the commit: an old base may
    // lose the name it had, or another disk's snapshot give it one, in the meantime.
    let some = || layers.values().flatten().copied();
    match commit(layers) {
        Ok(()) => {
            for layer in some() {
                shared.names.name(layer);
                take_marks_off(shared, layer);
            }
            Ok(())
        }
        // Named for this process: nothing removes them before the next start asks the catalog.
        Err(CommitError::InDoubt(error)) => {
            some().for_each(|layer| shared.names.name(layer));
            Err(error)
        }
        Err(CommitError::NotDone(error)) => {
            some().for_each(|layer| forget_unnamed(shared, layer));
            Err(error)
        }
    }
}

fn forget_unnamed(shared: &Shared, layer: LayerId) {
    if !shared.names.is_named(layer) {
        forget(shared, layer);
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
    // From the moment its header says sealed it is a layer that nothing names. Where sealing fails
    // it still is the disk's head, so it is let go of without a look.
    let _watch = shared.watch_head(Some(layer))?;
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
