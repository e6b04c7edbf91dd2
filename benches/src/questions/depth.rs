//! Does a read cost the same however many snapshots a disk stands on, and does such a disk open fast?
//!
//! The uppermost layers hold a few blocks of each cluster, so that every cluster is mixed from many
//! layers. All that is read is in the page cache: what is measured is finding it.

use std::time::Instant;

use block_device::{BlockDevice, ByteOffset, CLUSTER, DiskId, Durability};
use block_store::{LayerKind, LayerLabel, SnapshotError, StoreError};

use super::{Findings, Scope};
use crate::{
    MIB, TIB,
    dirt::Random,
    engine::Engine,
    filesystem::Place,
    ratio,
    samples::Unit,
    table::{Budget, Finding},
};

/// What the reads go over.
const STRETCH: u64 = 16 * MIB;
/// The largest ratio of a deep read to one of a disk on one layer.
const AT_MOST: f64 = 1.5;
/// The longest that opening may take, in seconds.
const OPEN_AT_MOST: f64 = 0.05;
/// Reads of one sample.
const READS: u32 = 20_000;

pub(super) fn ask(scope: &Scope, place: &Place) -> anyhow::Result<Findings> {
    let engine = Engine::on(place)?;
    let shallow = deep_disk(&engine, 1)?;
    let mut found = Vec::new();
    let mut deepest = shallow.clone();
    for depth in scope.size(&[10, 50, 200][..], &[10, 200]) {
        deepest = deep_disk(&engine, *depth)?;
        let case = format!("random 4 KiB reads at depth {depth}");
        found.push((case, compare(&engine, scope.rounds, &deepest, &shallow)?));
    }
    found.push(("opening a 1 TiB disk at depth 200".into(), open(engine, scope.rounds, &deepest)?));
    Ok(found)
}

/// A disk on so many layers.
fn deep_disk(engine: &Engine, depth: u64) -> anyhow::Result<DiskId> {
    let id = engine.disk(&format!("d-{depth}"), TIB)?;
    let (mut random, disk) = (Random::new(depth), engine.open(&id)?);
    for start in (0..STRETCH).step_by(usize::try_from(MIB)?) {
        disk.write_at(&vec![1; usize::try_from(MIB)?], ByteOffset::new(start), Durability::Cached)?;
    }
    snapshot(engine, &id)?;
    for _ in 1..depth {
        for cluster in (0..STRETCH).step_by(usize::try_from(CLUSTER)?) {
            let place = ByteOffset::new(cluster + random.number() % 16 * 4096);
            disk.write_at(&[2; 4096], place, Durability::Cached)?;
        }
        // Somewhere far away too, so that the tables are as sparse as real ones.
        let place = ByteOffset::new(random.number() % (TIB / 4096) * 4096);
        disk.write_at(&[3; 4096], place, Durability::Cached)?;
        snapshot(engine, &id)?;
    }
    engine.store().wait_for_background();
    Ok(id)
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

fn compare(
    engine: &Engine,
    rounds: usize,
    deep: &DiskId,
    shallow: &DiskId,
) -> anyhow::Result<Finding> {
    let sides = [engine.open(deep)?, engine.open(shallow)?];
    let mut samples =
        ratio::interleave(rounds, &[0, 1], |side: usize| read_at_random(&*sides[side]))?
            .into_iter();
    let (Some(ours), Some(peer)) = (samples.next(), samples.next()) else {
        anyhow::bail!("two sides give two lists of samples");
    };
    Ok(Finding::Compared { ours, peer: ("depth 1", peer), at_most: Some(AT_MOST) })
}

/// The seconds of one read.
fn read_at_random(disk: &dyn BlockDevice) -> anyhow::Result<f64> {
    let (mut random, mut block) = (Random::new(1), vec![0; 4096]);
    let begun = Instant::now();
    for _ in 0..READS {
        let place = ByteOffset::new(random.number() % (STRETCH / 4096) * 4096);
        disk.read_at(&mut block, place)?;
    }
    Ok(begun.elapsed().as_secs_f64() / f64::from(READS))
}

/// From the first that anybody wants of the disk to its first byte.
fn open(mut engine: Engine, rounds: usize, disk: &DiskId) -> anyhow::Result<Finding> {
    let mut took = Vec::new();
    for _ in 0..rounds {
        engine = engine.again()?;
        let begun = Instant::now();
        engine.open(disk)?.read_at(&mut [0; 4096], ByteOffset::ZERO)?;
        took.push(begun.elapsed().as_secs_f64());
    }
    Ok(Finding::Measured {
        ours: took.into_iter().collect(),
        unit: Unit::Seconds,
        budget: Some(Budget::AtMost(OPEN_AT_MOST)),
    })
}
