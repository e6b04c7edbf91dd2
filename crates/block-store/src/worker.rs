//! What is done later, by one background thread: headers after resets, marks, dead layers.
//!
//! What must always hold: nothing that was answered depends on a job being done; a job that is
//! lost in a crash is found again by the next start.
//! Left to others: what must happen before an answer.

use std::{
    collections::HashMap,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    error::StoreError,
    head::Head,
    header::{LayerState, StoredHeader},
    id::{Epoch, LayerId},
    layer_files::{self, Entry, LayerFiles, Mark},
    store::Shared,
};

/// How long a head's header may lag behind a reset: resets that follow one another closely share
/// one rewrite. A flush does not wait for it but rewrites the header itself.
const HEADER_LAG: Duration = Duration::from_millis(50);

/// Something to do later.
#[derive(Debug)]
pub(crate) enum Job {
    /// Bring a head's header up to a reset.
    RefreshHeader { head: Arc<Head>, epoch: Epoch, parent: Option<LayerId>, sequence: u64 },
    /// Take the mark of a layer off that is now named.
    Unmark(LayerId),
    /// Remove a head that its disk left behind.
    RemoveHead(LayerId),
    /// Remove a sealed layer if nothing needs it any more.
    Collect(LayerId),
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
        .spawn(move || Worker { shared, late: HashMap::new() }.run(&jobs))
        .map_err(StoreError::io("starting the worker thread"))
}

struct Worker {
    shared: Arc<Shared>,
    late: HashMap<LayerId, Refresh>,
}

struct Refresh {
    due: Instant,
    head: Arc<Head>,
    epoch: Epoch,
    parent: Option<LayerId>,
    sequence: u64,
}

impl Worker {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            let next = if self.late.is_empty() {
                jobs.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(HEADER_LAG)
            };
            match next {
                Ok(Job::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Ok(Job::Barrier(done)) => {
                    self.refresh_headers(Instant::now() + HEADER_LAG);
                    let _ = done.send(());
                }
                Ok(job) => self.do_job(job),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            self.refresh_headers(Instant::now());
        }
        self.refresh_headers(Instant::now() + HEADER_LAG);
    }

    fn do_job(&mut self, job: Job) {
        match job {
            Job::RefreshHeader { head, epoch, parent, sequence } => {
                let due = Instant::now() + HEADER_LAG;
                let refresh = Refresh { due, head, epoch, parent, sequence };
                // The oldest due time stays, so that a storm of resets cannot put it off for ever.
                let layer = refresh.head.layer();
                let due = self.late.get(&layer).map_or(due, |earlier| earlier.due);
                self.late.insert(layer, Refresh { due, ..refresh });
            }
            Job::Unmark(layer) => {
                let storage = &*self.shared.storage;
                log(layer_files::unmark(storage, layer, Mark::Unfinished));
            }
            Job::RemoveHead(layer) => log(layer_files::remove(&*self.shared.storage, layer)),
            Job::Collect(layer) => log(self.collect(layer)),
            Job::Barrier(_) | Job::Stop => {}
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

    /// Removes a sealed layer unless somebody needs it.
    fn collect(&self, layer: LayerId) -> Result<(), StoreError> {
        let shared = &self.shared;
        if shared.layers.is_open(layer) || !shared.names.begin_removal(layer) {
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
    fn remove_unless_needed(&self, layer: LayerId) -> Result<Option<LayerId>, StoreError> {
        let storage = &*self.shared.storage;
        let Some(header) = sealed_header(storage, layer) else { return Ok(None) };
        if has_children(storage, layer)? {
            return Ok(None);
        }
        layer_files::mark(storage, layer, Mark::Deleting)?;
        layer_files::remove(storage, layer)?;
        tracing::info!(%layer, "removed a layer that nothing uses");
        Ok(header.parent)
    }
}

impl Refresh {
    fn run(self) -> Result<(), StoreError> {
        let header = self.head.header();
        let behind = header.epoch < self.epoch
            || (header.epoch == self.epoch && header.parent != self.parent);
        if header.state == LayerState::Sealed || !behind {
            return Ok(());
        }
        self.head.change_header(|header| {
            header.epoch = self.epoch;
            header.parent = self.parent;
            header.ledger_sequence = self.sequence;
        })
    }
}

/// The header of a sealed layer; none if it is gone, damaged or not sealed: such a layer is not
/// ours to remove.
pub(crate) fn sealed_header(
    storage: &dyn crate::storage::Storage,
    layer: LayerId,
) -> Option<crate::header::Header> {
    let files = LayerFiles::open(storage, layer).ok()?;
    let header = StoredHeader::read(&*files.map, layer).ok()?.header;
    (header.state == LayerState::Sealed).then_some(header)
}

/// Whether a sealed layer stands on this one. (A disk that does holds a pin.)
fn has_children(storage: &dyn crate::storage::Storage, layer: LayerId) -> Result<bool, StoreError> {
    let layers = layer_files::entries(storage)?.into_iter().filter_map(|entry| match entry {
        Entry::Layer(other) => Some(other),
        Entry::Remains(_) | Entry::Foreign(_) => None,
    });
    let mut children = layers
        .filter(|other| *other != layer)
        .filter_map(|other| sealed_header(storage, other))
        .filter(|header| header.parent == Some(layer));
    Ok(children.next().is_some())
}

fn log(outcome: Result<(), StoreError>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, cause = ?std::error::Error::source(&error), "work for later failed");
    }
}
