//! Repair: what is broken and whose right content is proved is written anew; what is nobody's goes.
//!
//! What must always hold
//! 1. Data, maps, hashes and words are never touched, no layer without a mark is removed, and what
//!    is whole stays as it is to the byte.
//! 2. Nothing is guessed: each step proves anew, from what the device holds, what it writes.
//! 3. A step goes over broken bytes only, never over the one good copy, is synced, and read again.
//!    So a crash or a failed write leaves the store as good as it was, or better.
//! 4. After a step failed no other is tried: the device is not to be trusted.
//!
//! Left to others: finding what is wrong (`fsck`); what stays is told by a second check.

mod headers;
mod ledger;
mod leftovers;
mod owners;

use std::sync::Arc;

use crate::{
    error::StoreError,
    fsck::{CatalogNames, Findings, Seen, layer::told, look},
    id::LayerId,
    progress::Progress,
    storage::Storage,
    store::LOCK,
};

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairMode {
    /// Only tell what would be done.
    DryRun,
    /// Do it.
    Apply,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairState {
    /// It was not tried: nothing was to be changed, or an earlier step failed.
    Planned,
    /// It was done, is durable and was looked at again.
    Done,
    /// It was tried, and nothing got worse by it.
    Failed(String),
}

/// One thing a repair does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The file, layer or slot.
    pub thing: String,
    /// What is done to it, and why that is right.
    pub action: String,
    /// What became of it.
    pub state: RepairState,
}

/// What a repair did and left.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// Every step.
    pub repairs: Vec<Repair>,
    /// What a check finds afterwards.
    pub left: Findings,
}

/// A step that was found to be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// One header of the ledger from the other, which is equal to it by format.
    LedgerHeader,
    /// A record of the ledger of which one bit flipped.
    LedgerRecord { slot: crate::ledger::Slot },
    /// One header of a sealed and hashed layer from the other, after which none is written.
    LayerHeader(LayerId),
    /// A derived file that is not right.
    Owners { layer: LayerId, wrong: String },
    /// A file under a temporary name.
    Unfinished { directory: String, name: &'static str },
    /// The directory of a layer half made or half removed.
    Remains(String),
    /// A marked layer that nobody needs.
    Marked(LayerId),
}

/// Repairs a store that nobody has open, as far as that is safe. Without a catalog no layer is
/// removed, for it is not known what is needed.
pub fn repair(
    storage: &Arc<dyn Storage>,
    catalog: Option<&CatalogNames>,
    mode: RepairMode,
    progress: &dyn Progress,
) -> Result<Repaired, StoreError> {
    if !storage.exists(crate::ledger::FILE).map_err(StoreError::io("looking for the ledger"))? {
        return Err(StoreError::NotAStore);
    }
    let is_locked = storage.exists(LOCK).map_err(StoreError::io("looking for the lock"))?;
    let _lock = match mode {
        RepairMode::DryRun => is_locked.then(|| storage.lock_to_read(LOCK)).transpose()?,
        RepairMode::Apply => Some(storage.lock(LOCK)?).inspect(|lock| lock.name_holder()),
    };
    let storage = &**storage;
    let (mut seen, mut tried) = (look(storage, catalog, progress)?, Vec::new());
    let mut repairs = Vec::new();
    loop {
        // What was mended may prove more: a layer goes only when nothing is broken any more.
        let steps: Vec<_> = plan(storage, &seen, catalog)?
            .into_iter()
            .filter(|step| !tried.contains(step))
            .collect();
        let goes_on = !steps.is_empty() && mode == RepairMode::Apply;
        let done = apply(storage, &steps, mode);
        let is_done = done.iter().all(|repair| repair.state == RepairState::Done);
        repairs.extend(done);
        tried.extend(steps);
        if goes_on {
            seen = look(storage, catalog, progress)?;
        }
        if !goes_on || !is_done {
            return Ok(Repaired { repairs, left: seen.findings });
        }
    }
}

/// Does the steps, up to the first that fails.
fn apply(storage: &dyn Storage, steps: &[Step], mode: RepairMode) -> Vec<Repair> {
    let mut is_trusted = mode == RepairMode::Apply;
    let mut repairs = Vec::new();
    for step in steps {
        let mut repair = step.told();
        if is_trusted {
            repair.state = match step.apply(storage) {
                Ok(()) => RepairState::Done,
                Err(error) => RepairState::Failed(told(&error)),
            };
            is_trusted = repair.state == RepairState::Done;
        }
        repairs.push(repair);
    }
    repairs
}

/// Everything that is right to do, the ledger first.
fn plan(
    storage: &dyn Storage,
    seen: &Seen,
    catalog: Option<&CatalogNames>,
) -> Result<Vec<Step>, StoreError> {
    let mut steps = ledger::plan(storage, seen)?;
    steps.extend(headers::plan(storage, seen));
    steps.extend(owners::plan(storage, seen));
    steps.extend(leftovers::plan(storage, seen, catalog)?);
    Ok(steps)
}

impl Step {
    fn apply(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        match self {
            Self::LedgerHeader => ledger::mend_header(storage),
            Self::LedgerRecord { slot } => ledger::mend_record(storage, *slot),
            Self::LayerHeader(layer) => headers::mend(storage, *layer),
            Self::Owners { layer, .. } => owners::remove(storage, *layer),
            Self::Unfinished { directory, name } => {
                leftovers::remove_file(storage, directory, name)
            }
            Self::Remains(directory) => leftovers::remove_remains(storage, directory),
            Self::Marked(layer) => leftovers::remove_layer(storage, *layer),
        }
    }

    fn told(&self) -> Repair {
        let (thing, action) = match self {
            Self::LedgerHeader => (
                "the ledger".into(),
                "its broken header is written anew from the other one, which never differs".into(),
            ),
            Self::LedgerRecord { slot } => (
                format!("ledger {slot}"),
                "one bit of one of its two records flipped; with it turned back the checksum is \
                 right and the two follow one another: it is turned back"
                    .into(),
            ),
            Self::LayerHeader(layer) => (
                format!("layer {layer}"),
                "its broken header is written anew from the other one, which is the last that is \
                 ever written of a sealed and hashed layer"
                    .into(),
            ),
            Self::Owners { layer, wrong } => (
                format!("layer {layer}"),
                format!(
                    "its owner table is wrong ({wrong}): it is removed, and made anew when the layer is used"
                ),
            ),
            Self::Unfinished { directory, name } => {
                let place =
                    if directory.is_empty() { String::new() } else { format!("{directory}/") };
                (format!("{place}{name}"), "half made, and named by nobody: it is removed".into())
            }
            Self::Remains(directory) => (
                directory.clone(),
                "a layer half made or half removed, which nobody names: it is removed".into(),
            ),
            Self::Marked(layer) => (
                format!("layer {layer}"),
                "it is marked, and no disk, snapshot, image or other layer needs it: it is removed"
                    .into(),
            ),
        };
        Repair { thing, action, state: RepairState::Planned }
    }
}
