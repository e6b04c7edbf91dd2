//! ReInitDisk, ResetDisk and ResetDisks.
//!
//! What must always hold: the request id of the answer is the one the ledger keeps with the reset; of
//! several disks each has its own row, in the order asked.

use cloud::{CloudError, ReInitDisk, ResetDisk, ResetDone, SecretText};

use super::codes::{
    CATEGORY, DISK_STATE, IN_SNAPSHOT, INITIAL_STATE, INSTANCE_STATE, LOGIN, NO_DISK, NO_SNAPSHOT,
    SOURCE_SNAPSHOT, UNPAID,
};
use super::contract::{REGION, flag, needed, text};
use super::shape::{PROGRESS, text_field};
use super::{Action, Call, Fields};
use crate::{refusal::Refusal, status, tree::Tree};

pub(super) const ACTIONS: &[Action] = &[
    Action::new("ReInitDisk", reinit)
        .that_is_instant()
        .takes(&[&[
            needed("DiskId"),
            flag("AutoStartInstance"),
            text("Password"),
            text("KeyPairName"),
            text("SecurityEnhancementStrategy"),
            flag("Keep").of_operator(),
        ]])
        .answers(&[&[text_field("SnapshotId").at_times().to_operator()]])
        .refuses(&[
            NO_DISK,
            CATEGORY,
            DISK_STATE,
            INSTANCE_STATE,
            UNPAID,
            IN_SNAPSHOT,
            INITIAL_STATE,
            LOGIN,
            // With `Keep`.
            &[("Operation.Conflict", 403), ("QuotaExceed.Snapshot", 403)],
        ]),
    Action::new("ResetDisk", reset).takes(&[&[needed("DiskId"), needed("SnapshotId")]]).refuses(&[
        NO_DISK,
        NO_SNAPSHOT,
        CATEGORY,
        DISK_STATE,
        INSTANCE_STATE,
        UNPAID,
        IN_SNAPSHOT,
        SOURCE_SNAPSHOT,
        &[("InvalidParameter.Mismatch", 403)],
    ]),
    Action::new("ResetDisks", reset_several)
        .takes(&[REGION, &[needed("Disk.N.DiskId"), needed("Disk.N.SnapshotId")]])
        .answers(&[&[PROGRESS]])
        .refuses(&[
            // Everything else is told disk by disk.
            &[("InvalidDiskIds.Malformed", 403)],
        ]),
];

/// Disks in one call.
const MOST_DISKS: usize = 100;

fn reinit(call: &Call<'_>) -> Result<Fields, Refusal> {
    let request = request_for(call, call.parameters.needed("DiskId")?)?;
    let done = call.ask(|cloud, caller| cloud.reinit_disk(caller, &request, call.request_id))?;
    call.note(&done);
    Ok(done.kept.into_iter().map(|snapshot| ("SnapshotId", snapshot.into())).collect())
}

/// What the call asks for one of its disks.
pub(super) fn request_for(call: &Call<'_>, disk: String) -> Result<ReInitDisk, Refusal> {
    let parameters = call.parameters;
    Ok(ReInitDisk {
        disk,
        auto_start: parameters.flag("AutoStartInstance")?.unwrap_or(false),
        password: parameters.text("Password").map(SecretText::new),
        key_pair: parameters.owned("KeyPairName"),
        security_enhancement: parameters.owned("SecurityEnhancementStrategy"),
        // No parameter of ECS: a client that sends one has it ignored.
        keep: call.caller.is_operator() && parameters.flag("Keep")?.unwrap_or(false),
    })
}

fn reset(call: &Call<'_>) -> Result<Fields, Refusal> {
    let request = ResetDisk {
        disk: call.parameters.needed("DiskId")?,
        snapshot: call.parameters.needed("SnapshotId")?,
    };
    let done = call.ask(|cloud, caller| cloud.reset_disk(caller, &request, call.request_id))?;
    call.note(&done);
    Ok(vec![])
}

/// A dry run in which nothing stands in the way is one error, as with other batches; else its rows say
/// what does.
fn reset_several(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let requests = reset_requests(call)?;
    let results = call.cloud.reset_disks(call.caller, &requests, call.request_id);
    results.iter().flatten().for_each(|done| call.note(done));
    // Not a matter of single disks.
    if let Some(Err(error @ CloudError::Forbidden { .. })) = results.first() {
        return Err(status::refusal(call.action, error));
    }
    if results.iter().all(|result| matches!(result, Err(CloudError::DryRunPassed))) {
        return Err(call.dry_run_passed());
    }
    let rows = requests.iter().zip(&results).map(|(request, result)| row(call, request, result));
    Ok(vec![("OperationProgressSet", Tree::list("OperationProgress", rows))])
}

fn reset_requests(call: &Call<'_>) -> Result<Vec<ResetDisk>, Refusal> {
    let numbers = call.parameters.numbers("Disk");
    if numbers.is_empty() {
        return Err(Refusal::missing("Disk.1.DiskId"));
    }
    if numbers.len() > MOST_DISKS {
        let message = format!("A call resets {MOST_DISKS} disks at most.");
        return Err(Refusal::new("InvalidDiskIds.Malformed", 403, message));
    }
    let request = |n| {
        Ok(ResetDisk {
            disk: call.parameters.needed(&format!("Disk.{n}.DiskId"))?,
            snapshot: call.parameters.needed(&format!("Disk.{n}.SnapshotId"))?,
        })
    };
    numbers.into_iter().map(request).collect()
}

fn row(call: &Call<'_>, request: &ResetDisk, result: &Result<ResetDone, CloudError>) -> Tree {
    let (outcome, code, message) = match result {
        Ok(_) | Err(CloudError::DryRunPassed) => ("Success", "", String::new()),
        Err(error) => {
            let refusal = status::refusal(call.action, error);
            ("Failed", refusal.code, refusal.message)
        }
    };
    Tree::object([
        ("OperationStatus", outcome.into()),
        ("ErrorCode", code.into()),
        ("ErrorMsg", message.into()),
        ("RelatedItemSet", related([("DiskId", &request.disk), ("SnapshotId", &request.snapshot)])),
    ])
}

/// What a row of an `OperationProgressSet` is about.
pub(super) fn related<const N: usize>(items: [(&str, &String); N]) -> Tree {
    let item = |(name, value): (&str, &String)| {
        Tree::object([("Name", name.into()), ("Value", value.into())])
    };
    Tree::list("RelatedItem", items.into_iter().map(item))
}
