//! One run of a scrub: layer by layer, the table of its hashes, its root, then its content.
//!
//! Memory does not grow with the layers: tables are gone through as streams.
//!
//! What must always hold: the cursor moves on only past what was compared.
//! Left to others: reading (`device`), the rate (`pace`), which layers there are (`lineage`).

use std::{
    iter::Peekable,
    sync::Arc,
    time::{Duration, Instant},
};

use block_device::{ByteLength, CLUSTER};

use super::{
    cursor::{Cursor, Found},
    device::{look_again, read_from_device},
    left_to_compare,
    pace::Pace,
    report::{Scrub, ScrubFindingKind, ScrubReport},
    report_of,
};
use crate::{
    error::StoreError,
    geometry::{bytes, index},
    hash_table::Table,
    hashing,
    id::LayerId,
    known_damage::Damaged,
    lineage::Lineage,
    progress::Progress,
    root::{self, ClusterHash},
    sealed_layer::{Chain, SealedLayer},
    store::Shared,
};

/// Clusters that are read at once.
const WINDOW: usize = 16;
/// From so many damaged clusters on nothing of a layer is believed, and its rest is not read.
const MANY: usize = 1024;
/// How long a scrub may go without saving its cursor, however slow it is.
const SAVE_AFTER: Duration = Duration::from_secs(10);

/// One run.
pub(super) struct Run<'s> {
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
}

impl<'s> Run<'s> {
    pub(super) fn begin(
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
        }
    }

    pub(super) fn all(&mut self, lineage: &Lineage) -> Result<(), StoreError> {
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
        let top = chain.top();
        let table = match top.files.believe_only_the_device().and_then(|()| top.hashes()) {
            Ok(Some(table)) => table,
            // Its hashes are being made, or failed to be.
            Ok(None) => {
                self.unhashed += 1;
                return Ok(());
            }
            Err(error) => {
                self.cannot_believe(layer, &error);
                self.cursor.done.insert(layer);
                return Ok(());
            }
        };
        let whole = self.compare(&chain, &table)?;
        if whole {
            self.settle(layer);
        }
        self.cursor.at = None;
        self.cursor.done.insert(layer);
        Ok(())
    }

    /// Compares a layer with its hashes; answers whether all of it was looked at.
    fn compare(&mut self, chain: &Arc<Chain>, table: &Table<'_>) -> Result<bool, StoreError> {
        let layer = chain.layer();
        let next = self.cursor.at.filter(|(at, _)| *at == layer).map_or(0, |(_, next)| next);
        let left = |entry: &Result<(u64, ClusterHash), _>| {
            entry.as_ref().map_or(true, |(cluster, _)| *cluster >= next)
        };
        let compared = self.check_table(chain.top(), table, next).and_then(|()| {
            if next == 0 {
                self.check_root(chain, table);
                // A root that was not looked at to its end is looked at again by the next run.
                self.check_cancelled().map_err(Broken::Run)?;
            }
            self.compare_windows(chain, table.entries().filter(left))
        });
        match compared {
            Ok(()) => Ok(true),
            Err(Broken::Table(error)) => {
                self.cannot_believe(layer, &error);
                Ok(false)
            }
            Err(Broken::Run(error)) => Err(error),
        }
    }

    fn compare_windows(
        &mut self,
        chain: &Arc<Chain>,
        entries: impl Iterator<Item = Result<(u64, ClusterHash), StoreError>>,
    ) -> Result<(), Broken> {
        let mut buffer = vec![0; WINDOW * index(CLUSTER)];
        let mut entries = entries.peekable();
        loop {
            let window = next_window(&mut entries).map_err(Broken::Table)?;
            if window.is_empty() {
                return Ok(());
            }
            self.check_cancelled().map_err(Broken::Run)?;
            self.window(chain, &window, &mut buffer);
            self.advance(chain.layer(), &window);
            if self.damaged(chain.layer()).clusters.len() >= MANY {
                self.found(chain.layer(), None, ScrubFindingKind::TooMuch);
                return Ok(());
            }
        }
    }

    /// All of the table must be whole, and have what the layer says something about. (When the map
    /// cannot be read, reading the clusters tells.) What lies before `next` was compared before.
    fn check_table(
        &mut self,
        top: &SealedLayer,
        table: &Table<'_>,
        next: u64,
    ) -> Result<(), Broken> {
        let layer = top.files.layer;
        let touched = top.each_touched().ok().into_iter().flatten().map_while(Result::ok);
        let mut touched = touched.map(|cluster| cluster.0).peekable();
        let mut before = 0;
        for entry in table.entries() {
            let (cluster, _) = entry.map_err(Broken::Table)?;
            before += u64::from(cluster < next);
            while let Some(unhashed) = touched.next_if(|touched| *touched < cluster) {
                self.found(layer, Some(unhashed), ScrubFindingKind::HashTable);
            }
            touched.next_if_eq(&cluster);
        }
        touched.for_each(|cluster| self.found(layer, Some(cluster), ScrubFindingKind::HashTable));
        self.total -= (before * CLUSTER).min(self.total);
        Ok(())
    }

    /// The hashes of the layer and of those below must give its root. Where one below has none
    /// that can be believed there is nothing to compare, and that layer is told for itself.
    fn check_root(&mut self, chain: &Chain, table: &Table<'_>) {
        let below = chain.layers()[1..].iter().map(|layer| layer.hashes().ok().flatten());
        let Some(below) = below.collect::<Option<Vec<_>>>() else { return };
        let tables = [table].into_iter().chain(&below).map(Table::entries).collect();
        let Ok(root) = hashing::root_as_read(tables, chain.size(), self.progress) else { return };
        if root != table.root {
            self.found(chain.layer(), None, ScrubFindingKind::Root);
        }
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

    fn cannot_believe(&mut self, layer: LayerId, error: &StoreError) {
        tracing::error!(%layer, %error, "the hashes of a layer cannot be believed");
        self.found(layer, None, ScrubFindingKind::HashTable);
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
    pub(super) fn save(&mut self) {
        if let Err(error) = self.cursor.save(&*self.shared.storage) {
            tracing::warn!(%error, "a kill would make the scrub read more again");
        }
        self.unsaved = 0;
        self.saved = Instant::now();
    }

    pub(super) fn finish(mut self) -> Result<ScrubReport, StoreError> {
        let lineage = Lineage::look(self.shared)?;
        self.cursor.findings.retain(|found| lineage.has(found.layer));
        let report = report_of(self.shared, &lineage, &self.cursor, self.unhashed);
        self.cursor.finished = true;
        self.cursor.at = None;
        self.save();
        Ok(report)
    }
}

/// Why a layer was not compared to its end.
enum Broken {
    /// Its hashes cannot be believed.
    Table(StoreError),
    /// The scrub cannot go on.
    Run(StoreError),
}

/// The next entries that lie side by side, as many as are read at once; none at the end.
fn next_window(
    entries: &mut Peekable<impl Iterator<Item = Result<(u64, ClusterHash), StoreError>>>,
) -> Result<Vec<(u64, ClusterHash)>, StoreError> {
    let mut window: Vec<(u64, ClusterHash)> = entries.next().transpose()?.into_iter().collect();
    while let Some((last, _)) = window.last().filter(|_| window.len() < WINDOW) {
        let last = *last;
        let is_next = |entry: &Result<(u64, _), _>| matches!(entry, Ok((c, _)) if *c == last + 1);
        let Some(entry) = entries.next_if(is_next) else { break };
        window.push(entry?);
    }
    Ok(window)
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

/// Too many open files or too little memory say nothing about the layer.
fn is_of_this_process(error: &StoreError) -> bool {
    use rustix::io::Errno;
    let StoreError::Io { source, .. } = error else {
        return !matches!(error, StoreError::Damaged { .. } | StoreError::UnknownFormat { .. });
    };
    let errors = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    errors.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error()))
}
