//! The user stories, one module each, told through the command line, signed HTTP and NBD alone.
//!
//! The judges are QEMU's own tools and the official SDKs. `bash tests/run` installs what they need.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, helpers included")]

mod audit;
mod backups;
mod bad_starts;
mod clients;
mod crashes;
mod demo;
mod documents;
mod first_boots;
mod full_store;
mod growth;
mod guests;
mod image_to_reset;
mod keep;
mod limits;
mod log;
mod manners;
mod metrics;
mod mistakes;
mod nbd;
mod official_sdks;
mod operators;
mod origins;
mod rebuild;
mod refusals;
mod restarts;
mod schemathesis;
mod scrub;
mod security_layers;
mod space;
mod structure;
mod tls;
mod top;
mod whole_machines;
