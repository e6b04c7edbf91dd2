//! Sharing: one account lends an image to another, which runs it, and takes it back.

use serde_json::json;
use tests::{
    client::{Client, Kind, items, word},
    qemu,
    site::Site,
};

use super::words::*;

pub(super) fn flow(kind: Kind) {
    let site = Site::new();
    let file = qemu::ext4_image(site.scratch(), 8);
    let image = site.import(&file, &["--format", "raw"]);
    let guest_key = site.key_of("guest");
    let (owner, guest) =
        (&mut client(&site, kind), &mut { Client::start(kind, &site.ecs().address, &guest_key) });
    let theirs = json!({"RegionId": REGION, "ImageOwnerAlias": "others"});
    let seen = |guest: &mut Client| {
        let answer = guest.call("DescribeImages", &theirs);
        items(&answer["Images"]["Image"]).len()
    };
    assert_eq!(seen(guest), 0, "{guest}: not shared yet");
    let number = number_of(&site, "guest");
    let this = json!({"RegionId": REGION, "ImageId": image});
    let share = |verb: &str| json!({"RegionId": REGION, "ImageId": image, verb: [number]});
    owner.call("ModifyImageSharePermission", &share("AddAccount"));
    let shares = owner.call("DescribeImageSharePermission", &this);
    let accounts = items(&shares["Accounts"]["Account"]);
    assert_eq!(word(&accounts[0]["AliyunId"]), number, "{owner}: {shares}");
    assert_eq!(seen(guest), 1, "{guest}: shared");
    guest.refuses("DeleteImage", &this, "InvalidImageId.NotFound", 404);

    let machine = run(guest, &image);
    assert!(site.holds(&machine.system, &file, "raw"), "{guest}: it is the image");
    site.ruin(&machine.system);
    stop(guest, &machine.instance);
    let reset = json!({"DiskId": machine.system});
    owner.refuses("ReInitDisk", &reset, "InvalidDiskId.NotFound", 404);
    guest.call("ReInitDisk", &reset);
    wait_for_disk(guest, &machine.system, "In_use");
    start(guest, &machine.instance);
    assert!(site.holds(&machine.system, &file, "raw"), "{guest}: it is the image again");
    stop(guest, &machine.instance);

    owner.refuses("DeleteImage", &this, "ImageUseShared", 403);
    owner.call("ModifyImageSharePermission", &share("RemoveAccount"));
    assert_eq!(seen(guest), 0, "{guest}: taken back");
    guest.refuses("ReInitDisk", &reset, "SharedImageDeleted", 403);
    owner.call("ModifyImageSharePermission", &share("AddAccount"));
    guest.call("ReInitDisk", &reset);
    wait_for_disk(guest, &machine.system, "In_use");
    owner.call("ModifyImageSharePermission", &share("RemoveAccount"));
    let delete = json!({"RegionId": REGION, "ImageId": image, "Force": true});
    owner.call("DeleteImage", &delete);
    guest.refuses("ReInitDisk", &reset, "SharedImageDeleted", 403);
}

fn number_of(site: &Site, account: &str) -> String {
    let listed = site.run(&["account", "ls"]);
    let accounts = listed["Accounts"].as_array().unwrap();
    let found = accounts.iter().find(|one| one["Account"] == account).unwrap();
    word(&found["AccountNumber"])
}
