//! What is done later, by one background thread: headers after resets, marks, dead layers, owner
//! tables.
//!
//! What must always hold: nothing that was answered depends on a job being done; a job that is
//! lost in a crash is found again by the next start; what waits for a quiet moment gets its turn
//! among many jobs as well.
//! Left to others: what must happen before an answer.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::{Arc, atomic::Ordering, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    error::StoreError,
    head::{Head, Position},
    header::{self, Header, LayerState, StoredHeader},
    id::LayerId,
    layer_files::{self, Entry, LayerFiles, Mark},
    owner_builder,
    storage::Storage,
    store::Shared,
};

/// How long a head's header may lag behind a reset: resets that follow one another closely share
/// one rewrite. A flush does not wait for it but rewrites the header itself.
const HEADER_LAG: Duration = Duration::from_millis(50);

/// How long until a layer that was still open is looked at again.
const COLLECT_AGAIN: Duration = Duration::from_secs(1);

/// How long until the next part of a dead layer's space is given back.
const BETWEEN_PARTS: Duration = Duration::from_millis(1);

/// After so many jobs in a row something is done that waits for a quiet moment.
const WITHOUT_A_BREAK: u32 = 1024;

/// Something to do later.
#[derive(Debug)]
pub(crate) enum Job {
    /// Bring a head's header up to a reset.
    RefreshHeader { head: Arc<Head>, position: Position },
    /// Take the mark of a layer off that is now named.
    Unmark(LayerId),
    /// Remove a head that its disk left behind.
    RemoveHead(LayerId),
    /// Give the space of a directory back that no longer has a layer's name.
    RemoveRemains(String),
    /// Remove a sealed layer if nothing needs it any more.
    Collect(LayerId),
    /// Make the owner table of a layer that is open and has none.
    MakeOwners(LayerId),
    /// Remove a damaged owner table, and make a new one.
    RenewOwners(LayerId),
    /// From now on do nothing but at a barrier or at the end: a test then knows what was done when.
    Hold,
    /// Answer once everything before is done.
    Barrier(mpsc::Sender<()>),
    /// The store is closed.
    Stop,
}

/// Starts the thread; it ends at [`Job::Stop`].
pub(crate) fn start(
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
) -> Result<JoinHandle<()>, StoreError> {
    thread::Builder::new()
        .name("reinit-worker".into())
        .spawn(move || Worker::new(shared).run(&jobs))
        .map_err(StoreError::io("starting the worker thread"))
}

struct Worker {
    shared: Arc<Shared>,
    late: BTreeMap<LayerId, Refresh>,
    /// Layers that nothing names, and that somebody had open when they were looked at.
    open: BTreeSet<LayerId>,
    /// Directories whose space is given back whenever there is nothing else to do.
    remains: VecDeque<String>,
    /// Jobs since there was nothing to do.
    in_a_row: u32,
    /// While held: what is done at the next barrier, and no earlier.
    held: Option<VecDeque<Job>>,
}

struct Refresh {
    due: Instant,
    head: Arc<Head>,
    position: Position,
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Self {
        let (late, open, remains) = (BTreeMap::new(), BTreeSet::new(), VecDeque::new());
        Self { shared, late, open, remains, in_a_row: 0, held: None }
    }

    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            match self.next_job(jobs) {
                Ok(Job::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Ok(Job::Hold) => self.held = Some(VecDeque::new()),
                Ok(Job::Barrier(done)) => {
                    self.do_what_was_held();
                    self.refresh_headers(Instant::now() + HEADER_LAG);
                    while !self.remains.is_empty() {
                        self.remove_a_part();
                    }
                    let _ = done.send(());
                }
                Ok(job) => match &mut self.held {
                    Some(held) => held.push_back(job),
                    None => {
                        self.do_job(job);
                        self.in_a_row += 1;
                        if self.in_a_row >= WITHOUT_A_BREAK {
                            self.use_the_break();
                        }
                    }
                },
                Err(mpsc::RecvTimeoutError::Timeout) => self.use_the_break(),
            }
            self.refresh_headers(Instant::now());
        }
        self.do_what_was_held();
        self.refresh_headers(Instant::now() + HEADER_LAG);
    }

    fn next_job(&self, jobs: &mpsc::Receiver<Job>) -> Result<Job, mpsc::RecvTimeoutError> {
        if self.held.is_some() {
            return jobs.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected);
        }
        if !self.remains.is_empty() {
            return jobs.recv_timeout(BETWEEN_PARTS);
        }
        match (self.late.is_empty(), self.open.is_empty()) {
            (true, true) => jobs.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            (true, false) => jobs.recv_timeout(COLLECT_AGAIN),
            (false, _) => jobs.recv_timeout(HEADER_LAG),
        }
    }

    /// A part of what is dead goes; when nothing is, what was still open is looked at again.
    fn use_the_break(&mut self) {
        self.in_a_row = 0;
        if !self.remains.is_empty() {
            return self.remove_a_part();
        }
        for layer in std::mem::take(&mut self.open) {
            self.do_job(Job::Collect(layer));
        }
    }

    fn do_what_was_held(&mut self) {
        let Some(held) = self.held.as_mut().map(std::mem::take) else { return };
        for layer in std::mem::take(&mut self.open) {
            self.do_job(Job::Collect(layer));
        }
        held.into_iter().for_each(|job| self.do_job(job));
    }

    fn do_job(&mut self, job: Job) {
        match job {
            Job::RefreshHeader { head, position } => {
                let due = Instant::now() + HEADER_LAG;
                let refresh = Refresh { due, head, position };
                // The oldest due time stays, so that a storm of resets cannot put it off for ever.
                let layer = refresh.head.layer();
                let due = self.late.get(&layer).map_or(due, |earlier| earlier.due);
                self.late.insert(layer, Refresh { due, ..refresh });
            }
            Job::Unmark(layer) => {
                let storage = &*self.shared.storage;
                log(layer_files::unmark(storage, layer, Mark::Unfinished));
            }
            Job::RemoveHead(layer) => {
                let outcome = self.remove(layer);
                log(outcome);
            }
            Job::RemoveRemains(directory) => self.remains.push_back(directory),
            Job::Collect(layer) => {
                let outcome = self.collect(layer);
                log(outcome);
            }
            Job::MakeOwners(layer) => log(self.make_owners(layer)),
            Job::RenewOwners(layer) => log(self.renew_owners(layer)),
            Job::Hold | Job::Barrier(_) | Job::Stop => {}
        }
    }

    /// Takes a layer's name away; its space is given back when there is nothing else to do.
    fn remove(&mut self, layer: LayerId) -> Result<(), StoreError> {
        self.remains.extend(layer_files::take_name(&*self.shared.storage, layer)?);
        Ok(())
    }

    fn remove_a_part(&mut self) {
        if let Some(directory) = self.remains.front()
            && layer_files::remove_a_part(&*self.shared.storage, directory)
        {
            self.remains.pop_front();
        }
    }

    fn refresh_headers(&mut self, now: Instant) {
        let due: Vec<_> =
            self.late.iter().filter(|(_, late)| late.due <= now).map(|(layer, _)| *layer).collect();
        for layer in due {
            if let Some(refresh) = self.late.remove(&layer) {
                log(refresh.run());
            }
        }
    }

    /// This thread is the one that removes layers, so the layer stays while it works.
    fn make_owners(&self, layer: LayerId) -> Result<(), StoreError> {
        let (storage, shared) = (&*self.shared.storage, &self.shared);
        let Some(chain) = shared.layers.open_chain(layer) else { return Ok(()) };
        // Relaxed: a little later is soon enough. A table is derived: it takes nothing of the
        // reserve, which deletes and flushes may need while it is made.
        let goes_on = |bytes| {
            !shared.is_closing.load(Ordering::Relaxed)
                && shared.reserve.admit(storage, bytes).is_ok()
        };
        if chain.lacks_table() && owner_builder::build(storage, &chain, goes_on)? {
            chain.open_table(storage, &shared.layers.jobs);
        }
        Ok(())
    }

    fn renew_owners(&self, layer: LayerId) -> Result<(), StoreError> {
        match self.shared.storage.remove_file(&layer_files::owners_of(layer)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io(format!("removing the owner table of layer {layer}"))(error))
            }
            _ => self.make_owners(layer),
        }
    }

    /// Removes a sealed layer unless somebody needs it.
    fn collect(&mut self, layer: LayerId) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        if !shared.names.begin_removal(layer) {
            return Ok(());
        }
        if shared.layers.is_open(layer) {
            shared.names.end_removal(layer);
            self.open.insert(layer);
            return Ok(());
        }
        let removed = self.remove_unless_needed(layer);
        shared.names.end_removal(layer);
        if let Some(parent) = removed? {
            self.collect(parent)?;
        }
        Ok(())
    }

    /// Answers the parent of a layer that was removed: it may have lost its last child.
    fn remove_unless_needed(&mut self, layer: LayerId) -> Result<Option<LayerId>, StoreError> {
        let storage = &*self.shared.storage;
        let Some(header) = sealed_header(storage, layer) else { return Ok(None) };
        if has_children(&self.shared, layer)? {
            return Ok(None);
        }
        layer_files::mark(storage, layer, Mark::Deleting)?;
        self.remove(layer)?;
        tracing::info!(%layer, "removed a layer that nothing uses");
        Ok(header.parent)
    }
}

impl Refresh {
    fn run(self) -> Result<(), StoreError> {
        self.head.refresh_header(&self.position)
    }
}

/// What a layer's directory holds, as far as it can be told.
pub(crate) enum Looked {
    /// A sealed layer.
    Sealed(Box<Header>),
    /// A head, or nothing any more.
    NotSealed,
    /// A head by the one copy of its header that can be believed; the other may have been newer.
    /// True of a head that a disk names; of any other nothing may be assumed.
    PerhapsHead(StoreError),
    /// It cannot be read: nothing that depends on it may be assumed.
    Unreadable(StoreError),
}

/// Looks at a layer's header.
pub(crate) fn look_at(storage: &dyn Storage, layer: LayerId) -> Looked {
    let found = LayerFiles::open(storage, layer).and_then(|files| {
        let header = StoredHeader::read(&*files.map, layer)?.header;
        let is_lone = header.state != LayerState::Sealed && header::broken_copies(&*files.map) > 0;
        Ok((header, is_lone))
    });
    match found {
        Ok((header, _)) if header.state == LayerState::Sealed => Looked::Sealed(Box::new(header)),
        Ok((_, false)) => Looked::NotSealed,
        Ok((_, true)) => Looked::PerhapsHead(StoreError::damaged(
            format!("the header of layer {layer}"),
            "one of its copies, and the other says head",
        )),
        Err(error) => Looked::Unreadable(error),
    }
}

/// The header of a sealed layer; none if it is anything else, which is then not ours to remove.
pub(crate) fn sealed_header(storage: &dyn Storage, layer: LayerId) -> Option<Header> {
    match look_at(storage, layer) {
        Looked::Sealed(header) => Some(*header),
        Looked::NotSealed | Looked::PerhapsHead(_) | Looked::Unreadable(_) => None,
    }
}

/// Whether a sealed layer stands on this one, or may. (A disk that does holds a pin.)
fn has_children(shared: &Shared, layer: LayerId) -> Result<bool, StoreError> {
    let storage = &*shared.storage;
    for entry in layer_files::entries(storage)? {
        let Entry::Layer(other) = entry else { continue };
        match look_at(storage, other) {
            Looked::Sealed(header) if header.parent == Some(layer) => return Ok(true),
            Looked::PerhapsHead(_) if shared.is_a_head(other) => {}
            Looked::PerhapsHead(error) | Looked::Unreadable(error) if other != layer => {
                tracing::warn!(%layer, %other, %error, "kept: what stands on it is not known");
                return Ok(true);
            }
            _ => {}
        }
    }
    Ok(false)
}

fn log(outcome: Result<(), StoreError>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, cause = ?std::error::Error::source(&error), "work for later failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileStorage, Store};

    /// The queue is never empty until the worker ends.
    #[test]
    fn a_storm_of_jobs_does_not_keep_what_is_dead() {
        let directory = tempfile::tempdir().unwrap();
        Store::create(&FileStorage::open(directory.path()).unwrap()).unwrap();
        let store = Store::open(Arc::new(FileStorage::open(directory.path()).unwrap())).unwrap();
        let dead = format!("{}.old", layer_files::directory_of(LayerId::from_bytes([7; 16])));
        let path = directory.path().join(&dead);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("data"), [7; 8192]).unwrap();
        let (jobs, queue) = mpsc::channel();
        jobs.send(Job::RemoveRemains(dead)).unwrap();
        for _ in 0..2 * WITHOUT_A_BREAK {
            jobs.send(Job::MakeOwners(LayerId::from_bytes([8; 16]))).unwrap();
        }
        jobs.send(Job::Stop).unwrap();
        Worker::new(store.inner.shared.clone()).run(&queue);
        assert!(!path.exists());
    }
}
