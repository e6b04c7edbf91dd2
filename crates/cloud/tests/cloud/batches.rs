//! Several instances or disks in one call: all together or each alone, and each as by itself.

use cloud::{
    Caller, ChangePower, Cloud, CloudError, Countable, DeleteInstances, DiskStatus, InstanceStatus,
    Lock, PowerChange, ResetDisk,
};

use crate::lab::Lab;

fn ask(change: PowerChange, instances: &[&str], each_alone: bool) -> ChangePower {
    let instances = instances.iter().map(|id| (*id).to_owned()).collect();
    ChangePower { instances, change, each_alone }
}

#[test]
fn together_all_instances_change_or_none_does() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let (one, two) = (lab.instance(&lab.key(), &image), lab.instance(&lab.key(), &image));
    let both = [one.instance.as_str(), two.instance.as_str(), one.instance.as_str()];
    let change = |request: &ChangePower| lab.cloud.change_power(&lab.key(), request);
    let status = |id: &str| lab.status(&lab.key(), id).unwrap();

    lab.cloud.lock_instance(&lab.operator(), &two.instance, Lock::Security).unwrap();
    let start = ask(PowerChange::Start, &both, false);
    assert!(matches!(lab.refused(|| change(&start)), CloudError::InstanceLockedForSecurity { .. }));
    assert_eq!(status(&one.instance), InstanceStatus::Stopped);
    assert!(!lab.exports.is_open(&one.system_disk));
    lab.cloud.unlock_instance(&lab.operator(), &two.instance, Some(Lock::Security)).unwrap();

    let check = || lab.cloud.change_power(&lab.key().checking(), &start);
    assert!(matches!(lab.refused(check), CloudError::DryRunPassed));
    let started = change(&start).unwrap();
    assert_eq!(started.len(), 2, "one named twice counts once");
    for row in &started {
        assert_eq!(row.before, Some(InstanceStatus::Stopped));
        assert_eq!(row.now, Some(InstanceStatus::Running));
    }
    assert!(lab.exports.is_open(&one.system_disk) && lab.exports.is_open(&two.system_disk));

    let reboot = ask(PowerChange::Reboot, &both, false);
    assert_eq!(change(&reboot).unwrap().len(), 2);
    lab.stop(&two.instance);
    assert!(matches!(
        lab.refused(|| change(&reboot)),
        CloudError::IncorrectInstanceStatus { status: InstanceStatus::Stopped, .. }
    ));
    assert!(lab.exports.is_open(&one.system_disk));
}

#[test]
fn each_alone_those_change_that_can() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let (one, two) = (lab.instance(&lab.key(), &image), lab.used_instance(&lab.key(), &image));
    lab.start(&one.instance);
    let foreign = lab.instance(&lab.operator(), &image);
    let stranger = lab.other("stranger");
    let theirs = lab.image(&stranger, "theirs", 2);
    let theirs = lab.used_instance(&stranger, &theirs);
    let all = [one.instance.as_str(), &two.instance, "i-unknown", &theirs.instance];
    let rows = lab.cloud.change_power(&lab.key(), &ask(PowerChange::Stop, &all, true)).unwrap();
    let seen: Vec<_> = rows.iter().map(|row| (row.before, row.now, row.result.is_ok())).collect();
    let (running, stopped) = (Some(InstanceStatus::Running), Some(InstanceStatus::Stopped));
    assert_eq!(
        seen,
        [
            (running, stopped, true),
            (stopped, stopped, false),
            (None, None, false),
            (None, None, false)
        ]
    );
    assert_eq!(lab.status(&lab.key(), &foreign.instance), stopped);

    for (ids, refused) in [(vec![], "none"), (vec!["i-x"; 1], "unknown")] {
        let error = lab
            .refused(|| lab.cloud.change_power(&lab.key(), &ask(PowerChange::Start, &ids, false)));
        match refused {
            "none" => assert!(matches!(error, CloudError::Missing { parameter: "InstanceId" })),
            _ => assert!(matches!(error, CloudError::NotFound { .. })),
        }
    }
    let many: Vec<_> = (0..101).map(|n| format!("i-{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert!(matches!(
        lab.refused(|| lab.cloud.change_power(&lab.key(), &ask(PowerChange::Stop, &many, true))),
        CloudError::TooMany { what: Countable::InstanceIds, most: 100 }
    ));
}

#[test]
fn a_batch_that_was_started_runs_after_a_restart() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let (one, two) = (lab.instance(&lab.key(), &image), lab.instance(&lab.key(), &image));
    let both = [one.instance.as_str(), two.instance.as_str()];
    lab.cloud.change_power(&lab.key(), &ask(PowerChange::Start, &both, false)).unwrap();
    let lab = lab.crashed();
    for made in [&one, &two] {
        assert_eq!(lab.status(&lab.key(), &made.instance), Some(InstanceStatus::Running));
        assert!(lab.exports.is_open(&made.system_disk));
    }
}

#[test]
fn disks_go_back_to_their_snapshots_in_one_call() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    lab.start(&made.instance);
    let (system, data) = (made.system_disk.as_str(), made.data_disks[0].as_str());
    lab.write(system, 2);
    lab.write(data, 3);
    let (of_system, of_data) = (lab.snapshot(system), lab.snapshot(data));
    lab.write(system, 8);
    lab.write(data, 9);
    let ask =
        |disk: &str, snapshot: &str| ResetDisk { disk: disk.into(), snapshot: snapshot.into() };
    let run_as = |caller: &Caller, requests: &[ResetDisk]| {
        lab.cloud.reset_disks(caller, requests, Cloud::new_request_id())
    };
    let run = |requests: &[ResetDisk]| run_as(&lab.key(), requests);
    let refused = run(&[ask(system, &of_system)]);
    assert!(matches!(refused[0], Err(CloudError::IncorrectInstanceStatus { .. })));
    lab.stop(&made.instance);

    let before = lab.state();
    let asked = [ask(system, &of_system), ask(data, &of_system)];
    let dry = run_as(&lab.key().checking(), &asked);
    assert!(matches!(dry[0], Err(CloudError::DryRunPassed)));
    assert!(matches!(dry[1], Err(CloudError::SnapshotOfOtherDisk { .. })));
    assert!(lab.state() == before);

    let done = run(&[
        ask(system, &of_system),
        ask("d-unknown", &of_system),
        ask(data, &of_data),
        ask(data, &of_data),
    ]);
    assert!(done[0].is_ok() && done[2].is_ok());
    assert!(matches!(done[1], Err(CloudError::NotFound { .. })));
    assert!(matches!(done[3], Err(CloudError::IncorrectDiskStatus { .. })));
    assert_eq!((lab.read(system), lab.read(data)), (2, 3));
}

#[test]
fn several_instances_go_or_none_does() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let (one, two) = (lab.instance(&lab.key(), &image), lab.instance(&lab.key(), &image));
    let kept = lab.disk();
    lab.attach(&kept, &two.instance);
    lab.start(&two.instance);
    lab.write(&kept, 7);
    let ids: Vec<_> = [&one.instance, &two.instance, &one.instance].map(Clone::clone).into();
    let ask =
        DeleteInstances { instances: ids, client_token: Some("once".into()), ..Default::default() };
    let delete = |request: &DeleteInstances| lab.cloud.delete_instances(&lab.key(), request);
    let running = lab.refused(|| delete(&ask));
    assert!(matches!(running, CloudError::IncorrectInstanceStatus { .. }));
    let unknown = DeleteInstances {
        instances: vec![one.instance.clone(), "i-unknown".into()],
        force: true,
        ..Default::default()
    };
    assert!(matches!(lab.refused(|| delete(&unknown)), CloudError::NotFound { .. }));
    let none = DeleteInstances::default();
    assert!(matches!(lab.refused(|| delete(&none)), CloudError::Missing { .. }));
    let many = (0..101).map(|n| format!("i-{n}")).collect();
    let many = DeleteInstances { instances: many, ..Default::default() };
    assert!(matches!(
        lab.refused(|| delete(&many)),
        CloudError::TooMany { what: Countable::InstanceIds, most: 100 }
    ));

    // A disk that cannot be flushed stands in the way of all.
    let ask = DeleteInstances { force: true, client_token: Some("twice".into()), ..ask };
    lab.exports.refuse_fences(true);
    lab.refused(|| delete(&ask));
    lab.exports.refuse_fences(false);
    assert_eq!(lab.status(&lab.key(), &one.instance), Some(InstanceStatus::Stopped));
    assert_eq!(lab.status(&lab.key(), &two.instance), Some(InstanceStatus::Running));
    assert!(lab.exports.is_open(&kept) && lab.exports.is_open(&two.system_disk));
    assert_eq!(lab.read(&kept), 7);

    delete(&ask).unwrap();
    let later = lab.state();
    delete(&ask).unwrap();
    assert!(lab.state() == later, "the same token, the same answer");
    for lab in [&lab, &lab.crashed()] {
        for made in [&one, &two] {
            assert_eq!(lab.status(&lab.key(), &made.instance), None);
            assert!(lab.view(&made.system_disk).is_none());
        }
        assert_eq!(lab.disk_status(&kept), Some(DiskStatus::Available));
        assert!(!lab.exports.is_open(&kept) && lab.read(&kept) == 7);
    }
}
