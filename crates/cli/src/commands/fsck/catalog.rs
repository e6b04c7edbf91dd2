//! What the catalog names, read from a copy of it.
//!
//! What must always hold
//! 1. The catalog is opened as a copy outside of the store, for opening it writes.
//! 2. What is told speaks of the store's own files, never of the copy.
//! 3. Files that may not be read tell nothing of damage.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use block_store::{CatalogNames, LayerId, Severity};
use catalog::{
    CatalogError, Opening, Records as _, SledCatalog,
    record::{Disk, Image, Import, Origin, Snapshot},
};

use tempfile::TempDir;

use super::told::Told;
use crate::{failure::Failure, places::Places};

/// What is known of the catalog.
pub(super) struct Catalog {
    /// What it names, if it can be read.
    pub(super) names: Option<CatalogNames>,
    /// What is wrong with its own files.
    pub(super) told: Option<Told>,
    /// It is gone, or its bytes are wrong: nothing that reading it again would cure.
    pub(super) is_lost: bool,
    /// The open copy, and what removes it.
    pub(super) open: Option<(SledCatalog, TempDir)>,
}

impl Catalog {
    /// It cannot be read, and this is why.
    fn closed(told: Told, is_lost: bool) -> Self {
        Self { names: None, told: Some(told), is_lost, open: None }
    }
}

/// The layer that a disk goes back to, by what the catalog says; none for an empty one.
pub(super) fn origin_layer(places: &Places, disk: &str) -> Result<Option<LayerId>, Failure> {
    let gone =
        |what: &str| Failure::local("OriginGone", format!("{what}; open it as it was found"));
    let Some((catalog, _copy)) = read(places)?.open else {
        return Err(gone("the catalog cannot be read, so the origin is not known"));
    };
    let record: Disk = catalog
        .get(disk)
        .context("reading the catalog")?
        .ok_or_else(|| gone(&format!("the catalog does not name the disk {disk}")))?;
    let layer = match &record.origin {
        Origin::Empty => return Ok(None),
        Origin::Image { id } => {
            catalog.get::<Image>(id).context("reading the catalog")?.map(|image| image.layer)
        }
        Origin::Snapshot { id } => {
            catalog.get::<Snapshot>(id).context("reading the catalog")?.map(|made| made.layer)
        }
    };
    let layer = layer.ok_or_else(|| gone(&format!("the origin of {disk} is gone")))?;
    Ok(layer.map(LayerId::from_bytes))
}

/// Reads what the catalog names.
pub(super) fn read(places: &Places) -> Result<Catalog, Failure> {
    let scratch = tempfile::tempdir().context("making a directory for a copy of the catalog")?;
    let copy = scratch.path().join("catalog");
    match copy_plain(&places.catalog(), &copy) {
        Ok(()) => {}
        Err(CopyError::Source(path, error)) => return Ok(unread(places, &path, &error)),
        Err(CopyError::Copy(error)) => {
            return Err(anyhow::Error::new(error).context("copying the catalog").into());
        }
    }
    // No export lies beside the copy, so that none takes its place.
    match SledCatalog::open(&copy) {
        Ok((catalog, opening)) => {
            let names = names(&catalog).context("reading the catalog")?;
            let told = matches!(opening, Opening::WithoutSnapshot { .. }).then(derived);
            let open = Some((catalog, scratch));
            Ok(Catalog { names: Some(names), told, is_lost: false, open })
        }
        Err(error) => {
            let is_newer = matches!(error, CatalogError::Newer { .. });
            let what = match error {
                CatalogError::NeedsRebuild { cause, .. } => cause,
                CatalogError::Damaged { .. }
                | CatalogError::Unreadable { .. }
                | CatalogError::Newer { .. } => format!("{:#}", anyhow::Error::new(error)),
                error => {
                    let error = anyhow::Error::new(error);
                    return Err(error.context("opening a copy of the catalog").into());
                }
            };
            let (copy, real) = (scratch.path().display(), places.store().display());
            let what = what.replace(&copy.to_string(), &real.to_string());
            Ok(unreadable(places, &what, !is_newer))
        }
    }
}

/// A file of the catalog could not be copied, by no fault of the copy.
fn unread(places: &Places, path: &Path, error: &io::Error) -> Catalog {
    match error.kind() {
        io::ErrorKind::NotFound if path == places.catalog() => {
            unreadable(places, &format!("the directory {} is missing", path.display()), true)
        }
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData => {
            unreadable(places, &format!("{}: {error}", path.display()), true)
        }
        _ => {
            let message = format!(
                "cannot be looked at: {}: {error}; that tells nothing of damage; no resource is known, so nothing is \
                 compared with it; check again as the store's owner",
                path.display()
            );
            let told = Told::new("NotReadable", Severity::Unknown, "the catalog", message);
            Catalog::closed(told, false)
        }
    }
}

fn unreadable(places: &Places, what: &str, is_lost: bool) -> Catalog {
    let (export, directory) = (places.catalog_export(), places.catalog());
    let next = match (export.exists(), directory.exists()) {
        (true, true) => {
            "the next start takes catalog.export.jsonl in its place if that is whole: keep a copy of \
             the store before"
        }
        (true, false) => {
            "make an empty directory catalog, and the next start takes catalog.export.jsonl in its \
             place: keep a copy of the store before"
        }
        (false, _) => {
            "there is no export of it either: bring it back from a backup, or make it anew of the \
             headers of the layers with fsck --rebuild"
        }
    };
    let message = format!("{what}; no resource is known, so nothing is compared with it; {next}");
    let told = Told::new("CatalogUnreadable", Severity::Damage, "the catalog", message);
    Catalog::closed(told, is_lost)
}

fn derived() -> Told {
    let message =
        "a derived file of it is damaged and no record is lost; the next start makes it anew";
    Told::new("CatalogDerived", Severity::Note, "the catalog", message)
}

/// Why there is no copy: the path that cannot be read, or the place of the copy.
enum CopyError {
    Source(PathBuf, io::Error),
    Copy(io::Error),
}

fn copy_plain(from: &Path, to: &Path) -> Result<(), CopyError> {
    let source = |error| CopyError::Source(from.to_owned(), error);
    let listed = fs::read_dir(from).map_err(source)?;
    fs::create_dir(to).map_err(CopyError::Copy)?;
    for entry in listed {
        let entry = entry.map_err(source)?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let of_it = |error| CopyError::Source(path.clone(), error);
        let kind = entry.file_type().map_err(of_it)?;
        if kind.is_dir() {
            copy_plain(&path, &to)?;
        } else if kind.is_file() {
            let mut file = File::open(&path).map_err(of_it)?;
            let mut copy = File::create(&to).map_err(CopyError::Copy)?;
            io::copy(&mut file, &mut copy).map_err(CopyError::Copy)?;
        } else {
            let what = io::Error::new(io::ErrorKind::InvalidData, "it is not a plain file");
            return Err(of_it(what));
        }
    }
    Ok(())
}

pub(super) fn names(catalog: &SledCatalog) -> anyhow::Result<CatalogNames> {
    let mut names = CatalogNames {
        may_be_older: catalog.get::<Import>(Import::ID)?.is_some(),
        ..CatalogNames::default()
    };
    for disk in catalog.all::<Disk>()? {
        names.disks.insert(disk.id.parse().with_context(|| format!("the disk {}", disk.id))?);
    }
    let images = catalog.all::<Image>()?.into_iter().flat_map(|image| {
        let security = image.security_layer.map(|security| security.layer);
        let named = security.map(|layer| (Some(layer), format!("{} (security layer)", image.id)));
        std::iter::once((image.layer, image.id)).chain(named)
    });
    let snapshots = catalog.all::<Snapshot>()?.into_iter().map(|made| (made.layer, made.id));
    for (layer, id) in images.chain(snapshots) {
        if let Some(layer) = layer.map(LayerId::from_bytes) {
            names.layers.entry(layer).or_default().insert(id);
        }
    }
    Ok(names)
}
