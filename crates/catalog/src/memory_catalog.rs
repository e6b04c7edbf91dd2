//! A catalog in memory: the twin that tests compare with and run on. Nothing of it is durable.
//!
//! It stores the same bytes under the same keys as the real one, so limits and checks are the same.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use parking_lot::Mutex;

use crate::batch::{Batch, Precondition};
use crate::error::CatalogError;
use crate::{Catalog, export};

/// Records in a map.
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    records: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MemoryCatalog {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Catalog for MemoryCatalog {
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, CatalogError> {
        Ok(self.records.lock().get(key).cloned())
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, CatalogError> {
        let records = self.records.lock();
        let from = records.range(prefix.to_owned()..);
        let found = from.take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&self, batch: &Batch, preconditions: &[Precondition]) -> Result<(), CatalogError> {
        let mut records = self.records.lock();
        for precondition in preconditions {
            precondition.check(records.get(precondition.key()).map(Vec::as_slice))?;
        }
        for change in batch.changes() {
            match &change.value {
                Some(value) => records.insert(change.key.clone(), value.clone()),
                None => records.remove(&change.key),
            };
        }
        Ok(())
    }

    fn export(&self, out: &mut dyn Write) -> Result<u64, CatalogError> {
        export::write(&self.scan("")?, out)
    }

    /// What is in memory alone has nothing to fall back to.
    fn save_export(&self) -> Result<u64, CatalogError> {
        self.export(&mut std::io::sink())
    }

    fn import(&self, from: &mut dyn BufRead) -> Result<u64, CatalogError> {
        let (pairs, count) = export::read_marked(from)?;
        let mut records = self.records.lock();
        export::check_empty(records.len())?;
        records.extend(pairs);
        Ok(count)
    }

    fn compact(&self) -> Result<(), CatalogError> {
        Ok(())
    }
}
