//! `fsck`: whether the store's structure is whole; with `--repair`, what of it can be put right.
//!
//! What must always hold: the store is at rest all the while; without `--repair` nothing is changed, and a
//! read-only file system will do.
//! Left to others: check and repair of ledger and layers (`block-store`), the catalog (`catalog`), the words (`told`).

mod catalog;
mod rebuild;
mod told;

use std::{fs, io, sync::Arc};

use anyhow::Context as _;
use block_device::ByteLength;
use block_store::{FileStorage, Progress, RepairMode, Repaired, Severity, Storage, StoreError};
use indicatif::ProgressBar;

use self::told::Told;
use crate::{
    args::{Common, FsckArgs},
    daemon,
    exit_code::Exit,
    failure::Failure,
    output,
    output::Report,
    places::Places,
};

pub(crate) fn run(places: &Places, common: &Common, args: &FsckArgs) -> Result<Report, Failure> {
    let path = places.store();
    let storage = FileStorage::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => daemon::no_store(places),
        _ => Failure::local("StoreUnavailable", format!("opening {}: {error}", path.display())),
    })?;
    let storage: Arc<dyn Storage> = Arc::new(storage);
    // Before the catalog: a running daemon is writing it.
    refuse_running(&storage, places)?;
    if args.rebuild {
        return rebuild::run(&storage, places);
    }
    if let Some(disk) = &args.accept {
        return rebuild::accept(&storage, places, disk, args.reset);
    }
    let catalog = catalog::read(places)?;
    let bar = Bar(output::count_bar(common, "layers"));
    let repaired = if args.repair {
        let mode = if args.dry_run { RepairMode::DryRun } else { RepairMode::Apply };
        block_store::repair_structure(&storage, catalog.names.as_ref(), mode, &bar)
    } else {
        block_store::check_structure(&storage, catalog.names.as_ref(), &bar)
            .map(|left| Repaired { repairs: Vec::new(), left })
    };
    bar.0.finish_and_clear();
    let repaired = repaired.map_err(|error| refusal(error, places))?;
    let own: Vec<Told> = catalog.told.into_iter().chain(foreign_names(places)?).collect();
    let report = told::report(&repaired, &own, args.repair);
    if report.exit == Exit::Failed {
        output::note("reinit: not all is well; docs/operations.md says what to do for each kind");
    }
    Ok(report)
}

/// The whole check takes the lock again; whoever comes in between is refused by it.
fn refuse_running(storage: &Arc<dyn Storage>, places: &Places) -> Result<(), Failure> {
    if !storage.exists("lock").context("looking for the lock")? {
        return Ok(());
    }
    storage.lock_to_read("lock").map(drop).map_err(|error| refusal(error.into(), places))
}

fn refusal(error: StoreError, places: &Places) -> Failure {
    match error {
        StoreError::NotAStore => daemon::no_store(places),
        StoreError::Locked { holder } => {
            let message = format!(
                "{}; end it first, for a check needs the store at rest",
                daemon::held_by(places, &holder)
            );
            Failure::local("StoreLocked", message)
        }
        error => anyhow::Error::new(error).context("checking the store").into(),
    }
}

/// What lies in the store and is none of ours.
fn foreign_names(places: &Places) -> Result<Vec<Told>, Failure> {
    let listed = fs::read_dir(places.store()).context("listing the store")?;
    let mut names = Vec::new();
    for entry in listed {
        let name = entry.context("listing the store")?.file_name();
        names.extend(Some(name.to_string_lossy().into_owned()).filter(|name| !Places::knows(name)));
    }
    names.sort();
    let message = "no file of ours; it is left alone";
    Ok(names.into_iter().map(|name| Told::new("Foreign", Severity::Note, name, message)).collect())
}

/// How many layers are behind us.
struct Bar(ProgressBar);

impl Progress for Bar {
    fn advanced(&self, done: ByteLength, total: ByteLength) {
        self.0.set_length(total.get());
        self.0.set_position(done.get());
    }
}
