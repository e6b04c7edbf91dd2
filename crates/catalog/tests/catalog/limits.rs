//! Nothing too large gets in, and sled never puts a value into a file of its own.

use catalog::record::{Account, Task};
use catalog::{Batch, Catalog, CatalogError, KEY_LIMIT, Records, VALUE_LIMIT};

use crate::samples::{account, fresh, task};

#[test]
fn the_largest_record_fits_and_no_larger_one() {
    let (_home, catalog) = fresh();
    let mut batch = Batch::new();
    batch.put(&task("t-1", String::new())).unwrap();
    catalog.commit(&batch, &[]).unwrap();
    let overhead = catalog.read("task/t-1").unwrap().unwrap().len();

    let largest = task("t-1", "x".repeat(VALUE_LIMIT - overhead));
    let mut batch = Batch::new();
    batch.put(&largest).unwrap();
    catalog.commit(&batch, &[]).unwrap();
    assert_eq!(catalog.get::<Task>("t-1").unwrap(), Some(largest));

    let too_large =
        Batch::new().put(&task("t-1", "x".repeat(VALUE_LIMIT - overhead + 1))).map(drop);
    assert!(matches!(too_large, Err(CatalogError::TooLarge { limit: VALUE_LIMIT, .. })));
    let far_too_large = Batch::new().put(&task("t-1", "x".repeat(3 << 20))).map(drop);
    assert!(matches!(far_too_large, Err(CatalogError::TooLarge { limit: VALUE_LIMIT, .. })));
    let long_key = Batch::new().put(&account(&"x".repeat(KEY_LIMIT), 1)).map(drop);
    assert!(matches!(long_key, Err(CatalogError::TooLarge { limit: KEY_LIMIT, .. })));
}

/// sled keeps values in leaves that it splits by number, not by size, and puts a large leaf into a
/// file of its own: so the largest values and keys, in every order, grown, removed and merged.
#[test]
fn no_value_becomes_a_file() {
    let (home, catalog) = fresh();
    let blobs = home.path().join("catalog/blobs");
    let id = |number: u64| format!("{number:0900}");
    let put = |numbers: &[u64], message: &str| {
        let mut batch = Batch::new();
        for number in numbers {
            batch.put(&task(&id(*number), message.repeat(15_000))).unwrap();
        }
        catalog.commit(&batch, &[]).unwrap();
        assert_eq!(blobs.read_dir().unwrap().count(), 0);
    };
    let all: Vec<u64> = (0..90).collect();
    for number in &all {
        put(&[number * 37 % 90], "x");
    }
    put(&all, "y");
    for number in all.iter().filter(|number| *number % 5 != 0) {
        let mut batch = Batch::new();
        batch.delete::<Task>(&id(*number));
        catalog.commit(&batch, &[]).unwrap();
        put(&[number / 5 * 5], "z");
    }
    put(&all, "a");
    catalog.compact().unwrap();
    put(&all, "b");
    assert_eq!(catalog.all::<Task>().unwrap().len(), 90);
}

#[test]
fn what_ends_in_nothing_deletes_all_of_it() {
    let (_home, catalog) = fresh();
    let mut batch = Batch::new();
    batch.put(&account("a", 1)).unwrap().delete::<Account>("a").delete::<Account>("b");
    catalog.commit(&batch, &[]).unwrap();
    assert_eq!(catalog.all::<Account>().unwrap(), []);
}
