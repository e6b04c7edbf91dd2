//! Sealed layers, and chains of them: what a head stands on.
//!
//! What must always hold
//! 1. A sealed layer never changes.
//! 2. A layer whose header, files or map are not as they must be is refused, never guessed at.
//! 3. An owner table only makes reads short: where there is none, they walk.
//!
//! Left to others: opening chains, each layer once (`open_layers`), making owner tables
//! (`owner_builder`).

use std::{
    num::NonZeroU64,
    ops::Range,
    sync::{Arc, OnceLock, mpsc},
};

use block_device::DeviceError;
use rustix::fs::{Advice, fadvise};

use crate::{
    cluster_map::ClusterMap,
    error::StoreError,
    geometry::{ClusterIndex, SectorIndex, index},
    hash_table::Table,
    header::{Header, LayerState, StoredHeader},
    id::LayerId,
    known_damage::KnownDamage,
    layer_files::LayerFiles,
    owner_file::{Lineage, Speaker},
    owner_table::{Holders, OwnerTable, Untrue},
    resolve::{Owner, Stack},
    storage::Storage,
    word::Blocks,
    worker::Job,
};

/// The shortest chain whose uppermost layer gets an owner table: to ask two layers is no more work
/// than to ask a table and then a layer.
const TABLE_FROM: usize = 3;

/// A layer that will never change.
#[derive(Debug)]
pub(crate) struct SealedLayer {
    pub(crate) files: LayerFiles,
    map: ClusterMap,
    /// Whose each block is, here and below; set once there is a table.
    owners: OnceLock<OwnerTable>,
    /// The header as it was found; hashes may be added to the file later.
    pub(crate) header: Header,
}

impl SealedLayer {
    /// Opens the layer by what the device holds of it.
    pub(crate) fn open(storage: &dyn Storage, layer: LayerId) -> Result<Self, StoreError> {
        let files = LayerFiles::open(storage, layer).map_err(|error| match error {
            StoreError::Damaged { detail, .. } if detail.ends_with("missing") => {
                StoreError::UnknownLayer(layer)
            }
            other => other,
        })?;
        files.believe_only_the_device()?;
        let header = StoredHeader::read(&*files.map, layer)?.header;
        if header.state != LayerState::Sealed {
            return Err(StoreError::damaged(format!("layer {layer}"), "it was never sealed"));
        }
        files.check_lengths(&header)?;
        let map =
            ClusterMap::of_sealed(files.map.clone(), layer, header.geometry, header.epoch.tag())?;
        Ok(Self { files, map, owners: OnceLock::new(), header })
    }

    /// What the layer says of a cluster.
    pub(crate) fn said(&self, cluster: ClusterIndex) -> Result<Blocks, StoreError> {
        #[cfg(test)]
        asked::one_more();
        Ok(self.map.word(cluster)?.at(self.header.epoch.tag()))
    }

    /// The owner table, if there is one that can be trusted.
    pub(crate) fn table(&self) -> Option<&OwnerTable> {
        self.owners.get().filter(|table| table.is_trusted())
    }

    /// Map sectors that may say something.
    pub(crate) fn stored_sectors(&self) -> Result<Vec<SectorIndex>, StoreError> {
        self.map.stored_sectors()
    }

    /// The clusters it says something about, one after another: there may be as many as it has.
    pub(crate) fn each_touched(
        &self,
    ) -> Result<impl Iterator<Item = Result<ClusterIndex, StoreError>>, StoreError> {
        let tag = self.header.epoch.tag();
        Ok(self.map.stored_words()?.filter_map(move |found| match found {
            Ok((_, word)) if word.at(tag).known() == 0 => None,
            Ok((cluster, _)) => Some(Ok(cluster)),
            Err(error) => Some(Err(error)),
        }))
    }

    /// Its hashes; none if they were not made yet.
    pub(crate) fn hashes(&self) -> Result<Option<Table<'_>>, StoreError> {
        Table::of(&*self.files.map, self.files.layer)
    }

    /// Lets go of what is cached of a stretch of the data, so that the next read asks the device.
    /// A sealed layer was synced: nothing of it waits to be written.
    pub(crate) fn drop_cached_data(&self, range: &Range<u64>) -> std::io::Result<()> {
        let length = NonZeroU64::new(range.end - range.start);
        Ok(fadvise(self.files.data.file(), range.start, length, Advice::DontNeed)?)
    }

    /// Reads data blocks; what lies past the layer's end reads as zeros.
    pub(crate) fn read_data(&self, buffer: &mut [u8], offset: u64) -> Result<(), DeviceError> {
        let held = index(self.header.geometry.size().saturating_sub(offset)).min(buffer.len());
        self.files.data.read_exact_at(&mut buffer[..held], offset)?;
        buffer[held..].fill(0);
        Ok(())
    }
}

/// A sealed layer and its ancestors, uppermost first.
#[derive(Debug)]
pub(crate) struct Chain {
    layers: Vec<Arc<SealedLayer>>,
    damage: Arc<KnownDamage>,
}

impl Chain {
    /// Layers that stand on each other, uppermost first; at least one.
    pub(crate) fn new(layers: Vec<Arc<SealedLayer>>, damage: Arc<KnownDamage>) -> Self {
        Self { layers, damage }
    }

    /// The uppermost layer.
    pub(crate) fn top(&self) -> &Arc<SealedLayer> {
        &self.layers[0]
    }

    pub(crate) fn layer(&self) -> LayerId {
        self.top().files.layer
    }

    /// Bytes the chain covers.
    pub(crate) fn size(&self) -> u64 {
        self.top().header.geometry.size()
    }

    /// Who holds the blocks of a cluster, by the table of the layer at this place.
    pub(crate) fn holders(&self, place: usize, cluster: ClusterIndex) -> Option<Holders> {
        let table = self.layers[place].table()?;
        table.holders(cluster).inspect_err(|error| table.distrust(error)).ok()
    }

    /// The table of the layer at this place named a layer that does not hold what it should.
    pub(crate) fn distrust_table(&self, place: usize) {
        if let Some(table) = self.layers[place].table() {
            table.distrust(&Untrue::Detail("a layer it names does not hold what it says"));
        }
    }

    /// The number that owner tables give to the layer at this place.
    pub(crate) fn speaker(&self, place: usize) -> Speaker {
        Speaker::try_from(self.layers.len() - place).expect("a chain is bounded")
    }

    /// The place of the layer that owner tables give this number.
    pub(crate) fn place(&self, speaker: Speaker) -> usize {
        self.layers.len() - usize::from(speaker)
    }

    /// Whether the uppermost layer should have a table and has none.
    pub(crate) fn lacks_table(&self) -> bool {
        self.layers.len() >= TABLE_FROM && self.top().table().is_none()
    }

    /// Opens the uppermost table there is: all that is below it needs none.
    pub(crate) fn open_table(&self, storage: &dyn Storage, jobs: &mpsc::Sender<Job>) {
        for place in 0..(self.layers.len() + 1).saturating_sub(TABLE_FROM) {
            let layer = &self.layers[place];
            if layer.owners.get().is_none()
                && let Some(table) =
                    OwnerTable::open(storage, Lineage::of(&self.layers[place..]), jobs)
            {
                // Who came first opened the same one.
                let _ = layer.owners.set(table);
            }
            if layer.table().is_some() {
                return;
            }
        }
    }

    /// The chain from this place on downwards.
    pub(crate) fn below(&self, place: usize) -> Self {
        Self { layers: self.layers[place..].to_vec(), damage: self.damage.clone() }
    }

    /// Uppermost first.
    pub(crate) fn layers(&self) -> &[Arc<SealedLayer>] {
        &self.layers
    }

    /// Fills the buffer with what the chain reads as from `offset`.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), DeviceError> {
        let stack = Stack { head: None, base: Some(self) };
        read_stack(&stack, buffer, offset)
    }

    /// Refuses a read that comes down to a layer at a cluster a scrub found damaged there. What
    /// layers above say all of is served.
    fn refuse_known_damage(
        &self,
        stack: &Stack<'_>,
        range: &Range<u64>,
    ) -> Result<(), DeviceError> {
        if self.damage.is_empty() {
            return Ok(());
        }
        for (place, layer) in self.layers.iter().enumerate() {
            let layer = layer.files.layer;
            for cluster in self.damage.within(layer, range) {
                let mut left = cluster.blocks_touched(range);
                if let Some((head, epoch)) = stack.head {
                    left &= !head.map().word(cluster)?.at(epoch).known();
                }
                for above in &self.layers[..place] {
                    left &= !above.said(cluster)?.known();
                }
                if left != 0 {
                    let offset = cluster.start();
                    tracing::debug!(%layer, offset, "a read of damaged content was refused");
                    let detail = format!("layer {layer} is known to be damaged at {offset}");
                    return Err(DeviceError::Damaged { detail });
                }
            }
        }
        Ok(())
    }
}

/// Fills the buffer with what the stack reads as from `offset`.
pub(crate) fn read_stack(
    stack: &Stack<'_>,
    buffer: &mut [u8],
    offset: u64,
) -> Result<(), DeviceError> {
    let end = offset + crate::geometry::bytes(buffer.len());
    if let Some(base) = stack.base {
        base.refuse_known_damage(stack, &(offset..end))?;
    }
    stack.pieces(offset..end, |piece| {
        let part = &mut buffer[index(piece.range.start - offset)..index(piece.range.end - offset)];
        match (piece.owner, stack.head, stack.base) {
            (Owner::Head, Some((head, _)), _) => {
                head.data().read_exact_at(part, piece.range.start)?;
            }
            (Owner::Layer(place), _, Some(chain)) => {
                chain.layers[place].read_data(part, piece.range.start)?;
            }
            _ => part.fill(0),
        }
        Ok::<_, DeviceError>(true)
    })
}

/// How many map words of sealed layers this thread has asked for: tests count them.
#[cfg(test)]
pub(crate) mod asked {
    use std::cell::Cell;

    thread_local! { static COUNT: Cell<u64> = const { Cell::new(0) }; }

    pub(super) fn one_more() {
        COUNT.set(COUNT.get() + 1);
    }

    /// How often something was asked since the last call.
    pub(crate) fn since_last() -> u64 {
        COUNT.replace(0)
    }
}
