//! `init`: an empty store.
//!
//! What must always hold: the ledger comes last, for a directory with a ledger is a store; one without, left by an
//! `init` that was broken off, can be given to `init` again.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use anyhow::{Context as _, bail};
use block_store::{FileStorage, Store};
use catalog::SledCatalog;
use serde_json::json;

use crate::{failure::Failure, output::Report, places::Places};

/// What may be in the directory already: the configuration, what an earlier `init` left, and what a fresh file
/// system has.
const HARMLESS: [&str; 4] = ["reinit.toml", "catalog", "layers", "lost+found"];

pub(crate) fn run(places: &Places) -> Result<Report, Failure> {
    places.check_sockets()?;
    create(places)?;
    let store = places.store().display().to_string();
    let told = format!("{store} is an empty store; serve it with: reinit --store {store} serve");
    Ok(Report::done(json!({ "Store": store }), vec![store], told))
}

/// Makes an empty store, and its directory if there is none.
pub(crate) fn create(places: &Places) -> anyhow::Result<()> {
    let store = places.store();
    make_directory(store)?;
    refuse_foreign(store)?;
    if !places.catalog().exists() {
        let made = SledCatalog::create(&places.catalog());
        made.with_context(|| format!("making the catalog of {}", store.display()))?;
    }
    let storage =
        FileStorage::open(store).with_context(|| format!("opening {}", store.display()))?;
    Store::create(&storage).with_context(|| format!("making a store in {}", store.display()))
}

fn make_directory(store: &Path) -> anyhow::Result<()> {
    // Disks of other people are nobody else's business.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(store);
    made.with_context(|| format!("making the directory {}", store.display()))
}

fn refuse_foreign(store: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(store).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    for entry in entries.with_context(|| format!("reading {}", store.display()))? {
        let name = entry.file_name();
        if name == "ledger" {
            bail!(
                "{} is a store already; serve it with: reinit --store {0} serve",
                store.display()
            );
        }
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            bail!("{} holds {}; give an empty or a new directory", store.display(), name.display());
        }
    }
    Ok(())
}
