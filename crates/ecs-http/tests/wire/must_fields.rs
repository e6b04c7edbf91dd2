//! The fields an ECS answers in any case, or else a client breaks, against what `/openapi.json` tells.
//!
//! Written down from the models and sources of the clients, not from our table: this is what the table is
//! checked by. Everything else in an answer is free.

use serde_json::Value;

use crate::told::{Door, document};

/// In the order of the reference. `A[]` repeats, and `A{..}` holds what must be in it. What an ECS may leave
/// out is here where we answer it and something in it must then be there. Each answer also has
/// `RequestId:str`.
const ANSWERS: &[(&str, &str)] = &[
    (
        "ResetDisks",
        "OperationProgressSet{OperationProgress[]{ErrorCode:str ErrorMsg:str \
         OperationStatus:str RelatedItemSet{RelatedItem[]{Name:str Value:str}}}}",
    ),
    ("ReplaceSystemDisk", "DiskId:str"),
    ("CreateDisk", "DiskId:str"),
    (
        "DescribeDisks",
        "Disks{Disk[]{AttachedTime:str Attachments{Attachment[]{AttachedTime:str \
         Device:str InstanceId:str}} Category:str CreationTime:str DeleteAutoSnapshot:bool \
         DeleteWithInstance:bool Description:str DetachedTime:str Device:str \
         DiskChargeType:str DiskId:str DiskName:str EnableAutoSnapshot:bool Encrypted:bool \
         ExpiredTime:str ImageId:str InstanceId:str \
         MountInstances{MountInstance[]{AttachedTime:str Device:str InstanceId:str}} \
         OperationLocks{OperationLock[]{LockReason:str}} Portable:bool ProductCode:str \
         RegionId:str SerialNumber:str Size:int SourceDiskId:str SourceSnapshotId:str \
         Status:str Tags{Tag[]{TagKey:str TagValue:str}} Type:str ZoneId:str}} \
         NextToken:str PageNumber:int PageSize:int TotalCount:int",
    ),
    ("CreateSnapshot", "SnapshotId:str"),
    (
        "DescribeSnapshots",
        "NextToken:str PageNumber:int PageSize:int Snapshots{Snapshot[]{Category:str \
         CreationTime:str Description:str Encrypted:bool ProductCode:str Progress:str \
         RegionId:str SnapshotId:str SnapshotName:str SourceDiskId:str SourceDiskSize:str \
         SourceDiskType:str SourceSnapshotId:str Status:str Tags{Tag[]{TagKey:str \
         TagValue:str}} Usage:str}} TotalCount:int",
    ),
    (
        "DescribeSnapshotGroups",
        "NextToken:str SnapshotGroups{SnapshotGroup[]{CreationTime:str Description:str \
         InstanceId:str Name:str SnapshotGroupId:str Snapshots{Snapshot[]{Progress:str \
         SnapshotId:str SourceDiskId:str SourceDiskType:str Tags{Tag[]{Value:str}}}} \
         Status:str Tags{Tag[]{Value:str}}}}",
    ),
    ("CreateImage", "ImageId:str"),
    (
        "DescribeImages",
        "Images{Image[]{Architecture:str CreationTime:str Description:str \
         DiskDeviceMappings{DiskDeviceMapping[]{Device:str Encrypted:bool Progress:str \
         Size:str SnapshotId:str Type:str}} ImageId:str ImageName:str ImageOwnerAlias:str \
         ImageOwnerId:int ImageVersion:str IsCopied:bool IsSelfShared:str \
         IsSubscribed:bool OSName:str OSType:str Platform:str ProductCode:str Progress:str \
         Size:int Status:str Tags{Tag[]{TagKey:str TagValue:str}} Usage:str}} \
         PageNumber:int PageSize:int RegionId:str TotalCount:int",
    ),
    ("CopyImage", "ImageId:str"),
    ("ImportImage", "ImageId:str RegionId:str TaskId:str"),
    ("ExportImage", "RegionId:str TaskId:str"),
    (
        "DescribeImageSharePermission",
        "Accounts{Account[]{AliyunId:str}} ImageId:str PageNumber:int PageSize:int \
         RegionId:str ShareGroups{ShareGroup[]{Group:str}} TotalCount:int",
    ),
    ("CreateInstance", "InstanceId:str"),
    ("RunInstances", "InstanceIdSets{InstanceIdSet[]:str}"),
    (
        "StartInstances",
        "InstanceResponses{InstanceResponse[]{Code:str CurrentStatus:str InstanceId:str \
         Message:str PreviousStatus:str}}",
    ),
    (
        "StopInstances",
        "InstanceResponses{InstanceResponse[]{Code:str CurrentStatus:str InstanceId:str \
         Message:str PreviousStatus:str}}",
    ),
    (
        "DescribeInstances",
        "Instances{Instance[]{CreationTime:str Description:str DeviceAvailable:bool \
         EipAddress{AllocationId:str InternetChargeType:str IpAddress:str} ExpiredTime:str \
         HostName:str ImageId:str InnerIpAddress{IpAddress[]:str} InstanceChargeType:str \
         InstanceId:str InstanceName:str InstanceNetworkType:str InstanceType:str \
         InstanceTypeFamily:str InternetChargeType:str IoOptimized:bool KeyPairName:str \
         NetworkInterfaces{NetworkInterface[]{Type:str}} OSName:str OSType:str \
         OperationLocks{LockReason[]{LockReason:str}} PublicIpAddress{IpAddress[]:str} \
         RegionId:str \
         SecurityGroupIds{SecurityGroupId[]:str} SerialNumber:str Status:str \
         Tags{Tag[]{TagKey:str TagValue:str}} \
         VpcAttributes{PrivateIpAddress{IpAddress[]:str} VSwitchId:str VpcId:str} \
         ZoneId:str}} NextToken:str PageNumber:int PageSize:int TotalCount:int",
    ),
    (
        "DescribeInstanceStatus",
        "InstanceStatuses{InstanceStatus[]{InstanceId:str Status:str}} PageNumber:int \
         PageSize:int TotalCount:int",
    ),
    (
        "DescribeInstanceTypes",
        "InstanceTypes{InstanceType[]{CpuCoreCount:int InstanceTypeFamily:str \
         InstanceTypeId:str MemorySize:float}}",
    ),
    (
        "DescribeRegions",
        "Regions{Region[]{LocalName:str RegionEndpoint:str RegionId:str Status:str}}",
    ),
    (
        "DescribeZones",
        "Zones{Zone[]{AvailableDiskCategories{DiskCategories[]:str} \
         AvailableInstanceTypes{InstanceTypes[]:str} \
         AvailableResourceCreation{ResourceTypes[]:str} \
         AvailableResources{ResourcesInfo[]{InstanceTypes{supportedInstanceType[]:str} IoOptimized:bool}} \
         LocalName:str ZoneId:str}}",
    ),
    (
        "DescribeTasks",
        "PageNumber:int PageSize:int RegionId:str TaskSet{Task[]{CreationTime:str \
         FinishedTime:str ResourceId:str SupportCancel:str TaskAction:str TaskId:str \
         TaskStatus:str}} TotalCount:int",
    ),
    (
        "DescribeTaskAttribute",
        "CreationTime:str FailedCount:int FinishedTime:str \
         OperationProgressSet{OperationProgress[]{ErrorCode:str ErrorMsg:str \
         OperationStatus:str RelatedItemSet{RelatedItem[]{Name:str Value:str}}}} \
         RegionId:str SuccessCount:int SupportCancel:str TaskAction:str TaskId:str \
         TaskProcess:str TaskStatus:str TotalCount:int",
    ),
    (
        "ListTagResources",
        "NextToken:str TagResources{TagResource[]{ResourceId:str ResourceType:str \
         TagKey:str TagValue:str}}",
    ),
];

/// Answers that need hold nothing but `RequestId`.
const BARE: &[&str] = &[
    "ReInitDisk",
    "ResetDisk",
    "AttachDisk",
    "DetachDisk",
    "DeleteDisk",
    "ResizeDisk",
    "ModifyDiskAttribute",
    "DeleteSnapshot",
    "DeleteImage",
    "ModifyImageSharePermission",
    "StartInstance",
    "StopInstance",
    "RebootInstance",
    "DeleteInstance",
    "CancelTask",
    "TagResources",
    "UntagResources",
];

/// The next name, up to what ends it.
fn name<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    *rest = after;
    name
}

fn skip(rest: &mut &str, mark: &str) -> bool {
    let after = rest.strip_prefix(mark);
    *rest = after.unwrap_or(rest);
    after.is_some()
}

/// Holds a schema against the fields that must be in it, and returns how many those were.
fn hold(schema: &Value, rest: &mut &str, at: &str) -> usize {
    let mut count = 0;
    while !rest.is_empty() && !rest.starts_with('}') {
        let field = name(rest);
        let path = format!("{at}.{field}");
        let repeats = skip(rest, "[]");
        let told = &schema["properties"][field];
        let required = schema["required"].as_array().unwrap().iter().any(|name| name == field);
        assert!(required, "{path} may be missing");
        assert_eq!(told["type"] == "array", repeats, "{path} is {told}");
        let told = if repeats { &told["items"] } else { told };
        count += 1;
        if skip(rest, "{") {
            assert_eq!(told["type"], "object", "{path}");
            count += hold(told, rest, &path);
            assert!(skip(rest, "}"), "{path} has no end: {rest}");
        } else {
            assert!(skip(rest, ":"), "{path}: {rest}");
            let kind = match name(rest) {
                "str" => "string",
                "int" => "integer",
                "bool" => "boolean",
                "float" => "number",
                other => panic!("{other} is no type"),
            };
            assert_eq!(told["type"], kind, "{path}");
        }
        skip(rest, " ");
    }
    count
}

#[test]
fn each_field_a_client_counts_on_is_told_and_always_there() {
    let schemas = &document(Door::Public)["components"]["schemas"];
    let bare = BARE.iter().map(|action| (*action, ""));
    let mut count = 0;
    for (action, fields) in ANSWERS.iter().copied().chain(bare) {
        let schema = &schemas[format!("{action}Response")];
        assert!(schema.is_object(), "{action}");
        let fields = format!("RequestId:str {fields}");
        count += hold(schema, &mut fields.as_str(), action);
    }
    assert!(count > 250, "{count}");
}
