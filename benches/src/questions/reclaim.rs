//! Does giving space back leave those alone who read meanwhile, and how fast is it?
//!
//! One disk is written all over and reset, which leaves everything stale: in one piece, or, when the
//! next user wrote a block of each cluster again, in runs between what counts. Then it goes in
//! slices: in one a reader reads 4 KiB at random, one read after another, in the next it does the
//! same beside the walk, which is stopped at the end of the slice. The slices go on until nothing is
//! stale any more, or for as many as are told. What the reader reads is in the page cache, or
//! nothing of it is when a slice begins. The reader is on another disk of the same store, or on the
//! same disk and so in the same file.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
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
/// A slice with fewer reads has no slowest hundredth.
const FEWEST_READS: usize = 100;

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
        let stale = engine.disk("d-stale", sizes.read + sizes.stale)?;
        let other = engine.disk("d-other", sizes.read)?;
        write(&*engine.open(&other)?, 0..sizes.read)?;
        Ok(Self { place, engine, sizes, stale, other })
    }

    /// Writes a stretch of the disk and makes it stale; what readers go over counts afterwards.
    fn make_stale(&self, layout: Layout, length: u64) -> anyhow::Result<()> {
        let read = self.sizes.read;
        write(&*self.engine.open(&self.stale)?, read..read + length)?;
        self.place.settle()?;
        self.engine.reset(&self.stale)?;
        let disk = self.engine.open(&self.stale)?;
        write(&*disk, 0..read)?;
        if layout == Layout::Runs {
            for cluster in (read..read + length).step_by(usize::try_from(CLUSTER)?) {
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
                rates.add(mebibytes(freed)? / begun.elapsed().as_secs_f64());
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
        let mut reads = Reads::new(self.engine.open(reader)?, self.sizes.read);
        let mut slices = [Slices::default(), Slices::default()];
        let both = [Cache::Warm, Cache::Cold];
        for number in 0..2 * self.sizes.most {
            let (side, walk_first) = (number % 2, number % 4 >= 2);
            if self.pair(&mut reads, both[side], walk_first, &mut slices[side])? {
                break;
            }
        }
        Ok(slices)
    }

    /// One slice without the walk and one with it; whether nothing is stale any more.
    fn pair(
        &self,
        reads: &mut Reads,
        cache: Cache,
        walk_first: bool,
        slices: &mut Slices,
    ) -> anyhow::Result<bool> {
        let mut without = None;
        if !walk_first {
            without = Some(self.slice(reads, cache)?);
        }
        self.prepare(reads, cache)?;
        let (with, freed, is_complete) = self.slice_with_walk(reads)?;
        let without = match without {
            Some(slice) => slice,
            None => self.slice(reads, cache)?,
        };
        slices.add(&without, &with, freed);
        Ok(is_complete)
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

    /// The slice, what was given back in it, and whether that was the last of it.
    fn slice_with_walk(&self, reads: &mut Reads) -> anyhow::Result<(Slice, ByteLength, bool)> {
        let (is_over, has_ended) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let walk = scope.spawn(|| {
                let done = self.walk(&Until(&is_over));
                has_ended.store(true, Ordering::Relaxed);
                done
            });
            let slice = reads.go_on(self.sizes.slice, &has_ended);
            is_over.store(true, Ordering::Relaxed);
            let done = walk.join().map_err(|_| anyhow::anyhow!("the walk panicked"))??;
            Ok((slice?, done.freed, done.is_complete))
        })
    }
}

/// Lets a walk go on until the flag is set.
struct Until<'f>(&'f AtomicBool);

impl Progress for Until<'_> {
    fn advanced(&self, _: ByteLength, _: ByteLength) {}

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A reader of 4 KiB at random places.
struct Reads {
    disk: Arc<DiskHandle>,
    size: u64,
    random: Random,
    block: Vec<u8>,
}

/// What was measured in one slice.
struct Slice {
    reads: Samples,
    took: Duration,
}

impl Reads {
    fn new(disk: Arc<DiskHandle>, size: u64) -> Self {
        Self { disk, size, random: Random::new(1), block: vec![0; 4096] }
    }

    /// Reads everything once, so that it is cached.
    fn touch_all(&mut self) -> anyhow::Result<()> {
        (0..self.size)
            .step_by(4096)
            .try_for_each(|place| Ok(self.disk.read_at(&mut self.block, ByteOffset::new(place))?))
    }

    /// Reads for so long, or until the flag is set.
    fn go_on(&mut self, time: Duration, is_over: &AtomicBool) -> anyhow::Result<Slice> {
        let (begun, mut reads) = (Instant::now(), Samples::default());
        let mut before = begun;
        while before - begun < time && !is_over.load(Ordering::Relaxed) {
            let place = self.random.number() % (self.size / 4096) * 4096;
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
    freed: Vec<(ByteLength, Duration)>,
}

impl Slices {
    /// A last slice that was over too soon says nothing.
    fn add(&mut self, without: &Slice, with: &Slice, freed: ByteLength) {
        if with.reads.values().len() >= FEWEST_READS {
            self.without.add(without.reads.p99());
            self.with.add(with.reads.p99());
            self.freed.push((freed, with.took));
        }
    }

    /// Rows of what was measured, if anything was: a walk may be too short for its reader.
    fn findings(self, reader: &str, layout: Layout, sizes: Sizes) -> Findings {
        let Self { without, with, freed } = self;
        if freed.is_empty() {
            return Vec::new();
        }
        let (count, stale) = (freed.len(), size_text(sizes.stale));
        let slow = format!("p99 of reads of {reader}, {stale} {layout}, {count} slices");
        let rate = format!("given back {layout}, beside reads of {reader}");
        let peer = ("without", without);
        let compared = Finding::Compared { ours: with, peer, at_most: Some(AT_MOST) };
        vec![(slow, compared), (rate, rate_of(&freed))]
    }
}

/// A walk that stands still for a whole slice has stalled.
fn rate_of(freed: &[(ByteLength, Duration)]) -> Finding {
    let mut rates = Samples::default();
    for (bytes, took) in freed {
        match mebibytes(*bytes) {
            Ok(mebibytes) if mebibytes > 0.0 => rates.add(mebibytes / took.as_secs_f64()),
            Ok(_) => return Finding::Failed("it stood still for a whole slice".into()),
            Err(error) => return Finding::Failed(error.to_string()),
        }
    }
    Finding::Measured { ours: rates, unit: Unit::MebibytesPerSecond, budget: None }
}

fn mebibytes(bytes: ByteLength) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(bytes.get() / 4096)?) / 256.0)
}

fn write(disk: &dyn BlockDevice, range: Range<u64>) -> anyhow::Result<()> {
    let mut piece = vec![0; usize::try_from(MIB)?];
    Random::new(1).fill(&mut piece);
    for place in range.step_by(usize::try_from(MIB)?) {
        disk.write_at(&piece, ByteOffset::new(place), Durability::Cached)?;
    }
    Ok(())
}
