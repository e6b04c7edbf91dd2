//! "My guests come up with the password or the key I gave at the reset, and nobody can read it anywhere."

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use serde_json::Value;
use tests::{
    ecs::Format,
    program, qemu,
    signature::Signature,
    site::{Machine, REGION, Site, text},
};

const PASSWORD: &str = "Sw0rdfish!x7";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample me@lab";

fn site(config: &str) -> (Site, Machine) {
    let site = Site::configured(config, &[]);
    let image = qemu::ext4_image(site.scratch(), 8);
    let id = site.import(&image, &["--format", "raw"]);
    let machine = site.machine(&id, &[]);
    site.start(&machine.instance);
    site.stop(&machine.instance);
    (site, machine)
}

fn reinit(site: &Site, machine: &Machine, with: &[(&str, &str)], signature: Signature) {
    let call = [&[("DiskId", machine.system.as_str())], with].concat();
    site.ecs().signing(signature).call("ReInitDisk", &call).ok();
    site.wait_for_disk(&machine.system, "In_use");
}

/// Writes the seed as a directory; gives its `instance-id` and its cloud-config.
fn seed(site: &Site, machine: &Machine) -> (String, Value) {
    let place = site.scratch().join("seed");
    site.run(&["instance", "seed", &machine.instance, &place.display().to_string()]);
    let read = |name: &str| fs::read_to_string(place.join(name)).unwrap();
    for name in ["meta-data", "user-data"] {
        let mode = fs::metadata(place.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let meta: Value = serde_json::from_str(&read("meta-data")).unwrap();
    let user = read("user-data");
    let config =
        user.strip_prefix("#cloud-config\n").map(|json| serde_json::from_str(json).unwrap());
    (text(&meta, "instance-id"), config.unwrap_or(Value::Null))
}

/// Every file of the store, so that a secret that lies in any of them is found.
fn lies_in(directory: &Path, secret: &str) -> Option<String> {
    let mut found = Command::new("grep");
    let found = found.args(["-r", "-l", "-a", "-F", "--devices=skip", secret]).arg(directory);
    let told = program::run(found);
    (told.code == Some(0)).then_some(told.stdout)
}

#[test]
fn a_password_given_at_a_reset_is_what_the_next_first_boot_sets() {
    let (mut site, machine) = site("");
    let (before, nothing) = seed(&site, &machine);
    assert!(nothing.is_null());
    for signature in [Signature::V1, Signature::Acs3] {
        reinit(&site, &machine, &[("Password", PASSWORD)], signature);
    }
    let (id, config) = seed(&site, &machine);
    assert_ne!(id, before);
    let root = &config["chpasswd"]["users"][0];
    assert_eq!(root["name"], "root");
    let hash = text(root, "password");
    let salt = hash.split('$').nth(2).unwrap();
    let openssl =
        program::run(Command::new("openssl").args(["passwd", "-6", "-salt", salt, PASSWORD]));
    assert_eq!(openssl.ok().stdout.trim(), hash);

    // A machine that is started by the reset has it too, and kill -9 takes nothing back.
    reinit(&site, &machine, &[("AutoStartInstance", "true")], Signature::Acs3);
    site.wait_for_instance(&machine.instance, "Running");
    site.crash();
    let (after, config) = seed(&site, &machine);
    assert_ne!(after, id);
    assert!(text(&config["chpasswd"]["users"][0], "password").starts_with("$6$"));

    // Nowhere in the clear: neither in what is shown nor in any file, the audit log among them.
    let shown = site.run(&["instance", "show", &machine.instance]);
    assert_eq!(shown["FirstBoot"]["Login"], "password");
    assert_eq!(shown["FirstBoot"]["SeedId"], after.as_str());
    assert!(!shown.to_string().contains("$6$"), "{shown}");
    let log = site.end_daemon();
    assert!(!log.contains(PASSWORD), "{log}");
    assert_eq!(lies_in(&site.store(), PASSWORD), None);
    // The search finds what there is.
    assert!(lies_in(&site.store(), "ReInitDisk").is_some());
}

#[test]
fn an_iso_image_has_the_label_that_guests_look_for() {
    let (site, machine) = site("");
    reinit(&site, &machine, &[("Password", PASSWORD)], Signature::V1);
    let image = site.scratch().join("seed.iso");
    let path = image.display().to_string();
    site.run(&["instance", "seed", &machine.instance, &path]);
    // Over the one that is there, as after each reset.
    site.run(&["instance", "seed", &machine.instance, &path]);
    let told = program::run(Command::new("blkid").args(["-p", "-o", "export"]).arg(&image)).ok();
    assert!(told.stdout.contains("LABEL=CIDATA"), "{told}");
    assert!(told.stdout.contains("TYPE=iso9660"), "{told}");
}

#[test]
fn a_key_pair_of_the_config_file_reaches_the_guest_and_no_other_is_taken() {
    let (site, machine) = site(&format!("[key_pairs]\nlab = '{KEY}'\n"));
    reinit(&site, &machine, &[("KeyPairName", "lab")], Signature::Acs3);
    let (_, config) = seed(&site, &machine);
    assert_eq!(config["ssh_authorized_keys"], serde_json::json!([KEY]));
    let before = site.show(&machine.system);
    let refused = [
        (vec![("KeyPairName", "other")], "InvalidKeyPairName.NotFound"),
        (vec![("Password", "short")], "InvalidPassword.Malformed"),
        (vec![("KeyPairName", "lab"), ("Password", PASSWORD)], "InvalidParameter.Conflict"),
    ];
    for (with, code) in refused {
        for format in [Format::Json, Format::Xml] {
            let call = [&[("DiskId", machine.system.as_str())], with.as_slice()].concat();
            site.ecs().asking(format).call("ReInitDisk", &call).refuses(code, 400);
        }
    }
    assert_eq!(site.show(&machine.system), before);
}

#[test]
fn user_data_of_the_client_is_answered_as_it_came() {
    let (site, machine) = site("");
    let told = |instance: &str| {
        let call = [REGION, ("InstanceId", instance)];
        site.ecs().call("DescribeUserData", &call).ok().text("UserData")
    };
    assert_eq!(told(&machine.instance), "");
    reinit(&site, &machine, &[("Password", PASSWORD)], Signature::V1);
    assert!(told(&machine.instance).starts_with("I2Nsb3VkLWNvbmZpZw"), "a cloud-config");
    let call =
        [REGION, ("InstanceId", machine.instance.as_str()), ("UserData", "IyEvYmluL3NoCg==")];
    site.ecs().call("ModifyInstanceAttribute", &call).ok();
    assert_eq!(told(&machine.instance), "IyEvYmluL3NoCg==");
    let place = site.scratch().join("seed");
    site.run(&["instance", "seed", &machine.instance, &place.display().to_string()]);
    assert_eq!(fs::read(place.join("user-data")).unwrap(), b"#!/bin/sh\n");
    let login = fs::read_to_string(place.join("vendor-data")).unwrap();
    assert!(login.starts_with("#cloud-config\n") && login.contains("$6$"), "{login}");
}
