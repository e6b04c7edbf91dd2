//! The instances that a call of several names.
//!
//! What must always hold: one named twice counts once, and a call names from one to a hundred.

use std::collections::BTreeSet;

use crate::{CloudError, Countable};

/// Instances in one call.
const MOST_INSTANCES: usize = 100;

/// Each once, in the order asked.
pub(super) fn each_once(instances: &[String]) -> Result<Vec<&str>, CloudError> {
    let mut seen = BTreeSet::new();
    let ids = instances.iter().map(String::as_str);
    let ids: Vec<_> = ids.filter(|id| seen.insert(*id)).collect();
    if ids.is_empty() {
        return Err(CloudError::Missing { parameter: "InstanceId" });
    }
    if ids.len() > MOST_INSTANCES {
        let what = Countable::InstanceIds;
        return Err(CloudError::TooMany { what, most: MOST_INSTANCES });
    }
    Ok(ids)
}
