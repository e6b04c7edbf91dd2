//! A catalog that can be made to wait right before and right after a commit, so that a crash at these
//! two moments can be looked at.

use std::{
    io::{BufRead, Write},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use catalog::{Batch, Catalog, CatalogError, MemoryCatalog, Precondition};

use crate::lab::Lab;

/// Where a call is in its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Moment {
    /// No commit is made to wait.
    #[default]
    Open,
    /// The next commit will wait, after so many that do not.
    Armed(u32),
    Before,
    Committing,
    After,
}

/// The commit of a call, step by step.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    moment: Mutex<Moment>,
    moved: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Moment> {
        self.moment.lock().unwrap()
    }

    fn set(&self, moment: Moment) {
        *self.lock() = moment;
        self.moved.notify_all();
    }

    /// Whether this commit waits.
    fn enter(&self) -> bool {
        let mut moment = self.lock();
        let next = match *moment {
            Moment::Armed(0) => Moment::Before,
            Moment::Armed(more) => Moment::Armed(more - 1),
            other => other,
        };
        let waits = *moment == Moment::Armed(0);
        *moment = next;
        self.moved.notify_all();
        waits
    }

    fn wait_for(&self, moment: Moment) {
        drop(self.moved.wait_while(self.lock(), |now| *now != moment).unwrap());
    }
}

struct Gated {
    inner: MemoryCatalog,
    gate: Arc<Gate>,
}

impl Catalog for Gated {
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, CatalogError> {
        self.inner.read(key)
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, CatalogError> {
        self.inner.scan(prefix)
    }

    fn commit(&self, batch: &Batch, preconditions: &[Precondition]) -> Result<(), CatalogError> {
        if !self.gate.enter() {
            return self.inner.commit(batch, preconditions);
        }
        self.gate.wait_for(Moment::Committing);
        let done = self.inner.commit(batch, preconditions);
        self.gate.set(Moment::After);
        self.gate.wait_for(Moment::Open);
        done
    }

    fn export(&self, out: &mut dyn Write) -> Result<u64, CatalogError> {
        self.inner.export(out)
    }

    fn save_export(&self) -> Result<u64, CatalogError> {
        self.inner.save_export()
    }

    fn import(&self, from: &mut dyn BufRead) -> Result<u64, CatalogError> {
        self.inner.import(from)
    }

    fn compact(&self) -> Result<(), CatalogError> {
        self.inner.compact()
    }
}

impl Lab {
    /// With a catalog whose commits can be made to wait.
    pub(crate) fn gated() -> (Self, Arc<Gate>) {
        let gate = Arc::new(Gate::default());
        let inner = Arc::clone(&gate);
        let catalog = move |_: &Path| -> Arc<dyn Catalog> {
            Arc::new(Gated { inner: MemoryCatalog::new(), gate: inner })
        };
        (Self::on(catalog, |_| ()), gate)
    }

    /// What a start finds after a crash right before the commit of the call, and right after it; then
    /// what the call answered. It is the only one that commits meanwhile.
    pub(crate) fn crashed_around<T: Send>(
        &self,
        gate: &Gate,
        call: impl FnOnce() -> T + Send,
    ) -> (Self, Self, T) {
        self.crashed_around_nth(gate, 0, call)
    }

    /// The same with a later commit, after so many.
    pub(crate) fn crashed_around_nth<T: Send>(
        &self,
        gate: &Gate,
        earlier: u32,
        call: impl FnOnce() -> T + Send,
    ) -> (Self, Self, T) {
        gate.set(Moment::Armed(earlier));
        thread::scope(|scope| {
            let called = scope.spawn(call);
            gate.wait_for(Moment::Before);
            let before = self.crashed();
            gate.set(Moment::Committing);
            gate.wait_for(Moment::After);
            let after = self.crashed();
            gate.set(Moment::Open);
            (before, after, called.join().unwrap())
        })
    }

    /// What is found while the call is between its commit and all that follows; then what it answered.
    pub(crate) fn meanwhile<T: Send, M>(
        &self,
        gate: &Gate,
        call: impl FnOnce() -> T + Send,
        look: impl FnOnce() -> M,
    ) -> (M, T) {
        self.meanwhile_nth(gate, 0, call, look)
    }

    /// The same with a later commit, after so many.
    pub(crate) fn meanwhile_nth<T: Send, M>(
        &self,
        gate: &Gate,
        earlier: u32,
        call: impl FnOnce() -> T + Send,
        look: impl FnOnce() -> M,
    ) -> (M, T) {
        gate.set(Moment::Armed(earlier));
        thread::scope(|scope| {
            let called = scope.spawn(call);
            gate.wait_for(Moment::Before);
            gate.set(Moment::Committing);
            gate.wait_for(Moment::After);
            let found = look();
            gate.set(Moment::Open);
            (found, called.join().unwrap())
        })
    }
}
