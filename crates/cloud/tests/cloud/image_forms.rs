//! CreateImage in its three forms, and instances of images that bring data disks along.

use cloud::{
    Caller, CloudError, CopyImage, CreateImage, CreateInstance, DataDisk, DescribeImages,
    DescribeSnapshots, DiskRole, GIB, ImageDiskAsked, ImageFrom, ImageStatus, ImageView, Lock,
    ShareImage, SnapshotStatus,
};

use crate::lab::{Lab, MIB, all, wait};

fn of_instance(lab: &Lab, instance: &str) -> Result<String, CloudError> {
    let request = CreateImage::of(ImageFrom::Instance(instance.into()));
    lab.cloud.create_image(&lab.key(), &request)
}

fn of_disks(lab: &Lab, disks: &[ImageDiskAsked]) -> Result<String, CloudError> {
    lab.cloud.create_image(&lab.key(), &CreateImage::of(ImageFrom::Disks(disks.to_vec())))
}

fn disk(snapshot: &str) -> ImageDiskAsked {
    ImageDiskAsked { snapshot: Some(snapshot.into()), ..Default::default() }
}

fn image(lab: &Lab, id: &str) -> ImageView {
    let statuses = [ImageStatus::Creating, ImageStatus::Available, ImageStatus::CreateFailed];
    let asked = DescribeImages {
        ids: Some(vec![id.into()]),
        statuses: Some(statuses.into()),
        ..Default::default()
    };
    lab.cloud.describe_images(&lab.key(), &asked).unwrap().items.remove(0)
}

fn template(image: &str) -> CreateInstance {
    CreateInstance {
        image: Some(image.into()),
        instance_type: Some("ecs.g7.large".into()),
        ..Default::default()
    }
}

/// A running instance whose system disk begins with 2 and whose data disk begins with 3.
fn written(lab: &Lab) -> cloud::InstanceCreated {
    let base = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &base);
    lab.start(&made.instance);
    lab.write(&made.system_disk, 2);
    lab.write(&made.data_disks[0], 3);
    made
}

#[test]
fn an_image_of_an_instance_holds_all_its_disks() {
    let lab = Lab::new();
    let made = written(&lab);
    let id = of_instance(&lab, &made.instance).unwrap();
    lab.write(&made.system_disk, 8);
    lab.write(&made.data_disks[0], 9);
    wait(|| image(&lab, &id).status == ImageStatus::Available);
    let shown = image(&lab, &id);
    assert_eq!((shown.size.get(), shown.progress_percent), (GIB, 100));
    assert!(shown.root.is_some() && shown.source_snapshot.is_some());
    assert_eq!(shown.data_disks.len(), 1);
    let data = &shown.data_disks[0];
    assert_eq!((data.device.as_str(), data.size.get()), ("/dev/xvdb", 5 * GIB));
    assert!(matches!(
        lab.refused(|| lab.cloud.delete_snapshot(&lab.key(), &data.snapshot, true)),
        CloudError::SnapshotCreatedImage { .. }
    ));

    let copy = lab.cloud.create_instance(&lab.key(), &template(&id)).unwrap();
    assert_eq!(copy.data_disks.len(), 1);
    lab.start(&copy.instance);
    assert_eq!((lab.read(&copy.system_disk), lab.read(&copy.data_disks[0])), (2, 3));
    let view = lab.view(&copy.data_disks[0]).unwrap();
    assert_eq!(view.attachment.unwrap().device, "/dev/xvdb");
    lab.write(&copy.data_disks[0], 7);
    lab.stop(&copy.instance);
    lab.reinit(&copy.data_disks[0]).unwrap();
    assert_eq!(lab.read(&copy.data_disks[0]), 3);

    // What stood behind the image is gone: another row than that of a snapshot of one's own.
    lab.cloud.delete_image(&lab.key(), &id, true).unwrap();
    lab.cloud.delete_snapshot(&lab.key(), &data.snapshot, true).unwrap();
    assert!(matches!(
        lab.refused(|| lab.reinit(&copy.data_disks[0])),
        CloudError::SourceImageGone { .. }
    ));
}

#[test]
fn an_image_of_an_instance_is_made_whole_after_a_crash_or_was_never() {
    let (lab, gate) = Lab::gated();
    let made = written(&lab);
    let (before, after, id) =
        lab.crashed_around(&gate, || of_instance(&lab, &made.instance).unwrap());
    for (lab, exists) in [(&before, false), (&after, true), (&lab, true)] {
        let asked = DescribeImages { statuses: None, paging: all(), ..Default::default() };
        let count = || lab.cloud.describe_images(&lab.key(), &asked).unwrap().total;
        wait(|| count() == 1 + u64::from(exists));
        let taken = DescribeSnapshots { paging: all(), ..Default::default() };
        let taken = lab.cloud.describe_snapshots(&lab.key(), &taken).unwrap();
        assert_eq!(taken.total, if exists { 2 } else { 0 });
        assert!(taken.items.iter().all(|one| one.status == SnapshotStatus::Accomplished));
        assert_eq!((lab.read(&made.system_disk), lab.read(&made.data_disks[0])), (2, 3));
        if exists {
            let copy = lab.cloud.create_instance(&lab.key(), &template(&id)).unwrap();
            assert_eq!((lab.read(&copy.system_disk), lab.read(&copy.data_disks[0])), (2, 3));
        }
    }
}

#[test]
fn an_image_waits_for_the_last_of_its_snapshots() {
    let lab = Lab::with(|settings| settings.hash_bandwidth = Some(100));
    let made = written(&lab);
    let id = of_instance(&lab, &made.instance).unwrap();
    let shown = image(&lab, &id);
    assert_eq!((shown.status, shown.progress_percent), (ImageStatus::Creating, 0));
    assert!(matches!(
        lab.refused(|| lab.cloud.create_instance(&lab.key(), &template(&id))),
        CloudError::ImageNotReady { .. }
    ));
    assert!(matches!(
        lab.refused(|| of_instance(&lab, &made.instance)),
        CloudError::SnapshotInProgress { .. }
    ));
    let lab = lab.restart(|settings| settings.hash_bandwidth = None);
    wait(|| image(&lab, &id).status == ImageStatus::Available);
    // One that is deleted meanwhile stays deleted.
    let lab = lab.restart(|settings| settings.hash_bandwidth = Some(100));
    lab.write(&made.system_disk, 4);
    let second = of_instance(&lab, &made.instance).unwrap();
    lab.cloud.delete_image(&lab.key(), &second, false).unwrap();
    let lab = lab.restart(|settings| settings.hash_bandwidth = None);
    let asked = DescribeSnapshots { paging: all(), ..Default::default() };
    let snapshots = || lab.cloud.describe_snapshots(&lab.key(), &asked).unwrap().items;
    wait(|| snapshots().iter().all(|one| one.status == SnapshotStatus::Accomplished));
    let shown = DescribeImages { ids: Some(vec![second]), ..Default::default() };
    assert_eq!(lab.cloud.describe_images(&lab.key(), &shown).unwrap().total, 0);
}

#[test]
fn an_image_of_an_instance_is_refused_as_its_snapshots_would_be() {
    let lab = Lab::new();
    let base = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &base);
    assert!(matches!(lab.refused(|| of_instance(&lab, "i-unknown")), CloudError::NotFound { .. }));
    let stranger = lab.other("stranger");
    let request = CreateImage::of(ImageFrom::Instance(made.instance.clone()));
    assert!(matches!(
        lab.refused(|| lab.cloud.create_image(&stranger, &request)),
        CloudError::NotFound { .. }
    ));
    assert!(matches!(
        lab.refused(|| of_instance(&lab, &made.instance)),
        CloudError::NeverUsed { .. }
    ));
    lab.start(&made.instance);
    lab.cloud.lock_instance(&lab.operator(), &made.instance, Lock::Security).unwrap();
    assert!(matches!(
        lab.refused(|| of_instance(&lab, &made.instance)),
        CloudError::InstanceLockedForSecurity { .. }
    ));
    lab.cloud.unlock_instance(&lab.operator(), &made.instance, None).unwrap();
    let named = CreateImage { name: Some("base".into()), ..request.clone() };
    assert!(matches!(
        lab.refused(|| lab.cloud.create_image(&lab.key(), &named)),
        CloudError::ImageNameTaken { .. }
    ));
    assert!(matches!(
        lab.refused(|| lab.cloud.create_image(&lab.key().checking(), &request)),
        CloudError::DryRunPassed
    ));
    of_instance(&lab, &made.instance).unwrap();
}

#[test]
fn an_image_of_snapshots_holds_one_system_disk() {
    let lab = Lab::new();
    let made = written(&lab);
    let (system, data) = (lab.snapshot(&made.system_disk), lab.snapshot(&made.data_disks[0]));
    let refused = |disks: &[ImageDiskAsked]| lab.refused(|| of_disks(&lab, disks));
    let at = |device: &str| ImageDiskAsked { device: Some(device.into()), ..disk(&data) };
    for disks in [vec![disk(&data)], vec![disk(&system), disk(&system)], vec![]] {
        assert!(matches!(refused(&disks), CloudError::NotOneSystemDisk));
    }
    let snapshot = CreateImage::of(ImageFrom::Snapshot(data.clone()));
    assert!(matches!(
        lab.refused(|| lab.cloud.create_image(&lab.key(), &snapshot)),
        CloudError::SnapshotOfWrongType { .. }
    ));
    assert!(matches!(refused(&[disk(&system), disk("s-unknown")]), CloudError::NotFound { .. }));
    assert!(matches!(refused(&[disk(&system), at("/dev/xvda")]), CloudError::Malformed { .. }));
    assert!(matches!(
        refused(&[disk(&system), at("/dev/xvdc"), at("/dev/xvdc")]),
        CloudError::DeviceInUse { .. }
    ));
    let small = ImageDiskAsked { size: Some(GIB), ..disk(&data) };
    assert!(matches!(refused(&[disk(&system), small]), CloudError::ValueNotSupported { .. }));
    assert!(matches!(
        refused(&[disk(&system), ImageDiskAsked::default()]),
        CloudError::Missing { .. }
    ));
    let many = vec![disk(&system); 18];
    assert!(matches!(refused(&many), CloudError::TooMany { .. }));

    let empty = ImageDiskAsked { size: Some(2 * GIB), ..Default::default() };
    let as_data = ImageDiskAsked { role: Some(DiskRole::Data), ..disk(&system) };
    let disks = [disk(&system), empty, at("/dev/xvdb"), as_data];
    let id = of_disks(&lab, &disks).unwrap();
    let shown = image(&lab, &id);
    let seen: Vec<_> = shown
        .data_disks
        .iter()
        .map(|one| (one.device.as_str(), one.size.get(), one.snapshot.as_str()))
        .collect();
    let wanted = [
        ("/dev/xvdb", 5 * GIB, data.as_str()),
        ("/dev/xvdc", 2 * GIB, ""),
        ("/dev/xvdd", GIB, &system),
    ];
    assert_eq!(seen, wanted);

    // The request's own disk takes the place of the image's; one without a device finds a free one.
    let own = |device: Option<&str>| DataDisk {
        size: Some(6 * GIB),
        device: device.map(str::to_owned),
        ..Default::default()
    };
    let request =
        CreateInstance { data_disks: vec![own(None), own(Some("/dev/xvdb"))], ..template(&id) };
    let copy = lab.cloud.create_instance(&lab.key(), &request).unwrap();
    let place = |disk: &String| {
        let view = lab.view(disk).unwrap();
        (view.attachment.unwrap().device, view.size.get(), lab.read(disk))
    };
    let seen: Vec<_> = copy.data_disks.iter().map(place).collect();
    let wanted = [
        ("/dev/xvde", 6 * GIB, 0),
        ("/dev/xvdb", 6 * GIB, 0),
        ("/dev/xvdc", 2 * GIB, 0),
        ("/dev/xvdd", GIB, 2),
    ];
    assert_eq!(seen, wanted.map(|(device, size, byte)| (device.to_owned(), size, byte)));
    lab.start(&copy.instance);
    lab.stop(&copy.instance);
    for disk in &copy.data_disks {
        lab.reinit(disk).unwrap();
    }
}

#[test]
fn a_shared_image_brings_its_data_disks_to_other_accounts() {
    let lab = Lab::new();
    let made = written(&lab);
    let (system, data) = (lab.snapshot(&made.system_disk), lab.snapshot(&made.data_disks[0]));
    let id = of_disks(&lab, &[disk(&system), disk(&data)]).unwrap();
    let friend: Caller = lab.other("friend");
    let share = ShareImage {
        image: id.clone(),
        add: vec![lab.account_number("friend")],
        ..Default::default()
    };
    lab.cloud.share_image(&lab.key(), &share).unwrap();
    let copy = lab.cloud.create_instance(&friend, &template(&id)).unwrap();
    lab.start(&copy.instance);
    assert_eq!((lab.read(&copy.system_disk), lab.read(&copy.data_disks[0])), (2, 3));
    lab.write(&copy.data_disks[0], 7);
    lab.stop(&copy.instance);
    lab.reinit_as(&friend, &copy.data_disks[0]).unwrap();
    assert_eq!(lab.read(&copy.data_disks[0]), 3);
    let own = cloud::CreateDisk { snapshot: Some(data), size: Some(MIB), ..Default::default() };
    assert!(matches!(
        lab.refused(|| lab.cloud.create_disk(&friend, &own)),
        CloudError::NotFound { .. }
    ));
}

#[test]
fn a_copy_outlives_what_it_was_made_from() {
    let (lab, gate) = Lab::gated();
    let made = written(&lab);
    let (system, data) = (lab.snapshot(&made.system_disk), lab.snapshot(&made.data_disks[0]));
    let empty = ImageDiskAsked { size: Some(2 * GIB), ..Default::default() };
    let id = of_disks(&lab, &[disk(&system), disk(&data), empty]).unwrap();
    let friend = lab.other("friend");
    let ask = CopyImage { image: id.clone(), name: Some("mine".into()), ..Default::default() };
    let copy = |lab: &Lab, request: &CopyImage| lab.cloud.copy_image(&friend, request);
    assert!(matches!(lab.refused(|| copy(&lab, &ask)), CloudError::NotFound { .. }));
    let number = lab.account_number("friend");
    let share = ShareImage { image: id.clone(), add: vec![number.clone()], ..Default::default() };
    lab.cloud.share_image(&lab.key(), &share).unwrap();
    assert!(matches!(
        lab.refused(|| lab.cloud.copy_image(&friend.checking(), &ask)),
        CloudError::DryRunPassed
    ));
    let (before, after, copied) = lab.crashed_around(&gate, || copy(&lab, &ask).unwrap());
    assert!(matches!(lab.refused(|| copy(&lab, &ask)), CloudError::ImageNameTaken { .. }));
    let seen = |lab: &Lab| {
        let images = DescribeImages { paging: all(), ..Default::default() };
        let snapshots = DescribeSnapshots { paging: all(), ..Default::default() };
        let images = lab.cloud.describe_images(&friend, &images).unwrap().total;
        (images, lab.cloud.describe_snapshots(&friend, &snapshots).unwrap().total)
    };
    assert_eq!((seen(&before), seen(&after), seen(&lab)), ((1, 0), (2, 1), (2, 1)));

    let unshare = ShareImage { image: id.clone(), remove: vec![number], ..Default::default() };
    for lab in [&after, &lab] {
        lab.cloud.share_image(&lab.key(), &unshare).unwrap();
        lab.cloud.delete_image(&lab.key(), &id, false).unwrap();
        for snapshot in [&system, &data] {
            lab.cloud.delete_snapshot(&lab.key(), snapshot, false).unwrap();
        }
        lab.cloud.delete_instance(&lab.key(), &made.instance, true).unwrap();
        let new = lab.cloud.create_instance(&friend, &template(&copied)).unwrap();
        lab.start(&new.instance);
        assert_eq!((lab.read(&new.system_disk), lab.read(&new.data_disks[0])), (2, 3));
        let operator = Caller::operator("friend");
        let third = lab.cloud.show_disk(&operator, &new.data_disks[1]).unwrap();
        assert_eq!(third.view.size.get(), 2 * GIB);
        lab.stop(&new.instance);
        for disk in [&new.system_disk, &new.data_disks[0]] {
            lab.reinit_as(&friend, disk).unwrap();
        }
    }
}
