//! ReplaceSystemDisk: refused in the order of its codes, done in one step.

use block_device::DiskId;
use catalog::{Records, record::Disk};
use cloud::{
    Caller, CloudError, CreateSnapshot, DescribeInstances, DiskStatus, Field, GIB, InstanceCreated,
    InstanceStatus, Lock, ReplaceSystemDisk, Resource, SecretText, SetAccount,
};

use crate::lab::{Lab, wait};

fn ask(instance: &str, image: &str) -> ReplaceSystemDisk {
    ReplaceSystemDisk { instance: instance.into(), image: image.into(), ..Default::default() }
}

fn replace(lab: &Lab, request: &ReplaceSystemDisk) -> Result<String, CloudError> {
    lab.cloud.replace_system_disk(&lab.key(), request)
}

fn with(request: &ReplaceSystemDisk, change: impl Fn(&mut ReplaceSystemDisk)) -> ReplaceSystemDisk {
    let mut changed = request.clone();
    change(&mut changed);
    changed
}

#[test]
fn the_new_disk_takes_the_place_of_the_old() {
    let lab = Lab::new();
    let (first, second) = (lab.image(&lab.key(), "one", 1), lab.image(&lab.key(), "two", 2));
    let made = lab.instance(&lab.key(), &first);
    lab.start(&made.instance);
    lab.write(&made.system_disk, 7);
    lab.write(&made.data_disks[0], 8);
    let snapshot = lab.snapshot(&made.system_disk);
    lab.stop(&made.instance);
    let request = ReplaceSystemDisk {
        size: Some(3 * GIB),
        password: Some(SecretText::new("Passw0rd!")),
        client_token: Some("token".into()),
        ..ask(&made.instance, &second)
    };
    let old = lab.view(&made.system_disk).unwrap();
    let new = replace(&lab, &request).unwrap();
    assert_ne!(new, made.system_disk);
    assert_eq!(replace(&lab, &request).unwrap(), new, "the same token, the same answer");
    let other = with(&request, |request| request.password = Some(SecretText::new("Passw0rd?")));
    assert!(matches!(lab.refused(|| replace(&lab, &other)), CloudError::TokenMismatch { .. }));

    let lab = lab.crashed();
    assert!(lab.view(&made.system_disk).is_none());
    assert!(!lab.cloud.store().disks().contains(&made.system_disk.parse::<DiskId>().unwrap()));
    let view = lab.view(&new).unwrap();
    assert_eq!((view.size.get(), view.status), (3 * GIB, DiskStatus::InUse));
    assert_eq!(view.source_image(), Some(second.as_str()));
    assert_eq!(view.category, old.category);
    let place = (view.attachment.unwrap().device, view.delete_with_instance, view.portable);
    assert_eq!(place, (old.attachment.unwrap().device, true, false));
    let record: Disk = lab.catalog.get(&new).unwrap().unwrap();
    let sealed = record.pending_reset.unwrap().sealed_first_boot;
    assert!(!sealed.is_empty() && !sealed.windows(9).any(|part| part == b"Passw0rd!"));
    assert_eq!((lab.read(&new), lab.read(&made.data_disks[0])), (2, 8));
    assert!(lab.snapshot_status(&snapshot).is_some());
    let asked = DescribeInstances { ids: Some(vec![made.instance.clone()]), ..Default::default() };
    let shown = lab.cloud.describe_instances(&lab.key(), &asked).unwrap().items.remove(0);
    assert_eq!((shown.image, shown.system_disk), (second, Some(new.clone())));

    // It is a system disk like any other.
    lab.start(&made.instance);
    lab.write(&new, 9);
    lab.stop(&made.instance);
    lab.reinit(&new).unwrap();
    assert_eq!(lab.read(&new), 2);
    lab.cloud.delete_image(&lab.key(), &first, false).unwrap();
    lab.cloud.delete_instance(&lab.key(), &made.instance, false).unwrap();
    assert!(lab.view(&new).is_none());
}

#[test]
fn a_crash_leaves_exactly_one_system_disk() {
    let (lab, gate) = Lab::gated();
    let (first, second) = (lab.image(&lab.key(), "one", 1), lab.image(&lab.key(), "two", 2));
    let made = lab.used_instance(&lab.key(), &first);
    let (before, after, new) = lab.crashed_around(&gate, || {
        assert_eq!(lab.cloud.store().disks().len(), 2, "before anything is made");
        replace(&lab, &ask(&made.instance, &second)).unwrap()
    });
    let holds = |lab: &Lab, disk: &str, byte: u8| {
        assert_eq!(lab.cloud.store().disks().len(), 2);
        assert_eq!((lab.disk_status(disk), lab.read(disk)), (Some(DiskStatus::InUse), byte));
        lab.start(&made.instance);
        assert!(lab.exports.is_open(disk));
    };
    holds(&before, &made.system_disk, 1);
    holds(&after, &new, 2);
    holds(&lab, &new, 2);
}

#[test]
fn the_refusals_in_their_order() {
    let lab = Lab::with(|settings| settings.hash_bandwidth = Some(100));
    let (first, second) = (lab.image(&lab.key(), "one", 1), lab.image(&lab.key(), "two", 2));
    let made: InstanceCreated = lab.instance(&lab.key(), &first);
    let stranger = lab.other("stranger");
    let theirs = lab.image(&stranger, "theirs", 3);
    let base = ask(&made.instance, &second);
    lab.start(&made.instance);
    lab.cloud.lock_instance(&lab.operator(), &made.instance, Lock::Financial).unwrap();
    let refused = |change: &dyn Fn(&mut ReplaceSystemDisk)| {
        lab.refused(|| replace(&lab, &with(&base, change)))
    };

    // Each with all that is due later still in the way.
    assert!(matches!(
        refused(&|request| request.security_enhancement = Some("Active".into())),
        CloudError::SecurityEnhancementRefused { .. }
    ));
    assert!(matches!(
        refused(&|request| request.password = Some(SecretText::new("short"))),
        CloudError::Malformed { field: Field::Password, .. }
    ));
    assert!(matches!(
        refused(&|request| *request = ask("i-unknown", &second)),
        CloudError::NotFound { kind: Resource::Instance, .. }
    ));
    assert!(matches!(
        lab.refused(|| lab.cloud.replace_system_disk(&stranger, &base)),
        CloudError::NotFound { kind: Resource::Instance, .. }
    ));
    for disk in ["d-unknown", &made.data_disks[0]] {
        assert!(matches!(
            refused(&|request| request.disk = Some(disk.into())),
            CloudError::NotFound { kind: Resource::Disk, .. }
        ));
    }
    assert!(matches!(
        refused(&|request| request.image = theirs.clone()),
        CloudError::NotFound { kind: Resource::Image, .. }
    ));
    assert!(matches!(
        refused(&|request| request.size = Some(0)),
        CloudError::SizeTooSmall { field: Field::SystemDiskSize, .. }
    ));
    assert!(matches!(
        refused(&|request| request.size = Some(4096 * GIB)),
        CloudError::SizeTooLarge { field: Field::SystemDiskSize, .. }
    ));
    assert!(matches!(refused(&|_| ()), CloudError::ExpiredOrInArrears { .. }));
    lab.cloud.unlock_instance(&lab.operator(), &made.instance, None).unwrap();
    assert!(matches!(
        refused(&|_| ()),
        CloudError::IncorrectInstanceStatus { status: InstanceStatus::Running, .. }
    ));
    lab.write(&made.system_disk, 7);
    let request = CreateSnapshot { disk: made.system_disk.clone(), ..Default::default() };
    lab.cloud.create_snapshot(&lab.key(), &request).unwrap();
    lab.stop(&made.instance);
    assert!(matches!(refused(&|_| ()), CloudError::DiskCreatingSnapshot { .. }));

    let lab = lab.restart(|settings| settings.hash_bandwidth = None);
    wait(|| lab.reinit(&made.system_disk).is_ok());
    let quota = SetAccount { quota_bytes: Some(Some(6 * GIB)), ..Default::default() };
    lab.cloud.set_account(&lab.operator(), "default", &quota).unwrap();
    let larger = with(&base, |request| request.size = Some(2 * GIB));
    assert!(matches!(lab.refused(|| replace(&lab, &larger)), CloudError::QuotaExceeded { .. }));
    // The old disk's bytes count no more; nor does a security lock stand in the way.
    lab.cloud.lock_instance(&lab.operator(), &made.instance, Lock::Security).unwrap();
    let new = replace(&lab, &base).unwrap();
    assert_eq!(lab.read(&new), 2);
    let reset_only = Caller::key("default", cloud::Role::Reset);
    assert!(matches!(
        lab.refused(|| lab.cloud.replace_system_disk(&reset_only, &base)),
        CloudError::Forbidden { .. }
    ));
}
