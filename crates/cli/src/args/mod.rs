//! What the command line accepts: the one description of every verb, for parsing, help, completions and man pages.
//!
//! What must always hold: every command has an example in its `--help`.
//! One file for each kind of thing. Left to others: what a command does (`commands`), how it is printed (`output`).

mod access;
mod disk;
mod image;
mod instance;
mod reset;
mod service;
mod snapshot;
mod store;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, builder::NonEmptyStringValueParser};

pub(crate) use self::{
    access::*, disk::*, image::*, instance::*, reset::*, service::*, snapshot::*, store::*,
};

/// A block store for VM disks that puts a disk back to its initial state in about the time of one disk sync.
#[derive(Debug, Parser)]
#[command(name = "reinit", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Examples:\n  reinit demo\n  reinit init && reinit serve\n  reinit reset d-23jbf2v5m0123456789a"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Under this the help of every command lists what they all accept.
const EVERYWHERE: &str = "Everywhere";

/// What every command accepts.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The store's directory [default: $XDG_DATA_HOME/reinit, or /var/lib/reinit for root]
    #[arg(long, global = true, env = "REINIT_STORE", value_name = "DIR", help_heading = EVERYWHERE)]
    pub(crate) store: Option<PathBuf>,
    /// Print one JSON document on standard output
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    /// Print the bare ids only, and no progress
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole story on a throw-away store: import, ruin, reset, prove. No root, no network
    #[command(after_help = "Example:\n  reinit demo --keep ./demo-store")]
    Demo(DemoArgs),
    /// Make an empty store
    #[command(after_help = "Example:\n  reinit --store /srv/reinit init")]
    Init,
    /// Run the daemon: the ECS API over HTTP, the disks over NBD
    #[command(
        after_help = "Example:\n  reinit serve --listen 127.0.0.1:8520 --nbd-listen 127.0.0.1:10809\n\nPrints one JSON line \
                            on standard output when it accepts requests. SIGTERM or SIGINT: requests end, disks are flushed, exit 0."
    )]
    Serve(ServeArgs),
    /// Check the structure of a store that no daemon serves; changes nothing unless asked to. Exit 1 when damage is found
    #[command(after_help = FSCK_HELP)]
    Fsck(FsckArgs),
    /// Renew the export of the catalog and name the layers to copy beside it
    #[command(
        after_help = "Example:\n  reinit backup -q\n\nCopies nothing itself: docs/operations.md has the whole procedure, and the way back."
    )]
    Backup,
    /// Access keys of the HTTP API
    #[command(subcommand, after_help = "Example:\n  reinit key create --account lab --role reset")]
    Key(KeyCommand),
    /// Accounts
    #[command(subcommand, after_help = "Example:\n  reinit account set lab --arrears")]
    Account(AccountCommand),
    /// Images: what system disks are made from
    #[command(
        subcommand,
        after_help = "Example:\n  reinit image import debian-12.qcow2 --name debian-12"
    )]
    Image(ImageCommand),
    /// Disks
    #[command(subcommand, after_help = "Example:\n  reinit disk create --size 40G --name scratch")]
    Disk(DiskCommand),
    /// Snapshots of disks
    #[command(
        subcommand,
        after_help = "Example:\n  reinit snapshot create d-23jbf2v5m0123456789a --name clean"
    )]
    Snapshot(SnapshotCommand),
    /// Instances: who owns disks, and whether they are open to clients
    #[command(
        subcommand,
        after_help = "Example:\n  reinit instance create --image m-23jbf2v5m0123456789a --data-disk 10G"
    )]
    Instance(InstanceCommand),
    /// Put disks back to their initial state: empty, their image, or their source snapshot
    #[command(after_help = RESET_HELP)]
    Reset(ResetArgs),
    /// Compare the content of snapshots and images with the hashes made when they were sealed
    #[command(after_help = SCRUB_HELP)]
    Scrub(ScrubArgs),
    /// Who changed what, from where, and what came of it; and who was refused. Oldest first
    #[command(after_help = AUDIT_HELP)]
    Audit(AuditArgs),
    /// What the daemon does right now: disks, exports, IOPS, bandwidth and resets, until Ctrl-C
    #[command(after_help = TOP_HELP)]
    Top(TopArgs),
    /// Certificates for HTTPS
    #[command(subcommand, after_help = TLS_HELP)]
    Tls(TlsCommand),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  reinit completions bash > /etc/bash_completion.d/reinit")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one page per command
    #[command(after_help = "Examples:\n  reinit man | man -l -\n  reinit man --dir ./man1")]
    Man {
        /// Write one page per command into this directory
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Whose resources a command works on.
#[derive(Clone, Debug, Args)]
pub(crate) struct AccountArg {
    /// Whose resources
    #[arg(long, default_value = "default", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) account: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn every_command(command: &clap::Command, check: &mut dyn FnMut(&clap::Command)) {
        check(command);
        command.get_subcommands().for_each(|below| every_command(below, check));
    }

    #[test]
    fn every_command_has_an_example_and_no_clash() {
        Cli::command().debug_assert();
        every_command(&Cli::command(), &mut |command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
            assert!(help.contains("  reinit "), "{}'s example is no command", command.get_name());
        });
    }

    /// An empty variable of a script: taken for "left out" it would be a disk that is empty instead of the image's,
    /// a key for another account.
    #[test]
    fn an_id_or_account_that_is_empty_is_wrong_usage() {
        for line in [
            &["disk", "create", "--size", "1G", "--snapshot", ""][..],
            &["disk", "create", "--size", "1G", "--image", ""],
            &["key", "create", "--account", ""],
            &["disk", "ls", "--account", ""],
            &["image", "show", ""],
            &["snapshot", "rm", ""],
        ] {
            let refused = Cli::try_parse_from([&["reinit"], line].concat()).unwrap_err();
            assert_eq!(refused.exit_code(), 2, "{line:?}");
        }
        let free = ["name", "category"];
        every_command(&Cli::command(), &mut |command| {
            for argument in command.get_arguments() {
                let parser = format!("{:?}", argument.get_value_parser());
                let may_be_empty = parser == "ValueParser::string";
                let name = argument.get_id().as_str();
                assert!(!may_be_empty || free.contains(&name), "{}: {name}", command.get_name());
            }
        });
    }

    #[test]
    fn a_dry_run_is_never_taken_for_a_real_one() {
        for line in [
            &["--accept", "d-1", "--dry-run"][..],
            &["--accept", "d-1", "--reset", "--dry-run"],
            &["--rebuild", "--dry-run"],
            &["--rebuild", "--reset"],
            &["--repair", "--reset"],
            &["--dry-run"],
        ] {
            let line = [&["reinit", "fsck"], line].concat();
            assert!(Cli::try_parse_from(&line).is_err(), "{line:?}");
        }
        Cli::try_parse_from(["reinit", "fsck", "--repair", "--dry-run"]).unwrap();
        Cli::try_parse_from(["reinit", "fsck", "--accept", "d-1", "--reset"]).unwrap();
    }

    #[test]
    fn a_reset_names_disks_or_an_instance_or_a_tag_but_one_kind_only() {
        let parse = |arguments: &[&str]| Cli::try_parse_from(arguments);
        parse(&["reinit", "reset", "d-1", "d-2"]).unwrap();
        parse(&["reinit", "reset", "--tag", "a=b", "--cycle"]).unwrap();
        parse(&["reinit", "reset"]).unwrap_err();
        parse(&["reinit", "reset", "d-1", "--instance", "i-1"]).unwrap_err();
        parse(&["reinit", "reset", "--tag", "nothing"]).unwrap_err();
    }
}
