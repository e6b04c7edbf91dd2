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
mod config;
mod edits;
mod images;
mod limits;
mod mutation;
mod nbd;
mod parameters;
mod service;
mod signed;
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

#[test]
fn parameters() {
    Target::new("parameters", parameters::prepare).inputs(1_500).words(&parameters::WORDS).run();
}

#[test]
fn signature_v1() {
    Target::new("signature_v1", signed::v1).inputs(1_000).run();
}

#[test]
fn signature_acs3() {
    Target::new("signature_acs3", signed::acs3).inputs(1_000).run();
}

#[test]
fn signed_texts() {
    Target::new("signed_texts", signed::anything).inputs(1_000).words(&signed::WORDS).run();
}

#[test]
fn qcow2() {
    Target::new("qcow2", images::qcow2).inputs(1_000).run();
}

#[test]
fn vmdk() {
    Target::new("vmdk", images::vmdk).inputs(800).words(&images::VMDK_WORDS).run();
}

#[test]
fn vhd() {
    Target::new("vhd", images::vhd).inputs(400).run();
}

#[test]
fn raw() {
    Target::new("raw", images::raw).inputs(200).run();
}

#[test]
fn config() {
    Target::new("config", config::prepare).inputs(300).words(&config::WORDS).run();
}
