//! A disk of the demo as an NBD client sees it.

use std::path::Path;

use anyhow::Context as _;
use block_device::{ByteLength, ByteOffset, Durability, ZeroMode};
use nbd_server::client::NbdClient;

use super::image::noise;

const MIB: u64 = 1 << 20;
/// What one request moves.
const PIECE: u64 = MIB;

/// An open disk.
#[derive(Debug)]
pub(super) struct NbdDisk(NbdClient);

impl NbdDisk {
    pub(super) fn open(socket: &Path, disk: &str) -> anyhow::Result<Self> {
        let client = NbdClient::connect_unix(socket, disk);
        Ok(Self(client.with_context(|| format!("connecting to the disk {disk} over NBD"))?))
    }

    /// 16 MiB of content, flushed.
    pub(super) fn fill(mut self, seed: u64) -> anyhow::Result<()> {
        for piece in 0..16 {
            self.write(&noise(seed + piece, PIECE), piece * PIECE)?;
        }
        self.0.flush()?;
        Ok(self.0.disconnect()?)
    }

    /// 32 MiB of noise over the first 48, a trim, a zeroed stretch, a flush.
    pub(super) fn ruin(mut self, seed: u64) -> anyhow::Result<()> {
        for piece in 0..32 {
            self.write(&noise(seed * 1000 + piece, PIECE), piece * 3 / 2 * PIECE)?;
        }
        self.0.trim(ByteOffset::new(2 * MIB), ByteLength::new(MIB))?;
        let (offset, length) = (ByteOffset::new(5 * MIB), ByteLength::new(MIB));
        self.0.write_zeroes(offset, length, ZeroMode::Punch, Durability::Cached)?;
        self.0.flush()?;
        Ok(self.0.disconnect()?)
    }

    fn write(&mut self, data: &[u8], offset: u64) -> anyhow::Result<()> {
        Ok(self.0.write(data, ByteOffset::new(offset), Durability::Cached)?)
    }

    /// The BLAKE3 hash of every byte.
    pub(super) fn hash(mut self) -> anyhow::Result<String> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; usize::try_from(PIECE)?];
        let size = self.0.size().get();
        let mut offset = 0;
        while offset < size {
            let piece = &mut buffer[..usize::try_from((size - offset).min(PIECE))?];
            self.0.read(piece, ByteOffset::new(offset))?;
            hasher.update(piece);
            offset += PIECE;
        }
        self.0.disconnect()?;
        Ok(hasher.finalize().to_hex().to_string())
    }
}
