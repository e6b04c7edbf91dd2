//! Images from and to the operator's directories.

use std::path::PathBuf;

use cloud::{
    Caller, CloudError, Countable, DescribeImages, DescribeSnapshots, DescribeTasks, ExportFormat,
    ExportImage, Field, ImageStatus, ImportDisk, ImportObject, Resource, ShareImage,
    SnapshotStatus, TaskStatus,
};

use crate::lab::{Lab, MIB, wait};

fn import(object: &str) -> ImportObject {
    ImportObject { disks: vec![disk(object)], ..Default::default() }
}

fn disk(object: &str) -> ImportDisk {
    ImportDisk { bucket: "images".into(), object: object.into(), ..Default::default() }
}

fn export(image: &str) -> ExportImage {
    ExportImage {
        image: image.into(),
        bucket: "images".into(),
        prefix: None,
        format: ExportFormat::Raw,
    }
}

fn bucket(lab: &Lab) -> PathBuf {
    lab.settings.buckets["images"].directory.clone()
}

fn names(lab: &Lab) -> Vec<String> {
    let entries = std::fs::read_dir(bucket(lab)).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn ended(lab: &Lab, task: &str) -> TaskStatus {
    let status = || lab.cloud.describe_task(&lab.key(), task).unwrap().status;
    wait(|| status() != TaskStatus::Processing);
    status()
}

#[test]
fn an_object_becomes_an_image_once_for_each_token() {
    let lab = Lab::new().with_bucket();
    std::fs::create_dir(bucket(&lab).join("sub")).unwrap();
    std::fs::write(bucket(&lab).join("sub/base.raw"), vec![5; 1 << 20]).unwrap();
    let request = ImportObject {
        client_token: Some("t".into()),
        disks: vec![ImportDisk {
            size: Some(2 * cloud::GIB),
            format: Some(block_store::ImageFormat::Raw),
            ..disk("sub/base.raw")
        }],
        ..Default::default()
    };
    let started = lab.cloud.import_object(&lab.key(), &request).unwrap();
    assert_eq!(ended(&lab, &started.task), TaskStatus::Finished);
    let lab = lab.restart(|_| ());
    assert_eq!(lab.cloud.import_object(&lab.key(), &request).unwrap(), started);
    let asked = DescribeImages { ids: Some(vec![started.image.clone()]), ..Default::default() };
    let image = lab.cloud.describe_images(&lab.key(), &asked).unwrap().items.remove(0);
    assert_eq!((image.name.as_str(), image.size_gib()), (started.image.as_str(), 2));
    let made = lab.used_instance(&lab.key(), &started.image);
    assert_eq!(lab.view(&made.system_disk).unwrap().size_gib(), 2);
    lab.reinit(&made.system_disk).unwrap();
    let device = lab.cloud.store().open_disk(&made.system_disk.parse().unwrap()).unwrap();
    let mut bytes = [1; 8192];
    use block_device::{BlockDevice as _, ByteOffset};
    device.read_at(&mut bytes, ByteOffset::new(MIB - 4096)).unwrap();
    assert_eq!(bytes, *[[5; 4096], [0; 4096]].as_flattened());
}

#[test]
fn an_import_with_data_disks_is_one_image_with_snapshots_behind_it_or_none() {
    let (lab, gate) = Lab::gated();
    let lab = lab.with_bucket();
    for (name, byte) in [("a.raw", 5_u8), ("b.raw", 6), ("c.raw", 5)] {
        std::fs::write(bucket(&lab).join(name), vec![byte; 1 << 20]).unwrap();
    }
    let raw = Some(block_store::ImageFormat::Raw);
    let named = |object: &str, device: &str| ImportDisk {
        device: Some(device.into()),
        format: raw,
        ..disk(object)
    };
    let ask = ImportObject {
        name: Some("base".into()),
        disks: vec![
            disk("a.raw"),
            ImportDisk { size: Some(3 * cloud::GIB), ..disk("b.raw") },
            named("c.raw", "/dev/xvdb"),
        ],
        ..Default::default()
    };
    let with = |lab: &Lab, change: &dyn Fn(&mut ImportObject)| {
        let mut request = ask.clone();
        change(&mut request);
        lab.refused(|| lab.cloud.import_object(&lab.key(), &request))
    };
    assert!(matches!(
        with(&lab, &|request| request.disks[1].object = "no".into()),
        CloudError::NotFound { kind: Resource::Object, .. }
    ));
    assert!(matches!(
        with(&lab, &|request| request.disks[1].size = Some(1)),
        CloudError::ImageSizeTooSmall { .. }
    ));
    assert!(matches!(
        with(&lab, &|request| request.disks[1].device = Some("/dev/xvdb".into())),
        CloudError::DeviceInUse { .. }
    ));
    assert!(matches!(
        with(&lab, &|request| request.disks[1].device = Some("/dev/xvda".into())),
        CloudError::Malformed { field: Field::Device, .. }
    ));
    assert!(matches!(
        with(&lab, &|request| request.disks = vec![disk("a.raw"); 18]),
        CloudError::TooMany { what: Countable::DataDisks, .. }
    ));
    assert!(matches!(with(&lab, &|request| request.disks.clear()), CloudError::Missing { .. }));

    let layers = lab.layers();
    let (before, after, started) = lab.crashed_around_nth(&gate, 1, || {
        let started = lab.cloud.import_object(&lab.key(), &ask).unwrap();
        assert_eq!(ended(&lab, &started.task), TaskStatus::Finished);
        started
    });
    let images = |lab: &Lab| {
        let asked = DescribeImages { ids: Some(vec![started.image.clone()]), ..Default::default() };
        lab.cloud.describe_images(&lab.key(), &asked).unwrap().items
    };
    let snapshots = |lab: &Lab| {
        let all = DescribeSnapshots { paging: cloud::Paging::All, ..Default::default() };
        lab.cloud.describe_snapshots(&lab.key(), &all).unwrap().items
    };
    assert!(images(&before).is_empty() && snapshots(&before).is_empty());
    assert_eq!(before.layers(), layers);
    assert_eq!(ended(&before, &started.task), TaskStatus::Failed);
    for lab in [&lab, &after] {
        let image = images(lab).remove(0);
        let behind = snapshots(lab);
        assert!(behind.iter().all(|one| one.status == SnapshotStatus::Accomplished));
        let found: Vec<_> = image
            .data_disks
            .iter()
            .map(|one| {
                (one.device.as_str(), one.size.get(), behind.iter().any(|b| b.id == one.snapshot))
            })
            .collect();
        assert_eq!(found, [("/dev/xvdc", 3 * cloud::GIB, true), ("/dev/xvdb", 1 << 20, true)]);
        assert_eq!(lab.layers(), layers + 3);
        let request = cloud::CreateInstance { image: Some(image.id), ..Default::default() };
        let made = lab.cloud.create_instance(&lab.operator(), &request).unwrap();
        assert_eq!(lab.read(&made.system_disk), 5);
        let read: Vec<_> = made.data_disks.iter().map(|disk| lab.read(disk)).collect();
        assert_eq!(read, [6, 5]);
        lab.start(&made.instance);
        lab.write(&made.data_disks[0], 9);
        lab.stop(&made.instance);
        lab.reinit(&made.data_disks[0]).unwrap();
        assert_eq!(lab.read(&made.data_disks[0]), 6);
        let refused = lab.refused(|| lab.cloud.delete_snapshot(&lab.key(), &behind[0].id, true));
        assert!(matches!(refused, CloudError::SnapshotCreatedImage { .. }));
    }
}

#[test]
fn an_import_is_refused_in_the_order_of_its_checks() {
    let lab = Lab::new().with_bucket();
    std::fs::write(bucket(&lab).join("x.raw"), vec![5; 1 << 20]).unwrap();
    let refused = |caller: &Caller, change: &dyn Fn(&mut ImportObject)| {
        let mut request = import("x.raw");
        change(&mut request);
        lab.refused(|| lab.cloud.import_object(caller, &request))
    };
    let own = lab.key();
    let unknown = |request: &mut ImportObject| request.disks[0].bucket = "no".into();
    assert!(matches!(refused(&own, &unknown), CloudError::NotFound { kind: Resource::Bucket, .. }));
    assert!(matches!(
        refused(&lab.other("stranger"), &|_| ()),
        CloudError::NotFound { kind: Resource::Bucket, .. }
    ));
    for object in ["../x.raw", "/etc/passwd", ""] {
        assert!(matches!(
            refused(&own, &|request| request.disks[0].object = object.into()),
            CloudError::Malformed { field: Field::OssObject, .. }
        ));
    }
    assert!(matches!(
        refused(&own, &|request| request.disks[0].object = "y.raw".into()),
        CloudError::NotFound { kind: Resource::Object, .. }
    ));
    assert!(matches!(
        refused(&own, &|request| request.architecture = Some("vax".into())),
        CloudError::ValueNotSupported { field: Field::Architecture, .. }
    ));
    assert!(matches!(
        refused(&own, &|request| request.disks[0].format = Some(block_store::ImageFormat::Qcow2)),
        CloudError::ImageRefused { .. }
    ));
    let raw = Some(block_store::ImageFormat::Raw);
    assert!(matches!(
        refused(&own, &|request| (request.disks[0].format, request.disks[0].size) = (raw, Some(0))),
        CloudError::ImageSizeTooSmall { gib: 0, least: 1 }
    ));
    assert!(matches!(
        refused(&own.checking(), &|request| request.disks[0].format = raw),
        CloudError::DryRunPassed
    ));
    assert!(matches!(
        refused(&Caller::key("default", cloud::Role::Reset), &|_| ()),
        CloudError::Forbidden { .. }
    ));
}

#[test]
fn an_export_is_whole_or_not_there() {
    let (lab, gate) = Lab::gated();
    let lab = lab.with_bucket();
    let image = lab.image(&lab.key(), "base", 3);
    let name = format!("{image}_system.raw");
    // The first commit begins the task, the second ends it.
    let (before, after, task) = lab.crashed_around_nth(&gate, 1, || {
        lab.cloud.export_image(&lab.key(), &export(&image)).unwrap()
    });
    assert_eq!(ended(&before, &task), TaskStatus::Failed);
    assert_eq!(names(&before), [""; 0]);
    let shown = before.cloud.describe_task(&before.key(), &task).unwrap();
    assert_eq!(
        (shown.error_code.as_str(), shown.action.as_str()),
        ("ExportImageFailed", "ExportImage")
    );
    for lab in [&after, &lab] {
        assert_eq!(ended(lab, &task), TaskStatus::Finished);
        wait(|| names(lab) == [name.as_str()]);
        assert_eq!(std::fs::read(bucket(lab).join(&name)).unwrap(), vec![3; 1 << 20]);
        lab.cloud.delete_image(&lab.key(), &image, false).unwrap();
    }
}

#[test]
fn an_export_holds_its_image_and_can_be_cancelled() {
    let (lab, gate) = Lab::gated();
    let lab = lab.with_bucket();
    let image = lab.image(&lab.key(), "base", 3);
    std::fs::write(bucket(&lab).join(".reinit-t-unknown.x"), "of another").unwrap();
    let (before, _after, task) = lab.crashed_around_nth(&gate, 1, || {
        let task = lab.cloud.export_image(&lab.key(), &export(&image)).unwrap();
        for refused in [
            lab.cloud.export_image(&lab.key(), &export(&image)).map(drop),
            lab.cloud.delete_image(&lab.key(), &image, true),
        ] {
            assert!(matches!(refused, Err(CloudError::ImageIsExporting { .. })));
        }
        task
    });
    assert_eq!(ended(&lab, &task), TaskStatus::Finished);
    assert_eq!(names(&before), [".reinit-t-unknown.x"], "what no task knows is left alone");
    // Whether the cancellation or the end comes first, the task and the file agree.
    let qcow2 =
        ExportImage { format: ExportFormat::Qcow2, prefix: Some("p".into()), ..export(&image) };
    let task = lab.cloud.export_image(&lab.key(), &qcow2).unwrap();
    // A check of it cancels nothing.
    let checked = lab.cloud.cancel_task(&lab.key().checking(), &task).unwrap_err();
    assert!(matches!(checked, CloudError::DryRunPassed | CloudError::TaskEnded { .. }));
    let cancelled = lab.cloud.cancel_task(&lab.key(), &task);
    let status = ended(&lab, &task);
    let there = names(&lab).contains(&format!("p_{image}_system.qcow2"));
    match cancelled {
        Ok(()) => {
            assert!(!there && status == TaskStatus::Failed);
            let shown = lab.cloud.describe_task(&lab.key(), &task).unwrap();
            assert_eq!(shown.error_message, "it was cancelled");
        }
        Err(_) => assert!(there && status == TaskStatus::Finished),
    }
}

#[test]
fn a_task_at_its_end_refuses_to_be_cancelled() {
    let (lab, gate) = Lab::gated();
    let lab = lab.with_bucket();
    std::fs::write(bucket(&lab).join("base.raw"), vec![3; 1 << 20]).unwrap();
    let key = lab.key();
    // The first commit begins the task; the second ends it, and waits here.
    let cancel = || {
        let asked = DescribeTasks { status: Some(TaskStatus::Processing), ..Default::default() };
        let tasks = lab.cloud.describe_tasks(&key, &asked).unwrap().items;
        assert_eq!((tasks.len(), tasks[0].cancellable), (1, false));
        lab.cloud.cancel_task(&key, &tasks[0].id)
    };
    let raw = ImportDisk { format: Some(block_store::ImageFormat::Raw), ..disk("base.raw") };
    let raw = ImportObject { disks: vec![raw], ..import("base.raw") };
    let import = || lab.cloud.import_object(&key, &raw).unwrap();
    let (refused, begun) = lab.meanwhile_nth(&gate, 1, import, cancel);
    assert!(matches!(refused, Err(CloudError::TaskNotCancellable { .. })), "{refused:?}");
    assert_eq!(ended(&lab, &begun.task), TaskStatus::Finished);
    let export = || lab.cloud.export_image(&key, &export(&begun.image)).unwrap();
    let (refused, task) = lab.meanwhile_nth(&gate, 1, export, cancel);
    assert!(matches!(refused, Err(CloudError::TaskNotCancellable { .. })), "{refused:?}");
    assert_eq!(ended(&lab, &task), TaskStatus::Finished);
}

#[test]
fn an_export_is_refused_in_the_order_of_its_checks() {
    let lab = Lab::new().with_bucket();
    let image = lab.image(&lab.key(), "base", 3);
    let refused = |caller: &Caller, change: &dyn Fn(&mut ExportImage)| {
        let mut request = export(&image);
        change(&mut request);
        lab.refused(|| lab.cloud.export_image(caller, &request))
    };
    let own = lab.key();
    for prefix in ["a/b", "..", "x.y", &"x".repeat(31)] {
        assert!(matches!(
            refused(&own, &|request| request.prefix = Some(prefix.into())),
            CloudError::Malformed { field: Field::OssPrefix, .. }
        ));
    }
    assert!(matches!(
        refused(&own, &|request| request.bucket = "no".into()),
        CloudError::NotFound { kind: Resource::Bucket, .. }
    ));
    let friend = lab.other("friend");
    assert!(matches!(
        refused(&friend, &|_| ()),
        CloudError::NotFound { kind: Resource::Image, .. }
    ));
    let add = vec![lab.account_number("friend")];
    let share = ShareImage { image: image.clone(), add, ..Default::default() };
    lab.cloud.share_image(&own, &share).unwrap();
    assert!(matches!(refused(&friend, &|_| ()), CloudError::ImageNotExportable { .. }));
    assert!(matches!(refused(&own.checking(), &|_| ()), CloudError::DryRunPassed));
    assert_eq!(names(&lab), [""; 0]);
    let statuses = Some(vec![ImageStatus::Available]);
    let asked = DescribeImages { statuses, ..Default::default() };
    assert_eq!(lab.cloud.describe_images(&own, &asked).unwrap().total, 1);
}

#[test]
fn an_image_of_an_empty_disk_is_exported_in_the_format_asked_for() {
    let lab = Lab::new().with_bucket();
    let system_disk = cloud::SystemDisk { size: Some(cloud::GIB), ..Default::default() };
    let request = cloud::CreateInstance { system_disk, ..Default::default() };
    let made = lab.cloud.create_instance(&lab.operator(), &request).unwrap();
    lab.start(&made.instance);
    lab.stop(&made.instance);
    let snapshot = lab.snapshot(&made.system_disk);
    let create = cloud::CreateImage::of(cloud::ImageFrom::Snapshot(snapshot));
    let image = lab.cloud.create_image(&lab.key(), &create).unwrap();
    let size = lab.view(&made.system_disk).unwrap().size.get();
    for (format, ending) in
        [(ExportFormat::Raw, "raw"), (ExportFormat::Qcow2, "qcow2"), (ExportFormat::Vhd, "vhd")]
    {
        let request = ExportImage { format, ..export(&image) };
        let task = lab.cloud.export_image(&lab.key(), &request).unwrap();
        assert_eq!(ended(&lab, &task), TaskStatus::Finished);
        let path = bucket(&lab).join(format!("{image}_system.{ending}"));
        wait(|| path.exists());
        let file = std::fs::File::open(&path).unwrap();
        let read_as = Some(ending.parse().unwrap());
        let policy = block_store::BackingPolicy::Refuse;
        let source = block_store::ImageSource::open(file, None, read_as, policy).unwrap();
        assert_eq!((source.size().get(), source.next_data(0).unwrap()), (size, None));
    }
}
