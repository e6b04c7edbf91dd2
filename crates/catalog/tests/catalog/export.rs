//! An export is whole, in order and unaltered, or it is refused.

use std::io::BufReader;

use catalog::record::{Account, Import};
use catalog::{Catalog, CatalogError, MemoryCatalog, Records};

use crate::samples::{account, put};

fn exported() -> String {
    let catalog = MemoryCatalog::new();
    put(&catalog, "a", 1).unwrap();
    put(&catalog, "b", 2).unwrap();
    let mut lines = Vec::new();
    assert_eq!(catalog.export(&mut lines).unwrap(), 2);
    String::from_utf8(lines).unwrap()
}

fn import(lines: &str) -> Result<MemoryCatalog, CatalogError> {
    let catalog = MemoryCatalog::new();
    catalog.import(&mut BufReader::new(lines.as_bytes())).map(|_| catalog)
}

#[test]
fn it_comes_back_as_it_was_and_is_marked() {
    let catalog = import(&exported()).unwrap();
    assert_eq!(catalog.all::<Account>().unwrap(), [account("a", 1), account("b", 2)]);
    assert_eq!(catalog.get::<Import>(Import::ID).unwrap().unwrap().records, 2);
    let mut again = Vec::new();
    catalog.export(&mut again).unwrap();
    assert_eq!(String::from_utf8(again).unwrap(), exported(), "the mark is not exported");
}

#[test]
fn people_can_read_it() {
    let lines = exported();
    let second = lines.lines().nth(1).unwrap();
    assert!(second.starts_with(r#"{"kind":"account","version":1,"record":{"#), "{second}");
}

#[test]
fn a_cut_one_is_refused_at_every_byte() {
    let lines = exported();
    for length in 0..lines.len() {
        let error = import(&lines[..length]).unwrap_err();
        assert!(matches!(error, CatalogError::BadExport { .. }), "{length}: {error}");
    }
}

#[test]
fn an_altered_one_is_refused() {
    let lines = exported();
    let altered = [
        lines.replace(r#""number":1"#, r#""number":7"#),
        lines.replace(r#""kind":"account""#, r#""kind":"import""#),
        lines.replace(r#""version":1"#, r#""version":9"#),
        lines.replace(r#""reinit_catalog":1"#, r#""reinit_catalog":2"#),
        lines.lines().enumerate().filter(|(n, _)| *n != 1).map(|(_, l)| format!("{l}\n")).collect(),
    ];
    for lines in altered {
        assert!(matches!(import(&lines), Err(CatalogError::BadExport { .. })), "{lines}");
    }
}

#[test]
fn a_catalog_with_records_takes_none() {
    let catalog = MemoryCatalog::new();
    put(&catalog, "c", 3).unwrap();
    let refused = catalog.import(&mut BufReader::new(exported().as_bytes()));
    assert!(matches!(refused, Err(CatalogError::NotEmpty { records: 1 })));
    assert_eq!(catalog.all::<Account>().unwrap(), [account("c", 3)]);
}
