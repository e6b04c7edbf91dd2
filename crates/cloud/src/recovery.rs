//! The start: what is there, and what was half done.
//!
//! What must always hold
//! 1. Every record is read before anything is settled; one that cannot be read stops the start.
//! 2. What has a mark in the store is finished or undone as the catalog says; what has none is
//!    reported and kept.
//! 3. A crash leaves an attached instance as it was: one recorded as running has its exports again.
//! 4. What waited for a reset counts if the ledger got there, else it is dropped.
//!
//! Left to others: the catalog's own recovery, the ledger's and the layers' (`block-store`).

use std::{collections::HashSet, thread};

use block_store::{LayerId, Named, Settled, Store};
use catalog::{
    Batch, Catalog, CatalogError, Records,
    record::{Disk, Import, Record, SnapshotStatus, Task, TaskStatus},
};

use crate::{
    Caller, Cloud, CloudError, DEFAULT_ACCOUNT,
    claim::Hold,
    client_token::Tokens,
    cloud::{disk_name, layer_name},
    instance::waits_for_start,
    world::{World, image_layers},
};

/// Everything the catalog holds.
pub(crate) fn load(catalog: &dyn Catalog) -> Result<World, CloudError> {
    Ok(World {
        accounts: by_id(catalog)?.collect(),
        keys: by_id(catalog)?.collect(),
        sessions: by_id(catalog)?.collect(),
        images: by_id(catalog)?.collect(),
        snapshots: by_id(catalog)?.collect(),
        snapshot_groups: by_id(catalog)?.collect(),
        disks: by_id(catalog)?.collect(),
        limits: by_id(catalog)?.collect(),
        instances: by_id(catalog)?.collect(),
        tasks: by_id(catalog)?.collect(),
        tokens: Tokens::load(catalog.all()?),
        ..World::default()
    })
}

fn by_id<R: Record>(
    catalog: &dyn Catalog,
) -> Result<impl Iterator<Item = (String, R)>, CatalogError> {
    Ok(catalog.all::<R>()?.into_iter().map(|record| (record.id(), record)))
}

/// Brings store and catalog together, and learns the disks' sizes. The first start on an imported
/// catalog, which may be older than the store, sweeps nothing.
pub(crate) fn settle(
    store: &Store,
    catalog: &dyn Catalog,
    world: &mut World,
) -> Result<(), CloudError> {
    let disks: HashSet<_> = world.disks.keys().map(|id| disk_name(id)).collect::<Result<_, _>>()?;
    let layers: HashSet<LayerId> = world.layers().collect();
    let named = Named { disks, layers };
    if catalog.get::<Import>(Import::ID)?.is_some() {
        tracing::warn!("the catalog was imported: nothing is swept until the next start");
        report(&store.settle_keeping_all(&named)?);
        let mut seen = Batch::new();
        seen.delete::<Import>(Import::ID);
        catalog.commit(&seen, &[])?;
    } else {
        report(&store.settle(&named)?);
    }
    for id in world.disks.keys() {
        // One the ledger does not know stays listed, with no size; it was reported above.
        if let Ok(info) = store.disk(&disk_name(id)?) {
            world.sizes.insert(id.clone(), info.size.get());
        }
    }
    Ok(())
}

fn report(settled: &Settled) {
    for what in &settled.finished {
        tracing::info!(%what, "finished what was half done");
    }
    for what in &settled.undone {
        tracing::info!(%what, "undid what was half done");
    }
    for disk in &settled.missing_disks {
        tracing::error!(%disk, "the catalog names a disk that the ledger does not know");
    }
    for disk in &settled.orphan_disks {
        tracing::warn!(%disk, "the ledger holds a disk that the catalog does not know; it is kept");
    }
    for layer in &settled.orphan_layers {
        tracing::warn!(%layer, "a layer that nothing names is kept");
    }
    for name in &settled.foreign {
        tracing::warn!(%name, "a file in the store that is none of ours is left alone");
    }
}

/// Goes on with what was in progress.
pub(crate) fn resume(cloud: &Cloud) -> Result<(), CloudError> {
    ensure_default_account(cloud)?;
    cloud.settle_exports();
    fail_interrupted_tasks(cloud)?;
    drop_unreached_resets(cloud)?;
    reopen_exports(cloud);
    start_after_resets(cloud);
    resume_snapshots(cloud);
    Ok(())
}

fn ensure_default_account(cloud: &Cloud) -> Result<(), CloudError> {
    cloud.ensure_account(&Caller::operator(DEFAULT_ACCOUNT), DEFAULT_ACCOUNT).map(drop)
}

/// Their work left nothing behind: the store or `settle_exports` undid it.
fn fail_interrupted_tasks(cloud: &Cloud) -> Result<(), CloudError> {
    let interrupted: Vec<Task> = cloud
        .world()
        .tasks
        .values()
        .filter(|task| task.status == TaskStatus::Processing)
        .map(|task| Task {
            status: TaskStatus::Failed,
            finished: Some(cloud.now_seconds()),
            error_code: format!("{}Failed", task.action),
            error_message: "the daemon ended before the task did".into(),
            ..task.clone()
        })
        .collect();
    for task in interrupted {
        cloud.commit_task(&task)?;
        cloud.world().tasks.insert(task.id.clone(), task);
    }
    Ok(())
}

fn drop_unreached_resets(cloud: &Cloud) -> Result<(), CloudError> {
    let waiting: Vec<Disk> = {
        let world = cloud.world();
        world.disks.values().filter(|disk| disk.pending_reset.is_some()).cloned().collect()
    };
    for disk in waiting {
        let Ok(info) = cloud.inner.store.disk(&disk_name(&disk.id)?) else { continue };
        let reached = disk
            .pending_reset
            .as_ref()
            .is_some_and(|pending| info.sequence >= pending.ledger_sequence);
        if reached {
            continue;
        }
        let dropped = Disk { pending_reset: cloud.without_reset(&disk)?, ..disk };
        let mut batch = Batch::new();
        batch.put(&dropped)?;
        cloud.commit(&batch)?;
        cloud.world().disks.insert(dropped.id.clone(), dropped);
    }
    Ok(())
}

/// Threads that open disks at the start: most of that is waiting for the device.
const OPENERS: usize = 8;

fn reopen_exports(cloud: &Cloud) {
    let disks = cloud.running_disks();
    let share = disks.len().div_ceil(OPENERS).max(1);
    thread::scope(|scope| {
        for some in disks.chunks(share) {
            let open = || cloud.open_exports_of(some);
            // Where the system gives no more threads, this one does it.
            if thread::Builder::new().spawn_scoped(scope, open).is_err() {
                open();
            }
        }
    });
}

/// Resets that are done and whose auto-start the end of the daemon came before.
fn start_after_resets(cloud: &Cloud) {
    let world = cloud.world();
    let waiting = world.disks.values().filter(|disk| waits_for_start(disk));
    let instances: HashSet<_> = waiting
        .filter_map(|disk| {
            let place = disk.attachment.as_ref()?;
            Some((disk.account.clone(), place.instance.clone()))
        })
        .collect();
    drop(world);
    for (account, instance) in instances {
        cloud.start_or_give_up(&account, &instance);
    }
}

/// Their hashes are made from the beginning.
fn resume_snapshots(cloud: &Cloud) {
    let mut world = cloud.world();
    let interrupted = world
        .snapshots
        .values()
        .filter(|snapshot| snapshot.status == SnapshotStatus::Progressing)
        .filter_map(|snapshot| {
            Some((snapshot.id.clone(), snapshot.disk.clone(), layer_name(snapshot.layer?)))
        });
    let interrupted: Vec<_> = interrupted.collect();
    let claimed: Vec<_> = interrupted
        .into_iter()
        .map(|(id, disk, layer)| {
            (id, layer, cloud.claim_unasked(&mut world, vec![Hold::Snapshotting(disk)]))
        })
        .collect();
    drop(world);
    for (id, layer, claim) in claimed {
        cloud.hash_in_background(id, layer, claim);
    }
}

impl World {
    /// The layers that records name.
    pub(crate) fn layers(&self) -> impl Iterator<Item = LayerId> {
        let images = self.images.values().flat_map(image_layers);
        let snapshots = self.snapshots.values().filter_map(|snapshot| snapshot.layer);
        images.chain(snapshots).map(layer_name)
    }
}
