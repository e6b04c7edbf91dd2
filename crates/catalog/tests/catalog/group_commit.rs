//! Commits that wait at the same time share a sync; a failed sync stops all of them.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use catalog::record::Account;
use catalog::{Batch, Catalog, CatalogError, LogSync, Opening, Precondition, Records, SledCatalog};

use crate::samples::{account, fresh, put};

/// A slow device that counts, and can be told to fail.
#[derive(Debug, Default)]
struct SlowSync {
    syncs: AtomicU64,
    fails: AtomicBool,
}

impl LogSync for SlowSync {
    fn sync(&self, log: &File) -> io::Result<()> {
        // Relaxed: the channels between the threads order these with the commits.
        self.syncs.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(20));
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        log.sync_data()
    }
}

fn on_slow_device() -> (tempfile::TempDir, SledCatalog, Arc<SlowSync>) {
    let (home, catalog) = fresh();
    drop(catalog);
    let sync = Arc::new(SlowSync::default());
    let (catalog, opening) =
        SledCatalog::open_with(&home.path().join("catalog"), sync.clone()).unwrap();
    assert_eq!(opening, Opening::Clean);
    (home, catalog, sync)
}

#[test]
fn waiting_commits_share_a_sync() {
    const THREADS: u64 = 32;
    let (_home, catalog, sync) = on_slow_device();
    let start = Barrier::new(32);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (start, catalog) = (&start, &catalog);
            scope.spawn(move || {
                start.wait();
                put(catalog, &format!("account-{number}"), number).unwrap();
            });
        }
    });
    assert_eq!(catalog.all::<Account>().unwrap().len(), 32);
    let syncs = sync.syncs.load(Ordering::Relaxed);
    assert!(syncs <= 4, "{THREADS} commits took {syncs} syncs");
}

#[test]
fn of_commits_that_exclude_each_other_one_wins() {
    let (_home, catalog, _sync) = on_slow_device();
    let won = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..16 {
            let (won, catalog) = (&won, &catalog);
            scope.spawn(move || {
                let mut batch = Batch::new();
                batch.put(&account("only", number)).unwrap();
                match catalog.commit(&batch, &[Precondition::absent::<Account>("only")]) {
                    Ok(()) => drop(won.fetch_add(1, Ordering::Relaxed)),
                    Err(CatalogError::Conflict { key }) => assert_eq!(key, "account/only"),
                    Err(error) => panic!("{error}"),
                }
            });
        }
    });
    assert_eq!(won.load(Ordering::Relaxed), 1);
}

#[test]
fn a_reader_sees_a_commit_only_once_it_is_durable() {
    let (_home, catalog, sync) = on_slow_device();
    put(&catalog, "a", 1).unwrap();
    let before = sync.syncs.load(Ordering::Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut batch = Batch::new();
            batch.put(&account("a", 2)).unwrap().put(&account("b", 2)).unwrap();
            catalog.commit(&batch, &[]).unwrap();
        });
        while sync.syncs.load(Ordering::Relaxed) == before {
            thread::yield_now();
        }
        // The sync has begun and takes 20 ms: transacted, flushed, but not durable.
        assert_eq!(catalog.get("a").unwrap(), Some(account("a", 1)));
        assert_eq!(catalog.get::<Account>("b").unwrap(), None);
        assert_eq!(catalog.all::<Account>().unwrap(), [account("a", 1)]);
    });
    assert_eq!(catalog.all::<Account>().unwrap(), [account("a", 2), account("b", 2)]);
}

#[test]
fn readers_and_committers_hardly_notice_a_compaction() {
    let (_home, catalog) = fresh();
    put(&catalog, "steady", 7).unwrap();
    let running = AtomicBool::new(true);
    thread::scope(|scope| {
        for writer in 0..2 {
            let (catalog, running) = (&catalog, &running);
            scope.spawn(move || {
                let mut number = 0;
                while running.load(Ordering::Relaxed) {
                    put(catalog, &format!("writer-{writer}"), number).unwrap();
                    let found = catalog.get(&format!("writer-{writer}")).unwrap();
                    assert_eq!(found, Some(account(&format!("writer-{writer}"), number)));
                    assert_eq!(catalog.get("steady").unwrap(), Some(account("steady", 7)));
                    number += 1;
                }
            });
        }
        for _ in 0..5 {
            catalog.compact().unwrap();
        }
        running.store(false, Ordering::Relaxed);
    });
    assert_eq!(catalog.all::<Account>().unwrap().len(), 3);
}

#[test]
fn after_a_failed_sync_nothing_more_is_taken() {
    let (home, catalog, sync) = on_slow_device();
    put(&catalog, "before", 1).unwrap();
    sync.fails.store(true, Ordering::Relaxed);
    let doubtful = put(&catalog, "doubtful", 2).unwrap_err();
    assert!(matches!(doubtful, CatalogError::InDoubt { .. }), "{doubtful}");

    sync.fails.store(false, Ordering::Relaxed);
    let refused = put(&catalog, "after", 3).unwrap_err();
    assert!(matches!(&refused, CatalogError::Refused { reason } if reason.contains("fdatasync")));
    assert!(matches!(catalog.compact(), Err(CatalogError::Refused { .. })));
    assert_eq!(catalog.all::<Account>().unwrap(), [account("before", 1)], "reads go on");

    drop(catalog);
    let (catalog, _) = SledCatalog::open(&home.path().join("catalog")).unwrap();
    assert_eq!(catalog.get("before").unwrap(), Some(account("before", 1)));
    assert_eq!(catalog.get::<Account>("after").unwrap(), None);
    put(&catalog, "after", 3).unwrap();
}
