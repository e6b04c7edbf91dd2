//! The daemon's end, in order or by a crash, and what the next start finds.

use block_device::{ByteLength, DiskId};
use catalog::{
    Batch, Records,
    record::{Disk, PendingReset, Power, Task, TaskStatus},
};
use cloud::{
    Cloud, CloudError, CreateSnapshot, DiskStatus, InstanceStatus, ReInitDisk, SecretText,
    SnapshotStatus,
};

use crate::lab::{Lab, MIB, reinit, wait};

#[test]
fn a_running_instance_runs_on_with_what_was_flushed() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    lab.start(&made.instance);
    lab.write(&made.system_disk, 7);
    for lab in [lab.crashed(), lab.restart(|_| ())] {
        assert_eq!(lab.status(&lab.key(), &made.instance), Some(InstanceStatus::Running));
        assert_eq!(lab.disk_status(&made.data_disks[0]), Some(DiskStatus::InUse));
        assert!(lab.exports.is_open(&made.system_disk));
        assert_eq!(lab.read(&made.system_disk), 7);
        lab.stop(&made.instance);
        lab.reinit(&made.system_disk).unwrap();
        assert_eq!(lab.read(&made.system_disk), 1);
    }
}

#[test]
fn an_answered_reset_holds_and_a_deleted_disk_stays_gone() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    lab.start(&made.instance);
    lab.write(&made.system_disk, 7);
    lab.stop(&made.instance);
    let before = lab.crashed();
    assert_eq!(before.read(&made.system_disk), 7);
    let done = lab.reinit(&made.system_disk).unwrap();
    let disk = lab.disk();
    lab.cloud.delete_disk(&lab.key(), &disk).unwrap();
    let after = lab.crashed();
    assert_eq!(after.read(&made.system_disk), 1);
    let detail = after.cloud.show_disk(&after.operator(), &made.system_disk).unwrap();
    assert_eq!(detail.epoch, done.epoch_after);
    assert_eq!(detail.last_reset.unwrap().request_id, done.request_id.to_string());
    assert!(after.view(&disk).is_none());
    assert!(!after.cloud.store().disks().contains(&disk.parse().unwrap()));
}

#[test]
fn nothing_is_found_in_a_state_between_two() {
    let lab = Lab::with(|settings| settings.answer_within = std::time::Duration::ZERO);
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let disk = lab.disk();
    lab.attach(&disk, &made.instance);
    lab.exports.hold();
    std::thread::scope(|scope| {
        scope.spawn(|| lab.reinit(&made.system_disk).unwrap());
        wait(|| lab.disk_status(&made.system_disk) == Some(DiskStatus::ReIniting));
        let crashed = lab.crashed();
        assert_eq!(crashed.disk_status(&made.system_disk), Some(DiskStatus::InUse));
        lab.exports.release();
    });
    lab.start(&made.instance);
    lab.exports.hold();
    lab.cloud.stop_instance(&lab.key(), &made.instance).unwrap();
    assert_eq!(lab.status(&lab.key(), &made.instance), Some(InstanceStatus::Stopping));
    let crashed = lab.crashed();
    assert_eq!(crashed.status(&lab.key(), &made.instance), Some(InstanceStatus::Running));
    assert!(crashed.exports.is_open(&disk));
    lab.exports.release();
    wait(|| lab.status(&lab.key(), &made.instance) == Some(InstanceStatus::Stopped));
}

#[test]
fn a_snapshot_in_progress_is_gone_on_with() {
    let lab = Lab::with(|settings| settings.hash_bandwidth = Some(100));
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    lab.start(&made.instance);
    lab.write(&made.data_disks[0], 7);
    let request = CreateSnapshot { disk: made.data_disks[0].clone(), ..Default::default() };
    let snapshot = lab.cloud.create_snapshot(&lab.key(), &request).unwrap();
    lab.write(&made.data_disks[0], 8);
    let mut crashed = lab.crashed();
    let (status, percent) = crashed.snapshot_status(&snapshot).unwrap();
    assert_eq!(status, SnapshotStatus::Progressing);
    assert!(percent < 100);
    crashed = crashed.restart(|settings| settings.hash_bandwidth = None);
    crashed.wait_for_snapshot(&snapshot);
    let copy = crashed.disk_from(&snapshot);
    assert_eq!((crashed.read(&copy), crashed.read(&made.data_disks[0])), (7, 8));
    lab.cloud.close();
}

#[test]
fn a_creation_the_catalog_never_saw_is_undone() {
    let lab = Lab::new();
    let id: DiskId = "d-neverseen".parse().unwrap();
    let staged = lab.cloud.store().create_disk(&id, ByteLength::new(MIB), None).unwrap();
    staged.leave_to_start();
    let lab = lab.restart(|_| ());
    assert!(lab.cloud.store().disks().is_empty());
}

#[test]
fn a_deletion_the_catalog_never_saw_is_undone() {
    let lab = Lab::new();
    let disk = lab.disk();
    lab.cloud.store().delete_disk(&disk.parse().unwrap()).unwrap().leave_to_start();
    let lab = lab.restart(|_| ());
    assert_eq!(lab.disk_status(&disk), Some(DiskStatus::Available));
    assert_eq!(lab.read(&disk), 0);
    lab.cloud.delete_disk(&lab.key(), &disk).unwrap();
}

/// A reset that also starts its instance, cut off before and after the ledger record.
#[test]
fn what_waited_for_a_reset_counts_if_the_ledger_got_there() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let name = made.system_disk.parse().unwrap();
    let sequence = lab.cloud.store().disk(&name).unwrap().sequence;
    for (ledger_sequence, runs) in [(sequence + 1, false), (sequence, true)] {
        let crashed = lab.crashed();
        let disk: Disk = crashed.catalog.get(&made.system_disk).unwrap().unwrap();
        let pending =
            PendingReset { ledger_sequence, auto_start: true, sealed_first_boot: Vec::new() };
        let mut batch = Batch::new();
        batch.put(&Disk { pending_reset: Some(pending), ..disk }).unwrap();
        crashed.catalog.commit(&batch, &[]).unwrap();
        let crashed = crashed.restart(|_| ());
        let status = crashed.status(&crashed.key(), &made.instance).unwrap();
        assert_eq!(status == InstanceStatus::Running, runs);
        let disk: Disk = crashed.catalog.get(&made.system_disk).unwrap().unwrap();
        assert!(disk.pending_reset.is_none_or(|pending| runs && !pending.auto_start));
    }
}

#[test]
fn a_password_for_the_first_boot_is_kept_sealed() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let request = ReInitDisk {
        password: Some(SecretText::new("Sw0rdfish!")),
        auto_start: true,
        ..reinit(&made.system_disk)
    };
    let done = lab.cloud.reinit_disk(&lab.key(), &request, Cloud::new_request_id()).unwrap();
    assert!(done.started);
    let lab = lab.restart(|_| ());
    let disk: Disk = lab.catalog.get(&made.system_disk).unwrap().unwrap();
    let pending = disk.pending_reset.unwrap();
    assert!(!pending.auto_start && pending.sealed_first_boot.len() > 30);
    let mut exported = Vec::new();
    lab.catalog.export(&mut exported).unwrap();
    assert!(!String::from_utf8(exported).unwrap().contains("Sw0rdfish"));
    let instance: catalog::record::Instance = lab.catalog.get(&made.instance).unwrap().unwrap();
    assert_eq!(instance.power, Power::Running);
}

#[test]
fn a_task_that_was_under_way_ends_as_failed() {
    let lab = Lab::new();
    let task = Task {
        id: "t-interrupted".into(),
        account: "default".into(),
        action: "ImportImage".into(),
        resource: "m-never".into(),
        status: TaskStatus::Processing,
        progress_percent: 0,
        created: 0,
        finished: None,
        cancellable: true,
        error_code: String::new(),
        error_message: String::new(),
    };
    let mut batch = Batch::new();
    batch.put(&task).unwrap();
    lab.catalog.commit(&batch, &[]).unwrap();
    let lab = lab.restart(|_| ());
    let found = lab.cloud.describe_task(&lab.key(), "t-interrupted").unwrap();
    assert_eq!(found.status, TaskStatus::Failed);
    assert!(found.finished.is_some() && !found.error_message.is_empty());
    assert!(matches!(
        lab.cloud.cancel_task(&lab.key(), "t-interrupted"),
        Err(CloudError::TaskEnded { .. })
    ));
}

/// The snapshot came after the export, so the restored catalog does not name its layer. In the
/// first run it must stay even when the one disk that stands on it leaves it.
#[test]
fn the_first_start_on_an_imported_catalog_sweeps_nothing() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    lab.start(&made.instance);
    lab.write(&made.system_disk, 7);
    lab.stop(&made.instance);
    let older = lab.export();
    lab.snapshot(&made.system_disk);

    let before = lab.layers();
    let restored = lab.restored(&older);
    restored.reinit(&made.system_disk).unwrap();
    assert_eq!(restored.layers(), before);
    assert_eq!(restored.read(&made.system_disk), 1);
}
