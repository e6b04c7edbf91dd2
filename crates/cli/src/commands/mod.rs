//! One file per noun: what the daemon is asked, and how its answer is told.

pub(crate) mod account;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod demo;
pub(crate) mod disk;
pub(crate) mod fsck;
pub(crate) mod image;
pub(crate) mod init;
pub(crate) mod instance;
pub(crate) mod key;
pub(crate) mod manual;
pub(crate) mod reset;
pub(crate) mod scrub;
mod seed;
pub(crate) mod serve;
pub(crate) mod snapshot;
pub(crate) mod tls;
pub(crate) mod top;
