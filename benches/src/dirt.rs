//! Dirt: random writes that a reset has to make undone.
//!
//! What must always hold: the same dirt twice goes to the same places, so that a disk does not
//! grow from round to round, and both sides of a ratio get the same.

use block_device::{BlockDevice, ByteOffset, Durability};
use nbd_server::client::{NbdClient, Request};

use crate::{GIB, KIB, MIB, size_text};

/// How many requests an NBD client keeps in flight.
const DEPTH: usize = 32;

/// A random sequence that is the same every time.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (splitmix64).
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Fills a buffer with what no compression makes smaller.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for part in buffer.chunks_mut(8) {
            part.copy_from_slice(&self.number().to_le_bytes()[..part.len()]);
        }
    }
}

/// Random writes all over a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirt {
    /// How much, in bytes.
    pub total: u64,
    /// How large each write is, in bytes.
    pub piece: u64,
}

impl Dirt {
    /// None.
    pub const NONE: Self = Self { total: 0, piece: 4 * KIB };
    /// 64 MiB in writes of 4 KiB.
    pub const SOME: Self = Self { total: 64 * MIB, piece: 4 * KIB };
    /// 1 GiB in writes of 64 KiB, because a quarter of a million small writes for each sample
    /// would take an hour.
    pub const MUCH: Self = Self { total: GIB, piece: 64 * KIB };

    /// The writes: where and what.
    fn for_each(
        self,
        size: u64,
        mut write: impl FnMut(ByteOffset, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut random = Random::new(self.total);
        let mut piece = vec![0; usize::try_from(self.piece)?];
        random.fill(&mut piece);
        for _ in 0..self.total / self.piece {
            let place = random.number() % (size / self.piece) * self.piece;
            piece[..8].copy_from_slice(&place.to_le_bytes());
            write(ByteOffset::new(place), &piece)?;
        }
        Ok(())
    }

    /// Writes it to a disk; nothing of it is flushed.
    pub fn write_to(self, device: &dyn BlockDevice) -> anyhow::Result<()> {
        let cached = Durability::Cached;
        self.for_each(
            device.size().get(),
            |place, piece| Ok(device.write_at(piece, place, cached)?),
        )
    }

    /// Writes it through an NBD connection; nothing of it is flushed.
    pub fn write_over(self, client: &mut NbdClient) -> anyhow::Result<()> {
        let size = client.size().get();
        self.for_each(size, |offset, data| {
            if client.in_flight() >= DEPTH {
                client.complete()?.outcome?;
            }
            client.submit(Request::Write { offset, data, durability: Durability::Cached })?;
            Ok(())
        })?;
        while client.in_flight() > 0 {
            client.complete()?.outcome?;
        }
        Ok(())
    }

    /// Such as `64 MiB in 4 KiB`.
    pub fn show(self) -> String {
        if self.total == 0 {
            return "clean".into();
        }
        format!("{} in {}", size_text(self.total), size_text(self.piece))
    }
}
