//! Flush rounds of one head: how an answered flush becomes durable.
//!
//! A round: (1) take the changed list, then read the words' values; (2) sync `data`; (3) build
//! each changed sector from the durable words plus the captured ones and write it; (4) sync `map`.
//!
//! What must always hold
//! 1. Rounds of a head run one after another, and a flush is answered only by a round whose step
//!    1 began after the flush arrived.
//! 2. A word becomes durable only after its data: `DataDurable` is made by step 2 alone and
//!    step 3 demands it.
//! 3. Before words of an epoch are written, the header with that epoch is durable.
//! 4. After a failed sync the head is poisoned: the kernel may call the lost pages clean, so a
//!    later success proves nothing.
//!
//! Left to others: keeping resets, seals and resizes away from a running round (`disk`).

use block_device::DeviceError;
use parking_lot::{Condvar, Mutex};

use crate::{
    error::StoreError,
    geometry::ClusterIndex,
    head::{Head, Position},
    word::Word,
};

/// The rounds of one head.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    state: Mutex<RoundState>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct RoundState {
    /// How many rounds have begun; while one runs, `ended` is one less.
    begun: u64,
    ended: u64,
    /// The last round's outcome, for those who waited for it.
    failure: Option<(u64, RoundFailure)>,
}

#[derive(Clone, Debug)]
enum RoundFailure {
    NoSpace,
    Other(String),
}

/// Proof that the data of the captured words is durable.
struct DataDurable(());

impl Rounds {
    /// Answers one flush: by a round that begins from now on.
    pub(crate) fn flush(&self, head: &Head, position: &Position) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        let mine = state.begun + 1;
        while state.ended < mine {
            if state.begun > state.ended {
                self.ended.wait(&mut state);
                continue;
            }
            state.begun += 1;
            let this = state.begun;
            let outcome = parking_lot::MutexGuard::unlocked(&mut state, || run(head, position));
            state.ended = this;
            state.failure = outcome.err().map(|error| (this, RoundFailure::of(&error)));
            self.ended.notify_all();
        }
        match &state.failure {
            Some((round, failure)) if *round >= mine => Err(failure.answer()),
            _ => head.check_not_poisoned(),
        }
    }
}

impl RoundFailure {
    fn of(error: &StoreError) -> Self {
        match error {
            StoreError::NoSpace => Self::NoSpace,
            StoreError::Io { context, source } => Self::Other(format!("{context}: {source}")),
            other => Self::Other(other.to_string()),
        }
    }

    fn answer(&self) -> DeviceError {
        match self {
            Self::NoSpace => DeviceError::NoSpace,
            Self::Other(reason) => DeviceError::Poisoned { reason: reason.clone() },
        }
    }
}

/// One round.
fn run(head: &Head, position: &Position) -> Result<(), StoreError> {
    let changed = head.changed.take();
    let outcome = capture(head, &changed).and_then(|captured| {
        let proof = sync_data(head)?;
        if captured.is_empty() {
            return Ok(());
        }
        publish(head, &captured, position, &proof)
    });
    if outcome.is_err() {
        head.changed.put_back(changed);
    }
    outcome
}

fn capture(head: &Head, changed: &[ClusterIndex]) -> Result<Vec<(ClusterIndex, Word)>, StoreError> {
    changed.iter().map(|cluster| Ok((*cluster, head.map().word(*cluster)?))).collect()
}

fn sync_data(head: &Head) -> Result<DataDurable, StoreError> {
    head.data().sync_data().map_err(|error| head.poison("syncing its data", error))?;
    Ok(DataDurable(()))
}

fn publish(
    head: &Head,
    captured: &[(ClusterIndex, Word)],
    position: &Position,
    _data_first: &DataDurable,
) -> Result<(), StoreError> {
    head.persist(captured, position)
}
