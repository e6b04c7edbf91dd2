//! ModifyInstanceAttribute.

use super::ModifyInstance;
use crate::{Caller, Cloud, CloudError, Field, caller::Right, rules, texts};

impl Cloud {
    /// Changes names and texts of an instance.
    pub fn modify_instance(
        &self,
        caller: &Caller,
        request: &ModifyInstance,
    ) -> Result<(), CloudError> {
        caller.may(Right::Change, "ModifyInstanceAttribute")?;
        self.change_instance(caller, Some(&caller.account), &request.instance, |instance| {
            rules::not_locked(instance)?;
            if let Some(name) = &request.name {
                instance.name = texts::name(Field::InstanceName, Some(name))?;
            }
            if let Some(description) = &request.description {
                instance.description = texts::description(Some(description))?;
            }
            if let Some(host_name) = &request.host_name {
                instance.host_name = texts::host_name(Some(host_name))?;
            }
            if let Some(user_data) = &request.user_data {
                instance.user_data = texts::user_data(Some(user_data))?;
            }
            Ok(())
        })
    }
}
