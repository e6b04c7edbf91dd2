//! ReInitDisk: a disk back to its initial state, with all its rules.
//!
//! What must always hold
//! 1. The rules are checked in the order of the table (rows 1 to 11) and a refused call changed
//!    nothing.
//! 2. A plain call commits nothing to the catalog: the ledger record is the receipt, and the state
//!    `ReIniting` lives in a claim in memory.
//! 3. A call with a password, a key pair or auto-start commits these first, as pending on the ledger
//!    sequence the reset will get: after a crash they count if the ledger got there, else they are
//!    dropped (`recovery`).
//! 4. With `keep` the snapshot of what the disk holds is durable before anything of the reset is. Both
//!    are claimed in one step, so that no other call comes between; the hashes are not waited for.
//! 5. Several disks share one sync of the ledger. Each is atomic, the batch is not.
//!
//! Left to others: fencing, the ledger and the swap (`reinit`), rows 8 to 11 (`source`).

use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};

use block_device::ByteLength;
use block_store::{ContentRoot, RequestId, ResetReceipt};
use catalog::{
    Batch,
    record::{Disk, Instance, Origin, PendingReset, RootBytes},
};
use reinit::ResetOrder;

use crate::{
    Caller, Cloud, CloudError, DiskStatus, InstanceStatus, LastReset, SecretText,
    caller::Right,
    claim::{Claim, Hold},
    client_token::TokenSlot,
    cloud::disk_name,
    disk::Category,
    first_boot::FirstBoot,
    keep, rules, security_layer,
    source::{self, Found},
    world::World,
};

/// `ReInitDisk`.
#[derive(Clone, Debug, Default)]
pub struct ReInitDisk {
    /// The disk.
    pub disk: String,
    /// Whether its instance is started afterwards.
    pub auto_start: bool,
    /// For the first boot afterwards; kept sealed.
    pub password: Option<SecretText>,
    /// In place of a password.
    pub key_pair: Option<String>,
    /// `Active` or `Deactive`, as given.
    pub security_enhancement: Option<String>,
    /// Takes a snapshot first: the way back.
    pub keep: bool,
}

/// A reset that is done and durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetDone {
    /// The disk.
    pub disk: String,
    /// Its instance.
    pub instance: String,
    /// Of the call; the ledger holds it too.
    pub request_id: RequestId,
    /// Before.
    pub epoch_before: u64,
    /// Now.
    pub epoch_after: u64,
    /// The root over the content it went back to, where that is known.
    pub root: Option<RootBytes>,
    /// From the rule check to the durable ledger record.
    pub elapsed: Duration,
    /// When its ledger record was durable: the rest of the time is the answer's.
    pub durable: Instant,
    /// Whether its instance was started, as asked. The reset is done also when that failed.
    pub started: bool,
    /// The snapshot of what it held before, if that was asked for.
    pub kept: Option<String>,
    /// The ledger's receipt, with the names people know.
    pub receipt: LastReset,
}

/// What a reset would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedReset {
    /// The disk.
    pub disk: String,
    /// Now.
    pub epoch_before: u64,
    /// What was written since the last reset, and would be dropped.
    pub dropped: ByteLength,
    /// The root over the content it would go back to, where that is known.
    pub root: Option<RootBytes>,
}

impl Cloud {
    /// Puts one disk back to its initial state.
    pub fn reinit_disk(
        &self,
        caller: &Caller,
        request: &ReInitDisk,
        request_id: RequestId,
    ) -> Result<ResetDone, CloudError> {
        let mut done = self.reinit_disks(caller, std::slice::from_ref(request), request_id);
        done.pop().expect("one answer for one request")
    }

    /// Puts several disks back with one sync: each is atomic, the batch is not. One answer each, in
    /// order.
    pub fn reinit_disks(
        &self,
        caller: &Caller,
        requests: &[ReInitDisk],
        request_id: RequestId,
    ) -> Vec<Result<ResetDone, CloudError>> {
        let ready = requests.iter().map(|request| self.ready_reinit(caller, request, request_id));
        self.apply_resets(ready.collect())
    }

    /// What these resets would do, or what stands against them. Nothing changes.
    pub fn plan_reinit(
        &self,
        caller: &Caller,
        requests: &[ReInitDisk],
    ) -> Vec<Result<PlannedReset, CloudError>> {
        requests.iter().map(|request| self.plan_one(caller, request)).collect()
    }

    fn plan_one(&self, caller: &Caller, request: &ReInitDisk) -> Result<PlannedReset, CloudError> {
        caller.may(Right::Reset, "ReInitDisk")?;
        self.check_parameters(request)?;
        let world = self.world_when(|world| world.is_quiet_behind(&request.disk));
        let (_, _, found) = self.check_reinit(&world, caller, request)?;
        if request.keep {
            self.check_keep(&world, caller, &request.disk)?;
        }
        drop(world);
        let order = self.order(&request.disk, &found, Self::new_request_id())?;
        let mut plans = self.inner.engine.plan(&[order]);
        let plan = plans.pop().expect("one plan for one order")?;
        Ok(PlannedReset {
            disk: request.disk.clone(),
            epoch_before: plan.epoch_before.get(),
            dropped: plan.dropped,
            root: found.root,
        })
    }

    /// Rules, claim, and what must be durable before the reset.
    fn ready_reinit(
        &self,
        caller: &Caller,
        request: &ReInitDisk,
        request_id: RequestId,
    ) -> Result<ReadyReset, CloudError> {
        let begun = Instant::now();
        caller.may(Right::Reset, "ReInitDisk")?;
        self.check_parameters(request)?;
        let mut world = self.world_when(|world| world.is_quiet_behind(&request.disk));
        let (disk, instance, found) = self.check_reinit(&world, caller, request)?;
        let (disk, instance) = (disk.clone(), instance.id.clone());
        // The last rules: from here on nothing but a failure stands in the way.
        let keeping = match request.keep {
            true => Some(self.ready_keep(&mut world, caller, &disk.id, request_id)?),
            false => None,
        };
        let claim = self.claim_reset(caller, &mut world, &disk, &found)?;
        drop(world);
        let order = self.order(&disk.id, &found, request_id)?;
        let kept = keeping.map(|ready| self.seal_snapshot(ready, &mut TokenSlot::none()));
        let kept = kept.transpose()?;
        let pending = self.commit_pending(&disk, request);
        let pending = pending.map_err(|error| keep::but_not_reset(kept.clone(), error))?;
        let (auto_start, root, origin) = (request.auto_start, found.root, disk.origin.clone());
        Ok(ReadyReset {
            begun,
            disk,
            instance,
            order,
            claim,
            pending,
            auto_start,
            root,
            origin,
            kept,
        })
    }

    fn check_parameters(&self, request: &ReInitDisk) -> Result<(), CloudError> {
        security_layer::is_active(request.security_enhancement.as_deref())?;
        self.check_login(request.password.as_ref(), request.key_pair.as_deref())
    }

    /// Rows 1 to 11, and then whether there is a security layer if one is asked for.
    fn check_reinit<'w>(
        &self,
        world: &'w World,
        caller: &Caller,
        request: &ReInitDisk,
    ) -> Result<(&'w Disk, &'w Instance, Found), CloudError> {
        let disk = world.disk(&caller.account, &request.disk)?;
        let instance = self.check_resettable(world, disk)?;
        if !instance.ever_started {
            return Err(CloudError::NeverStarted { instance: instance.id.clone() });
        }
        not_in_a_snapshot(world, disk)?;
        let plain = source::initial(world, self.snapshot_cutoff(), disk)?;
        let found = match security_layer::is_active(request.security_enhancement.as_deref())? {
            true => security_layer::for_reset(world, disk)?,
            false => plain,
        };
        Ok((disk, instance, found))
    }

    /// Rows 2 to 6 without the last part of row 6; what ReInitDisk and ResetDisk share.
    pub(crate) fn check_resettable<'w>(
        &self,
        world: &'w World,
        disk: &Disk,
    ) -> Result<&'w Instance, CloudError> {
        if Category::of(&disk.category).is_none_or(Category::is_ephemeral) {
            let (disk, category) = (disk.id.clone(), disk.category.clone());
            return Err(CloudError::CategoryNotSupported { disk, category });
        }
        let status = world.disk_status(disk);
        let attachment = disk.attachment.as_ref().filter(|_| status == DiskStatus::InUse);
        let Some(attachment) = attachment else {
            return Err(CloudError::IncorrectDiskStatus { disk: disk.id.clone(), status });
        };
        let instance = world.instance(&disk.account, &attachment.instance)?;
        rules::not_locked(instance)?;
        rules::instance_is_paid(world, self.now_seconds(), instance)?;
        rules::disk_is_paid(world, self.now_seconds(), disk)?;
        rules::instance_is(world, instance, &[InstanceStatus::Stopped])?;
        Ok(instance)
    }

    pub(crate) fn snapshot_cutoff(&self) -> i64 {
        self.inner.settings.snapshot_cutoff.as_second()
    }

    /// The disk is `ReIniting`, and what it goes to cannot go away.
    pub(crate) fn claim_reset(
        &self,
        caller: &Caller,
        world: &mut World,
        disk: &Disk,
        found: &Found,
    ) -> Result<Claim, CloudError> {
        let mut holds = vec![Hold::Disk(disk.id.clone(), DiskStatus::ReIniting)];
        holds.extend(found.holds());
        self.claim(caller, world, holds)
    }

    pub(crate) fn order(
        &self,
        disk: &str,
        found: &Found,
        request_id: RequestId,
    ) -> Result<ResetOrder, CloudError> {
        Ok(ResetOrder {
            disk: disk_name(disk)?,
            source: found.source,
            request_id,
            time: SystemTime::try_from(self.now()).map_err(CloudError::internal)?,
        })
    }

    /// The changed record, if the request asks for more than the reset.
    fn commit_pending(
        &self,
        disk: &Disk,
        request: &ReInitDisk,
    ) -> Result<Option<Disk>, CloudError> {
        let first_boot = FirstBoot::of(request.password.as_ref(), request.key_pair.as_deref());
        if first_boot.is_none() && !request.auto_start {
            return Ok(None);
        }
        let sealed = self.first_boot_after(first_boot, disk)?;
        // Nothing but this reset moves the ledger of the disk: it is claimed, its instance is
        // stopped, and opening it settled what a crash may have left.
        let name = disk_name(&disk.id)?;
        drop(self.inner.store.open_disk(&name)?);
        let sequence = self.inner.store.disk(&name)?.sequence + 1;
        let pending = PendingReset {
            ledger_sequence: sequence,
            auto_start: request.auto_start,
            sealed_first_boot: sealed,
        };
        let changed = Disk { pending_reset: Some(pending), ..disk.clone() };
        let mut batch = Batch::new();
        batch.put(&changed)?;
        self.commit(&batch)?;
        Ok(Some(changed))
    }

    /// One sync for all that may; the answers in the order asked.
    pub(crate) fn apply_resets(
        &self,
        ready: Vec<Result<ReadyReset, CloudError>>,
    ) -> Vec<Result<ResetDone, CloudError>> {
        let orders: Vec<_> = ready.iter().flatten().map(|ready| ready.order.clone()).collect();
        let mut receipts = self.inner.engine.apply(&orders).into_iter();
        let durable = Instant::now();
        let mut to_start = Vec::new();
        let mut answer = |ready: ReadyReset| {
            let receipt = receipts.next().expect("one receipt for each order");
            if ready.auto_start && receipt.is_ok() {
                to_start.push((ready.disk.account.clone(), ready.instance.clone()));
            }
            match receipt {
                Ok(receipt) => Ok(self.finish_reset(ready, &receipt, durable)),
                Err(error) => {
                    let error = self.abandon_reset(&ready, error.into());
                    Err(keep::but_not_reset(ready.kept, error))
                }
            }
        };
        let mut answers: Vec<_> =
            ready.into_iter().map(|ready| ready.and_then(&mut answer)).collect();
        // Only now: no disk of these instances is `ReIniting` any more.
        for (account, instance) in to_start {
            self.start_after_reset(&account, &instance, &mut answers);
        }
        answers
    }

    fn finish_reset(
        &self,
        ready: ReadyReset,
        receipt: &ResetReceipt,
        durable: Instant,
    ) -> ResetDone {
        let elapsed = durable.duration_since(ready.begun);
        let kept_receipt = self.receipt(&ready, receipt);
        let ReadyReset { disk, instance, order, claim, pending, root, kept, .. } = ready;
        claim.publish(|world| {
            if let Some(changed) = pending {
                world.disks.insert(changed.id.clone(), changed);
            }
        });
        ResetDone {
            disk: disk.id,
            instance,
            request_id: order.request_id,
            epoch_before: receipt.epoch_before.get(),
            epoch_after: receipt.epoch_after.get(),
            root,
            elapsed,
            durable,
            started: false,
            kept,
            receipt: kept_receipt,
        }
    }

    /// What `show_disk` tells of the reset from now on, without a look at any layer's files.
    fn receipt(&self, ready: &ReadyReset, receipt: &ResetReceipt) -> LastReset {
        let of_zeros = || {
            // The claim is still held: the disk cannot be gone, nor have another size.
            let size = self.inner.store.disk(&ready.order.disk).ok()?.size;
            Some(ContentRoot::new(size).finish().to_bytes())
        };
        LastReset {
            request_id: receipt.request_id.to_string(),
            time: jiff::Timestamp::try_from(receipt.time).unwrap_or_default(),
            epoch_before: receipt.epoch_before.get(),
            epoch_after: receipt.epoch_after.get(),
            origin: Some(ready.origin.clone()),
            root: if receipt.base.is_some() { ready.root } else { of_zeros() },
        }
    }

    /// What waited for the reset must not be found waiting for a later ledger record. Where nobody
    /// knows whether the reset happened, it goes on waiting: the next start finds out.
    fn abandon_reset(&self, ready: &ReadyReset, error: CloudError) -> CloudError {
        if ready.pending.is_none() || matches!(error, CloudError::Unavailable { .. }) {
            return error;
        }
        let mut batch = Batch::new();
        let undone = batch.put(&ready.disk).map(drop).map_err(CloudError::from);
        if let Err(error) = undone.and_then(|()| self.commit(&batch)) {
            tracing::error!(disk = %ready.disk.id, %error, "a pending reset stays recorded");
        }
        error
    }

    /// The resets are done and stay done whatever comes of this.
    fn start_after_reset(
        &self,
        account: &str,
        instance: &str,
        answers: &mut [Result<ResetDone, CloudError>],
    ) {
        if self.start_or_give_up(account, instance) {
            let of_it = answers.iter_mut().flatten().filter(|done| done.instance == instance);
            of_it.for_each(|done| done.started = true);
        }
    }
}

/// A reset whose rules were checked and whose claim is held.
pub(crate) struct ReadyReset {
    pub(crate) begun: Instant,
    pub(crate) disk: Disk,
    pub(crate) instance: String,
    pub(crate) order: ResetOrder,
    pub(crate) claim: Claim,
    /// The record with what waits for the reset, already durable.
    pub(crate) pending: Option<Disk>,
    pub(crate) auto_start: bool,
    pub(crate) root: Option<RootBytes>,
    /// What it goes back to.
    pub(crate) origin: Origin,
    /// The snapshot that was taken first.
    pub(crate) kept: Option<String>,
}

impl fmt::Debug for ReadyReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyReset").field("disk", &self.disk.id).finish_non_exhaustive()
    }
}

/// Row 7.
pub(crate) fn not_in_a_snapshot(world: &World, disk: &Disk) -> Result<(), CloudError> {
    if world.claims.snapshotting.contains(&disk.id) {
        return Err(CloudError::DiskCreatingSnapshot { disk: disk.id.clone() });
    }
    Ok(())
}
