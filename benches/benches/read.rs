//! What a read costs inside the engine: one 4 KiB block, and finding out how a stretch is held, by
//! the depth of the chain below.

use std::sync::Arc;

use benches::{GIB, MIB, dirt::Random, engine::Engine};
use block_device::{BlockDevice as _, ByteLength, ByteOffset, DiskId, Durability};
use block_store::{DiskHandle, LayerKind, LayerLabel, SnapshotError, StoreError};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const DEPTHS: [u64; 2] = [1, 10];
/// What is written into each layer, and asked for.
const STRETCH: u64 = 16 * MIB;

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read 4 KiB");
    for depth in DEPTHS {
        let (_engine, disk) = chain(depth).expect("a disk of this depth");
        let (mut random, mut block) = (Random::new(1), vec![0; 4096]);
        group.bench_function(BenchmarkId::new("depth", depth), |bencher| {
            bencher.iter(|| {
                let place = ByteOffset::new(random.number() % (STRETCH / 4096) * 4096);
                disk.read_at(&mut block, place).expect("the disk is open");
            });
        });
    }
}

fn extents(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("extents of 16 MiB");
    for depth in DEPTHS {
        let (_engine, disk) = chain(depth).expect("a disk of this depth");
        group.bench_function(BenchmarkId::new("depth", depth), |bencher| {
            bencher.iter(|| {
                let length = ByteLength::new(STRETCH);
                disk.extents(ByteOffset::ZERO, length, usize::MAX).expect("the disk is open")
            });
        });
    }
}

/// A disk whose blocks are spread over so many layers, the head included.
fn chain(depth: u64) -> anyhow::Result<(Engine, Arc<DiskHandle>)> {
    let engine = Engine::temporary()?;
    let id = engine.disk("d-1", GIB)?;
    for layer in 0..depth {
        let disk = engine.open(&id)?;
        for block in (layer..STRETCH / 4096).step_by(usize::try_from(depth)?) {
            disk.write_at(&[1; 4096], ByteOffset::new(block * 4096), Durability::Cached)?;
        }
        disk.flush()?;
        if layer + 1 < depth {
            snapshot(&engine, &id)?;
        }
    }
    let disk = engine.open(&id)?;
    Ok((engine, disk))
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

criterion_group!(group, read, extents);
criterion_main!(group);
