//! Keep on reset: the snapshot comes first and is the way back, whatever happens in between.

use cloud::{
    Caller, Cloud, CloudError, DescribeSnapshots, Quota, ReInitDisk, ResetDisk, ResetDone, Role,
    SnapshotStatus, SnapshotView,
};

use crate::lab::{Lab, all, reinit, wait};

fn keeping(disk: &str) -> ReInitDisk {
    ReInitDisk { keep: true, ..reinit(disk) }
}

fn keep(lab: &Lab, disk: &str) -> Result<ResetDone, CloudError> {
    lab.cloud.reinit_disk(&lab.key(), &keeping(disk), Cloud::new_request_id())
}

fn snapshots(lab: &Lab, disk: &str) -> Vec<SnapshotView> {
    let asked = DescribeSnapshots { disk: Some(disk.into()), paging: all(), ..Default::default() };
    lab.cloud.describe_snapshots(&lab.key(), &asked).unwrap().items
}

/// The system and the data disk of a stopped instance, written with 7.
fn written(lab: &Lab) -> (String, String) {
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    let (system, data) = (made.system_disk, made.data_disks[0].clone());
    lab.start(&made.instance);
    [&system, &data].into_iter().for_each(|disk| lab.write(disk, 7));
    lab.stop(&made.instance);
    (system, data)
}

#[test]
fn it_waits_for_no_hash_and_both_ways_back_lead_to_what_was() {
    // A byte a second: hashing ends in no test.
    let lab = Lab::with(|settings| settings.hash_bandwidth = Some(1));
    let (disk, data) = written(&lab);
    let done = keep(&lab, &disk).unwrap();
    let kept = done.kept.unwrap();
    assert_eq!(lab.read(&disk), 1);
    assert_eq!(lab.snapshot_status(&kept).unwrap().0, SnapshotStatus::Progressing);
    let view = snapshots(&lab, &disk).remove(0);
    assert_eq!(view.name, "before-reset-2026-03-01T12:00:00Z");
    assert!(view.description.contains(&done.request_id.to_string()), "{}", view.description);

    let hashing = lab.refused(|| lab.reinit(&disk));
    assert!(matches!(hashing, CloudError::DiskCreatingSnapshot { .. }), "{hashing}");
    let hashing = lab.refused(|| keep(&lab, &disk));
    assert!(matches!(hashing, CloudError::DiskCreatingSnapshot { .. }), "{hashing}");
    assert!(lab.reinit(&data).unwrap().kept.is_none(), "other disks do not mind");

    let lab = lab.restart(|settings| settings.hash_bandwidth = None);
    lab.wait_for_snapshot(&kept);
    assert_eq!(lab.read(&lab.disk_from(&kept)), 7);
    let back = ResetDisk { disk: disk.clone(), snapshot: kept };
    lab.cloud.reset_disk(&lab.key(), &back, Cloud::new_request_id()).unwrap();
    assert_eq!(lab.read(&disk), 7);
    lab.reinit(&disk).unwrap();
    assert_eq!(lab.read(&disk), 1, "its origin is what it was");
}

#[test]
fn a_crash_in_between_leaves_the_snapshot_and_no_reset() {
    let lab = Lab::new();
    let (disk, _) = written(&lab);
    let epoch = |lab: &Lab| lab.cloud.show_disk(&lab.operator(), &disk).unwrap().epoch;
    let before = epoch(&lab);
    // The fence of the reset comes after the snapshot and before the ledger's record.
    lab.exports.hold();
    std::thread::scope(|scope| {
        scope.spawn(|| keep(&lab, &disk).unwrap());
        wait(|| !snapshots(&lab, &disk).is_empty());
        let crashed = lab.crashed();
        assert_eq!((epoch(&crashed), crashed.read(&disk)), (before, 7));
        let kept = snapshots(&crashed, &disk).remove(0).id;
        crashed.wait_for_snapshot(&kept);
        assert_eq!(crashed.read(&crashed.disk_from(&kept)), 7);
        crashed.reinit(&disk).unwrap();
        assert_eq!(crashed.read(&disk), 1);
        lab.exports.release();
    });
    assert_eq!((epoch(&lab), lab.read(&disk)), (before + 1, 1));
    let crashed = lab.crashed();
    assert_eq!((epoch(&crashed), crashed.read(&disk)), (before + 1, 1));
}

#[test]
fn a_reset_that_fails_after_the_snapshot_names_it() {
    let lab = Lab::new();
    let (disk, _) = written(&lab);
    lab.exports.refuse_fences(true);
    let error = keep(&lab, &disk).unwrap_err();
    let kept = snapshots(&lab, &disk).remove(0).id;
    assert!(error.to_string().contains(&kept), "{error}");
    assert!(matches!(error, CloudError::KeptButNotReset { snapshot, .. } if snapshot == kept));
    assert_eq!(lab.read(&disk), 7);
    lab.wait_for_snapshot(&kept);
    lab.exports.refuse_fences(false);
    lab.reinit(&disk).unwrap();
    assert_eq!(lab.read(&lab.disk_from(&kept)), 7);
}

#[test]
fn nothing_written_makes_no_layer() {
    let lab = Lab::new();
    let (disk, data) = written(&lab);
    lab.reinit(&disk).unwrap();
    lab.reinit(&data).unwrap();
    // Both have a head, and nothing in it counts.
    let head = |disk: &str| lab.cloud.store().disk(&disk.parse().unwrap()).unwrap().head;
    let layers = lab.layers();
    for (disk, byte) in [(&disk, 1), (&data, 0)] {
        let before = head(disk);
        let kept = keep(&lab, disk).unwrap().kept.unwrap();
        assert!(before.is_some() && head(disk) == before, "it was not sealed");
        lab.wait_for_snapshot(&kept);
        assert_eq!(lab.read(&lab.disk_from(&kept)), byte);
    }
    assert_eq!(lab.layers(), layers);
}

#[test]
fn several_resets_share_one_sync_after_their_snapshots() {
    let lab = Lab::new();
    let (system, data) = written(&lab);
    let commits = || lab.cloud.store().counters().ledger_commits;
    let before = commits();
    let requests = [keeping(&system), keeping("d-unknown"), keeping(&data)];
    let results = lab.cloud.reinit_disks(&lab.key(), &requests, Cloud::new_request_id());
    let kept: Vec<_> = results.iter().map(|one| one.as_ref().ok()?.kept.clone()).collect();
    assert!(kept[0].is_some() && kept[1].is_none() && kept[2].is_some(), "{results:?}");
    assert_eq!(commits() - before, 3, "one for each snapshot and one for all resets");
    assert_eq!((lab.read(&system), lab.read(&data)), (1, 0));
}

#[test]
fn what_may_not_be_kept_is_not_reset() {
    let lab = Lab::with(|settings| settings.snapshots_per_disk = 1);
    let (disk, _) = written(&lab);
    lab.snapshot(&disk);
    let full = |error| matches!(error, CloudError::QuotaExceeded { what: Quota::Snapshots });
    assert!(full(lab.refused(|| keep(&lab, &disk))));
    let plan = || lab.cloud.plan_reinit(&lab.key(), &[keeping(&disk)]).remove(0);
    assert!(full(lab.refused(plan)));
    let resetter = Caller::key("default", Role::Reset);
    let id = Cloud::new_request_id();
    let refused = lab.refused(|| lab.cloud.reinit_disk(&resetter, &keeping(&disk), id));
    assert!(matches!(refused, CloudError::Forbidden { .. }));
    assert_eq!(lab.read(&disk), 7);
    assert!(lab.cloud.reinit_disk(&resetter, &reinit(&disk), id).is_ok());
}
