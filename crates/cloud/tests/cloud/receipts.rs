//! The receipt of the last reset and the proof that it still holds.

use std::os::unix::fs::FileExt as _;

use cloud::{Cloud, LastReset, Origin, ResetDisk};
use reinit::{Verification, VerifyDepth};

use crate::lab::Lab;

fn last(lab: &Lab, disk: &str) -> Option<LastReset> {
    lab.cloud.show_disk(&lab.operator(), disk).unwrap().last_reset
}

fn verify(lab: &Lab, disk: &str, depth: VerifyDepth) -> Verification {
    lab.cloud.verify_disk(&lab.operator(), disk, depth, &()).unwrap()
}

#[test]
fn a_receipt_names_the_request_the_epochs_the_origin_and_its_root() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    let (system, data) = (&made.system_disk, &made.data_disks[0]);
    lab.start(&made.instance);
    lab.write(system, 7);
    lab.stop(&made.instance);
    assert_eq!(last(&lab, system), None);
    let snapshot = lab.snapshot(system);

    let done = lab.reinit(system).unwrap();
    let told = last(&lab, system).unwrap();
    assert_eq!(told.request_id, done.request_id.to_string());
    assert_eq!(told.time, "2026-03-01T12:00:00Z".parse().unwrap());
    assert_eq!((told.epoch_before, told.epoch_after), (done.epoch_before, done.epoch_after));
    assert_eq!(told.origin, Some(Origin::Image { id: image }));
    assert!(told.root.is_some() && told.root == done.root);
    assert_eq!(verify(&lab, system, VerifyDepth::Head).root.map(|root| root.to_bytes()), told.root);

    lab.reinit(data).unwrap();
    let empty = last(&lab, data).unwrap();
    assert_eq!(empty.origin, Some(Origin::Empty));
    let proof = verify(&lab, data, VerifyDepth::Content);
    assert!(proof.in_initial_state);
    assert_eq!(proof.content_root.map(|root| root.to_bytes()), empty.root);

    let back = ResetDisk { disk: system.clone(), snapshot: snapshot.clone() };
    lab.cloud.reset_disk(&lab.key(), &back, Cloud::new_request_id()).unwrap();
    let rolled = last(&lab, system).unwrap();
    assert_eq!(rolled.origin, Some(Origin::Snapshot { id: snapshot.clone() }));
    assert!(rolled.root.is_some() && rolled.root != told.root);
    assert_eq!(last(&lab.crashed(), system), Some(rolled.clone()), "it is in the ledger");
    let found = verify(&lab, system, VerifyDepth::Head);
    assert!(!found.in_initial_state && !found.stands_on_origin, "nothing is written, yet");
    lab.cloud.delete_snapshot(&lab.key(), &snapshot, true).unwrap();
    assert_eq!(last(&lab, system).unwrap(), LastReset { origin: None, ..rolled });
}

#[test]
fn a_deep_proof_counts_every_byte_and_names_the_first() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    let disk = &made.system_disk;
    lab.start(&made.instance);
    let device = lab.exports.device(disk).unwrap();
    let put = |offset: u64, bytes: &[u8]| {
        let durability = block_device::Durability::Cached;
        device.write_at(bytes, block_device::ByteOffset::new(offset), durability).unwrap();
    };
    // What the origin holds anyway differs for the head alone.
    put(0, &[1; 4096]);
    assert!(!verify(&lab, disk, VerifyDepth::Head).in_initial_state);
    assert!(verify(&lab, disk, VerifyDepth::Content).in_initial_state);
    put(700 * 1024, &[&[1; 100][..], &[2; 412]].concat());
    put(5 << 20, &[3; 512]);
    let found = verify(&lab, disk, VerifyDepth::Content);
    assert!(!found.in_initial_state && !found.origin_is_damaged());
    assert_eq!(found.first_difference.unwrap().get(), 700 * 1024 + 100);
    assert_eq!(found.differing.get(), 412 + 512);
    assert_eq!(found.differs_at.len(), 2);
    lab.stop(&made.instance);
    lab.reinit(disk).unwrap();
    let found = verify(&lab, disk, VerifyDepth::Content);
    assert!(found.in_initial_state && found.content_root == found.root, "{found:?}");
}

/// Disk and origin read the same damaged file: only the root tells.
#[test]
fn a_deep_proof_sees_that_the_origin_itself_is_damaged() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.used_instance(&lab.key(), &image);
    let disk = &made.system_disk;
    lab.reinit(disk).unwrap();
    assert!(verify(&lab, disk, VerifyDepth::Content).in_initial_state);
    let base = lab.cloud.store().disk(&disk.parse().unwrap()).unwrap().base.unwrap();
    let data = lab.directory.path().join(format!("layers/{base}/data"));
    let data = std::fs::OpenOptions::new().write(true).open(data).unwrap();
    data.write_all_at(&[9], 300_000).unwrap();
    let found = verify(&lab, disk, VerifyDepth::Content);
    assert!(found.origin_is_damaged() && !found.in_initial_state, "{found:?}");
}
