//! Who stands on which sealed layer: the headers' parents, the ledger's bases, the labels.
//!
//! What must always hold: a layer comes after the one it stands on; an unreadable header is told,
//! never taken for absence; a layer that was removed meanwhile is not missed, for who needed it
//! was gone before.
//! Left to others: what the catalog calls the layers (a second snapshot of one, say).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use block_device::DiskId;

use crate::{
    disk::Disk,
    error::StoreError,
    header::{Header, LayerKind},
    id::LayerId,
    layer_files,
    store::Shared,
    worker::{self, Looked},
};

/// The sealed layers of a store, and the disks on them.
#[derive(Debug)]
pub(crate) struct Lineage {
    sealed: BTreeMap<LayerId, Header>,
    /// Layers whose headers say nothing that can be believed, and that are no disk's head.
    pub(crate) unreadable: Vec<(LayerId, StoreError)>,
    /// Disks and the layers they stand on.
    bases: Vec<(DiskId, LayerId)>,
    /// Layers that the catalog names, a disk or a sealed layer stands on, and that are not there.
    pub(crate) missing: Vec<LayerId>,
}

impl Lineage {
    /// As it is now. What is made or removed meanwhile may be in it or not.
    pub(crate) fn look(shared: &Shared) -> Result<Self, StoreError> {
        let storage = &*shared.storage;
        let disks: Vec<_> = shared.disks.read().values().cloned().collect();
        let (mut heads, mut bases) = (BTreeSet::new(), Vec::new());
        for disk in &disks {
            let record = disk.state.read().wanted_record();
            bases.extend(record.base.map(|base| (disk.id.clone(), base)));
            heads.extend(record.head);
        }
        let (mut sealed, mut unreadable) = (BTreeMap::new(), Vec::new());
        for layer in shared.layer_ids()? {
            match worker::look_at(storage, layer) {
                Looked::Sealed(header) => drop(sealed.insert(layer, *header)),
                Looked::NotSealed => {}
                // Removed since it was listed, or a head, which is the disk's own matter.
                Looked::PerhapsHead(error) | Looked::Unreadable(error) => {
                    if layer_files::is_there(storage, layer) && !heads.contains(&layer) {
                        unreadable.push((layer, error));
                    }
                }
            }
        }
        let mut lineage = Self { sealed, unreadable, bases, missing: Vec::new() };
        lineage.missing = lineage.find_missing(shared, &disks);
        Ok(lineage)
    }

    fn find_missing(&self, shared: &Shared, disks: &[Arc<Disk>]) -> Vec<LayerId> {
        let is_there = |layer| layer_files::is_there(&*shared.storage, layer);
        let named = shared.names.named().into_iter();
        let on_disks = self.bases.iter().map(|(_, base)| *base);
        let parents = self.sealed.values().filter_map(|header| header.parent);
        let needed: BTreeSet<_> = named.chain(on_disks).chain(parents).collect();
        // Asked only once the layer was seen to be gone: it goes after the last who needs it.
        let is_needed = |layer| {
            let is_base = |disk: &Arc<Disk>| disk.state.read().wanted_record().base == Some(layer);
            let stands_on = |above: &&Header| above.parent == Some(layer) && is_there(above.layer);
            shared.names.is_named(layer)
                || disks.iter().any(is_base)
                || self.sealed.values().any(|above| stands_on(&above))
        };
        let missing = needed.into_iter().filter(|layer| !self.sealed.contains_key(layer));
        missing.filter(|layer| !is_there(*layer) && is_needed(*layer)).collect()
    }

    /// Sealed layers that have no hashes.
    pub(crate) fn unhashed(&self) -> usize {
        self.sealed.values().filter(|header| header.hashes.is_none()).count()
    }

    /// How much of the sealed layers is hashed, in clusters.
    pub(crate) fn hashed_clusters(&self, skip: impl Fn(LayerId) -> bool) -> u64 {
        let left = self.sealed.values().filter(|header| !skip(header.layer));
        left.filter_map(|header| header.hashes).map(|hashes| hashes.entries).sum()
    }

    /// The headers of the sealed layers, each after the one it stands on, branch by branch.
    pub(crate) fn in_order(&self) -> Vec<&Header> {
        let mut children: BTreeMap<Option<LayerId>, Vec<&Header>> = BTreeMap::new();
        for header in self.sealed.values() {
            let parent = header.parent.filter(|parent| self.sealed.contains_key(parent));
            children.entry(parent).or_default().push(header);
        }
        let mut ordered = Vec::new();
        let mut waiting = children.remove(&None).unwrap_or_default();
        while let Some(header) = waiting.pop() {
            ordered.push(header);
            waiting.extend(children.remove(&Some(header.layer)).unwrap_or_default());
        }
        // Only a loop of damaged parents is left; opening them tells.
        ordered.extend(children.into_values().flatten());
        ordered
    }

    /// Whether there is such a layer, readable or not.
    pub(crate) fn has(&self, layer: LayerId) -> bool {
        self.sealed.contains_key(&layer)
            || self.unreadable.iter().any(|(other, _)| *other == layer)
            || self.missing.contains(&layer)
    }

    /// What layers are called by their own headers, as `kind:id`.
    pub(crate) fn labels(&self, shared: &Shared, layers: &BTreeSet<LayerId>) -> Vec<String> {
        let known = layers.iter().filter(|layer| !shared.names.is_forgotten(**layer));
        let labels = known.filter_map(|above| {
            let label = &self.sealed.get(above)?.label;
            match label.kind {
                LayerKind::Head => None,
                LayerKind::Snapshot => Some(format!("snapshot:{}", label.id)),
                LayerKind::Image => Some(format!("image:{}", label.id)),
            }
        });
        labels.collect()
    }

    /// The disks whose base is one of these.
    pub(crate) fn disks_on(&self, layers: &BTreeSet<LayerId>) -> Vec<DiskId> {
        let disks = self.bases.iter().filter(|(_, base)| layers.contains(base));
        disks.map(|(disk, _)| disk.clone()).collect()
    }

    /// The layer and all that stand on it.
    pub(crate) fn standing_on(&self, layer: LayerId) -> BTreeSet<LayerId> {
        let mut standing = BTreeSet::from([layer]);
        for header in self.in_order() {
            if header.parent.is_some_and(|parent| standing.contains(&parent)) {
                standing.insert(header.layer);
            }
        }
        standing
    }
}
