//! Copying an image: several threads read stretches that may hold data, hash each cluster, and write
//! what is not zero to the same place of the layer's data file.
//!
//! What must always hold: every cluster that holds anything is written and told once.
//! Left to others: putting in order what was found (`assembly`).

use std::{
    io::IoSlice,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

use block_device::{BLOCK, ByteLength, CLUSTER};
use parking_lot::Mutex;

use super::assembly::{Assembly, Imported};
use crate::{
    error::StoreError,
    geometry::{ClusterIndex, bytes, index},
    image::ImageSource,
    known_stretch::KnownStretch,
    progress::Progress,
    root,
    storage::StorageFile,
    threads,
};

/// How much one thread reads at a time, in bytes: large enough to hash and write at full speed.
const CHUNK: u64 = 1 << 20;
/// More threads than that wait for the device, not for a processor.
const MOST_WORKERS: usize = 8;

/// Copies all that is not zero, and hands what was found to the assembly.
pub(super) fn all<'f>(
    data: &dyn StorageFile,
    source: &ImageSource,
    assembly: Assembly<'f>,
    progress: &dyn Progress,
) -> Result<Assembly<'f>, StoreError> {
    let cursor = Cursor { source, next: Mutex::default(), has_failed: AtomicBool::new(false) };
    let assembly = Mutex::new(assembly);
    let work = || {
        copy_stretches(data, &cursor, &assembly, progress)
            // Relaxed: it only makes the others end sooner.
            .inspect_err(|_| cursor.has_failed.store(true, Ordering::Relaxed))
    };
    threads::share(MOST_WORKERS, work)?;
    progress.advanced(source.size(), source.size());
    Ok(assembly.into_inner())
}

/// Copies stretches until there are none left.
fn copy_stretches(
    data: &dyn StorageFile,
    cursor: &Cursor<'_>,
    assembly: &Mutex<Assembly<'_>>,
    progress: &dyn Progress,
) -> Result<(), StoreError> {
    let mut buffer = vec![0; index(CHUNK)];
    while let Some(Stretch { number, range }) = cursor.claim()? {
        if progress.cancelled() {
            return Err(StoreError::Cancelled);
        }
        let part = &mut buffer[..index(range.end - range.start)];
        cursor.source.read_at(part, range.start)?;
        let found = look_at(range.start, part);
        write_blocks(data, range.start, part)?;
        assembly.lock().take(number, found)?;
        progress.advanced(ByteLength::new(range.end), cursor.source.size());
    }
    Ok(())
}

/// What one thread copies at a time.
struct Stretch {
    /// In the order of the disk, from 0, without gaps.
    number: u64,
    range: Range<u64>,
}

/// Hands out the stretches of the image that may hold data.
struct Cursor<'s> {
    source: &'s ImageSource,
    next: Mutex<Next>,
    /// One thread failed: the others need not go on.
    has_failed: AtomicBool,
}

/// The next stretch.
#[derive(Default)]
struct Next {
    number: u64,
    /// Where it may begin.
    from: u64,
    known: KnownStretch,
}

impl Cursor<'_> {
    /// The next stretch: whole clusters, none of them in two stretches.
    fn claim(&self) -> Result<Option<Stretch>, StoreError> {
        let mut next = self.next.lock();
        let Next { number, from, known } = &mut *next;
        let size = self.source.size().get();
        if *from >= size || self.has_failed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(data) = known.at(*from, |from| self.source.next_data(from))? else {
            *from = size;
            return Ok(None);
        };
        let start = (data.start / CLUSTER * CLUSTER).max(*from);
        let end = data.end.next_multiple_of(CLUSTER).min(start + CHUNK).min(size);
        let stretch = Stretch { number: *number, range: start..end };
        (*number, *from) = (*number + 1, end);
        Ok(Some(stretch))
    }
}

/// Hashes the clusters of a stretch that hold anything.
fn look_at(start: u64, part: &[u8]) -> Vec<Imported> {
    let mut found = Vec::new();
    for (place, content) in part.chunks(index(CLUSTER)).enumerate() {
        let mut blocks = 0;
        for (block, content) in content.chunks(index(BLOCK)).enumerate() {
            if !is_zero(content) {
                blocks |= 1 << block;
            }
        }
        if blocks != 0 {
            let cluster = ClusterIndex::of(start + bytes(place) * CLUSTER);
            found.push(Imported { cluster, blocks, hash: root::hash_cluster(content) });
        }
    }
    found
}

/// Writes runs of blocks that are not zero.
fn write_blocks(data: &dyn StorageFile, start: u64, part: &[u8]) -> Result<(), StoreError> {
    let mut place = 0;
    let blocks: Vec<_> = part.chunks(index(BLOCK)).collect();
    for run in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
        let length: usize = run.iter().map(|block| block.len()).sum();
        if !is_zero(run[0]) {
            data.write_all_at(&[IoSlice::new(&part[place..place + length])], start + bytes(place))
                .map_err(StoreError::io("writing a layer's data"))?;
        }
        place += length;
    }
    Ok(())
}

fn is_zero(block: &[u8]) -> bool {
    const ZEROS: [u8; index(BLOCK)] = [0; index(BLOCK)];
    *block == ZEROS[..block.len()]
}
