//! The table of all record kinds: what to do with a record of which only the key is known.
//!
//! What must always hold: every kind is in here once, else its records cannot be opened. Kind
//! numbers and prefixes are distinct (a test below).

use serde_json::Value;

use crate::batch::seal_checked;
use crate::census::Census;
use crate::envelope::{self, EnvelopeError, Payload};
use crate::error::CatalogError;
use crate::export::Pair;
use crate::record::{
    Account, Disk, DiskLimits, Image, Import, Instance, Key, Record, Session, Snapshot,
    SnapshotGroup, Task, Token,
};

/// One kind of record, without its type.
pub(crate) struct Kind {
    pub(crate) prefix: &'static str,
    pub(crate) version: u16,
    #[cfg(test)]
    number: u16,
    /// Whether it is part of an export; what only describes this very directory is not.
    pub(crate) exported: bool,
    /// Every check there is for a stored value.
    pub(crate) verify: fn(&str, &[u8]) -> Result<(), EnvelopeError>,
    /// The exported form of a stored value.
    pub(crate) to_json: fn(&str, &[u8]) -> Result<Value, EnvelopeError>,
    /// Key and value to store for an exported form.
    pub(crate) from_json: fn(u16, &Value) -> Result<Pair, CatalogError>,
}

static KINDS: [Kind; 13] = [
    kind::<Account>(true),
    kind::<Key>(true),
    kind::<Session>(true),
    kind::<Instance>(true),
    kind::<Disk>(true),
    kind::<DiskLimits>(true),
    kind::<Image>(true),
    kind::<Snapshot>(true),
    kind::<SnapshotGroup>(true),
    kind::<Task>(true),
    kind::<Token>(true),
    kind::<Import>(false),
    kind::<Census>(false),
];

/// The kind that lies under keys like this one.
pub(crate) fn of_key(key: &str) -> Result<&'static Kind, EnvelopeError> {
    key.split_once('/').and_then(|(prefix, _)| named(prefix)).ok_or(EnvelopeError::UnknownKind)
}

/// The kind with this prefix.
pub(crate) fn named(prefix: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.prefix == prefix)
}

const fn kind<R: Record>(exported: bool) -> Kind {
    Kind {
        prefix: R::PREFIX,
        version: R::VERSION,
        #[cfg(test)]
        number: R::KIND,
        exported,
        verify: |key, value| envelope::unseal::<R>(key, value).map(drop),
        to_json: |key, value| {
            let record = envelope::unseal::<R>(key, value)?;
            serde_json::to_value(record).map_err(EnvelopeError::Json)
        },
        from_json: |version, value| {
            let record = R::decode(version, Payload::Json(value))
                .map_err(|source| CatalogError::Damaged { key: R::PREFIX.to_owned(), source })?;
            seal_checked(&record)
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::KINDS;

    #[test]
    fn numbers_and_prefixes_are_distinct_and_zero_is_none() {
        let numbers: BTreeSet<u16> = KINDS.iter().map(|kind| kind.number).collect();
        let prefixes: BTreeSet<&str> = KINDS.iter().map(|kind| kind.prefix).collect();
        assert_eq!((numbers.len(), prefixes.len()), (KINDS.len(), KINDS.len()));
        assert!(!numbers.contains(&0));
    }
}
