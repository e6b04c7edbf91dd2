//! A process is killed while it commits: every commit it reported is there, whole.
//!
//! The child is this very test binary, told by a variable to commit, and to compact now
//! and then, for ever and print each answer.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use catalog::record::Account;
use catalog::{Batch, Catalog, Opening, Records, SledCatalog};

use crate::samples::account;

const DIRECTORY: &str = "CATALOG_KILL_DIRECTORY";

/// Does nothing unless it is the child.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let (catalog, _) = SledCatalog::open(&PathBuf::from(directory)).unwrap();
    let first = catalog.get::<Account>("left").unwrap().map_or(0, |account| account.number + 1);
    for number in first.. {
        let mut batch = Batch::new();
        batch.put(&account("left", number)).unwrap().put(&account("right", number)).unwrap();
        catalog.commit(&batch, &[]).unwrap();
        eprintln!("answered {number}");
        if number % 4 == 3 {
            catalog.compact().unwrap();
        }
    }
}

fn spawn(directory: &std::path::Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn what_was_answered_before_a_kill_is_there() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("catalog");
    drop(SledCatalog::create(&directory).unwrap());
    for round in 0..6_usize {
        let mut child = spawn(&directory);
        let answers = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut numbers =
            answers.filter_map(|line| line.strip_prefix("answered ")?.parse::<u64>().ok());
        let seen = numbers.nth(7 + round * 5).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let last = numbers.last().unwrap_or(seen);

        let (catalog, opening) = SledCatalog::open(&directory).unwrap();
        assert_eq!(opening, Opening::Clean);
        let left = catalog.get::<Account>("left").unwrap().unwrap().number;
        let right = catalog.get::<Account>("right").unwrap().unwrap().number;
        assert_eq!(left, right, "a commit was torn");
        assert!(left == last || left == last + 1, "answered {last}, found {left}");
    }
}
