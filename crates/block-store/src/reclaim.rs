//! Reclaim: the space of blocks that no longer count goes back to the file system.
//!
//! A reset leaves the head's extents allocated, and so do overlaid zeros and the heads that were
//! sealed over older epochs. The walk goes over what is allocated, stretch by stretch, and punches.
//!
//! What must always hold
//! 1. A block that counts is never punched: what counts is decided under the cluster's lock and
//!    the read side of the disk's state, by the live word and the epoch of that moment.
//! 2. The live word is enough, for the durable one never says more that is not said to be either:
//!    see docs/ARCHITECTURE.md, Reclaim.
//! 3. Before a head is punched its header has the disk's epoch, durably, so that an older ledger
//!    is refused rather than believed with the blocks gone.
//! 4. A writer waits for one punch at most, and so does a reset.
//!
//! Nothing of it is recorded: a walk that was cut short begins again. Left to others: when (`cloud`),
//! how long to rest for whoever uses the store (`manners`).

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use block_device::{BLOCK, ByteLength, DiskId};

use crate::{
    disk::Disk,
    error::StoreError,
    geometry::{ClusterIndex, clusters_of},
    head::PIECE,
    id::LayerId,
    known_stretch::KnownStretch,
    layer_files::LayerFiles,
    manners::{self, Manners},
    progress::Progress,
    sealed_layer::SealedLayer,
    store::{Shared, Store},
    word::Blocks,
};

/// The longest time without asking whether to stop.
const LOOK_UP: Duration = Duration::from_millis(50);

/// How fast to give space back.
#[derive(Clone, Copy, Debug)]
pub struct ReclaimPace {
    /// The most bytes a second; none is as fast as the disk's users allow.
    pub bytes_per_second: Option<u64>,
    /// The longest rest between punches while somebody uses a disk of the store; it is shorter where
    /// requests come so often that few of them meet a punch.
    pub rest_when_busy: Duration,
}

impl Default for ReclaimPace {
    fn default() -> Self {
        Self { bytes_per_second: None, rest_when_busy: Duration::from_millis(10) }
    }
}

/// What a walk gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// Bytes that were allocated when the walk came to them.
    pub freed: ByteLength,
    /// Whether the walk came to its end; it was asked to stop otherwise.
    pub is_complete: bool,
}

/// One step of a walk.
struct Step {
    /// Where to go on.
    next: u64,
    /// Bytes given back.
    freed: u64,
}

impl Store {
    /// Gives back the space of all blocks of a disk that do not count: of its head, and of the
    /// sealed layers it stands on. The disk is in use meanwhile.
    pub fn reclaim(
        &self,
        id: &DiskId,
        pace: ReclaimPace,
        progress: &dyn Progress,
    ) -> Result<Reclaimed, StoreError> {
        let shared = self.shared();
        let disk = shared.disk(id)?;
        {
            let _alone = disk.control.lock();
            disk.ensure_open(shared)?;
        }
        let mut walk = Walk::new(shared, &disk, pace, progress);
        let mut is_complete = walk.run(|known, from| step_in_head(shared, &disk, known, from))?;
        for layer in layers_below(&disk) {
            is_complete =
                is_complete && walk.run(|known, from| step_in_layer(&layer, known, from))?;
        }
        Ok(Reclaimed { freed: ByteLength::new(walk.freed), is_complete })
    }
}

/// One punch in the head, or a stretch in which everything counts; none at the end.
fn step_in_head(
    shared: &Shared,
    disk: &Disk,
    known: &mut Known,
    from: u64,
) -> Result<Option<Step>, StoreError> {
    let Some(files) = disk.state.read().head().map(|head| head.files().clone()) else {
        return Ok(None);
    };
    // No lock is held: in a large file that may take a while.
    let found = known.at(&files, from)?;
    let state = disk.state.read();
    state.check_served(&disk.id)?;
    let Some(head) = state.head() else { return Ok(None) };
    if head.layer() != files.layer {
        // A snapshot sealed it meanwhile: the walk below meets it.
        return Ok(Some(Step { next: from, freed: 0 }));
    }
    if let Some(reason) = head.poisoned() {
        return Err(StoreError::Refused { disk: disk.id.clone(), reason: reason.into() });
    }
    let size = state.record.geometry.size();
    let Some(range) = found.and_then(|stretch| piece_of(&stretch, from, size)) else {
        return Ok(None);
    };
    head.refresh_header(&disk.position(shared, &state.record))?;
    let punched = head.punch_stale(state.record.epoch.tag(), range.clone())?;
    Ok(Some(Step::after(&range, punched)))
}

/// The same in a sealed layer, whose words never change.
fn step_in_layer(
    layer: &SealedLayer,
    known: &mut Known,
    from: u64,
) -> Result<Option<Step>, StoreError> {
    let (data, size) = (&layer.files.data, layer.header.geometry.size());
    let found = known.at(&layer.files, from)?;
    let Some(range) = found.and_then(|stretch| piece_of(&stretch, from, size)) else {
        return Ok(None);
    };
    let said: Result<Vec<_>, StoreError> =
        clusters_of(&range).map(|cluster| Ok((cluster, layer.said(cluster)?))).collect();
    let stale = first_stale(&said?, &range);
    if let Some(stale) = &stale {
        data.punch_hole(stale.clone())
            .map_err(StoreError::io(format!("giving space of layer {} back", layer.files.layer)))?;
    }
    Ok(Some(Step::after(&range, stale)))
}

/// Where a walk knows data to be, and of which layer.
#[derive(Default)]
struct Known {
    layer: Option<LayerId>,
    stretch: KnownStretch,
}

impl Known {
    fn at(&mut self, files: &LayerFiles, from: u64) -> Result<Option<Range<u64>>, StoreError> {
        if self.layer != Some(files.layer) {
            *self = Self { layer: Some(files.layer), ..Self::default() };
        }
        let looking = StoreError::io(format!("looking for data of layer {}", files.layer));
        self.stretch.at(from, |from| files.data.next_data(from)).map_err(looking)
    }
}

fn layers_below(disk: &Disk) -> Vec<Arc<SealedLayer>> {
    let state = disk.state.read();
    let base = state.layers.as_ref().and_then(|layers| layers.base.as_ref());
    base.map_or_else(Vec::new, |chain| chain.layers().to_vec())
}

/// The whole blocks at or after `from` of an allocated stretch that are looked at in one step.
fn piece_of(stretch: &Range<u64>, from: u64, size: u64) -> Option<Range<u64>> {
    let start = stretch.start.max(from) / BLOCK * BLOCK;
    let end = stretch.end.min(size).next_multiple_of(BLOCK).min((start / PIECE + 1) * PIECE);
    (start < end).then_some(start..end)
}

/// The first run of blocks in the range that are not said to be data.
pub(crate) fn first_stale(
    said: &[(ClusterIndex, Blocks)],
    range: &Range<u64>,
) -> Option<Range<u64>> {
    let mut run: Option<Range<u64>> = None;
    for (cluster, blocks) in said {
        let stale = cluster.blocks_covered(range) & !blocks.data;
        for (bit, start) in (0..16).zip((cluster.start()..).step_by(4096)) {
            match &mut run {
                _ if stale & (1 << bit) == 0 => {
                    if run.is_some() {
                        return run;
                    }
                }
                Some(run) => run.end = start + BLOCK,
                None => run = Some(start..start + BLOCK),
            }
        }
    }
    run
}

impl Step {
    fn after(range: &Range<u64>, punched: Option<Range<u64>>) -> Self {
        match punched {
            Some(punched) => Self { next: punched.end, freed: punched.end - punched.start },
            None => Self { next: range.end, freed: 0 },
        }
    }
}

/// A walk, its pace and who watches it.
struct Walk<'w> {
    shared: &'w Shared,
    disk: &'w Disk,
    pace: ReclaimPace,
    manners: Manners,
    /// Requests of the store, and when they were counted.
    counted: (u64, Instant),
    progress: &'w dyn Progress,
    began: Instant,
    freed: u64,
}

impl<'w> Walk<'w> {
    fn new(
        shared: &'w Shared,
        disk: &'w Disk,
        pace: ReclaimPace,
        progress: &'w dyn Progress,
    ) -> Self {
        let (requests, began) = (requests(shared), Instant::now());
        let manners = Manners::new(pace.rest_when_busy, requests, began);
        let counted = (requests, began);
        Self { shared, disk, pace, manners, counted, progress, began, freed: 0 }
    }

    /// Goes through one file; whether it came to the end.
    fn run(
        &mut self,
        step: impl Fn(&mut Known, u64) -> Result<Option<Step>, StoreError>,
    ) -> Result<bool, StoreError> {
        let (mut known, mut from) = (Known::default(), 0);
        loop {
            if self.progress.cancelled() {
                return Ok(false);
            }
            let begun = Instant::now();
            let Some(step) = step(&mut known, from)? else { return Ok(true) };
            from = step.next;
            self.freed += step.freed;
            // Relaxed: a size for a display.
            let size = self.disk.size.load(Ordering::Relaxed);
            self.progress.advanced(ByteLength::new(from.min(size)), ByteLength::new(size));
            if step.freed > 0 {
                self.manners.punched(begun.elapsed());
                if !self.rest() {
                    return Ok(false);
                }
            }
        }
    }

    /// Waits until the next punch is due; whether to go on. While the store is in use that is never
    /// at once for long, but it comes: on a full file system its users wait for the space.
    fn rest(&mut self) -> bool {
        let due = self.due();
        loop {
            if self.progress.cancelled() {
                return false;
            }
            let now = Instant::now();
            let counted = self.count_requests(now);
            let polite = self.manners.wait(now, counted);
            let left = due.saturating_duration_since(now).max(polite);
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(LOOK_UP));
        }
    }

    /// When the rate allows the next punch.
    fn due(&self) -> Instant {
        let Some(rate) = self.pace.bytes_per_second else { return self.began };
        let nanos = u128::from(self.freed) * 1_000_000_000 / u128::from(rate.max(1));
        let paced = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.began.checked_add(paced).unwrap_or_else(|| Instant::now() + Duration::from_secs(1))
    }

    /// Counted now and then: a store may have many disks, and a punch may be short.
    fn count_requests(&mut self, now: Instant) -> u64 {
        let (_, at) = self.counted;
        if now.saturating_duration_since(at) >= manners::GLANCE {
            self.counted = (requests(self.shared), now);
        }
        self.counted.0
    }
}

/// How many requests began on all disks: they share the file system and its journal. Relaxed: one that
/// is seen late makes one rest later.
fn requests(shared: &Shared) -> u64 {
    let disks = shared.disks.read();
    disks.values().fold(0, |sum, disk| sum.wrapping_add(disk.requests.load(Ordering::Relaxed)))
}

#[cfg(test)]
mod tests {
    use block_device::CLUSTER;

    use super::*;

    fn said(masks: &[u16]) -> Vec<(ClusterIndex, Blocks)> {
        (0..)
            .zip(masks)
            .map(|(c, data)| (ClusterIndex(c), Blocks { data: *data, zero: 0 }))
            .collect()
    }

    #[test]
    fn a_stale_run_spans_clusters_and_ends_at_what_counts() {
        let two = said(&[0x7fff, 0xfffc]);
        assert_eq!(first_stale(&two, &(0..2 * CLUSTER)), Some(15 * BLOCK..18 * BLOCK));
        assert_eq!(first_stale(&two, &(0..17 * BLOCK)), Some(15 * BLOCK..17 * BLOCK));
        assert_eq!(first_stale(&two, &(0..15 * BLOCK)), None);
        assert_eq!(first_stale(&said(&[0xfffe]), &(0..CLUSTER)), Some(0..BLOCK));
    }

    #[test]
    fn a_piece_is_whole_blocks_of_one_piece_and_of_the_disk() {
        assert_eq!(piece_of(&(512..5000), 0, 1 << 30), Some(0..8192));
        assert_eq!(piece_of(&(0..1 << 30), 4096, 1 << 30), Some(4096..PIECE));
        assert_eq!(piece_of(&(0..1 << 30), 8192, 8193), Some(8192..12_288));
        assert_eq!(piece_of(&(8192..1 << 30), 0, 8192), None);
    }
}
