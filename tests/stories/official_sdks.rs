//! "My backend speaks to ECS with the official SDK. I change the endpoint and nothing else."

use tests::{
    qemu,
    sdk::{Sdk, drive, drive_with},
    signature::Key,
    site::{Machine, Site, text},
};

fn story(sdk: Sdk) {
    let site = Site::new();
    let raw = qemu::ext4_image(site.scratch(), 16);
    let image = qemu::to_qcow2(&raw, &site.scratch().join("image.qcow2"), &[]);
    let id = site.import(&image, &[]);
    let client = site.ecs();
    let run = |arguments: &[&str]| drive(sdk, &client.address, &client.key, arguments);

    let made = run(&["create", &id]);
    let text = |name: &str| made["disks"][name].as_str().unwrap().to_owned();
    let machine = Machine {
        instance: made["instance"].as_str().unwrap().to_owned(),
        system: text("system"),
        data: vec![text("data")],
    };
    assert!(site.holds(&machine.system, &image, "qcow2"));
    site.ruin(&machine.system);
    site.ruin(&machine.data[0]);

    let refused = run(&["refused", &machine.system]);
    assert_eq!(refused["code"], "IncorrectInstanceStatus", "{refused}");
    assert_eq!(refused["status"], 403, "{refused}");

    let reset = run(&["reset", &machine.instance, &machine.system, &machine.data[0]]);
    assert_eq!(reset["requests"].as_array().unwrap().len(), 2);
    assert!(site.holds(&machine.system, &image, "qcow2"));
    site.io(&machine.data[0], &["read -P 0 0 16M"]);

    let refused = run(&["refused", "d-doesnotexist"]);
    assert_eq!(refused["code"], "InvalidDiskId.NotFound", "{refused}");
    assert_eq!(refused["status"], 404, "{refused}");
}

#[test]
fn the_tea_sdk_drives_the_main_job_unmodified() {
    story(Sdk::Tea);
}

#[test]
fn the_core_sdk_drives_the_main_job_unmodified() {
    story(Sdk::Core);
}

#[test]
fn a_temporary_key_with_its_token_does_for_both_sdks() {
    let site = Site::new();
    let address = site.ecs().address;
    for sdk in [Sdk::Tea, Sdk::Core] {
        let made = site.run(&["key", "create", "--temporary", "--role", "reset"]);
        let key = Key { id: text(&made, "AccessKeyId"), secret: text(&made, "AccessKeySecret") };
        let token = text(&made, "SecurityToken");
        let refused = |variables: &[(&str, &str)]| {
            drive_with(variables, sdk, &address, &key, &["refused", "d-doesnotexist"])
        };
        let told = refused(&[("SECURITY_TOKEN", &token)]);
        assert_eq!(told["code"], "InvalidDiskId.NotFound", "{sdk:?}: {told}");
        for variables in [&[][..], &[("SECURITY_TOKEN", "another")]] {
            let told = refused(variables);
            assert_eq!(told["code"], "InvalidSecurityToken.MismatchWithAccessKey", "{told}");
            assert_eq!(told["status"], 400, "{told}");
        }
        site.run(&["key", "rm", &key.id]);
        let told = refused(&[("SECURITY_TOKEN", &token)]);
        assert_eq!(told["code"], "InvalidAccessKeyId.NotFound", "{told}");
    }
}

#[test]
fn both_sdks_tell_that_a_key_asks_too_often() {
    let site = Site::configured("rate_per_key = 1\nburst_per_key = 3\n", &[]);
    for sdk in [Sdk::Tea, Sdk::Core] {
        let client = site.ecs();
        let told = drive(sdk, &client.address, &client.key, &["throttled", "d-doesnotexist"]);
        assert_eq!(told["code"], "Throttling.User", "{sdk:?}: {told}");
        assert_eq!(told["status"], 400, "{sdk:?}: {told}");
    }
}
