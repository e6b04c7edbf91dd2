//! Flow (a): an instance with a data disk is made, used, stopped, put back and started.

use std::path::Path;

use serde_json::{Value, json};
use tests::{
    client::{Client, items, word},
    site::{Machine, Site},
};

use super::words::*;

/// Every character that a client may have to encode, and some that XML has to.
const NAME: &str = "a b+c*~'(数据盘)<&>";

pub(super) fn flow(site: &Site, client: &mut Client, image: &str, file: &Path) -> Machine {
    look_around(client, image);
    let machine = create(client, image);
    let reset = |disk: &str| json!({"DiskId": disk});
    client.refuses("ReInitDisk", &reset("d-none"), "InvalidDiskId.NotFound", 404);
    // It was never started, then it runs.
    client.refuses("ReInitDisk", &reset(&machine.system), "IncorrectInstanceStatus", 403);
    start(client, &machine.instance);
    assert!(site.holds(&machine.system, file, "raw"), "{client}: it begins as its image");
    site.ruin(&machine.system);
    site.ruin(&machine.data[0]);
    client.refuses("ReInitDisk", &reset(&machine.system), "IncorrectInstanceStatus", 403);
    client.refuses("ReInitDisk", &reset(&machine.data[0]), "IncorrectInstanceStatus", 403);

    stop(client, &machine.instance);
    client.call("ReInitDisk", &reset(&machine.system));
    wait_for_disk(client, &machine.system, "In_use");
    let and_start = json!({"DiskId": machine.data[0], "AutoStartInstance": true});
    client.call("ReInitDisk", &and_start);
    wait_for_instance(client, &machine.instance, "Running");
    assert!(site.holds(&machine.system, file, "raw"), "{client}: it is as its image again");
    site.io(&machine.data[0], &["read -P 0 0 16M"]);
    machine
}

/// What a person who clicks an instance together asks first.
fn look_around(client: &mut Client, image: &str) {
    let one = |list: &Value, field: &str, value: &str| {
        assert!(items(list).iter().any(|item| word(&item[field]) == value), "no {value}: {list}");
    };
    let regions = client.call("DescribeRegions", &json!({}));
    one(&regions["Regions"]["Region"], "RegionId", REGION);
    let zones = client.call("DescribeZones", &json!({"RegionId": REGION}));
    one(&zones["Zones"]["Zone"], "ZoneId", ZONE);
    let types = client.call("DescribeInstanceTypes", &json!({}));
    one(&types["InstanceTypes"]["InstanceType"], "InstanceTypeId", "ecs.g6.large");
    let images = client.call("DescribeImages", &json!({"RegionId": REGION, "ImageId": image}));
    one(&images["Images"]["Image"], "ImageOwnerAlias", "self");
}

/// The same request with the same token twice makes one instance.
fn create(client: &mut Client, image: &str) -> Machine {
    let asked = json!({
        "RegionId": REGION,
        "ZoneId": ZONE,
        "ImageId": image,
        "InstanceType": "ecs.g6.large",
        "InstanceName": NAME,
        "SecurityGroupId": "sg-1",
        "SystemDisk": {"Category": "cloud_auto", "Size": "1"},
        "DataDisk": [{"Category": "cloud_auto", "Size": 1, "DiskName": NAME}],
        "ClientToken": "the-first",
    });
    let instance = word(&client.call("CreateInstance", &asked)["InstanceId"]);
    let again = word(&client.call("CreateInstance", &asked)["InstanceId"]);
    assert_eq!(again, instance, "{client}: the same token");
    let shown = wait_for_instance(client, &instance, "Stopped");
    assert_eq!(word(&shown["InstanceName"]), NAME, "{client}");
    assert_eq!(word(&items(&shown["SecurityGroupIds"]["SecurityGroupId"])[0]), "sg-1", "{client}");
    let machine = machine(client, &instance);
    assert_eq!(machine.data.len(), 1, "{client}");
    let data = disk(client, &machine.data[0]);
    assert_eq!((word(&data["DiskName"]).as_str(), word(&data["Size"]).as_str()), (NAME, "1"));
    machine
}
