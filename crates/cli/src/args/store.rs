//! The store as a whole: `fsck`, `scrub` and `demo`.

use std::path::PathBuf;

use clap::{Args, builder::NonEmptyStringValueParser};

use crate::size::Size;

pub(super) const FSCK_HELP: &str = "Examples:\n  reinit --store /srv/reinit fsck --json\n  reinit --store /srv/reinit fsck --repair --dry-run\n\n\
     --repair never touches data, maps, hashes or words, removes no layer without a deletion mark, and guesses nothing: \
     what it leaves is told with the reason and what to do. It may be broken off and run again at any time.\n\n\
     --rebuild replaces nothing that can be read, keeps what was lost under another name, and names what no header tells. \
     Its disks are closed, for a header may be older than the last reset: choose with --accept DISK, or --accept DISK --reset.";

/// What `fsck` accepts.
#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// Put right what is proved: broken copies of headers, ledger records with one flipped bit, derived files, leftovers
    #[arg(long)]
    pub(crate) repair: bool,
    /// With --repair: tell what it would do, and change nothing
    // A conflict elsewhere waives what is required: named here too, or the others would run in earnest.
    #[arg(long, requires = "repair", conflicts_with_all = ["rebuild", "accept"])]
    pub(crate) dry_run: bool,
    /// Make a lost ledger and a lost catalog anew of the headers of the layers; disks then stay closed until accepted
    #[arg(long, conflicts_with_all = ["repair", "accept"])]
    pub(crate) rebuild: bool,
    /// Open a rebuilt disk as it was found, which may be from before its last reset
    #[arg(long, value_name = "DISK", conflicts_with = "repair", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) accept: Option<String>,
    /// With --accept: open it at its origin instead; what was written to it is gone
    #[arg(long, requires = "accept", conflicts_with_all = ["repair", "rebuild"])]
    pub(crate) reset: bool,
}

pub(super) const SCRUB_HELP: &str = "The daemon does it in the background when one runs; else this command does it itself. What is damaged is named, \
never repaired, and no longer served; exit 1. A run that was stopped (Ctrl-C) or killed is gone on with by the next.\n\n\
Examples:\n  reinit scrub --rate 100M\n  reinit scrub --background && reinit scrub --status";

#[derive(Debug, Args)]
pub(crate) struct ScrubArgs {
    /// Bytes to read in a second at most, 0 for no limit [default: 64M]
    #[arg(long, value_name = "SIZE")]
    pub(crate) rate: Option<Size>,
    /// Only show how far the daemon's scrub is, or what the last one found
    #[arg(long, conflicts_with_all = ["rate", "background", "cancel"])]
    pub(crate) status: bool,
    /// Start it and do not wait for its end
    #[arg(long)]
    pub(crate) background: bool,
    /// Stop the daemon's scrub
    #[arg(long, conflicts_with_all = ["rate", "background"])]
    pub(crate) cancel: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the store in this directory (it must not exist yet) to go on with it
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}
