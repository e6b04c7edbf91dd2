//! The records of a lost catalog, as far as the headers of the layers tell them.
//!
//! What must always hold
//! 1. Nothing is made up: a record says what a header says, or what any new resource says, and what
//!    cannot be known is named, disk by disk.
//! 2. A snapshot or image whose deletion was not finished comes back rather than being lost.
//! 3. The catalog is marked as imported, so that the first start on it sweeps nothing.
//!
//! Left to others: what the headers hold (`block-store`), storing the records (`catalog`).

use std::collections::{BTreeMap, BTreeSet};

use block_store::{FoundDisk, FoundLayer, LayerId, LayerKind, Root, Survey};
use catalog::{
    Batch, CatalogError,
    record::{
        Account, ChargeType, Disk, DiskRole, Image, ImageStatus, Import, Origin, Snapshot,
        SnapshotStatus,
    },
};
use jiff::Timestamp;

use crate::{CloudError, DEFAULT_ACCOUNT, Settings, account::FIRST_NUMBER, disk, ids, texts};

/// The records of a catalog, and what is missing in them.
#[derive(Debug)]
pub struct RebuiltCatalog {
    /// All records.
    pub records: Batch,
    /// The disks.
    pub disks: Vec<RebuiltDisk>,
    /// Ids of snapshots that came back.
    pub snapshots: Vec<String>,
    /// Ids of images that came back.
    pub images: Vec<String>,
    /// What is missing besides, in words.
    pub missing: Vec<String>,
}

/// A disk that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuiltDisk {
    /// Its id.
    pub id: String,
    /// Its account, known or not.
    pub account: String,
    /// What it goes back to, as the layers below tell it.
    pub origin: Origin,
    /// Whether it stays closed until the operator chose.
    pub is_closed: bool,
    /// What is not known of it, in words.
    pub unknown: Vec<String>,
}

/// What no header holds.
const NOT_IN_HEADERS: &str = "not known, for no header holds it: instances and attachments, access keys, tags, \
     descriptions, categories, quotas, times, who images are shared with, disks that were not written since they were made, \
     snapshots of a disk that was not written since its last snapshot or reset, images made of snapshots or of the \
     same content as another, and which images carry a security layer";

/// Makes the records.
pub fn rebuild_catalog(
    survey: &Survey,
    settings: &Settings,
    now: Timestamp,
) -> Result<RebuiltCatalog, CloudError> {
    let mut rebuilding = Rebuilding {
        survey,
        now: now.as_second(),
        resources: resources(survey),
        accounts: BTreeSet::from([DEFAULT_ACCOUNT.to_owned()]),
        made: RebuiltCatalog {
            records: Batch::new(),
            disks: Vec::new(),
            snapshots: Vec::new(),
            images: Vec::new(),
            missing: vec![NOT_IN_HEADERS.to_owned()],
        },
        count: 0,
    };
    rebuilding.take_layers()?;
    for found in &survey.disks {
        rebuilding.take_disk(found, settings)?;
    }
    rebuilding.tell_what_is_lost();
    rebuilding.finish()
}

/// The layers whose header names a resource that no other names.
fn resources(survey: &Survey) -> BTreeMap<LayerId, &FoundLayer> {
    let mut named: BTreeMap<&str, Vec<LayerId>> = BTreeMap::new();
    for (layer, found) in &survey.layers {
        named.entry(&found.label.id).or_default().push(*layer);
    }
    let is_one = |found: &FoundLayer| {
        let has_id = !found.label.id.is_empty() && found.label.kind != LayerKind::Head;
        has_id && named[found.label.id.as_str()].len() == 1
    };
    let layers = survey.layers.iter().filter(|(_, found)| is_one(found));
    layers.map(|(layer, found)| (*layer, found)).collect()
}

struct Rebuilding<'s> {
    survey: &'s Survey,
    now: i64,
    resources: BTreeMap<LayerId, &'s FoundLayer>,
    accounts: BTreeSet<String>,
    made: RebuiltCatalog,
    count: u64,
}

impl Rebuilding<'_> {
    fn put<R: catalog::record::Record>(&mut self, record: &R) -> Result<(), CatalogError> {
        self.count += 1;
        self.made.records.put(record).map(drop)
    }

    /// The account of a label, which then exists.
    fn account(&mut self, name: &str) -> String {
        let known = if texts::account_name(name).is_ok() { name } else { DEFAULT_ACCOUNT };
        self.accounts.insert(known.to_owned());
        known.to_owned()
    }

    fn take_layers(&mut self) -> Result<(), CloudError> {
        for (layer, found) in &self.survey.layers {
            let id = found.label.id.clone();
            if !self.resources.contains_key(layer) {
                let what = format!("layer {layer} is kept; no one resource is named by its header");
                self.made.missing.push(what);
                continue;
            }
            if found.is_marked {
                let what = format!(
                    "{id}: its making or deletion was not finished; delete it if it is not wanted"
                );
                self.made.missing.push(what);
            }
            match found.label.kind {
                LayerKind::Image => {
                    let record = self.image(*layer, found);
                    self.put(&record)?;
                    self.made.images.push(id);
                }
                LayerKind::Snapshot | LayerKind::Head => {
                    let record = self.snapshot(*layer, found);
                    self.put(&record)?;
                    self.made.snapshots.push(id);
                }
            }
        }
        Ok(())
    }

    fn image(&mut self, layer: LayerId, found: &FoundLayer) -> Image {
        Image {
            id: found.label.id.clone(),
            account: self.account(&found.label.account),
            name: found.label.name.clone(),
            description: String::new(),
            version: String::new(),
            size: found.size.get(),
            layer: Some(layer.to_bytes()),
            root: found.root.map(Root::to_bytes),
            architecture: "x86_64".into(),
            os_type: "linux".into(),
            os_name: String::new(),
            platform: String::new(),
            status: ImageStatus::Available,
            public: false,
            shared_with: BTreeMap::new(),
            created: self.now,
            source_snapshot: None,
            format: String::new(),
            data_disks: Vec::new(),
            tags: BTreeMap::new(),
            security_layer: None,
        }
    }

    fn snapshot(&mut self, layer: LayerId, found: &FoundLayer) -> Snapshot {
        // One without hashes gets them after the start, like one that was cut short.
        let status = match found.root {
            Some(_) => SnapshotStatus::Accomplished,
            None => SnapshotStatus::Progressing,
        };
        Snapshot {
            id: found.label.id.clone(),
            account: self.account(&found.label.account),
            name: found.label.name.clone(),
            description: String::new(),
            disk: found.disk.as_ref().map(ToString::to_string).unwrap_or_default(),
            disk_role: DiskRole::Data,
            size: found.size.get(),
            layer: Some(layer.to_bytes()),
            root: found.root.map(Root::to_bytes),
            status,
            created: self.now,
            encrypted: false,
            tags: BTreeMap::new(),
        }
    }

    fn take_disk(&mut self, found: &FoundDisk, settings: &Settings) -> Result<(), CloudError> {
        let mut unknown = found.doubts.clone();
        let own = |layer: &&FoundLayer| layer.disk.as_ref() == Some(&found.disk);
        let accounts: BTreeSet<&str> = self
            .survey
            .layers
            .values()
            .filter(own)
            .map(|layer| layer.label.account.as_str())
            .collect();
        let known = if accounts.len() == 1 { accounts.first().copied() } else { None };
        let account = self.account(known.unwrap_or_default());
        if known.is_none() {
            unknown.push(format!("its account: it is in {DEFAULT_ACCOUNT}"));
        }
        let origin = self.origin(found).unwrap_or_else(|| {
            unknown.push("its origin: it cannot be reset".into());
            Origin::Snapshot { id: "lost".into() }
        });
        unknown.push("its name, instance, category and tags".into());
        let owner = match &origin {
            Origin::Image { id } => {
                let image = self.survey.layers.values().find(|layer| layer.label.id == *id);
                image.map_or(account.clone(), |image| image.label.account.clone())
            }
            Origin::Empty | Origin::Snapshot { .. } => account.clone(),
        };
        let id = found.disk.to_string();
        let record = Disk {
            id: id.clone(),
            account: account.clone(),
            name: String::new(),
            description: "rebuilt from the headers of its layers".into(),
            category: disk::DEFAULT_CATEGORY.into(),
            role: DiskRole::Data,
            origin: origin.clone(),
            origin_owner: owner,
            origin_via_image: false,
            attachment: None,
            // It may have been attached: its snapshots and resets are not those of a new disk.
            detached: Some(self.now),
            delete_with_instance: false,
            portable: true,
            created: self.now,
            charge_type: ChargeType::PostPaid,
            expires: None,
            locks: Vec::new(),
            serial: ids::serial()?,
            zone: settings.zones.first().cloned().unwrap_or_default(),
            region: settings.region.clone(),
            tags: BTreeMap::new(),
            enable_auto_snapshot: true,
            delete_auto_snapshot: true,
            pending_reset: None,
        };
        self.put(&record)?;
        self.made.disks.push(RebuiltDisk {
            id,
            account,
            origin,
            is_closed: found.is_closed,
            unknown,
        });
        Ok(())
    }

    /// What a disk was made from: the first layer below it that is not one of its own snapshots.
    fn origin(&self, disk: &FoundDisk) -> Option<Origin> {
        let (mut next, mut seen) = (disk.base, BTreeSet::new());
        while let Some(layer) = next {
            let found = self.survey.layers.get(&layer).filter(|_| seen.insert(layer))?;
            if found.disk.as_ref() != Some(&disk.disk) {
                let id = self.resources.get(&layer)?.label.id.clone();
                return match found.label.kind {
                    LayerKind::Image => Some(Origin::Image { id }),
                    LayerKind::Snapshot => Some(Origin::Snapshot { id }),
                    LayerKind::Head => None,
                };
            }
            next = found.parent;
        }
        Some(Origin::Empty)
    }

    fn tell_what_is_lost(&mut self) {
        for lost in &self.survey.lost {
            let who: Vec<_> = lost.affects.iter().map(String::as_str).collect();
            let who = if who.is_empty() { "nobody that is known".into() } else { who.join(", ") };
            let what = format!("layer {}: {}; it takes down {who}", lost.layer, lost.reason);
            self.made.missing.push(what);
        }
        for disk in &self.survey.headless {
            let what = format!(
                "disk {disk}: it has snapshots and no head: it was deleted, or not written since; make it anew of a snapshot"
            );
            self.made.missing.push(what);
        }
        for (layer, disk) in &self.survey.spare_heads {
            let what = format!(
                "disk {disk}: several layers say that they are its head, {layer} among them: none is taken, all are kept"
            );
            self.made.missing.push(what);
        }
    }

    fn finish(mut self) -> Result<RebuiltCatalog, CloudError> {
        let names: Vec<_> = std::mem::take(&mut self.accounts).into_iter().collect();
        for (number, name) in (FIRST_NUMBER..).zip(names) {
            let account =
                Account { name, number, created: self.now, in_arrears: false, quota_bytes: None };
            self.put(&account)?;
        }
        let mark = Import { imported: self.now, records: self.count };
        self.put(&mark)?;
        Ok(self.made)
    }
}
