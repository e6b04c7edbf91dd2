//! ReInitDisk and ResetDisk.
//!
//! What must always hold: the request id of the answer is the one the ledger keeps with the reset.

use cloud::{ReInitDisk, ResetDisk, SecretText};

use super::{Action, Call, Fields};
use crate::refusal::Refusal;

pub(super) const ACTIONS: &[Action] =
    &[Action::new("ReInitDisk", reinit), Action::new("ResetDisk", reset).with_dry_run()];

fn reinit(call: &Call<'_>) -> Result<Fields, Refusal> {
    let request = request_for(call, call.parameters.needed("DiskId")?)?;
    let done = call.ask(|cloud, caller| cloud.reinit_disk(caller, &request, call.request_id))?;
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
        dry_run: call.parameters.flag("DryRun")?.unwrap_or(false),
    };
    call.ask(|cloud, caller| cloud.reset_disk(caller, &request, call.request_id))?;
    Ok(vec![])
}
