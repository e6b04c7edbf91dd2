//! Client tokens: one effect and one answer, at once, later and after a crash.

use cloud::{CloudError, CreateDisk, CreateInstance, DescribeDisks, ResizeDisk, SecretText};

use crate::lab::{Lab, MIB, all};

fn request(token: &str, size: u64) -> CreateDisk {
    CreateDisk { size: Some(size), client_token: Some(token.into()), ..Default::default() }
}

fn disks(lab: &Lab) -> u64 {
    let asked = DescribeDisks { paging: all(), ..Default::default() };
    lab.cloud.describe_disks(&lab.operator(), &asked).unwrap().total
}

#[test]
fn the_same_call_twice_has_one_effect() {
    let lab = Lab::new();
    let first = lab.cloud.create_disk(&lab.operator(), &request("t-1", MIB)).unwrap();
    let again = lab.cloud.create_disk(&lab.operator(), &request("t-1", MIB)).unwrap();
    assert_eq!(first, again);
    assert!(matches!(
        lab.refused(|| lab.cloud.create_disk(&lab.operator(), &request("t-1", 2 * MIB))),
        CloudError::TokenMismatch { .. }
    ));
    assert_ne!(lab.cloud.create_disk(&lab.operator(), &request("t-2", MIB)).unwrap(), first);
    let other = cloud::Caller::operator("lab");
    lab.other("lab");
    assert_ne!(lab.cloud.create_disk(&other, &request("t-1", MIB)).unwrap(), first);
    assert_eq!(disks(&lab), 2);
}

#[test]
fn the_same_call_from_many_threads_has_one_effect() {
    let lab = Lab::new();
    for round in 0..20 {
        let token = format!("t-{round}");
        let create = || lab.cloud.create_disk(&lab.operator(), &request(&token, MIB)).unwrap();
        let answers: Vec<_> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]));
    }
    assert_eq!(disks(&lab), 20);
}

#[test]
fn a_token_outlives_a_crash_and_ends_after_its_time() {
    let lab = Lab::new();
    let first = lab.cloud.create_disk(&lab.operator(), &request("t-1", MIB)).unwrap();
    let lab = lab.crashed();
    assert_eq!(lab.cloud.create_disk(&lab.operator(), &request("t-1", MIB)).unwrap(), first);
    lab.clock.set("2026-03-02T11:59:00Z".parse().unwrap());
    assert_eq!(lab.cloud.create_disk(&lab.operator(), &request("t-1", MIB)).unwrap(), first);
    lab.clock.set("2026-03-02T12:01:00Z".parse().unwrap());
    assert_ne!(lab.cloud.create_disk(&lab.operator(), &request("t-1", MIB)).unwrap(), first);
}

#[test]
fn a_call_that_failed_may_be_repeated_with_its_token() {
    let lab = Lab::new();
    let asked = CreateDisk { zone: Some("nowhere".into()), ..request("t-1", MIB) };
    assert!(matches!(
        lab.refused(|| lab.cloud.create_disk(&lab.operator(), &asked)),
        CloudError::NotFound { .. }
    ));
    assert!(lab.cloud.create_disk(&lab.operator(), &request("t-1", MIB)).is_ok());
    for bad in ["x".repeat(65), "é".into(), "a\nb".into()] {
        assert!(matches!(
            lab.cloud.create_disk(&lab.operator(), &request(&bad, MIB)),
            Err(CloudError::Malformed { .. })
        ));
    }
}

#[test]
fn a_password_counts_among_the_parameters() {
    let lab = Lab::new();
    let image = lab.image(&lab.key(), "base", 1);
    let request = |password: &str| CreateInstance {
        image: Some(image.clone()),
        instance_type: Some("ecs.g7.large".into()),
        password: Some(SecretText::new(password)),
        client_token: Some("t-1".into()),
        ..Default::default()
    };
    let first = lab.cloud.create_instance(&lab.key(), &request("Sw0rdfish!")).unwrap();
    let again = lab.cloud.create_instance(&lab.key(), &request("Sw0rdfish!")).unwrap();
    assert_eq!(first, again);
    assert!(matches!(
        lab.cloud.create_instance(&lab.key(), &request("Sw0rdfish?")),
        Err(CloudError::TokenMismatch { .. })
    ));
}

#[test]
fn a_resize_whose_answer_was_lost_is_answered_as_done() {
    let lab = Lab::new();
    let disk = lab.disk();
    let request =
        ResizeDisk { disk, size: 2 * MIB, client_token: Some("t-1".into()), online: false };
    lab.cloud.resize_disk(&lab.operator(), &request).unwrap();
    lab.cloud.resize_disk(&lab.operator(), &request).unwrap();
    let lost = ResizeDisk { client_token: Some("t-2".into()), ..request };
    lab.cloud.resize_disk(&lab.operator(), &lost).unwrap();
}
