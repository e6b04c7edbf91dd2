//! What `instance` accepts.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};

use super::AccountArg;
use crate::size::Size;

#[derive(Debug, Subcommand)]
pub(crate) enum InstanceCommand {
    /// Make an instance with its disks
    #[command(
        after_help = "Example:\n  reinit instance create --image m-23jbf2v5m0123456789a --size 40G --data-disk 10G --data-disk 20G"
    )]
    Create(InstanceCreateArgs),
    /// List the instances
    #[command(after_help = "Example:\n  reinit instance ls")]
    Ls(AccountArg),
    /// Show one instance and its disks
    #[command(after_help = "Example:\n  reinit instance show i-23jbf2v5m0123456789a")]
    Show(OneInstance),
    /// Start an instance: its disks open to clients
    #[command(after_help = "Example:\n  reinit instance start i-23jbf2v5m0123456789a")]
    Start(OneInstance),
    /// Stop an instance: its disks are flushed and closed to clients
    #[command(after_help = "Example:\n  reinit instance stop i-23jbf2v5m0123456789a")]
    Stop {
        #[command(flatten)]
        instance: OneInstance,
        /// Without waiting for the guest
        #[arg(long)]
        force: bool,
    },
    /// Delete a stopped instance and the disks that go with it
    #[command(after_help = "Example:\n  reinit instance rm i-23jbf2v5m0123456789a")]
    Rm {
        #[command(flatten)]
        instance: OneInstance,
        /// Also a running one
        #[arg(long)]
        force: bool,
    },
    /// Lock an instance
    #[command(
        after_help = "Example:\n  reinit instance lock i-23jbf2v5m0123456789a --reason security"
    )]
    Lock {
        #[command(flatten)]
        instance: OneInstance,
        /// Why
        #[arg(long, value_enum)]
        reason: LockReason,
    },
    /// Write what cloud-init reads at the first boot: login, host name, user data
    ///
    /// A NoCloud seed: a directory with the files meta-data, user-data and perhaps vendor-data, or, if the name ends in
    /// .iso, an image with the label CIDATA to attach to the machine. It is a new one after each reset of the
    /// system disk. What is there under the name is replaced. It holds the hash of the password and has mode 0600.
    #[command(after_help = "Examples:\n  reinit instance seed i-23jbf2v5m0123456789a seed.iso\n  \
                            reinit instance seed i-23jbf2v5m0123456789a /srv/seeds/one")]
    Seed(SeedArgs),
    /// Take the locks of an instance away
    #[command(after_help = "Example:\n  reinit instance unlock i-23jbf2v5m0123456789a")]
    Unlock(OneInstance),
}

#[derive(Debug, Args)]
pub(crate) struct SeedArgs {
    #[command(flatten)]
    pub(crate) instance: OneInstance,
    /// The directory, or the file that ends in .iso
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct OneInstance {
    /// The instance's id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) instance: String,
    #[command(flatten)]
    pub(crate) owner: AccountArg,
}

#[derive(Debug, Args)]
pub(crate) struct InstanceCreateArgs {
    /// The image its system disk is made from
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) image: String,
    /// The size of its system disk [default: the image's]
    #[arg(long)]
    pub(crate) size: Option<Size>,
    /// An empty data disk of this size; repeat for more
    #[arg(long = "data-disk", value_name = "SIZE")]
    pub(crate) data_disks: Vec<Size>,
    /// The instance's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) owner: AccountArg,
}

/// Why an instance is locked.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LockReason {
    /// Something is wrong with what it does
    Security,
    /// Something is owed
    Financial,
}
