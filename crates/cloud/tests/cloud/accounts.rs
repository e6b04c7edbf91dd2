//! Accounts and keys: what the operator makes, and what each may see.

use cloud::{Caller, CloudError, CreateDisk, DescribeDisks, KeyState, Quota, Role, SetAccount};

use crate::lab::{Lab, MIB};

#[test]
fn a_key_is_shown_once_and_found_for_the_signature() {
    let lab = Lab::new();
    let operator = lab.operator();
    let made = lab.cloud.create_key(&operator, "lab", Role::Reset, None).unwrap();
    let mut exported = Vec::new();
    catalog::Catalog::export(&*lab.catalog, &mut exported).unwrap();
    assert!(!String::from_utf8(exported).unwrap().contains(made.secret.reveal()));

    let lab = lab.restart(|_| ());
    let key = lab.cloud.access_key(&made.access_key_id).unwrap().unwrap();
    assert_eq!(key.secret, made.secret);
    assert_eq!((key.account.as_str(), key.role, key.state), ("lab", Role::Reset, KeyState::Active));
    assert!(lab.cloud.access_key("LTAIunknown").unwrap().is_none());

    lab.cloud.disable_key(&operator, &made.access_key_id).unwrap();
    let key = lab.cloud.access_key(&made.access_key_id).unwrap().unwrap();
    assert_eq!(key.state, KeyState::Disabled);
    lab.cloud.delete_key(&operator, &made.access_key_id).unwrap();
    assert!(lab.cloud.access_key(&made.access_key_id).unwrap().is_none());
    assert!(matches!(
        lab.cloud.delete_key(&operator, &made.access_key_id),
        Err(CloudError::NotFound { .. })
    ));
}

#[test]
fn a_key_expires_by_the_clock() {
    let lab = Lab::new();
    let until = "2026-03-01T13:00:00Z".parse().unwrap();
    let made = lab.cloud.create_key(&lab.operator(), "lab", Role::Full, Some(until)).unwrap();
    let state = || lab.cloud.access_key(&made.access_key_id).unwrap().unwrap().state;
    assert_eq!(state(), KeyState::Active);
    lab.clock.set(until);
    assert_eq!(state(), KeyState::Expired);
}

#[test]
fn numbers_are_given_once() {
    let lab = Lab::new();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            scope.spawn(|| lab.cloud.ensure_account(&lab.operator(), name).unwrap());
            scope.spawn(|| lab.cloud.create_key(&lab.operator(), name, Role::Full, None).unwrap());
        }
    });
    let accounts = lab.cloud.accounts(&lab.operator()).unwrap();
    let mut numbers: Vec<_> = accounts.iter().map(|account| account.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..5).map(|n| 1_000_000_000_000_001 + n).collect::<Vec<_>>());
    assert_eq!(lab.cloud.keys(&lab.operator()).unwrap().len(), 4);
    assert!(lab.cloud.keys(&lab.key()).is_err() && lab.cloud.accounts(&lab.key()).is_err());
}

#[test]
fn a_quota_holds_also_against_calls_at_the_same_time() {
    let lab = Lab::new();
    let set = SetAccount { quota_bytes: Some(Some(5 * MIB)), ..Default::default() };
    lab.cloud.set_account(&lab.operator(), "default", &set).unwrap();
    let create = || {
        let request = CreateDisk { size: Some(MIB), ..Default::default() };
        lab.cloud.create_disk(&lab.operator(), &request)
    };
    let made: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..12).map(|_| scope.spawn(create)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|result| result.is_ok()).count(), 5);
    assert!(
        made.iter()
            .flat_map(|result| result.as_ref().err())
            .all(|error| matches!(error, CloudError::QuotaExceeded { what: Quota::DiskBytes }))
    );
    let set = SetAccount { quota_bytes: Some(None), ..Default::default() };
    lab.cloud.set_account(&lab.operator(), "default", &set).unwrap();
    assert!(create().is_ok());
}

#[test]
fn an_account_that_owes_gets_nothing_new_and_one_unknown_has_nothing() {
    let lab = Lab::new();
    let set = SetAccount { in_arrears: Some(true), ..Default::default() };
    lab.cloud.set_account(&lab.operator(), "default", &set).unwrap();
    let request = CreateDisk { size: Some(MIB), ..Default::default() };
    assert!(matches!(
        lab.refused(|| lab.cloud.create_disk(&lab.operator(), &request)),
        CloudError::AccountInArrears { .. }
    ));
    let nobody = Caller::operator("nobody");
    assert!(matches!(
        lab.refused(|| lab.cloud.create_disk(&nobody, &request)),
        CloudError::NotFound { .. }
    ));
    let page = lab.cloud.describe_disks(&nobody, &DescribeDisks::default()).unwrap();
    assert_eq!(page.total, 0);
}
