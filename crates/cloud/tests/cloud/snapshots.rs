//! Snapshots: what they hold, how far they are, what was made from them.

use cloud::{
    CloudError, CreateDisk, CreateSnapshot, DescribeSnapshots, DiskRole, Quota, SnapshotStatus,
    Usage,
};

use crate::lab::{Lab, all, wait};

#[test]
fn a_snapshot_holds_what_was_written_before_it_and_nothing_after() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    lab.start(&made.instance);
    let disk = &made.data_disks[0];
    let mut taken = Vec::new();
    for byte in 1..=4 {
        lab.write(disk, byte);
        taken.push(lab.snapshot(disk));
    }
    lab.write(disk, 9);
    for (byte, snapshot) in (1..).zip(&taken) {
        let copy = lab.disk_from(snapshot);
        assert_eq!(lab.read(&copy), byte);
    }
    let asked = DescribeSnapshots { disk: Some(disk.clone()), paging: all(), ..Default::default() };
    let page = lab.cloud.describe_snapshots(&lab.key(), &asked).unwrap();
    assert_eq!(page.total, 4);
    for view in page.items {
        assert_eq!((view.usage, view.disk_role, view.size_gib()), (Usage::Disk, DiskRole::Data, 5));
        assert!(view.root.is_some());
    }
    lab.cloud.delete_instance(&lab.key(), &made.instance, true).unwrap();
    let copy = lab.disk_from(&taken[0]);
    assert_eq!(lab.read(&copy), 1, "snapshots outlive their disk");
}

#[test]
fn progress_is_seen_and_a_snapshot_is_no_source_before_its_end() {
    // 1 MiB in about half a second.
    let lab = Lab::with(|settings| settings.hash_bandwidth = Some(2 << 20));
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    lab.start(&made.instance);
    let device = lab.exports.device(&made.data_disks[0]).unwrap();
    let bytes = vec![7; 1 << 20];
    let durability = block_device::Durability::Cached;
    device.write_at(&bytes, block_device::ByteOffset::ZERO, durability).unwrap();
    let request = CreateSnapshot { disk: made.data_disks[0].clone(), ..Default::default() };
    let snapshot = lab.cloud.create_snapshot(&lab.key(), &request).unwrap();
    assert_eq!(lab.snapshot_status(&snapshot).unwrap().0, SnapshotStatus::Progressing);
    let request = CreateDisk { snapshot: Some(snapshot.clone()), ..Default::default() };
    assert!(matches!(
        lab.refused(|| lab.cloud.create_disk(&lab.key(), &request)),
        CloudError::SnapshotNotReady { .. }
    ));
    wait(|| matches!(lab.snapshot_status(&snapshot), Some((_, 1..=99))));
    lab.wait_for_snapshot(&snapshot);
    assert!(lab.cloud.create_disk(&lab.key(), &request).is_ok());
}

#[test]
fn io_goes_on_while_a_snapshot_is_hashed_and_a_reset_is_refused() {
    let lab = Lab::with(|settings| settings.hash_bandwidth = Some(1));
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    let disk = &made.data_disks[0];
    lab.start(&made.instance);
    lab.write(disk, 7);
    let request = CreateSnapshot { disk: disk.clone(), ..Default::default() };
    let snapshot = lab.cloud.create_snapshot(&lab.key(), &request).unwrap();
    for byte in [8, 9] {
        lab.write(disk, byte);
        assert_eq!(lab.read(disk), byte);
        assert_eq!(lab.snapshot_status(&snapshot).unwrap().0, SnapshotStatus::Progressing);
    }
    lab.stop(&made.instance);
    let refused = lab.refused(|| lab.reinit(disk));
    assert!(matches!(refused, CloudError::DiskCreatingSnapshot { .. }), "{refused}");
    let lab = lab.restart(|settings| settings.hash_bandwidth = None);
    lab.wait_for_snapshot(&snapshot);
    assert_eq!(lab.read(&lab.disk_from(&snapshot)), 7);
    lab.reinit(disk).unwrap();
    assert_eq!(lab.read(disk), 0);
}

#[test]
fn rules_of_taking_a_snapshot() {
    let lab = Lab::with(|settings| settings.snapshots_per_disk = 2);
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    let take = |disk: &str, name: Option<&str>| {
        let request =
            CreateSnapshot { disk: disk.into(), name: name.map(Into::into), ..Default::default() };
        lab.cloud.create_snapshot(&lab.key(), &request)
    };
    assert!(matches!(lab.refused(|| take(&made.system_disk, None)), CloudError::NeverUsed { .. }));
    lab.start(&made.instance);
    assert!(matches!(
        lab.refused(|| take(&made.system_disk, Some("auto-1"))),
        CloudError::Malformed { .. }
    ));
    for _ in 0..2 {
        let snapshot = take(&made.system_disk, Some("by hand")).unwrap();
        lab.wait_for_snapshot(&snapshot);
    }
    assert!(matches!(
        lab.refused(|| take(&made.system_disk, None)),
        CloudError::QuotaExceeded { what: Quota::Snapshots }
    ));
    let snapshot = take(&made.data_disks[0], None).unwrap();
    lab.wait_for_snapshot(&snapshot);
    let system = DescribeSnapshots {
        source_role: Some(DiskRole::System),
        paging: all(),
        ..Default::default()
    };
    let page = lab.cloud.describe_snapshots(&lab.key(), &system).unwrap();
    assert_eq!(page.total, 2);
    let from_system = CreateDisk { snapshot: Some(page.items[0].id.clone()), ..Default::default() };
    assert!(matches!(
        lab.refused(|| lab.cloud.create_disk(&lab.key(), &from_system)),
        CloudError::SnapshotOfWrongType { .. }
    ));
}
