//! ReInitDisk and ResetDisk beyond the rules: parameters, dry runs, what each goes back to.

use cloud::{
    Cloud, CloudError, CreateImage, CreateSnapshot, Field, ImageFrom, ReInitDisk, ResetDisk,
    ResizeDisk, SecretText,
};
use reinit::VerifyDepth;

use crate::lab::{Lab, MIB, reinit};

fn reset(disk: &str, snapshot: &str) -> ResetDisk {
    ResetDisk { disk: disk.into(), snapshot: snapshot.into() }
}

#[test]
fn parameters_are_checked_before_anything_changes() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let with = |change: fn(&mut ReInitDisk)| {
        let mut request = reinit(&made.system_disk);
        change(&mut request);
        lab.refused(|| lab.cloud.reinit_disk(&lab.key(), &request, Cloud::new_request_id()))
    };
    assert!(matches!(
        with(|request| request.password = Some(SecretText::new("short"))),
        CloudError::Malformed { field: Field::Password, .. }
    ));
    assert!(matches!(
        with(|request| request.key_pair = Some("1 bad".into())),
        CloudError::Malformed { field: Field::KeyPairName, .. }
    ));
    assert!(matches!(
        with(|request| {
            request.password = Some(SecretText::new("Sw0rdfish!"));
            request.key_pair = Some("lab-key".into());
        }),
        CloudError::ParametersConflict { .. }
    ));
    assert!(matches!(
        with(|request| request.security_enhancement = Some("Active".into())),
        CloudError::SecurityEnhancementRefused { .. }
    ));
    assert!(matches!(
        with(|request| request.security_enhancement = Some("Perhaps".into())),
        CloudError::ValueNotSupported { field: Field::SecurityEnhancementStrategy, .. }
    ));
    let request =
        ReInitDisk { security_enhancement: Some("Deactive".into()), ..reinit(&made.system_disk) };
    assert!(lab.cloud.reinit_disk(&lab.key(), &request, Cloud::new_request_id()).is_ok());
}

#[test]
fn a_plain_reset_commits_nothing_to_the_catalog() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let records = lab.state().0;
    lab.reinit(&made.system_disk).unwrap();
    lab.reinit(&made.data_disks[0]).unwrap();
    assert_eq!(lab.state().0, records);
}

#[test]
fn a_plan_changes_nothing_and_a_verification_tells_what_differs() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    lab.start(&made.instance);
    lab.write(&made.system_disk, 9);
    lab.stop(&made.instance);
    let verify = |depth| {
        lab.cloud.verify_disk(&lab.key(), &made.system_disk, depth, &()).unwrap().in_initial_state
    };
    assert!(!verify(VerifyDepth::Head) && !verify(VerifyDepth::Content));
    let before = lab.state();
    let plan = lab.cloud.plan_reinit(&lab.key(), &[reinit(&made.system_disk)]).remove(0).unwrap();
    assert_eq!(plan.dropped.get(), 8192);
    assert!(lab.state() == before);
    lab.reinit(&made.system_disk).unwrap();
    assert!(verify(VerifyDepth::Head) && verify(VerifyDepth::Content));
}

#[test]
fn reset_disk_goes_to_a_snapshot_and_the_origin_stays() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    let disk = &made.system_disk;
    let mut snapshots = Vec::new();
    for byte in [5, 6] {
        lab.start(&made.instance);
        lab.write(disk, byte);
        lab.stop(&made.instance);
        snapshots.push(lab.snapshot(disk));
    }
    let id = Cloud::new_request_id;
    let check = || lab.cloud.reset_disk(&lab.key().checking(), &reset(disk, &snapshots[0]), id());
    let passed = lab.refused(check);
    assert!(matches!(passed, CloudError::DryRunPassed));
    for (snapshot, byte) in [(0, 5), (1, 6), (0, 5)] {
        lab.cloud.reset_disk(&lab.key(), &reset(disk, &snapshots[snapshot]), id()).unwrap();
        assert_eq!(lab.read(disk), byte);
    }
    assert_eq!(lab.view(disk).unwrap().source_image(), Some(image.as_str()));
    lab.reinit(disk).unwrap();
    assert_eq!(lab.read(disk), 1, "the initial state is still the image");
    let other = &made.data_disks[0];
    assert!(matches!(
        lab.refused(|| lab.cloud.reset_disk(&lab.key(), &reset(other, &snapshots[0]), id())),
        CloudError::SnapshotOfOtherDisk { .. }
    ));
    assert!(matches!(
        lab.refused(|| lab.cloud.reset_disk(&lab.key(), &reset(disk, "s-unknown"), id())),
        CloudError::NotFound { .. }
    ));
}

#[test]
fn a_grown_disk_keeps_its_size_over_a_reset() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let request =
        ResizeDisk { disk: made.system_disk.clone(), size: 3 * cloud::GIB, ..Default::default() };
    lab.cloud.resize_disk(&lab.key(), &request).unwrap();
    lab.reinit(&made.system_disk).unwrap();
    assert_eq!(lab.view(&made.system_disk).unwrap().size_gib(), 3);
    assert!(matches!(
        lab.refused(|| lab.cloud.resize_disk(&lab.key(), &request)),
        CloudError::ValueNotSupported { field: Field::NewSize, .. }
    ));
    let smaller = ResizeDisk { size: 2 * cloud::GIB, ..request };
    assert!(matches!(
        lab.refused(|| lab.cloud.resize_disk(&lab.key(), &smaller)),
        CloudError::SizeTooSmall { field: Field::NewSize, .. }
    ));
    let lab = lab.restart(|_| ());
    assert_eq!(lab.view(&made.system_disk).unwrap().size_gib(), 3);
}

#[test]
fn an_image_made_of_a_snapshot_shares_its_layer() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    lab.start(&made.instance);
    lab.write(&made.system_disk, 4);
    lab.stop(&made.instance);
    let snapshot = lab.snapshot(&made.system_disk);
    let request = CreateImage::of(ImageFrom::Snapshot(snapshot.clone()));
    let golden = lab.cloud.create_image(&lab.key(), &request).unwrap();
    assert!(matches!(
        lab.refused(|| lab.cloud.delete_snapshot(&lab.key(), &snapshot, true)),
        CloudError::SnapshotCreatedImage { .. }
    ));
    let second = lab.used_instance(&lab.key(), &golden);
    assert_eq!(lab.read(&second.system_disk), 4);
    lab.cloud.delete_image(&lab.key(), &golden, true).unwrap();
    let copy = lab.disk_from(&snapshot);
    assert_eq!(lab.read(&copy), 4, "the layer stays while the snapshot names it");
    lab.cloud.delete_snapshot(&lab.key(), &snapshot, true).unwrap();
    assert_eq!(lab.read(&second.system_disk), 4, "and while a disk stands on it");
}

#[test]
fn a_snapshot_of_an_untouched_disk_names_the_layer_of_its_image() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let snapshot = lab.snapshot(&made.system_disk);
    lab.cloud.delete_instance(&lab.key(), &made.instance, false).unwrap();
    lab.cloud.delete_image(&lab.key(), &image, false).unwrap();
    lab.cloud.store().wait_for_background();
    let copy = lab.disk_from(&snapshot);
    assert_eq!(lab.read(&copy), 1);
    lab.cloud.delete_disk(&lab.key(), &copy).unwrap();
    lab.cloud.delete_snapshot(&lab.key(), &snapshot, false).unwrap();
    lab.cloud.store().wait_for_background();
    let left = std::fs::read_dir(lab.directory.path().join("layers")).unwrap().count();
    assert_eq!(left, 0, "the last record took the layer with it");
}

#[test]
fn an_empty_disk_has_a_snapshot_too() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let disk = lab.disk();
    let request = CreateSnapshot { disk: disk.clone(), ..Default::default() };
    assert!(matches!(
        lab.refused(|| lab.cloud.create_snapshot(&lab.key(), &request)),
        CloudError::NeverAttached { .. }
    ));
    lab.attach(&disk, &made.instance);
    let snapshot = lab.snapshot(&disk);
    let copy = lab.disk_from(&snapshot);
    assert_eq!(lab.view(&copy).unwrap().size.get(), MIB);
    assert_eq!(lab.read(&copy), 0);
    lab.attach(&copy, &made.instance);
    assert!(lab.reinit(&copy).is_ok());
}
