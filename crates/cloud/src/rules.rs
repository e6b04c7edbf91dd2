//! Rules that several actions share: locks, money, quotas.
//!
//! What must always hold: a rule only looks; whoever asks holds the world's lock until the claim that
//! follows from the answer is taken.

use catalog::record::{ChargeType, Disk, Instance, Lock};

use crate::{CloudError, InstanceStatus, Quota, world::World};

/// The security lock of an instance.
pub(crate) fn not_locked(instance: &Instance) -> Result<(), CloudError> {
    if instance.locks.contains(&Lock::Security) {
        return Err(CloudError::InstanceLockedForSecurity { instance: instance.id.clone() });
    }
    Ok(())
}

/// An instance whose time is over, whose account owes, or that is locked for money.
pub(crate) fn instance_is_paid(
    world: &World,
    now: i64,
    instance: &Instance,
) -> Result<(), CloudError> {
    let locked = instance.locks.contains(&Lock::Financial);
    let unpaid = is_unpaid(world, now, &instance.account, instance.charge_type, instance.expires);
    if locked || unpaid { Err(unpaid_error(&instance.id)) } else { Ok(()) }
}

/// The same for a disk.
pub(crate) fn disk_is_paid(world: &World, now: i64, disk: &Disk) -> Result<(), CloudError> {
    let locked = disk.locks.contains(&Lock::Financial);
    let unpaid = is_unpaid(world, now, &disk.account, disk.charge_type, disk.expires);
    if locked || unpaid { Err(unpaid_error(&disk.id)) } else { Ok(()) }
}

/// An account that owes gets nothing new.
pub(crate) fn account_pays(world: &World, account: &str) -> Result<(), CloudError> {
    if world.account(account)?.in_arrears {
        return Err(CloudError::AccountInArrears { account: account.into() });
    }
    Ok(())
}

/// The account may hold so many more bytes of disks.
pub(crate) fn within_quota(world: &World, account: &str, more: u64) -> Result<(), CloudError> {
    let quota = world.account(account)?.quota_bytes;
    let wanted = world.bytes_of(account).saturating_add(more);
    if quota.is_some_and(|quota| wanted > quota) {
        return Err(CloudError::QuotaExceeded { what: Quota::DiskBytes });
    }
    Ok(())
}

/// The instance is in one of these states.
pub(crate) fn instance_is(
    world: &World,
    instance: &Instance,
    allowed: &[InstanceStatus],
) -> Result<InstanceStatus, CloudError> {
    let status = world.instance_status(instance);
    if allowed.contains(&status) {
        return Ok(status);
    }
    Err(CloudError::IncorrectInstanceStatus { instance: instance.id.clone(), status })
}

/// No disk of the instance, or on its way to it, is in a state between two.
pub(crate) fn disks_are_settled(world: &World, instance: &str) -> Result<(), CloudError> {
    let attached = world.disks_of(instance).into_iter().map(|disk| &disk.id);
    let arriving = world.claims.arriving.iter();
    let arriving = arriving.filter(|(_, (to, _))| to == instance).map(|(disk, _)| disk);
    for disk in attached.chain(arriving) {
        if let Some(status) = world.claims.disks.get(disk).copied() {
            let (disk, instance) = (disk.clone(), instance.into());
            return Err(CloudError::DiskError { disk, instance, status });
        }
    }
    Ok(())
}

fn is_unpaid(
    world: &World,
    now: i64,
    account: &str,
    charge_type: ChargeType,
    expires: Option<i64>,
) -> bool {
    match charge_type {
        ChargeType::PrePaid => expires.is_some_and(|expires| expires <= now),
        ChargeType::PostPaid => world.accounts.get(account).is_some_and(|owner| owner.in_arrears),
    }
}

fn unpaid_error(id: &str) -> CloudError {
    CloudError::ExpiredOrInArrears { id: id.into() }
}
