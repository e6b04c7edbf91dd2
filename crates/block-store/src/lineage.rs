//! Who stands on which sealed layer: the headers' parents, the ledger's bases, the labels.
//!
//! What must always hold: a layer comes after the one it stands on; an unreadable header is told,
//! never taken for absence.
//! Left to others: what the catalog knows besides (a second snapshot of one layer, say).

use std::collections::{BTreeMap, BTreeSet};

use block_device::DiskId;

use crate::{
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
}

impl Lineage {
    /// As it is now. What is made or removed meanwhile may be in it or not.
    pub(crate) fn look(shared: &Shared) -> Result<Self, StoreError> {
        let storage = &*shared.storage;
        let disks: Vec<_> = shared.disks.read().values().cloned().collect();
        let (mut heads, mut bases) = (BTreeSet::new(), Vec::new());
        for disk in disks {
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
        Ok(Self { sealed, unreadable, bases })
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
        self.sealed.contains_key(&layer) || self.unreadable.iter().any(|(other, _)| *other == layer)
    }

    /// What needs the layer: images, snapshots and disks, as `kind:id`.
    pub(crate) fn affected_by(&self, shared: &Shared, layer: LayerId) -> Vec<String> {
        let standing = self.standing_on(layer);
        let labels = standing.iter().filter(|above| !shared.names.is_forgotten(**above));
        let labels = labels.filter_map(|above| {
            let label = &self.sealed.get(above)?.label;
            match label.kind {
                LayerKind::Head => None,
                LayerKind::Snapshot => Some(format!("snapshot:{}", label.id)),
                LayerKind::Image => Some(format!("image:{}", label.id)),
            }
        });
        let disks = self.bases.iter().filter(|(_, base)| standing.contains(base));
        let disks = disks.map(|(disk, _)| format!("disk:{disk}"));
        labels.chain(disks).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The layer and all that stand on it.
    fn standing_on(&self, layer: LayerId) -> BTreeSet<LayerId> {
        let mut standing = BTreeSet::from([layer]);
        for header in self.in_order() {
            if header.parent.is_some_and(|parent| standing.contains(&parent)) {
                standing.insert(header.layer);
            }
        }
        standing
    }
}
