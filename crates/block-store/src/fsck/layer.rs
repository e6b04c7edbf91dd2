//! One layer by itself: its files, header, map and hash pages.
//!
//! What must always hold: every map sector and hash page that holds something is read once, from
//! the file; nothing is mapped, synced or dropped from the cache.
//! Left to others: what the layer stands on and who stands on it (`references`).

use crate::{
    error::StoreError,
    fsck::finding::{FindingKind, Findings},
    geometry::{MAP_SECTOR, PAGE, SectorIndex, WORDS_START, bytes, index},
    hash_table,
    header::{self, Header, LayerState, StoredHeader},
    id::LayerId,
    layer_files::{self, LayerFiles},
    map_sector::{self, MapSector},
    root::ClusterHash,
    storage::Storage,
};

/// What a layer says of itself.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) header: Header,
    /// Whether all of it can be believed so far.
    pub(crate) is_whole: bool,
}

/// Map sectors read in one go.
const STRETCH: u64 = 1 << 20;
const RESTORE: &str = "restore the layer from a backup; what does not stand on it is served";

/// Looks at a layer; none if it cannot be known what it is.
pub(crate) fn look(
    storage: &dyn Storage,
    layer: LayerId,
    findings: &mut Findings,
) -> Option<Looked> {
    let thing = format!("layer {layer}");
    findings.checked.layers += 1;
    if let Err(error) = look_at_names(storage, layer, findings) {
        let error = StoreError::io("listing its directory")(error);
        let message = format!("{}; {RESTORE}", told(&error));
        findings.failure(FindingKind::LayerFile, thing, &error, message);
        return None;
    }
    let opened = LayerFiles::open_to_read(storage, layer).map(|files| {
        let header = StoredHeader::read(&*files.map, layer);
        (files, header)
    });
    let (files, header) = match opened {
        Ok((files, Ok(stored))) => (files, stored.header),
        Ok((_, Err(error))) => {
            let kind = match error {
                StoreError::UnknownFormat { .. } => FindingKind::LayerFormat,
                _ => FindingKind::LayerHeader,
            };
            let message = format!("its header: {}; {RESTORE}", told(&error));
            findings.failure(kind, thing, &error, message);
            return None;
        }
        Err(error) => {
            let message = format!("{}; {RESTORE}", told(&error));
            findings.failure(FindingKind::LayerFile, thing, &error, message);
            return None;
        }
    };
    look_at_copies(&files, &header, findings);
    let before = findings.found.iter().filter(|f| f.thing == thing).count();
    if let Err(error) = files.check_lengths(&header) {
        let message = format!("{}; {RESTORE}", told(&error));
        findings.damage(FindingKind::LayerLength, thing.clone(), message);
    } else {
        look_at_words(&files, &header, findings);
        look_at_hashes(&files, &header, findings);
    }
    let after = findings.found.iter().filter(|f| f.thing == thing).count();
    Some(Looked { header, is_whole: before == after })
}

fn look_at_names(
    storage: &dyn Storage,
    layer: LayerId,
    findings: &mut Findings,
) -> std::io::Result<()> {
    for name in storage.list(&format!("{}/{layer}", layer_files::LAYERS))? {
        if !layer_files::is_known(&name) {
            findings.note(
                FindingKind::Foreign,
                format!("{}/{layer}/{name}", layer_files::LAYERS),
                "no file of ours; it is left alone and goes when the layer is removed",
            );
        }
    }
    Ok(())
}

/// The next header goes over the broken copy where one is still to come: of a head, and of a
/// sealed layer without hashes. There a power cut may leave half a page, and it is no loss.
fn look_at_copies(files: &LayerFiles, header: &Header, findings: &mut Findings) {
    if header::broken_copies(&*files.map) == 0 {
        return;
    }
    let thing = format!("layer {}", files.layer);
    if header.hashes.is_none() {
        let message = "one of its two headers is broken, as a power cut while it is written leaves \
                       it; the other one counts and the next write replaces the broken one";
        findings.note(FindingKind::LayerHeaderCopy, thing, message);
    } else {
        let message = "one of its two headers is broken; the other one is whole, so all of it is \
                       served, but nothing protects it any more: look at the device, then fsck --repair";
        findings.damage(FindingKind::LayerHeaderCopy, thing, message);
    }
}

fn look_at_words(files: &LayerFiles, header: &Header, findings: &mut Findings) {
    let end = WORDS_START + header.geometry.sectors() * MAP_SECTOR;
    let (mut place, mut bad) = (WORDS_START, BadWords::default());
    let walked = (|| {
        while let Some(held) = files.map.next_data(place)? {
            // Whole sectors, whatever the unit of the file system's holes is.
            let start = held.start.max(place) / MAP_SECTOR * MAP_SECTOR;
            if start >= end {
                break;
            }
            let stop = held.end.next_multiple_of(MAP_SECTOR).min(end).min(start + STRETCH);
            let mut buffer = vec![0; index(stop - start)];
            files.map.read_exact_at(&mut buffer, start)?;
            let first = (start - WORDS_START) / MAP_SECTOR;
            let (sectors, _) = buffer.as_chunks::<{ map_sector::BYTES }>();
            for (number, sector) in sectors.iter().enumerate() {
                let number = SectorIndex(first + bytes(number));
                bad.judge(sector, header, number, &mut findings.checked.map_sectors);
            }
            place = stop;
        }
        Ok::<_, std::io::Error>(())
    })();
    let thing = format!("layer {}", files.layer);
    if let Err(error) = walked {
        let message = format!("its map cannot be read at {place}: {error}; look at the device");
        findings.damage(FindingKind::MapSector, thing.clone(), message);
    }
    if let Some((first, count)) = bad.checks {
        let message = format!(
            "the check word of {count} map sectors is wrong, the first is sector {first}: what \
             they speak of is refused; {RESTORE}"
        );
        findings.damage(FindingKind::MapSector, thing.clone(), message);
    }
    if let Some((first, count)) = bad.words {
        let message = format!(
            "{count} map sectors hold words that cannot be, such as of an epoch above the \
             header's {}, the first is sector {first}: what they speak of is refused; {RESTORE}",
            header.epoch
        );
        findings.damage(FindingKind::MapWord, thing, message);
    }
}

/// The first bad sector of each sort, and how many there are.
#[derive(Default)]
struct BadWords {
    checks: Option<(u64, u64)>,
    words: Option<(u64, u64)>,
}

impl BadWords {
    fn judge(
        &mut self,
        sector: &[u8; map_sector::BYTES],
        header: &Header,
        number: SectorIndex,
        checked: &mut u64,
    ) {
        if sector.iter().all(|byte| *byte == 0) {
            return;
        }
        *checked += 1;
        let count = |bad: &mut Option<(u64, u64)>| {
            bad.get_or_insert((number.0, 0)).1 += 1;
        };
        match MapSector::parse(sector, header.layer, number) {
            Err(_) => count(&mut self.checks),
            Ok(parsed) => {
                let highest = header.epoch.tag();
                if parsed.words.iter().any(|w| w.is_impossible() || w.epoch() > highest) {
                    count(&mut self.words);
                }
            }
        }
    }
}

fn look_at_hashes(files: &LayerFiles, header: &Header, findings: &mut Findings) {
    match hashes(files) {
        Ok(entries) => findings.checked.hashes += entries.map_or(0, |all| bytes(all.len())),
        Err(error) => {
            let message = format!(
                "{}: its content cannot be proved any more (root {}); reading is not harmed, but {RESTORE}",
                error,
                header.hashes.map_or_else(String::new, |hashes| hashes.root.to_string()),
            );
            findings.damage(FindingKind::HashTable, format!("layer {}", files.layer), message);
        }
    }
}

/// The hashes of a layer, each of a cluster it has.
fn hashes(files: &LayerFiles) -> Result<Option<Vec<(u64, ClusterHash)>>, StoreError> {
    let (layer, header) = (files.layer, StoredHeader::read(&*files.map, files.layer)?.header);
    let entries = hash_table::read(&*files.map, layer)?;
    let last = entries.as_ref().and_then(|all| all.last());
    if last.is_some_and(|(cluster, _)| *cluster >= header.geometry.clusters()) {
        return Err(StoreError::damaged(format!("layer {layer}"), "a hash past its end"));
    }
    Ok(entries)
}

/// The hashes of a layer that were found right before.
pub(crate) fn believed_hashes(
    storage: &dyn Storage,
    layer: LayerId,
) -> Option<Vec<(u64, ClusterHash)>> {
    LayerFiles::open_to_read(storage, layer).and_then(|files| hashes(&files)).ok().flatten()
}

/// Whether the layer can no longer change.
pub(crate) fn is_sealed(header: &Header) -> bool {
    header.state == LayerState::Sealed
}

/// What an error says beyond the thing it names.
pub(crate) fn told(error: &StoreError) -> String {
    match error {
        StoreError::Damaged { detail, .. } | StoreError::UnknownFormat { detail, .. } => {
            detail.clone()
        }
        StoreError::Io { context, source } => format!("{context}: {source}"),
        other => other.to_string(),
    }
}

const _: () = assert!(WORDS_START.is_multiple_of(MAP_SECTOR) && PAGE.is_multiple_of(MAP_SECTOR));
