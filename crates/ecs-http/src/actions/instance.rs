//! Instances: made, described, changed, deleted.

use cloud::{
    ChargeType, CreateInstance, DataDisk, DeleteInstances, DescribeInstances, InstanceStatus,
    InstanceView, ModifyInstance, RunInstances, SecretText, SystemDisk,
};

use super::codes::{
    Codes, DESCRIPTION, FILTERS, IN_SNAPSHOT, LOGIN, NEW_TAGS, NO_IMAGE, NO_INSTANCE, REPEATED,
    SYSTEM_DISK_SIZE,
};
use super::contract::{
    CREATED, Group, PAGES, REGION, TAGS, TOKENS, flag, gib, ids, needed, text, whole,
};
use super::shape::{
    Field, NEXT, PAGE, TAGS_SHOWN, flag_field, list_field, object_field, text_field, texts_field,
    whole_field,
};
use super::{Action, Call, Fields, lock_name, minutes, next_token, page_fields, tags};
use crate::{refusal::Refusal, tree::Tree};

/// What an instance to be made is told by.
const NEW: Group = &[
    text("SecurityGroupIds.N"),
    text("SecurityGroupId"),
    text("ImageId"),
    needed("InstanceType"),
    text("ZoneId"),
    text("InstanceName"),
    text("Description"),
    text("HostName"),
    text("Password"),
    text("KeyPairName"),
    text("UserData"),
    text("SecurityEnhancementStrategy"),
    text("InstanceChargeType"),
    text("VSwitchId"),
    text("PrivateIpAddress"),
    text("InternetChargeType"),
    text("IoOptimized"),
    text("ClientToken"),
    whole("Period", 0, 4_294_967_295),
    text("PeriodUnit"),
    text("SystemDisk.Category"),
    gib("SystemDisk.Size"),
    text("SystemDisk.DiskName"),
    text("SystemDisk.Description"),
    gib("DataDisk.N.Size"),
    flag("DataDisk.N.DeleteWithInstance"),
    text("DataDisk.N.Category"),
    text("DataDisk.N.SnapshotId"),
    text("DataDisk.N.DiskName"),
    text("DataDisk.N.Device"),
    text("DataDisk.N.Description"),
];

/// How instances are deleted.
const DELETE: Group = &[flag("Force"), flag("ForceStop"), flag("TerminateSubscription")];

pub(super) const ACTIONS: &[Action] = &[
    Action::new("DescribeInstances", describe)
        .takes(&[
            REGION,
            &[
                ids("InstanceIds"),
                text("InstanceName"),
                text("ImageId"),
                text("Status"),
                text("ZoneId"),
                text("InstanceType"),
                text("InstanceTypeFamily"),
                text("KeyPairName"),
                text("SecurityGroupId"),
                text("VSwitchId"),
                text("VpcId"),
                ids("PrivateIpAddresses"),
                flag("IoOptimized"),
                text("InstanceChargeType"),
                text("LockReason"),
                text("InstanceNetworkType"),
                flag("DeviceAvailable"),
            ],
            CREATED,
            TAGS,
            PAGES,
            TOKENS,
        ])
        .answers(&[PAGE, NEXT, &[list_field("Instances", "Instance", &[INSTANCE])]])
        .refuses(&[
            FILTERS,
            &[
                ("InvalidInstanceChargeType.NotFound", 404),
                ("InvalidLockReason.NotFound", 404),
                ("InvalidNetworkType.NotFound", 404),
                ("InvalidStatus.NotFound", 404),
            ],
        ])
        .that_only_asks(),
    Action::new("DescribeInstanceStatus", describe_status)
        .takes(&[REGION, &[text("InstanceId.N"), text("ZoneId")], PAGES])
        .answers(&[
            PAGE,
            &[list_field(
                "InstanceStatuses",
                "InstanceStatus",
                &[&[text_field("InstanceId"), text_field("Status")]],
            )],
        ])
        .that_only_asks(),
    Action::new("DescribeUserData", describe_user_data)
        .takes(&[&[needed("InstanceId")]])
        .answers(&[&[text_field("InstanceId"), text_field("RegionId"), text_field("UserData")]])
        .refuses(&[NO_INSTANCE])
        .that_only_asks(),
    Action::new("CreateInstance", create)
        .takes(&[REGION, NEW, TAGS])
        .answers(&[&[text_field("InstanceId")]])
        .refuses(CREATION),
    Action::new("RunInstances", run)
        .takes(&[REGION, &[whole("Amount", 1, 100)], NEW, TAGS])
        .answers(&[&[texts_field("InstanceIdSets", "InstanceIdSet")]])
        .refuses(CREATION),
    Action::new("ModifyInstanceAttribute", modify)
        .takes(&[&[
            needed("InstanceId"),
            text("InstanceName"),
            text("Description"),
            text("HostName"),
            text("UserData"),
        ]])
        .refuses(&[
            NO_INSTANCE,
            DESCRIPTION,
            &[
                ("InvalidHostName.Malformed", 400),
                ("InvalidInstanceName.Malformed", 400),
                ("InvalidUserData.SizeExceeded", 400),
                ("InstanceLockedForSecurity", 403),
            ],
        ]),
    Action::new("DeleteInstance", delete).takes(&[&[needed("InstanceId")], DELETE]).refuses(&[
        NO_INSTANCE,
        IN_SNAPSHOT,
        &[("ChargeTypeViolation", 403), ("DiskError", 403), ("IncorrectInstanceStatus", 403)],
    ]),
    Action::new("DeleteInstances", delete_several)
        .takes(&[REGION, &[needed("InstanceId.N"), text("ClientToken")], DELETE])
        .refuses(&[
            REPEATED,
            NO_INSTANCE,
            IN_SNAPSHOT,
            &[("ChargeTypeViolation", 403), ("DiskError", 403), ("IncorrectInstanceStatus", 403)],
        ]),
];

/// Of whatever makes instances.
const CREATION: &[Codes] = &[
    REPEATED,
    NEW_TAGS,
    DESCRIPTION,
    LOGIN,
    NO_IMAGE,
    SYSTEM_DISK_SIZE,
    NEW_INSTANCE,
    NEW_DATA_DISKS,
];

/// What is wrong with an instance to be made.
const NEW_INSTANCE: Codes = &[
    ("Account.Arrearage", 400),
    ("IncorrectImageStatus", 400),
    ("InvalidHostName.Malformed", 400),
    ("InvalidInstanceName.Malformed", 400),
    ("InvalidInstanceType.ValueNotSupported", 400),
    ("InvalidPeriod", 400),
    ("InvalidSystemDiskCategory.ValueNotSupported", 400),
    ("InvalidUserData.SizeExceeded", 400),
    ("QuotaExceed.PortableCloudDisk", 403),
    ("InvalidInstanceChargeType.NotFound", 404),
    ("InvalidSecurityGroupId.NotFound", 404),
    ("InvalidSystemDiskSize", 404),
    ("InvalidVSwitchId.NotFound", 404),
    ("InvalidZoneId.NotFound", 404),
];

const NEW_DATA_DISKS: Codes = &[
    ("InstanceDiskNumber.LimitExceed", 400),
    ("InvalidDataDevice.Malformed", 400),
    ("InvalidDataDiskCategory.ValueNotSupported", 400),
    ("InvalidDataDiskSize.ValueNotSupported", 400),
    ("InvalidDiskName.Malformed", 400),
    ("InvalidSnapshotId.BasedSnapshotTooOld", 400),
    ("InstanceDiskLimitExceeded", 403),
    ("InvalidDevice.InUse", 403),
    ("InvalidDiskSize.TooSmall", 403),
    ("InvalidSnapshotId.NotDataDiskSnapshot", 403),
    ("InvalidSnapshotId.NotReady", 403),
    ("InvalidDataDiskSnapshotId.NotFound", 404),
];

const INSTANCE: &[Field] = &[
    text_field("InstanceId"),
    text_field("InstanceName"),
    text_field("Description"),
    text_field("HostName"),
    text_field("Status"),
    text_field("ImageId"),
    text_field("InstanceType"),
    text_field("InstanceTypeFamily"),
    whole_field("Cpu"),
    whole_field("Memory"),
    text_field("OSName"),
    text_field("OSType"),
    text_field("RegionId"),
    text_field("ZoneId"),
    text_field("SerialNumber"),
    text_field("KeyPairName"),
    flag_field("DeviceAvailable"),
    flag_field("IoOptimized"),
    text_field("InstanceChargeType"),
    text_field("CreationTime"),
    text_field("StartTime"),
    text_field("ExpiredTime"),
    list_field("OperationLocks", "LockReason", &[&[text_field("LockReason")]]),
    TAGS_SHOWN,
    text_field("InstanceNetworkType"),
    text_field("InternetChargeType"),
    whole_field("InternetMaxBandwidthIn"),
    whole_field("InternetMaxBandwidthOut"),
    texts_field("InnerIpAddress", "IpAddress"),
    texts_field("PublicIpAddress", "IpAddress"),
    object_field(
        "EipAddress",
        &[&[text_field("AllocationId"), text_field("InternetChargeType"), text_field("IpAddress")]],
    ),
    // There are none: always empty.
    list_field("NetworkInterfaces", "NetworkInterface", &[&[text_field("Type")]]),
    texts_field("SecurityGroupIds", "SecurityGroupId"),
    object_field(
        "VpcAttributes",
        &[&[
            text_field("NatIpAddress"),
            texts_field("PrivateIpAddress", "IpAddress"),
            text_field("VSwitchId"),
            text_field("VpcId"),
        ]],
    ),
];

const STATUSES: [(&str, InstanceStatus); 5] = [
    ("Pending", InstanceStatus::Pending),
    ("Starting", InstanceStatus::Starting),
    ("Running", InstanceStatus::Running),
    ("Stopping", InstanceStatus::Stopping),
    ("Stopped", InstanceStatus::Stopped),
];

fn create(call: &Call<'_>) -> Result<Fields, Refusal> {
    let request = template(call)?;
    let made = call.ask(|cloud, caller| cloud.create_instance(caller, &request))?;
    Ok(vec![("InstanceId", made.instance.into())])
}

fn run(call: &Call<'_>) -> Result<Fields, Refusal> {
    let amount = call.parameters.number("Amount")?.unwrap_or(1);
    let request = RunInstances { amount, template: template(call)? };
    let ids = call.ask(|cloud, caller| cloud.run_instances(caller, &request))?;
    Ok(vec![("InstanceIdSets", Tree::texts("InstanceIdSet", ids))])
}

/// What one new instance is like.
fn template(call: &Call<'_>) -> Result<CreateInstance, Refusal> {
    call.check_region()?;
    let parameters = call.parameters;
    let mut security_groups = parameters.list("SecurityGroupIds");
    security_groups.extend(parameters.owned("SecurityGroupId"));
    Ok(CreateInstance {
        image: parameters.owned("ImageId"),
        instance_type: parameters.owned("InstanceType"),
        zone: parameters.owned("ZoneId"),
        name: parameters.owned("InstanceName"),
        description: parameters.owned("Description"),
        host_name: parameters.owned("HostName"),
        password: parameters.text("Password").map(SecretText::new),
        key_pair: parameters.owned("KeyPairName"),
        user_data: parameters.owned("UserData"),
        charge_type: parameters.owned("InstanceChargeType"),
        period_months: period(call)?,
        security_groups,
        vswitch: parameters.owned("VSwitchId"),
        private_ip: parameters.owned("PrivateIpAddress"),
        internet_charge_type: parameters.owned("InternetChargeType"),
        io_optimized: io_optimized(call)?,
        tags: parameters.tags(),
        security_enhancement: parameters.owned("SecurityEnhancementStrategy"),
        system_disk: system_disk(call)?,
        data_disks: data_disks(call)?,
        client_token: parameters.owned("ClientToken"),
    })
}

/// A text, which `DescribeInstances` takes as a flag.
fn io_optimized(call: &Call<'_>) -> Result<Option<bool>, Refusal> {
    match call.parameters.text("IoOptimized") {
        Some("optimized") => Ok(Some(true)),
        Some("none") => Ok(Some(false)),
        _ => call.parameters.flag("IoOptimized"),
    }
}

/// In months. A week counts as the month it is in.
fn period(call: &Call<'_>) -> Result<Option<u32>, Refusal> {
    let Some(period) = call.parameters.number::<u32>("Period")? else { return Ok(None) };
    match call.parameters.text("PeriodUnit") {
        Some("Year") => Ok(Some(period.saturating_mul(12))),
        Some("Week") => Ok(Some(period.div_ceil(4))),
        Some("Month") | None => Ok(Some(period)),
        Some(_) => {
            let message = "The parameter PeriodUnit must be Week, Month or Year.";
            Err(Refusal::new("InvalidPeriod", 400, message))
        }
    }
}

fn system_disk(call: &Call<'_>) -> Result<SystemDisk, Refusal> {
    Ok(SystemDisk {
        category: call.parameters.owned("SystemDisk.Category"),
        size: call.size("SystemDisk.Size")?,
        name: call.parameters.owned("SystemDisk.DiskName"),
        description: call.parameters.owned("SystemDisk.Description"),
    })
}

fn data_disks(call: &Call<'_>) -> Result<Vec<DataDisk>, Refusal> {
    let numbers = call.parameters.numbers("DataDisk");
    numbers.into_iter().map(|number| data_disk(call, number)).collect()
}

fn data_disk(call: &Call<'_>, number: u32) -> Result<DataDisk, Refusal> {
    let name = |field: &str| format!("DataDisk.{number}.{field}");
    let text = |field| call.parameters.owned(&name(field));
    Ok(DataDisk {
        category: text("Category"),
        size: call.size(&name("Size"))?,
        snapshot: text("SnapshotId"),
        name: text("DiskName"),
        description: text("Description"),
        device: text("Device"),
        delete_with_instance: call.parameters.flag(&name("DeleteWithInstance"))?,
    })
}

fn modify(call: &Call<'_>) -> Result<Fields, Refusal> {
    let parameters = call.parameters;
    let request = ModifyInstance {
        instance: parameters.needed("InstanceId")?,
        name: parameters.owned("InstanceName"),
        description: parameters.raw("Description").map(str::to_owned),
        host_name: parameters.owned("HostName"),
        user_data: parameters.raw("UserData").map(str::to_owned),
    };
    call.ask(|cloud, caller| cloud.modify_instance(caller, &request))?;
    Ok(vec![])
}

fn delete(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("InstanceId")?;
    let force = force(call)?;
    call.ask(|cloud, caller| cloud.delete_instance(caller, &id, force))?;
    Ok(vec![])
}

fn delete_several(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let request = DeleteInstances {
        instances: call.parameters.list("InstanceId"),
        force: force(call)?,
        client_token: call.parameters.owned("ClientToken"),
    };
    call.ask(|cloud, caller| cloud.delete_instances(caller, &request))?;
    Ok(vec![])
}

/// No guest of ours is shut down, and an instance whose time is over goes like any other, so that the
/// other two make no difference.
fn force(call: &Call<'_>) -> Result<bool, Refusal> {
    call.parameters.flag("ForceStop")?;
    call.parameters.flag("TerminateSubscription")?;
    Ok(call.parameters.flag("Force")?.unwrap_or(false))
}

fn describe(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let parameters = call.parameters;
    let (created_from, created_until) = call.created_between()?;
    let asked = DescribeInstances {
        // An empty list is a question about no instance.
        ids: call.ids_if(parameters.json_list("InstanceIds")?, is_possible(call)?),
        name: parameters.owned("InstanceName"),
        image: parameters.owned("ImageId"),
        status: call.one_of("Status", &STATUSES, ("InvalidStatus.NotFound", 404))?,
        zone: parameters.owned("ZoneId"),
        instance_type: parameters.owned("InstanceType"),
        family: parameters.owned("InstanceTypeFamily"),
        key_pair: parameters.owned("KeyPairName"),
        security_group: parameters.owned("SecurityGroupId"),
        vswitch: parameters.owned("VSwitchId"),
        vpc: parameters.owned("VpcId"),
        private_ips: parameters.json_list("PrivateIpAddresses")?,
        io_optimized: parameters.flag("IoOptimized")?,
        lock: call.lock()?,
        charge_type: charge_type(call, "InstanceChargeType")?,
        tags: call.tag_filters()?,
        created_from,
        created_until,
        paging: call.paging()?,
    };
    let page = call.ask(|cloud, caller| cloud.describe_instances(caller, &asked))?;
    let mut fields = page_fields(&page);
    fields.push(next_token(&page));
    fields.push(("Instances", Tree::list("Instance", page.items.iter().map(view))));
    Ok(fields)
}

/// Every instance here is in a network of its own kind, and its disks can be attached and detached.
fn is_possible(call: &Call<'_>) -> Result<bool, Refusal> {
    let networks = [("vpc", true), ("classic", false)];
    let refused = ("InvalidNetworkType.NotFound", 404);
    let network = call.one_of("InstanceNetworkType", &networks, refused)?;
    Ok(network != Some(false) && call.parameters.flag("DeviceAvailable")? != Some(false))
}

fn describe_status(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let ids = call.parameters.list("InstanceId");
    let asked = DescribeInstances {
        ids: Some(ids).filter(|ids| !ids.is_empty()),
        zone: call.parameters.owned("ZoneId"),
        paging: call.paging()?,
        ..DescribeInstances::default()
    };
    let page = call.ask(|cloud, caller| cloud.describe_instances(caller, &asked))?;
    let rows = page.items.iter().map(|one| {
        Tree::object([("InstanceId", (&one.id).into()), ("Status", one.status.to_string().into())])
    });
    let mut fields = page_fields(&page);
    fields.push(("InstanceStatuses", Tree::list("InstanceStatus", rows)));
    Ok(fields)
}

fn describe_user_data(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("InstanceId")?;
    let user_data = call.ask(|cloud, caller| cloud.user_data(caller, &id))?;
    Ok(vec![
        ("InstanceId", id.into()),
        ("RegionId", (&call.cloud.settings().region).into()),
        ("UserData", user_data.into()),
    ])
}

fn view(one: &InstanceView) -> Tree {
    let locks =
        one.locks.iter().map(|lock| Tree::object([("LockReason", lock_name(*lock).into())]));
    let no_address = || Tree::texts("IpAddress", [""; 0]);
    let mut fields = vec![
        ("InstanceId", (&one.id).into()),
        ("InstanceName", (&one.name).into()),
        ("Description", (&one.description).into()),
        ("HostName", (&one.host_name).into()),
        ("Status", one.status.to_string().into()),
        ("ImageId", (&one.image).into()),
        ("InstanceType", (&one.instance_type).into()),
        ("InstanceTypeFamily", (&one.family).into()),
        ("Cpu", one.cpu.into()),
        ("Memory", one.memory_mib.into()),
        ("OSName", (&one.os_name).into()),
        ("OSType", (&one.os_type).into()),
        ("RegionId", (&one.region).into()),
        ("ZoneId", (&one.zone).into()),
        ("SerialNumber", (&one.serial).into()),
        ("KeyPairName", (&one.key_pair).into()),
        ("DeviceAvailable", true.into()),
        ("IoOptimized", one.io_optimized.into()),
        ("InstanceChargeType", charge_name(one.charge_type).into()),
        ("CreationTime", minutes(Some(one.created))),
        ("StartTime", minutes(one.started)),
        ("ExpiredTime", minutes(one.expires)),
        // Of a lock here the child has the name of the reason, unlike that of a disk.
        ("OperationLocks", Tree::list("LockReason", locks)),
        ("Tags", tags(&one.tags)),
    ];
    fields.extend([
        ("InstanceNetworkType", "vpc".into()),
        ("InternetChargeType", (&one.internet_charge_type).into()),
        ("InternetMaxBandwidthIn", 0_u64.into()),
        ("InternetMaxBandwidthOut", 0_u64.into()),
        ("InnerIpAddress", no_address()),
        ("PublicIpAddress", no_address()),
        ("EipAddress", no_eip()),
        ("NetworkInterfaces", Tree::list("NetworkInterface", [])),
        ("SecurityGroupIds", Tree::texts("SecurityGroupId", &one.security_groups)),
        ("VpcAttributes", vpc(one)),
    ]);
    Tree::Object(fields)
}

fn no_eip() -> Tree {
    Tree::object([
        ("AllocationId", "".into()),
        ("InternetChargeType", "".into()),
        ("IpAddress", "".into()),
    ])
}

fn vpc(one: &InstanceView) -> Tree {
    let address = Some(&one.private_ip).filter(|address| !address.is_empty());
    Tree::object([
        ("NatIpAddress", "".into()),
        ("PrivateIpAddress", Tree::texts("IpAddress", address)),
        ("VSwitchId", (&one.vswitch).into()),
        ("VpcId", (&one.vpc).into()),
    ])
}

pub(super) fn charge_type(call: &Call<'_>, name: &str) -> Result<Option<ChargeType>, Refusal> {
    let values = [("PostPaid", ChargeType::PostPaid), ("PrePaid", ChargeType::PrePaid)];
    let refused = match name {
        "DiskChargeType" => ("InvalidDiskChargeType.NotFound", 404),
        _ => ("InvalidInstanceChargeType.NotFound", 404),
    };
    call.one_of(name, &values, refused)
}

pub(super) fn charge_name(charge: ChargeType) -> &'static str {
    match charge {
        ChargeType::PostPaid => "PostPaid",
        ChargeType::PrePaid => "PrePaid",
    }
}
