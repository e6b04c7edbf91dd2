//! Small records and shortcuts that the other modules use.

use catalog::record::{Account, Task, TaskStatus};
use catalog::{Batch, Catalog, CatalogError, SledCatalog};
use tempfile::TempDir;

/// An account that is told apart by its name and number.
pub(crate) fn account(name: &str, number: u64) -> Account {
    Account {
        name: name.to_owned(),
        number,
        created: 1_790_000_000,
        in_arrears: false,
        quota_bytes: None,
    }
}

/// A task whose message is as long as wished.
pub(crate) fn task(id: &str, message: String) -> Task {
    Task {
        id: id.to_owned(),
        account: "lab".to_owned(),
        action: "ImportImage".to_owned(),
        resource: "m-1".to_owned(),
        status: TaskStatus::Failed,
        progress_percent: 3,
        created: 1_790_000_000,
        finished: None,
        cancellable: false,
        error_code: "NoSpace".to_owned(),
        error_message: message,
    }
}

/// Commits one account.
pub(crate) fn put(catalog: &dyn Catalog, name: &str, number: u64) -> Result<(), CatalogError> {
    let mut batch = Batch::new();
    batch.put(&account(name, number))?;
    catalog.commit(&batch, &[])
}

/// A new catalog in a directory of its own.
pub(crate) fn fresh() -> (TempDir, SledCatalog) {
    let home = tempfile::tempdir().unwrap();
    let catalog = SledCatalog::create(&home.path().join("catalog")).unwrap();
    (home, catalog)
}
