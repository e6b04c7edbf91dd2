//! What a commit of the ledger costs by how many disks are in it, seen through resets of disks that
//! were never written, so that nothing else is done.

use benches::{
    GIB,
    engine::{Engine, order},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const DISKS: [u64; 3] = [1, 32, 1000];

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ledger commit");
    let engine = Engine::temporary().expect("a store");
    let make = |number| engine.disk(&format!("d-{number}"), GIB).expect("a disk");
    let orders: Vec<_> = (0..1000).map(|number| order(&make(number))).collect();
    for disks in DISKS {
        let batch = &orders[..usize::try_from(disks).expect("at most a thousand")];
        group.throughput(Throughput::Elements(disks));
        group.bench_function(BenchmarkId::new("disks", disks), |bencher| {
            bencher.iter(|| engine.reset_all(batch).expect("every disk is reset"));
        });
    }
}

criterion_group!(group, commit);
criterion_main!(group);
