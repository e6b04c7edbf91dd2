//! The hash pages of a sealed layer: the hash, as read at this layer, of each cluster it touches.
//!
//! ```text
//! page:  0      entries: cluster u64 | hash (32), at most 102, sorted by cluster
//!        4080   count u32 | 4084 page index u32 | 4088 crc32c u32 over bytes 0..4088 and the
//!        4092   zeros                             layer's id
//! ```
//! The pages follow the words in the map file; the header says how many entries there are and is
//! written after them.
//!
//! What must always hold: a page whose checksum, index or order is wrong is damage.
//! Left to others: what the hashes prove (`hashing`, `root`).

use std::io::IoSlice;

use crate::{
    error::StoreError,
    geometry::{PAGE, bytes, index},
    header::{Header, StoredHeader},
    id::LayerId,
    root::ClusterHash,
    storage::StorageFile,
};

const PAGE_ENTRIES: usize = 102;
const COUNT: usize = 4080;
const CHECKED: usize = 4088;

/// Writes the pages of a layer; sorted by cluster. The caller syncs, then writes the header.
pub(crate) fn write(
    file: &dyn StorageFile,
    header: &Header,
    entries: &[(u64, ClusterHash)],
) -> Result<(), StoreError> {
    let io = || StoreError::io(format!("writing the hashes of layer {}", header.layer));
    let start = header.geometry.words_end();
    for (place, chunk) in entries.chunks(PAGE_ENTRIES * 64).enumerate() {
        let first = place * 64;
        let pages: Vec<u8> = chunk
            .chunks(PAGE_ENTRIES)
            .enumerate()
            .flat_map(|(page, entries)| encode(header.layer, first + page, entries))
            .collect();
        let offset = start + bytes(first) * PAGE;
        file.write_all_at(&[IoSlice::new(&pages)], offset).map_err(io())?;
    }
    Ok(())
}

/// Reads the hashes of a layer; none if they were not made yet.
pub(crate) fn read(
    file: &dyn StorageFile,
    layer: LayerId,
) -> Result<Option<Vec<(u64, ClusterHash)>>, StoreError> {
    let header = StoredHeader::read(file, layer)?.header;
    let Some(hashes) = header.hashes else { return Ok(None) };
    let pages = hashes.entries.div_ceil(bytes(PAGE_ENTRIES));
    let mut entries = Vec::with_capacity(index(hashes.entries));
    for page in 0..pages {
        let mut buffer = [0; index(PAGE)];
        file.read_exact_at(&mut buffer, header.geometry.words_end() + page * PAGE)
            .map_err(|_| damage(layer, page, "it cannot be read"))?;
        parse(&buffer, layer, page, &mut entries)?;
    }
    let sorted = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if !sorted || bytes(entries.len()) != hashes.entries {
        return Err(damage(layer, 0, "the entries are not those that were written"));
    }
    Ok(Some(entries))
}

fn encode(layer: LayerId, page: usize, entries: &[(u64, ClusterHash)]) -> [u8; index(PAGE)] {
    let mut buffer = [0; index(PAGE)];
    for (place, (cluster, hash)) in buffer.chunks_exact_mut(40).zip(entries) {
        place[..8].copy_from_slice(&cluster.to_le_bytes());
        place[8..].copy_from_slice(hash);
    }
    let short = |number: usize| u32::try_from(number).expect("few").to_le_bytes();
    buffer[COUNT..COUNT + 4].copy_from_slice(&short(entries.len()));
    buffer[COUNT + 4..CHECKED].copy_from_slice(&short(page));
    let crc = checksum(&buffer, layer).to_le_bytes();
    buffer[CHECKED..CHECKED + 4].copy_from_slice(&crc);
    buffer
}

fn parse(
    buffer: &[u8; index(PAGE)],
    layer: LayerId,
    page: u64,
    entries: &mut Vec<(u64, ClusterHash)>,
) -> Result<(), StoreError> {
    let word =
        |place: usize| u32::from_le_bytes(buffer[place..place + 4].try_into().expect("4 bytes"));
    if word(CHECKED) != checksum(buffer, layer) || u64::from(word(COUNT + 4)) != page {
        return Err(damage(layer, page, "its checksum is wrong"));
    }
    let count = index(u64::from(word(COUNT)));
    if count > PAGE_ENTRIES {
        return Err(damage(layer, page, "it claims more entries than it has room for"));
    }
    for entry in buffer.chunks_exact(40).take(count) {
        let cluster = u64::from_le_bytes(entry[..8].try_into().expect("8 bytes"));
        entries.push((cluster, entry[8..].try_into().expect("32 bytes")));
    }
    Ok(())
}

fn checksum(page: &[u8], layer: LayerId) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&page[..CHECKED]), &layer.to_bytes())
}

fn damage(layer: LayerId, page: u64, detail: &str) -> StoreError {
    StoreError::damaged(format!("hash page {page} of layer {layer}"), detail)
}
