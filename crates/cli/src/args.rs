//! What the command line accepts: the one description of every verb, for parsing, help, completions and man pages.
//!
//! What must always hold: every command has an example in its `--help`.
//! Left to others: what a command does (`commands`), how it is printed (`output`).

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{BoolishValueParser, NonEmptyStringValueParser},
};

use crate::size::Size;

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

const FSCK_HELP: &str = "Examples:\n  reinit --store /srv/reinit fsck --json\n  reinit --store /srv/reinit fsck --repair --dry-run\n\n\
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

const RESET_HELP: &str = "Every rule of ReInitDisk holds: the instance is Stopped (or --cycle stops it) and was started once.\n\
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

const SCRUB_HELP: &str = "The daemon does it in the background when one runs; else this command does it itself. What is damaged is named, \
never repaired, and no longer served; exit 1. A run that was stopped (Ctrl-C) or killed is gone on with by the next.\n\n\
Examples:\n  reinit scrub --rate 100M\n  reinit scrub --background && reinit scrub --status";

const AUDIT_HELP: &str = "Reads STORE/audit.jsonl and the files before it; needs no daemon. With --json one document, with --follow --json a \
document a line.\n\nExamples:\n  reinit audit | grep d-23jbf2v5m0123456789a\n  reinit audit --follow --json";

const TOP_HELP: &str = "Rates are those of the last interval. Without a terminal, and with --json or -q, it looks once.\n\n\
Examples:\n  reinit top\n  reinit top --once --interval 5\n  reinit top --json | jq '.Exports[0]'";

const TLS_HELP: &str = "Example:\n  reinit tls init --name store.lab.example && reinit serve --tls --listen 0.0.0.0:8520";

#[derive(Debug, Subcommand)]
pub(crate) enum TlsCommand {
    /// Make a private certificate authority, once, and a certificate of this server, anew each time
    #[command(
        after_help = "Clients trust STORE/tls/ca.pem. A running daemon reads the new certificate on SIGHUP.\n\nExample:\n  \
                      reinit tls init --name store.lab.example --name 192.0.2.7"
    )]
    Init {
        /// A name or address clients reach this server by, besides localhost and the name of the host
        #[arg(long = "name", value_name = "NAME", value_parser = parse_host)]
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// One interval, then end
    #[arg(long)]
    pub(crate) once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) interval: u16,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Go on with what is added, until Ctrl-C
    #[arg(long)]
    pub(crate) follow: bool,
}

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

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Where HTTP is served; port 0 lets the system choose [default: 127.0.0.1:8520]
    #[arg(long, env = "REINIT_LISTEN", value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Serve HTTPS, with STORE/tls/server.pem and server.key (`reinit tls init` makes both)
    #[arg(long, env = "REINIT_TLS", value_parser = BoolishValueParser::new())]
    pub(crate) tls: bool,
    /// Serve HTTP without encryption on an address that others reach
    #[arg(long, env = "REINIT_PLAIN_HTTP", value_parser = BoolishValueParser::new())]
    pub(crate) plain_http: bool,
    /// Serve NBD on TCP as well. NBD knows no passwords: whoever reaches the port reaches every open disk
    #[arg(long, env = "REINIT_NBD_LISTEN", value_name = "ADDR:PORT")]
    pub(crate) nbd_listen: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an access key and print it with its secret, this once; the account is made when new
    #[command(
        after_help = "Example:\n  reinit key create --account lab --role reset --expires 2030-01-01T00:00:00Z"
    )]
    Create {
        /// Whose key it is
        #[arg(long, default_value = "default", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
        account: String,
        /// What it may do
        #[arg(long, value_enum, default_value_t = Role::Full)]
        role: Role,
        /// When it ends, in UTC, such as 2030-01-01T00:00:00Z
        #[arg(long, value_name = "TIME")]
        expires: Option<jiff::Timestamp>,
        /// A temporary key, with a security token that goes with each request; it ends after an hour unless --expires says otherwise
        #[arg(long)]
        temporary: bool,
    },
    /// List the keys, without their secrets
    #[command(after_help = "Example:\n  reinit key ls")]
    Ls,
    /// Refuse a key from now on, but keep it
    #[command(after_help = "Example:\n  reinit key disable LTAI0123456789abcdef")]
    Disable {
        /// The access key id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        access_key: String,
    },
    /// Remove a key
    #[command(after_help = "Example:\n  reinit key rm LTAI0123456789abcdef")]
    Rm {
        /// The access key id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        access_key: String,
    },
}

/// What an access key may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Everything
    Full,
    /// Look, change nothing
    Read,
    /// Look, reset, start and stop
    Reset,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// List the accounts
    #[command(after_help = "Example:\n  reinit account ls")]
    Ls,
    /// Change an account
    #[command(after_help = "Example:\n  reinit account set lab --no-arrears --quota 2T")]
    Set(AccountSetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AccountSetArgs {
    /// The account
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,
    /// The account owes: resets and starts are refused
    #[arg(long, conflicts_with = "no_arrears", required_unless_present_any = ["no_arrears", "quota"])]
    pub(crate) arrears: bool,
    /// The account owes nothing
    #[arg(long)]
    pub(crate) no_arrears: bool,
    /// The most its disks may add up to
    #[arg(long, value_name = "SIZE")]
    pub(crate) quota: Option<Size>,
}

/// Whose resources a command works on.
#[derive(Clone, Debug, Args)]
pub(crate) struct AccountArg {
    /// Whose resources
    #[arg(long, default_value = "default", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) account: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Import an image file
    #[command(after_help = "Examples:\n  reinit image import debian-12.qcow2 --name debian-12\n  \
                            reinit image import overlay.qcow2 --backing --name app --public")]
    Import(ImageImportArgs),
    /// List the images
    #[command(after_help = "Example:\n  reinit image ls")]
    Ls(AccountArg),
    /// Show one image
    #[command(after_help = "Example:\n  reinit image show m-23jbf2v5m0123456789a")]
    Show(OneImage),
    /// Write an image to a file
    #[command(
        after_help = "Example:\n  reinit image export m-23jbf2v5m0123456789a copy.qcow2 --format qcow2"
    )]
    Export(ImageExportArgs),
    /// Give a public image a security layer, which SecurityEnhancementStrategy=Active leads to, or take it away
    ///
    /// The snapshot is of a system disk made from the image, on which the security software was installed; it may
    /// be deleted afterwards. Disks that stand on a layer that is taken away keep what they have until they are reset.
    #[command(after_help = "Examples:\n  \
                            reinit image harden m-23jbf2v5m0123456789a --from s-23jbf2v5m0123456789a\n  \
                            reinit image harden m-23jbf2v5m0123456789a --remove")]
    Harden(ImageHardenArgs),
    /// Delete an image; disks made from it keep their content
    #[command(after_help = "Example:\n  reinit image rm m-23jbf2v5m0123456789a")]
    Rm {
        #[command(flatten)]
        image: OneImage,
        /// Also when disks were made from it: they can no longer be reset
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct OneImage {
    /// The image's id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) owner: AccountArg,
}

#[derive(Debug, Args)]
pub(crate) struct ImageHardenArgs {
    #[command(flatten)]
    pub(crate) image: OneImage,
    /// The snapshot that holds the image with the software installed
    #[arg(long, value_name = "SNAPSHOT", required_unless_present = "remove", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) from: Option<String>,
    /// Take the security layer away
    #[arg(long, conflicts_with = "from")]
    pub(crate) remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImageImportArgs {
    /// The image file
    pub(crate) file: PathBuf,
    /// The image's name
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,
    /// The file's format [default: what its first bytes say]
    #[arg(long, value_enum)]
    pub(crate) format: Option<ImportFormat>,
    /// Follow the backing files that the image names. Only for images you trust: the names are paths on this machine
    #[arg(long)]
    pub(crate) backing: bool,
    /// Every account may use it
    #[arg(long)]
    pub(crate) public: bool,
    #[command(flatten)]
    pub(crate) owner: AccountArg,
}

/// A format that can be imported.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ImportFormat {
    /// The disk, byte for byte
    Raw,
    /// QEMU's format, versions 2 and 3
    Qcow2,
    /// VMware's flat format
    Vmdk,
    /// Hyper-V's older format, fixed or dynamic
    Vhd,
}

#[derive(Debug, Args)]
pub(crate) struct ImageExportArgs {
    /// The image's id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) image: String,
    /// Where to write it; must not exist yet
    pub(crate) file: PathBuf,
    /// The format to write [default: qcow2 when the name ends in .qcow2, else raw]
    #[arg(long, value_enum)]
    pub(crate) format: Option<ExportFormat>,
    #[command(flatten)]
    pub(crate) owner: AccountArg,
}

/// A format that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// The disk, byte for byte, sparse
    Raw,
    /// QEMU's format, version 3
    Qcow2,
    /// Hyper-V's older format, fixed, sparse
    Vhd,
}

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

/// A certificate for anything else would be made, and never fit.
fn parse_host(text: &str) -> Result<String, String> {
    let in_names = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte);
    let is_name = !text.is_empty() && text.bytes().all(in_names);
    if is_name || text.parse::<IpAddr>().is_ok() {
        Ok(text.into())
    } else {
        Err("give the bare name or address, such as store.lab.example, without scheme, port or path".into())
    }
}

fn parse_tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("a tag is KEY=VALUE".into()),
    }
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
    fn a_certificate_is_for_a_name_or_an_address() {
        for good in ["store.lab.example", "*.lab", "192.0.2.7", "::1", "vm_1"] {
            assert!(parse_host(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "https://a", "a:8520", "[::1]:1", "10.0.0.0/8", "\u{e4}.example"] {
            assert!(parse_host(bad).is_err(), "{bad}");
        }
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
