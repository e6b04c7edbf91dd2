//! "Disks that I put back often fill my file system with what nobody needs any more: I want it back, and to see it."

use tests::{ecs, qemu, signature::Signature, site::Site};

#[test]
fn a_reclaim_of_all_disks_tells_each_and_the_metrics_tell_the_sums() {
    let site = Site::new();
    let raw = qemu::ext4_image(site.scratch(), 16);
    let image = site.import(&raw, &[]);
    let machine = site.machine(&image, &["1G"]);
    site.start(&machine.instance);
    let disk = &machine.data[0];
    site.io(disk, &["write -P 0x31 0 4M", "write -P 0x32 8M 1M", "flush"]);
    let shown = site.run(&["disk", "show", disk]);
    assert_eq!(shown["LiveBytes"], 5 << 20, "{shown}");
    site.stop(&machine.instance);
    site.reinit(disk, Signature::Acs3);
    let (_, page) = ecs::get(&site.daemon().http(), "/metrics");
    let stale = page.lines().find_map(|line| line.strip_prefix("reinit_store_stale_bytes "));
    assert!(stale.is_some_and(|bytes| bytes.parse::<f64>().unwrap() >= 5_242_880.0), "{page}");
    let done = site.run(&["disk", "reclaim", "--all"]);
    let disks = done["Disks"].as_array().unwrap();
    assert_eq!(disks.len(), 2, "{done}");
    let mine = disks.iter().find(|one| one["DiskId"] == disk.as_str()).unwrap();
    assert_eq!(mine["FreedBytes"], 5 << 20, "{done}");
    // 0 is no limit, and there is nothing left to give back.
    let again = site.run(&["disk", "reclaim", disk, "--rate", "0"]);
    assert_eq!(again["Disks"][0]["FreedBytes"], 0, "{again}");
    assert!(site.offline(&["disk", "reclaim", disk, "--rate", "-1"]).code == Some(2));
}
