//! `fsck`: whether the store's structure is whole, and what of it can be put right.
//!
//! What must always hold
//! 1. By a check not a byte, a name or a lock file is made or changed, and no cached page is moved:
//!    what is told of is what every reader would get. Only `repair` changes anything.
//! 2. Nothing is checked while a process has the store open: it would be half written.
//! 3. One fault is one finding, on the thing that is broken; who suffers from it is in `affects`.
//! 4. What a crash leaves and the next start settles is a note, never damage.
//!
//! Left to others: content against its hashes, the catalog's own files.

mod finding;
mod layer;
mod ledger;
mod rebuild;
mod references;
mod repair;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use block_device::{ByteLength, DiskId};

pub use finding::{Checked, Finding, FindingKind, Findings, Severity};
pub use rebuild::{Accepted, FoundDisk, FoundLayer, LostLayer, Rebuild, Survey, accept};
pub use repair::{Repair, RepairMode, RepairState, Repaired, repair};

use crate::{
    error::StoreError,
    id::LayerId,
    layer_files::{self, Entry},
    ledger::Contents,
    progress::Progress,
    storage::Storage,
    store::LOCK,
};

/// What the catalog names, for the check of the store against it.
#[derive(Clone, Debug, Default)]
pub struct CatalogNames {
    /// Disks with a record.
    pub disks: BTreeSet<DiskId>,
    /// Layers, and the snapshots and images that name each.
    pub layers: BTreeMap<LayerId, BTreeSet<String>>,
    /// It came from an export and was not started with yet: what it does not name may be needed.
    pub may_be_older: bool,
}

/// Checks the structure of a store that nobody has open. Without a catalog only what needs none
/// is checked. Progress counts layers, as if each had one byte.
pub fn check(
    storage: &Arc<dyn Storage>,
    catalog: Option<&CatalogNames>,
    progress: &dyn Progress,
) -> Result<Findings, StoreError> {
    let io = |what: &str| StoreError::io(format!("looking for the {what}"));
    if !storage.exists(crate::ledger::FILE).map_err(io("ledger"))? {
        return Err(StoreError::NotAStore);
    }
    // A store that was never opened has no lock file, and a check makes none.
    let is_locked = storage.exists(LOCK).map_err(io("lock"))?;
    let _lock = is_locked.then(|| storage.lock_to_read(LOCK)).transpose()?;
    look(&**storage, catalog, progress).map(|seen| seen.findings)
}

/// Everything a check saw.
struct Seen {
    findings: Findings,
    contents: Option<Contents>,
    layers: Layers,
}

/// The check itself; who calls has the lock, if there is one.
fn look(
    storage: &dyn Storage,
    catalog: Option<&CatalogNames>,
    progress: &dyn Progress,
) -> Result<Seen, StoreError> {
    let mut findings = Findings::default();
    let contents = ledger::look(storage, &mut findings);
    let layers = look_at_layers(storage, &mut findings, progress)?;
    let none = Layers::new();
    let known = references::Known {
        contents: contents.as_ref(),
        layers: layers.as_ref().unwrap_or(&none),
        catalog,
    };
    match layers {
        Some(_) => known.compare(storage, &mut findings),
        None => known.compare_without_layers(&mut findings),
    }
    findings.found.sort();
    Ok(Seen { findings, contents, layers: layers.unwrap_or_default() })
}

/// All layers that have a directory, and what each says if that can be known.
type Layers = BTreeMap<LayerId, Option<layer::Looked>>;

/// None if it cannot be known which layers there are.
fn look_at_layers(
    storage: &dyn Storage,
    findings: &mut Findings,
    progress: &dyn Progress,
) -> Result<Option<Layers>, StoreError> {
    let entries = match layer_files::entries(storage) {
        Ok(entries) => entries,
        Err(error) => {
            let is_gone = matches!(&error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound);
            let what = if is_gone { "it is missing".into() } else { layer::told(&error) };
            let message = format!(
                "{what}: all content of disks, snapshots and images lies in it; bring it back from \
                 a backup, or look where it was moved to, before anything is started"
            );
            findings.failure(FindingKind::LayersMissing, layer_files::LAYERS, &error, message);
            return Ok(None);
        }
    };
    let (mut layers, total) = (Layers::new(), crate::geometry::bytes(entries.len()));
    for (done, entry) in entries.into_iter().enumerate() {
        if progress.cancelled() {
            return Err(StoreError::Cancelled);
        }
        progress.advanced(ByteLength::new(crate::geometry::bytes(done)), ByteLength::new(total));
        match entry {
            Entry::Layer(layer) => {
                layers.insert(layer, layer::look(storage, layer, findings));
            }
            Entry::Remains(path) => {
                let message = "what a cut-short making or removal left; the next start removes it";
                findings.note(FindingKind::Remains, path, message);
            }
            Entry::Foreign(name) => {
                let path = format!("{}/{name}", layer_files::LAYERS);
                findings.note(FindingKind::Foreign, path, "no layer of ours; it is left alone");
            }
        }
    }
    progress.advanced(ByteLength::new(total), ByteLength::new(total));
    Ok(Some(layers))
}
