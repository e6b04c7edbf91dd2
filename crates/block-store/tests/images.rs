//! Images of other makers: what `qemu-img` writes is read byte for byte, what is hostile is
//! refused with its reason, and what we export `qemu-img` finds clean and identical.
//!
//! The rows "Images and paths" of the table of bad input that concern parsing are here, one test
//! each. Tests that need `qemu-img` (package qemu-utils) skip, loudly, where it is missing.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may unwrap as the tests do")]

mod images {
    mod workshop;

    mod changed;
    mod export;
    mod fuzz;
    mod hostile;
    mod read;
    mod references;
    mod vhd;
}
