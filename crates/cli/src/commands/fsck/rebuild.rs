//! `fsck --rebuild`: a lost ledger and a lost catalog anew, from the headers of the layers; `fsck --accept`: the
//! operator's choice of what a rebuilt disk holds.
//!
//! What must always hold
//! 1. What can be read is never replaced: neither of the two, nor an export that the next start can use.
//! 2. The ledger first: what is cut short between the two goes on from it when it is begun anew.
//! 3. The store's lock is held over all of it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use ::catalog::{Catalog as _, Records as _, SledCatalog, record};
use anyhow::Context as _;
use block_device::DiskId;
use block_store::{Accepted, Rebuild, Storage, StoreError, Survey};
use cloud::{Clock as _, Cloud, Origin, RebuiltDisk, Settings, SystemClock};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{catalog, refusal};
use crate::{args::ServeArgs, config::Config, failure::Failure, output::Report, places::Places};

/// What became of one of the two.
enum Part {
    /// It can be read and stays as it is.
    Whole,
    /// The next start takes the export.
    FromExport,
    /// It was made anew; what was there is called this now.
    Rebuilt(Option<String>),
}

/// Makes anew what is lost.
pub(super) fn run(storage: &Arc<dyn Storage>, places: &Places) -> Result<Report, Failure> {
    let rebuild = Rebuild::begin(storage.clone()).map_err(|error| refusal(error, places))?;
    let failed = |error: StoreError| {
        Failure::from(anyhow::Error::new(error).context("reading the headers of the layers"))
    };
    let known = catalog::read(places)?;
    if known.names.is_none() && !known.is_lost {
        let message = known.told.map(|told| told.message).unwrap_or_default();
        return Err(Failure::local("CatalogUnavailable", format!("the catalog: {message}")));
    }
    let export = if known.is_lost { usable_export(&places.catalog_export())? } else { None };
    let names = match &export {
        // What it names is needed like what the catalog names.
        Some((export, _)) => Some(catalog::names(export).context("reading the export")?),
        None => known.names,
    };
    let survey = rebuild.survey(names.as_ref()).map_err(failed)?;
    let ledger = if rebuild.has_lost_ledger().map_err(failed)? {
        let aside = rebuild.make_ledger(&survey);
        Part::Rebuilt(
            aside.map_err(|error| anyhow::Error::new(error).context("rebuilding the ledger"))?,
        )
    } else {
        Part::Whole
    };
    let mut told = Told::of(&survey);
    let part = match (&known.open, &export) {
        (Some(_), _) => Part::Whole,
        (None, Some(_)) => Part::FromExport,
        (None, None) => rebuild_catalog(places, &survey, &mut told)?,
    };
    if let Some((open, _)) = known.open.as_ref().or(export.as_ref()) {
        told.missing_disks(open, &survey)?;
    }
    Ok(told.report(&ledger, &part, places))
}

/// What the export holds, if a catalog can be made of it.
fn usable_export(export: &Path) -> Result<Option<(SledCatalog, TempDir)>, Failure> {
    let file = match File::open(export) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("opening {}", export.display()))?,
    };
    let scratch = tempfile::tempdir().context("making a directory to try the export in")?;
    let tried = SledCatalog::create(&scratch.path().join("catalog"));
    let tried = tried.context("trying the export")?;
    match tried.import(&mut BufReader::new(file)) {
        Ok(_) => Ok(Some((tried, scratch))),
        Err(::catalog::CatalogError::BadExport { .. }) => Ok(None),
        Err(error) => Err(anyhow::Error::new(error).context("trying the export").into()),
    }
}

fn rebuild_catalog(places: &Places, survey: &Survey, told: &mut Told) -> Result<Part, Failure> {
    let config = Config::load(&places.config(), &ServeArgs::default())?;
    let settings: &Settings = &config.settings;
    let made = cloud::rebuild_catalog(survey, settings, SystemClock.now())
        .context("making the records of the catalog")?;
    keep_export(&places.catalog_export())?;
    let aside =
        SledCatalog::replace(&places.catalog(), &made.records).context("making the catalog")?;
    told.take_catalog(made);
    Ok(Part::Rebuilt(aside.map(|path| path.display().to_string())))
}

/// The next start writes a new export: the old one, which cannot be used, must not be lost by it.
fn keep_export(export: &Path) -> Result<(), Failure> {
    if !export.exists() {
        return Ok(());
    }
    let mut aside = (1..).map(|number| format!("{}.old-{number}", export.display()));
    let aside = aside.find(|name| !Path::new(name).exists()).unwrap_or_default();
    fs::rename(export, &aside).with_context(|| format!("renaming {}", export.display()))?;
    let parent = export.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|file| file.sync_all()).context("syncing the store's directory")?;
    Ok(())
}

/// What there is to tell.
struct Told {
    disks: Vec<Value>,
    snapshots: Vec<String>,
    images: Vec<String>,
    missing: Vec<String>,
}

impl Told {
    /// Of the disks only those that wait for a choice: the others are as they were.
    fn of(survey: &Survey) -> Self {
        let closed = survey.disks.iter().filter(|found| found.is_closed);
        let disks = closed.map(|found| {
            json!({ "DiskId": found.disk.to_string(), "Closed": true, "Unknown": found.doubts })
        });
        let lost = survey.lost.iter().map(|lost| {
            let who: Vec<_> = lost.affects.iter().map(String::as_str).collect();
            format!("layer {}: {}; it takes down {}", lost.layer, lost.reason, who.join(", "))
        });
        let spare = survey.spare_heads.iter().map(|(layer, disk)| {
            format!(
                "disk {disk}: several layers say that they are its head, {layer} among them: none is taken, all are kept"
            )
        });
        let (disks, missing) = (disks.collect(), lost.chain(spare).collect());
        Self { disks, snapshots: Vec::new(), images: Vec::new(), missing }
    }

    fn take_catalog(&mut self, made: cloud::RebuiltCatalog) {
        let document = |disk: &RebuiltDisk| {
            json!({
                "DiskId": disk.id, "AccountName": disk.account, "Origin": origin(&disk.origin), "Closed": disk.is_closed, "Unknown": disk.unknown,
            })
        };
        self.disks = made.disks.iter().map(document).collect();
        (self.snapshots, self.images, self.missing) = (made.snapshots, made.images, made.missing);
    }

    /// Disks that the catalog names and nothing else does.
    fn missing_disks(&mut self, open: &SledCatalog, survey: &Survey) -> Result<(), Failure> {
        let named = open.all::<record::Disk>().context("reading the catalog")?;
        let found = survey.disks.iter().map(|found| &found.disk);
        let known: BTreeSet<_> =
            found.chain(survey.spare_heads.iter().map(|(_, disk)| disk)).collect();
        let is_found = |id: &str| known.iter().any(|disk| disk.as_str() == id);
        let missing = named.iter().filter(|disk| !is_found(&disk.id));
        self.missing.extend(missing.map(|disk| {
            format!("disk {}: no header tells of it: delete it and make it anew", disk.id)
        }));
        Ok(())
    }

    fn report(self, ledger: &Part, catalog: &Part, places: &Places) -> Report {
        let mut lines = vec![line("the ledger", ledger), line("the catalog", catalog)];
        for disk in &self.disks {
            let id = disk["DiskId"].as_str().unwrap_or_default();
            let unknown: Vec<_> = disk["Unknown"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            lines.push(format!("disk {id}: not known: {}", unknown.join("; ")));
            if disk["Closed"] == true {
                let store = places.store().display();
                lines.push(format!("  closed until you choose: reinit --store {store} fsck --accept {id} (as it was found), or with --reset (its origin)"));
            }
        }
        lines.extend(self.missing.iter().cloned());
        let ids = self
            .disks
            .iter()
            .filter_map(|disk| disk["DiskId"].as_str())
            .map(str::to_owned)
            .collect();
        let document = json!({
            "Ledger": word(ledger), "LedgerKeptAs": kept(ledger),
            "Catalog": word(catalog), "CatalogKeptAs": kept(catalog),
            "Disks": self.disks,
            "Snapshots": self.snapshots, "Images": self.images, "Missing": self.missing,
        });
        Report::done(document, ids, lines.join("\n"))
    }
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Empty => "empty".into(),
        Origin::Image { id } => format!("image:{id}"),
        Origin::Snapshot { id } => format!("snapshot:{id}"),
    }
}

fn word(part: &Part) -> &'static str {
    match part {
        Part::Whole => "Whole",
        Part::FromExport => "FromExport",
        Part::Rebuilt(_) => "Rebuilt",
    }
}

fn kept(part: &Part) -> Option<&str> {
    match part {
        Part::Whole | Part::FromExport | Part::Rebuilt(None) => None,
        Part::Rebuilt(Some(name)) => Some(name),
    }
}

fn line(what: &str, part: &Part) -> String {
    match part {
        Part::Whole => format!("{what} can be read and stays as it is"),
        Part::FromExport => format!(
            "{what} is lost, but its export is whole: make sure that there is a directory catalog, and the next start takes the export"
        ),
        Part::Rebuilt(None) => format!("{what} was rebuilt; there was none"),
        Part::Rebuilt(Some(aside)) => {
            format!("{what} was rebuilt; the lost one is kept as {aside}")
        }
    }
}

/// Opens a rebuilt disk as the operator chose.
pub(super) fn accept(
    storage: &Arc<dyn Storage>,
    places: &Places,
    disk: &str,
    to_origin: bool,
) -> Result<Report, Failure> {
    let id: DiskId = disk.parse().map_err(|_| unknown(disk))?;
    let accepted = if to_origin {
        let base = catalog::origin_layer(places, disk)?;
        let time = SystemTime::now();
        Accepted::Origin { base, request_id: Cloud::new_request_id(), time }
    } else {
        Accepted::AsFound
    };
    let receipt =
        block_store::accept_disk(storage, &id, accepted).map_err(|error| match error {
            StoreError::UnknownDisk(_) => unknown(disk),
            StoreError::DiskExists(_) => Failure::local(
                "DiskNotClosed",
                format!("the disk {disk} is not closed; there is nothing to choose"),
            ),
            error @ StoreError::Refused { .. } => Failure::local("DiskRefused", error.to_string()),
            error => refusal(error, places),
        })?;
    let epoch = receipt.as_ref().map(|receipt| receipt.epoch_after.get());
    let how = if to_origin { "at its origin" } else { "as it was found" };
    let document = json!({ "DiskId": disk, "Opened": if to_origin { "Origin" } else { "AsFound" }, "Epoch": epoch });
    Ok(Report::done(document, vec![disk.into()], format!("{disk} is open {how}")))
}

fn unknown(disk: &str) -> Failure {
    Failure::local(
        "InvalidDiskId.NotFound",
        format!("the ledger knows no disk {disk}; reinit fsck names the closed ones"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its content is there: to make the disk anew would be the wrong advice.
    #[test]
    fn a_disk_of_which_several_heads_are_left_is_told_and_not_called_lost() {
        let disk: DiskId = "d-1".parse().unwrap();
        let layer = "07".repeat(16).parse().unwrap();
        let survey = Survey { spare_heads: vec![(layer, disk)], ..Survey::default() };
        let missing = Told::of(&survey).missing;
        assert!(missing.len() == 1 && missing[0].contains("all are kept"), "{missing:?}");
    }
}
