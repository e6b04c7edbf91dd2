//! Disk images of other makers: read for an import, written by an export.
//!
//! What must always hold
//! 1. Only the handle the caller opened is read. Another file is opened only when the caller asked
//!    for [`BackingPolicy::Follow`], and then only a regular file beneath the image's directory.
//! 2. The format the caller names counts. Without one, the first bytes of the image itself are
//!    looked at once; nothing an image names is ever guessed at.
//! 3. What a file claims about itself is checked against its true length before memory is
//!    taken or a table is read by it.
//! 4. Bytes the file does not hold are an error, never zeros.
//!
//! Left to others: layers, hashing and quotas (the store), which paths may be opened (the callers).

mod directory;
mod error;
mod export_qcow2;
mod export_raw;
mod export_vhd;
mod format;
mod mapped;
mod nonzero;
mod qcow2;
mod qcow2_header;
mod raw;
mod source;
mod vhd;
mod vhd_footer;
mod vmdk;
mod witness;

pub use error::ImageError;
pub use export_qcow2::export_qcow2;
pub use export_raw::export_raw;
pub use export_vhd::export_vhd;
pub use format::{BackingPolicy, ImageFormat, UnknownFormat};
pub use source::ImageSource;
