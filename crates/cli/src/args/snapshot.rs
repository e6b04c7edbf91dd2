//! What `snapshot` accepts.

use clap::{Subcommand, builder::NonEmptyStringValueParser};

use super::{AccountArg, OneDisk};

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Snapshot a disk
    #[command(
        after_help = "Example:\n  reinit snapshot create d-23jbf2v5m0123456789a --name clean"
    )]
    Create {
        #[command(flatten)]
        disk: OneDisk,
        /// The snapshot's name
        #[arg(long)]
        name: Option<String>,
    },
    /// List the snapshots
    #[command(after_help = "Example:\n  reinit snapshot ls")]
    Ls(AccountArg),
    /// Delete a snapshot
    #[command(after_help = "Example:\n  reinit snapshot rm s-23jbf2v5m0123456789a")]
    Rm {
        /// The snapshot's id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        snapshot: String,
        /// Also when disks were made from it: they can no longer be reset
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        owner: AccountArg,
    },
}
