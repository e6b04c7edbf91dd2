//! Claims: what a call holds while it does its slow work.
//!
//! What must always hold: a claim lets go of all it holds when it is dropped, on every way out, a panic
//! included; publishing a result and letting go are one step for everyone else.
//! Left to others: the rules that decide whether a claim may be taken (`rules`, each action's file).

use catalog::record::LayerBytes;

use crate::{Cloud, DiskStatus, InstanceStatus, world::World};

/// One thing held.
#[derive(Clone, Debug)]
pub(crate) enum Hold {
    /// The record of this id is being changed; others wait for the end of it.
    Quiet(String),
    /// The disk is in a state between two.
    Disk(String, DiskStatus),
    /// The instance is in a state between two.
    Instance(String, InstanceStatus),
    /// The disk is on its way to an instance's device.
    Arriving { disk: String, instance: String, device: String },
    /// A snapshot of the disk is in progress.
    Snapshotting(String),
    /// Something is being made from this snapshot or image.
    Pin(String),
    /// A record is about to name this layer.
    LayerPin(LayerBytes),
    /// This layer is being deleted.
    Leaving(LayerBytes),
    /// Bytes of disks being made for an account.
    Bytes(String, u64),
    /// The name of an image being made.
    ImageName(String, String),
    /// A client token whose first call is under way.
    Token(String),
}

/// What a call holds while it works.
#[derive(Debug)]
pub(crate) struct Claim {
    cloud: Cloud,
    holds: Vec<Hold>,
}

impl Claim {
    /// Takes all of them; the caller checked under the same lock that it may.
    pub(crate) fn take(cloud: &Cloud, world: &mut World, holds: Vec<Hold>) -> Self {
        for hold in &holds {
            take(world, hold);
        }
        Self { cloud: cloud.clone(), holds }
    }

    /// Takes one more.
    pub(crate) fn add(&mut self, world: &mut World, hold: Hold) {
        take(world, &hold);
        self.holds.push(hold);
    }

    /// The part of it that `is` says, as a claim of its own.
    pub(crate) fn split_off(&mut self, is: impl Fn(&Hold) -> bool) -> Self {
        let (split, kept) = self.holds.drain(..).partition(is);
        self.holds = kept;
        Self { cloud: self.cloud.clone(), holds: split }
    }

    /// Publishes what came of it and lets go, in one step.
    pub(crate) fn publish<R>(mut self, publish: impl FnOnce(&mut World) -> R) -> R {
        let mut world = self.cloud.inner.world.lock();
        let result = publish(&mut world);
        release_all(&mut self.holds, &mut world);
        drop(world);
        self.cloud.inner.changed.notify_all();
        result
    }

    /// As [`Claim::publish`], but keeps what `keep` says, for work that goes on in the background.
    pub(crate) fn publish_keeping(
        mut self,
        keep: impl Fn(&Hold) -> bool,
        publish: impl FnOnce(&mut World),
    ) -> Self {
        let cloud = self.cloud.clone();
        let mut world = cloud.inner.world.lock();
        publish(&mut world);
        let (kept, mut released) = self.holds.drain(..).partition(keep);
        self.holds = kept;
        release_all(&mut released, &mut world);
        drop(world);
        cloud.inner.changed.notify_all();
        self
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        release_all(&mut self.holds, &mut self.cloud.inner.world.lock());
        self.cloud.inner.changed.notify_all();
    }
}

fn take(world: &mut World, hold: &Hold) {
    let claims = &mut world.claims;
    match hold.clone() {
        Hold::Quiet(id) => drop(claims.quiet.insert(id)),
        Hold::Disk(id, status) => drop(claims.disks.insert(id, status)),
        Hold::Instance(id, status) => drop(claims.instances.insert(id, status)),
        Hold::Arriving { disk, instance, device } => {
            claims.arriving.insert(disk, (instance, device));
        }
        Hold::Snapshotting(disk) => drop(claims.snapshotting.insert(disk)),
        Hold::Pin(id) => *claims.pins.entry(id).or_default() += 1,
        Hold::LayerPin(layer) => *claims.layer_pins.entry(layer).or_default() += 1,
        Hold::Leaving(layer) => drop(claims.leaving.insert(layer)),
        Hold::Bytes(account, bytes) => *claims.reserved.entry(account).or_default() += bytes,
        Hold::ImageName(account, name) => drop(claims.image_names.insert((account, name))),
        Hold::Token(id) => drop(claims.tokens.insert(id)),
    }
}

fn release_all(holds: &mut Vec<Hold>, world: &mut World) {
    for hold in holds.drain(..) {
        release(world, hold);
    }
}

fn release(world: &mut World, hold: Hold) {
    let claims = &mut world.claims;
    match hold {
        Hold::Quiet(id) => drop(claims.quiet.remove(&id)),
        Hold::Disk(id, _) => drop(claims.disks.remove(&id)),
        Hold::Instance(id, _) => drop(claims.instances.remove(&id)),
        Hold::Arriving { disk, .. } => drop(claims.arriving.remove(&disk)),
        Hold::Snapshotting(disk) => drop(claims.snapshotting.remove(&disk)),
        Hold::Pin(id) => count_down(&mut claims.pins, &id),
        Hold::LayerPin(layer) => count_down(&mut claims.layer_pins, &layer),
        Hold::Leaving(layer) => drop(claims.leaving.remove(&layer)),
        Hold::Bytes(account, bytes) => {
            if let Some(reserved) = claims.reserved.get_mut(&account) {
                *reserved = reserved.saturating_sub(bytes);
            }
        }
        Hold::ImageName(account, name) => drop(claims.image_names.remove(&(account, name))),
        Hold::Token(id) => drop(claims.tokens.remove(&id)),
    }
}

fn count_down<K: std::hash::Hash + Eq>(counts: &mut std::collections::HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
