//! A head: the one writable layer of a disk.
//!
//! Order of a write, never another: the data file -> the live word -> the changed list -> answer.
//!
//! What must always hold
//! 1. Writers of one cluster exclude each other; readers take no lock.
//! 2. A word with a foreign epoch is replaced whole. A partial write to a block that is not
//!    present fills the rest of the block from below, so a present block is whole.
//! 3. A poisoned head takes no more writes.
//!
//! Locks: `clusters[i]` in ascending order -> the lock inside `changed`; `header` alone; `rounds` alone.
//! Left to others: durability (`flush`), who may write at all and in which epoch (`disk`).

use std::{
    io::{self, IoSlice},
    ops::Range,
    sync::{Arc, OnceLock},
};

use block_device::{BLOCK, CLUSTER, DeviceError, DiskId, ZeroMode};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    changed_clusters::ChangedClusters,
    cluster_map::ClusterMap,
    error::StoreError,
    flush::Rounds,
    geometry::{ClusterIndex, Geometry, bytes, clusters_of, index},
    header::{Header, LayerState, StoredHeader},
    id::{Epoch, EpochTag, LayerId},
    layer_files::{self, LayerFiles},
    newest_word::NewestWord,
    reclaim,
    sealed_layer::Chain,
    storage::{Storage, StorageFile},
    word::{Blocks, Word},
};

/// How many locks the clusters of a head share.
const STRIPES: u64 = 64;
/// The longest piece of a write that is done under one set of locks, in bytes: few enough
/// clusters that no two of them share a stripe.
pub(crate) const PIECE: u64 = 16 * CLUSTER;

/// The one writable layer of a disk.
#[derive(Debug)]
pub(crate) struct Head {
    files: LayerFiles,
    map: ClusterMap,
    /// Raised before a word is stored.
    pub(crate) newest: NewestWord,
    clusters: [Mutex<()>; 64],
    /// Clusters whose live word may differ from the durable one.
    pub(crate) changed: ChangedClusters,
    /// Shared with the head this one was mapped anew from: there is one truth about the header.
    header: Arc<Mutex<StoredHeader>>,
    pub(crate) rounds: Rounds,
    /// What failed first; set once, and shared like the header.
    poison: Arc<OnceLock<String>>,
}

impl Head {
    /// Makes the files of a new head, durable under its name, marked as unfinished until the
    /// ledger names it.
    pub(crate) fn create(
        storage: &dyn Storage,
        disk: &DiskId,
        geometry: Geometry,
        parent: Option<LayerId>,
        epoch: Epoch,
        ledger_sequence: u64,
    ) -> Result<Self, StoreError> {
        let layer = storage.new_layer_id().map_err(StoreError::io("making a layer id"))?;
        let header = Header {
            layer,
            parent,
            geometry,
            state: LayerState::Open,
            epoch,
            ledger_sequence,
            disk: Some(disk.clone()),
            label: layer_files::head_label(),
            hashes: None,
        };
        let (files, stored) = LayerFiles::create(storage, header)?;
        files.finish(storage)?;
        Self::new(files, Arc::new(Mutex::new(stored)), NewestWord::none(), Arc::default())
    }

    /// Opens a head that the ledger names; what it is believed to hold is what the device holds.
    /// `epoch` is the ledger's: no word has a higher one.
    pub(crate) fn open(
        storage: &dyn Storage,
        layer: LayerId,
        epoch: Epoch,
    ) -> Result<OpenedHead, StoreError> {
        let files = LayerFiles::open(storage, layer)?;
        files.believe_only_the_device()?;
        files.believe_only_the_device_of_data()?;
        let stored = StoredHeader::read(&*files.map, layer)?;
        if stored.header.state == LayerState::Sealed {
            return Ok(OpenedHead::Sealed);
        }
        files.check_lengths(&stored.header)?;
        let bound = if stored.is_whole { stored.header.epoch } else { epoch };
        let (header, newest) = (Arc::new(Mutex::new(stored)), NewestWord::up_to(bound.tag()));
        let head = Self::new(files, header, newest, Arc::default())?;
        Ok(OpenedHead::Open(Box::new(head)))
    }

    fn new(
        files: LayerFiles,
        header: Arc<Mutex<StoredHeader>>,
        newest: NewestWord,
        poison: Arc<OnceLock<String>>,
    ) -> Result<Self, StoreError> {
        let Header { layer, geometry, epoch, .. } = header.lock().header.clone();
        let map = ClusterMap::of_head(files.map.clone(), layer, geometry, epoch.tag())?;
        Ok(Self {
            files,
            map,
            newest,
            clusters: [const { Mutex::new(()) }; 64],
            changed: ChangedClusters::default(),
            header,
            rounds: Rounds::default(),
            poison,
        })
    }

    pub(crate) fn layer(&self) -> LayerId {
        self.files.layer
    }

    pub(crate) fn map(&self) -> &ClusterMap {
        &self.map
    }

    pub(crate) fn files(&self) -> &LayerFiles {
        &self.files
    }

    pub(crate) fn data(&self) -> &dyn StorageFile {
        &*self.files.data
    }

    pub(crate) fn header(&self) -> Header {
        self.header.lock().header.clone()
    }

    /// Stores `bytes` at `offset`; the range was checked against the disk.
    pub(crate) fn write(
        &self,
        below: &Below<'_>,
        offset: u64,
        bytes_in: &[u8],
    ) -> Result<(), DeviceError> {
        self.check_not_poisoned()?;
        let end = offset + bytes(bytes_in.len());
        for piece in pieces(offset..end) {
            let part = &bytes_in[index(piece.start - offset)..index(piece.end - offset)];
            self.write_piece(below, piece, part)?;
        }
        Ok(())
    }

    fn write_piece(
        &self,
        below: &Below<'_>,
        range: Range<u64>,
        part: &[u8],
    ) -> Result<(), DeviceError> {
        let _alone = self.lock_clusters(&range);
        let words = self.words(&range)?;
        let before = self.fill_before(below, &range, &words)?;
        let after = self.fill_after(below, &range, &words)?;
        let start = range.start - bytes(before.len());
        let whole = [IoSlice::new(&before), IoSlice::new(part), IoSlice::new(&after)];
        match (before.is_empty(), after.is_empty()) {
            (true, true) => self.files.data.write_all_at(&whole[1..2], start)?,
            _ => self.files.data.write_all_at(&whole, start)?,
        }
        self.change_words(below.epoch, &words, |cluster, blocks| {
            blocks.written(cluster.blocks_touched(&range))
        });
        Ok(())
    }

    /// What lies before the write in its first block, if that block must be written whole.
    fn fill_before(
        &self,
        below: &Below<'_>,
        range: &Range<u64>,
        words: &[(ClusterIndex, Word)],
    ) -> Result<Vec<u8>, DeviceError> {
        let block = range.start / BLOCK * BLOCK;
        if block == range.start || is_present(words, block, below.epoch) {
            return Ok(Vec::new());
        }
        below.read(words, block..range.start)
    }

    /// What lies after the write in its last block, if that block must be written whole.
    fn fill_after(
        &self,
        below: &Below<'_>,
        range: &Range<u64>,
        words: &[(ClusterIndex, Word)],
    ) -> Result<Vec<u8>, DeviceError> {
        let block = range.end / BLOCK * BLOCK;
        if block == range.end || is_present(words, block, below.epoch) {
            return Ok(Vec::new());
        }
        below.read(words, range.end..(block + BLOCK).min(below.size))
    }

    /// Makes the range read as zeros, to the sector.
    pub(crate) fn zero_sectors(
        &self,
        below: &Below<'_>,
        range: Range<u64>,
        mode: ZeroMode,
    ) -> Result<(), DeviceError> {
        let whole = range.start.next_multiple_of(BLOCK)..below.last_whole_block(range.end);
        if whole.start >= whole.end {
            return self.write_zeros(below, range);
        }
        self.write_zeros(below, range.start..whole.start)?;
        self.write_zeros(below, whole.end.min(range.end)..range.end)?;
        self.zero_blocks(below, range, mode)
    }

    fn write_zeros(&self, below: &Below<'_>, range: Range<u64>) -> Result<(), DeviceError> {
        const ZEROS: [u8; 2 * 4096] = [0; 2 * 4096];
        // An edge is less than a block; a range without a whole block is less than two.
        self.write(below, range.start, &ZEROS[..index(range.end - range.start)])
    }

    /// Makes whole blocks of the range read as zeros; partial blocks at the edges stay.
    pub(crate) fn zero_blocks(
        &self,
        below: &Below<'_>,
        range: Range<u64>,
        mode: ZeroMode,
    ) -> Result<(), DeviceError> {
        self.check_not_poisoned()?;
        pieces(range).try_for_each(|piece| self.zero_piece(below, piece, mode))
    }

    fn zero_piece(
        &self,
        below: &Below<'_>,
        range: Range<u64>,
        mode: ZeroMode,
    ) -> Result<(), DeviceError> {
        let _alone = self.lock_clusters(&range);
        let words = self.words(&range)?;
        let has_data = words.iter().any(|(_, word)| word.said().data != 0);
        self.change_words(below.epoch, &words, |cluster, blocks| {
            let covered = below.covered(cluster, &range);
            // Where nothing lies below, a block that says nothing reads as zeros already.
            let needed =
                if below.is_empty_at(cluster) { covered & blocks.known() } else { covered };
            blocks.zeroed(needed)
        });
        let whole = range.start.next_multiple_of(BLOCK)..below.last_whole_block(range.end);
        if has_data && mode == ZeroMode::Punch && whole.start < whole.end {
            match self.files.data.punch_hole(whole) {
                // The word says zero already; only the space stays.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Gives the space of the first blocks of `range` back that do not count at `epoch`, and
    /// answers which. The range lies in one piece.
    ///
    /// One punch at most, for a writer of these clusters waits for it. What counts is decided here,
    /// under the lock: whoever chose the range saw an earlier moment, and a block that was written
    /// since then must stay.
    pub(crate) fn punch_stale(
        &self,
        epoch: EpochTag,
        range: Range<u64>,
    ) -> Result<Option<Range<u64>>, StoreError> {
        let _alone = self.lock_clusters(&range);
        let words = self.words(&range)?;
        let said: Vec<_> = words.iter().map(|(cluster, word)| (*cluster, word.at(epoch))).collect();
        let stale = reclaim::first_stale(&said, &range);
        if let Some(stale) = &stale {
            let io = StoreError::io(format!("giving space of layer {} back", self.layer()));
            self.files.data.punch_hole(stale.clone()).map_err(io)?;
        }
        Ok(stale)
    }

    /// Gives each of the words its new value, and lists those that changed.
    fn change_words(
        &self,
        epoch: EpochTag,
        words: &[(ClusterIndex, Word)],
        change: impl Fn(ClusterIndex, Blocks) -> Blocks,
    ) {
        for (cluster, word) in words {
            let blocks = change(*cluster, word.at(epoch));
            if blocks == word.at(epoch) {
                continue;
            }
            self.newest.rise_to(epoch);
            self.map.set(*cluster, Word::new(epoch, blocks));
            self.changed.push(*cluster);
        }
    }

    fn words(&self, range: &Range<u64>) -> Result<Vec<(ClusterIndex, Word)>, StoreError> {
        clusters_of(range).map(|cluster| Ok((cluster, self.map.word(cluster)?))).collect()
    }

    fn lock_clusters(&self, range: &Range<u64>) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<_> = clusters_of(range).map(|c| index(c.0 % STRIPES)).collect();
        stripes.sort_unstable();
        stripes.into_iter().map(|stripe| self.clusters[stripe].lock()).collect()
    }

    /// Changes the header durably.
    pub(crate) fn change_header(&self, change: impl FnOnce(&mut Header)) -> Result<(), StoreError> {
        let mut stored = self.header.lock();
        let mut header = stored.header.clone();
        change(&mut header);
        self.store_header(&mut stored, header)
    }

    /// Makes both copies of the header whole. What cannot be made so takes no more writes: a later
    /// change of the header would go over the only copy there is.
    pub(crate) fn mend_header(&self) -> Result<(), StoreError> {
        let mended = self.header.lock().mend(&*self.files.map);
        mended.inspect_err(|error| {
            self.poison("mending its header", io::Error::other(error.to_string()));
        })
    }

    fn store_header(&self, stored: &mut StoredHeader, header: Header) -> Result<(), StoreError> {
        stored.write(&*self.files.map, header)?;
        self.map.sync().map_err(|error| self.poison("syncing its header", error))
    }

    /// Brings the header up to where the disk is, unless it is there or was sealed.
    pub(crate) fn refresh_header(&self, position: &Position) -> Result<(), StoreError> {
        self.refresh_locked(&mut self.header.lock(), position)
    }

    /// Makes captured words durable, after the header with their epoch. Their data is durable.
    ///
    /// Under the header's lock: a failed sync of a file is told once only, so no two threads sync
    /// the map at a time.
    pub(crate) fn persist(
        &self,
        captured: &[(ClusterIndex, Word)],
        position: &Position,
    ) -> Result<(), StoreError> {
        let mut stored = self.header.lock();
        if let Some(reason) = self.poisoned() {
            // The sync of their data may have called lost pages clean.
            let source = io::Error::other("nothing is made durable after that");
            return Err(StoreError::Io { context: reason.to_owned(), source });
        }
        self.refresh_locked(&mut stored, position)?;
        self.map.persist(captured)?;
        self.map.sync().map_err(|error| self.poison("syncing its map", error))
    }

    fn refresh_locked(
        &self,
        stored: &mut StoredHeader,
        position: &Position,
    ) -> Result<(), StoreError> {
        let Position { epoch, parent, ledger_sequence } = *position;
        let header = &stored.header;
        let behind = header.epoch < epoch || (header.epoch == epoch && header.parent != parent);
        if header.state == LayerState::Sealed || !behind {
            return Ok(());
        }
        let header = Header { epoch, parent, ledger_sequence, ..header.clone() };
        self.store_header(stored, header)
    }

    /// Grows the files to a new size, durably, and maps the words anew. Nothing may be changed
    /// that was not flushed: the words are taken from the file.
    pub(crate) fn grow(&self, geometry: Geometry) -> Result<Self, StoreError> {
        let io = || StoreError::io(format!("growing layer {}", self.layer()));
        // Never shorter: an earlier growth that was cut short may have gone further.
        let lengthen = |file: &dyn StorageFile, wanted: u64| -> io::Result<()> {
            if file.length()? < wanted { file.set_len(wanted) } else { Ok(()) }
        };
        lengthen(&*self.files.data, geometry.size()).map_err(io())?;
        lengthen(&*self.files.map, geometry.words_end()).map_err(io())?;
        self.files.data.sync_data().map_err(|error| self.poison("syncing its data", error))?;
        self.map.sync().map_err(|error| self.poison("syncing its map", error))?;
        self.change_header(|header| header.geometry = geometry)?;
        let (header, newest) = (self.header.clone(), self.newest.copied());
        Self::new(self.files.clone(), header, newest, self.poison.clone())
    }

    /// Refuses all further writes, and says why.
    pub(crate) fn poison(&self, doing: &str, error: io::Error) -> StoreError {
        let reason = format!("{doing} failed: {error}");
        let first = self.poison.get_or_init(|| {
            tracing::error!(layer = %self.layer(), reason, "the disk refuses writes from now on");
            reason
        });
        StoreError::Io { context: first.clone(), source: error }
    }

    /// What failed first, if anything did.
    pub(crate) fn poisoned(&self) -> Option<&str> {
        self.poison.get().map(String::as_str)
    }

    pub(crate) fn check_not_poisoned(&self) -> Result<(), DeviceError> {
        match self.poison.get() {
            None => Ok(()),
            Some(reason) => Err(DeviceError::Poisoned { reason: reason.clone() }),
        }
    }
}

/// Where a disk is, as its head's header tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) epoch: Epoch,
    pub(crate) parent: Option<LayerId>,
    pub(crate) ledger_sequence: u64,
}

/// What opening the layer that a ledger record names as head found.
#[derive(Debug)]
pub(crate) enum OpenedHead {
    /// A head.
    Open(Box<Head>),
    /// It was sealed; a snapshot ended before the ledger moved on.
    Sealed,
}

/// What a head stands on while it is written: the base, the epoch and the size of the disk.
#[derive(Debug)]
pub(crate) struct Below<'d> {
    pub(crate) base: Option<&'d Arc<Chain>>,
    pub(crate) epoch: EpochTag,
    pub(crate) size: u64,
}

impl Below<'_> {
    /// The bytes of a part of one block that is not present in the head.
    fn read(
        &self,
        words: &[(ClusterIndex, Word)],
        range: Range<u64>,
    ) -> Result<Vec<u8>, DeviceError> {
        let mut buffer = vec![0; index(range.end - range.start)];
        let cluster = ClusterIndex::of(range.start);
        let zeroed = said_of(words, cluster, self.epoch).zero & cluster.blocks_touched(&range) != 0;
        if let (false, Some(base)) = (zeroed, self.base) {
            base.read(&mut buffer, range.start)?;
        }
        Ok(buffer)
    }

    /// The blocks of the cluster that the range makes zero: whole ones, where the disk's last
    /// block counts as whole.
    fn covered(&self, cluster: ClusterIndex, range: &Range<u64>) -> u16 {
        cluster.blocks_covered(&(range.start..self.last_whole_block(range.end)))
    }

    /// The end of the last block that a range up to `end` holds whole.
    fn last_whole_block(&self, end: u64) -> u64 {
        if end == self.size { end.next_multiple_of(BLOCK) } else { end / BLOCK * BLOCK }
    }

    fn is_empty_at(&self, cluster: ClusterIndex) -> bool {
        self.base.is_none_or(|base| base.size() <= cluster.start())
    }
}

fn said_of(words: &[(ClusterIndex, Word)], cluster: ClusterIndex, epoch: EpochTag) -> Blocks {
    let word = words.iter().find(|(known, _)| *known == cluster);
    word.map_or(Blocks::default(), |(_, word)| word.at(epoch))
}

fn is_present(words: &[(ClusterIndex, Word)], block: u64, epoch: EpochTag) -> bool {
    let cluster = ClusterIndex::of(block);
    said_of(words, cluster, epoch).data & cluster.blocks_touched(&(block..block + 1)) != 0
}

/// The parts of a range that are changed under one set of locks; none of them is empty.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let first = range.start / PIECE;
    let last = if range.is_empty() { first } else { range.end.div_ceil(PIECE) };
    (first..last)
        .map(move |piece| range.start.max(piece * PIECE)..range.end.min((piece + 1) * PIECE))
}
