//! "I restart the daemon whenever I like. What was written stays, what was reset stays reset."

use tests::{qemu, signature::Signature, site::Site};

#[test]
fn a_restart_keeps_writes_and_resets() {
    let mut site = Site::new();
    let raw = qemu::ext4_image(site.scratch(), 16);
    let image = qemu::to_qcow2(&raw, &site.scratch().join("image.qcow2"), &["-c"]);
    let id = site.import(&image, &[]);
    let machine = site.machine(&id, &["1G"]);
    site.start(&machine.instance);
    site.io(&machine.system, &["write -P 0x31 4M 64k"]);

    // The end of the daemon flushes what was answered, and the running instance is open again after it.
    site.end_daemon();
    site.start_daemon();
    site.wait_for_instance(&machine.instance, "Running");
    site.io(&machine.system, &["read -P 0x31 4M 64k"]);

    site.stop(&machine.instance);
    site.end_daemon();
    site.start_daemon();
    site.reinit(&machine.system, Signature::Acs3);
    site.end_daemon();
    site.start_daemon();
    site.start(&machine.instance);
    assert!(site.holds(&machine.system, &image, "qcow2"));
    assert_eq!(site.show(&machine.system)["Epoch"], 2);
}

#[test]
fn a_snapshot_is_there_after_a_restart() {
    let mut site = Site::new();
    let image = qemu::ext4_image(site.scratch(), 8);
    let id = site.import(&image, &["--format", "raw"]);
    let machine = site.machine(&id, &["1G"]);
    site.start(&machine.instance);
    site.io(&machine.data[0], &["write -P 0x21 0 1M"]);
    site.stop(&machine.instance);
    let snapshot = site.snapshot(&machine.data[0]);
    site.end_daemon();
    site.start_daemon();
    let made = site.run(&["disk", "create", "--snapshot", &snapshot]);
    let disk = made["DiskId"].as_str().unwrap();
    site.run(&["disk", "attach", disk, &machine.instance]);
    site.start(&machine.instance);
    site.io(disk, &["read -P 0x21 0 1M", "write -P 0x01 0 1M"]);
    site.stop(&machine.instance);
    site.reinit(disk, Signature::V1);
    site.start(&machine.instance);
    site.io(disk, &["read -P 0x21 0 1M"]);
}

#[test]
fn keys_stay_and_deleted_things_stay_deleted() {
    let mut site = Site::new();
    let made = site.run(&["disk", "create", "--size", "1G"]);
    let disk = made["DiskId"].as_str().unwrap().to_owned();
    let kept = site.run(&["disk", "create", "--size", "1G"]);
    site.run(&["disk", "rm", &disk]);
    site.crash();
    assert_eq!(site.disk_field(&disk, "DiskId"), "");
    assert_eq!(site.disk_field(kept["DiskId"].as_str().unwrap(), "Status"), "Available");
}
