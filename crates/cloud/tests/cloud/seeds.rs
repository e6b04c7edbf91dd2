//! What the first boot is told: kept sealed, new after each reset, never in the clear.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catalog::{
    Batch, Records,
    record::{Disk, PendingReset},
};
use cloud::{
    Caller, Cloud, CloudError, CreateInstance, DescribeInstances, Field, InstanceCreated,
    InstanceSeed, ReInitDisk, ReplaceSystemDisk, Role, SecretText,
};
use serde_json::Value;

use crate::lab::{Lab, reinit};

const FIRST: &str = "Sw0rdfish!";
const SECOND: &str = "Passw0rd?2";
const KEY: &str = "ssh-ed25519 AAAAC3Nz lab";

fn create(lab: &Lab, change: impl FnOnce(&mut CreateInstance)) -> InstanceCreated {
    let image = lab.image(&lab.key(), "base", 1);
    let mut request = CreateInstance { image: Some(image), ..Default::default() };
    change(&mut request);
    let made = lab.cloud.create_instance(&lab.operator(), &request).unwrap();
    lab.start(&made.instance);
    lab.stop(&made.instance);
    made
}

fn with_password(password: &str) -> Option<SecretText> {
    Some(SecretText::new(password))
}

fn seed(lab: &Lab, made: &InstanceCreated) -> InstanceSeed {
    lab.cloud.instance_seed(&lab.key(), &made.instance).unwrap()
}

fn reset(lab: &Lab, request: &ReInitDisk) {
    lab.cloud.reinit_disk(&lab.key(), request, Cloud::new_request_id()).unwrap();
}

fn user_data(lab: &Lab, caller: &Caller, made: &InstanceCreated) -> String {
    lab.cloud.user_data(caller, &made.instance).unwrap()
}

/// The JSON below the first line of a cloud-config.
fn config(text: &[u8]) -> Value {
    let text = std::str::from_utf8(text).unwrap();
    serde_json::from_str(text.strip_prefix("#cloud-config\n").unwrap()).unwrap()
}

/// The salted hash, which must be that of the password.
fn hash_of(config: &Value, password: &str) -> String {
    let user = &config["chpasswd"]["users"][0];
    assert_eq!((&user["name"], &user["type"]), (&"root".into(), &"hash".into()));
    let hash = user["password"].as_str().unwrap();
    let salt = hash.split('$').nth(2).unwrap();
    let openssl = std::process::Command::new("openssl")
        .args(["passwd", "-6", "-salt", salt, password])
        .output();
    match openssl {
        Ok(told) => assert_eq!(String::from_utf8(told.stdout).unwrap().trim(), hash),
        Err(_) => eprintln!("SKIPPED: openssl is not installed"),
    }
    hash.to_owned()
}

#[test]
fn a_password_reaches_the_guest_as_a_hash_and_each_reset_is_a_new_first_boot() {
    let lab = Lab::new();
    let made = create(&lab, |request| request.password = with_password(FIRST));
    let before = seed(&lab, &made);
    assert_eq!(before, seed(&lab, &made), "asking changes nothing");
    let first = hash_of(&config(&before.user_data), FIRST);
    assert_eq!((before.login.as_deref(), &before.vendor_data), (Some("password"), &None));
    let meta: Value = serde_json::from_str(&before.meta_data).unwrap();
    assert_eq!(meta["instance-id"], before.seed_id.as_str());
    assert_eq!(meta["local-hostname"], made.instance.as_str());

    // A plain reset keeps the login and is a first boot all the same.
    lab.reinit(&made.system_disk).unwrap();
    let after = seed(&lab, &made);
    assert_ne!(after.seed_id, before.seed_id);
    assert_ne!(hash_of(&config(&after.user_data), FIRST), first, "another salt");
    // So does one that only has the instance started.
    reset(&lab, &ReInitDisk { auto_start: true, ..reinit(&made.system_disk) });
    lab.stop(&made.instance);
    hash_of(&config(&seed(&lab, &made).user_data), FIRST);
    // A data disk is none of its business.
    let same = seed(&lab, &made);
    let request = ReInitDisk { password: with_password(SECOND), ..reinit(&made.system_disk) };
    reset(&lab, &request);
    let lab = lab.crashed();
    hash_of(&config(&seed(&lab, &made).user_data), SECOND);
    assert_ne!(seed(&lab, &made).seed_id, same.seed_id);
    // Nothing of it lies anywhere in the clear.
    let records = lab.export();
    for secret in [FIRST, SECOND] {
        assert!(!records.windows(secret.len()).any(|part| part == secret.as_bytes()));
    }
}

#[test]
fn what_the_client_gave_is_passed_on_and_the_login_stands_beside_it() {
    let lab = Lab::new();
    let script = b"#!/bin/sh\necho \xff\n";
    let made = create(&lab, |request| {
        request.password = with_password(FIRST);
        request.user_data = Some(STANDARD.encode(script));
        request.host_name = Some("web-1".into());
    });
    let found = seed(&lab, &made);
    assert_eq!(found.user_data, script);
    hash_of(&config(found.vendor_data.unwrap().as_bytes()), FIRST);
    let meta: Value = serde_json::from_str(&found.meta_data).unwrap();
    assert_eq!(meta["local-hostname"], "web-1");
    assert_eq!(user_data(&lab, &lab.key(), &made), STANDARD.encode(script));
}

#[test]
fn the_hash_is_shown_to_those_who_may_change_the_instance_only() {
    let lab = Lab::new();
    let made = create(&lab, |request| request.password = with_password(FIRST));
    let told = STANDARD.decode(user_data(&lab, &lab.key(), &made)).unwrap();
    hash_of(&config(&told), FIRST);
    for role in [Role::Read, Role::Reset] {
        let key = Caller::key("default", role);
        assert!(lab.cloud.instance_seed(&key, &made.instance).is_err());
        assert!(role == Role::Reset || user_data(&lab, &key, &made).is_empty());
    }
    let stranger = lab.other("stranger");
    assert!(lab.cloud.user_data(&stranger, &made.instance).is_err());
    assert!(lab.cloud.instance_seed(&stranger, &made.instance).is_err());
}

#[test]
fn a_key_pair_brings_its_public_key_and_an_unknown_one_is_refused() {
    let lab = Lab::with(|settings| {
        settings.key_pairs.insert("lab".into(), KEY.into());
    });
    let made = create(&lab, |request| request.key_pair = Some("lab".into()));
    let found = seed(&lab, &made);
    let told = config(&found.user_data);
    assert_eq!(told["ssh_authorized_keys"], serde_json::json!([KEY]));
    assert_eq!(told["ssh_pwauth"], false);
    assert!(told["chpasswd"].is_null());
    assert!(found.meta_data.contains(KEY));
    assert_eq!(found.login.as_deref(), Some("lab"));
    let request = ReInitDisk { key_pair: Some("other".into()), ..reinit(&made.system_disk) };
    let error =
        lab.refused(|| lab.cloud.reinit_disk(&lab.key(), &request, Cloud::new_request_id()));
    assert!(matches!(error, CloudError::ValueNotSupported { field: Field::KeyPairName, .. }));
    // With no key pairs at all a name is but a name.
    let lab = lab.restart(|settings| settings.key_pairs.clear());
    reset(&lab, &request);
    assert_eq!(seed(&lab, &made).login.as_deref(), Some("other"));
}

/// What DescribeInstances shows, and the filter by it agrees.
fn key_pair(lab: &Lab, made: &InstanceCreated) -> String {
    let ids = Some(vec![made.instance.clone()]);
    let asked = DescribeInstances { ids, ..Default::default() };
    let shown = lab.cloud.describe_instances(&lab.key(), &asked).unwrap().items.remove(0).key_pair;
    for (name, total) in [(shown.as_str(), 1), ("another", 0)] {
        let asked = DescribeInstances { key_pair: Some(name.into()), ..asked.clone() };
        assert_eq!(lab.cloud.describe_instances(&lab.key(), &asked).unwrap().total, total);
    }
    shown
}

#[test]
fn the_key_pair_shown_is_the_one_that_logs_in() {
    let lab = Lab::new();
    let made = create(&lab, |request| request.key_pair = Some("first".into()));
    assert_eq!(key_pair(&lab, &made), "first");
    let disk = made.system_disk.as_str();
    let with = |name: &str| ReInitDisk { key_pair: Some(name.into()), ..reinit(disk) };
    reset(&lab, &with("second"));
    assert_eq!(key_pair(&lab, &made), "second");
    reset(&lab, &reinit(disk));
    assert_eq!(key_pair(&lab, &made), "second", "a reset that brings none keeps it");
    lab.start(&made.instance);
    lab.refused(|| lab.cloud.reinit_disk(&lab.key(), &with("third"), Cloud::new_request_id()));
    lab.stop(&made.instance);
    for lab in [&lab, &lab.crashed()] {
        assert_eq!(key_pair(lab, &made), "second");
    }
    reset(&lab, &ReInitDisk { password: with_password(FIRST), ..reinit(disk) });
    assert_eq!(key_pair(&lab, &made), "");
    assert_eq!(seed(&lab, &made).login.as_deref(), Some("password"));

    reset(&lab, &with("fourth"));
    let image = lab.view(disk).unwrap().source_image().unwrap().to_owned();
    let replace = |name: Option<&str>, password| {
        let request = ReplaceSystemDisk {
            instance: made.instance.clone(),
            image: image.clone(),
            key_pair: name.map(str::to_owned),
            password,
            ..Default::default()
        };
        lab.cloud.replace_system_disk(&lab.key(), &request).unwrap();
        key_pair(&lab, &made)
    };
    assert_eq!(replace(Some("fifth"), None), "fifth");
    assert_eq!(replace(None, with_password(SECOND)), "");
    assert_eq!(replace(Some("sixth"), None), "sixth");
    assert_eq!(replace(None, None), "", "a new disk brings no login of the old one");
}

#[test]
fn a_reset_that_did_not_happen_leaves_the_login_before_it() {
    let lab = Lab::new();
    let made = create(&lab, |request| request.password = with_password(FIRST));
    reset(&lab, &ReInitDisk { password: with_password(SECOND), ..reinit(&made.system_disk) });
    // As if the machine had died before the ledger had the reset.
    let record: Disk = lab.catalog.get(&made.system_disk).unwrap().unwrap();
    let pending = record.pending_reset.clone().unwrap();
    let ledger_sequence = pending.ledger_sequence + 1;
    let waiting =
        Disk { pending_reset: Some(PendingReset { ledger_sequence, ..pending }), ..record };
    let mut batch = Batch::new();
    batch.put(&waiting).unwrap();
    lab.catalog.commit(&batch, &[]).unwrap();
    let lab = lab.crashed();
    hash_of(&config(&seed(&lab, &made).user_data), FIRST);
}

#[test]
fn an_instance_without_a_login_has_a_seed_too() {
    let lab = Lab::new();
    let made = create(&lab, |_| ());
    let found = seed(&lab, &made);
    assert_eq!((found.login, found.user_data.len(), found.vendor_data), (None, 0, None));
    assert_eq!(user_data(&lab, &lab.key(), &made), "");
}
