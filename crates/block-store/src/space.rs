//! How much space a disk takes, and what for.
//!
//! What must always hold: figures are told, never relied upon; asking for the totals walks no map.
//! Left to others: giving it back (`reclaim`).

use std::sync::Arc;

use block_device::{BLOCK, ByteLength, DiskId};

use crate::{
    disk::Disk,
    error::StoreError,
    store::{Shared, Store},
};

/// What a disk takes of the file system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// Blocks of its head that count, as whole blocks.
    pub live: ByteLength,
    /// What the head's data file takes besides: blocks of older epochs and zeroed ones, and what
    /// the file system itself needs or allocated in advance.
    pub stale: ByteLength,
    /// What the data files of the layers below take, whoever else stands on them.
    pub shared: ByteLength,
}

impl DiskSpace {
    /// What a reset makes of the figures, so that they need not be measured again: the head stays
    /// as it is and nothing of it counts.
    pub(crate) fn reset(&mut self) {
        self.stale = sum(self.stale, self.live);
        self.live = ByteLength::new(0);
    }
}

/// The sums over the store as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceTotals {
    /// Live bytes of all heads that were measured.
    pub live: ByteLength,
    /// Stale bytes of all heads that were measured.
    pub stale: ByteLength,
    /// What the data files of all sealed layers take that are open, each once.
    pub layers: ByteLength,
    /// Disks that were not measured since the store was opened.
    pub unmeasured_disks: u64,
}

impl Store {
    /// Measures a disk: walks the words of its head, and asks the file system for the rest.
    pub fn measure(&self, id: &DiskId) -> Result<DiskSpace, StoreError> {
        let shared = self.shared();
        let disk = shared.disk(id)?;
        {
            let _alone = disk.control.lock();
            disk.ensure_open(shared)?;
        }
        measure(&disk)
    }

    /// Measures the disks that are open; what cannot be measured keeps its old figures.
    pub fn measure_open(&self) {
        let disks: Vec<Arc<Disk>> = self.shared().disks.read().values().cloned().collect();
        for disk in disks {
            if let Err(error) = measure_if_open(&disk) {
                tracing::debug!(disk = %disk.id, %error, "not measured");
            }
        }
    }

    /// What the last measurements add up to; nothing is walked.
    pub fn space_totals(&self) -> SpaceTotals {
        let shared = self.shared();
        let mut totals = SpaceTotals { layers: layers(shared), ..SpaceTotals::default() };
        let disks: Vec<Arc<Disk>> = shared.disks.read().values().cloned().collect();
        for disk in disks {
            match *disk.measured.lock() {
                Some(space) => {
                    totals.live = sum(totals.live, space.live);
                    totals.stale = sum(totals.stale, space.stale);
                }
                None => totals.unmeasured_disks += 1,
            }
        }
        totals
    }
}

fn sum(a: ByteLength, b: ByteLength) -> ByteLength {
    ByteLength::new(a.get() + b.get())
}

/// A file that cannot be asked adds nothing.
fn layers(shared: &Shared) -> ByteLength {
    let open = shared.layers.all_open();
    ByteLength::new(open.iter().map(|layer| layer.files.data.allocated().unwrap_or(0)).sum())
}

fn measure_if_open(disk: &Disk) -> Result<(), StoreError> {
    let is_open = disk.state.read().layers.is_some();
    if is_open { measure(disk).map(drop) } else { Ok(()) }
}

fn measure(disk: &Disk) -> Result<DiskSpace, StoreError> {
    let (glance, base) = {
        let state = disk.state.read();
        state.check_served(&disk.id)?;
        (state.glance(), state.layers.as_ref().and_then(|layers| layers.base.clone()))
    };
    // Under no lock: a reset does not wait for a walk over a map.
    let mut space = DiskSpace::default();
    if let Some(head) = glance.head() {
        let live = glance.blocks_of_data()? * BLOCK;
        let allocated = head.data().allocated().map_err(measuring(head.layer()))?;
        space.live = ByteLength::new(live);
        space.stale = ByteLength::new(allocated.saturating_sub(live));
    }
    for layer in base.as_ref().map_or(&[][..], |chain| chain.layers()) {
        let taken = layer.files.data.allocated().map_err(measuring(layer.files.layer))?;
        space.shared = sum(space.shared, ByteLength::new(taken));
    }
    // Whoever changed the disk meanwhile left figures of their own.
    let state = disk.state.read();
    if glance.is_of(&state) {
        *disk.measured.lock() = Some(space);
    }
    Ok(space)
}

fn measuring(layer: crate::LayerId) -> impl FnOnce(std::io::Error) -> StoreError {
    StoreError::io(format!("measuring layer {layer}"))
}
