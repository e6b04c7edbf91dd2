//! Scrub: the content of sealed layers beside the hashes that were made when they were sealed.
//!
//! What must always hold
//! 1. It changes nothing but its own cursor: what it finds is told, never repaired.
//! 2. What is compared comes from the device, not from the cache, and is read twice before it is
//!    called damaged.
//! 3. A cluster that is damaged at a layer is refused to who reads through that layer from then
//!    on, over restarts too, until a scrub finds it whole; everything else is served.
//! 4. After a stop or a kill the next run goes on where the cursor was: a cluster may be compared
//!    twice, none is left out. A layer that is removed meanwhile is left out silently.
//!
//! Left to others: structure (headers and maps), heads (they have no hashes), when to run it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use block_device::{ByteLength, ByteOffset, CLUSTER, DeviceError, DiskId};

use crate::{
    error::StoreError,
    geometry::{ClusterIndex, bytes, index},
    hash_table,
    header::StoredHeader,
    id::LayerId,
    known_damage::Damaged,
    lineage::Lineage,
    progress::Progress,
    resolve::{Owner, Stack},
    root::{self, ClusterHash},
    scrub_cursor::{Cursor, Found},
    sealed_layer::{Chain, SealedLayer},
    store::{Shared, Store},
};

/// Clusters that are read at once.
const WINDOW: usize = 16;
/// From so many damaged clusters on nothing of a layer is believed, and its rest is not read.
const MANY: usize = 1024;
/// How long a slowed down scrub sleeps before it looks whether it is to stop.
const NAP: Duration = Duration::from_millis(20);
/// How long a scrub may go without saving its cursor, however slow it is.
const SAVE_AFTER: Duration = Duration::from_secs(10);

/// How a scrub runs.
#[derive(Clone, Copy, Debug)]
pub struct Scrub {
    /// Bytes it reads in a second at most; none for no limit.
    pub rate: Option<ByteLength>,
    /// How much is read between two savings of the cursor: what a kill makes it read again.
    pub checkpoint: ByteLength,
}

impl Default for Scrub {
    /// Slow enough to leave most of any disk to its users.
    fn default() -> Self {
        Self { rate: Some(ByteLength::new(64 << 20)), checkpoint: ByteLength::new(256 << 20) }
    }
}

/// What a scrub did and found, the runs it went on from included.
#[derive(Clone, Debug, Default)]
pub struct ScrubReport {
    /// Layers that were looked at.
    pub layers: u64,
    /// Sealed layers that have no hashes yet and were left out.
    pub unhashed: u64,
    /// Clusters that were compared.
    pub clusters: u64,
    /// What was read for that.
    pub bytes: ByteLength,
    /// What is wrong.
    pub findings: Vec<ScrubFinding>,
}

/// A scrub that came to its end or was cut short, as its cursor tells it.
#[derive(Clone, Debug)]
pub struct LastScrub {
    /// Whether it came to its end; else the next goes on there.
    pub is_finished: bool,
    /// What it compared.
    pub done: ByteLength,
    /// What there was to compare, as far as it is known now.
    pub total: ByteLength,
    /// What it found so far. The layers without hashes are those of now.
    pub report: ScrubReport,
}

/// Something wrong with a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubFinding {
    /// The layer.
    pub layer: LayerId,
    /// Where, if it is one cluster.
    pub offset: Option<ByteOffset>,
    /// What.
    pub kind: ScrubFindingKind,
    /// The layer and all that stand on it.
    pub standing: BTreeSet<LayerId>,
    /// The images and snapshots that these were made for, as `kind:id`, by their own headers. Who
    /// has a catalog knows more: several may share a layer.
    pub labels: Vec<String>,
    /// The disks on any of these layers.
    pub disks: Vec<DiskId>,
}

impl ScrubFinding {
    /// The images, snapshots and disks that need the layer, as `kind:id`.
    pub fn affects(&self) -> Vec<String> {
        let disks = self.disks.iter().map(|disk| format!("disk:{disk}"));
        self.labels.iter().cloned().chain(disks).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubFindingKind {
    /// The cluster reads as something else than what was hashed. Reads of it are refused.
    Content,
    /// The cluster cannot be read.
    Unreadable,
    /// The hashes are damaged, or are not those of what the layer holds.
    HashTable,
    /// The hashes do not give the root.
    Root,
    /// The layer, or one below it, cannot be opened.
    Layer,
    /// So much of the layer is damaged that the rest was not looked at. All of it is refused.
    TooMuch,
    /// There is no such layer, though a snapshot, an image, a disk or another layer needs it.
    Missing,
}

impl ScrubFindingKind {
    const ALL: [Self; 7] = [
        Self::Content,
        Self::Unreadable,
        Self::HashTable,
        Self::Root,
        Self::Layer,
        Self::TooMuch,
        Self::Missing,
    ];

    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Content => "Content",
            Self::Unreadable => "Unreadable",
            Self::HashTable => "HashTable",
            Self::Root => "Root",
            Self::Layer => "Layer",
            Self::TooMuch => "TooMuch",
            Self::Missing => "Missing",
        }
    }

    /// Its number in the cursor.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Content => 1,
            Self::Unreadable => 2,
            Self::HashTable => 3,
            Self::Root => 4,
            Self::Layer => 5,
            Self::TooMuch => 6,
            Self::Missing => 7,
        }
    }

    pub(crate) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Whether reads are refused for it.
    fn is_refused(self) -> bool {
        matches!(self, Self::Content | Self::TooMuch)
    }
}

impl Store {
    /// Compares all sealed layers that have hashes with them. A run that was stopped or killed is
    /// gone on with. When it is cancelled it fails with `Cancelled`, and the next goes on there.
    pub fn scrub(
        &self,
        options: &Scrub,
        progress: &dyn Progress,
    ) -> Result<ScrubReport, StoreError> {
        let shared = self.shared();
        let _alone = shared.scrubbing.lock();
        let lineage = Lineage::look(shared)?;
        let mut run = Run::begin(shared, &lineage, options, progress);
        // What is killed in its first moments was begun all the same.
        run.save();
        let compared = run.all(&lineage);
        run.save();
        compared?;
        run.finish()
    }

    /// The last scrub, from its cursor; none if there is none that can be believed.
    pub fn last_scrub(&self) -> Result<Option<LastScrub>, StoreError> {
        let shared = self.shared();
        let Some(cursor) = Cursor::load(&*shared.storage) else { return Ok(None) };
        let lineage = Lineage::look(shared)?;
        let left = if cursor.finished { 0 } else { left_to_compare(&cursor, &lineage) };
        let done = ByteLength::new(cursor.clusters * CLUSTER);
        let total = ByteLength::new((cursor.clusters + left) * CLUSTER);
        let report = report_of(shared, &lineage, &cursor, bytes(lineage.unhashed()));
        Ok(Some(LastScrub { is_finished: cursor.finished, done, total, report }))
    }
}

/// Clusters of layers that the run of this cursor did not come to.
fn left_to_compare(cursor: &Cursor, lineage: &Lineage) -> u64 {
    lineage.hashed_clusters(|layer| cursor.done.contains(&layer))
}

fn report_of(shared: &Shared, lineage: &Lineage, cursor: &Cursor, unhashed: u64) -> ScrubReport {
    let own = cursor.findings.iter().filter(|found| !found.earlier && lineage.has(found.layer));
    let findings = own.map(|found| {
        let standing = lineage.standing_on(found.layer);
        ScrubFinding {
            layer: found.layer,
            offset: found.cluster.map(|cluster| ByteOffset::new(cluster * CLUSTER)),
            kind: found.kind,
            labels: lineage.labels(shared, &standing),
            disks: lineage.disks_on(&standing),
            standing,
        }
    });
    ScrubReport {
        layers: bytes(cursor.done.len()),
        unhashed,
        clusters: cursor.clusters,
        bytes: ByteLength::new(cursor.clusters * CLUSTER),
        findings: findings.collect(),
    }
}

/// Knows again, after a start, what the last scrub found damaged.
pub(crate) fn recall(shared: &Shared) {
    let Some(cursor) = Cursor::load(&*shared.storage) else { return };
    for found in cursor.findings.iter().filter(|found| found.kind.is_refused()) {
        tracing::error!(layer = %found.layer, cluster = found.cluster, "known to be damaged; refused");
        shared.layers.damage.add(found.layer, found.cluster);
    }
}

/// One run.
struct Run<'s> {
    shared: &'s Shared,
    progress: &'s dyn Progress,
    pace: Pace,
    checkpoint: u64,
    unsaved: u64,
    saved: Instant,
    cursor: Cursor,
    unhashed: u64,
    /// Bytes that are to be read, as far as it is known.
    total: u64,
    /// The hashes of all clusters as read at the layer looked at last.
    as_read: Option<(LayerId, BTreeMap<u64, ClusterHash>)>,
}

impl<'s> Run<'s> {
    fn begin(
        shared: &'s Shared,
        lineage: &Lineage,
        options: &Scrub,
        progress: &'s dyn Progress,
    ) -> Self {
        let unfinished = Cursor::load(&*shared.storage).filter(|cursor| !cursor.finished);
        let cursor = unfinished.unwrap_or_else(|| fresh(shared));
        let total = (cursor.clusters + left_to_compare(&cursor, lineage)) * CLUSTER;
        Self {
            shared,
            progress,
            pace: Pace::of(options.rate),
            checkpoint: options.checkpoint.get(),
            unsaved: 0,
            saved: Instant::now(),
            cursor,
            unhashed: 0,
            total,
            as_read: None,
        }
    }

    fn all(&mut self, lineage: &Lineage) -> Result<(), StoreError> {
        for (layer, error) in &lineage.unreadable {
            if self.cursor.done.insert(*layer) {
                self.cannot_open(*layer, error);
            }
        }
        for layer in &lineage.missing {
            if self.cursor.done.insert(*layer) {
                self.found(*layer, None, ScrubFindingKind::Missing);
            }
        }
        for header in lineage.in_order() {
            self.check_cancelled()?;
            if !self.cursor.done.contains(&header.layer) {
                self.layer(header.layer)?;
            }
        }
        Ok(())
    }

    /// Looks at one layer, which may be gone by now.
    fn layer(&mut self, layer: LayerId) -> Result<(), StoreError> {
        let gone =
            |error: &StoreError| matches!(error, StoreError::UnknownLayer(id) if *id == layer);
        let _watch = match self.shared.names.watch(layer) {
            Err(error) if gone(&error) => return Ok(()),
            watch => watch?,
        };
        let chain = match self.shared.layers.chain(&*self.shared.storage, layer) {
            Ok(chain) => chain,
            Err(error) if gone(&error) => return Ok(()),
            Err(error) if is_of_this_process(&error) => return Err(error),
            Err(error) => {
                self.cannot_open(layer, &error);
                self.cursor.done.insert(layer);
                return Ok(());
            }
        };
        let whole = match table_of(chain.top()) {
            Ok(Some(entries)) => self.compare(&chain, &entries)?,
            // Its hashes are being made, or failed to be.
            Ok(None) => {
                self.unhashed += 1;
                return Ok(());
            }
            Err(error) => {
                tracing::error!(%layer, %error, "the hashes of a layer cannot be believed");
                self.found(layer, None, ScrubFindingKind::HashTable);
                false
            }
        };
        if whole {
            self.settle(layer);
        }
        self.cursor.at = None;
        self.cursor.done.insert(layer);
        Ok(())
    }

    /// Compares a layer with its hashes; answers whether all of it was looked at.
    fn compare(
        &mut self,
        chain: &Arc<Chain>,
        entries: &[(u64, ClusterHash)],
    ) -> Result<bool, StoreError> {
        let (top, layer) = (chain.top(), chain.layer());
        let next = self.cursor.at.filter(|(at, _)| *at == layer).map_or(0, |(_, next)| next);
        if next == 0 {
            self.check_table(top, entries);
            self.check_root(chain, entries);
        }
        let left = &entries[entries.partition_point(|(cluster, _)| *cluster < next)..];
        self.total -= (bytes(entries.len() - left.len()) * CLUSTER).min(self.total);
        let clusters = top.header.geometry.clusters();
        let left = &left[..left.partition_point(|(cluster, _)| *cluster < clusters)];
        let mut buffer = vec![0; WINDOW * index(CLUSTER)];
        let runs = left.chunk_by(|(a, _), (b, _)| a + 1 == *b);
        for window in runs.flat_map(|run| run.chunks(WINDOW)) {
            self.check_cancelled()?;
            self.window(chain, window, &mut buffer);
            self.advance(layer, window);
            if self.damaged(layer).clusters.len() >= MANY {
                self.found(layer, None, ScrubFindingKind::TooMuch);
                break;
            }
        }
        Ok(true)
    }

    /// The hashes must be there for exactly what the layer says something about. (When the map
    /// cannot be read, reading the clusters tells.)
    fn check_table(&mut self, top: &SealedLayer, entries: &[(u64, ClusterHash)]) {
        let Ok(touched) = top.touched() else { return };
        let layer = top.files.layer;
        let hashed: BTreeSet<u64> = entries.iter().map(|(cluster, _)| *cluster).collect();
        for cluster in touched.iter().filter(|cluster| !hashed.contains(&cluster.0)) {
            self.found(layer, Some(cluster.0), ScrubFindingKind::HashTable);
        }
        let clusters = top.header.geometry.clusters();
        for cluster in hashed.range(clusters..) {
            self.found(layer, Some(*cluster), ScrubFindingKind::HashTable);
        }
    }

    /// The hashes of the layer and of those below must give its root. Where one below has none
    /// that can be believed there is nothing to compare, and that layer is told for itself.
    fn check_root(&mut self, chain: &Chain, entries: &[(u64, ClusterHash)]) {
        let (top, layer) = (chain.top(), chain.layer());
        let kept = self.as_read.take().filter(|(of, _)| Some(*of) == top.header.parent);
        let below = match kept {
            Some((_, below)) => Some(below),
            None => below_of(chain),
        };
        let Some(mut as_read) = below else { return };
        as_read.extend(entries.iter().copied());
        let size = top.header.geometry.size();
        let root = root::root_of(size, as_read.iter().map(|(cluster, hash)| (*cluster, *hash)));
        let stored = StoredHeader::read(&*top.files.map, layer).map(|stored| stored.header.hashes);
        if !matches!(stored, Ok(Some(hashes)) if hashes.root == root) {
            self.found(layer, None, ScrubFindingKind::Root);
        }
        self.as_read = Some((layer, as_read));
    }

    fn window(&mut self, chain: &Chain, window: &[(u64, ClusterHash)], buffer: &mut [u8]) {
        let Some(((first, _), (last, _))) = window.first().zip(window.last()) else { return };
        let start = first * CLUSTER;
        let end = ((last + 1) * CLUSTER).min(chain.size());
        let content = &mut buffer[..index(end - start)];
        let read = read_from_device(chain, content, start);
        for ((cluster, hash), held) in window.iter().zip(content.chunks(index(CLUSTER))) {
            let is_right = read.is_ok() && root::hash_cluster(held) == *hash;
            if !is_right && let Some(kind) = look_again(chain, *cluster, hash) {
                self.found(chain.layer(), Some(*cluster), kind);
            }
        }
    }

    /// Takes note of a window, saves the cursor now and then, and keeps the pace.
    fn advance(&mut self, layer: LayerId, window: &[(u64, ClusterHash)]) {
        let Some((last, _)) = window.last() else { return };
        let read = bytes(window.len()) * CLUSTER;
        self.cursor.at = Some((layer, last + 1));
        self.cursor.clusters += bytes(window.len());
        self.unsaved += read;
        if self.unsaved >= self.checkpoint || self.saved.elapsed() >= SAVE_AFTER {
            self.save();
        }
        let done = self.cursor.clusters * CLUSTER;
        self.progress.advanced(ByteLength::new(done), ByteLength::new(self.total.max(done)));
        self.pace.keep(read, self.progress);
    }

    fn check_cancelled(&self) -> Result<(), StoreError> {
        if self.progress.cancelled() { Err(StoreError::Cancelled) } else { Ok(()) }
    }

    fn cannot_open(&mut self, layer: LayerId, error: &StoreError) {
        tracing::error!(%layer, %error, "a layer cannot be opened");
        self.found(layer, None, ScrubFindingKind::Layer);
    }

    fn found(&mut self, layer: LayerId, cluster: Option<u64>, kind: ScrubFindingKind) {
        let found = Found { layer, cluster, kind, earlier: false };
        if self.cursor.findings.contains(&found) {
            return;
        }
        tracing::error!(%layer, offset = cluster.map(|c| c * CLUSTER), kind = kind.name(), "the scrub found damage");
        if kind.is_refused() {
            self.shared.layers.damage.add(layer, cluster);
        }
        self.cursor.findings.push(found);
    }

    /// What this run found damaged of the layer.
    fn damaged(&self, layer: LayerId) -> Damaged {
        let mut damaged = Damaged::default();
        let own =
            self.cursor.findings.iter().filter(|found| found.layer == layer && !found.earlier);
        for found in own.filter(|found| found.kind.is_refused()) {
            match found.cluster {
                Some(cluster) => drop(damaged.clusters.insert(cluster)),
                None => damaged.whole = true,
            }
        }
        damaged
    }

    /// The layer was looked at in whole: what was known of it before is over.
    fn settle(&mut self, layer: LayerId) {
        self.shared.layers.damage.settle(layer, self.damaged(layer));
        self.cursor.findings.retain(|found| found.layer != layer || !found.earlier);
    }

    /// A cursor that cannot be saved only means that more is read again.
    fn save(&mut self) {
        if let Err(error) = self.cursor.save(&*self.shared.storage) {
            tracing::warn!(%error, "a kill would make the scrub read more again");
        }
        self.unsaved = 0;
        self.saved = Instant::now();
    }

    fn finish(mut self) -> Result<ScrubReport, StoreError> {
        let lineage = Lineage::look(self.shared)?;
        self.cursor.findings.retain(|found| lineage.has(found.layer));
        let report = report_of(self.shared, &lineage, &self.cursor, self.unhashed);
        self.cursor.finished = true;
        self.cursor.at = None;
        self.save();
        Ok(report)
    }
}

/// The cursor of a run from the beginning; what is known to be damaged stays known meanwhile.
fn fresh(shared: &Shared) -> Cursor {
    let known = shared.layers.damage.all();
    let findings = known.into_iter().flat_map(|(layer, damaged)| {
        let one = move |kind, cluster| Found { layer, cluster, kind, earlier: true };
        let clusters = damaged.clusters.into_iter();
        let clusters = clusters.map(move |cluster| one(ScrubFindingKind::Content, Some(cluster)));
        clusters.chain(damaged.whole.then(|| one(ScrubFindingKind::TooMuch, None)))
    });
    Cursor { findings: findings.collect(), ..Cursor::default() }
}

/// The hashes of a layer, as the device has them.
fn table_of(layer: &SealedLayer) -> Result<Option<Vec<(u64, ClusterHash)>>, StoreError> {
    layer.files.believe_only_the_device()?;
    hash_table::read(&*layer.files.map, layer.files.layer)
}

/// The hashes of all clusters below the uppermost layer, if they can be believed.
fn below_of(chain: &Chain) -> Option<BTreeMap<u64, ClusterHash>> {
    let mut below = BTreeMap::new();
    for layer in chain.layers()[1..].iter().rev() {
        below.extend(hash_table::read(&*layer.files.map, layer.files.layer).ok()??);
    }
    Some(below)
}

/// What is wrong with a cluster that did not read right: it must fail twice.
fn look_again(chain: &Chain, cluster: u64, hash: &ClusterHash) -> Option<ScrubFindingKind> {
    let start = ClusterIndex(cluster).start();
    let mut content = vec![0; index((chain.size() - start).min(CLUSTER))];
    match read_from_device(chain, &mut content, start) {
        Ok(()) if root::hash_cluster(&content) == *hash => {
            let layer = chain.layer();
            tracing::warn!(%layer, offset = start, "a cluster read right only the second time");
            None
        }
        Ok(()) => Some(ScrubFindingKind::Content),
        Err(error) => {
            let layer = chain.layer();
            tracing::error!(%layer, offset = start, %error, "a cluster cannot be read");
            Some(ScrubFindingKind::Unreadable)
        }
    }
}

/// Reads what the chain holds, known damage or not, past the cache; leaves the cache as small as
/// it was.
fn read_from_device(chain: &Chain, buffer: &mut [u8], offset: u64) -> Result<(), DeviceError> {
    let end = offset + bytes(buffer.len());
    let stack = Stack { head: None, base: Some(chain) };
    stack.pieces(offset..end, |piece| {
        let Range { start, end } = piece.range;
        let part = &mut buffer[index(start - offset)..index(end - offset)];
        match piece.owner {
            Owner::Layer(place) => {
                let layer = &chain.layers()[place];
                layer.drop_cached_data(&piece.range)?;
                layer.read_data(part, start)?;
                layer.drop_cached_data(&piece.range)?;
            }
            Owner::Head | Owner::Zero | Owner::Hole => part.fill(0),
        }
        Ok::<_, DeviceError>(true)
    })
}

/// Too many open files or too little memory say nothing about the layer.
fn is_of_this_process(error: &StoreError) -> bool {
    use rustix::io::Errno;
    let StoreError::Io { source, .. } = error else {
        return !matches!(error, StoreError::Damaged { .. } | StoreError::UnknownFormat { .. });
    };
    let errors = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    errors.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error()))
}

/// Keeps to a rate.
struct Pace {
    rate: Option<u64>,
    /// When the next read may begin.
    due: Instant,
}

impl Pace {
    fn of(rate: Option<ByteLength>) -> Self {
        Self { rate: rate.map(ByteLength::get).filter(|rate| *rate > 0), due: Instant::now() }
    }

    /// Waits until what was read is paid for, or the scrub is to stop. Time lost elsewhere is not
    /// made good by a burst.
    fn keep(&mut self, read: u64, progress: &dyn Progress) {
        let Some(rate) = self.rate else { return };
        let cost = Duration::from_micros(read.saturating_mul(1_000_000) / rate);
        self.due = self.due.max(Instant::now()) + cost;
        while !progress.cancelled() {
            let left = self.due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(NAP));
        }
    }
}
