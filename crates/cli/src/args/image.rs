//! What `image` accepts.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};

use super::AccountArg;

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
