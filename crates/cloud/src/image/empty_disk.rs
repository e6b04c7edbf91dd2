//! The content of an image that has no layer: a disk nobody ever wrote to.
//!
//! What must always hold: it reads as zeros, and says that all of it is a hole.

use block_device::{
    BlockDevice, ByteLength, ByteOffset, DeviceError, Durability, Extent, ExtentKind, ZeroMode,
};

/// So many bytes of zeros.
#[derive(Debug)]
pub(super) struct EmptyDisk(pub(super) ByteLength);

impl BlockDevice for EmptyDisk {
    fn size(&self) -> ByteLength {
        self.0
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read_at(&self, buffer: &mut [u8], _offset: ByteOffset) -> Result<(), DeviceError> {
        buffer.fill(0);
        Ok(())
    }

    fn extents(
        &self,
        _offset: ByteOffset,
        length: ByteLength,
        _most: usize,
    ) -> Result<Vec<Extent>, DeviceError> {
        Ok(vec![Extent { length, kind: ExtentKind::Hole }])
    }

    fn write_at(
        &self,
        _bytes: &[u8],
        _offset: ByteOffset,
        _durability: Durability,
    ) -> Result<(), DeviceError> {
        Err(DeviceError::ReadOnly)
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn discard(&self, _offset: ByteOffset, _length: ByteLength) -> Result<(), DeviceError> {
        Err(DeviceError::ReadOnly)
    }

    fn write_zeroes(
        &self,
        _offset: ByteOffset,
        _length: ByteLength,
        _mode: ZeroMode,
        _durability: Durability,
    ) -> Result<(), DeviceError> {
        Err(DeviceError::ReadOnly)
    }
}
