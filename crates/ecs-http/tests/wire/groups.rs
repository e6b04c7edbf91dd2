//! Snapshot groups over the wire.

use serde_json::json;

use crate::{
    harness::{Service, wait},
    signing::signed,
};

#[test]
fn a_group_is_taken_described_and_deleted() {
    let service = Service::start();
    let key = service.key();
    let image = service.image("default", "base", &[]);
    let (id, disks) = service.used_instance(&key, &image, &[("DataDisk.1.Size", "5")]);
    let create = |own: &[(&str, &str)]| service.call(&key, "CreateSnapshotGroup", own);
    create(&[]).refused("MissingParameter", 400);
    create(&[("InstanceId", "i-no")]).refused("InvalidInstanceId.NotFound", 404);
    create(&[("DiskId.1", "d-no")]).refused("InvalidDiskId.NotFound", 404);
    let own = [
        ("InstanceId", id.as_str()),
        ("Name", "before"),
        ("Tag.1.Key", "k"),
        ("Tag.1.Value", "v"),
        ("ClientToken", "c-1"),
    ];
    let xml = service.send(signed(&key, "GET", "XML", "CreateSnapshotGroup", &own).request("GET"));
    assert_eq!(xml.status, 200, "{}", xml.body);
    let group = create(&own).text("SnapshotGroupId");
    assert!(xml.body.contains(&format!("<SnapshotGroupId>{group}</SnapshotGroupId>")));

    let describe = |own: &[(&str, &str)]| service.call(&key, "DescribeSnapshotGroups", own).ok();
    let accomplished = ("Status.1", "accomplished");
    wait(|| describe(&[accomplished])["SnapshotGroups"]["SnapshotGroup"] != json!([]));
    let page = describe(&[("SnapshotGroupId.1", &group), ("MaxResults", "1")]);
    assert_eq!(page["NextToken"], "");
    let one = &page["SnapshotGroups"]["SnapshotGroup"][0];
    assert_eq!((&one["Name"], &one["InstanceId"]), (&"before".into(), &id.into()));
    assert_eq!(one["Tags"], json!({"Tag": [{"Key": "k", "Value": "v"}]}));
    let members = one["Snapshots"]["Snapshot"].as_array().unwrap();
    let of: Vec<_> = members.iter().map(|one| one["SourceDiskId"].as_str().unwrap()).collect();
    assert_eq!(of, disks);
    assert_eq!(
        (&members[0]["SourceDiskType"], &members[0]["Progress"]),
        (&"system".into(), &"100%".into())
    );
    service
        .call(&key, "DescribeSnapshotGroups", &[("Status.1", "odd")])
        .refused("InvalidStatus.ValueNotSupported", 403);

    let delete = |id: &str| service.call(&key, "DeleteSnapshotGroup", &[("SnapshotGroupId", id)]);
    delete("").refused("MissingParameter", 400);
    delete("ssg-no").refused("InvalidSnapshotGroupId.NotFound", 404);
    let gone = delete(&group).ok();
    let rows = gone["OperationProgressSet"]["OperationProgress"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["OperationStatus"]), (2, &"Success".into()));
    assert_eq!(describe(&[])["SnapshotGroups"], json!({"SnapshotGroup": []}));
    let left = service.call(&key, "DescribeSnapshots", &[]).ok();
    assert_eq!(left["TotalCount"], 0);
}
