//! What a flush costs by how many words of the map changed: writes to so many clusters, then the
//! flush alone on the clock.

use std::time::{Duration, Instant};

use benches::{GIB, engine::Engine};
use block_device::{BlockDevice as _, ByteOffset, CLUSTER, Durability};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const CHANGED: [u64; 3] = [1, 64, 1024];

fn flush(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flush");
    group.sample_size(10);
    for changed in CHANGED {
        group.bench_function(BenchmarkId::new("changed words", changed), |bencher| {
            bencher.iter_custom(|rounds| {
                (0..rounds).map(|_| one(changed).expect("a disk to flush")).sum()
            });
        });
    }
}

/// A fresh disk each time: a word only changes once. The first flush, which names the head in the
/// ledger, is not on the clock.
fn one(changed: u64) -> anyhow::Result<Duration> {
    let engine = Engine::temporary()?;
    let disk = engine.open(&engine.disk("d-1", GIB)?)?;
    disk.write_at(&[1; 4096], ByteOffset::ZERO, Durability::ForceUnitAccess)?;
    for cluster in 1..=changed {
        disk.write_at(&[1; 4096], ByteOffset::new(cluster * CLUSTER), Durability::Cached)?;
    }
    let begun = Instant::now();
    disk.flush()?;
    Ok(begun.elapsed())
}

criterion_group!(group, flush);
criterion_main!(group);
