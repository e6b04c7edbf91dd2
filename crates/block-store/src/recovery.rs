//! What start does with what a crash left: finish or undo marked things, report the rest.
//!
//! What must always hold
//! 1. Only marked things are undone or finished, as the catalog says; an orphan without a mark is
//!    kept and reported, for the catalog may be an older one.
//! 2. Settling can be cut short anywhere and begun anew.
//!
//! Left to others: disks whose head was sealed but not left (`disk`, when it is opened).

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use block_device::DiskId;

use crate::{
    disk::Disk,
    error::StoreError,
    id::LayerId,
    layer_files::{self, Entry, Mark},
    ledger::Slot,
    ledger_record::{DiskRecord, SlotState},
    lifecycle,
    store::{Shared, Store},
    worker::{self, Job, Looked},
};

/// What the catalog names.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Disks with a record.
    pub disks: HashSet<DiskId>,
    /// Layers that an image or a snapshot names.
    pub layers: HashSet<LayerId>,
}

/// What settling did and found.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// What a crash left half done and is done now, in words.
    pub finished: Vec<String>,
    /// What a crash left half done and is undone now, in words.
    pub undone: Vec<String>,
    /// Disks the catalog names and the ledger does not know.
    pub missing_disks: Vec<DiskId>,
    /// Disks the ledger knows and the catalog does not name: kept.
    pub orphan_disks: Vec<DiskId>,
    /// Layers that nobody names or uses: kept.
    pub orphan_layers: Vec<LayerId>,
    /// Names among the layers that are none of ours: kept.
    pub foreign: Vec<String>,
}

impl Store {
    /// Finishes or undoes what a crash left, as the catalog says. Called once after opening.
    pub fn settle(&self, named: &Named) -> Result<Settled, StoreError> {
        let mut settled = Settled::default();
        let shared = self.shared();
        settle_slots(shared, named, &mut settled)?;
        shared.names.set_named(named.layers.clone());
        settle_layers(shared, named, &mut settled)?;
        compare_disks(shared, named, &mut settled);
        Ok(settled)
    }

    /// The same with a catalog that may be older than the store, such as one restored from an
    /// export: nothing is finished, undone or removed until the store is opened again.
    pub fn settle_keeping_all(&self, named: &Named) -> Result<Settled, StoreError> {
        let shared = self.shared();
        shared.names.freeze();
        for (_, state) in std::mem::take(&mut *shared.unsettled.lock()).slots {
            if let Some(record) = state.record() {
                shared.doubt(&record.disk, "it was half made or half deleted, and is kept");
            }
        }
        shared.names.set_named(named.layers.clone());
        let mut settled = Settled::default();
        compare_disks(shared, named, &mut settled);
        Ok(settled)
    }

    /// The same for a store without a catalog: its own layers without a mark are the named ones,
    /// a disk half made is undone, one half deleted is deleted.
    pub fn settle_alone(&self) -> Result<Settled, StoreError> {
        let (shared, mut layers) = (self.shared(), HashSet::new());
        let (heads, _) = used_by_disks(shared);
        for layer in shared.layer_ids()? {
            // A head is nobody's name for anything, unless a snapshot was cut short.
            let is_head =
                heads.contains(&layer) && worker::sealed_header(&*shared.storage, layer).is_none();
            if !is_head && marks(shared, layer)?.is_empty() {
                layers.insert(layer);
            }
        }
        let disks = self.disks().into_iter().collect();
        self.settle(&Named { disks, layers })
    }
}

/// Tells which disks only one of the two knows.
fn compare_disks(shared: &Shared, named: &Named, settled: &mut Settled) {
    let disks: HashSet<_> = shared.disks.read().keys().cloned().collect();
    settled.missing_disks = named.disks.difference(&disks).cloned().collect();
    settled.orphan_disks = disks.difference(&named.disks).cloned().collect();
    settled.missing_disks.sort();
    settled.orphan_disks.sort();
}

fn settle_slots(shared: &Shared, named: &Named, settled: &mut Settled) -> Result<(), StoreError> {
    let unsettled = std::mem::take(&mut *shared.unsettled.lock());
    for (slot, state) in unsettled.slots {
        let (creating, record) = match state {
            SlotState::Creating(record) => (true, record),
            SlotState::Deleting(record) => (false, record),
            SlotState::Live(_) | SlotState::Closed(_) | SlotState::Free => continue,
        };
        if shared.refused.read().contains_key(&record.disk) {
            tracing::error!(disk = %record.disk, "left as it is: another record of it is damaged");
            continue;
        }
        // A disk of that name that is live already wins: this record is what an undo left.
        let live = shared.disks.read().contains_key(&record.disk);
        let exists = named.disks.contains(&record.disk) && !live;
        let told = format!("{} disk {}", verb(creating), record.disk);
        if exists {
            bring_to_life(shared, slot, record)?;
        } else {
            let is_named = record.head.is_some_and(|head| named.layers.contains(&head));
            lifecycle::finish_delete(shared, slot, &record, is_named)?;
        }
        if exists == creating { settled.finished.push(told) } else { settled.undone.push(told) }
    }
    Ok(())
}

fn verb(creating: bool) -> &'static str {
    if creating { "creating" } else { "deleting" }
}

fn bring_to_life(shared: &Shared, slot: Slot, record: DiskRecord) -> Result<(), StoreError> {
    shared.ledger.commit(&[(slot, SlotState::Live(record.clone()))])?;
    let (base, head) = (shared.pin_base(record.base)?, shared.watch_head(record.head)?);
    let id = record.disk.clone();
    shared.disks.write().insert(id, Arc::new(Disk::new(slot, record, base, head)));
    Ok(())
}

fn settle_layers(shared: &Shared, named: &Named, settled: &mut Settled) -> Result<(), StoreError> {
    let (heads, mut used) = used_by_disks(shared);
    let mut unnamed = Vec::new();
    // What a killed process renamed is durable before anything in it is removed.
    shared
        .storage
        .sync_dir(layer_files::LAYERS)
        .map_err(StoreError::io("syncing the directory of layers"))?;
    for entry in layer_files::entries(&*shared.storage)? {
        match entry {
            Entry::Remains(directory) => {
                settled.undone.push(directory.clone());
                shared.later(Job::RemoveRemains(directory));
            }
            Entry::Foreign(name) => settled.foreign.push(name),
            Entry::Layer(layer) if named.layers.contains(&layer) || heads.contains(&layer) => {
                take_marks_off(shared, layer)?;
            }
            Entry::Layer(layer) => unnamed.push(layer),
        }
    }
    if unnamed.is_empty() {
        return Ok(());
    }
    add_parents(shared, &heads, &mut used)?;
    for layer in unnamed {
        settle_unnamed(shared, layer, used.contains(&layer), settled)?;
    }
    Ok(())
}

/// A layer that neither the catalog names nor a disk has as its head.
fn settle_unnamed(
    shared: &Shared,
    layer: LayerId,
    is_used: bool,
    settled: &mut Settled,
) -> Result<(), StoreError> {
    let marks = marks(shared, layer)?;
    match (marks.is_empty(), is_used) {
        // What a damaged record names is not known.
        _ if shared.names.is_frozen() => settled.orphan_layers.push(layer),
        (true, false) => settled.orphan_layers.push(layer),
        (true, true) => {}
        // It goes once nothing stands on it any more.
        (false, true) => layer_files::mark(&*shared.storage, layer, Mark::Deleting)?,
        (false, false) => {
            if let Some(remains) = layer_files::take_name(&*shared.storage, layer)? {
                shared.later(Job::RemoveRemains(remains));
            }
            settled.undone.push(format!("layer {layer}"));
        }
    }
    Ok(())
}

/// The heads of all disks, and the layers that disks stand on.
fn used_by_disks(shared: &Shared) -> (HashSet<LayerId>, BTreeSet<LayerId>) {
    let (mut heads, mut bases) = (HashSet::new(), BTreeSet::new());
    // Listed first: no lock of a disk is taken under that of all disks.
    let disks: Vec<_> = shared.disks.read().values().cloned().collect();
    for disk in disks {
        let record = disk.state.read().wanted_record();
        heads.extend(record.head);
        bases.extend(record.base);
    }
    (heads, bases)
}

/// Adds the layers that other sealed layers stand on. When a layer cannot be read, what it stands
/// on is not known, and nothing is removed.
fn add_parents(
    shared: &Shared,
    heads: &HashSet<LayerId>,
    used: &mut BTreeSet<LayerId>,
) -> Result<(), StoreError> {
    for layer in shared.layer_ids()? {
        match worker::look_at(&*shared.storage, layer) {
            Looked::Sealed(header) => used.extend(header.parent),
            Looked::NotSealed => {}
            Looked::PerhapsHead(_) if heads.contains(&layer) => {}
            Looked::PerhapsHead(error) | Looked::Unreadable(error) => {
                tracing::error!(%layer, %error, "no layer is removed while this one is unreadable");
                shared.names.freeze();
            }
        }
    }
    Ok(())
}

fn marks(shared: &Shared, layer: LayerId) -> Result<Vec<Mark>, StoreError> {
    let mut found = Vec::new();
    for mark in [Mark::Unfinished, Mark::Deleting] {
        let has = layer_files::has_mark(&*shared.storage, layer, mark)
            .map_err(StoreError::io(format!("looking for marks of layer {layer}")))?;
        if has {
            found.push(mark);
        }
    }
    Ok(found)
}

fn take_marks_off(shared: &Shared, layer: LayerId) -> Result<(), StoreError> {
    marks(shared, layer)?
        .into_iter()
        .try_for_each(|mark| layer_files::unmark(&*shared.storage, layer, mark))
}
