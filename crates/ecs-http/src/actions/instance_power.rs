//! Instances: started, stopped, rebooted.

use super::{Action, Call, Fields};
use crate::refusal::Refusal;

pub(super) const ACTIONS: &[Action] = &[
    Action::new("StartInstance", start),
    Action::new("StopInstance", stop),
    Action::new("RebootInstance", reboot),
];

fn start(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("InstanceId")?;
    call.ask(|cloud, caller| cloud.start_instance(caller, &id))?;
    Ok(vec![])
}

/// There is no guest of ours to ask: `ForceStop` makes no difference, disks are flushed either way.
fn stop(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("InstanceId")?;
    call.parameters.flag("ForceStop")?;
    call.ask(|cloud, caller| cloud.stop_instance(caller, &id))?;
    Ok(vec![])
}

fn reboot(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("InstanceId")?;
    call.parameters.flag("ForceStop")?;
    call.ask(|cloud, caller| cloud.reboot_instance(caller, &id))?;
    Ok(vec![])
}
