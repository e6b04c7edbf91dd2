//! NBD's error numbers, and which of them each failure of a device is.
//!
//! What must always hold: the match over [`DeviceError`] has no wildcard, so a new kind of failure
//! does not compile until its number is decided.

use block_device::DeviceError;

/// An error as NBD says it (spec: "Error values").
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Errno {
    /// The export is read-only.
    #[error("operation not permitted")]
    NotPermitted,
    /// The disk failed.
    #[error("input/output error")]
    InputOutput,
    /// The server is out of memory or threads for this request.
    #[error("cannot allocate memory")]
    OutOfMemory,
    /// The request makes no sense.
    #[error("invalid argument")]
    Invalid,
    /// No room, or a write past the end.
    #[error("no space left on device")]
    NoSpace,
    /// The reply would not fit into one piece.
    #[error("value too large")]
    Overflow,
    /// Known, and not done here.
    #[error("operation not supported")]
    NotSupported,
    /// The export is closing.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Errno {
    const ALL: [Self; 8] = [
        Self::NotPermitted,
        Self::InputOutput,
        Self::OutOfMemory,
        Self::Invalid,
        Self::NoSpace,
        Self::Overflow,
        Self::NotSupported,
        Self::ShuttingDown,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u32 {
        match self {
            Self::NotPermitted => 1,
            Self::InputOutput => 5,
            Self::OutOfMemory => 12,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::Overflow => 75,
            Self::NotSupported => 95,
            Self::ShuttingDown => 108,
        }
    }

    /// The error of a number that is not 0. Spec: an unknown one counts as EINVAL.
    pub fn from_code(code: u32) -> Self {
        Self::ALL.into_iter().find(|errno| errno.code() == code).unwrap_or(Self::Invalid)
    }
}

/// What a request does to its range; a range past the end has a number for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Looks, or gives content up: READ, BLOCK_STATUS, TRIM, FLUSH.
    Look,
    /// Stores: WRITE, WRITE_ZEROES.
    Store,
}

/// The number a device's failure is told by.
pub(crate) fn errno(error: &DeviceError, access: Access) -> Errno {
    match error {
        DeviceError::OutOfRange { .. } if access == Access::Store => Errno::NoSpace,
        DeviceError::OutOfRange { .. } | DeviceError::Unaligned { .. } => Errno::Invalid,
        DeviceError::ReadOnly => Errno::NotPermitted,
        DeviceError::Fenced => Errno::ShuttingDown,
        DeviceError::NoSpace => Errno::NoSpace,
        // A client that sees EPERM takes the disk for read-only by intent; this one is broken.
        DeviceError::Poisoned { .. } | DeviceError::Damaged { .. } | DeviceError::Io(_) => {
            Errno::InputOutput
        }
    }
}

#[cfg(test)]
mod tests {
    use block_device::{ByteLength, ByteOffset};

    use super::*;

    #[test]
    fn numbers_go_there_and_back() {
        for errno in Errno::ALL {
            assert_eq!(Errno::from_code(errno.code()), errno);
        }
        assert_eq!(Errno::from_code(4242), Errno::Invalid);
    }

    #[test]
    fn past_the_end_is_no_space_for_those_who_store() {
        let error = DeviceError::OutOfRange {
            offset: ByteOffset::ZERO,
            length: ByteLength::new(1024),
            size: ByteLength::new(512),
        };
        assert_eq!(errno(&error, Access::Store), Errno::NoSpace);
        assert_eq!(errno(&error, Access::Look), Errno::Invalid);
    }
}
