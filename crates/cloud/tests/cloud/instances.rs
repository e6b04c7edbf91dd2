//! Instances: made with all their disks or not at all, started, stopped, deleted.

use cloud::{
    CloudError, Countable, CreateInstance, DataDisk, DescribeInstances, DiskRole, DiskStatus,
    Field, GIB, InstanceStatus, Lock, ModifyInstance, RunInstances, SystemDisk, TagFilter,
};

use crate::lab::{Lab, all};

fn template(image: &str) -> CreateInstance {
    CreateInstance {
        image: Some(image.into()),
        instance_type: Some("ecs.g7.large".into()),
        ..Default::default()
    }
}

#[test]
fn run_instances_makes_and_starts_as_many_as_asked() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let tags = vec![("role".to_owned(), "web".to_owned())];
    let template = CreateInstance { tags, name: Some("web".into()), ..template(&image) };
    let ids = lab.cloud.run_instances(&lab.key(), &RunInstances { amount: 3, template }).unwrap();
    assert_eq!(ids.len(), 3);
    let asked = DescribeInstances {
        tags: vec![TagFilter { key: "role".into(), value: Some("web".into()) }],
        paging: all(),
        ..Default::default()
    };
    let page = lab.cloud.describe_instances(&lab.key(), &asked).unwrap();
    assert_eq!(page.total, 3);
    for one in &page.items {
        assert_eq!((one.status, one.ever_started), (InstanceStatus::Running, true));
        assert_eq!((one.cpu, one.memory_mib, one.name.as_str()), (2, 8192, "web"));
        assert!(lab.exports.is_open(one.system_disk.as_ref().unwrap()));
    }
    let none = DescribeInstances { ids: Some(vec![]), ..Default::default() };
    assert_eq!(lab.cloud.describe_instances(&lab.key(), &none).unwrap().total, 0);
    for amount in [0, 101] {
        let request = RunInstances { amount, template: self::template(&image) };
        assert!(matches!(
            lab.refused(|| lab.cloud.run_instances(&lab.key(), &request)),
            CloudError::ValueNotSupported { field: Field::Amount, .. }
        ));
    }
}

#[test]
fn a_creation_that_is_refused_leaves_no_disk_behind() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let with = |change: &dyn Fn(&mut CreateInstance)| {
        let mut request = template(&image);
        change(&mut request);
        lab.refused(|| lab.cloud.create_instance(&lab.key(), &request))
    };
    let data = |disk: DataDisk| {
        move |request: &mut CreateInstance| {
            request.data_disks.push(disk.clone());
        }
    };
    assert!(matches!(
        with(&|request| request.image = None),
        CloudError::Missing { parameter: "ImageId" }
    ));
    assert!(matches!(
        with(&|request| request.image = Some("m-unknown".into())),
        CloudError::NotFound { .. }
    ));
    assert!(matches!(
        with(&|request| request.instance_type = Some("ecs.none".into())),
        CloudError::ValueNotSupported { field: Field::InstanceType, .. }
    ));
    assert!(matches!(
        with(&|request| request.zone = Some("nowhere".into())),
        CloudError::NotFound { .. }
    ));
    assert!(matches!(
        with(&|request| request.charge_type = Some("Free".into())),
        CloudError::ValueNotSupported { field: Field::InstanceChargeType, .. }
    ));
    assert!(matches!(
        with(&|request| request.host_name = Some("-".into())),
        CloudError::Malformed { field: Field::HostName, .. }
    ));
    assert!(matches!(
        with(&|request| request.user_data = Some("x".repeat(9000))),
        CloudError::Malformed { field: Field::UserData, .. }
    ));
    assert!(matches!(
        with(&|request| request.system_disk =
            SystemDisk { category: Some("ephemeral_ssd".into()), ..Default::default() }),
        CloudError::ValueNotSupported { field: Field::SystemDiskCategory, .. }
    ));
    assert!(matches!(
        with(&|request| request.system_disk =
            SystemDisk { size: Some(9000 * GIB), ..Default::default() }),
        CloudError::SizeTooLarge { field: Field::SystemDiskSize, .. }
    ));
    assert!(matches!(
        with(&data(DataDisk { size: Some(GIB), ..Default::default() })),
        CloudError::SizeTooSmall { field: Field::DataDiskSize, .. }
    ));
    assert!(matches!(
        with(&data(DataDisk { snapshot: Some("s-unknown".into()), ..Default::default() })),
        CloudError::NotFound { .. }
    ));
    assert!(matches!(
        with(&data(DataDisk {
            size: Some(5 * GIB),
            device: Some("/dev/sda".into()),
            ..Default::default()
        })),
        CloudError::Malformed { field: Field::Device, .. }
    ));
    assert!(matches!(
        with(&|request| {
            let disk = DataDisk { size: Some(5 * GIB), ..Default::default() };
            request.data_disks = vec![disk; 17];
        }),
        CloudError::TooMany { what: Countable::DataDisks, most: 16 }
    ));
    let check = || lab.cloud.create_instance(&lab.key().checking(), &template(&image));
    assert!(matches!(lab.refused(check), CloudError::DryRunPassed));
    assert!(lab.cloud.store().disks().is_empty());
}

#[test]
fn disks_that_do_not_go_with_their_instance_become_available() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let disk =
        |with| DataDisk { size: Some(5 * GIB), delete_with_instance: with, ..Default::default() };
    let request = CreateInstance {
        data_disks: vec![disk(Some(true)), disk(Some(false)), disk(None)],
        ..template(&image)
    };
    let made = lab.cloud.create_instance(&lab.key(), &request).unwrap();
    let view = lab.view(&made.data_disks[1]).unwrap();
    assert_eq!(view.attachment.unwrap().device, "/dev/xvdc");
    assert_eq!(lab.view(&made.system_disk).unwrap().role, DiskRole::System);
    lab.start(&made.instance);
    lab.write(&made.data_disks[1], 6);
    lab.cloud.delete_instance(&lab.key(), &made.instance, true).unwrap();
    assert!(lab.view(&made.system_disk).is_none() && lab.view(&made.data_disks[0]).is_none());
    for kept in &made.data_disks[1..] {
        let view = lab.view(kept).unwrap();
        assert_eq!((view.status, view.attachment), (DiskStatus::Available, None));
        assert!(!lab.exports.is_open(kept));
    }
    assert_eq!(lab.read(&made.data_disks[1]), 6, "the last flush was made");
}

#[test]
fn power_follows_the_states() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    let (key, id) = (lab.key(), &made.instance);
    let wrong = |error: CloudError| matches!(error, CloudError::IncorrectInstanceStatus { .. });
    assert!(wrong(lab.refused(|| lab.cloud.stop_instance(&key, id))));
    assert!(wrong(lab.refused(|| lab.cloud.reboot_instance(&key, id))));
    lab.cloud.start_instance(&key, id).unwrap();
    assert!(wrong(lab.refused(|| lab.cloud.start_instance(&key, id))));
    lab.write(&made.system_disk, 2);
    let before = lab.exports.device(&made.system_disk).unwrap();
    lab.cloud.reboot_instance(&key, id).unwrap();
    assert_eq!(lab.read(&made.system_disk), 2);
    let mut sector = [0; 512];
    let late = before.read_at(&mut sector, block_device::ByteOffset::ZERO);
    assert!(late.is_err(), "a handle from before the reboot serves no more");

    lab.cloud.lock_instance(&lab.operator(), id, Lock::Security).unwrap();
    for result in [
        lab.cloud.stop_instance(&key, id),
        lab.cloud.reboot_instance(&key, id),
        lab.cloud.modify_instance(
            &key,
            &ModifyInstance {
                instance: id.clone(),
                name: Some("new".into()),
                ..Default::default()
            },
        ),
    ] {
        assert!(matches!(result, Err(CloudError::InstanceLockedForSecurity { .. })));
    }
    lab.cloud.delete_instance(&key, id, true).unwrap();
}

#[test]
fn an_instance_of_another_account_is_as_unknown_as_none() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    let stranger = lab.other("lab");
    let text = |error: CloudError, id: &str| error.to_string().replace(id, "ID");
    for id in [made.instance.as_str(), "i-unknown"] {
        let start = lab.refused(|| lab.cloud.start_instance(&stranger, id));
        assert_eq!(text(start, id), "there is no Instance ID");
        let delete = lab.refused(|| lab.cloud.delete_instance(&stranger, id, true));
        assert_eq!(text(delete, id), "there is no Instance ID");
    }
    let none = DescribeInstances { paging: all(), ..Default::default() };
    assert_eq!(lab.cloud.describe_instances(&stranger, &none).unwrap().total, 0);
}
