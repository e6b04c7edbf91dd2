//! Random commits, reopenings, compactions and exports against the catalog in memory.

use std::io::BufReader;
use std::path::Path;

use catalog::record::{Account, Import};
use catalog::{
    Batch, Catalog, CatalogError, MemoryCatalog, Opening, Precondition, Records, SledCatalog,
};
use proptest::prelude::*;

use crate::samples::account;

#[derive(Debug, Clone)]
enum Step {
    Commit { changes: Vec<(u8, Option<u64>)>, conditions: Vec<(u8, Condition)> },
    Reopen,
    Compact,
    ExportAndImport,
}

#[derive(Debug, Clone, Copy)]
enum Condition {
    Absent,
    Present,
    Equals(u64),
}

fn name(key: u8) -> String {
    format!("account-{key}")
}

fn a_condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::Absent),
        Just(Condition::Present),
        (0..3_u64).prop_map(Condition::Equals)
    ]
}

fn a_step() -> impl Strategy<Value = Step> {
    let change = (0..8_u8, prop::option::of(0..3_u64));
    let changes = prop::collection::vec(change, 0..4);
    let conditions = prop::collection::vec((0..8_u8, a_condition()), 0..3);
    prop_oneof![
        12 => (changes, conditions)
            .prop_map(|(changes, conditions)| Step::Commit { changes, conditions }),
        2 => Just(Step::Reopen),
        1 => Just(Step::Compact),
        1 => Just(Step::ExportAndImport),
    ]
}

fn commit(
    catalog: &dyn Catalog,
    changes: &[(u8, Option<u64>)],
    conditions: &[(u8, Condition)],
) -> Result<(), String> {
    let mut batch = Batch::new();
    for (key, value) in changes {
        match value {
            Some(number) => drop(batch.put(&account(&name(*key), *number)).unwrap()),
            None => drop(batch.delete::<Account>(&name(*key))),
        }
    }
    let conditions: Vec<Precondition> =
        conditions.iter().map(|(key, c)| condition(*key, *c)).collect();
    match catalog.commit(&batch, &conditions) {
        Ok(()) => Ok(()),
        Err(CatalogError::Conflict { key }) => Err(key),
        Err(error) => panic!("{error}"),
    }
}

fn condition(key: u8, condition: Condition) -> Precondition {
    match condition {
        Condition::Absent => Precondition::absent::<Account>(&name(key)),
        Condition::Present => Precondition::present::<Account>(&name(key)),
        Condition::Equals(number) => Precondition::unchanged(&account(&name(key), number)).unwrap(),
    }
}

fn open(path: &Path) -> SledCatalog {
    let (catalog, opening) = SledCatalog::open(path).unwrap();
    assert_eq!(opening, Opening::Clean);
    catalog
}

/// A new catalog at `path`, filled by the export of the old one.
fn moved(old: &SledCatalog, path: &Path) -> SledCatalog {
    let mut lines = Vec::new();
    let records = old.export(&mut lines).unwrap();
    let new = SledCatalog::create(path).unwrap();
    assert_eq!(new.import(&mut BufReader::new(lines.as_slice())).unwrap(), records);
    let mark = new.get::<Import>(Import::ID).unwrap().unwrap();
    assert_eq!(mark.records, records);
    let mut batch = Batch::new();
    batch.delete::<Import>(Import::ID);
    new.commit(&batch, &[]).unwrap();
    new
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_catalog_on_disk_is_the_one_in_memory(steps in prop::collection::vec(a_step(), 1..40)) {
        let home = tempfile::tempdir().unwrap();
        let mut path = home.path().join("catalog");
        let mut real = Some(SledCatalog::create(&path).unwrap());
        let model = MemoryCatalog::new();
        for (number, step) in steps.iter().enumerate() {
            let on_disk = real.take().unwrap();
            let next = match step {
                Step::Commit { changes, conditions } => {
                    let (did, should) = (
                        commit(&on_disk, changes, conditions),
                        commit(&model, changes, conditions),
                    );
                    prop_assert_eq!(did, should);
                    on_disk
                }
                Step::Reopen => {
                    drop(on_disk);
                    open(&path)
                }
                Step::Compact => {
                    on_disk.compact().unwrap();
                    on_disk
                }
                Step::ExportAndImport => {
                    path = home.path().join(format!("catalog-{number}"));
                    moved(&on_disk, &path)
                }
            };
            prop_assert_eq!(next.scan("").unwrap(), model.scan("").unwrap());
            prop_assert_eq!(next.all::<Account>().unwrap(), model.all::<Account>().unwrap());
            real = Some(next);
        }
    }
}
