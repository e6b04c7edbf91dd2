//! Stored records of the catalog: an envelope and a payload.
//!
//! What must be true: a record that is read encodes to the very bytes it was read from, so that nothing is read into
//! bytes that is not in them. Bytes whose checksum is wrong are never a record.
//! The checksum is set right for the key the bytes themselves name, so that damage gets past it to the decoders.

use std::io::{BufRead, Write};

use catalog::{
    Batch, Catalog, CatalogError, EnvelopeError, MemoryCatalog, Precondition, Records,
    record::{Account, Disk, Image, Import, Instance, Key, Record, Session, Snapshot, Task, Token},
};

use crate::campaign::Trial;

/// A catalog that holds these bytes under every key.
struct Bytes<'b>(&'b [u8]);

impl Catalog for Bytes<'_> {
    fn read(&self, _key: &str) -> Result<Option<Vec<u8>>, CatalogError> {
        Ok(Some(self.0.to_vec()))
    }

    fn scan(&self, _prefix: &str) -> Result<Vec<(String, Vec<u8>)>, CatalogError> {
        unreachable!("only single records are read")
    }

    fn commit(&self, _: &Batch, _: &[Precondition]) -> Result<(), CatalogError> {
        unreachable!("nothing is written")
    }

    fn export(&self, _: &mut dyn Write) -> Result<u64, CatalogError> {
        unreachable!("nothing is exported")
    }

    fn save_export(&self) -> Result<u64, CatalogError> {
        unreachable!("nothing is exported")
    }

    fn import(&self, _: &mut dyn BufRead) -> Result<u64, CatalogError> {
        unreachable!("nothing is imported")
    }

    fn compact(&self) -> Result<(), CatalogError> {
        unreachable!("nothing is written")
    }
}

pub(crate) fn prepare() -> Trial {
    Box::new(|input| {
        as_record::<Account>(input);
        as_record::<Key>(input);
        as_record::<Session>(input);
        as_record::<Instance>(input);
        as_record::<Disk>(input);
        as_record::<Image>(input);
        as_record::<Snapshot>(input);
        as_record::<Task>(input);
        as_record::<Token>(input);
        as_record::<Import>(input);
        let mut lines = input;
        // As an export it is text; whatever comes of it is whole or nothing.
        let catalog = MemoryCatalog::new();
        if catalog.import(&mut lines).is_err() {
            assert!(catalog.scan("").unwrap().is_empty(), "a refused import leaves nothing");
        }
    })
}

fn as_record<R: Record>(input: &[u8]) {
    check::<R>("x", input);
    let Some(fixed) = with_checksum(input, &format!("{}/x", R::PREFIX)) else { return };
    if let Err(CatalogError::Damaged { source: EnvelopeError::Identity { found }, .. }) =
        Bytes(&fixed).get::<R>("x")
    {
        // Now under the key that the record itself says it has.
        let fixed = with_checksum(input, &found).unwrap();
        check::<R>(found.split_once('/').unwrap().1, &fixed);
    } else {
        check::<R>("x", &fixed);
    }
}

fn check<R: Record>(id: &str, value: &[u8]) {
    let Ok(Some(record)) = Bytes(value).get::<R>(id) else { return };
    let key = record.key();
    assert_eq!(with_checksum(value, &key).as_deref(), Some(value), "{key}: the checksum counts");
    let twin = MemoryCatalog::new();
    let mut batch = Batch::new();
    match batch.put(&record) {
        Ok(batch) => twin.commit(batch, &[]).unwrap(),
        Err(CatalogError::TooLarge { .. }) => return,
        Err(error) => panic!("{key}: {error}"),
    }
    let back = twin.read(&key).unwrap().unwrap();
    if value[6..8] == R::VERSION.to_le_bytes() {
        assert_eq!(back, value, "{key}: other bytes come back");
        return;
    }
    // Of an earlier version: it comes back in this one, and stays as it is then.
    let again = Bytes(&back).get::<R>(id).unwrap().unwrap();
    twin.commit(Batch::new().put(&again).unwrap(), &[]).unwrap();
    assert_eq!(twin.read(&key).unwrap().as_deref(), Some(&*back), "{key}: other bytes each time");
}

/// The bytes with the checksum and the length that belong to them under this key.
fn with_checksum(value: &[u8], key: &str) -> Option<Vec<u8>> {
    let mut value = value.to_vec();
    let length = u32::try_from(value.len().checked_sub(16)?).ok()?;
    value[8..12].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&value[..12]), &value[16..]);
    let crc = crc32c::crc32c_append(crc, key.as_bytes());
    value[12..16].copy_from_slice(&crc.to_le_bytes());
    Some(value)
}
