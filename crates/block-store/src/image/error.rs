//! Why an image could not be read or written, by what the caller can do about it.
//!
//! What must always hold: text taken from an image is shown escaped, so that it cannot draw on a
//! terminal or forge a log line.

use std::io;

use block_device::{ByteLength, DeviceError};

use super::ImageFormat;

/// Why an image could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Name the right format, or give another file.
    #[error("the file is not a {format} image")]
    NotThatFormat {
        /// The format that was asked for.
        format: ImageFormat,
    },
    /// The file is damaged, hostile or no file at all: give another one.
    #[error("the image is refused: {reason}")]
    Refused {
        /// What is wrong with it.
        reason: String,
    },
    /// The image is sound but uses something that is not read here: convert it.
    #[error("the image uses {feature}, which is not supported; convert it with qemu-img first")]
    Unsupported {
        /// What it uses.
        feature: String,
    },
    /// The image needs another file: allow that, or flatten it.
    #[error("the image needs the file {name:?}: {reason}")]
    Backing {
        /// The file as the image names it.
        name: String,
        /// Why it is not read.
        reason: String,
    },
    /// The disk in the image is larger than any disk here.
    #[error("the image holds a disk of {size} bytes; the most is {most}")]
    TooLarge {
        /// The size the image claims.
        size: ByteLength,
        /// The largest size.
        most: ByteLength,
    },
    /// The file was written to or cut since it was opened: import it again when it is at rest.
    #[error("the image file changed while it was read")]
    Changed,
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The disk that is exported failed.
    #[error("reading the disk failed")]
    Device(#[from] DeviceError),
    /// The system below failed.
    #[error("{context}")]
    Io {
        /// What was being done.
        context: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ImageError {
    /// In one line with what the system said, which alone tells a full disk from a broken one. No path is in it.
    pub fn told(&self) -> String {
        match self {
            Self::Io { context, source } => format!("{context}: {source}"),
            other => other.to_string(),
        }
    }

    /// The image is damaged or hostile.
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    /// The image uses something that is not read here.
    pub(super) fn unsupported(feature: impl Into<String>) -> Self {
        Self::Unsupported { feature: feature.into() }
    }

    /// For `map_err`: the system failed at `context`.
    pub(super) fn io(context: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { context, source }
    }

    /// Sorts an error of the format library: the system's own are ours to retry, all others say
    /// that the image is wrong.
    pub(super) fn of_library(error: io::Error) -> Self {
        if error.raw_os_error().is_some() {
            Self::Io { context: "reading the image", source: error }
        } else if error.kind() == io::ErrorKind::Unsupported {
            Self::unsupported(format!("something unknown ({})", error.to_string().escape_debug()))
        } else {
            Self::refused(error.to_string().escape_debug().to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_said_is_told() {
        let full = ImageError::io("writing the image")(io::ErrorKind::StorageFull.into());
        assert_eq!(full.told(), "writing the image: no storage space");
        assert_eq!(ImageError::Cancelled.told(), "cancelled");
    }
}
