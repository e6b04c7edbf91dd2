//! "My VM boots from a disk of the store. It breaks itself, I reset the disk, and it boots as on its first day."

use std::path::Path;

use tests::{
    guest::{self, Guest},
    site::Site,
};

const POWER_OFF: &str = "/bin/busybox sync; /bin/busybox poweroff -f";

/// The disk as QEMU's own NBD client sees it.
fn over_nbd(site: &Site, disk: &str) -> Vec<String> {
    let socket = site.store().join("run/nbd.sock");
    let node = format!(
        "driver=nbd,node-name=disk,server.type=unix,server.path={},export={disk},discard=unmap",
        socket.display()
    );
    ["-blockdev", &node, "-device", "virtio-blk-pci,drive=disk"].map(String::from).into()
}

/// Boots, is broken from within, no longer boots, is reset, and boots with everything as it was.
fn story(disk_of: impl Fn(&Site, &str) -> Vec<String>) {
    if let Some(why) = guest::hindrance() {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let site = Site::new();
    let image = guest::image(site.scratch());
    let id = site.import(&image, &["--format", "raw"]);
    let machine = site.machine(&id, &[]);
    site.start(&machine.instance);
    let boot = |place: &Path| Guest::start(place, &disk_of(&site, &machine.system));

    let mut guest = boot(site.scratch());
    guest.console.wait_for("guest: up, pristine");
    guest.console.does("/bin/busybox dd if=/dev/urandom of=/noise bs=64k count=32 2>/dev/null");
    guest.console.does("/bin/busybox echo broken >/etc/motd && /bin/busybox rm /sbin/init");
    guest.console.type_line(POWER_OFF);
    assert!(guest.ended().success());
    assert!(!site.holds(&machine.system, &image, "raw"), "the guest wrote");

    let mut guest = boot(site.scratch());
    guest.console.wait_for("guest: no init on the disk");
    assert!(guest.ended().success());

    site.stop(&machine.instance);
    site.run(&["reset", &machine.system, "--verify"]);
    site.start(&machine.instance);
    assert!(site.holds(&machine.system, &image, "raw"));
    let mut guest = boot(site.scratch());
    guest.console.wait_for("guest: up, pristine");
    guest.console.does("[ ! -e /noise ]");
    guest.console.type_line(POWER_OFF);
    assert!(guest.ended().success());
}

#[test]
fn a_guest_over_nbd_breaks_itself_and_boots_pristine_after_a_reset() {
    story(over_nbd);
}
