//! "One VM must not eat the machine": the operator says how fast a disk may go, while it is used.

use block_device::{ByteOffset, Durability};
use nbd_server::client::NbdClient;
use tests::{qemu, site::Site};

#[test]
fn a_disk_in_use_is_slowed_down_and_let_go() {
    let mut site = Site::new();
    let raw = qemu::ext4_image(site.scratch(), 16);
    let image = site.import(&raw, &[]);
    let machine = site.machine(&image, &["1G"]);
    let disk = &machine.data[0];
    site.start(&machine.instance);
    let set = site.run(&["disk", "limit", disk, "--bandwidth", "1", "--iops", "1000"]);
    assert_eq!((&set["BytesPerSecondLimit"], &set["IopsLimit"]), (&1.into(), &1000.into()));

    let socket = site.store().join("run/nbd.sock");
    let mut client = NbdClient::connect_unix(&socket, disk).unwrap();
    let mut write = |byte| client.write(&[byte; 4096], ByteOffset::ZERO, Durability::Cached);
    write(1).unwrap();
    std::thread::scope(|scope| {
        // Its turn is more than an hour away.
        let waiting = scope.spawn(|| write(2));
        let told = site.run(&["disk", "limit", disk, "--bandwidth", "0"]);
        assert_eq!(told["BytesPerSecondLimit"], 0);
        waiting.join().unwrap().unwrap();
    });

    // What is left holds over a crash, and goes with its last limit.
    site.crash();
    assert_eq!(site.show(disk)["IopsLimit"], 1000);
    site.run(&["disk", "limit", disk, "--iops", "0"]);
    assert_eq!(site.show(disk)["IopsLimit"], 0);
}

#[test]
fn a_limit_that_says_nothing_is_refused() {
    let site = Site::new();
    for wrong in [&["disk", "limit", "d-1"][..], &["disk", "limit", "d-1", "--iops", "fast"]] {
        assert_eq!(site.offline(wrong).code, Some(2));
    }
    let unknown = site.offline(&["disk", "limit", "d-1", "--iops", "5"]).fails();
    assert!(unknown.complaint().contains("InvalidDiskId.NotFound"), "{}", unknown.complaint());
}
