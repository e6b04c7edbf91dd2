//! The security layer of a public image: made, gone to, taken away.

use cloud::{
    Caller, Cloud, CloudError, CreateInstance, DescribeImages, Origin, ReInitDisk,
    ReplaceSystemDisk, ResetDone, SystemDisk, WhyNoSecurityLayer, WhyNotActive,
};
use reinit::VerifyDepth;

use crate::lab::{Lab, MIB, reinit, wait};

/// A public image of 0x11, a used instance of it, and a snapshot of its system disk with 0x22 installed.
struct Public {
    lab: Lab,
    image: String,
    disk: String,
    instance: String,
    snapshot: String,
}

const PLAIN: u8 = 0x11;
const AGENT: u8 = 0x22;

fn public() -> Public {
    public_on(Lab::new())
}

fn public_on(lab: Lab) -> Public {
    let image = lab.image(&lab.operator(), "debian", PLAIN);
    share(&lab, &image, true);
    let made = lab.used_instance(&lab.key(), &image);
    let (disk, instance) = (made.system_disk, made.instance);
    lab.start(&instance);
    lab.write(&disk, AGENT);
    lab.stop(&instance);
    let snapshot = lab.snapshot(&disk);
    Public { lab, image, disk, instance, snapshot }
}

fn share(lab: &Lab, image: &str, public: bool) {
    let (image, public) = (image.into(), Some(public));
    let request = cloud::ShareImage { image, public, ..Default::default() };
    lab.cloud.share_image(&lab.operator(), &request).unwrap();
}

fn harden(lab: &Lab, image: &str, snapshot: &str) -> Result<(), CloudError> {
    lab.cloud.harden_image(&lab.operator(), image, snapshot)
}

fn active(disk: &str) -> ReInitDisk {
    ReInitDisk { security_enhancement: Some("Active".into()), ..reinit(disk) }
}

fn reset(lab: &Lab, request: &ReInitDisk) -> Result<ResetDone, CloudError> {
    lab.cloud.reinit_disk(&lab.key(), request, Cloud::new_request_id())
}

fn is_initial(lab: &Lab, disk: &str, depth: VerifyDepth) -> bool {
    let done = lab.cloud.verify_disk(&lab.operator(), disk, depth, &());
    done.unwrap().in_initial_state
}

fn why(error: CloudError) -> WhyNotActive {
    match error {
        CloudError::SecurityEnhancementRefused { why } => why,
        other => panic!("{other}"),
    }
}

fn why_none(error: CloudError) -> WhyNoSecurityLayer {
    match error {
        CloudError::NoSecurityLayer { why, .. } => why,
        other => panic!("{other}"),
    }
}

fn layer_of(lab: &Lab, caller: &Caller, image: &str) -> Option<cloud::SecurityLayerView> {
    let asked = DescribeImages { ids: Some(vec![image.into()]), ..Default::default() };
    let page = lab.cloud.describe_images(caller, &asked).unwrap();
    page.items.into_iter().next().unwrap().security_layer
}

#[test]
fn active_leads_to_the_security_layer_and_everything_else_to_the_plain_image() {
    let Public { lab, image, disk, snapshot, instance } = public();
    harden(&lab, &image, &snapshot).unwrap();
    let done = reset(&lab, &active(&disk)).unwrap();
    assert_eq!(lab.read(&disk), AGENT);
    assert!(
        is_initial(&lab, &disk, VerifyDepth::Head) && is_initial(&lab, &disk, VerifyDepth::Content)
    );
    let shown = lab.cloud.show_disk(&lab.operator(), &disk).unwrap();
    assert!(shown.security_enhanced);
    let last = shown.last_reset.unwrap();
    assert_eq!((&last.origin, last.root), (&Some(Origin::Image { id: image.clone() }), done.root));
    assert_eq!(last, done.receipt);
    assert_eq!(done.root, layer_of(&lab, &lab.operator(), &image).unwrap().root);

    // What the guest then writes is a difference, also over a restart.
    lab.start(&instance);
    lab.write(&disk, 0x33);
    lab.stop(&instance);
    let lab = lab.restart(|_| ());
    assert!(!is_initial(&lab, &disk, VerifyDepth::Head));
    reset(&lab, &active(&disk)).unwrap();
    assert!(is_initial(&lab, &disk, VerifyDepth::Content));

    for plain in [None, Some("Deactive".to_owned())] {
        reset(&lab, &active(&disk)).unwrap();
        assert_eq!(lab.read(&disk), AGENT);
        reset(&lab, &ReInitDisk { security_enhancement: plain, ..reinit(&disk) }).unwrap();
        assert_eq!(lab.read(&disk), PLAIN);
        assert!(is_initial(&lab, &disk, VerifyDepth::Content));
        assert!(!lab.cloud.show_disk(&lab.operator(), &disk).unwrap().security_enhanced);
    }
}

#[test]
fn active_is_refused_where_there_is_no_security_layer_and_nothing_changes() {
    let Public { lab, image, disk, snapshot, instance } = public();
    let refused = |disk: &str| why(lab.refused(|| reset(&lab, &active(disk))));
    assert_eq!(refused(&disk), WhyNotActive::NoLayer(image.clone()));
    harden(&lab, &image, &snapshot).unwrap();
    let data = lab.disk();
    lab.attach(&data, &instance);
    assert_eq!(refused(&data), WhyNotActive::NoSystemDisk);
    share(&lab, &image, false);
    assert_eq!(refused(&disk), WhyNotActive::NotPublic(image.clone()));
    share(&lab, &image, true);
    reset(&lab, &active(&disk)).unwrap();
    // The rows of the table come first.
    lab.start(&instance);
    let error = lab.refused(|| reset(&lab, &active(&disk)));
    assert!(matches!(error, CloudError::IncorrectInstanceStatus { .. }), "{error}");
}

#[test]
fn another_account_goes_to_the_layer_too_but_only_the_operator_is_told_of_it() {
    let Public { lab, image, snapshot, .. } = public();
    harden(&lab, &image, &snapshot).unwrap();
    let friend = lab.other("friend");
    let made = lab.used_instance(&friend, &image);
    let request = active(&made.system_disk);
    lab.cloud.reinit_disk(&friend, &request, Cloud::new_request_id()).unwrap();
    assert_eq!(lab.read(&made.system_disk), AGENT);
    assert_eq!(layer_of(&lab, &friend, &image), None);
    assert_eq!(layer_of(&lab, &lab.operator(), &image).unwrap().snapshot, snapshot);
}

#[test]
fn a_snapshot_that_is_not_of_the_image_makes_no_security_layer() {
    let Public { lab, image, snapshot, .. } = public();
    let refused = |image: &str, snapshot: &str| lab.refused(|| harden(&lab, image, snapshot));
    // Of another image, though of the same account.
    let other = lab.image(&lab.operator(), "other", 0x44);
    share(&lab, &other, true);
    let found = why_none(refused(&other, &snapshot));
    assert_eq!(found, WhyNoSecurityLayer::OfOtherImage(snapshot.clone()));
    // Of a disk nobody wrote to: it is the image.
    let fresh = lab.used_instance(&lab.key(), &image);
    let empty = lab.snapshot(&fresh.system_disk);
    let found = why_none(refused(&image, &empty));
    assert_eq!(found, WhyNoSecurityLayer::NothingInstalled(empty));
    // Of a data disk.
    let data = lab.snapshot(&fresh.data_disks[0]);
    let error = refused(&image, &data);
    assert!(matches!(error, CloudError::SnapshotOfWrongType { .. }), "{error}");
    // Not public; nothing there; nobody but the operator.
    share(&lab, &image, false);
    assert_eq!(why_none(refused(&image, &snapshot)), WhyNoSecurityLayer::NotPublic);
    let none = lab.refused(|| lab.cloud.soften_image(&lab.operator(), &image));
    assert_eq!(why_none(none), WhyNoSecurityLayer::NothingToRemove);
    let error = lab.refused(|| lab.cloud.harden_image(&lab.key(), &image, &snapshot));
    assert!(matches!(error, CloudError::OperatorOnly { .. }), "{error}");
}

#[test]
fn new_system_disks_start_from_the_security_layer_when_asked() {
    let Public { lab, image, instance, snapshot, .. } = public();
    let replace = || {
        let request = ReplaceSystemDisk {
            instance: instance.clone(),
            image: image.clone(),
            security_enhancement: Some("Active".into()),
            ..Default::default()
        };
        lab.cloud.replace_system_disk(&lab.key(), &request)
    };
    let create = |size: Option<u64>, with: &str, image: Option<&str>| {
        let request = CreateInstance {
            image: image.map(str::to_owned),
            security_enhancement: Some(with.into()),
            system_disk: SystemDisk { size, ..Default::default() },
            ..Default::default()
        };
        lab.cloud.create_instance(&lab.operator(), &request)
    };
    assert_eq!(why(lab.refused(replace)), WhyNotActive::NoLayer(image.clone()));
    let error = lab.refused(|| create(None, "Active", Some(&image)));
    assert_eq!(why(error), WhyNotActive::NoLayer(image.clone()));
    let error = lab.refused(|| create(None, "Active", None));
    assert_eq!(why(error), WhyNotActive::NoSystemDisk);
    let error = lab.refused(|| create(None, "Perhaps", Some(&image)));
    assert!(matches!(error, CloudError::ValueNotSupported { .. }), "{error}");

    harden(&lab, &image, &snapshot).unwrap();
    let disk = replace().unwrap();
    assert_eq!(lab.read(&disk), AGENT);
    let made = create(None, "Active", Some(&image)).unwrap();
    assert_eq!(lab.read(&made.system_disk), AGENT);
    assert!(is_initial(&lab, &made.system_disk, VerifyDepth::Content));
    let plain = create(None, "Deactive", Some(&image)).unwrap();
    assert_eq!(lab.read(&plain.system_disk), PLAIN);

    // The layer was made of a larger disk than the image is: neither fits on a disk of the image's size.
    let error = lab.refused(|| create(Some(2 * MIB), "Active", Some(&image)));
    assert!(matches!(error, CloudError::SmallerThanImage { .. }), "{error}");
    let small = create(Some(2 * MIB), "Deactive", Some(&image)).unwrap();
    lab.start(&small.instance);
    lab.stop(&small.instance);
    let error = lab.refused(|| reset(&lab, &active(&small.system_disk)));
    assert!(matches!(why(error), WhyNotActive::TooSmall { size, .. } if size == 2 * MIB));
}

#[test]
fn the_layer_lives_as_long_as_image_snapshot_or_disk_needs_it() {
    for snapshot_first in [true, false] {
        let Public { lab, image, disk, snapshot, instance } = public();
        harden(&lab, &image, &snapshot).unwrap();
        let drop_snapshot = |lab: &Lab| {
            lab.cloud.delete_snapshot(&lab.operator(), &snapshot, false).unwrap();
        };
        if snapshot_first {
            drop_snapshot(&lab);
            // The image alone names it now; a start sweeps nothing of it.
            let lab = lab.crashed();
            reset(&lab, &active(&disk)).unwrap();
            assert_eq!(lab.read(&disk), AGENT);
            lab.cloud.delete_image(&lab.operator(), &image, true).unwrap();
            // The disk stands on it.
            assert_eq!(lab.read(&disk), AGENT);
            assert!(matches!(reset(&lab, &active(&disk)), Err(CloudError::SourceImageGone { .. })));
            lab.cloud.delete_instance(&lab.operator(), &instance, false).unwrap();
            wait(|| lab.layers() == 0);
        } else {
            lab.cloud.delete_image(&lab.operator(), &image, true).unwrap();
            let from = lab.disk_from(&snapshot);
            assert_eq!(lab.read(&from), AGENT, "the snapshot keeps it");
            lab.cloud.delete_disk(&lab.operator(), &from).unwrap();
            drop_snapshot(&lab);
            lab.cloud.delete_instance(&lab.operator(), &instance, false).unwrap();
            wait(|| lab.layers() == 0);
        }
    }
}

#[test]
fn a_layer_taken_away_or_replaced_goes_once_no_disk_stands_on_it() {
    let Public { lab, image, disk, snapshot, instance } = public();
    harden(&lab, &image, &snapshot).unwrap();
    // Naming the same again is no change of the layer.
    harden(&lab, &image, &snapshot).unwrap();
    reset(&lab, &active(&disk)).unwrap();
    lab.cloud.delete_snapshot(&lab.operator(), &snapshot, false).unwrap();
    let with = lab.layers();
    lab.cloud.soften_image(&lab.operator(), &image).unwrap();
    assert_eq!(layer_of(&lab, &lab.operator(), &image), None);
    assert_eq!((lab.read(&disk), lab.layers()), (AGENT, with), "the disk stands on it");
    assert!(
        !is_initial(&lab, &disk, VerifyDepth::Head),
        "its initial state is the plain image now"
    );
    assert_eq!(
        why(lab.refused(|| reset(&lab, &active(&disk)))),
        WhyNotActive::NoLayer(image.clone())
    );
    let lab = lab.crashed();
    assert_eq!(lab.read(&disk), AGENT);
    lab.reinit(&disk).unwrap();
    assert_eq!(lab.read(&disk), PLAIN);
    let lab = lab.restart(|_| ());
    wait(|| lab.layers() < with);

    // Another in the place of one.
    let newer = |byte| {
        lab.start(&instance);
        lab.write(&disk, byte);
        lab.stop(&instance);
        let snapshot = lab.snapshot(&disk);
        lab.reinit(&disk).unwrap();
        snapshot
    };
    let (first, second) = (newer(0x51), newer(0x52));
    harden(&lab, &image, &first).unwrap();
    lab.cloud.delete_snapshot(&lab.operator(), &first, false).unwrap();
    let with = lab.layers();
    harden(&lab, &image, &second).unwrap();
    // The first is gone, as soon as nobody has it open.
    wait(|| lab.layers() == with - 1);
    reset(&lab, &active(&disk)).unwrap();
    assert_eq!(lab.read(&disk), 0x52);
}

#[test]
fn a_copy_of_the_image_and_a_backup_carry_what_they_should() {
    let Public { lab, image, disk, snapshot, .. } = public();
    harden(&lab, &image, &snapshot).unwrap();
    lab.cloud.delete_snapshot(&lab.operator(), &snapshot, false).unwrap();
    let request = cloud::CopyImage { image: image.clone(), ..Default::default() };
    let copy = lab.cloud.copy_image(&lab.operator(), &request).unwrap();
    assert_eq!(layer_of(&lab, &lab.operator(), &copy), None);
    let family = lab.cloud.begin_backup(&lab.operator()).unwrap();
    reset(&lab, &active(&disk)).unwrap();
    let base = lab.cloud.store().disk(&disk.parse().unwrap()).unwrap().base.unwrap();
    assert!(family.whole.contains(&base), "a store made of the copy must hold the layer");
    assert!(family.lost.is_empty());
}

#[test]
fn a_layer_is_not_taken_away_while_a_disk_goes_to_it() {
    let (lab, gate) = Lab::gated();
    let Public { lab, image, disk, snapshot, instance } = public_on(lab);
    harden(&lab, &image, &snapshot).unwrap();
    // It commits before it goes to the ledger, and there it waits.
    let request = ReInitDisk { auto_start: true, ..active(&disk) };
    let soften = || lab.cloud.soften_image(&lab.operator(), &image);
    let (refused, done) = lab.meanwhile(&gate, || reset(&lab, &request), soften);
    assert!(matches!(refused, Err(CloudError::Conflict { .. })), "{refused:?}");
    assert!(done.unwrap().started);
    assert_eq!(lab.read(&disk), AGENT);
    lab.stop(&instance);
    soften().unwrap();
}

#[test]
fn a_crash_around_the_commit_leaves_the_layer_wholly_there_or_wholly_not() {
    let (lab, gate) = Lab::gated();
    let Public { lab, image, disk, snapshot, .. } = public_on(lab);
    let has = |lab: &Lab| layer_of(lab, &lab.operator(), &image).is_some();
    let call = || harden(&lab, &image, &snapshot).unwrap();
    let (before, after, ()) = lab.crashed_around(&gate, call);
    assert!(!has(&before) && has(&after));
    lab.cloud.delete_snapshot(&lab.operator(), &snapshot, false).unwrap();
    lab.reinit(&disk).unwrap();

    let with = lab.layers();
    let call = || lab.cloud.soften_image(&lab.operator(), &image).unwrap();
    let (before, after, ()) = lab.crashed_around(&gate, call);
    // Marked and yet named: kept. Named no more: swept.
    assert!(has(&before) && !has(&after));
    assert_eq!(before.layers(), with);
    wait(|| (after.layers(), lab.layers()) == (with - 1, with - 1));
    reset(&before, &active(&disk)).unwrap();
    assert_eq!(before.read(&disk), AGENT);
    assert_eq!(after.read(&disk), PLAIN);
}

#[test]
fn a_crash_between_commit_and_ledger_is_before_the_reset() {
    let (lab, gate) = Lab::gated();
    let Public { lab, image, disk, snapshot, .. } = public_on(lab);
    harden(&lab, &image, &snapshot).unwrap();
    lab.reinit(&disk).unwrap();
    let request = ReInitDisk { auto_start: true, ..active(&disk) };
    let (before, after, done) = lab.crashed_around(&gate, || reset(&lab, &request).unwrap());
    for crashed in [before, after] {
        assert_eq!(crashed.read(&disk), PLAIN);
        assert!(is_initial(&crashed, &disk, VerifyDepth::Content));
    }
    assert!(done.started);
    let whole = lab.crashed();
    assert_eq!(whole.read(&disk), AGENT);
    assert!(whole.cloud.show_disk(&whole.operator(), &disk).unwrap().security_enhanced);
}
