//! "My disk grew since it was made. A reset keeps the new size and brings the old beginning back."

use tests::{qemu, signature::Signature, site::Site};

#[test]
fn a_grown_system_disk_goes_back_to_its_image_and_keeps_its_size() {
    let site = Site::new();
    let raw = qemu::ext4_image(site.scratch(), 16);
    let image = qemu::to_qcow2(&raw, &site.scratch().join("image.qcow2"), &[]);
    let id = site.import(&image, &[]);
    let machine = site.machine(&id, &["1G"]);
    site.start(&machine.instance);
    site.stop(&machine.instance);
    for disk in [&machine.system, &machine.data[0]] {
        site.run(&["disk", "resize", disk, "2G"]);
    }
    site.start(&machine.instance);
    assert_eq!(qemu::size(&site.nbd(&machine.system)), 2 << 30);
    for disk in [&machine.system, &machine.data[0]] {
        site.ruin(disk);
        site.io(disk, &["write -P 0x99 1536M 1M", "flush"]);
    }
    site.stop(&machine.instance);
    site.reinit(&machine.system, Signature::V1);
    site.reinit(&machine.data[0], Signature::Acs3);
    site.start(&machine.instance);
    assert_eq!(qemu::size(&site.nbd(&machine.system)), 2 << 30);
    assert!(site.holds(&machine.system, &image, "qcow2"));
    let zeros = site.scratch().join("zeros");
    std::fs::File::create(&zeros).unwrap().set_len(2 << 30).unwrap();
    assert!(site.holds(&machine.data[0], &zeros, "raw"));
}

#[test]
fn a_disk_never_shrinks() {
    let site = Site::new();
    let made = site.run(&["disk", "create", "--size", "2G"]);
    let disk = made["DiskId"].as_str().unwrap();
    let before = site.show(disk);
    site.offline(&["disk", "resize", disk, "1G"]).fails();
    assert_eq!(site.show(disk), before);
}
