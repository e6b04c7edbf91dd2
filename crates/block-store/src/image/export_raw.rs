//! Writing a disk as a raw file.
//!
//! What must always hold: on success the file has the size of the disk, holds its bytes, has holes
//! where they are zeros, and survives power loss. On failure what it holds means nothing.

use std::{fs::File, os::unix::fs::FileExt};

use block_device::{BLOCK, BlockDevice};

use super::{ImageError, nonzero::for_each_nonzero};
use crate::progress::Progress;

/// Writes the disk into `out`, a regular file opened for writing, in place of what it holds.
pub fn export_raw(
    device: &dyn BlockDevice,
    out: &File,
    progress: &dyn Progress,
) -> Result<(), ImageError> {
    let context = ImageError::io("writing the image");
    let unit = usize::try_from(BLOCK).expect("4096");
    // Emptied first: what is not written must be a hole, not the bytes of before.
    out.set_len(0).map_err(&context)?;
    out.set_len(device.size().get()).map_err(&context)?;
    for_each_nonzero(device, unit, progress, |bytes, at| {
        out.write_all_at(bytes, at).map_err(&context)
    })?;
    out.sync_all().map_err(&context)
}
