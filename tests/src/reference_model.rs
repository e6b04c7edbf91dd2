//! What a store must hold: every disk and layer, sector by sector, with all that a crash may show.
//!
//! Each sector of the model has what it reads as now, and what it may read as instead once power
//! failed: its last durable content and everything written since. An answered flush leaves one.
//!
//! What must always hold: the model allows no more than the store's promises do.
//! Left to others: doing things to store and model alike (`bench`).

mod bench;
mod check;
mod operation;
mod stamp;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use block_device::DiskId;
use block_store::{LayerId, Named};

pub use bench::{Bench, Step};
pub use check::{Observed, check, check_served, read_stamps};
pub use operation::{Operation, Origins, random_operation};
pub use stamp::{SECTOR, Stamp, bytes_of, stamp_of};

/// Sectors of a block.
const BLOCK_SECTORS: usize = 8;

/// What a sector reads as, and may read as after a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sector {
    now: Stamp,
    instead: Vec<Stamp>,
}

impl Sector {
    fn holding(now: Stamp) -> Self {
        Self { now, instead: Vec::new() }
    }

    fn write(&mut self, stamp: Stamp) {
        if stamp != self.now {
            self.instead.push(self.now);
            self.now = stamp;
        }
    }

    /// Whether a crash may show this.
    pub fn allows(&self, stamp: Stamp) -> bool {
        self.now == stamp || self.instead.contains(&stamp)
    }
}

/// What a disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskState {
    /// Its epoch.
    pub epoch: u64,
    /// The request that reset it last.
    pub request: Option<[u8; 16]>,
    /// Its content.
    pub sectors: Vec<Sector>,
}

impl DiskState {
    /// A new disk: its origin, then zeros.
    pub fn new(length: usize, origin: &[Stamp]) -> Self {
        let mut sectors: Vec<_> = origin.iter().map(|stamp| Sector::holding(*stamp)).collect();
        sectors.resize(length, Sector::default());
        Self { epoch: 1, request: None, sectors }
    }

    /// What it reads as.
    pub fn content(&self) -> Vec<Stamp> {
        self.sectors.iter().map(|sector| sector.now).collect()
    }

    fn write(&mut self, start: usize, stamps: &[Stamp]) {
        for (sector, stamp) in self.sectors[start..].iter_mut().zip(stamps) {
            sector.write(*stamp);
        }
    }

    fn zero(&mut self, range: Range<usize>) {
        self.sectors[range].iter_mut().for_each(|sector| sector.write(0));
    }

    /// Whole blocks only; the disk's last block counts as whole.
    fn discard(&mut self, range: Range<usize>) {
        let start = range.start.next_multiple_of(BLOCK_SECTORS);
        let end = if range.end == self.sectors.len() {
            range.end
        } else {
            range.end / BLOCK_SECTORS * BLOCK_SECTORS
        };
        if start < end {
            self.zero(start..end);
        }
    }

    /// What it reads as now is durable.
    fn harden(&mut self, range: Range<usize>) {
        self.sectors[range].iter_mut().for_each(|sector| sector.instead.clear());
    }

    fn harden_all(&mut self) {
        self.harden(0..self.sectors.len());
    }

    fn reset(&mut self, origin: &[Stamp], request: [u8; 16]) {
        let fresh = Self::new(self.sectors.len(), origin);
        *self = Self { epoch: self.epoch + 1, request: Some(request), ..fresh };
    }

    fn resize(&mut self, length: usize) {
        self.sectors.resize(length, Sector::default());
    }

    /// Whether this is the same generation of the disk.
    fn is_at(&self, found: &Self) -> bool {
        (self.epoch, self.request, self.sectors.len())
            == (found.epoch, found.request, found.sectors.len())
    }

    /// It was found to read as this after a kill; what was possible stays possible.
    fn observe(&mut self, found: &Self) {
        for (sector, found) in self.sectors.iter_mut().zip(&found.sectors) {
            sector.write(found.now);
        }
    }
}

/// What a store is.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Disks that the catalog names.
    pub disks: BTreeMap<DiskId, Arc<DiskState>>,
    /// Layers that the catalog names.
    pub layers: BTreeMap<LayerId, Arc<Vec<Stamp>>>,
    /// A call failed: what could not be marked for removal may stay, unnamed and told.
    pub may_leak: bool,
    last: Stamp,
    requests: u64,
}

impl Model {
    /// Stamps that were never used before.
    fn stamps(&mut self, count: usize) -> Vec<Stamp> {
        let first = self.last + 1;
        self.last += u64::try_from(count).expect("64-bit");
        (first..=self.last).collect()
    }

    /// A request that was never made before.
    fn request(&mut self) -> [u8; 16] {
        self.requests += 1;
        u128::from(self.requests).to_le_bytes()
    }

    fn change(&mut self, disk: &DiskId, change: impl FnOnce(&mut DiskState)) {
        change(Arc::make_mut(self.disks.get_mut(disk).expect("the disk is in the model")));
    }

    /// What a layer reads as; nothing for an empty origin.
    pub fn origin(&self, layer: Option<LayerId>) -> Arc<Vec<Stamp>> {
        layer.map_or_else(Arc::default, |layer| self.layers[&layer].clone())
    }

    /// Takes over what was found after a kill, which loses nothing the system was given; what a
    /// power loss could show before, it can still show.
    pub fn observe_after_kill(&mut self, expected: &Expectation, found: &Observed) {
        self.layers = expected.layers.clone();
        self.disks.clear();
        for (disk, found) in found {
            let mut states = expected.disks[disk].iter();
            let state = states.find(|state| state.is_at(found)).expect("it was checked");
            self.disks.insert(disk.clone(), state.clone());
            self.change(disk, |state| state.observe(found));
        }
    }

    /// Takes over what was found after power failed: the device holds just that.
    pub fn observe_after_power_loss(&mut self, expected: &Expectation, found: Observed) {
        self.layers = expected.layers.clone();
        self.disks = found.into_iter().map(|(disk, state)| (disk, Arc::new(state))).collect();
    }

    /// What must be found if nothing was under way.
    pub fn expect(&self) -> Expectation {
        let alone = |(disk, state): (&DiskId, &Arc<DiskState>)| (disk.clone(), vec![state.clone()]);
        let disks = self.disks.iter().map(alone).collect();
        Expectation { disks, layers: self.layers.clone(), may_leak: self.may_leak }
    }
}

/// What must be found after a crash.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Each disk, in one of these states: wholly before or wholly after what was under way.
    pub disks: BTreeMap<DiskId, Vec<Arc<DiskState>>>,
    /// Each layer, exactly so.
    pub layers: BTreeMap<LayerId, Arc<Vec<Stamp>>>,
    /// Whether layers without a name and a mark may be left.
    pub may_leak: bool,
}

impl Expectation {
    /// What the catalog names.
    pub fn named(&self) -> Named {
        Named {
            disks: self.disks.keys().cloned().collect(),
            layers: self.layers.keys().copied().collect(),
        }
    }
}
