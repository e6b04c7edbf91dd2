//! ReInitDisk refused: each of the eleven rows, for real, and nothing changed by it.

use cloud::{
    Caller, CloudError, CreateInstance, CreateSnapshot, DataDisk, DiskStatus, GIB, InstanceStatus,
    Lock, Resource, SetAccount, ShareImage,
};

use crate::lab::Lab;

macro_rules! assert_refused {
    ($lab:expr, $call:expr, $pattern:pat $(if $guard:expr)?) => {
        let error = $lab.refused(|| $call);
        assert!(matches!(error, $pattern $(if $guard)?), "{error:?}");
    };
}

#[test]
fn row_1_no_such_disk_in_this_account() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let other = lab.other("lab");
    for (caller, id) in [
        (lab.key(), "d-unknown".to_owned()),
        (lab.key(), "../../etc/passwd".to_owned()),
        (lab.key(), String::new()),
        (other, made.system_disk.clone()),
    ] {
        assert_refused!(
            lab,
            lab.reinit_as(&caller, &id),
            CloudError::NotFound { kind: Resource::Disk, .. }
        );
    }
    let gone = lab.disk();
    lab.cloud.delete_disk(&lab.key(), &gone).unwrap();
    assert_refused!(lab, lab.reinit(&gone), CloudError::NotFound { kind: Resource::Disk, .. });
}

#[test]
fn row_2_a_category_without_an_initial_state() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    for category in ["ephemeral_ssd", "local_ssd_pro", "local_hdd_pro"] {
        let request = CreateInstance {
            image: Some(image.clone()),
            instance_type: Some("ecs.g7.large".into()),
            data_disks: vec![DataDisk {
                category: Some(category.into()),
                size: Some(5 * GIB),
                ..Default::default()
            }],
            ..Default::default()
        };
        let made = lab.cloud.create_instance(&lab.key(), &request).unwrap();
        lab.start(&made.instance);
        lab.stop(&made.instance);
        assert_refused!(
            lab,
            lab.reinit(&made.data_disks[0]),
            CloudError::CategoryNotSupported { .. }
        );
        assert!(lab.reinit(&made.system_disk).is_ok());
    }
}

#[test]
fn row_3_a_disk_that_is_not_in_use() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let disk = lab.disk();
    assert_refused!(
        lab,
        lab.reinit(&disk),
        CloudError::IncorrectDiskStatus { status: DiskStatus::Available, .. }
    );
    lab.attach(&disk, &made.instance);
    assert!(lab.reinit(&disk).is_ok());
    lab.cloud.detach_disk(&lab.key(), &disk, &made.instance).unwrap();
    assert_refused!(
        lab,
        lab.reinit(&disk),
        CloudError::IncorrectDiskStatus { status: DiskStatus::Available, .. }
    );
}

#[test]
fn row_3_a_disk_that_is_being_detached_or_reset() {
    let lab = Lab::with(|settings| settings.answer_within = std::time::Duration::ZERO);
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let disk = lab.disk();
    lab.attach(&disk, &made.instance);

    lab.exports.hold();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| lab.reinit(&disk));
        crate::lab::wait(|| lab.disk_status(&disk) == Some(DiskStatus::ReIniting));
        assert_refused!(
            lab,
            lab.reinit(&disk),
            CloudError::IncorrectDiskStatus { status: DiskStatus::ReIniting, .. }
        );
        assert_refused!(
            lab,
            lab.cloud.start_instance(&lab.key(), &made.instance),
            CloudError::DiskError { status: DiskStatus::ReIniting, .. }
        );
        lab.exports.release();
        first.join().unwrap().unwrap();
    });

    lab.start(&made.instance);
    lab.exports.hold();
    lab.cloud.detach_disk(&lab.key(), &disk, &made.instance).unwrap();
    assert_eq!(lab.disk_status(&disk), Some(DiskStatus::Detaching));
    assert_refused!(
        lab,
        lab.reinit(&disk),
        CloudError::IncorrectDiskStatus { status: DiskStatus::Detaching, .. }
    );
    lab.exports.release();
    crate::lab::wait(|| lab.disk_status(&disk) == Some(DiskStatus::Available));
}

#[test]
fn row_4_a_security_lock() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    lab.cloud.lock_instance(&lab.operator(), &made.instance, Lock::Security).unwrap();
    assert_refused!(
        lab,
        lab.reinit(&made.system_disk),
        CloudError::InstanceLockedForSecurity { .. }
    );
    lab.cloud.unlock_instance(&lab.operator(), &made.instance, None).unwrap();
    assert!(lab.reinit(&made.system_disk).is_ok());
    assert_refused!(
        lab,
        lab.cloud.lock_instance(&lab.key(), &made.instance, Lock::Security),
        CloudError::OperatorOnly { .. }
    );
}

#[test]
fn row_5_arrears_a_financial_lock_and_a_time_that_is_over() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let owes = |owes| {
        let set = SetAccount { in_arrears: Some(owes), ..Default::default() };
        lab.cloud.set_account(&lab.operator(), "default", &set).unwrap();
    };
    owes(true);
    assert_refused!(lab, lab.reinit(&made.system_disk), CloudError::ExpiredOrInArrears { .. });
    owes(false);
    lab.cloud.lock_instance(&lab.operator(), &made.instance, Lock::Financial).unwrap();
    assert_refused!(lab, lab.reinit(&made.system_disk), CloudError::ExpiredOrInArrears { .. });
    lab.cloud.unlock_instance(&lab.operator(), &made.instance, Some(Lock::Financial)).unwrap();
    assert!(lab.reinit(&made.system_disk).is_ok());

    let request = CreateInstance {
        image: Some(image),
        instance_type: Some("ecs.g7.large".into()),
        charge_type: Some("PrePaid".into()),
        ..Default::default()
    };
    let made = lab.cloud.create_instance(&lab.key(), &request).unwrap();
    lab.start(&made.instance);
    lab.stop(&made.instance);
    assert!(lab.reinit(&made.system_disk).is_ok());
    assert_refused!(
        lab,
        lab.cloud.delete_instance(&lab.key(), &made.instance, false),
        CloudError::StillPaidFor { .. }
    );
    lab.clock.set("2026-04-02T00:00:00Z".parse().unwrap());
    assert_refused!(lab, lab.reinit(&made.system_disk), CloudError::ExpiredOrInArrears { .. });
    lab.cloud.delete_instance(&lab.key(), &made.instance, false).unwrap();
}

#[test]
fn row_6_an_instance_that_runs_or_never_ran() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    assert_refused!(lab, lab.reinit(&made.system_disk), CloudError::NeverStarted { .. });
    lab.start(&made.instance);
    assert_refused!(
        lab,
        lab.reinit(&made.system_disk),
        CloudError::IncorrectInstanceStatus { status: InstanceStatus::Running, .. }
    );
    assert!(lab.exports.is_open(&made.system_disk), "a refused reset fences nothing");
}

#[test]
fn row_7_a_snapshot_in_progress() {
    let lab = Lab::with(|settings| settings.hash_bandwidth = Some(100));
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    lab.start(&made.instance);
    lab.write(&made.data_disks[0], 7);
    lab.stop(&made.instance);
    let request = CreateSnapshot { disk: made.data_disks[0].clone(), ..Default::default() };
    let snapshot = lab.cloud.create_snapshot(&lab.key(), &request).unwrap();
    assert_refused!(lab, lab.reinit(&made.data_disks[0]), CloudError::DiskCreatingSnapshot { .. });
    assert_refused!(
        lab,
        lab.cloud.create_snapshot(&lab.key(), &request),
        CloudError::SnapshotInProgress { .. }
    );
    assert_refused!(
        lab,
        lab.cloud.delete_instance(&lab.key(), &made.instance, false),
        CloudError::DiskCreatingSnapshot { .. }
    );
    assert_refused!(
        lab,
        lab.cloud.delete_snapshot(&lab.key(), &snapshot, true),
        CloudError::Conflict { .. }
    );
    // It ends by itself, also when the daemon was restarted meanwhile.
    let lab = lab.restart(|settings| settings.hash_bandwidth = None);
    lab.wait_for_snapshot(&snapshot);
    assert!(lab.reinit(&made.data_disks[0]).is_ok());
    assert_eq!(lab.read(&made.data_disks[0]), 0);
}

#[test]
fn row_8_a_snapshot_that_is_too_old() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let snapshot = lab.snapshot(&made.data_disks[0]);
    let (kept, moved) = (lab.disk_from(&snapshot), lab.disk_from(&snapshot));
    lab.attach(&kept, &made.instance);
    lab.attach(&moved, &made.instance);
    lab.cloud.detach_disk(&lab.key(), &moved, &made.instance).unwrap();
    lab.attach(&moved, &made.instance);
    let lab = lab.restart(|settings| {
        settings.snapshot_cutoff = "2026-03-02T00:00:00Z".parse().unwrap();
    });
    assert_refused!(lab, lab.reinit(&moved), CloudError::SnapshotTooOld { .. });
    assert!(lab.reinit(&kept).is_ok(), "it was never detached");
}

#[test]
fn row_9_a_source_snapshot_that_is_gone() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let snapshot = lab.snapshot(&made.data_disks[0]);
    let disk = lab.disk_from(&snapshot);
    lab.attach(&disk, &made.instance);
    assert_refused!(
        lab,
        lab.cloud.delete_snapshot(&lab.key(), &snapshot, false),
        CloudError::SnapshotCreatedDisk { .. }
    );
    lab.cloud.delete_snapshot(&lab.key(), &snapshot, true).unwrap();
    assert_refused!(lab, lab.reinit(&disk), CloudError::SourceSnapshotGone { .. });
    assert_eq!(lab.view(&disk).unwrap().source_snapshot(), Some(snapshot.as_str()));
    assert_eq!(lab.read(&disk), 0, "the disk itself lives on");
}

#[test]
fn row_10_an_own_image_that_is_gone() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    assert_refused!(
        lab,
        lab.cloud.delete_image(&lab.key(), &image, false),
        CloudError::ImageUsedByInstance { .. }
    );
    lab.cloud.delete_image(&lab.key(), &image, true).unwrap();
    assert_refused!(lab, lab.reinit(&made.system_disk), CloudError::SourceImageGone { .. });
    assert_eq!(lab.read(&made.system_disk), 1, "the disk itself lives on");
    assert!(lab.reinit(&made.data_disks[0]).is_ok(), "an empty one needs no source");
}

#[test]
fn row_11_another_accounts_image_that_is_no_longer_shared_or_gone() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let other = lab.other("lab");
    let change = |add: &[&str], remove: &[&str], public| {
        let number = |account: &&str| lab.account_number(account);
        let request = ShareImage {
            image: image.clone(),
            add: add.iter().map(number).collect(),
            remove: remove.iter().map(number).collect(),
            public,
        };
        lab.cloud.share_image(&lab.operator(), &request).unwrap();
    };
    change(&["lab"], &[], None);
    let made = lab.used_instance(&other, &image);
    assert!(lab.reinit_as(&other, &made.system_disk).is_ok());
    change(&[], &["lab"], None);
    let gone = |caller: &Caller| {
        assert_refused!(
            lab,
            lab.reinit_as(caller, &made.system_disk),
            CloudError::SharedImageGone { .. }
        );
    };
    gone(&other);
    change(&[], &[], Some(true));
    assert!(lab.reinit_as(&other, &made.system_disk).is_ok(), "public is enough");
    lab.cloud.delete_image(&lab.key(), &image, true).unwrap();
    gone(&other);
}

#[test]
fn the_rows_are_checked_in_their_order() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    lab.cloud.delete_image(&lab.key(), &image, true).unwrap();
    // Row 10 stands against it, and row 6, and one more each time.
    assert_refused!(lab, lab.reinit(&made.system_disk), CloudError::NeverStarted { .. });
    lab.start(&made.instance);
    assert_refused!(lab, lab.reinit(&made.system_disk), CloudError::IncorrectInstanceStatus { .. });
    let set = SetAccount { in_arrears: Some(true), ..Default::default() };
    lab.cloud.set_account(&lab.operator(), "default", &set).unwrap();
    assert_refused!(lab, lab.reinit(&made.system_disk), CloudError::ExpiredOrInArrears { .. });
    lab.cloud.lock_instance(&lab.operator(), &made.instance, Lock::Security).unwrap();
    assert_refused!(
        lab,
        lab.reinit(&made.system_disk),
        CloudError::InstanceLockedForSecurity { .. }
    );
    assert_refused!(lab, lab.reinit("d-unknown"), CloudError::NotFound { .. });
}
