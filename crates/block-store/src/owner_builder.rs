//! Making the owner table of a layer.
//!
//! It is made from the nearest table below and the words of the layers above that one, so the work
//! is that of what the layer touched and of copying. Only one thread makes tables (`worker`).
//!
//! What must always hold: a table appears under its name only once all of it is durable. A crash
//! leaves none, or a file that is no table's, which the next one made replaces.
//! Left to others: what the bytes mean (`owner_file`), when it is done (`worker`).

use std::io::{self, IoSlice};

use crate::{
    error::StoreError,
    geometry::{ClusterIndex, bytes, index},
    layer_files,
    owner_file::{
        self, DIRECTORY_START, GROUP, Lineage, Row, SECTOR, SECTOR_ROWS, Speaker, Summary,
    },
    owner_table::Holders,
    sealed_layer::Chain,
    storage::{Storage, StorageFile},
};

/// How much is written at a time, in bytes.
const CHUNK: usize = 1 << 20;

/// The most a group takes, in bytes: a sector for its clusters, and those of a row for each.
const GROUP_BYTES: u64 = (1 + GROUP.div_ceil(SECTOR_ROWS as u64)) * SECTOR as u64;

/// Makes the table of the chain's uppermost layer; answers whether it did, which it does not when
/// `goes_on`, which is told how many bytes may be written next, says no.
pub(crate) fn build(
    storage: &dyn Storage,
    chain: &Chain,
    goes_on: impl Fn(u64) -> bool,
) -> Result<bool, StoreError> {
    let lineage = Lineage::of(chain.layers());
    let layer = lineage.layer;
    let io = || StoreError::io(format!("making the owner table of layer {layer}"));
    let half_made = layer_files::unfinished_owners_of(layer);
    match storage.remove_file(&half_made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io()(error)),
        _ => {}
    }
    let file = storage.create(&half_made).map_err(io())?;
    let filled = fill(&*file, chain, lineage, goes_on);
    if !matches!(filled, Ok(true)) {
        // A full file system gets back what there is no use for.
        storage.remove_file(&half_made).map_err(io())?;
        return filled;
    }
    file.sync_data()
        .and_then(|()| storage.rename(&half_made, &layer_files::owners_of(layer)))
        .and_then(|()| storage.sync_dir(&layer_files::directory_of(layer)))
        .map_err(io())?;
    Ok(true)
}

fn fill(
    file: &dyn StorageFile,
    chain: &Chain,
    lineage: Lineage,
    goes_on: impl Fn(u64) -> bool,
) -> Result<bool, StoreError> {
    let mut writer = Writer::new(file, lineage);
    for (group, is_touched) in touched_groups(chain, &writer.lineage)?.into_iter().enumerate() {
        if !goes_on(if is_touched { GROUP_BYTES } else { 0 }) {
            return Ok(false);
        }
        let rows = if is_touched { rows_of(chain, group)? } else { Vec::new() };
        writer.add(&rows)?;
    }
    writer.finish()?;
    Ok(true)
}

/// Which groups any layer may say something of.
fn touched_groups(chain: &Chain, lineage: &Lineage) -> Result<Vec<bool>, StoreError> {
    let mut touched = vec![false; index(lineage.groups())];
    for layer in chain.layers() {
        if let Some(table) = layer.table() {
            table.groups().for_each(|group| touched[group] = true);
            break;
        }
        for sector in layer.stored_sectors()? {
            touched[owner_file::place_of(sector.first_cluster()).0] = true;
        }
    }
    Ok(touched)
}

fn rows_of(chain: &Chain, group: usize) -> Result<Vec<Row>, StoreError> {
    let first = bytes(group) * GROUP;
    (first..first + GROUP).map(|cluster| row_of(chain, ClusterIndex(cluster))).collect()
}

/// Which layer holds each block of a cluster.
fn row_of(chain: &Chain, cluster: ClusterIndex) -> Result<Row, StoreError> {
    let (mut row, mut left) = ([0; 16], 0xffff);
    for (place, layer) in chain.layers().iter().enumerate() {
        if left == 0 {
            break;
        }
        if let Some(held) = chain.holders(place, cluster) {
            add_held(chain, cluster, held, &mut row, left)?;
            break;
        }
        let mine = left & layer.said(cluster)?.known();
        give(&mut row, mine, chain.speaker(place));
        left &= !mine;
    }
    Ok(row)
}

/// Takes over what a table below says of the blocks that are left.
fn add_held(
    chain: &Chain,
    cluster: ClusterIndex,
    held: Holders,
    row: &mut Row,
    left: u16,
) -> Result<(), StoreError> {
    match held {
        Holders::One(0) => {}
        Holders::One(speaker) => {
            let said = chain.layers()[chain.place(speaker)].said(cluster)?;
            give(row, left & said.known(), speaker);
        }
        Holders::Each(held) => {
            for (block, speaker) in held.into_iter().enumerate() {
                give(row, left & (1 << block), speaker);
            }
        }
    }
    Ok(())
}

fn give(row: &mut Row, blocks: u16, speaker: Speaker) {
    for (block, held_by) in row.iter_mut().enumerate() {
        if blocks & (1 << block) != 0 {
            *held_by = speaker;
        }
    }
}

/// Writes groups one after another.
struct Writer<'f> {
    file: &'f dyn StorageFile,
    lineage: Lineage,
    directory: Vec<u8>,
    /// Sectors that were added.
    sectors: u64,
    /// The newest of them, not written yet.
    waiting: Vec<u8>,
}

impl<'f> Writer<'f> {
    fn new(file: &'f dyn StorageFile, lineage: Lineage) -> Self {
        Self { file, lineage, directory: Vec::new(), sectors: 0, waiting: Vec::new() }
    }

    fn add(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        self.note_end();
        let sectors = owner_file::encode_group(&self.lineage, self.sectors, rows);
        self.sectors += bytes(sectors.len() / SECTOR);
        self.waiting.extend(sectors);
        if self.waiting.len() >= CHUNK { self.write_waiting() } else { Ok(()) }
    }

    /// The next group, or the end, begins here.
    fn note_end(&mut self) {
        let sector = u32::try_from(self.sectors).expect("18 sectors a group of the largest disk");
        self.directory.extend(sector.to_le_bytes());
    }

    fn write_waiting(&mut self) -> Result<(), StoreError> {
        let end = self.lineage.sectors_start() + self.sectors * bytes(SECTOR);
        self.write(&self.waiting, end - bytes(self.waiting.len()))?;
        self.waiting.clear();
        Ok(())
    }

    /// The header last: before it there is no table.
    fn finish(mut self) -> Result<(), StoreError> {
        self.note_end();
        self.write_waiting()?;
        self.directory.resize(index(self.lineage.sectors_start() - DIRECTORY_START), 0);
        let directory_crc = crc32c::crc32c(&self.directory);
        self.write(&self.directory, DIRECTORY_START)?;
        let summary = Summary { sectors: self.sectors, directory_crc };
        self.write(&owner_file::encode_header(&self.lineage, summary), 0)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
        self.file.write_all_at(&[IoSlice::new(bytes)], offset).map_err(StoreError::io(format!(
            "writing the owner table of layer {}",
            self.lineage.layer
        )))
    }
}
