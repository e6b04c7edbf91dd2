//! What readers see: the database, without the changes that are not durable yet.
//!
//! What must always hold
//! 1. A reader sees all of a commit or nothing of it, and nothing that a power loss could take back.
//! 2. The lock is held for reading by every read and for writing while a transaction runs or the
//!    database is replaced; it is never held during a flush or a sync, so a slow device does not stop readers.
//!
//! After a failed sync the changes in doubt stay hidden for good.

use std::sync::Arc;

use parking_lot::RwLock;

use super::database::{Before, Database, Transacted};
use super::writer::{Order, Outcome};
use crate::error::CatalogError;
use crate::export::Pair;

#[derive(Debug)]
pub(super) struct View {
    shown: RwLock<Shown>,
}

#[derive(Debug)]
struct Shown {
    /// None after a transaction broke or it could not be replaced.
    database: Option<Arc<Database>>,
    /// What the keys of the running round held before it.
    before: Before,
}

impl View {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { shown: RwLock::new(Shown { database: Some(database), before: Before::new() }) }
    }

    pub(super) fn read(&self, key: &str) -> Result<Option<Vec<u8>>, CatalogError> {
        let shown = self.shown.read();
        match shown.before.get(key) {
            Some(before) => Ok(before.clone()),
            None => shown.database()?.read(key),
        }
    }

    pub(super) fn scan(&self, prefix: &str) -> Result<Vec<Pair>, CatalogError> {
        let shown = self.shown.read();
        let mut pairs = shown.database()?.scan(prefix)?;
        if shown.before.keys().any(|key| key.starts_with(prefix)) {
            shown.take_back(prefix, &mut pairs);
        }
        Ok(pairs)
    }

    /// Runs the transaction of a round and hides what it changes until [`View::reveal`]; the number
    /// of the round, if there is anything to make durable.
    pub(super) fn transact(
        &self,
        database: &Database,
        orders: &[Order],
    ) -> Result<(Vec<Outcome>, Option<u64>), String> {
        let mut shown = self.shown.write();
        // Should the transaction fail or panic, nobody can say what the database holds: then it
        // stays away from readers.
        let readable = shown.database.take();
        let Transacted { outcomes, before, round } = database.transact(orders)?;
        shown.database = readable;
        shown.before = before;
        Ok((outcomes, round))
    }

    /// Shows the changes of the round, which are durable now.
    pub(super) fn reveal(&self) {
        self.shown.write().before.clear();
    }

    /// Takes the database away, calls `next`, and shows what that made. Readers wait meanwhile, so
    /// none of them holds the old database.
    pub(super) fn replace(
        &self,
        next: impl FnOnce() -> Result<Arc<Database>, CatalogError>,
    ) -> Result<Arc<Database>, CatalogError> {
        let mut shown = self.shown.write();
        shown.database = None;
        let database = next()?;
        shown.database = Some(Arc::clone(&database));
        Ok(database)
    }
}

impl Shown {
    fn database(&self) -> Result<&Database, CatalogError> {
        self.database.as_deref().ok_or_else(|| CatalogError::Refused {
            reason: "the database failed in the middle of a change".to_owned(),
        })
    }

    fn take_back(&self, prefix: &str, pairs: &mut Vec<Pair>) {
        pairs.retain(|(key, _)| !self.before.contains_key(key));
        let hidden = self.before.iter().filter(|(key, _)| key.starts_with(prefix));
        pairs.extend(hidden.filter_map(|(key, old)| Some((key.clone(), old.clone()?))));
        pairs.sort();
    }
}
