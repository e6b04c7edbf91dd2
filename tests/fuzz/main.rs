//! Bytes that nobody meant: every parser of ours, fed with damaged, spliced and random input.
//!
//! ```text
//! cargo test -p tests --test fuzz                                   the slice of every change: fixed seed, counted inputs
//! REINIT_FUZZ_SECONDS=600 REINIT_SEED=7 cargo test --release -p tests --test fuzz -- --exact TARGET
//! REINIT_FUZZ_REPLAY=FILE cargo test -p tests --test fuzz -- --exact TARGET
//! ```
//! A target is one test here and one module: it takes bytes and asserts what must be true whatever they are. Seeds lie
//! in `tests/corpus/TARGET`; an input that once found a bug stays there. A failing input is kept in
//! `target/fuzz/TARGET/HASH`.
//!
//! What must always hold: no input panics on any thread, takes more than a second of processor time, or more than
//! 256 MiB of memory; the same seed gives the same inputs.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, helpers included")]

mod campaign;
mod catalog_records;
mod edits;
mod limits;
mod mutation;
mod nbd;
mod store;

use campaign::Target;

#[test]
fn layers() {
    Target::new("layers", store::layers).inputs(400).run();
}

#[test]
fn ledger() {
    Target::new("ledger", store::ledger).inputs(400).run();
}

#[test]
fn catalog() {
    let golden = "../crates/catalog/tests/golden/v1";
    Target::new("catalog", catalog_records::prepare).inputs(20_000).seeds_in(golden).run();
}

#[test]
fn nbd_options() {
    Target::new("nbd_options", nbd::options).inputs(1_500).words(&nbd::WORDS).run();
}

#[test]
fn nbd_requests() {
    Target::new("nbd_requests", nbd::requests).inputs(1_500).words(&nbd::WORDS).run();
}
