//! StartInstances, StopInstances, RebootInstances.
//!
//! What must always hold: all together, either every instance changes or none does; each alone, what
//! becomes of one says nothing of the others.
//! Left to others: the change itself (`power`).

use super::{PowerChange, named::each_once};
use crate::{Caller, Cloud, CloudError, InstanceStatus};

/// `StartInstances` and the like.
#[derive(Clone, Debug)]
pub struct ChangePower {
    /// Which; one named twice counts once.
    pub instances: Vec<String>,
    /// What.
    pub change: PowerChange,
    /// Whether those that can change do so, whatever becomes of the others.
    pub each_alone: bool,
}

/// What became of one instance.
#[derive(Debug)]
pub struct PowerChanged {
    /// Which.
    pub instance: String,
    /// Before; none for an unknown one.
    pub before: Option<InstanceStatus>,
    /// Now.
    pub now: Option<InstanceStatus>,
    /// Why it was not changed, if so.
    pub result: Result<(), CloudError>,
}

impl Cloud {
    /// Starts, stops or reboots several instances; one answer each, in order.
    pub fn change_power(
        &self,
        caller: &Caller,
        request: &ChangePower,
    ) -> Result<Vec<PowerChanged>, CloudError> {
        // Not a matter of single instances.
        caller.may(request.change.right(), request.change.action())?;
        let ids = each_once(&request.instances)?;
        let change = request.change;
        let together = |ids: &[&str]| self.change_together(caller, change, ids);
        if !request.each_alone {
            together(&ids)?;
            return Ok(ids
                .into_iter()
                .map(|id| self.changed(caller, id, change, Ok(())))
                .collect());
        }
        let alone = |id| self.changed(caller, id, change, together(&[id]));
        Ok(ids.into_iter().map(alone).collect())
    }

    fn changed(
        &self,
        caller: &Caller,
        id: &str,
        change: PowerChange,
        result: Result<(), CloudError>,
    ) -> PowerChanged {
        let world = self.world();
        let found = world.instance(&caller.account, id).ok();
        let now = found.map(|found| world.instance_status(found));
        let before = if result.is_ok() { Some(change.from()) } else { now };
        PowerChanged { instance: id.into(), before, now, result }
    }
}
