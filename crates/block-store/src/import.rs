//! Import: an image becomes a sealed layer, hashed on the way.
//!
//! Several threads read stretches of the image that may hold data, hash each cluster, and write
//! blocks that are not zero to the same place of the layer's data file.
//!
//! What must always hold
//! 1. The layer appears under its name only once all of it is durable; a failed, cancelled or
//!    killed import leaves nothing that anybody finds.
//! 2. The same content twice is one layer.
//!
//! Left to others: what an image file means (`image`), naming the layer (`cloud`).

use std::{
    io::IoSlice,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use block_device::{BLOCK, ByteLength, CLUSTER};
use parking_lot::Mutex;

use crate::{
    cluster_map,
    error::StoreError,
    geometry::{ClusterIndex, Geometry, bytes, index},
    hash_table,
    header::{HashSummary, Header, LayerLabel, LayerState, StoredHeader},
    id::{Epoch, LayerId, Root},
    image::ImageSource,
    layer_files::{self, LayerFiles, Mark},
    names::Pin,
    progress::Progress,
    root::{self, ClusterHash},
    storage::StorageFile,
    store::{Shared, Store},
    word::{Blocks, Word},
    worker,
};

/// How much one thread reads at a time, in bytes: large enough to hash and write at full speed.
const CHUNK: u64 = 1 << 20;

impl Store {
    /// Imports an image. The layer stays once it is published.
    pub fn import(
        &self,
        source: &ImageSource,
        label: LayerLabel,
        progress: &dyn Progress,
    ) -> Result<StagedLayer, StoreError> {
        let shared = &self.inner.shared;
        let geometry = Geometry::checked(source.size()).ok_or(StoreError::InvalidSize {
            size: source.size(),
            reason: "an image must be a multiple of 512 bytes above 0 and at most 256 TiB",
        })?;
        let layer = shared.storage.new_layer_id().map_err(StoreError::io("making a layer id"))?;
        let header = Header {
            layer,
            parent: None,
            geometry,
            state: LayerState::Sealed,
            epoch: Epoch::FIRST,
            ledger_sequence: 0,
            disk: None,
            label,
            hashes: None,
        };
        let (files, stored) = LayerFiles::create(&*shared.storage, header)?;
        let filled = fill(&files, stored, source, progress);
        let staged = filled.and_then(|root| self.name_or_share(&files, geometry, root));
        if staged.is_err() {
            files.abandon(&*shared.storage);
        }
        staged
    }

    /// Makes the new layer durable, or finds one with the same content and drops the new one.
    fn name_or_share(
        &self,
        files: &LayerFiles,
        geometry: Geometry,
        root: Root,
    ) -> Result<StagedLayer, StoreError> {
        let shared = &self.inner.shared;
        let size = ByteLength::new(geometry.size());
        if let Some(pin) = find_same(shared, root, geometry)? {
            files.abandon(&*shared.storage);
            let layer = pin.layer();
            return Ok(StagedLayer {
                shared: shared.clone(),
                layer,
                root,
                size,
                is_shared: true,
                pin: Some(pin),
            });
        }
        files.finish(&*shared.storage)?;
        let (layer, pin) = (files.layer, Some(shared.names.pin(files.layer)?));
        Ok(StagedLayer { shared: shared.clone(), layer, root, size, is_shared: false, pin })
    }
}

/// A named layer with the same content, kept alive.
fn find_same(
    shared: &Arc<Shared>,
    root: Root,
    geometry: Geometry,
) -> Result<Option<Pin>, StoreError> {
    for layer in shared.layer_ids()? {
        let same = worker::sealed_header(&*shared.storage, layer).is_some_and(|header| {
            header.geometry == geometry && header.hashes.is_some_and(|hashes| hashes.root == root)
        });
        if !same || !shared.names.is_named(layer) {
            continue;
        }
        if let Ok(pin) = shared.names.pin(layer) {
            return Ok(Some(pin));
        }
    }
    Ok(None)
}

/// A layer that stays only once it is published.
#[derive(Debug)]
#[must_use = "dropping it undoes the import"]
pub struct StagedLayer {
    shared: Arc<Shared>,
    layer: LayerId,
    root: Root,
    size: ByteLength,
    is_shared: bool,
    pin: Option<Pin>,
}

impl StagedLayer {
    /// The layer's name, for the catalog.
    pub fn layer(&self) -> LayerId {
        self.layer
    }

    /// The hash over all its content.
    pub fn root(&self) -> Root {
        self.root
    }

    /// The size of the disk it holds.
    pub fn size(&self) -> ByteLength {
        self.size
    }

    /// Whether a layer with the same content was there already, and is used.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Keeps the layer; called once the catalog names it.
    pub fn publish(mut self) -> Result<(), StoreError> {
        self.shared.names.name(self.layer);
        self.pin = None;
        // A shared one may be about to be deleted by somebody else.
        [Mark::Unfinished, Mark::Deleting]
            .into_iter()
            .try_for_each(|mark| layer_files::unmark(&*self.shared.storage, self.layer, mark))
    }

    /// Neither keeps nor undoes the layer: when it is not known whether the catalog names it, the
    /// next start finds out.
    pub fn leave_to_start(self) {
        // Named for this process: nothing removes it before the next start asks the catalog.
        self.shared.names.name(self.layer);
    }
}

impl Drop for StagedLayer {
    fn drop(&mut self) {
        // An unpublished layer that is not shared has no name; its last pin going removes it.
        self.pin = None;
    }
}

/// What an import found out about one cluster.
struct Imported {
    cluster: ClusterIndex,
    blocks: u16,
    hash: ClusterHash,
}

/// Copies the image into the files, and answers its root, stored in the header.
fn fill(
    files: &LayerFiles,
    mut stored: StoredHeader,
    source: &ImageSource,
    progress: &dyn Progress,
) -> Result<Root, StoreError> {
    let clusters = copy(&*files.data, source, progress)?;
    source.check_unchanged()?;
    let tag = Epoch::FIRST.tag();
    let word =
        |found: &Imported| (found.cluster, Word::new(tag, Blocks { data: found.blocks, zero: 0 }));
    let words: Vec<_> = clusters.iter().map(word).collect();
    let io = || StoreError::io(format!("writing layer {}", files.layer));
    cluster_map::write_new_words(&*files.map, files.layer, &words).map_err(io())?;
    let hashes: Vec<_> = clusters.iter().map(|found| (found.cluster.0, found.hash)).collect();
    let header = stored.header.clone();
    hash_table::write(&*files.map, &header, &hashes)?;
    let root = root::root_of(header.geometry.size(), hashes.iter().copied());
    let summary = HashSummary { root, entries: bytes(hashes.len()) };
    // Both copies, so that neither says that the hashes are missing.
    let header = Header { hashes: Some(summary), ..header };
    stored.write(&*files.map, header.clone())?;
    stored.write(&*files.map, header)?;
    Ok(root)
}

/// Copies all that is not zero, and answers what was found, in order.
fn copy(
    data: &dyn StorageFile,
    source: &ImageSource,
    progress: &dyn Progress,
) -> Result<Vec<Imported>, StoreError> {
    let cursor = Cursor { source, next: Mutex::new(0), has_failed: AtomicBool::new(false) };
    let work = || {
        copy_chunks(data, &cursor, progress)
            // Relaxed: it only makes the others end sooner.
            .inspect_err(|_| cursor.has_failed.store(true, Ordering::Relaxed))
    };
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let parts = thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let join = |handle: thread::ScopedJoinHandle<'_, _>| match handle.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // All are joined before the first error is told.
        let parts: Vec<Result<Vec<Imported>, StoreError>> = handles.into_iter().map(join).collect();
        parts.into_iter().collect::<Result<Vec<_>, _>>()
    })?;
    let mut found: Vec<_> = parts.into_iter().flatten().collect();
    found.sort_unstable_by_key(|found| found.cluster);
    progress.advanced(source.size(), source.size());
    Ok(found)
}

/// Copies stretches until there are none left.
fn copy_chunks(
    data: &dyn StorageFile,
    cursor: &Cursor<'_>,
    progress: &dyn Progress,
) -> Result<Vec<Imported>, StoreError> {
    let (mut found, mut buffer) = (Vec::new(), vec![0; index(CHUNK)]);
    while let Some(chunk) = cursor.claim()? {
        if progress.cancelled() {
            return Err(StoreError::Cancelled);
        }
        let part = &mut buffer[..index(chunk.end - chunk.start)];
        cursor.source.read_at(part, chunk.start)?;
        look_at(chunk.start, part, &mut found);
        write_blocks(data, chunk.start, part)?;
        progress.advanced(ByteLength::new(chunk.end), cursor.source.size());
    }
    Ok(found)
}

/// Hands out the stretches of the image that may hold data.
struct Cursor<'s> {
    source: &'s ImageSource,
    next: Mutex<u64>,
    /// One thread failed: the others need not go on.
    has_failed: AtomicBool,
}

impl Cursor<'_> {
    /// The next stretch: whole clusters, none of them in two stretches.
    fn claim(&self) -> Result<Option<Range<u64>>, StoreError> {
        let mut next = self.next.lock();
        let size = self.source.size().get();
        if *next >= size || self.has_failed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(data) = self.source.next_data(*next)? else {
            *next = size;
            return Ok(None);
        };
        let start = (data.start / CLUSTER * CLUSTER).max(*next);
        let end = data.end.next_multiple_of(CLUSTER).min(start + CHUNK).min(size);
        *next = end;
        Ok(Some(start..end))
    }
}

/// Hashes the clusters of a stretch that hold anything.
fn look_at(start: u64, part: &[u8], found: &mut Vec<Imported>) {
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

impl LayerFiles {
    /// Removes what was made of a layer that will not be.
    fn abandon(&self, storage: &dyn crate::storage::Storage) {
        layer_files::remove_tree(storage, &format!("{}/{}.new", layer_files::LAYERS, self.layer));
    }
}
