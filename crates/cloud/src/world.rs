//! The resources in memory, and the one lock over them.
//!
//! Locks, outermost first
//! ```text
//! World (one Mutex, in `Cloud`)     resources, claims, pins
//!   (nothing)                       never held across I/O, nor across a call into store, engine,
//!                                   catalog or exports; no other lock is taken under it
//! ```
//! How a change goes: under the lock, wait until nobody quietly changes what it is about, check the
//! rules, take a claim (`claim`). Without the lock, do the slow work. Under the lock again, publish the
//! result and let go of the claim in one step. So of two racing calls one sees the claim of the other
//! and answers the documented refusal, or waits and sees its result.
//!
//! What must always hold
//! 1. A resource here is what the catalog holds, or is just being brought there under a claim.
//! 2. Nobody waits while holding a claim that others wait for: no deadlock. (A client token's claim
//!    is waited for only by calls with the same token; those hold nothing yet.)
//! 3. A disk's `sizes` entry is the ledger's size; it changes only under the claim of a resize.
//!
//! One mutex rather than one per resource: every rule looks at two or three kinds at once, and what
//! is done under it takes microseconds.

use std::collections::{BTreeMap, HashMap, HashSet};

use catalog::record::{
    Account, Disk, DiskLimits, Image, Instance, Key, LayerBytes, Origin, Power, Session, Snapshot,
    SnapshotGroup, Task,
};

use crate::{CloudError, DiskStatus, InstanceStatus, Resource, client_token::Tokens};

/// The resources in memory, and what is being done to them.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) accounts: BTreeMap<String, Account>,
    pub(crate) keys: BTreeMap<String, Key>,
    pub(crate) sessions: BTreeMap<String, Session>,
    pub(crate) images: BTreeMap<String, Image>,
    pub(crate) snapshots: BTreeMap<String, Snapshot>,
    pub(crate) snapshot_groups: BTreeMap<String, SnapshotGroup>,
    pub(crate) disks: BTreeMap<String, Disk>,
    /// Of those disks that have any.
    pub(crate) limits: BTreeMap<String, DiskLimits>,
    pub(crate) instances: BTreeMap<String, Instance>,
    pub(crate) tasks: BTreeMap<String, Task>,
    pub(crate) tokens: Tokens,
    /// Bytes of each disk.
    pub(crate) sizes: HashMap<String, u64>,
    /// Images that are being imported: not in the catalog yet.
    pub(crate) importing: BTreeMap<String, Image>,
    /// Percent of snapshots and tasks under way, by id.
    pub(crate) progress: HashMap<String, u8>,
    /// Tasks that were asked to stop.
    pub(crate) cancelled: HashSet<String>,
    pub(crate) claims: Claims,
}

/// What is being done to resources right now; only `claim` changes it.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Ids whose records are being changed without a state of their own; others wait.
    pub(crate) quiet: HashSet<String>,
    /// Disks in a state between two; others are refused.
    pub(crate) disks: HashMap<String, DiskStatus>,
    /// Instances in a state between two; others are refused.
    pub(crate) instances: HashMap<String, InstanceStatus>,
    /// Disks on their way to an instance, and the device they will have there.
    pub(crate) arriving: HashMap<String, (String, String)>,
    /// Disks whose snapshot is in progress.
    pub(crate) snapshotting: HashSet<String>,
    /// Snapshots and images something is being made from, and how often.
    pub(crate) pins: HashMap<String, usize>,
    /// Layers a record is about to name, and how often.
    pub(crate) layer_pins: HashMap<LayerBytes, usize>,
    /// Layers that are being deleted.
    pub(crate) leaving: HashSet<LayerBytes>,
    /// Bytes of disks being made or grown, by account.
    pub(crate) reserved: HashMap<String, u64>,
    /// Names of images being made, by account.
    pub(crate) image_names: HashSet<(String, String)>,
    /// Client tokens whose first call is under way.
    pub(crate) tokens: HashSet<String>,
}

impl World {
    // Looking up: another account's resource is as unknown as an unknown id.

    pub(crate) fn account(&self, name: &str) -> Result<&Account, CloudError> {
        self.accounts.get(name).ok_or_else(|| CloudError::not_found(Resource::Account, name))
    }

    pub(crate) fn disk(&self, account: &str, id: &str) -> Result<&Disk, CloudError> {
        let found = self.disks.get(id).filter(|disk| disk.account == account);
        found.ok_or_else(|| CloudError::not_found(Resource::Disk, id))
    }

    pub(crate) fn instance(&self, account: &str, id: &str) -> Result<&Instance, CloudError> {
        let found = self.instances.get(id).filter(|instance| instance.account == account);
        found.ok_or_else(|| CloudError::not_found(Resource::Instance, id))
    }

    pub(crate) fn snapshot(&self, account: &str, id: &str) -> Result<&Snapshot, CloudError> {
        let found = self.snapshots.get(id).filter(|snapshot| snapshot.account == account);
        found.ok_or_else(|| CloudError::not_found(Resource::Snapshot, id))
    }

    /// An image the account may use, whoever owns it.
    pub(crate) fn visible_image(&self, account: &str, id: &str) -> Result<&Image, CloudError> {
        let found = self.images.get(id).filter(|image| self.is_visible(image, account));
        found.ok_or_else(|| CloudError::not_found(Resource::Image, id))
    }

    /// An image of the account itself.
    pub(crate) fn own_image(&self, account: &str, id: &str) -> Result<&Image, CloudError> {
        let found = self.images.get(id).filter(|image| image.account == account);
        found.ok_or_else(|| CloudError::not_found(Resource::Image, id))
    }

    pub(crate) fn is_visible(&self, image: &Image, account: &str) -> bool {
        image.account == account || image.public || self.is_shared_with(image, account)
    }

    pub(crate) fn is_shared_with(&self, image: &Image, account: &str) -> bool {
        let number = self.accounts.get(account).map(|account| account.number);
        number.is_some_and(|number| image.shared_with.contains_key(&number))
    }

    // States

    pub(crate) fn disk_status(&self, disk: &Disk) -> DiskStatus {
        let settled =
            if disk.attachment.is_some() { DiskStatus::InUse } else { DiskStatus::Available };
        self.claims.disks.get(&disk.id).copied().unwrap_or(settled)
    }

    pub(crate) fn instance_status(&self, instance: &Instance) -> InstanceStatus {
        let settled = match instance.power {
            Power::Running => InstanceStatus::Running,
            Power::Stopped => InstanceStatus::Stopped,
        };
        self.claims.instances.get(&instance.id).copied().unwrap_or(settled)
    }

    /// The disks attached to an instance, the system disk first.
    pub(crate) fn disks_of<'w>(&'w self, instance: &str) -> Vec<&'w Disk> {
        let attached = |disk: &&Disk| attached_to(disk, instance);
        let mut disks: Vec<_> = self.disks.values().filter(attached).collect();
        disks.sort_by_key(|disk| disk.attachment.as_ref().map(|place| place.device.clone()));
        disks
    }

    /// Whether nobody quietly changes any of these.
    pub(crate) fn is_quiet(&self, ids: &[&str]) -> bool {
        ids.iter().all(|id| !self.claims.quiet.contains(*id))
    }

    /// Whether nobody does anything to these at all.
    pub(crate) fn is_free(&self, ids: &[&str]) -> bool {
        let loud = |id: &&str| {
            self.claims.disks.contains_key(*id) || self.claims.instances.contains_key(*id)
        };
        self.is_quiet(ids) && !ids.iter().any(loud)
    }

    /// Whether nobody quietly changes the instance, or a disk of it.
    pub(crate) fn is_quiet_around(&self, instance: &str) -> bool {
        let busy = |id: &String| self.disks.get(id).is_some_and(|disk| attached_to(disk, instance));
        self.is_quiet(&[instance]) && !self.claims.quiet.iter().any(busy)
    }

    /// Whether nobody quietly changes the disk or what it goes back to.
    pub(crate) fn is_quiet_behind(&self, disk: &str) -> bool {
        let Some(record) = self.disks.get(disk) else { return self.is_quiet(&[disk]) };
        let instance = record.attachment.as_ref().map_or("", |place| place.instance.as_str());
        let source = match &record.origin {
            Origin::Empty => "",
            Origin::Image { id } | Origin::Snapshot { id } => id,
        };
        self.is_quiet(&[disk, instance, source])
    }

    // Sums

    /// Bytes of disks an account has or is getting.
    pub(crate) fn bytes_of(&self, account: &str) -> u64 {
        let own = self.disks.values().filter(|disk| disk.account == account);
        let sizes = own.filter_map(|disk| self.sizes.get(&disk.id)).copied();
        let reserved = self.claims.reserved.get(account).copied().unwrap_or(0);
        sizes.fold(reserved, u64::saturating_add)
    }

    /// Whether a record other than these names the layer, or is about to.
    pub(crate) fn names_layer(&self, layer: &LayerBytes, except: &[&str]) -> bool {
        let images = self.images.values().filter(|image| !except.contains(&image.id.as_str()));
        let snapshots =
            self.snapshots.values().filter(|snapshot| !except.contains(&snapshot.id.as_str()));
        self.claims.layer_pins.contains_key(layer)
            || images.flat_map(image_layers).any(|named| named == *layer)
            || snapshots.filter_map(|snapshot| snapshot.layer).any(|named| named == *layer)
    }
}

/// The layers an image names: its own, and its security layer.
pub(crate) fn image_layers(image: &Image) -> impl Iterator<Item = LayerBytes> + use<> {
    let security = image.security_layer.as_ref().map(|security| security.layer);
    image.layer.into_iter().chain(security)
}

pub(crate) fn attached_to(disk: &Disk, instance: &str) -> bool {
    disk.attachment.as_ref().is_some_and(|place| place.instance == instance)
}
