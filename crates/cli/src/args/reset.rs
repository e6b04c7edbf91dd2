//! What `reset` accepts.

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};

use super::AccountArg;

pub(super) const RESET_HELP: &str = "Every rule of ReInitDisk holds: the instance is Stopped (or --cycle stops it) and was started once.\n\
Several disks share one sync and each is atomic, but the batch is not: after a crash each disk of a batch that was not \
answered is wholly before or wholly after.\n\n\
With --keep each disk is snapshotted before its reset, which waits for no hash; -q prints `DISK SNAPSHOT` then. Two ways back, once `reinit snapshot ls` \
says accomplished:\n  reinit disk rollback DISK SNAPSHOT           the disk itself holds it again\n  \
reinit disk create --snapshot SNAPSHOT       another disk holds it\nUntil then a further reset of that disk is refused \
as DiskCreatingSnapshot.\n\n\
Examples:\n  reinit reset d-23jbf2v5m0123456789a\n  reinit reset d-23jbf2v5m0123456789a --keep\n  \
reinit reset --instance i-23jbf2v5m0123456789a --cycle --verify\n  \
reinit reset --tag bench=run1 --dry-run\n  \
reinit reset --instance i-23jbf2v5m0123456789a --security-enhancement Active";

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["disks", "instance", "tag"])]
pub(crate) struct ResetArgs {
    /// The disks
    #[arg(value_name = "DISK", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) disks: Vec<String>,
    /// Every disk of this instance
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) instance: Option<String>,
    /// Every disk with this tag
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub(crate) tag: Option<(String, String)>,
    /// Stop the instances that run, and start them again afterwards
    #[arg(long)]
    pub(crate) cycle: bool,
    /// Take a snapshot of each disk first: the way back
    #[arg(long)]
    pub(crate) keep: bool,
    /// What a system disk is put to; of several disks, data disks are reset as ever
    #[arg(long, value_name = "STRATEGY", value_enum, ignore_case = true)]
    pub(crate) security_enhancement: Option<SecurityEnhancement>,
    /// Say what would be dropped and what stands in the way; change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Read the disks back afterwards and compare them with their origin
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) owner: AccountArg,
}

/// `SecurityEnhancementStrategy`.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum SecurityEnhancement {
    /// The security layer of its image, which `image harden` made
    Active,
    /// The plain image, as without this
    Deactive,
}

fn parse_tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("a tag is KEY=VALUE".into()),
    }
}
