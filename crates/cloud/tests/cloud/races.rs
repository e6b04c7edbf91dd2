//! Racing calls: some serial order explains all answers, and the loser gets a documented refusal.

use std::sync::Barrier;

use cloud::{
    AttachDisk, CloudError, CreateSnapshot, DiskStatus, InstanceCreated, InstanceStatus, ResetDone,
};

use crate::lab::{Lab, wait};

/// Rounds of each race.
const ROUNDS: usize = 40;

/// Runs two calls at the same moment.
fn both<A: Send, B: Send>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            barrier.wait();
            second()
        });
        barrier.wait();
        (first(), second.join().unwrap())
    })
}

fn stopped() -> (Lab, InstanceCreated) {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    (lab, made)
}

fn epoch(lab: &Lab, disk: &str) -> u64 {
    lab.cloud.show_disk(&lab.operator(), disk).unwrap().epoch
}

fn is_busy(result: &Result<ResetDone, CloudError>) -> bool {
    matches!(result, Err(CloudError::IncorrectDiskStatus { status: DiskStatus::ReIniting, .. }))
}

#[test]
fn reset_with_reset() {
    let (lab, made) = stopped();
    let disk = &made.system_disk;
    for _ in 0..ROUNDS {
        let before = epoch(&lab, disk);
        let (a, b) = both(|| lab.reinit(disk), || lab.reinit(disk));
        let done = [&a, &b].into_iter().filter(|result| result.is_ok()).count();
        assert!(done > 0 && [&a, &b].iter().all(|result| result.is_ok() || is_busy(result)));
        assert_eq!(epoch(&lab, disk), before + done as u64);
        assert_eq!(lab.disk_status(disk), Some(DiskStatus::InUse));
    }
}

#[test]
fn reset_with_attach() {
    let (lab, made) = stopped();
    let disk = lab.disk();
    let request =
        AttachDisk { disk: disk.clone(), instance: made.instance.clone(), ..Default::default() };
    for _ in 0..ROUNDS {
        let (reset, attach) =
            both(|| lab.reinit(&disk), || lab.cloud.attach_disk(&lab.key(), &request));
        attach.unwrap();
        assert!(
            matches!(
                &reset,
                Ok(_)
                    | Err(CloudError::IncorrectDiskStatus {
                        status: DiskStatus::Available | DiskStatus::Attaching,
                        ..
                    })
            ),
            "{reset:?}"
        );
        lab.cloud.detach_disk(&lab.key(), &disk, &made.instance).unwrap();
    }
}

#[test]
fn reset_with_detach() {
    let (lab, made) = stopped();
    let disk = lab.disk();
    for _ in 0..ROUNDS {
        lab.attach(&disk, &made.instance);
        let detach = || lab.cloud.detach_disk(&lab.key(), &disk, &made.instance);
        let (reset, detached) = both(|| lab.reinit(&disk), detach);
        match (&reset, &detached) {
            (Ok(_), Ok(())) => {}
            (Err(CloudError::IncorrectDiskStatus { .. }), Ok(())) => {}
            (Ok(_), Err(CloudError::IncorrectDiskStatus { .. })) => detach().unwrap(),
            other => panic!("{other:?}"),
        }
        assert_eq!(lab.disk_status(&disk), Some(DiskStatus::Available));
    }
}

#[test]
fn reset_with_snapshot() {
    let (lab, made) = stopped();
    let disk = &made.data_disks[0];
    let request = CreateSnapshot { disk: disk.clone(), ..Default::default() };
    for round in 0..ROUNDS {
        let byte = u8::try_from(round + 1).unwrap();
        lab.start(&made.instance);
        lab.write(disk, byte);
        lab.stop(&made.instance);
        let take = || lab.cloud.create_snapshot(&lab.key(), &request);
        let (reset, snapshot) = both(|| lab.reinit(disk), take);
        match (&reset, &snapshot) {
            (Ok(_), Ok(_)) | (Err(CloudError::DiskCreatingSnapshot { .. }), Ok(_)) => {}
            (Ok(_), Err(CloudError::IncorrectDiskStatus { .. })) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(lab.read(disk), if reset.is_ok() { 0 } else { byte });
        if let Ok(snapshot) = snapshot {
            lab.wait_for_snapshot(&snapshot);
            let copy = lab.disk_from(&snapshot);
            assert!([0, byte].contains(&lab.read(&copy)), "wholly before or wholly after");
            lab.cloud.delete_disk(&lab.key(), &copy).unwrap();
            lab.cloud.delete_snapshot(&lab.key(), &snapshot, true).unwrap();
        }
    }
}

#[test]
fn reset_with_the_end_of_its_disk() {
    let (lab, made) = stopped();
    for _ in 0..ROUNDS {
        let disk = lab.disk();
        lab.attach(&disk, &made.instance);
        let delete = || {
            lab.cloud.detach_disk(&lab.key(), &disk, &made.instance)?;
            lab.cloud.delete_disk(&lab.key(), &disk)
        };
        let (reset, deleted) = both(|| lab.reinit(&disk), delete);
        assert!(
            matches!(
                &reset,
                Ok(_) | Err(CloudError::IncorrectDiskStatus { .. } | CloudError::NotFound { .. })
            ),
            "{reset:?}"
        );
        assert!(
            matches!(&deleted, Ok(()) | Err(CloudError::IncorrectDiskStatus { .. })),
            "{deleted:?}"
        );
        if deleted.is_err() {
            delete().unwrap();
        }
        assert!(lab.view(&disk).is_none());
    }
}

#[test]
fn reset_with_the_end_of_its_source() {
    let (lab, made) = stopped();
    let source = lab.snapshot(&made.data_disks[0]);
    lab.start(&made.instance);
    lab.write(&made.data_disks[0], 7);
    lab.stop(&made.instance);
    drop(source);
    for _ in 0..ROUNDS {
        let snapshot = lab.snapshot(&made.data_disks[0]);
        let disk = lab.disk_from(&snapshot);
        lab.attach(&disk, &made.instance);
        let delete = || lab.cloud.delete_snapshot(&lab.key(), &snapshot, true);
        let (reset, deleted) = both(|| lab.reinit(&disk), delete);
        match (&reset, &deleted) {
            (Ok(_), Ok(())) | (Ok(_), Err(CloudError::Conflict { .. })) => {}
            (Err(CloudError::SourceSnapshotGone { .. }), Ok(())) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(lab.read(&disk), 7, "its bytes are there whatever became of the snapshot");
        if deleted.is_err() {
            delete().unwrap();
        }
        lab.cloud.detach_disk(&lab.key(), &disk, &made.instance).unwrap();
        lab.cloud.delete_disk(&lab.key(), &disk).unwrap();
    }
}

#[test]
fn what_a_reset_under_way_goes_to_cannot_be_deleted() {
    let (lab, made) = stopped();
    let snapshot = lab.snapshot(&made.data_disks[0]);
    let disk = lab.disk_from(&snapshot);
    lab.attach(&disk, &made.instance);
    let image = lab.view(&made.system_disk).unwrap().source_image().unwrap().to_owned();
    lab.exports.hold();
    std::thread::scope(|scope| {
        scope.spawn(|| lab.reinit(&disk).unwrap());
        scope.spawn(|| lab.reinit(&made.system_disk).unwrap());
        let resetting = |disk: &str| lab.disk_status(disk) == Some(DiskStatus::ReIniting);
        wait(|| resetting(&disk) && resetting(&made.system_disk));
        let no_snapshot = lab.cloud.delete_snapshot(&lab.key(), &snapshot, true);
        let no_image = lab.cloud.delete_image(&lab.key(), &image, true);
        lab.exports.release();
        assert!(matches!(no_snapshot, Err(CloudError::Conflict { .. })));
        assert!(matches!(no_image, Err(CloudError::ImageUsedByInstance { .. })));
    });
    lab.cloud.delete_snapshot(&lab.key(), &snapshot, true).unwrap();
    lab.cloud.delete_image(&lab.key(), &image, true).unwrap();
}

#[test]
fn reset_with_start() {
    let (lab, made) = stopped();
    for _ in 0..ROUNDS {
        let start = || lab.cloud.start_instance(&lab.key(), &made.instance);
        let (reset, started) = both(|| lab.reinit(&made.system_disk), start);
        match (&reset, &started) {
            (Ok(_), Ok(())) => {}
            (Ok(_), Err(CloudError::DiskError { .. })) => lab.start(&made.instance),
            (Err(CloudError::IncorrectInstanceStatus { .. }), Ok(())) => {}
            other => panic!("{other:?}"),
        }
        assert!(lab.exports.is_open(&made.system_disk));
        assert_eq!(lab.read(&made.system_disk), 1);
        lab.stop(&made.instance);
    }
}

#[test]
fn reset_with_the_end_of_its_instance() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    for _ in 0..ROUNDS / 4 {
        let made = lab.used_instance(&lab.key(), &image);
        let delete = || lab.cloud.delete_instance(&lab.key(), &made.instance, false);
        let (reset, deleted) = both(|| lab.reinit(&made.system_disk), delete);
        match (&reset, &deleted) {
            (Ok(_) | Err(CloudError::NotFound { .. }), Ok(())) => {}
            (Ok(_), Err(CloudError::DiskError { .. })) => delete().unwrap(),
            other => panic!("{other:?}"),
        }
        assert!(lab.view(&made.system_disk).is_none());
    }
    assert!(lab.cloud.store().disks().is_empty());
}

#[test]
fn attach_with_stop_leaves_no_export_behind() {
    let (lab, made) = stopped();
    let disk = lab.disk();
    let request =
        AttachDisk { disk: disk.clone(), instance: made.instance.clone(), ..Default::default() };
    for _ in 0..ROUNDS {
        lab.start(&made.instance);
        let stop = || lab.cloud.stop_instance(&lab.key(), &made.instance);
        let (attached, stopped) = both(|| lab.cloud.attach_disk(&lab.key(), &request), stop);
        match (&attached, &stopped) {
            (Ok(()), Ok(())) => {}
            (Ok(()), Err(CloudError::DiskError { .. })) => lab.stop(&made.instance),
            (Err(CloudError::IncorrectInstanceStatus { .. }), Ok(())) => {
                lab.attach(&disk, &made.instance);
            }
            other => panic!("{other:?}"),
        }
        assert!(!lab.exports.is_open(&disk) && !lab.exports.is_open(&made.system_disk));
        assert_eq!(lab.status(&lab.key(), &made.instance), Some(InstanceStatus::Stopped));
        lab.cloud.detach_disk(&lab.key(), &disk, &made.instance).unwrap();
    }
}

#[test]
fn many_resets_at_once_of_many_disks() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made: Vec<_> = (0..8).map(|_| lab.used_instance(&lab.key(), &image)).collect();
    std::thread::scope(|scope| {
        for one in &made {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    lab.reinit(&one.system_disk).unwrap();
                }
            });
        }
    });
    for one in &made {
        assert_eq!(epoch(&lab, &one.system_disk), 1 + ROUNDS as u64);
    }
}
