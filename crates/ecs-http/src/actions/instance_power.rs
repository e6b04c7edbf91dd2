//! Instances: started, stopped, rebooted, one by one or several in one call.
//!
//! There is no guest of ours to ask: `ForceStop` makes no difference, disks are flushed either way.

use cloud::{ChangePower, PowerChange, PowerChanged};

use super::codes::{Codes, INSTANCE_STATE, NO_INSTANCE, UNPAID};
use super::contract::{REGION, flag, needed, text};
use super::shape::{Field, list_field, text_field};
use super::{Action, Call, Fields};
use crate::{refusal::Refusal, status, tree::Tree};

pub(super) const ACTIONS: &[Action] = &[
    Action::new("StartInstance", |call| one(call, PowerChange::Start))
        .takes(&[&[needed("InstanceId"), flag("ForceStop")]])
        .refuses(&[NO_INSTANCE, INSTANCE_STATE, STARTED]),
    Action::new("StopInstance", |call| one(call, PowerChange::Stop))
        .takes(&[&[needed("InstanceId"), flag("ForceStop")]])
        .refuses(&[NO_INSTANCE, INSTANCE_STATE, UNPAID, &[("DiskError", 403)]]),
    Action::new("RebootInstance", |call| one(call, PowerChange::Reboot))
        .takes(&[&[needed("InstanceId"), flag("ForceStop")]])
        .refuses(&[NO_INSTANCE, INSTANCE_STATE, UNPAID, &[("DiskError", 403)]]),
    Action::new("StartInstances", |call| several(call, PowerChange::Start))
        .takes(&[REGION, &[text("BatchOptimization"), needed("InstanceId.N"), flag("ForceStop")]])
        .answers(&[&[CHANGED]])
        .refuses(&[NO_INSTANCE, INSTANCE_STATE, STARTED]),
    Action::new("StopInstances", |call| several(call, PowerChange::Stop))
        .takes(&[REGION, &[text("BatchOptimization"), needed("InstanceId.N"), flag("ForceStop")]])
        .answers(&[&[CHANGED]])
        .refuses(&[NO_INSTANCE, INSTANCE_STATE, UNPAID, &[("DiskError", 403)]]),
    Action::new("RebootInstances", |call| several(call, PowerChange::Reboot))
        .takes(&[REGION, &[text("BatchOptimization"), needed("InstanceId.N"), flag("ForceStop")]])
        .answers(&[&[CHANGED]])
        .refuses(&[NO_INSTANCE, INSTANCE_STATE, UNPAID, &[("DiskError", 403)]]),
];

/// What stands in the way of a start.
const STARTED: Codes = &[("DiskError", 403), ("InstanceExpired", 403)];

/// One row for each instance asked for.
const CHANGED: Field = list_field(
    "InstanceResponses",
    "InstanceResponse",
    &[&[
        text_field("InstanceId"),
        text_field("PreviousStatus"),
        text_field("CurrentStatus"),
        text_field("Code"),
        text_field("Message"),
    ]],
);

fn one(call: &Call<'_>, change: PowerChange) -> Result<Fields, Refusal> {
    let instances = vec![call.parameters.needed("InstanceId")?];
    run(call, change, instances, false).map(|_| vec![])
}

fn several(call: &Call<'_>, change: PowerChange) -> Result<Fields, Refusal> {
    call.check_region()?;
    let ways = [("AllTogether", false), ("SuccessFirst", true)];
    let each_alone = call.one_of("BatchOptimization", &ways, ("InvalidParameter", 400))?;
    let instances = call.parameters.list("InstanceId");
    let changed = run(call, change, instances, each_alone.unwrap_or(false))?;
    let rows = changed.iter().map(|one| row(call, one));
    Ok(vec![("InstanceResponses", Tree::list("InstanceResponse", rows))])
}

fn run(
    call: &Call<'_>,
    change: PowerChange,
    instances: Vec<String>,
    each_alone: bool,
) -> Result<Vec<PowerChanged>, Refusal> {
    call.parameters.flag("ForceStop")?;
    let request = ChangePower { instances, change, each_alone };
    call.ask(|cloud, caller| cloud.change_power(caller, &request))
}

fn row(call: &Call<'_>, changed: &PowerChanged) -> Tree {
    let (code, message) = match &changed.result {
        Ok(()) => ("200", "success".to_owned()),
        Err(error) => {
            let refusal = status::refusal(call.action, error);
            (refusal.code, refusal.message)
        }
    };
    let shown = |status: Option<cloud::InstanceStatus>| -> Tree {
        status.map(|status| status.to_string()).unwrap_or_default().into()
    };
    Tree::object([
        ("InstanceId", (&changed.instance).into()),
        ("PreviousStatus", shown(changed.before)),
        ("CurrentStatus", shown(changed.now)),
        ("Code", code.into()),
        ("Message", message.into()),
    ])
}
