//! Does one durable reset in the engine cost about one fdatasync, whatever the disk's size and dirt?
//!
//! Each side gets the same dirt on the same disk before its clock starts, and everything from
//! before was written back. The header that is rewritten in the background 50 ms after a reset is
//! waited for outside of the clock; the last row resets back to back, without that wait.

use block_device::{BlockDevice as _, ByteOffset, DiskId, Durability};

use super::{Findings, Scope};
use crate::{
    GIB, TIB, dirt::Dirt, engine::Engine, filesystem::Place, peers::fdatasync::Overwrite, ratio,
    samples::Samples, size_text, table::Finding,
};

/// The largest ratio to one fdatasync.
const AT_MOST: f64 = 1.5;

#[derive(Clone, Copy)]
enum Side {
    Ours,
    Limit,
}

const SIDES: [Side; 2] = [Side::Ours, Side::Limit];

/// What is done to the disk before each clock.
#[derive(Clone, Copy)]
struct Before {
    dirt: Dirt,
    flushed: bool,
}

pub(super) fn ask(scope: &Scope, place: &Place) -> anyhow::Result<Findings> {
    let bench = Bench { place, engine: Engine::on(place)?, limit: Overwrite::on(place)? };
    let mut found = Vec::new();
    for (name, size) in [("d-small", GIB), ("d-large", TIB)] {
        let disk = bench.engine.disk(name, size)?;
        for before in cases(scope) {
            let case = format!("{} disk, {}", size_text(size), before.show());
            found.push((case, bench.compare(scope.rounds, &disk, before)?));
        }
    }
    found.push(("1 GiB disk, back to back".into(), bench.back_to_back(scope.rounds)?));
    Ok(found)
}

fn cases(scope: &Scope) -> Vec<Before> {
    let flushed = |dirt| Before { dirt, flushed: true };
    let cached = |dirt| Before { dirt, flushed: false };
    let mut cases = vec![flushed(Dirt::NONE), flushed(Dirt::SOME), cached(Dirt::SOME)];
    if !scope.quick {
        cases.extend([flushed(Dirt::MUCH), cached(Dirt::MUCH)]);
    }
    cases
}

impl Before {
    fn show(self) -> String {
        let state = if self.flushed { "flushed" } else { "unflushed" };
        match self.dirt {
            Dirt::NONE => "clean".into(),
            dirt => format!("{} {state}", dirt.show()),
        }
    }
}

struct Bench<'p> {
    place: &'p Place,
    engine: Engine,
    limit: Overwrite,
}

impl Bench<'_> {
    fn compare(&self, rounds: usize, disk: &DiskId, before: Before) -> anyhow::Result<Finding> {
        // Every disk has a head: one that was never written would be a special case.
        let handle = self.engine.open(disk)?;
        handle.write_at(&[1; 4096], ByteOffset::ZERO, Durability::ForceUnitAccess)?;
        let samples = ratio::interleave(rounds, &SIDES, |side| {
            self.prepare(disk, before)?;
            match side {
                Side::Ours => self.engine.reset(disk),
                Side::Limit => {
                    let took = self.limit.once()?;
                    self.engine.reset(disk)?;
                    Ok(took)
                }
            }
        })?;
        finding(samples)
    }

    fn prepare(&self, disk: &DiskId, before: Before) -> anyhow::Result<()> {
        self.engine.store().wait_for_background();
        self.place.settle()?;
        let handle = self.engine.open(disk)?;
        before.dirt.write_to(&*handle)?;
        if before.flushed {
            handle.flush()?;
        }
        Ok(())
    }

    /// Many resets in one sample, with what the background does meanwhile.
    fn back_to_back(&self, rounds: usize) -> anyhow::Result<Finding> {
        const RUN: u32 = 100;
        let disk = "d-small".parse()?;
        self.prepare(&disk, Before { dirt: Dirt::NONE, flushed: true })?;
        let samples = ratio::interleave(rounds, &SIDES, |side| {
            let mut total = 0.0;
            for _ in 0..RUN {
                total += match side {
                    Side::Ours => self.engine.reset(&disk)?,
                    Side::Limit => self.limit.once()?,
                };
            }
            Ok(total / f64::from(RUN))
        })?;
        finding(samples)
    }
}

fn finding(samples: Vec<Samples>) -> anyhow::Result<Finding> {
    let [ours, limit] = <[Samples; 2]>::try_from(samples)
        .map_err(|_| anyhow::anyhow!("two sides give two lists of samples"))?;
    Ok(Finding::Compared { ours, peer: (Overwrite::NAME, limit), at_most: Some(AT_MOST) })
}
