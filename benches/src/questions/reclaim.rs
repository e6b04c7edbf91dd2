//! Does giving space back leave those alone who read meanwhile, and how fast is it?
//!
//! One disk is written all over and reset, which leaves everything stale: in one piece, or, when the
//! next user wrote a block of each cluster again, in runs between what counts. Then it goes in
//! slices: in one a reader reads 4 KiB at random, one read after another, in the next it does the
//! same beside the walk, which is held at the end of the slice. The slices go on until nothing is
//! stale any more, or for as many as are told. What the reader reads is in the page cache, or
//! nothing of it is when a slice begins. The reader is on another disk of the same store, or on the
//! same disk and so in the same file.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use block_device::{BlockDevice, ByteLength, ByteOffset, CLUSTER, DiskId, Durability};
use block_store::{DiskHandle, Progress, ReclaimPace, Reclaimed};

use super::{Findings, Scope};
use crate::{
    GIB, MIB,
    dirt::Random,
    engine::Engine,
    filesystem::Place,
    samples::{Samples, Unit},
    size_text,
    table::{Budget, Finding},
};

/// The largest ratio of a slow read beside the walk to one without it.
const AT_MOST: f64 = 1.2;
/// The fewest MiB a second where nobody uses the disk.
const IDLE_AT_LEAST: f64 = 50.0;
/// How what is stale lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Nothing counts for long stretches.
    Whole,
    /// One block of each cluster counts.
    Runs,
}

/// What the reader finds in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cache {
    Warm,
    Cold,
}

/// Sizes of one run.
#[derive(Clone, Copy)]
struct Sizes {
    /// What is given back beside a reader.
    stale: u64,
    /// What is given back with nobody there.
    idle: u64,
    /// What the reader goes over.
    read: u64,
    slice: Duration,
    /// Pairs of slices of each kind at the most.
    most: usize,
}

const FULL: Sizes = Sizes {
    stale: 10 * GIB,
    idle: GIB,
    read: 512 * MIB,
    slice: Duration::from_millis(200),
    most: 100,
};
const QUICK: Sizes = Sizes {
    stale: 256 * MIB,
    idle: 64 * MIB,
    read: 64 * MIB,
    slice: Duration::from_millis(100),
    most: 10,
};

pub(super) fn ask(scope: &Scope, place: &Place) -> anyhow::Result<Findings> {
    let sizes = scope.size(FULL, QUICK);
    let bench = Bench::new(place, sizes)?;
    let mut found = Vec::new();
    for layout in [Layout::Whole, Layout::Runs] {
        found.push((format!("given back {layout}, idle"), bench.idle(layout, scope.rounds)?));
        for (whose, reader) in [("another disk", &bench.other), ("the same disk", &bench.stale)] {
            let [warm, cold] = bench.beside(reader, layout)?;
            found.extend(warm.findings(&format!("{whose}, cached"), layout, sizes));
            found.extend(cold.findings(&format!("{whose}, not cached"), layout, sizes));
        }
    }
    Ok(found)
}

impl fmt::Display for Layout {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Whole => "in one piece",
            Self::Runs => "in runs of 60 KiB",
        })
    }
}

struct Bench<'p> {
    place: &'p Place,
    engine: Engine,
    sizes: Sizes,
    stale: DiskId,
    other: DiskId,
}

impl<'p> Bench<'p> {
    fn new(place: &'p Place, sizes: Sizes) -> anyhow::Result<Self> {
        let engine = Engine::on(place)?;
        let stale = engine.disk("d-stale", sizes.stale + sizes.read)?;
        let other = engine.disk("d-other", sizes.stale + sizes.read)?;
        let bench = Self { place, engine, sizes, stale, other };
        write(&*bench.engine.open(&bench.other)?, bench.read_range())?;
        Ok(bench)
    }

    /// What readers go over, of either disk.
    fn read_range(&self) -> Range<u64> {
        self.sizes.stale..self.sizes.stale + self.sizes.read
    }

    /// Writes the beginning of the disk and makes it stale; what readers go over counts afterwards.
    fn make_stale(&self, layout: Layout, length: u64) -> anyhow::Result<()> {
        write(&*self.engine.open(&self.stale)?, 0..length)?;
        self.place.settle()?;
        self.engine.reset(&self.stale)?;
        let disk = self.engine.open(&self.stale)?;
        write(&*disk, self.read_range())?;
        if layout == Layout::Runs {
            for cluster in (0..length).step_by(usize::try_from(CLUSTER)?) {
                disk.write_at(&[7; 4096], ByteOffset::new(cluster), Durability::Cached)?;
            }
        }
        disk.flush()?;
        self.engine.store().wait_for_background();
        self.place.settle()
    }

    fn idle(&self, layout: Layout, rounds: usize) -> anyhow::Result<Finding> {
        let mut rates = Samples::default();
        for round in 0..=rounds {
            self.make_stale(layout, self.sizes.idle)?;
            let begun = Instant::now();
            let freed = self.walk(&())?.freed;
            if round > 0 {
                rates.add(mebibytes(freed.get())? / begun.elapsed().as_secs_f64());
            }
        }
        let budget = Some(Budget::AtLeast(IDLE_AT_LEAST));
        Ok(Finding::Measured { ours: rates, unit: Unit::MebibytesPerSecond, budget })
    }

    fn walk(&self, progress: &dyn Progress) -> anyhow::Result<Reclaimed> {
        Ok(self.engine.store().reclaim(&self.stale, ReclaimPace::default(), progress)?)
    }

    /// Slices without and with the walk in turn, with a warm cache and with a cold one.
    fn beside(&self, reader: &DiskId, layout: Layout) -> anyhow::Result<[Slices; 2]> {
        self.make_stale(layout, self.sizes.stale)?;
        let mut reads = Reads::new(self.engine.open(reader)?, self.read_range());
        let gate = Gate::default();
        thread::scope(|scope| {
            let walk = scope.spawn(|| {
                let done = self.walk(&gate);
                gate.end();
                done
            });
            let slices = self.slices(&mut reads, &gate);
            gate.cancel();
            walk.join().map_err(|_| anyhow::anyhow!("the walk panicked"))??;
            slices
        })
    }

    fn slices(&self, reads: &mut Reads, gate: &Gate) -> anyhow::Result<[Slices; 2]> {
        let mut slices = [Slices::default(), Slices::default()];
        let both = [Cache::Warm, Cache::Cold];
        for number in 0..2 * self.sizes.most {
            let (side, walk_first) = (number % 2, number % 4 >= 2);
            let cache = both[side];
            gate.hold();
            let before = if walk_first { None } else { Some(self.slice(reads, cache)?) };
            let stale = self.stale_bytes()?;
            self.prepare(reads, cache)?;
            gate.open();
            let with = reads.go_on(self.sizes.slice, &gate.has_ended)?;
            gate.hold();
            let freed = stale.saturating_sub(self.stale_bytes()?);
            let without = before.map_or_else(|| self.slice(reads, cache), Ok)?;
            let is_whole = with.took >= self.sizes.slice;
            slices[side].add(is_whole.then_some((&without, &with)), freed, with.took);
            if gate.has_ended.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(slices)
    }

    fn stale_bytes(&self) -> anyhow::Result<u64> {
        Ok(self.engine.store().measure(&self.stale)?.stale.get())
    }

    fn prepare(&self, reads: &mut Reads, cache: Cache) -> anyhow::Result<()> {
        match cache {
            Cache::Warm => reads.touch_all(),
            Cache::Cold => self.engine.drop_cached_data(),
        }
    }

    fn slice(&self, reads: &mut Reads, cache: Cache) -> anyhow::Result<Slice> {
        self.prepare(reads, cache)?;
        reads.go_on(self.sizes.slice, &AtomicBool::new(false))
    }
}

/// Holds a walk between two steps.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
    has_ended: AtomicBool,
    is_cancelled: AtomicBool,
}

#[derive(Default)]
struct GateState {
    is_open: bool,
    /// The walk stands before the closed gate.
    is_held: bool,
}

impl Gate {
    fn open(&self) {
        self.state().is_open = true;
        self.changed.notify_all();
    }

    /// Closes the gate, and waits until the walk stands there or came to its end.
    fn hold(&self) {
        let mut state = self.state();
        state.is_open = false;
        while !state.is_held && !self.has_ended.load(Ordering::Relaxed) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        self.open();
    }

    /// The walk came to its end.
    fn end(&self) {
        let _state = self.state();
        self.has_ended.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Gate {
    fn advanced(&self, _: ByteLength, _: ByteLength) {
        let mut state = self.state();
        while !state.is_open {
            state.is_held = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_held = false;
    }

    fn cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

/// A reader of 4 KiB at random places.
struct Reads {
    disk: Arc<DiskHandle>,
    range: Range<u64>,
    random: Random,
    block: Vec<u8>,
}

/// What was measured in one slice.
struct Slice {
    reads: Samples,
    took: Duration,
}

impl Reads {
    fn new(disk: Arc<DiskHandle>, range: Range<u64>) -> Self {
        Self { disk, range, random: Random::new(1), block: vec![0; 4096] }
    }

    /// Reads everything once, so that it is cached.
    fn touch_all(&mut self) -> anyhow::Result<()> {
        self.range
            .clone()
            .step_by(4096)
            .try_for_each(|place| Ok(self.disk.read_at(&mut self.block, ByteOffset::new(place))?))
    }

    /// Reads for so long, or until the flag is set.
    fn go_on(&mut self, time: Duration, is_over: &AtomicBool) -> anyhow::Result<Slice> {
        let (begun, mut reads) = (Instant::now(), Samples::default());
        let mut before = begun;
        let Range { start, end } = self.range;
        while before - begun < time && !is_over.load(Ordering::Relaxed) {
            let place = start + self.random.number() % ((end - start) / 4096) * 4096;
            self.disk.read_at(&mut self.block, ByteOffset::new(place))?;
            let after = Instant::now();
            reads.add((after - before).as_secs_f64());
            before = after;
        }
        Ok(Slice { reads, took: before - begun })
    }
}

/// What all slices with and without the walk came to.
#[derive(Default)]
struct Slices {
    without: Samples,
    with: Samples,
    freed: Vec<(u64, Duration)>,
}

impl Slices {
    /// A last slice that was over too soon has no slowest hundredth.
    fn add(&mut self, reads: Option<(&Slice, &Slice)>, freed: u64, took: Duration) {
        if let Some((without, with)) = reads {
            self.without.add(without.reads.p99());
            self.with.add(with.reads.p99());
        }
        self.freed.push((freed, took));
    }

    /// Rows of what was measured: a walk may be too short for its reader.
    fn findings(self, reader: &str, layout: Layout, sizes: Sizes) -> Findings {
        let Self { without, with, freed } = self;
        let (count, stale) = (with.values().len(), size_text(sizes.stale));
        let mut found = Vec::new();
        if count > 0 {
            let case = format!("p99 of reads of {reader}, {stale} {layout}, {count} slices");
            let peer = ("without", without);
            let finding = Finding::Compared { ours: with, peer, at_most: Some(AT_MOST) };
            found.push((case, finding));
        }
        if !freed.is_empty() {
            let case = format!("given back {layout}, beside reads of {reader}");
            found.push((case, rate_of(&freed)));
        }
        found
    }
}

/// A walk that stands still for a whole slice has stalled.
fn rate_of(freed: &[(u64, Duration)]) -> Finding {
    let rate = |(bytes, took): &(u64, Duration)| Ok(mebibytes(*bytes)? / took.as_secs_f64());
    let rates: anyhow::Result<Samples> = freed.iter().map(rate).collect();
    match rates {
        Ok(ours) if ours.values().iter().all(|rate| *rate > 0.0) => {
            Finding::Measured { ours, unit: Unit::MebibytesPerSecond, budget: None }
        }
        Ok(_) => Finding::Failed("it stood still for a whole slice".into()),
        Err(error) => Finding::Failed(error.to_string()),
    }
}

fn mebibytes(bytes: u64) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(bytes / 4096)?) / 256.0)
}

fn write(disk: &dyn BlockDevice, range: Range<u64>) -> anyhow::Result<()> {
    let mut piece = vec![0; usize::try_from(MIB)?];
    Random::new(1).fill(&mut piece);
    for place in range.step_by(usize::try_from(MIB)?) {
        disk.write_at(&piece, ByteOffset::new(place), Durability::Cached)?;
    }
    Ok(())
}
