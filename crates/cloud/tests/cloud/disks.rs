//! Disks by themselves: made, attached, modified, listed, deleted.

use cloud::{
    AttachDisk, CloudError, CreateDisk, DescribeDisks, DiskStatus, Field, GIB, ModifyDisk, Paging,
    ResourceType, TagFilter, TagList, TagPattern,
};

use crate::lab::{Lab, MIB, all};

#[test]
fn a_disk_carries_what_it_was_made_with() {
    let lab = Lab::new();
    let request = CreateDisk {
        size: Some(20 * GIB),
        category: Some("cloud_ssd".into()),
        name: Some("数据 <盘> & co".into()),
        description: Some("for tests".into()),
        tags: vec![("k/1".into(), "v=1&2".into())],
        ..Default::default()
    };
    let id = lab.cloud.create_disk(&lab.key(), &request).unwrap();
    let lab = lab.restart(|_| ());
    let view = lab.view(&id).unwrap();
    assert_eq!((view.status, view.size_gib()), (DiskStatus::Available, 20));
    assert_eq!((view.name.as_str(), view.category.as_str()), ("数据 <盘> & co", "cloud_ssd"));
    assert_eq!(view.tags["k/1"], "v=1&2");
    assert_eq!(view.created.to_string(), "2026-03-01T12:00:00Z");
    for (category, field) in [("ephemeral_ssd", Field::DiskCategory), ("x", Field::DiskCategory)] {
        let request = CreateDisk {
            size: Some(20 * GIB),
            category: Some(category.into()),
            ..Default::default()
        };
        let error = lab.refused(|| lab.cloud.create_disk(&lab.key(), &request));
        assert!(matches!(error, CloudError::ValueNotSupported { field: at, .. } if at == field));
    }
}

#[test]
fn attaching_has_its_rules() {
    let lab = Lab::with(|settings| settings.data_disks_per_instance = 3);
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    let attach = |disk: &str, device: Option<&str>| {
        let request = AttachDisk {
            disk: disk.into(),
            instance: made.instance.clone(),
            device: device.map(Into::into),
            delete_with_instance: None,
        };
        lab.cloud.attach_disk(&lab.key(), &request)
    };
    let (first, second, third) = (lab.disk(), lab.disk(), lab.disk());
    assert!(matches!(
        lab.refused(|| attach(&first, Some("/dev/xvdb"))),
        CloudError::DeviceInUse { .. }
    ));
    attach(&first, Some("/dev/xvdz")).unwrap();
    assert!(matches!(
        lab.refused(|| attach(&first, None)),
        CloudError::IncorrectDiskStatus { status: DiskStatus::InUse, .. }
    ));
    attach(&second, None).unwrap();
    assert_eq!(lab.view(&second).unwrap().attachment.unwrap().device, "/dev/xvdc");
    assert!(matches!(lab.refused(|| attach(&third, None)), CloudError::DiskLimitExceeded { .. }));
    lab.cloud.detach_disk(&lab.key(), &second, &made.instance).unwrap();
    let elsewhere =
        CreateDisk { size: Some(MIB), zone: Some("cn-hangzhou-g".into()), ..Default::default() };
    let elsewhere = lab.cloud.create_disk(&lab.operator(), &elsewhere).unwrap();
    assert!(matches!(lab.refused(|| attach(&elsewhere, None)), CloudError::NotSameZone { .. }));
    let bought =
        CreateDisk { size: Some(MIB), instance: Some(made.instance.clone()), ..Default::default() };
    lab.start(&made.instance);
    let bought = lab.cloud.create_disk(&lab.operator(), &bought).unwrap();
    assert!(lab.exports.is_open(&bought));
    assert!(matches!(
        lab.refused(|| lab.cloud.detach_disk(&lab.key(), &bought, &made.instance)),
        CloudError::DiskNotPortable { .. }
    ));
    assert!(matches!(
        lab.refused(|| lab.cloud.detach_disk(&lab.key(), &made.system_disk, &made.instance)),
        CloudError::DiskNotPortable { .. }
    ));
    assert!(matches!(
        lab.refused(|| lab.cloud.delete_disk(&lab.key(), &bought)),
        CloudError::DiskStillAttached { .. }
    ));
    let other = lab.instance(&lab.key(), &image);
    assert!(matches!(
        lab.refused(|| lab.cloud.detach_disk(&lab.key(), &first, &other.instance)),
        CloudError::NotAttachedThere { .. }
    ));
}

#[test]
fn lists_are_filtered_and_paged() {
    let lab = Lab::new();
    let ids: Vec<_> = (0..25)
        .map(|n| {
            lab.clock.set(format!("2026-03-01T12:00:{n:02}Z").parse().unwrap());
            let request = CreateDisk {
                size: Some(MIB),
                name: Some(format!("disk-{n:02}")),
                tags: vec![("parity".into(), if n % 2 == 0 { "even" } else { "odd" }.into())],
                ..Default::default()
            };
            lab.cloud.create_disk(&lab.operator(), &request).unwrap()
        })
        .collect();
    let list = |asked: DescribeDisks| lab.cloud.describe_disks(&lab.operator(), &asked).unwrap();
    let page = list(DescribeDisks {
        paging: Paging::Number { number: 3, size: 10 },
        ..Default::default()
    });
    assert_eq!((page.items.len(), page.total, page.number, page.size), (5, 25, 3, 10));
    assert_eq!(page.items[4].id, ids[0], "newest first");
    let tags = vec![TagFilter { key: "parity".into(), value: Some("odd".into()) }];
    assert_eq!(list(DescribeDisks { tags, ..Default::default() }).total, 12);
    let name = Some("disk-1*".to_owned());
    assert_eq!(list(DescribeDisks { name, ..Default::default() }).total, 10);
    let from = Some("2026-03-01T12:00:20Z".parse().unwrap());
    assert_eq!(list(DescribeDisks { created_from: from, ..Default::default() }).total, 5);
    let some = Some(vec![ids[3].clone(), "d-unknown".into()]);
    assert_eq!(list(DescribeDisks { ids: some, ..Default::default() }).total, 1);
    let status = Some(DiskStatus::InUse);
    assert_eq!(list(DescribeDisks { status, ..Default::default() }).total, 0);
    let many = Some(vec![String::new(); 101]);
    let asked = DescribeDisks { ids: many, ..Default::default() };
    assert!(matches!(
        lab.cloud.describe_disks(&lab.operator(), &asked),
        Err(CloudError::TooMany { most: 100, .. })
    ));
}

#[test]
fn modifications_and_tags_change_all_or_nothing() {
    let lab = Lab::new();
    let (first, second) = (lab.disk(), lab.disk());
    let modify = |disks: &[&str], name: &str| {
        let request = ModifyDisk {
            disks: disks.iter().map(|id| (*id).into()).collect(),
            name: Some(name.into()),
            ..Default::default()
        };
        lab.cloud.modify_disk(&lab.key(), &request)
    };
    modify(&[&first, &second], "both").unwrap();
    assert_eq!(lab.view(&second).unwrap().name, "both");
    lab.refused(|| modify(&[&first, "d-unknown"], "other"));
    lab.refused(|| modify(&[&first], "x"));
    let tags = [("a".to_owned(), "1".to_owned())];
    let kind = ResourceType::Disk;
    let both = [first.clone(), second.clone()];
    lab.cloud.tag_resources(&lab.key(), kind, &both, &tags).unwrap();
    lab.refused(|| {
        let ids = [first.clone(), "d-unknown".to_owned()];
        lab.cloud.untag_resources(&lab.key(), kind, &ids, None)
    });
    lab.cloud.untag_resources(&lab.key(), kind, &both[..1], Some(&["a".into()])).unwrap();
    let like = |patterns: &[(&str, &[&str])]| {
        let pattern = |(key, values): &(&str, &[&str])| TagPattern {
            key: (*key).into(),
            values: values.iter().map(|value| (*value).into()).collect(),
        };
        let patterns = patterns.iter().map(pattern).collect();
        let asked = TagList { kind, ids: None, tags: Vec::new(), patterns, paging: all() };
        lab.cloud.list_tags(&lab.key(), &asked).unwrap().items
    };
    for (patterns, rows) in [
        (&[("a", &["1"][..])][..], 1),
        (&[("a", &["2", "?", "1*"])], 1),
        (&[("a*", &[])], 1),
        (&[("*", &["*"]), ("a", &["1"])], 1),
        (&[("a", &["2"])], 0),
        (&[("b", &[])], 0),
        (&[("a", &[]), ("b", &[])], 0),
    ] {
        assert_eq!(like(patterns).len(), rows, "{patterns:?}");
    }
    let rows = like(&[]);
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0].id, rows[0].key.as_str(), rows[0].value.as_str()), (&second, "a", "1"));
}

#[test]
fn changes_of_one_disk_at_once_lose_none_of_them() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    let disk = lab.disk();
    for round in 0..20 {
        let name = format!("name-{round}");
        let value = round.to_string();
        std::thread::scope(|scope| {
            scope.spawn(|| lab.attach(&disk, &made.instance));
            scope.spawn(|| {
                let tags = [("round".to_owned(), value.clone())];
                let ids = [disk.clone()];
                lab.cloud.tag_resources(&lab.key(), ResourceType::Disk, &ids, &tags).unwrap();
            });
            scope.spawn(|| {
                let request = ModifyDisk {
                    disks: vec![disk.clone()],
                    name: Some(name.clone()),
                    ..Default::default()
                };
                while let Err(error) = lab.cloud.modify_disk(&lab.key(), &request) {
                    assert!(matches!(error, CloudError::IncorrectDiskStatus { .. }));
                }
            });
        });
        let view = lab.view(&disk).unwrap();
        assert_eq!(
            (view.status, view.name, &view.tags["round"]),
            (DiskStatus::InUse, name, &value)
        );
        lab.cloud.detach_disk(&lab.key(), &disk, &made.instance).unwrap();
    }
}
