//! Which formats there are, and how one is told from another when nobody named it.
//!
//! What must always hold: looking at the bytes is a convenience for the one file a person gave on
//! the command line. A recorded format is never second-guessed, and an image's backing file is
//! never probed: a guest can write a header of any format into its own raw disk.

use std::{fmt, fs::File, str::FromStr};

use super::{ImageError, raw::read_up_to, vhd_footer::VHD_MAGIC};

/// A format of disk images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImageFormat {
    /// The bytes of the disk and nothing else.
    Raw,
    /// QEMU's format, versions 2 and 3.
    Qcow2,
    /// VMware's format: a descriptor with flat extents.
    Vmdk,
    /// Of Virtual PC and Hyper-V before VHDX, fixed or dynamic.
    Vhd,
}

/// Whether files that an image names may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackingPolicy {
    /// Refuse an image that needs another file, naming it. For anything from outside.
    Refuse,
    /// Open regular files beneath the directory of the image. For a person on this machine who
    /// asked for it.
    Follow,
}

impl ImageFormat {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Vhd];

    /// The format as the command line calls it, and `qemu-img` all but the last.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
        }
    }

    /// Guesses by the first bytes; what is nothing else is raw.
    pub(super) fn probe(file: &File) -> Result<Self, ImageError> {
        let mut start = [0; 21];
        let length = read_up_to(file, &mut start, 0)?;
        let start = &start[..length];
        if start.starts_with(QCOW_MAGIC) {
            Ok(Self::Qcow2)
        } else if start.starts_with(VMDK_SPARSE_MAGIC) || start.starts_with(VMDK_DESCRIPTOR_MAGIC) {
            Ok(Self::Vmdk)
        } else if start.starts_with(VHD_MAGIC) {
            Ok(Self::Vhd)
        } else {
            Ok(Self::Raw)
        }
    }
}

/// First bytes of a qcow2 image.
pub(super) const QCOW_MAGIC: &[u8] = b"QFI\xfb";
/// First bytes of a VMDK whose data is in the same file.
pub(super) const VMDK_SPARSE_MAGIC: &[u8] = b"KDMV";
/// First bytes of a VMDK descriptor.
const VMDK_DESCRIPTOR_MAGIC: &[u8] = b"# Disk DescriptorFile";

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

/// The text is not the name of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the formats are raw, qcow2, vmdk and vhd")]
pub struct UnknownFormat;

impl FromStr for ImageFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or(UnknownFormat)
    }
}
