//! What each layer of a chain holds: the same for ours and for every peer.

use block_device::{BlockDevice, ByteOffset, CLUSTER, DiskId, Durability};
use block_store::{LayerKind, LayerLabel, SnapshotError, StoreError};

use crate::{MIB, TIB, dirt::Random, engine::Engine};

/// How large each disk is.
const SIZE: u64 = TIB;
/// What the reads go over.
pub(super) const STRETCH: u64 = 16 * MIB;

/// A chain of so many layers, of which the first holds the whole stretch and each other one a
/// random block of each cluster. All are written block by block: large writes get large folios of
/// the page cache, and a chain of one layer would be faster for that alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    depth: u16,
}

/// A write: where, and how long, in bytes.
pub(crate) type Write = (u64, u64);

impl Chain {
    pub(super) fn of(depth: u16) -> Self {
        Self { depth }
    }

    /// The writes of each layer, from below; the last of each goes somewhere far away, so that maps,
    /// tables and the page cache's trees are as sparse and as tall as real ones.
    pub(super) fn writes(self) -> Vec<Vec<Write>> {
        let mut random = Random::new(u64::from(self.depth));
        let mut whole: Vec<Write> = (0..STRETCH).step_by(4096).map(|start| (start, 4096)).collect();
        whole.sort_by_cached_key(|_| random.number());
        let mut layers = vec![whole];
        for _ in 1..self.depth {
            let clusters = (0..STRETCH).step_by(1 << 16);
            let mut block = |cluster| (cluster + random.number() % (CLUSTER / 4096) * 4096, 4096);
            layers.push(clusters.map(&mut block).collect());
        }
        for layer in &mut layers {
            layer.push((random.number() % ((SIZE - STRETCH) / 4096) * 4096 + STRETCH, 4096));
        }
        layers
    }

    /// Makes a disk of ours that stands on such a chain.
    pub(super) fn store(self, engine: &Engine, id: &DiskId) -> anyhow::Result<()> {
        engine.disk(id.as_str(), SIZE)?;
        let disk = engine.open(id)?;
        for (number, layer) in self.writes().into_iter().enumerate() {
            for (start, length) in layer {
                let content = vec![number.to_le_bytes()[0]; usize::try_from(length)?];
                disk.write_at(&content, ByteOffset::new(start), Durability::Cached)?;
            }
            snapshot(engine, id)?;
        }
        engine.store().wait_for_background();
        Ok(())
    }
}

fn snapshot(engine: &Engine, disk: &DiskId) -> Result<(), SnapshotError<StoreError>> {
    let label = LayerLabel {
        kind: LayerKind::Snapshot,
        id: "s-bench".into(),
        account: "default".into(),
        name: "bench".into(),
    };
    engine.store().snapshot(disk, label, |_| Ok(())).map(drop)
}

/// Where the next read goes.
pub(super) fn random_block(random: &mut Random) -> u64 {
    random.number() % (STRETCH / 4096) * 4096
}
