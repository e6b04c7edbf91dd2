//! Things to do to a store, and choosing them by dice.
//!
//! What must always hold: what is chosen can be done in the state the model is in.
//! Left to others: doing them (`bench`).

use std::ops::Range;

use block_device::{DiskId, Durability, ZeroMode};
use block_store::LayerId;

use super::Model;
use crate::recorded_storage::Dice;

/// Disks and the layers they are to go back to; none is an empty disk.
pub type Origins = Vec<(DiskId, Option<LayerId>)>;

/// Something to do. Lengths and places are in sectors.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields say what they are: which disk, which layer, where")]
pub enum Operation {
    /// A new disk.
    Create { disk: DiskId, length: usize, origin: Option<LayerId> },
    /// New content.
    Write { disk: DiskId, range: Range<usize>, durability: Durability },
    /// Whole blocks become zeros.
    Discard { disk: DiskId, range: Range<usize> },
    /// Sectors become zeros.
    WriteZeroes { disk: DiskId, range: Range<usize>, mode: ZeroMode, durability: Durability },
    /// All becomes durable.
    Flush { disk: DiskId },
    /// Disks go back, in one batch.
    Reset(Origins),
    /// A new layer; or none if the catalog's commit is to fail.
    Snapshot { disk: DiskId, commits: bool },
    /// A larger disk.
    Resize { disk: DiskId, length: usize },
    /// A disk gone.
    Delete { disk: DiskId },
    /// A new layer with these stretches of content.
    Import { length: usize, stretches: Vec<Range<usize>> },
    /// A layer gone, as soon as nobody needs it.
    DeleteLayer { layer: LayerId },
    /// A layer hashed.
    Hash { layer: LayerId },
    /// The space of blocks that do not count given back.
    Reclaim { disk: DiskId },
    /// The store closed and opened again.
    Restart,
    /// Work for later done now.
    Settle,
}

/// Something that can be done now, chosen by dice.
pub fn random_operation(model: &Model, dice: &mut Dice) -> Operation {
    let disks: Vec<_> = model.disks.keys().cloned().collect();
    let layers: Vec<_> = model.layers.keys().copied().collect();
    let Some(disk) = dice.pick(&disks).cloned() else { return random_create(model, dice) };
    let length = model.disks[&disk].sectors.len();
    match dice.below(100) {
        0..=39 => {
            let range = random_range(length, dice);
            Operation::Write { disk, range, durability: random_durability(dice) }
        }
        40..=46 => Operation::Discard { range: random_range(length, dice), disk },
        47..=51 => {
            let mode = if dice.flip() { ZeroMode::Punch } else { ZeroMode::KeepAllocated };
            let (range, durability) = (random_range(length, dice), random_durability(dice));
            Operation::WriteZeroes { disk, range, mode, durability }
        }
        52..=63 => Operation::Flush { disk },
        64..=75 => Operation::Reset(random_resets(model, &disks, dice)),
        76..=80 => Operation::Snapshot { disk, commits: dice.below(5) != 0 },
        81..=82 => {
            let length = length + 1 + number(dice.below(200));
            Operation::Resize { disk, length }
        }
        83..=84 => Operation::Delete { disk },
        85..=88 if disks.len() < 4 => random_create(model, dice),
        89..=90 => random_import(dice),
        91..=92 => match dice.pick(&layers) {
            Some(layer) => Operation::DeleteLayer { layer: *layer },
            None => random_import(dice),
        },
        93 => match dice.pick(&layers) {
            Some(layer) => Operation::Hash { layer: *layer },
            None => Operation::Settle,
        },
        94..=96 => Operation::Restart,
        97..=98 => Operation::Reclaim { disk },
        _ => Operation::Settle,
    }
}

fn random_create(model: &Model, dice: &mut Dice) -> Operation {
    let name = format!("d-{}", dice.below(1 << 32));
    let origin = random_origin(model, usize::MAX, dice);
    let least = model.origin(origin).len();
    // Now and then a disk whose map has more than one sector.
    let room = if dice.below(12) == 0 { 17_000 } else { 700 };
    let length = least + 1 + number(dice.below(room));
    Operation::Create { disk: name.parse().expect("a name"), length, origin }
}

fn random_import(dice: &mut Dice) -> Operation {
    let length = 1 + number(dice.below(500));
    let stretches = (0..dice.below(4)).map(|_| random_range(length, dice)).collect();
    Operation::Import { length, stretches }
}

fn random_resets(model: &Model, disks: &[DiskId], dice: &mut Dice) -> Origins {
    let mut chosen = Vec::new();
    for disk in disks {
        if chosen.is_empty() || dice.below(4) == 0 {
            let size = model.disks[disk].sectors.len();
            chosen.push((disk.clone(), random_origin(model, size, dice)));
        }
    }
    chosen
}

fn random_origin(model: &Model, most: usize, dice: &mut Dice) -> Option<LayerId> {
    let fitting: Vec<_> =
        model.layers.iter().filter(|(_, content)| content.len() <= most).collect();
    if dice.below(3) == 0 { None } else { dice.pick(&fitting).map(|(layer, _)| **layer) }
}

fn random_durability(dice: &mut Dice) -> Durability {
    if dice.below(6) == 0 { Durability::ForceUnitAccess } else { Durability::Cached }
}

fn random_range(length: usize, dice: &mut Dice) -> Range<usize> {
    let most = if dice.below(4) == 0 { 300 } else { 24 };
    let start = number(dice.below(u64::try_from(length).expect("64-bit")));
    start..(start + 1 + number(dice.below(most))).min(length)
}

fn number(drawn: u64) -> usize {
    usize::try_from(drawn).expect("64-bit")
}
