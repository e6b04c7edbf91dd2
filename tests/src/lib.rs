//! The harness of the tests: the command line, a daemon on a throw-away store, clients and judges.
//!
//! What must always hold: the stories drive what a user drives; nothing here reaches into a crate of ours for a
//! result. Servers listen on loopback and unix sockets only and end with their test.

pub mod client;
pub mod daemon;
pub mod ecs;
pub mod faulty_storage;
pub mod guest;
pub mod kept_connection;
pub mod program;
pub mod qemu;
pub mod reader;
pub mod recorded_storage;
pub mod reference_model;
pub mod sdk;
pub mod signature;
pub mod simulation;
pub mod site;
