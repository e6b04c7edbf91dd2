//! Device names on an instance: `/dev/xvda` for the system disk, then `/dev/xvdb` to `/dev/xvdz`.
//!
//! What must always hold: no two disks of an instance have the same device, those on their way
//! included.

use std::collections::BTreeSet;

use crate::{CloudError, Field, texts, world::World};

/// The device of every system disk.
pub(crate) const SYSTEM_DEVICE: &str = "/dev/xvda";

/// The device asked for, or the first free one, on an instance with these `taken`.
pub(crate) fn free_device(
    taken: &BTreeSet<String>,
    asked: Option<&str>,
) -> Result<String, CloudError> {
    let Some(asked) = texts::given(asked) else {
        let free = ('b'..='z').map(|letter| format!("/dev/xvd{letter}"));
        let first = free.into_iter().find(|device| !taken.contains(device));
        return first.ok_or_else(|| CloudError::DiskLimitExceeded { instance: String::new() });
    };
    let letter = asked.strip_prefix("/dev/xvd").filter(|rest| rest.len() == 1);
    if !letter.is_some_and(|letter| letter.starts_with(|c: char| ('b'..='z').contains(&c))) {
        let rule = "/dev/xvdb to /dev/xvdz";
        return Err(CloudError::Malformed { field: Field::Device, rule });
    }
    if taken.contains(asked) {
        return Err(CloudError::DeviceInUse { device: asked.into() });
    }
    Ok(asked.into())
}

/// A system disk has its device; no other can be asked for.
pub(crate) fn check_system_device(asked: Option<&str>) -> Result<(), CloudError> {
    if texts::given(asked).is_some_and(|asked| asked != SYSTEM_DEVICE) {
        let rule = "/dev/xvda for the system disk";
        return Err(CloudError::Malformed { field: Field::Device, rule });
    }
    Ok(())
}

impl World {
    /// The devices of an instance that are taken, or about to be.
    pub(crate) fn devices_of(&self, instance: &str) -> BTreeSet<String> {
        let attached = self
            .disks_of(instance)
            .into_iter()
            .filter_map(|disk| disk.attachment.as_ref().map(|place| place.device.clone()));
        let arriving = self.claims.arriving.values();
        let arriving = arriving.filter(|(to, _)| to == instance).map(|(_, device)| device.clone());
        attached.chain(arriving).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_device_is_chosen_and_odd_names_are_refused() {
        let taken = BTreeSet::from(["/dev/xvda".to_owned(), "/dev/xvdb".to_owned()]);
        assert_eq!(free_device(&taken, None).unwrap(), "/dev/xvdc");
        assert_eq!(free_device(&taken, Some("")).unwrap(), "/dev/xvdc");
        assert_eq!(free_device(&taken, Some("/dev/xvdz")).unwrap(), "/dev/xvdz");
        assert!(matches!(
            free_device(&taken, Some("/dev/xvdb")),
            Err(CloudError::DeviceInUse { .. })
        ));
        for bad in ["/dev/xvda", "/dev/xvdB", "/dev/xvdbb", "/dev/sdb", "/dev/xvd", "xvdb"] {
            assert!(free_device(&taken, Some(bad)).is_err(), "{bad}");
        }
    }
}
