//! Ledger, layers and catalog against each other: what each names, the other has.
//!
//! What must always hold: a layer that is missing or unsealed is one finding, however many stand
//! on it; a head's parent is not believed, for it may lag behind the ledger's base.
//! Left to others: what is wrong inside of one (`layer`, `ledger`).

use std::collections::{BTreeMap, BTreeSet};

use block_device::DiskId;

use crate::{
    error::StoreError,
    fsck::{
        CatalogNames, Layers,
        finding::{FindingKind, Findings},
        layer::{believed_hashes, is_sealed, told as told_of},
    },
    header::Header,
    id::LayerId,
    layer_files::{self, Mark},
    ledger::Contents,
    ledger_record::{DiskRecord, SlotState},
    open_layers::MAX_CHAIN,
    root::{self, ClusterHash},
    storage::Storage,
};

/// All that is known of a store.
pub(crate) struct Known<'k> {
    pub(crate) contents: Option<&'k Contents>,
    pub(crate) layers: &'k Layers,
    pub(crate) catalog: Option<&'k CatalogNames>,
}

/// Who stands on which layer, whether directly or not.
type Users = BTreeMap<LayerId, BTreeSet<String>>;

impl Known<'_> {
    /// Everything that needs more than one of the three.
    pub(crate) fn compare(&self, storage: &dyn Storage, findings: &mut Findings) {
        let needed = self.needed();
        self.check_needed(&needed, findings);
        self.check_chains(findings);
        self.check_roots(storage, findings);
        for record in self.disks() {
            self.check_head(record, findings);
        }
        self.check_unneeded(storage, &needed, findings);
        self.check_catalog(findings);
        self.say_who_suffers(findings);
    }

    /// All that can be compared when no layer can be listed, and who suffers from that.
    pub(crate) fn compare_without_layers(&self, findings: &mut Findings) {
        self.check_catalog(findings);
        let on_layers = self.disks().filter(|record| record.base.or(record.head).is_some());
        let mut who: BTreeSet<_> = on_layers.map(|record| record.disk.to_string()).collect();
        who.extend(
            self.catalog.iter().flat_map(|catalog| catalog.layers.values()).flatten().cloned(),
        );
        let directories =
            findings.found.iter_mut().filter(|found| found.thing == layer_files::LAYERS);
        directories.for_each(|found| found.affects.extend(who.iter().cloned()));
    }

    fn disks(&self) -> impl Iterator<Item = &DiskRecord> {
        let slots = self.contents.map_or(&[][..], |contents| &contents.slots);
        slots.iter().filter_map(|(_, state)| match state {
            SlotState::Live(record) | SlotState::Closed(record) => Some(record),
            _ => None,
        })
    }

    fn header(&self, layer: LayerId) -> Option<&Header> {
        Some(&self.layers.get(&layer)?.as_ref()?.header)
    }

    /// What a layer stands on, as far as its own header decides that.
    fn parent(&self, layer: LayerId) -> Option<LayerId> {
        self.header(layer).filter(|header| is_sealed(header))?.parent
    }

    /// The layers that must be there and sealed, and who says so.
    fn needed(&self) -> Users {
        let mut needed = Users::new();
        let mut need = |layer: LayerId, who: String| {
            needed.entry(layer).or_default().insert(who);
        };
        for record in self.disks() {
            record.base.into_iter().for_each(|base| need(base, format!("disk {}", record.disk)));
        }
        for layer in self.layers.keys() {
            self.parent(*layer).into_iter().for_each(|below| need(below, format!("layer {layer}")));
        }
        for (layer, who) in self.catalog.iter().flat_map(|catalog| &catalog.layers) {
            who.iter().for_each(|who| need(*layer, who.clone()));
        }
        needed
    }

    fn check_needed(&self, needed: &Users, findings: &mut Findings) {
        let mut missing = needed.clone();
        for record in self.disks() {
            if let Some(head) = record.head {
                missing.entry(head).or_default().insert(format!("disk {}", record.disk));
            }
        }
        missing.retain(|layer, _| !self.layers.contains_key(layer));
        for (layer, who) in missing {
            let message = format!(
                "{} needs it and it has no directory; restore it from a backup",
                list(&who)
            );
            findings.damage(FindingKind::LayerMissing, format!("layer {layer}"), message);
        }
        for (layer, who) in needed {
            if self.header(*layer).is_some_and(|header| !is_sealed(header)) {
                let message = format!(
                    "{} stands on it, but it was never sealed: it is refused; restore it from a backup",
                    list(who)
                );
                findings.damage(FindingKind::NotSealed, format!("layer {layer}"), message);
            }
        }
    }

    fn check_chains(&self, findings: &mut Findings) {
        let mut in_loops = BTreeSet::new();
        for (layer, header) in self.sealed() {
            let mut seen = BTreeSet::from([layer]);
            let mut next = header.parent;
            while let Some(below) = next {
                if below == layer && in_loops.is_disjoint(&seen) {
                    in_loops.extend(seen.iter().copied());
                    let message = "its chain comes back to itself: all that stands on it is \
                                   refused; restore the layers from a backup";
                    findings.damage(FindingKind::ChainLoop, format!("layer {layer}"), message);
                }
                if !seen.insert(below) {
                    break;
                }
                next = self.parent(below);
            }
            // Only the lowest layer that is too high up, not each of those above it.
            if seen.len() == MAX_CHAIN + 1 {
                let message = format!(
                    "its chain is longer than {MAX_CHAIN} layers: it is refused; delete what stands on it"
                );
                findings.damage(FindingKind::ChainDepth, format!("layer {layer}"), message);
            }
            let below = header.parent.and_then(|below| self.header(below));
            if below.is_some_and(|below| below.geometry.size() > header.geometry.size()) {
                let message = "it is smaller than the layer it stands on: it is refused; restore \
                               it from a backup";
                findings.damage(FindingKind::ChainSize, format!("layer {layer}"), message);
            }
        }
    }

    fn sealed(&self) -> impl Iterator<Item = (LayerId, &Header)> {
        let looked = self.layers.iter();
        looked
            .filter_map(|(layer, looked)| Some((*layer, &looked.as_ref()?.header)))
            .filter(|(_, header)| is_sealed(header))
    }

    /// Whether each root is that of the hashes, of layers whose chain is whole and hashed.
    fn check_roots(&self, storage: &dyn Storage, findings: &mut Findings) {
        let parents: BTreeSet<_> = self.sealed().filter_map(|(_, header)| header.parent).collect();
        let mut done = BTreeSet::new();
        // From the tops: one walk up a chain serves all layers of it.
        for (top, _) in self.sealed().filter(|(layer, _)| !parents.contains(layer)) {
            let Some(chain) = self.whole_chain(top) else { continue };
            let mut below: BTreeMap<u64, ClusterHash> = BTreeMap::new();
            for (layer, header) in chain.into_iter().rev() {
                let (Some(hashes), Some(entries)) =
                    (header.hashes, believed_hashes(storage, layer))
                else {
                    break;
                };
                below.extend(entries);
                if !done.insert(layer) {
                    continue;
                }
                let as_read = below.iter().map(|(cluster, hash)| (*cluster, *hash));
                if root::root_of(header.geometry.size(), as_read) != hashes.root {
                    let message = "its root is not that of its hashes: its content cannot be \
                                   proved; restore it from a backup";
                    findings.damage(FindingKind::HashRoot, format!("layer {layer}"), message);
                }
            }
        }
    }

    fn whole_chain(&self, top: LayerId) -> Option<Vec<(LayerId, &Header)>> {
        let (mut chain, mut next): (Vec<(LayerId, &Header)>, _) = (Vec::new(), Some(top));
        while let Some(layer) = next {
            let looked = self.layers.get(&layer)?.as_ref()?;
            if chain.len() == MAX_CHAIN || !looked.is_whole || !is_sealed(&looked.header) {
                return None;
            }
            // The root of a smaller layer has no place for hashes of a larger one.
            let size = looked.header.geometry.size();
            if chain.last().is_some_and(|(_, above)| above.geometry.size() < size) {
                return None;
            }
            chain.push((layer, &looked.header));
            next = looked.header.parent;
        }
        Some(chain)
    }

    fn check_head(&self, record: &DiskRecord, findings: &mut Findings) {
        let Some((layer, header)) = record.head.and_then(|head| Some((head, self.header(head)?)))
        else {
            return;
        };
        let thing = format!("disk {}", record.disk);
        let (kind, message) = if is_sealed(header) {
            let message = format!(
                "a snapshot sealed its head {layer} and was cut short; opening the disk settles it"
            );
            findings.note(FindingKind::CutSnapshot, thing, message);
            return;
        } else if header.disk.as_ref() != Some(&record.disk) {
            let message = format!("its head {layer} belongs to another disk");
            (FindingKind::HeadOwner, message)
        } else if header.epoch > record.epoch {
            let message = format!(
                "its head {layer} is of epoch {}, the ledger says {}: the ledger is an old one, and \
                 what the head holds is whole",
                header.epoch, record.epoch
            );
            (FindingKind::OldLedger, message)
        } else if !header.epoch.is_near(record.epoch) {
            let message = format!(
                "its head {layer} is of epoch {}, too far below the ledger's {}",
                header.epoch, record.epoch
            );
            (FindingKind::HeadEpoch, message)
        } else if header.geometry.size() < record.geometry.size() {
            (FindingKind::HeadSize, format!("its head {layer} is smaller than the disk"))
        } else {
            return;
        };
        let message = format!("{message}; the disk is refused; bring the right ledger back");
        findings.damage(kind, thing, message).affects.insert(record.disk.to_string());
    }

    /// Layers that nobody needs: marked ones go at the next start, others are kept.
    fn check_unneeded(&self, storage: &dyn Storage, needed: &Users, findings: &mut Findings) {
        let heads: BTreeSet<_> = self.disks().filter_map(|record| record.head).collect();
        let unsettled: BTreeSet<_> = self.unsettled_layers().collect();
        for layer in self.layers.keys() {
            let mut is_marked = false;
            for (mark, told) in [(Mark::Unfinished, "unfinished"), (Mark::Deleting, "deleting")] {
                let (has, thing) =
                    (layer_files::has_mark(storage, *layer, mark), format!("layer {layer}"));
                match has.map_err(StoreError::io("looking for its marks")) {
                    Ok(false) => {}
                    Ok(true) => {
                        is_marked = true;
                        let message = format!("it is marked as {told}; the next start settles it");
                        findings.note(FindingKind::Marked, thing, message);
                    }
                    // Of a directory that lets nobody in, this was told already.
                    Err(_) if self.header(*layer).is_none() => {}
                    Err(error) => {
                        let message = format!("its marks cannot be read: {}", told_of(&error));
                        findings.failure(FindingKind::LayerFile, thing, &error, message);
                    }
                }
            }
            let is_used =
                needed.contains_key(layer) || heads.contains(layer) || unsettled.contains(layer);
            // Without a catalog it is not known what images and snapshots name.
            let is_known = self.catalog.is_some() && self.knows_all_names();
            if is_known && !is_marked && !is_used {
                let message = "nobody names it or stands on it; it is kept, for the catalog or the \
                               ledger may be an older one";
                findings.note(FindingKind::OrphanLayer, format!("layer {layer}"), message);
            }
        }
    }

    /// Whether nothing that could name a layer is unreadable.
    fn knows_all_names(&self) -> bool {
        self.contents.is_some_and(|contents| contents.damaged.is_empty())
            && self.layers.values().all(Option::is_some)
    }

    /// Layers of disks that are half made or deleted, or whose record is one nobody can read.
    fn unsettled_layers(&self) -> impl Iterator<Item = LayerId> {
        let slots = self.contents.map_or(&[][..], |contents| &contents.slots);
        let records = slots.iter().filter_map(|(_, state)| state.record());
        records.flat_map(|record| record.head.into_iter().chain(record.base))
    }

    fn check_catalog(&self, findings: &mut Findings) {
        let (Some(catalog), Some(contents)) = (self.catalog, self.contents) else { return };
        let records = contents.slots.iter().filter_map(|(_, state)| state.record());
        let mut known: BTreeSet<&DiskId> = records.map(|record| &record.disk).collect();
        known.extend(contents.damaged.iter().filter_map(|damage| damage.disk.as_ref()));
        let missing: Vec<&DiskId> =
            catalog.disks.iter().filter(|disk| !known.contains(disk)).collect();
        // A slot of which nothing is left was that of a missing disk: one fault, one finding.
        let is_nameless = contents.damaged.iter().any(|damage| damage.disk.is_none());
        for disk in &missing {
            if !is_nameless {
                let message = "the catalog names it and the ledger does not know it: it cannot be \
                               served; bring the newer ledger back";
                let found =
                    findings.damage(FindingKind::DiskMissing, format!("disk {disk}"), message);
                found.affects.insert(disk.to_string());
            }
        }
        if is_nameless {
            let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
            let slots = findings.found.iter_mut();
            slots
                .filter(|found| found.kind == FindingKind::LedgerRecord && found.affects.is_empty())
                .for_each(|found| found.affects.extend(names.iter().cloned()));
        }
        for record in self.disks().filter(|record| !catalog.disks.contains(&record.disk)) {
            let message = "the ledger has it and the catalog does not name it; it is kept, for the \
                           catalog may be an older one";
            findings.note(FindingKind::OrphanDisk, format!("disk {}", record.disk), message);
        }
    }

    /// Tells of each broken layer which disks, snapshots and images stand on it.
    fn say_who_suffers(&self, findings: &mut Findings) {
        let users = self.users();
        for finding in &mut findings.found {
            let layer = finding.thing.strip_prefix("layer ").and_then(|id| id.parse().ok());
            if let Some(who) = layer.and_then(|layer: LayerId| users.get(&layer)) {
                finding.affects.extend(who.iter().cloned());
            }
        }
    }

    fn users(&self) -> Users {
        let mut users = Users::new();
        let mut stand = |top: LayerId, who: &str| {
            let mut next = Some(top);
            while let Some(layer) = next {
                // Where somebody stands already he stands on all below, or it is a loop.
                if !users.entry(layer).or_default().insert(who.to_owned()) {
                    break;
                }
                next = self.parent(layer);
            }
        };
        for record in self.disks() {
            let layers = record.head.into_iter().chain(record.base);
            layers.for_each(|layer| stand(layer, record.disk.as_str()));
        }
        for (layer, who) in self.catalog.iter().flat_map(|catalog| &catalog.layers) {
            who.iter().for_each(|who| stand(*layer, who));
        }
        users
    }
}

fn list(who: &BTreeSet<String>) -> String {
    who.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
