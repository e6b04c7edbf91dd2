//! A caller that only checks: each action asks all its rules and does nothing; what passes can be done.

use std::fmt::Debug;

use cloud::{
    AttachDisk, Caller, ChangePower, Cloud, CloudError, CopyImage, CreateDisk, CreateImage,
    CreateInstance, CreateSnapshot, CreateSnapshotGroup, DeleteInstances, DescribeDisks,
    DescribeImages, ExportFormat, ExportImage, GIB, ImageFrom, ImportDisk, ImportObject, Lock,
    ModifyDisk, ModifyInstance, PowerChange, ReInitDisk, ReplaceSystemDisk, ResetDisk, ResizeDisk,
    ResourceType, Role, RunInstances, SetAccount, ShareImage, TaskStatus,
};

use crate::lab::{Lab, all, import, wait};

/// Checks, which changes nothing, and then does it.
fn step<T: Debug>(
    lab: &Lab,
    caller: &Caller,
    call: impl Fn(&Cloud, &Caller) -> Result<T, CloudError>,
) -> T {
    let exported = |lab: &Lab| -> Vec<_> {
        let asked = DescribeDisks { paging: all(), ..Default::default() };
        let disks = lab.cloud.describe_disks(&lab.operator(), &asked).unwrap().items;
        disks.into_iter().map(|disk| (lab.exports.is_open(&disk.id), disk)).collect()
    };
    let before = exported(lab);
    let error = lab.refused(|| call(&lab.cloud, &caller.checking()));
    assert!(matches!(error, CloudError::DryRunPassed), "{error}");
    assert_eq!(exported(lab), before);
    call(&lab.cloud, caller).unwrap()
}

fn text(text: &str) -> Option<String> {
    Some(text.into())
}

#[test]
fn disks_and_their_snapshots() {
    let lab = Lab::new();
    let key = lab.key();
    let image = lab.image(&key, "base", 1);
    let made = lab.used_instance(&key, &image);
    let (system, instance) = (&made.system_disk, &made.instance);

    let request = CreateDisk { size: Some(5 * GIB), client_token: text("t"), ..Default::default() };
    let disk = step(&lab, &key, |cloud, caller| cloud.create_disk(caller, &request));
    let again = lab.refused(|| lab.cloud.create_disk(&key.checking(), &request));
    assert!(matches!(again, CloudError::DryRunPassed), "what is done already can be done");
    let other = CreateDisk { size: Some(6 * GIB), ..request };
    let other = lab.refused(|| lab.cloud.create_disk(&key.checking(), &other));
    assert!(matches!(other, CloudError::TokenMismatch { .. }));

    let request =
        AttachDisk { disk: disk.clone(), instance: instance.clone(), ..Default::default() };
    step(&lab, &key, |cloud, caller| cloud.attach_disk(caller, &request));
    step(&lab, &key, |cloud, caller| cloud.detach_disk(caller, &disk, instance));
    wait(|| lab.view(&disk).is_some_and(|view| view.attachment.is_none()));
    let request = ResizeDisk {
        disk: disk.clone(),
        size: 6 * GIB,
        client_token: text("t"),
        ..Default::default()
    };
    step(&lab, &key, |cloud, caller| cloud.resize_disk(caller, &request));
    let request = ModifyDisk { disks: vec![disk.clone()], name: text("new"), ..Default::default() };
    step(&lab, &key, |cloud, caller| cloud.modify_disk(caller, &request));
    step(&lab, &key, |cloud, caller| cloud.delete_disk(caller, &disk));

    let request = CreateSnapshot { disk: system.clone(), ..Default::default() };
    let snapshot = step(&lab, &key, |cloud, caller| cloud.create_snapshot(caller, &request));
    lab.wait_for_snapshot(&snapshot);
    let request = ResetDisk { disk: system.clone(), snapshot: snapshot.clone() };
    let id = Cloud::new_request_id;
    step(&lab, &key, |cloud, caller| cloud.reset_disk(caller, &request, id()));
    let request = ReInitDisk {
        disk: system.clone(),
        keep: true,
        key_pair: text("mine"),
        ..Default::default()
    };
    let done = step(&lab, &key, |cloud, caller| cloud.reinit_disk(caller, &request, id()));
    lab.wait_for_snapshot(&done.kept.unwrap());
    step(&lab, &key, |cloud, caller| cloud.delete_snapshot(caller, &snapshot, true));
    let request = CreateSnapshotGroup { instance: Some(instance.clone()), ..Default::default() };
    let group = step(&lab, &key, |cloud, caller| cloud.create_snapshot_group(caller, &request));
    wait(|| lab.reinit(system).is_ok());
    wait(|| lab.reinit(&made.data_disks[0]).is_ok());
    step(&lab, &key, |cloud, caller| cloud.delete_snapshot_group(caller, &group));
    let request = ReplaceSystemDisk {
        instance: instance.clone(),
        image: image.clone(),
        ..Default::default()
    };
    step(&lab, &key, |cloud, caller| cloud.replace_system_disk(caller, &request));
}

#[test]
fn instances_and_tags() {
    let lab = Lab::new();
    let key = lab.key();
    let image = lab.image(&key, "base", 1);
    let template = CreateInstance {
        image: Some(image),
        instance_type: text("ecs.g7.large"),
        ..Default::default()
    };
    let made = step(&lab, &key, |cloud, caller| cloud.create_instance(caller, &template));
    let (one, disk) = (&made.instance, &made.system_disk);
    let request = RunInstances { amount: 2, template };
    let more = step(&lab, &key, |cloud, caller| cloud.run_instances(caller, &request));
    step(&lab, &key, |cloud, caller| cloud.start_instance(caller, one));
    step(&lab, &key, |cloud, caller| cloud.reboot_instance(caller, one));
    wait(|| lab.exports.is_open(disk));
    step(&lab, &key, |cloud, caller| cloud.stop_instance(caller, one));
    wait(|| !lab.exports.is_open(disk));
    let request =
        ChangePower { instances: more.clone(), change: PowerChange::Stop, each_alone: false };
    step(&lab, &key, |cloud, caller| cloud.change_power(caller, &request));
    let request = ModifyInstance { instance: one.clone(), name: text("new"), ..Default::default() };
    step(&lab, &key, |cloud, caller| cloud.modify_instance(caller, &request));
    let ids = [disk.clone()];
    let tags = [("k".to_owned(), "v".to_owned())];
    step(&lab, &key, |cloud, caller| cloud.tag_resources(caller, ResourceType::Disk, &ids, &tags));
    step(&lab, &key, |cloud, caller| cloud.untag_resources(caller, ResourceType::Disk, &ids, None));
    let operator = lab.operator();
    step(&lab, &operator, |cloud, caller| cloud.lock_instance(caller, one, Lock::Financial));
    step(&lab, &operator, |cloud, caller| cloud.unlock_instance(caller, one, None));
    step(&lab, &key, |cloud, caller| cloud.delete_instance(caller, one, false));
    let request = DeleteInstances { instances: more, force: true, client_token: text("t") };
    step(&lab, &key, |cloud, caller| cloud.delete_instances(caller, &request));
    let set = SetAccount { in_arrears: Some(true), ..Default::default() };
    step(&lab, &operator, |cloud, caller| cloud.set_account(caller, "default", &set).map(drop));
    let make = |cloud: &Cloud, caller: &Caller| cloud.create_key(caller, "new", Role::Read, None);
    let made =
        step(&lab, &operator, |cloud, caller| make(cloud, caller).map(|key| key.access_key_id));
    step(&lab, &operator, |cloud, caller| cloud.disable_key(caller, &made));
    step(&lab, &operator, |cloud, caller| cloud.delete_key(caller, &made));
    let session = step(&lab, &operator, |cloud, caller| {
        cloud.create_session(caller, "new", Role::Read, None).map(|made| made.access_key_id)
    });
    step(&lab, &operator, |cloud, caller| cloud.delete_key(caller, &session));
}

#[test]
fn images() {
    let lab = Lab::new().with_bucket();
    let key = lab.key();
    let path = lab.directory.path().join("first.img");
    std::fs::write(&path, vec![1; 1 << 20]).unwrap();
    let settled = |task: &str| {
        let status = || lab.cloud.describe_task(&key, task).unwrap().status;
        wait(|| status() == TaskStatus::Finished);
    };
    let started =
        step(&lab, &key, |cloud, caller| cloud.import_image(caller, import(&path, "first")));
    settled(&started.task);
    std::fs::copy(&path, lab.settings.buckets["images"].directory.join("x.raw")).unwrap();
    let request = ImportObject {
        disks: vec![ImportDisk {
            bucket: "images".into(),
            object: "x.raw".into(),
            ..Default::default()
        }],
        name: text("second"),
        client_token: text("t"),
        ..Default::default()
    };
    let second = step(&lab, &key, |cloud, caller| cloud.import_object(caller, &request));
    settled(&second.task);
    let request = ExportImage {
        image: started.image.clone(),
        bucket: "images".into(),
        prefix: None,
        format: ExportFormat::Raw,
    };
    let task = step(&lab, &key, |cloud, caller| cloud.export_image(caller, &request));
    settled(&task);
    let made = lab.used_instance(&key, &started.image);
    let create = CreateImage {
        client_token: text("t"),
        ..CreateImage::of(ImageFrom::Instance(made.instance.clone()))
    };
    let image = step(&lab, &key, |cloud, caller| cloud.create_image(caller, &create));
    wait(|| lab.reinit(&made.system_disk).is_ok() && lab.reinit(&made.data_disks[0]).is_ok());
    let request = CopyImage { image: second.image.clone(), ..Default::default() };
    step(&lab, &key, |cloud, caller| cloud.copy_image(caller, &request));
    lab.other("friend");
    let add = vec![lab.account_number("friend")];
    let share = ShareImage { image: second.image, add, ..Default::default() };
    step(&lab, &key, |cloud, caller| cloud.share_image(caller, &share));
    let asked = DescribeImages { ids: Some(vec![image.clone()]), ..Default::default() };
    wait(|| lab.cloud.describe_images(&key, &asked).unwrap().total == 1);
    step(&lab, &key, |cloud, caller| cloud.delete_image(caller, &image, false));
}
