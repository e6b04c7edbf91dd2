//! What interrupted operations left: temporary names, and marked layers that nobody needs.
//!
//! What must always hold
//! 1. A name is removed only if it is one that our own operations give to what is not finished, and
//!    holds nothing but files of ours.
//! 2. A layer is removed only if it has a mark, all that could need it was read, and nothing does:
//!    with any damage about, with an unknown or a possibly older catalog, all layers are kept.
//! 3. A layer loses its name, durably, before anything in it is removed.

use std::collections::BTreeSet;

use crate::{
    error::StoreError,
    fsck::{CatalogNames, Layers, Seen, finding::FindingKind},
    id::LayerId,
    layer_files::{self, Entry, Mark},
    storage::Storage,
};

use super::Step;

/// Half made files in the store's root: replaced in whole by whoever makes them.
const UNFINISHED: [&str; 2] = ["ledger.new", "scrub.new"];

pub(super) fn plan(
    storage: &dyn Storage,
    seen: &Seen,
    catalog: Option<&CatalogNames>,
) -> Result<Vec<Step>, StoreError> {
    let mut steps = Vec::new();
    for name in UNFINISHED {
        if storage.exists(name).map_err(StoreError::io(format!("looking for {name}")))? {
            steps.push(Step::Unfinished { directory: String::new(), name });
        }
    }
    let needless = needless_layers(storage, seen, catalog);
    for layer in seen.layers.keys().filter(|layer| !needless.contains(layer)) {
        let name = layer_files::unfinished_owners_of(*layer);
        if storage.exists(&name).unwrap_or(false) {
            let directory = layer_files::directory_of(*layer);
            steps.push(Step::Unfinished { directory, name: layer_files::OWNERS_UNFINISHED });
        }
    }
    steps.extend(remains(storage).into_iter().map(Step::Remains));
    steps.extend(needless.into_iter().map(Step::Marked));
    Ok(steps)
}

/// Directories under temporary names that hold files of ours only.
fn remains(storage: &dyn Storage) -> Vec<String> {
    let Ok(entries) = layer_files::entries(storage) else { return Vec::new() };
    let remains = entries.into_iter().filter_map(|entry| match entry {
        Entry::Remains(directory) => Some(directory),
        Entry::Layer(_) | Entry::Foreign(_) => None,
    });
    remains.filter(|directory| holds_only_ours(storage, directory)).collect()
}

fn holds_only_ours(storage: &dyn Storage, directory: &str) -> bool {
    storage.list(directory).is_ok_and(|names| names.iter().all(|name| layer_files::is_known(name)))
}

/// Marked layers that nothing needs, those on top first.
fn needless_layers(
    storage: &dyn Storage,
    seen: &Seen,
    catalog: Option<&CatalogNames>,
) -> Vec<LayerId> {
    let (Some(catalog), Some(contents)) = (catalog, &seen.contents) else { return Vec::new() };
    let is_half_known =
        seen.findings.found.iter().any(|found| found.kind == FindingKind::LayerHeaderCopy);
    if catalog.may_be_older
        || is_half_known
        || seen.findings.has_damage()
        || seen.findings.has_unknown()
    {
        return Vec::new();
    }
    let records = contents.slots.iter().filter_map(|(_, state)| state.record());
    let mut needed: BTreeSet<_> =
        records.flat_map(|record| record.head.into_iter().chain(record.base)).collect();
    needed.extend(catalog.layers.keys().copied());
    let (mut needless, mut goes_on) = (Vec::new(), true);
    while goes_on {
        let parents = parents(&seen.layers, &needless);
        let is_needless = |layer: &&LayerId| {
            !needed.contains(layer)
                && !parents.contains(layer)
                && !needless.contains(*layer)
                && is_marked(storage, **layer)
                && holds_only_ours(storage, &layer_files::directory_of(**layer))
        };
        let more: Vec<_> = seen.layers.keys().filter(is_needless).copied().collect();
        goes_on = !more.is_empty();
        needless.extend(more);
    }
    needless
}

/// What any other layer stands on.
fn parents(layers: &Layers, except: &[LayerId]) -> BTreeSet<LayerId> {
    let others = layers.iter().filter(|(layer, _)| !except.contains(layer));
    others.filter_map(|(_, looked)| looked.as_ref()?.header.parent).collect()
}

fn is_marked(storage: &dyn Storage, layer: LayerId) -> bool {
    let marks = [Mark::Unfinished, Mark::Deleting];
    marks.into_iter().any(|mark| layer_files::has_mark(storage, layer, mark).unwrap_or(false))
}

pub(super) fn remove_file(
    storage: &dyn Storage,
    directory: &str,
    name: &str,
) -> Result<(), StoreError> {
    let path = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
    let removed = storage.remove_file(&path).and_then(|()| storage.sync_dir(directory));
    removed.map_err(StoreError::io(format!("removing {path}")))
}

pub(super) fn remove_remains(storage: &dyn Storage, directory: &str) -> Result<(), StoreError> {
    let removed = (|| {
        // What a killed process renamed is durable before anything in it is removed.
        storage.sync_dir(layer_files::LAYERS)?;
        for name in storage.list(directory)? {
            storage.remove_file(&format!("{directory}/{name}"))?;
        }
        storage.remove_dir(directory)?;
        storage.sync_dir(layer_files::LAYERS)
    })();
    removed.map_err(StoreError::io(format!("removing {directory}")))
}

pub(super) fn remove_layer(storage: &dyn Storage, layer: LayerId) -> Result<(), StoreError> {
    match layer_files::take_name(storage, layer)? {
        Some(remains) => remove_remains(storage, &remains),
        None => Ok(()),
    }
}
