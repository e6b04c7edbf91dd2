//! What a scrub found damaged, so that reads refuse it: clusters of sealed layers, by layer.
//!
//! What must always hold: a cluster that is known to be damaged at a layer is not served through
//! that layer; everything else is. A store without known damage pays one load per read.
//! Left to others: finding it (`scrub`), keeping it over a restart (`scrub/cursor`), which reads
//! come down to the layer (`sealed_layer`).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::RwLock;

use crate::{
    geometry::{ClusterIndex, clusters_of},
    id::LayerId,
};

/// The damaged clusters of all layers.
#[derive(Debug, Default)]
pub(crate) struct KnownDamage {
    /// Set with Release after the first entry, so that who sees it finds the entry; never cleared
    /// while there is one.
    any: AtomicBool,
    layers: RwLock<BTreeMap<LayerId, Damaged>>,
}

/// What of one layer is damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damaged {
    pub(crate) clusters: BTreeSet<u64>,
    /// There was so much that nothing of the layer is believed.
    pub(crate) whole: bool,
}

impl KnownDamage {
    /// Whether nothing is known to be damaged.
    pub(crate) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// A cluster of a layer is damaged; none stands for all of it.
    pub(crate) fn add(&self, layer: LayerId, cluster: Option<u64>) {
        let mut layers = self.layers.write();
        let damaged = layers.entry(layer).or_default();
        match cluster {
            Some(cluster) => drop(damaged.clusters.insert(cluster)),
            None => damaged.whole = true,
        }
        self.any.store(true, Ordering::Release);
    }

    /// A layer was looked at in whole: this is all that is damaged of it.
    pub(crate) fn settle(&self, layer: LayerId, damaged: Damaged) {
        let mut layers = self.layers.write();
        if damaged == Damaged::default() {
            layers.remove(&layer);
        } else {
            layers.insert(layer, damaged);
        }
        self.any.store(!layers.is_empty(), Ordering::Release);
    }

    /// All of it.
    pub(crate) fn all(&self) -> BTreeMap<LayerId, Damaged> {
        self.layers.read().clone()
    }

    /// The clusters of a range that are damaged at this layer.
    pub(crate) fn within(&self, layer: LayerId, range: &Range<u64>) -> Vec<ClusterIndex> {
        let layers = self.layers.read();
        let Some(damaged) = layers.get(&layer) else { return Vec::new() };
        clusters_of(range)
            .filter(|cluster| damaged.whole || damaged.clusters.contains(&cluster.0))
            .collect()
    }
}
