//! Snapshot groups: made, described and deleted whole.

use cloud::{
    Caller, CloudError, Countable, CreateImage, CreateSnapshotGroup, DescribeSnapshotGroups,
    DescribeSnapshots, ImageFrom, InstanceCreated, Paging, ResetDisk, Resource, SnapshotGroupView,
    SnapshotStatus, TagFilter,
};

use crate::lab::{Lab, all, wait};

fn of_instance(instance: &str) -> CreateSnapshotGroup {
    CreateSnapshotGroup { instance: Some(instance.into()), ..Default::default() }
}

fn take(lab: &Lab, request: &CreateSnapshotGroup) -> Result<String, CloudError> {
    lab.cloud.create_snapshot_group(&lab.key(), request)
}

fn groups(lab: &Lab, caller: &Caller) -> Vec<SnapshotGroupView> {
    let asked = DescribeSnapshotGroups { paging: all(), ..Default::default() };
    lab.cloud.describe_snapshot_groups(caller, &asked).unwrap().items
}

fn snapshots(lab: &Lab) -> u64 {
    let asked = DescribeSnapshots { paging: all(), ..Default::default() };
    lab.cloud.describe_snapshots(&lab.key(), &asked).unwrap().total
}

/// A running instance whose disks begin with 2 and 3.
fn written(lab: &Lab) -> InstanceCreated {
    let base = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &base);
    lab.start(&made.instance);
    lab.write(&made.system_disk, 2);
    lab.write(&made.data_disks[0], 3);
    made
}

fn settled(lab: &Lab) -> SnapshotGroupView {
    wait(|| groups(lab, &lab.key()).iter().all(|one| one.status == SnapshotStatus::Accomplished));
    groups(lab, &lab.key()).remove(0)
}

#[test]
fn a_group_is_made_by_one_commit_and_goes_by_one() {
    let (lab, gate) = Lab::gated();
    let made = written(&lab);
    let request = CreateSnapshotGroup {
        name: Some("before".into()),
        tags: vec![("k".into(), "v".into())],
        client_token: Some("t".into()),
        ..of_instance(&made.instance)
    };
    let (before, after, id) = lab.crashed_around(&gate, || take(&lab, &request).unwrap());
    assert_eq!((groups(&before, &before.key()).len(), snapshots(&before)), (0, 0));
    assert_eq!(take(&lab, &request).unwrap(), id, "the same token, the same answer");
    let stranger = lab.other("stranger");
    assert!(groups(&lab, &stranger).is_empty());
    // What is hashed meanwhile would be a change while a refusal is looked at.
    settled(&lab);
    assert!(matches!(
        lab.refused(|| lab.cloud.delete_snapshot_group(&stranger, &id)),
        CloudError::NotFound { kind: Resource::SnapshotGroup, .. }
    ));
    for lab in [&after, &lab] {
        let group = settled(lab);
        assert_eq!((group.id.as_str(), group.name.as_str()), (id.as_str(), "before"));
        let disks: Vec<_> = group.snapshots.iter().map(|one| one.disk.as_str()).collect();
        assert_eq!(disks, [made.system_disk.as_str(), &made.data_disks[0]]);
        assert!(group.snapshots.iter().all(|one| one.progress_percent == 100));
        lab.write(&made.system_disk, 8);
        lab.write(&made.data_disks[0], 9);
        lab.stop(&made.instance);
        let back = group
            .snapshots
            .iter()
            .map(|one| ResetDisk { disk: one.disk.clone(), snapshot: one.id.clone() });
        let back: Vec<_> = back.collect();
        let done = lab.cloud.reset_disks(&lab.key(), &back, cloud::Cloud::new_request_id());
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        assert_eq!((lab.read(&made.system_disk), lab.read(&made.data_disks[0])), (2, 3));
    }
    // Nothing stands on the snapshots' layers but the disks that went back to them.
    let (before, after, gone) =
        lab.crashed_around(&gate, || lab.cloud.delete_snapshot_group(&lab.key(), &id).unwrap());
    assert_eq!(gone.len(), 2);
    for (lab, left) in [(&before, 2), (&after, 0), (&lab, 0)] {
        assert_eq!((groups(lab, &lab.key()).len() * 2, snapshots(lab)), (left, left as u64));
        assert_eq!((lab.read(&made.system_disk), lab.read(&made.data_disks[0])), (2, 3));
        lab.reinit(&made.data_disks[0]).unwrap();
        lab.reinit(&made.system_disk).unwrap();
    }
    lab.cloud.delete_instance(&lab.key(), &made.instance, false).unwrap();
    // Only the image is left; a layer that somebody still has open goes a little later.
    wait(|| lab.layers() == 1);
}

#[test]
fn a_group_loses_the_members_that_are_deleted_and_goes_with_the_last() {
    let lab = Lab::new();
    let made = written(&lab);
    let id = take(&lab, &of_instance(&made.instance)).unwrap();
    let members: Vec<_> = settled(&lab).snapshots.into_iter().map(|one| one.id).collect();
    let image = CreateImage::of(ImageFrom::Snapshot(members[0].clone()));
    let image = lab.cloud.create_image(&lab.key(), &image).unwrap();
    assert!(matches!(
        lab.refused(|| lab.cloud.delete_snapshot_group(&lab.key(), &id)),
        CloudError::SnapshotCreatedImage { .. }
    ));
    lab.cloud.delete_snapshot(&lab.key(), &members[1], false).unwrap();
    assert_eq!(settled(&lab).snapshots.len(), 1);
    let lab = lab.restart(|_| ());
    assert_eq!(settled(&lab).snapshots[0].id, members[0]);
    lab.cloud.delete_image(&lab.key(), &image, false).unwrap();
    lab.cloud.delete_snapshot(&lab.key(), &members[0], false).unwrap();
    assert!(groups(&lab, &lab.key()).is_empty());
    assert!(groups(&lab.crashed(), &lab.key()).is_empty());
}

#[test]
fn groups_are_refused_as_their_snapshots_would_be() {
    let lab = Lab::with(|settings| settings.hash_bandwidth = Some(100));
    let base = lab.image(&lab.key(), "base", 1);
    let (one, two) = (lab.instance(&lab.key(), &base), lab.instance(&lab.key(), &base));
    let refused = |change: &dyn Fn(&mut CreateSnapshotGroup)| {
        let mut request = of_instance(&one.instance);
        change(&mut request);
        lab.refused(|| take(&lab, &request))
    };
    assert!(matches!(
        refused(&|request| {
            request.disks = vec!["d-1".into()];
            request.exclude = vec!["d-2".into()];
        }),
        CloudError::ParametersConflict { .. }
    ));
    assert!(matches!(
        refused(&|request| request.instance = Some("i-unknown".into())),
        CloudError::NotFound { kind: Resource::Instance, .. }
    ));
    let both = [one.system_disk.clone(), one.data_disks[0].clone()];
    assert!(matches!(
        refused(&|request| request.exclude = both.to_vec()),
        CloudError::Missing { parameter: "DiskId.1" }
    ));
    assert!(matches!(
        refused(&|request| request.disks = (0..17).map(|n| format!("d-{n}")).collect()),
        CloudError::TooMany { what: Countable::DiskIds, most: 16 }
    ));
    assert!(matches!(
        refused(&|request| request.disks = vec!["d-unknown".into()]),
        CloudError::NotFound { kind: Resource::Disk, .. }
    ));
    assert!(matches!(
        refused(&|request| request.disks = vec![two.system_disk.clone()]),
        CloudError::NotAttachedThere { .. }
    ));
    assert!(matches!(refused(&|_| ()), CloudError::NeverUsed { .. }));
    lab.start(&one.instance);
    lab.start(&two.instance);
    // Both take long to hash: what becomes accomplished meanwhile is no change of a refused call.
    lab.write(&one.system_disk, 5);
    lab.write(&two.system_disk, 5);
    // Disks of several instances, one named twice.
    let disks = vec![one.system_disk.clone(), two.system_disk.clone(), one.system_disk.clone()];
    let several = CreateSnapshotGroup { disks, ..Default::default() };
    let id = take(&lab, &several).unwrap();
    let shown = groups(&lab, &lab.key()).remove(0);
    assert_eq!((shown.snapshots.len(), shown.status), (2, SnapshotStatus::Progressing));
    assert!(matches!(refused(&|_| ()), CloudError::SnapshotInProgress { .. }));
    assert!(matches!(
        lab.refused(|| lab.cloud.delete_snapshot_group(&lab.key(), &id)),
        CloudError::Conflict { .. }
    ));
}

#[test]
fn groups_are_found_by_what_they_are() {
    let lab = Lab::new();
    let made = written(&lab);
    let mut ids = Vec::new();
    for name in ["first", "second", "third"] {
        let tags = vec![("name".into(), name.into())];
        let request =
            CreateSnapshotGroup { name: Some(name.into()), tags, ..of_instance(&made.instance) };
        ids.push(take(&lab, &request).unwrap());
        settled(&lab);
    }
    let count = |change: &dyn Fn(&mut DescribeSnapshotGroups)| {
        let mut asked = DescribeSnapshotGroups { paging: all(), ..Default::default() };
        change(&mut asked);
        lab.cloud.describe_snapshot_groups(&lab.key(), &asked).unwrap().total
    };
    assert_eq!(count(&|_| ()), 3);
    assert_eq!(count(&|asked| asked.ids = Some(vec![ids[0].clone(), "ssg-no".into()])), 1);
    assert_eq!(count(&|asked| asked.name = Some("*d".into())), 2);
    assert_eq!(count(&|asked| asked.instance = Some("i-other".into())), 0);
    assert_eq!(count(&|asked| asked.statuses = Some(vec![SnapshotStatus::Failed])), 0);
    assert_eq!(count(&|asked| asked.statuses = Some(vec![SnapshotStatus::Accomplished])), 3);
    let tag = TagFilter { key: "name".into(), value: Some("first".into()) };
    assert_eq!(count(&|asked| asked.tags = vec![tag.clone()]), 1);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let paging = Paging::Token { most: 2, after };
        let asked = DescribeSnapshotGroups { paging, ..Default::default() };
        let page = lab.cloud.describe_snapshot_groups(&lab.key(), &asked).unwrap();
        seen.extend(page.items.into_iter().map(|one| one.id));
        if page.next_token.is_empty() {
            break;
        }
        after = Some(page.next_token);
    }
    seen.sort();
    ids.sort();
    assert_eq!(seen, ids);
}
