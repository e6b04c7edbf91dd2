//! "This VM must not eat the machine": limits of disks, set while they run and kept over everything.

use std::num::NonZeroU64;

use block_device::Rates;
use catalog::{Records, record::DiskLimits};
use cloud::{CloudError, LimitDisk};

use crate::lab::Lab;

fn rates(iops: u64, bytes_per_second: u64) -> Rates {
    let of = NonZeroU64::new;
    Rates { iops: of(iops), bytes_per_second: of(bytes_per_second) }
}

fn asked(disk: &str, iops: Option<u64>, bytes_per_second: Option<u64>) -> LimitDisk {
    LimitDisk { disk: disk.into(), iops, bytes_per_second }
}

fn limit(
    lab: &Lab,
    disk: &str,
    iops: Option<u64>,
    bytes: Option<u64>,
) -> Result<Rates, CloudError> {
    lab.cloud.limit_disk(&lab.key(), &asked(disk, iops, bytes))
}

/// A running instance; its system disk.
fn running(lab: &Lab) -> (String, String) {
    let image = lab.image(&lab.key(), "base", 1);
    let made = lab.instance(&lab.key(), &image);
    lab.start(&made.instance);
    (made.instance, made.system_disk)
}

#[test]
fn a_disk_in_use_goes_at_its_new_pace_at_once() {
    let lab = Lab::new();
    let (_, disk) = running(&lab);
    assert_eq!(lab.exports.rates(&disk), Some(Rates::UNLIMITED));
    assert_eq!(limit(&lab, &disk, Some(500), None).unwrap(), rates(500, 0));
    assert_eq!(lab.exports.rates(&disk), Some(rates(500, 0)));
    // What is not given stays.
    assert_eq!(limit(&lab, &disk, None, Some(1 << 20)).unwrap(), rates(500, 1 << 20));
    assert_eq!(lab.exports.rates(&disk), Some(rates(500, 1 << 20)));
    let shown = lab.cloud.show_disk(&lab.key(), &disk).unwrap();
    assert_eq!(shown.rates, rates(500, 1 << 20));
    assert_eq!(limit(&lab, &disk, Some(0), Some(0)).unwrap(), Rates::UNLIMITED);
    assert_eq!(lab.exports.rates(&disk), Some(Rates::UNLIMITED));
    assert_eq!(lab.catalog.all::<DiskLimits>().unwrap(), []);
}

#[test]
fn every_opening_has_the_limits_also_after_a_reset_a_restart_and_a_crash() {
    let lab = Lab::new();
    let (instance, disk) = running(&lab);
    lab.stop(&instance);
    limit(&lab, &disk, Some(500), Some(1 << 20)).unwrap();
    assert_eq!(lab.exports.rates(&disk), None);
    lab.reinit(&disk).unwrap();
    lab.start(&instance);
    assert_eq!(lab.exports.rates(&disk), Some(rates(500, 1 << 20)));
    for lab in [lab.crashed(), lab.restart(|_| ())] {
        assert_eq!(lab.exports.rates(&disk), Some(rates(500, 1 << 20)));
    }
}

#[test]
fn limits_go_with_their_disk_however_it_goes() {
    let lab = Lab::new();
    let (instance, system) = running(&lab);
    let data = lab.disk();
    for disk in [&system, &data] {
        limit(&lab, disk, Some(1), None).unwrap();
    }
    assert_eq!(lab.catalog.all::<DiskLimits>().unwrap().len(), 2);
    lab.cloud.delete_disk(&lab.key(), &data).unwrap();
    lab.stop(&instance);
    lab.cloud.delete_instance(&lab.key(), &instance, false).unwrap();
    assert_eq!(lab.catalog.all::<DiskLimits>().unwrap(), []);
}

#[test]
fn what_cannot_be_limited_is_refused() {
    let lab = Lab::new();
    let disk = lab.disk();
    let nothing = limit(&lab, &disk, None, None).unwrap_err();
    assert!(matches!(nothing, CloudError::NothingToModify), "{nothing}");
    let unknown = limit(&lab, "d-none", Some(1), None).unwrap_err();
    assert!(matches!(unknown, CloudError::NotFound { .. }), "{unknown}");
    assert_eq!(lab.catalog.all::<DiskLimits>().unwrap(), []);
}
