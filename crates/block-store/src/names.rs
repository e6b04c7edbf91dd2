//! Who keeps a layer alive: the catalog's names for it, and pins.
//!
//! A layer lives while the catalog names it, while anything pins it (a disk that stands on it, an
//! operation that is about to name it), while another sealed layer stands on it, or while it is
//! open. When the last name or pin goes, the worker looks at the rest and removes it.
//!
//! What must always hold: a layer that is being removed can no longer be named or pinned.
//!
//! Lock: `state`, held for a moment, never across I/O.
//! Left to others: children and open handles (`worker`), the catalog itself (`cloud`).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, mpsc},
};

use parking_lot::Mutex;

use crate::{error::StoreError, id::LayerId, worker::Job};

/// The names and pins of all layers.
#[derive(Debug)]
pub(crate) struct Names {
    state: Mutex<State>,
    jobs: mpsc::Sender<Job>,
}

#[derive(Debug, Default)]
struct State {
    named: HashSet<LayerId>,
    pins: HashMap<LayerId, usize>,
    dying: HashSet<LayerId>,
    /// Layers somebody let go of while they were pinned: looked at when the last pin goes.
    let_go: HashSet<LayerId>,
    /// The catalog has told what it names; before, nothing is known to be unneeded.
    settled: bool,
    /// Something that may name layers cannot be read.
    frozen: bool,
}

impl Names {
    pub(crate) fn new(jobs: mpsc::Sender<Job>) -> Self {
        Self { state: Mutex::default(), jobs }
    }

    /// Says which layers the catalog names.
    pub(crate) fn set_named(&self, named: HashSet<LayerId>) {
        let mut state = self.state.lock();
        state.named = named;
        state.settled = true;
    }

    /// No layer is removed any more: a damaged ledger record may name any of them.
    pub(crate) fn freeze(&self) {
        self.state.lock().frozen = true;
    }

    /// Whether no layer is removed.
    pub(crate) fn is_frozen(&self) -> bool {
        self.state.lock().frozen
    }

    /// The catalog names the layer from now on.
    pub(crate) fn name(&self, layer: LayerId) {
        self.state.lock().named.insert(layer);
    }

    /// The catalog no longer names the layer.
    pub(crate) fn unname(&self, layer: LayerId) {
        self.state.lock().named.remove(&layer);
        self.look_at(layer);
    }

    /// Whether the catalog names the layer.
    pub(crate) fn is_named(&self, layer: LayerId) -> bool {
        self.state.lock().named.contains(&layer)
    }

    /// The layers that the catalog names.
    pub(crate) fn named(&self) -> Vec<LayerId> {
        self.state.lock().named.iter().copied().collect()
    }

    /// Keeps the layer alive until the pin is dropped.
    pub(crate) fn pin(self: &Arc<Self>, layer: LayerId) -> Result<Pin, StoreError> {
        let mut state = self.state.lock();
        if state.dying.contains(&layer) {
            return Err(StoreError::UnknownLayer(layer));
        }
        *state.pins.entry(layer).or_default() += 1;
        Ok(Pin { layer, names: self.clone(), is_watch: false, is_kept: false })
    }

    /// Keeps the layer alive for who only looks at it: when this goes, a layer that nothing named
    /// before is no nearer to its end than it was. (A layer nobody names is kept until somebody
    /// lets go of it.)
    pub(crate) fn watch(self: &Arc<Self>, layer: LayerId) -> Result<Pin, StoreError> {
        self.pin(layer).map(|pin| pin.into_watch())
    }

    /// Whether the catalog has told what it names, and this layer is not among it.
    pub(crate) fn is_forgotten(&self, layer: LayerId) -> bool {
        let state = self.state.lock();
        state.settled && !state.named.contains(&layer)
    }

    /// Begins the end of a layer, if nothing names or pins it.
    pub(crate) fn begin_removal(&self, layer: LayerId) -> bool {
        let mut state = self.state.lock();
        let pinned = state.pins.contains_key(&layer);
        if pinned {
            state.let_go.insert(layer);
        }
        let used = state.named.contains(&layer) || pinned;
        !used && state.settled && !state.frozen && state.dying.insert(layer)
    }

    /// Ends the removal of a layer, done or not.
    pub(crate) fn end_removal(&self, layer: LayerId) {
        self.state.lock().dying.remove(&layer);
    }

    /// Has the worker look whether the layer is still needed.
    fn look_at(&self, layer: LayerId) {
        // The worker is gone only when the store is being closed; the next start looks again.
        let _ = self.jobs.send(Job::Collect(layer));
    }
}

/// Keeps a layer alive.
#[derive(Debug)]
pub(crate) struct Pin {
    layer: LayerId,
    names: Arc<Names>,
    is_watch: bool,
    /// It counts for ever.
    is_kept: bool,
}

impl Pin {
    pub(crate) fn layer(&self) -> LayerId {
        self.layer
    }

    /// Keeps the layer alive until the store is opened again: only then is it known whether a disk
    /// stands on it.
    pub(crate) fn keep_until_start(mut self) {
        self.is_kept = true;
    }

    fn into_watch(mut self) -> Self {
        self.is_watch = true;
        self
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        let mut state = self.names.state.lock();
        *state.pins.get_mut(&self.layer).expect("it is counted") += 1;
        let names = self.names.clone();
        Self { layer: self.layer, names, is_watch: self.is_watch, is_kept: false }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let mut state = self.names.state.lock();
        if !self.is_watch {
            state.let_go.insert(self.layer);
        }
        let count = state.pins.get_mut(&self.layer).expect("it was counted");
        *count -= 1;
        if *count == 0 {
            state.pins.remove(&self.layer);
            let look = state.let_go.remove(&self.layer);
            drop(state);
            if look {
                self.names.look_at(self.layer);
            }
        }
    }
}
