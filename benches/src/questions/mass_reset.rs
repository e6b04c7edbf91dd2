//! How many disks a second does the engine reset, when many are to be reset at once?
//!
//! In one call, which is one sync; and by threads that know nothing of each other, each resetting
//! its own disks one by one, whose commits share syncs as they meet. The headers of heads that
//! are rewritten afterwards are waited for outside of the clock.

use std::{sync::Barrier, thread, time::Instant};

use block_device::{BlockDevice as _, ByteOffset, DiskId, Durability};

use super::{Findings, Scope};
use crate::{
    GIB,
    engine::{Engine, order},
    filesystem::Place,
    samples::{Samples, Unit},
    table::{Budget, Finding},
};

/// The fewest resets a second.
const AT_LEAST: f64 = 10_000.0;

/// How the resets are asked for.
#[derive(Clone, Copy)]
enum Way {
    OneCall,
    Threads(usize),
}

/// What was written to the disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heads {
    /// Each disk was written once.
    Written,
    /// No disk was ever written.
    None,
}

pub(super) fn ask(scope: &Scope, place: &Place) -> anyhow::Result<Findings> {
    let count = scope.size(1000, 100);
    let mut found = Vec::new();
    for heads in [Heads::Written, Heads::None] {
        let bench = Bench::new(place, count, heads)?;
        for way in [Way::OneCall, Way::Threads(64), Way::Threads(count)] {
            found.push(bench.measure(scope.rounds, way)?);
        }
    }
    Ok(found)
}

struct Bench<'p> {
    place: &'p Place,
    engine: Engine,
    disks: Vec<DiskId>,
    heads: Heads,
}

impl<'p> Bench<'p> {
    fn new(place: &'p Place, count: usize, heads: Heads) -> anyhow::Result<Self> {
        let engine = Engine::on(place)?;
        let make = |number| engine.disk(&format!("d-{number}"), GIB);
        let disks = (0..count).map(make).collect::<anyhow::Result<Vec<_>>>()?;
        if heads == Heads::Written {
            for disk in &disks {
                let handle = engine.open(disk)?;
                handle.write_at(&[1; 4096], ByteOffset::ZERO, Durability::Cached)?;
            }
            engine.store().flush_all();
        }
        Ok(Self { place, engine, disks, heads })
    }

    fn measure(&self, rounds: usize, way: Way) -> anyhow::Result<(String, Finding)> {
        let (mut rates, mut syncs) = (Samples::default(), Samples::default());
        for round in 0..=rounds {
            self.engine.store().wait_for_background();
            self.place.settle()?;
            let before = self.engine.store().counters().ledger_commits;
            let took = match way {
                Way::OneCall => self.in_one_call()?,
                Way::Threads(threads) => self.by_threads(threads)?,
            };
            let used = self.engine.store().counters().ledger_commits - before;
            if round > 0 {
                rates.add(f64::from(u32::try_from(self.disks.len())?) / took);
                syncs.add(f64::from(u32::try_from(used)?));
            }
        }
        let budget = Some(Budget::AtLeast(AT_LEAST));
        let finding = Finding::Measured { ours: rates, unit: Unit::PerSecond, budget };
        Ok((self.case(way, syncs.median()), finding))
    }

    fn case(&self, way: Way, syncs: f64) -> String {
        let way = match way {
            Way::OneCall => "in one call".into(),
            Way::Threads(threads) => format!("by {threads} threads"),
        };
        let heads = match self.heads {
            Heads::Written => "written once",
            Heads::None => "never written",
        };
        format!("{} disks, {heads}, {way}: {syncs:.0} syncs", self.disks.len())
    }

    fn in_one_call(&self) -> anyhow::Result<f64> {
        let orders: Vec<_> = self.disks.iter().map(order).collect();
        self.engine.reset_all(&orders)
    }

    /// From when all threads are ready until the last one is done.
    fn by_threads(&self, threads: usize) -> anyhow::Result<f64> {
        let share = self.disks.len().div_ceil(threads);
        let shares: Vec<_> = self.disks.chunks(share).collect();
        let ready = Barrier::new(shares.len() + 1);
        let reset = |disks: &[DiskId]| {
            ready.wait();
            disks.iter().try_for_each(|disk| self.engine.reset(disk).map(drop))
        };
        thread::scope(|scope| {
            let reset = &reset;
            let running: Vec<_> =
                shares.iter().map(|share| scope.spawn(move || reset(share))).collect();
            ready.wait();
            let begun = Instant::now();
            let ended: Vec<_> = running.into_iter().map(thread::ScopedJoinHandle::join).collect();
            let took = begun.elapsed().as_secs_f64();
            for outcome in ended {
                outcome.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            }
            Ok(took)
        })
    }
}
