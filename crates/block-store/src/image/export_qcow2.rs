//! Writing a disk as a qcow2 image: version 3, clusters of 64 KiB, not compressed.
//!
//! What must always hold: on success the image holds the bytes of the disk, has no clusters where
//! they are zeros, and survives power loss. On failure what the file holds means nothing.

use std::{fs::File, io};

use block_device::{BlockDevice, ByteLength};
use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder, FormatDriverBuilder,
    StorageOpenOptions, qcow2::Qcow2,
};

use super::{ImageError, mapped::Stored, nonzero::for_each_nonzero};
use crate::progress::Progress;

const CLUSTER: usize = 65536;

/// Writes the disk into `out`, a regular file opened for reading and writing, in place of what it
/// holds.
pub fn export_qcow2(
    device: &dyn BlockDevice,
    out: &File,
    progress: &dyn Progress,
) -> Result<(), ImageError> {
    let context = ImageError::io("writing the image");
    out.set_len(0).map_err(&context)?;
    let image = create(device.size(), out).map_err(&context)?;
    for_each_nonzero(device, CLUSTER, progress, |bytes, at| {
        image.write(bytes, at).map_err(&context)
    })?;
    image.flush().map_err(&context)?;
    // Dropping it writes as well, if anything is left.
    drop(image);
    out.sync_all().map_err(&context)
}

fn create(size: ByteLength, out: &File) -> io::Result<FormatAccess<Stored>> {
    let options = StorageOpenOptions::new().write(true);
    let file = Stored::from_open_file(out.try_clone()?, options)?;
    let builder = Qcow2::<Stored>::create_builder(file).size(size.get()).cluster_size(CLUSTER);
    let image = builder.create_open(DenyImplicitOpenGate::default(), |file| {
        Ok(Qcow2::<Stored>::builder(file).backing(None).write(true))
    })?;
    Ok(FormatAccess::new(image))
}
