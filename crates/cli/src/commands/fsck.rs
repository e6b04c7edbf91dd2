//! `fsck`: whether the store's structure is whole; nothing of it is changed.
//!
//! What must always hold: the catalog is opened as a copy outside of the store, for opening it writes.
//! Left to others: the check of ledger and layers (`block-store`).

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

use anyhow::Context as _;
use block_device::ByteLength;
use block_store::{
    CatalogNames, FileStorage, Finding, Findings, LayerId, Progress, Severity, Storage, StoreError,
};
use catalog::{
    CatalogError, Opening, Records as _, SledCatalog,
    record::{Disk, Image, Snapshot},
};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::{
    args::Common, daemon, exit_code::Exit, failure::Failure, output, output::Report, places::Places,
};

/// What the check of the catalog's own files says.
struct CatalogFinding {
    kind: &'static str,
    severity: Severity,
    message: String,
}

pub(crate) fn run(places: &Places, common: &Common) -> Result<Report, Failure> {
    let path = places.store();
    let storage = FileStorage::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => daemon::no_store(places),
        _ => Failure::local("StoreUnavailable", format!("opening {}: {error}", path.display())),
    })?;
    let storage: Arc<dyn Storage> = Arc::new(storage);
    // Before the catalog: a running daemon is writing it.
    refuse_running(&storage, places)?;
    let (names, catalog) = read_catalog(places)?;
    let bar = Bar(output::count_bar(common, "layers"));
    let found = block_store::check_structure(&storage, names.as_ref(), &bar);
    bar.0.finish_and_clear();
    let found = found.map_err(|error| refusal(error, places))?;
    let report = tell(&found, catalog.as_ref());
    if report.exit == Exit::Failed {
        output::note("reinit: damage was found; docs/operations.md says what to do for each kind");
    }
    Ok(report)
}

/// The whole check takes the lock again; whoever comes in between is refused by it.
fn refuse_running(storage: &Arc<dyn Storage>, places: &Places) -> Result<(), Failure> {
    if !storage.exists("lock").context("looking for the lock")? {
        return Ok(());
    }
    storage.lock("lock").map(drop).map_err(|error| refusal(error.into(), places))
}

fn refusal(error: StoreError, places: &Places) -> Failure {
    match error {
        StoreError::NotAStore => daemon::no_store(places),
        StoreError::Locked { holder } => Failure::local(
            "StoreLocked",
            format!(
                "process {} serves {}; end it first, for a check needs the store at rest",
                holder.trim(),
                places.store().display()
            ),
        ),
        error => anyhow::Error::new(error).context("checking the store").into(),
    }
}

/// What the catalog names, if it can be read, and what is wrong with it.
fn read_catalog(
    places: &Places,
) -> Result<(Option<CatalogNames>, Option<CatalogFinding>), Failure> {
    let scratch = tempfile::tempdir().context("making a directory for a copy of the catalog")?;
    let copy = scratch.path().join("catalog");
    if let Err(error) = copy_plain(&places.catalog(), &copy) {
        if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::InvalidData {
            return Ok((None, Some(unreadable(&error.to_string()))));
        }
        return Err(anyhow::Error::new(error).context("copying the catalog").into());
    }
    // No export lies beside the copy, so that none takes its place.
    match SledCatalog::open(&copy) {
        Ok((catalog, opening)) => {
            let names = names(&catalog).context("reading the catalog")?;
            let derived = matches!(opening, Opening::WithoutSnapshot { .. }).then(|| CatalogFinding {
                kind: "CatalogDerived",
                severity: Severity::Note,
                message: "a derived file of it is damaged and no record is lost; the next start makes it anew".into(),
            });
            Ok((Some(names), derived))
        }
        Err(
            error @ (CatalogError::NeedsRebuild { .. }
            | CatalogError::Damaged { .. }
            | CatalogError::Unreadable { .. }
            | CatalogError::Newer { .. }),
        ) => Ok((None, Some(unreadable(&format!("{:#}", anyhow::Error::new(error)))))),
        Err(error) => {
            Err(anyhow::Error::new(error).context("opening a copy of the catalog").into())
        }
    }
}

fn unreadable(what: &str) -> CatalogFinding {
    CatalogFinding {
        kind: "CatalogUnreadable",
        severity: Severity::Damage,
        message: format!(
            "{what}; no resource is known, so nothing is compared with it; the next start takes \
             catalog.export.jsonl in its place if that is whole: keep a copy of the store before"
        ),
    }
}

fn copy_plain(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_plain(&entry.path(), &to)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to)?;
        } else {
            let what = format!("{} is not a plain file", entry.path().display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
    }
    Ok(())
}

fn names(catalog: &SledCatalog) -> anyhow::Result<CatalogNames> {
    let mut names = CatalogNames::default();
    for disk in catalog.all::<Disk>()? {
        names.disks.insert(disk.id.parse().with_context(|| format!("the disk {}", disk.id))?);
    }
    let images = catalog.all::<Image>()?.into_iter().map(|image| (image.layer, image.id));
    let snapshots = catalog.all::<Snapshot>()?.into_iter().map(|made| (made.layer, made.id));
    for (layer, id) in images.chain(snapshots) {
        if let Some(layer) = layer.map(LayerId::from_bytes) {
            names.layers.entry(layer).or_default().insert(id);
        }
    }
    Ok(names)
}

fn tell(found: &Findings, catalog: Option<&CatalogFinding>) -> Report {
    let mut documents: Vec<Value> = catalog.iter().map(|found| found.document()).collect();
    documents.extend(found.found.iter().map(document));
    let checked = found.checked;
    let counts = BTreeMap::from([
        ("Disks", checked.disks),
        ("Layers", checked.layers),
        ("MapSectors", checked.map_sectors),
        ("Hashes", checked.hashes),
    ]);
    let is_damaged =
        found.has_damage() || catalog.is_some_and(|found| found.severity == Severity::Damage);
    let things = documents.iter().map(|found| text(found, "Thing")).collect();
    let mut lines: Vec<String> = documents.iter().map(line).collect();
    let end = if is_damaged { "damage was found" } else { "no damage" };
    lines.push(format!(
        "{end}: {} disks, {} layers, {} map sectors and {} hashes were checked",
        checked.disks, checked.layers, checked.map_sectors, checked.hashes
    ));
    let report = json!({ "Findings": documents, "Checked": counts });
    let report = Report::done(report, things, lines.join("\n"));
    if is_damaged { report.failing() } else { report }
}

impl CatalogFinding {
    fn document(&self) -> Value {
        let severity = word(self.severity);
        json!({
            "Kind": self.kind, "Severity": severity, "Thing": "the catalog", "Affects": [], "Message": self.message,
        })
    }
}

fn document(found: &Finding) -> Value {
    json!({
        "Kind": format!("{:?}", found.kind),
        "Severity": word(found.severity),
        "Thing": found.thing,
        "Affects": found.affects,
        "Message": found.message,
    })
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Damage => "Damage",
        Severity::Note => "Note",
    }
}

fn line(found: &Value) -> String {
    let affects: Vec<&str> =
        found["Affects"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let who = if affects.is_empty() {
        String::new()
    } else {
        format!(" (affects {})", affects.join(", "))
    };
    let (severity, thing) = (text(found, "Severity").to_lowercase(), text(found, "Thing"));
    format!("{severity}: {thing}: {}{who}", text(found, "Message"))
}

fn text(found: &Value, field: &str) -> String {
    found[field].as_str().unwrap_or_default().to_owned()
}

/// How many layers are behind us.
struct Bar(ProgressBar);

impl Progress for Bar {
    fn advanced(&self, done: ByteLength, total: ByteLength) {
        self.0.set_length(total.get());
        self.0.set_position(done.get());
    }
}
