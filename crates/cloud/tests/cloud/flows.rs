//! The two flows real clients walk through, step by step.

use cloud::{
    AttachDisk, CloudError, CreateDisk, CreateInstance, CreateSnapshot, DataDisk, DiskStatus, GIB,
    InstanceStatus, ReInitDisk, Role, SecretText,
};

use crate::lab::{Lab, MIB};

/// Instance with a data disk, stop, ReInitDisk, start.
#[test]
fn an_instance_is_used_stopped_reset_and_started_again() {
    use_stop_reset_start(&Lab::new());
}

#[test]
fn the_same_on_the_catalog_of_the_daemon() {
    use_stop_reset_start(&Lab::on_sled());
}

fn use_stop_reset_start(lab: &Lab) {
    let (key, image) = (lab.key(), lab.image(&lab.key(), "base", 1));
    let made = lab.instance(&key, &image);
    assert_eq!(lab.status(&key, &made.instance), Some(InstanceStatus::Stopped));
    assert!(matches!(lab.reinit(&made.system_disk), Err(CloudError::NeverStarted { .. })));

    lab.cloud.start_instance(&key, &made.instance).unwrap();
    assert_eq!(lab.status(&key, &made.instance), Some(InstanceStatus::Running));
    assert_eq!(lab.read(&made.system_disk), 1);
    lab.write(&made.system_disk, 7);
    lab.write(&made.data_disks[0], 8);

    lab.cloud.stop_instance(&key, &made.instance).unwrap();
    assert!(!lab.exports.is_open(&made.system_disk) && !lab.exports.is_open(&made.data_disks[0]));
    assert_eq!((lab.read(&made.system_disk), lab.read(&made.data_disks[0])), (7, 8));

    let before = lab.view(&made.system_disk).unwrap();
    let done = lab.reinit(&made.system_disk).unwrap();
    assert_eq!(done.epoch_after, done.epoch_before + 1);
    assert!(done.root.is_some() && !done.started);
    assert_eq!(lab.view(&made.system_disk).unwrap(), before, "id, size and device are unchanged");
    assert_eq!((lab.read(&made.system_disk), lab.read(&made.data_disks[0])), (1, 8));

    let restarting = ReInitDisk { auto_start: true, ..crate::lab::reinit(&made.data_disks[0]) };
    let id = cloud::Cloud::new_request_id();
    assert!(lab.cloud.reinit_disk(&key, &restarting, id).unwrap().started);
    assert_eq!(lab.status(&key, &made.instance), Some(InstanceStatus::Running));
    assert_eq!(lab.read(&made.data_disks[0]), 0);

    assert!(matches!(
        lab.cloud.delete_instance(&key, &made.instance, false),
        Err(CloudError::IncorrectInstanceStatus { .. })
    ));
    lab.cloud.delete_instance(&key, &made.instance, true).unwrap();
    assert_eq!(lab.status(&key, &made.instance), None);
    assert!(lab.view(&made.system_disk).is_none() && lab.view(&made.data_disks[0]).is_none());
    assert!(lab.cloud.store().disks().is_empty());
}

/// Snapshot, disk from it, attach, ReInitDisk, and what follows from deleting the snapshot.
#[test]
fn a_disk_from_a_snapshot_goes_back_to_it_until_it_is_deleted() {
    let lab = Lab::new();
    let (key, image) = (lab.key(), lab.image(&lab.key(), "base", 1));
    let made = lab.instance(&key, &image);
    lab.start(&made.instance);
    lab.write(&made.data_disks[0], 5);

    let request = CreateSnapshot { disk: made.data_disks[0].clone(), ..Default::default() };
    let snapshot = lab.cloud.create_snapshot(&key, &request).unwrap();
    assert!(lab.snapshot_status(&snapshot).is_some(), "listed at once");
    lab.wait_for_snapshot(&snapshot);

    let request = CreateDisk { snapshot: Some(snapshot.clone()), ..Default::default() };
    let disk = lab.cloud.create_disk(&key, &request).unwrap();
    let view = lab.view(&disk).unwrap();
    assert_eq!((view.size_gib(), view.status), (5, DiskStatus::Available));
    assert_eq!(view.source_snapshot(), Some(snapshot.as_str()));
    assert!(matches!(lab.reinit(&disk), Err(CloudError::IncorrectDiskStatus { .. })));

    let request =
        AttachDisk { disk: disk.clone(), instance: made.instance.clone(), ..Default::default() };
    lab.cloud.attach_disk(&key, &request).unwrap();
    assert_eq!(lab.disk_status(&disk), Some(DiskStatus::InUse));
    assert_eq!(lab.read(&disk), 5);
    lab.write(&disk, 9);
    lab.stop(&made.instance);
    lab.reinit(&disk).unwrap();
    assert_eq!(lab.read(&disk), 5);

    assert!(matches!(
        lab.cloud.delete_snapshot(&key, &snapshot, false),
        Err(CloudError::SnapshotCreatedDisk { .. })
    ));
    lab.cloud.delete_snapshot(&key, &snapshot, true).unwrap();
    assert!(matches!(lab.reinit(&disk), Err(CloudError::SourceSnapshotGone { .. })));

    lab.cloud.detach_disk(&key, &disk, &made.instance).unwrap();
    let view = lab.view(&disk).unwrap();
    assert_eq!((view.status, &view.attachment), (DiskStatus::Available, &None));
    assert!(view.detached.is_some());
    lab.cloud.delete_disk(&key, &disk).unwrap();
    assert!(lab.view(&disk).is_none());
}

/// The operator's own way: sizes that are no GiB, no image, several disks in one call.
#[test]
fn an_operator_resets_several_disks_with_one_sync() {
    let lab = Lab::new();
    let request = CreateInstance {
        system_disk: cloud::SystemDisk { size: Some(2 * MIB), ..Default::default() },
        data_disks: vec![DataDisk { size: Some(MIB), ..Default::default() }; 3],
        ..Default::default()
    };
    let made = lab.cloud.create_instance(&lab.operator(), &request).unwrap();
    lab.start(&made.instance);
    made.data_disks.iter().for_each(|disk| lab.write(disk, 3));
    lab.stop(&made.instance);

    let orders: Vec<_> = made.data_disks.iter().map(|disk| crate::lab::reinit(disk)).collect();
    for plan in lab.cloud.plan_reinit(&lab.operator(), &orders) {
        assert_eq!(plan.unwrap().dropped.get(), 8192);
    }
    let commits = lab.cloud.store().counters().ledger_commits;
    let mut twice = orders.clone();
    twice.push(orders[0].clone());
    let id = cloud::Cloud::new_request_id();
    let done = lab.cloud.reinit_disks(&lab.operator(), &twice, id);
    assert_eq!(lab.cloud.store().counters().ledger_commits, commits + 1);
    assert!(done[..3].iter().all(Result::is_ok));
    assert!(matches!(done[3], Err(CloudError::IncorrectDiskStatus { .. })), "named twice");
    assert!(made.data_disks.iter().all(|disk| lab.read(disk) == 0));

    let detail = lab.cloud.show_disk(&lab.operator(), &made.data_disks[0]).unwrap();
    assert_eq!(detail.epoch, 2);
    assert_eq!(detail.last_reset.unwrap().request_id, id.to_string());
    assert_eq!(detail.written_since_reset.get(), 0);
}

#[test]
fn roles_and_sizes_are_kept_to() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let read = cloud::Caller::key("default", Role::Read);
    let reset = cloud::Caller::key("default", Role::Reset);
    assert!(matches!(
        lab.reinit_as(&read, &made.system_disk),
        Err(CloudError::Forbidden { action: "ReInitDisk", .. })
    ));
    assert!(lab.reinit_as(&reset, &made.system_disk).is_ok());
    assert!(lab.cloud.start_instance(&reset, &made.instance).is_ok());
    assert!(matches!(
        lab.cloud.reboot_instance(&reset, &made.instance),
        Err(CloudError::Forbidden { .. })
    ));
    assert!(matches!(
        lab.cloud.delete_instance(&reset, &made.instance, true),
        Err(CloudError::Forbidden { .. })
    ));
    let small = CreateDisk { size: Some(GIB), ..Default::default() };
    assert!(matches!(
        lab.cloud.create_disk(&lab.key(), &small),
        Err(CloudError::SizeTooSmall { least: 5, .. })
    ));
    let none = CreateDisk::default();
    assert!(matches!(
        lab.cloud.create_disk(&lab.key(), &none),
        Err(CloudError::Missing { parameter: "Size" })
    ));
    let login = SecretText::new("Abcdefg1");
    assert!(!format!("{login:?}").contains("Abc"));
}
