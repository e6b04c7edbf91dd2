//! What the headers of all layers tell, and the ledger if there is one.
//!
//! What must always hold: nothing is made up: what several headers tell differently, or none, is a
//! doubt with a name.

use std::collections::{BTreeMap, BTreeSet};

use block_device::{ByteLength, DiskId};

use crate::{
    error::StoreError,
    fsck::{CatalogNames, layer::told},
    header::{Header, LayerLabel, LayerState, StoredHeader},
    id::{Epoch, LayerId, Root},
    layer_files::{self, Entry, LayerFiles, Mark},
    ledger::Contents,
    ledger_record::{DiskRecord, SlotState},
    storage::Storage,
};

const MAYBE_BEFORE_A_RESET: &str =
    "it may show its content from before its last reset, with blocks written since then";

/// What is known of a store without its catalog, and perhaps without its ledger.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Every disk that something tells of.
    pub disks: Vec<FoundDisk>,
    /// Every sealed layer.
    pub layers: BTreeMap<LayerId, FoundLayer>,
    /// Layers whose header is lost or that are missing below others.
    pub lost: Vec<LostLayer>,
    /// Disks that had a head once, of which only sealed layers are left.
    pub headless: BTreeSet<DiskId>,
    /// Heads that are nobody's: of a disk with several.
    pub spare_heads: Vec<(LayerId, DiskId)>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDisk {
    /// Its name.
    pub disk: DiskId,
    /// Its size.
    pub size: ByteLength,
    /// Its epoch as far as it is known.
    pub epoch: Epoch,
    /// What it stands on.
    pub base: Option<LayerId>,
    /// Its head.
    pub head: Option<LayerId>,
    /// Whether it stays closed until the operator chose.
    pub is_closed: bool,
    /// What cannot be known of it, in words.
    pub doubts: Vec<String>,
}

/// A sealed layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLayer {
    /// The resource it was made for.
    pub label: LayerLabel,
    /// The disk whose head it was.
    pub disk: Option<DiskId>,
    /// What it stands on.
    pub parent: Option<LayerId>,
    /// Its size.
    pub size: ByteLength,
    /// The root over its content, if it is hashed.
    pub root: Option<Root>,
    /// Whether its making or its deletion was not finished.
    pub is_marked: bool,
}

/// A layer that is not there, or tells nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostLayer {
    /// Its name.
    pub layer: LayerId,
    /// What is wrong.
    pub reason: String,
    /// The disks, and the layers' resources, that stand on it.
    pub affects: BTreeSet<String>,
}

impl Survey {
    pub(super) fn of(
        storage: &dyn Storage,
        contents: Option<&Contents>,
        catalog: Option<&CatalogNames>,
    ) -> Result<Self, StoreError> {
        let (mut survey, mut heads) = (Self::default(), BTreeMap::new());
        for entry in layer_files::entries(storage)? {
            if let Entry::Layer(layer) = entry {
                survey.take(storage, layer, &mut heads)?;
            }
        }
        match contents {
            Some(contents) => survey.disks_of_ledger(contents),
            None => survey.disks_of_heads(&heads, catalog),
        }
        survey.find_headless();
        survey.find_missing();
        Ok(survey)
    }

    /// Reads a layer's header. What the system refuses to read ends it all: nothing would be known
    /// of a disk that is there.
    fn take(
        &mut self,
        storage: &dyn Storage,
        layer: LayerId,
        heads: &mut BTreeMap<DiskId, Vec<Head>>,
    ) -> Result<(), StoreError> {
        let read = LayerFiles::open_to_read(storage, layer)
            .and_then(|files| StoredHeader::read(&*files.map, layer));
        let header = match read {
            Ok(stored) => stored.header,
            Err(error @ (StoreError::Io { .. } | StoreError::UnknownFormat { .. })) => {
                let is_short = matches!(&error, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::UnexpectedEof);
                if !is_short {
                    return Err(error);
                }
                self.lose(layer, "its header is cut off".into());
                return Ok(());
            }
            Err(error) => {
                self.lose(layer, format!("its header tells nothing: {}", told(&error)));
                return Ok(());
            }
        };
        let mut marks = [false; 2];
        for (has, mark) in marks.iter_mut().zip([Mark::Unfinished, Mark::Deleting]) {
            let found = layer_files::has_mark(storage, layer, mark);
            *has = found.map_err(StoreError::io(format!("looking for marks of layer {layer}")))?;
        }
        match (header.state, header.disk.clone()) {
            (LayerState::Sealed, disk) => {
                let found = FoundLayer {
                    label: header.label,
                    disk,
                    parent: header.parent,
                    size: ByteLength::new(header.geometry.size()),
                    root: header.hashes.map(|hashes| hashes.root),
                    is_marked: marks.contains(&true),
                };
                self.layers.insert(layer, found);
            }
            (LayerState::Open, Some(disk)) => {
                heads.entry(disk).or_default().push(Head { header, is_leaving: marks[1] });
            }
            (LayerState::Open, None) => self.lose(layer, "a head that names no disk".into()),
        }
        Ok(())
    }

    fn lose(&mut self, layer: LayerId, reason: String) {
        self.lost.push(LostLayer { layer, reason, affects: BTreeSet::new() });
    }

    /// The ledger is there and owns all this.
    fn disks_of_ledger(&mut self, contents: &Contents) {
        let found = contents.slots.iter().filter_map(|(_, state)| match state {
            SlotState::Live(record) => Some(FoundDisk::of_record(record, false)),
            SlotState::Closed(record) => Some(FoundDisk::of_record(record, true)),
            SlotState::Free | SlotState::Creating(_) | SlotState::Deleting(_) => None,
        });
        self.disks = found.collect();
    }

    fn disks_of_heads(
        &mut self,
        heads: &BTreeMap<DiskId, Vec<Head>>,
        catalog: Option<&CatalogNames>,
    ) {
        for (disk, heads) in heads {
            match chosen(heads) {
                Some(head) => self.disks.push(FoundDisk::of_head(disk, head)),
                None => {
                    let spare = heads.iter().map(|head| (head.header.layer, disk.clone()));
                    self.spare_heads.extend(spare);
                }
            }
        }
        // What the catalog names and has no head stands on its last snapshot, at the least.
        let named = catalog.iter().flat_map(|catalog| &catalog.disks);
        for disk in named.filter(|disk| !heads.contains_key(disk)) {
            let own = self.layers.iter().filter(|(_, found)| found.disk.as_ref() == Some(disk));
            let parents: BTreeSet<_> = own.clone().filter_map(|(_, found)| found.parent).collect();
            let mut tops = own.filter(|(layer, _)| !parents.contains(layer));
            if let (Some((layer, found)), None) = (tops.next(), tops.next()) {
                self.disks.push(FoundDisk::without_head(disk, *layer, found.size));
            }
        }
        self.disks.sort_by(|a, b| a.disk.cmp(&b.disk));
    }

    fn find_headless(&mut self) {
        let known: BTreeSet<_> = self.disks.iter().map(|found| &found.disk).collect();
        let owners = self.layers.values().filter_map(|found| found.disk.as_ref());
        self.headless = owners.filter(|disk| !known.contains(disk)).cloned().collect();
    }

    /// Names who stands on what is lost, and adds what is missing.
    fn find_missing(&mut self) {
        let mut lost: BTreeMap<LayerId, LostLayer> =
            std::mem::take(&mut self.lost).into_iter().map(|lost| (lost.layer, lost)).collect();
        let disks = self.disks.iter().flat_map(|disk| {
            let layers = disk.base.into_iter().chain(disk.head);
            layers.map(|layer| (disk.disk.to_string(), layer))
        });
        let heads: BTreeSet<_> = self.disks.iter().filter_map(|disk| disk.head).collect();
        let resources = self.layers.iter().map(|(layer, found)| (found.label.id.clone(), *layer));
        for (who, top) in disks.chain(resources) {
            let (mut next, mut seen) = (Some(top), BTreeSet::new());
            while let Some(layer) = next.filter(|layer| seen.insert(*layer)) {
                let is_whole = self.layers.contains_key(&layer)
                    || (heads.contains(&layer) && !lost.contains_key(&layer));
                if !is_whole {
                    let missing = || LostLayer {
                        layer,
                        reason: "it has no directory".into(),
                        affects: BTreeSet::new(),
                    };
                    lost.entry(layer).or_insert_with(missing).affects.insert(who.clone());
                }
                next = self.layers.get(&layer).and_then(|found| found.parent);
            }
        }
        self.lost = lost.into_values().collect();
    }
}

/// An open head.
struct Head {
    header: Header,
    /// It was about to be left behind by a reset.
    is_leaving: bool,
}

/// The head a disk goes on with, if there can be only one.
fn chosen(heads: &[Head]) -> Option<&Head> {
    let mut staying = heads.iter().filter(|head| !head.is_leaving);
    match (staying.next(), staying.next(), heads) {
        (Some(head), None, _) => Some(head),
        (None, _, [head]) => Some(head),
        _ => None,
    }
}

impl FoundDisk {
    fn of_record(record: &DiskRecord, is_closed: bool) -> Self {
        Self {
            is_closed,
            disk: record.disk.clone(),
            size: ByteLength::new(record.geometry.size()),
            epoch: record.epoch,
            base: record.base,
            head: record.head,
            doubts: if is_closed { vec![MAYBE_BEFORE_A_RESET.into()] } else { Vec::new() },
        }
    }

    fn of_head(disk: &DiskId, head: &Head) -> Self {
        let mut doubts = vec![MAYBE_BEFORE_A_RESET.to_owned()];
        if head.is_leaving {
            doubts.push("a reset was about to leave its head behind, or had done so".into());
        }
        Self {
            disk: disk.clone(),
            size: ByteLength::new(head.header.geometry.size()),
            epoch: head.header.epoch,
            base: head.header.parent,
            head: Some(head.header.layer),
            is_closed: true,
            doubts,
        }
    }

    fn without_head(disk: &DiskId, base: LayerId, size: ByteLength) -> Self {
        let doubt = "it has no head: it shows its last snapshot, and may have been reset or \
                     resized since then";
        let doubts = vec![doubt.to_owned()];
        let (epoch, base) = (Epoch::FIRST, Some(base));
        Self { disk: disk.clone(), size, epoch, base, head: None, is_closed: true, doubts }
    }
}
