//! What `disk` accepts.

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};

use super::AccountArg;
use crate::size::Size;

#[derive(Debug, Subcommand)]
pub(crate) enum DiskCommand {
    /// Make a disk: empty, from an image or from a snapshot
    #[command(after_help = "Examples:\n  reinit disk create --size 40G --name scratch\n  \
                            reinit disk create --snapshot s-23jbf2v5m0123456789a")]
    Create(DiskCreateArgs),
    /// List the disks
    #[command(after_help = "Example:\n  reinit disk ls")]
    Ls(AccountArg),
    /// Show one disk: state, origin, epoch, bytes written since the reset, NBD address
    #[command(after_help = "Example:\n  reinit disk show d-23jbf2v5m0123456789a")]
    Show(OneDisk),
    /// Grow a disk
    #[command(after_help = "Example:\n  reinit disk resize d-23jbf2v5m0123456789a 80G")]
    Resize {
        #[command(flatten)]
        disk: OneDisk,
        /// The new size, larger than now
        size: Size,
    },
    /// Say how fast a disk may go; one in use goes at its new pace at once
    #[command(
        after_help = "A request is a read, a write, or what zeroes or discards. An idle disk may do a tenth of a second's worth at once.\n\n\
                            Examples:\n  reinit disk limit d-23jbf2v5m0123456789a --iops 2000 --bandwidth 100M\n  \
                            reinit disk limit d-23jbf2v5m0123456789a --iops 0"
    )]
    Limit(LimitArgs),
    /// Delete a disk that is not attached
    #[command(after_help = "Example:\n  reinit disk rm d-23jbf2v5m0123456789a")]
    Rm(OneDisk),
    /// Attach a disk to an instance
    #[command(
        after_help = "Example:\n  reinit disk attach d-23jbf2v5m0123456789a i-23jbf2v5m0123456789a"
    )]
    Attach {
        #[command(flatten)]
        disk: OneDisk,
        /// The instance's id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        instance: String,
    },
    /// Detach a data disk from its instance
    #[command(after_help = "Example:\n  reinit disk detach d-23jbf2v5m0123456789a")]
    Detach(OneDisk),
    /// Put the content of a disk back to one of its snapshots, such as one of `reset --keep`; its origin stays
    #[command(
        after_help = "Example:\n  reinit disk rollback d-23jbf2v5m0123456789a s-23jbf2v5m0123456789a"
    )]
    Rollback {
        #[command(flatten)]
        disk: OneDisk,
        /// The snapshot's id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        snapshot: String,
    },
    /// Give the space of stale blocks back to the file system, while the disks are in use
    #[command(after_help = "Examples:\n  reinit disk reclaim d-23jbf2v5m0123456789a\n  \
                            reinit disk reclaim --all --rate 100M")]
    Reclaim(ReclaimArgs),
    /// Prove that a disk is in its initial state, or say what differs
    #[command(after_help = "Example:\n  reinit disk verify d-23jbf2v5m0123456789a --deep")]
    Verify {
        #[command(flatten)]
        disk: OneDisk,
        /// Read the whole disk back and compare it with its origin
        #[arg(long)]
        deep: bool,
    },
}

#[derive(Debug, Args)]
#[group(id = "limits", required = true, multiple = true, args = ["iops", "bandwidth"])]
pub(crate) struct LimitArgs {
    #[command(flatten)]
    pub(crate) disk: OneDisk,
    /// The most requests a second, 0 for no limit [default: as it is]
    #[arg(long, value_name = "N")]
    pub(crate) iops: Option<u64>,
    /// The most bytes read and written a second, 0 for no limit [default: as it is]
    #[arg(long, value_name = "SIZE")]
    pub(crate) bandwidth: Option<Size>,
}

#[derive(Debug, Args)]
pub(crate) struct ReclaimArgs {
    /// The disks
    #[arg(
        value_name = "DISK",
        required_unless_present = "all",
        conflicts_with = "all",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) disks: Vec<String>,
    /// Every disk of the account
    #[arg(long)]
    pub(crate) all: bool,
    /// The most bytes a second [default: 0, no limit]
    #[arg(long)]
    pub(crate) rate: Option<Size>,
    #[command(flatten)]
    pub(crate) owner: AccountArg,
}

#[derive(Debug, Args)]
pub(crate) struct OneDisk {
    /// The disk's id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) disk: String,
    #[command(flatten)]
    pub(crate) owner: AccountArg,
}

#[derive(Debug, Args)]
pub(crate) struct DiskCreateArgs {
    /// The disk's size [default: that of the image or snapshot]
    #[arg(long, required_unless_present_any = ["image", "snapshot"])]
    pub(crate) size: Option<Size>,
    /// Make it from this image
    #[arg(long, value_name = "ID", conflicts_with = "snapshot", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) image: Option<String>,
    /// Make it from this snapshot
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) snapshot: Option<String>,
    /// The disk's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The disk's category
    #[arg(long)]
    pub(crate) category: Option<String>,
    #[command(flatten)]
    pub(crate) owner: AccountArg,
}
