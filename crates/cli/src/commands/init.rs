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

use crate::{daemon::no_store, failure::Failure, output::Report, places::Places};

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
    refuse_store(places)?;
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

/// Also one whose ledger is lost: told to take an empty directory, somebody might empty this one.
fn refuse_store(places: &Places) -> anyhow::Result<()> {
    let store = places.store();
    if store.join("ledger").exists() {
        bail!("{} is a store already; serve it with: reinit --store {0} serve", store.display());
    }
    let has_layers = fs::read_dir(store.join("layers")).is_ok_and(|mut all| all.next().is_some());
    if has_layers { Err(no_store(places).into()) } else { Ok(()) }
}

fn refuse_foreign(store: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(store).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    for entry in entries.with_context(|| format!("reading {}", store.display()))? {
        let name = entry.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            bail!("{} holds {}; give an empty or a new directory", store.display(), name.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_never_told_to_be_emptied_also_not_one_without_its_ledger() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path();
        let refused = || {
            let failure = run(&Places::new(Some(store)).unwrap()).unwrap_err();
            assert!(!failure.message.contains("empty"), "{}", failure.message);
            failure.message
        };
        create(&Places::new(Some(store)).unwrap()).unwrap();
        fs::write(store.join("audit.jsonl"), "").unwrap();
        fs::create_dir(store.join("layers/0123456789abcdef0123456789abcdef")).unwrap();
        assert!(refused().contains("is a store already"));
        fs::remove_file(store.join("ledger")).unwrap();
        assert!(refused().contains("fsck --rebuild"));
        assert!(!store.join("ledger").exists());
    }

    #[test]
    fn an_init_that_was_broken_off_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::new(Some(directory.path())).unwrap();
        create(&places).unwrap();
        fs::remove_file(directory.path().join("ledger")).unwrap();
        create(&places).unwrap();
        fs::write(directory.path().join("mine"), "").unwrap();
        fs::remove_file(directory.path().join("ledger")).unwrap();
        assert!(create(&places).unwrap_err().to_string().contains("holds mine"));
    }
}
