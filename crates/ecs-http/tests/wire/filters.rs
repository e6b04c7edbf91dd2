//! What lists are filtered by, and the codes of filters that cannot be meant.

use crate::harness::Service;

/// An action, its filter, and how many rows or which refusal there is.
enum Expected {
    Rows(u64),
    Refused(&'static str, u16),
}

use Expected::{Refused, Rows};

#[test]
fn lists_are_filtered_by_all_that_the_contract_names() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let own = [
        ("DataDisk.1.Size", "5"),
        ("KeyPairName", "pair"),
        ("SecurityGroupId", "sg-1"),
        ("VSwitchId", "vsw-1"),
        ("PrivateIpAddress", "10.0.0.2"),
        ("IoOptimized", "none"),
        ("Tag.1.Key", "k"),
        ("Tag.1.Value", "v"),
    ];
    let (id, disks) = service.used_instance(&key, &image, &own);
    service.snapshot(&key, &disks[0]);
    let (disk_list, instance_list) = (format!("[\"{}\"]", disks[0]), format!("[\"{id}\"]"));
    let rows: &[(&str, &str, &str, Expected)] = &[
        ("DescribeDisks", "DiskIds", &disk_list, Rows(1)),
        ("DescribeDisks", "Category", "cloud", Rows(1)),
        ("DescribeDisks", "Category", "all", Rows(2)),
        ("DescribeDisks", "Category", "odd", Refused("InvalidCategory.ValueNotSupported", 400)),
        ("DescribeDisks", "Encrypted", "true", Rows(0)),
        ("DescribeDisks", "Encrypted", "false", Rows(2)),
        ("DescribeDisks", "RegionId", "", Refused("MissingParamter.RegionId", 400)),
        ("DescribeDisks", "MaxResults", "500", Rows(2)),
        ("DescribeDisks", "MaxResults", "501", Refused("InvalidParameter", 400)),
        ("DescribeDisks", "Tag.1.Value", "v", Refused("InvalidTag.Mismatch", 400)),
        ("DescribeDisks", "Filter.1.Key", "CreationStartTime", Refused("MissingParameter", 400)),
        ("DescribeSnapshots", "SnapshotType", "user", Rows(1)),
        ("DescribeSnapshots", "SnapshotType", "all", Rows(1)),
        ("DescribeSnapshots", "SnapshotType", "auto", Rows(0)),
        ("DescribeSnapshots", "SnapshotType", "odd", Refused("InvalidSnapshotType.NotFound", 404)),
        ("DescribeSnapshots", "Encrypted", "True", Rows(0)),
        ("DescribeSnapshots", "MaxResults", "101", Refused("InvalidParameter", 400)),
        ("DescribeSnapshots", "RegionId", "", Refused("MissingParameter", 400)),
        ("DescribeInstances", "InstanceIds", &instance_list, Rows(1)),
        ("DescribeInstances", "InstanceTypeFamily", "ecs.g7", Rows(1)),
        ("DescribeInstances", "InstanceTypeFamily", "ecs.g6", Rows(0)),
        ("DescribeInstances", "KeyPairName", "pair", Rows(1)),
        ("DescribeInstances", "KeyPairName", "other", Rows(0)),
        ("DescribeInstances", "SecurityGroupId", "sg-1", Rows(1)),
        ("DescribeInstances", "SecurityGroupId", "sg-2", Rows(0)),
        ("DescribeInstances", "VSwitchId", "vsw-1", Rows(1)),
        ("DescribeInstances", "VSwitchId", "vsw-2", Rows(0)),
        ("DescribeInstances", "VpcId", "vpc-1", Rows(0)),
        ("DescribeInstances", "PrivateIpAddresses", "[\"10.0.0.1\",\"10.0.0.2\"]", Rows(1)),
        ("DescribeInstances", "PrivateIpAddresses", "[\"10.0.0.1\"]", Rows(0)),
        ("DescribeInstances", "IoOptimized", "false", Rows(1)),
        ("DescribeInstances", "IoOptimized", "true", Rows(0)),
        ("DescribeInstances", "DeviceAvailable", "false", Rows(0)),
        ("DescribeInstances", "InstanceNetworkType", "vpc", Rows(1)),
        ("DescribeInstances", "InstanceNetworkType", "classic", Rows(0)),
        (
            "DescribeInstances",
            "InstanceNetworkType",
            "odd",
            Refused("InvalidNetworkType.NotFound", 404),
        ),
        ("DescribeInstances", "Tag.1.Key", "k", Rows(1)),
        ("DescribeInstances", "Tag.1.Key", "x", Rows(0)),
        ("DescribeTasks", "StartTime", "2000-01-01T00:00Z", Rows(1)),
        ("DescribeTasks", "EndTime", "2000-01-01T00:00Z", Rows(0)),
        ("DescribeTasks", "EndTime", "later", Refused("InvalidParameter", 400)),
    ];
    for (action, name, value, expected) in rows {
        let answer = service.call(&key, action, &[(name, value)]);
        match expected {
            Rows(count) => {
                assert_eq!(answer.ok()["TotalCount"], *count, "{action} {name}={value}");
            }
            Refused(code, status) => {
                assert_eq!(
                    answer.refusal(),
                    ((*code).to_owned(), *status),
                    "{action} {name}={value}"
                );
            }
        }
    }
    let reset = [("DiskId", disks[0].as_str()), ("KeyPairName", "other")];
    service.call(&key, "ReInitDisk", &reset).ok();
    for (name, rows) in [("pair", 0), ("other", 1)] {
        let found = service.call(&key, "DescribeInstances", &[("KeyPairName", name)]).ok();
        assert_eq!(found["TotalCount"], rows);
    }
    let many: Vec<_> = (1..=21).map(|n| (format!("Tag.{n}.Key"), format!("k{n}"))).collect();
    let many: Vec<_> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    service.call(&key, "DescribeImages", &many).refused("InvalidTagCount", 400);
}

#[test]
fn places_refuse_what_nobody_can_mean() {
    let service = Service::start();
    let key = service.key();
    for action in ["DescribeRegions", "DescribeZones"] {
        let ask = |name: &'static str, value| service.call(&key, action, &[(name, value)]);
        ask("AcceptLanguage", "zh-CN").ok();
        ask("ResourceType", "disk").ok();
        ask("AcceptLanguage", "tlh").refused("InvalidAcceptLanguage.NotFound", 404);
        ask("ResourceType", "moon").refused("InvalidResourceType.NotFound", 404);
    }
    let image = service.image("default", "base", &[]);
    let share = |more: &[(&'static str, &'static str)]| {
        let own = [&[("ImageId", image.as_str()), ("DryRun", "true")], more].concat();
        service.call(&key, "ModifyImageSharePermission", &own)
    };
    share(&[]).refused("DryRunOperation", 400);
    share(&[("AddAccount.1", "1")]).refused("InvalidAccount.NotFound", 404);
}

#[test]
fn tags_are_found_by_how_they_look() {
    let service = Service::start();
    let key = service.key();
    let disk = |name, value| {
        let asked = [("Size", "5"), ("Tag.1.Key", name), ("Tag.1.Value", value)];
        service.call(&key, "CreateDisk", &asked).text("DiskId")
    };
    let (web, base) = (disk("env/web", "prod-1"), disk("env/db", "test"));
    let list = |asked: &[(&str, &str)]| {
        let asked = [&[("ResourceType", "disk")], asked].concat();
        service.call(&key, "ListTagResources", &asked)
    };
    let found = |asked: &[(&str, &str)]| -> Vec<String> {
        let document = list(asked).ok();
        let rows = document["TagResources"]["TagResource"].as_array().unwrap().clone();
        rows.iter().map(|row| row["ResourceId"].as_str().unwrap().to_owned()).collect()
    };
    let env = ("TagFilter.1.TagKey", "env/*");
    assert_eq!(found(&[env]).len(), 2);
    assert_eq!(found(&[("TagFilter.1.TagKey", "*/web")]), [web.as_str()]);
    assert_eq!(found(&[env, ("TagFilter.1.TagValues.1", "prod*")]), [web.as_str()]);
    let either = [("TagFilter.1.TagValues.1", "no"), ("TagFilter.1.TagValues.2", "test")];
    assert_eq!(found(&[&[env][..], &either].concat()), [base.as_str()]);
    let both = [env, ("TagFilter.2.TagKey", "env/db"), ("ResourceId.1", &web)];
    assert!(found(&both).is_empty());
    list(&[("TagFilter.1.TagValues.1", "x")]).refused("InvalidTag.Mismatch", 400);
    let many: Vec<_> = (1..=21).map(|n| (format!("TagFilter.{n}.TagKey"), "k")).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    list(&many).refused("InvalidTagCount", 400);
}
