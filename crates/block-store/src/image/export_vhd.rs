//! Writing a disk as a fixed VHD image: its bytes and a footer.
//!
//! What must always hold: as with a raw file; and the footer is written last, so that a file that was cut
//! short is no image.

use std::{fs::File, os::unix::fs::FileExt};

use block_device::{BlockDevice, ByteLength};

use super::{ImageError, export_raw, vhd::LARGEST, vhd_footer::Footer};
use crate::progress::Progress;

/// Writes the disk into `out`, a regular file opened for writing, in place of what it holds.
pub fn export_vhd(
    device: &dyn BlockDevice,
    out: &File,
    progress: &dyn Progress,
) -> Result<(), ImageError> {
    let size = device.size().get();
    if size > LARGEST {
        let most = ByteLength::new(LARGEST);
        return Err(ImageError::TooLarge { size: device.size(), most });
    }
    let context = ImageError::io("writing the image");
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(std::io::Error::other).map_err(&context)?;
    export_raw(device, out, progress)?;
    out.write_all_at(&Footer::of_fixed(size, id), size).map_err(&context)?;
    out.sync_all().map_err(&context)
}
