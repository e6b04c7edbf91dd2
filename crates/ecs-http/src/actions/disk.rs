//! Disks: made, described, attached, detached, grown, changed, replaced, deleted.

use cloud::{
    AttachDisk, Cloud, CreateDisk, DescribeDisks, DiskRole, DiskStatus, DiskView, ModifyDisk,
    ReplaceSystemDisk, ResizeDisk, SecretText,
};

use super::codes::{
    CATEGORY, DESCRIPTION, DISK_STATE, FILTERS, IN_SNAPSHOT, INSTANCE_STATE, LOGIN, NEW_TAGS,
    NO_DISK, NO_IMAGE, NO_INSTANCE, NO_SNAPSHOT, REPEATED, SOURCE_SNAPSHOT, SYSTEM_DISK_SIZE,
    UNPAID,
};
use super::contract::{
    CREATED, PAGES, REGION, TAGS, TOKENS_OF_DISKS, flag, gib, ids, needed, text,
};
use super::shape::{
    Field, NEXT, PAGE, TAGS_SHOWN, flag_field, list_field, text_field, whole_field,
};
use super::{Action, Call, Fields, lock_name, next_token, page_fields, seconds, tags};
use crate::{refusal::Refusal, tree::Tree};

pub(super) const ACTIONS: &[Action] = &[
    Action::new("DescribeDisks", describe)
        .takes(&[
            REGION,
            &[
                flag("Encrypted"),
                ids("DiskIds"),
                text("DiskName"),
                text("DiskType"),
                text("Status"),
                text("InstanceId"),
                text("SnapshotId"),
                text("ZoneId"),
                flag("Portable"),
                flag("DeleteWithInstance"),
                flag("EnableAutoSnapshot"),
                flag("DeleteAutoSnapshot"),
                text("DiskChargeType"),
                text("LockReason"),
                text("Category"),
            ],
            CREATED,
            TAGS,
            PAGES,
            TOKENS_OF_DISKS,
        ])
        .answers(&[PAGE, NEXT, &[list_field("Disks", "Disk", &[DISK])]])
        .refuses(&[
            FILTERS,
            &[
                ("InvalidCategory.ValueNotSupported", 400),
                ("InvalidDiskType.ValueNotSupported", 400),
                ("InvalidParameter.DiskIds", 400),
                ("InvalidStatus.ValueNotSupported", 400),
                ("InvalidZoneId.NotFound", 400),
                ("MissingParamter.RegionId", 400),
                ("InvalidDiskIds.Malformed", 403),
                ("InvalidDiskChargeType.NotFound", 404),
                ("InvalidLockReason.NotFound", 404),
            ],
        ])
        .that_only_asks(),
    Action::new("CreateDisk", create)
        .takes(&[
            REGION,
            &[
                text("ZoneId"),
                text("InstanceId"),
                gib("Size"),
                text("SnapshotId"),
                text("ImageId").of_operator(),
                text("DiskCategory"),
                text("DiskName"),
                text("Description"),
                text("ClientToken"),
            ],
            TAGS,
        ])
        .answers(&[&[text_field("DiskId")]])
        .refuses(&[
            REPEATED,
            NEW_TAGS,
            DESCRIPTION,
            NO_INSTANCE,
            INSTANCE_STATE,
            UNPAID,
            NO_SNAPSHOT,
            SOURCE_SNAPSHOT,
            &[
                ("Account.Arrearage", 400),
                ("InvalidDiskCategory.ValueNotSupported", 400),
                ("InvalidDiskName.Malformed", 400),
                ("InvalidParameter.Conflict", 400),
                ("InvalidSize.ValueNotSupported", 400),
                ("InstanceDiskLimitExceeded", 403),
                ("InvalidDiskSize.TooSmall", 403),
                ("InvalidSnapshotId.NotDataDiskSnapshot", 403),
                ("QuotaExceed.PortableCloudDisk", 403),
                ("InvalidZoneId.NotFound", 404),
            ],
            // With `ImageId`.
            NO_IMAGE,
            &[("IncorrectImageStatus", 400), ("InvalidSystemDiskSize.LessThanImageSize", 404)],
        ]),
    Action::new("AttachDisk", attach)
        .takes(&[&[
            needed("DiskId"),
            needed("InstanceId"),
            text("Device"),
            flag("DeleteWithInstance"),
        ]])
        .refuses(&[
            NO_DISK,
            NO_INSTANCE,
            DISK_STATE,
            INSTANCE_STATE,
            UNPAID,
            &[
                ("InvalidDevice.Malformed", 400),
                ("InstanceDiskLimitExceeded", 403),
                ("InvalidDevice.InUse", 403),
                ("ResourcesNotInSameZone", 403),
            ],
        ]),
    Action::new("DetachDisk", detach).takes(&[&[needed("DiskId"), needed("InstanceId")]]).refuses(
        &[
            NO_DISK,
            NO_INSTANCE,
            DISK_STATE,
            INSTANCE_STATE,
            &[("DependencyViolation", 403), ("DiskNotPortable", 403)],
        ],
    ),
    Action::new("DeleteDisk", delete).takes(&[&[needed("DiskId")]]).refuses(&[
        NO_DISK,
        DISK_STATE,
        IN_SNAPSHOT,
        &[("DiskStillAttached", 403)],
    ]),
    Action::new("ResizeDisk", resize)
        .takes(&[&[
            text("Type"),
            needed("DiskId"),
            gib("NewSize").that_is_needed(),
            text("ClientToken"),
        ]])
        .refuses(&[
            REPEATED,
            NO_DISK,
            CATEGORY,
            DISK_STATE,
            INSTANCE_STATE,
            UNPAID,
            IN_SNAPSHOT,
            &[
                ("InvalidParam.Type", 400),
                ("InvalidSize.ValueNotSupported", 400),
                ("InvalidDiskCategory.NotSupported", 403),
                ("InvalidDiskSize", 403),
                ("InvalidDiskSize.TooLarge", 403),
                ("InvalidDiskSize.TooSmall", 403),
                ("InvalidInstanceStatus.NotRunning", 403),
                ("QuotaExceed.PortableCloudDisk", 403),
            ],
        ]),
    Action::new("ModifyDiskAttribute", modify)
        .takes(&[&[
            text("DiskIds.N"),
            text("DiskId"),
            text("DiskName"),
            text("Description"),
            flag("DeleteWithInstance"),
            flag("DeleteAutoSnapshot"),
            flag("EnableAutoSnapshot"),
        ]])
        .refuses(&[
            NO_DISK,
            DISK_STATE,
            &[
                ("IncompleteParamter", 400),
                ("InvalidDiskName.Malformed", 400),
                ("NoAttributeToModify", 400),
                ("DiskNotPortable", 403),
                ("InvalidDiskIds.Malformed", 403),
                ("InvalidDescription.Malformed", 404),
            ],
        ]),
    Action::new("ReplaceSystemDisk", replace)
        .takes(&[&[
            needed("InstanceId"),
            needed("ImageId"),
            text("DiskId"),
            gib("SystemDisk.Size"),
            text("Password"),
            text("KeyPairName"),
            text("SecurityEnhancementStrategy"),
            text("ClientToken"),
        ]])
        .answers(&[&[text_field("DiskId")]])
        .refuses(&[
            REPEATED,
            LOGIN,
            NO_INSTANCE,
            NO_IMAGE,
            INSTANCE_STATE,
            UNPAID,
            DISK_STATE,
            IN_SNAPSHOT,
            SYSTEM_DISK_SIZE,
            &[
                ("IncorrectImageStatus", 400),
                ("InvalidDiskId.NotFound", 400),
                ("QuotaExceed.PortableCloudDisk", 403),
            ],
        ]),
];

/// A disk as `DescribeDisks` shows it.
pub(super) const DISK: &[Field] = &[
    text_field("DiskId"),
    text_field("RegionId"),
    text_field("ZoneId"),
    text_field("DiskName"),
    text_field("Description"),
    text_field("Type"),
    text_field("Category"),
    whole_field("Size"),
    text_field("Status"),
    text_field("ImageId"),
    text_field("SourceSnapshotId"),
    text_field("SourceDiskId"),
    text_field("ProductCode"),
    flag_field("Portable"),
    text_field("InstanceId"),
    text_field("Device"),
    text_field("AttachedTime"),
    text_field("DetachedTime"),
    list_field("Attachments", "Attachment", &[ATTACHMENT]),
    list_field("MountInstances", "MountInstance", &[ATTACHMENT]),
    whole_field("MountInstanceNum"),
    flag_field("DeleteWithInstance"),
    flag_field("DeleteAutoSnapshot"),
    flag_field("EnableAutoSnapshot"),
    flag_field("EnableAutomatedSnapshotPolicy"),
    text_field("CreationTime"),
    text_field("DiskChargeType"),
    text_field("ExpiredTime"),
    flag_field("Encrypted"),
    text_field("SerialNumber"),
    list_field("OperationLocks", "OperationLock", &[&[text_field("LockReason")]]),
    TAGS_SHOWN,
];

const ATTACHMENT: &[Field] =
    &[text_field("InstanceId"), text_field("Device"), text_field("AttachedTime")];

const STATUSES: [(&str, DiskStatus); 6] = [
    ("In_use", DiskStatus::InUse),
    ("Available", DiskStatus::Available),
    ("Attaching", DiskStatus::Attaching),
    ("Detaching", DiskStatus::Detaching),
    ("Creating", DiskStatus::Creating),
    ("ReIniting", DiskStatus::ReIniting),
];

pub(super) const ROLES: [(&str, DiskRole); 2] =
    [("system", DiskRole::System), ("data", DiskRole::Data)];

fn create(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let parameters = call.parameters;
    let request = CreateDisk {
        zone: parameters.owned("ZoneId"),
        instance: parameters.owned("InstanceId"),
        size: call.size("Size")?,
        snapshot: parameters.owned("SnapshotId"),
        // No parameter of ECS: a client that sends one has it ignored.
        image: parameters.owned("ImageId").filter(|_| call.caller.is_operator()),
        category: parameters.owned("DiskCategory"),
        name: parameters.owned("DiskName"),
        description: parameters.owned("Description"),
        tags: parameters.tags(),
        client_token: parameters.owned("ClientToken"),
    };
    let id = call.ask(|cloud, caller| cloud.create_disk(caller, &request))?;
    Ok(vec![("DiskId", id.into())])
}

fn attach(call: &Call<'_>) -> Result<Fields, Refusal> {
    let parameters = call.parameters;
    let request = AttachDisk {
        disk: parameters.needed("DiskId")?,
        instance: parameters.needed("InstanceId")?,
        device: parameters.owned("Device"),
        delete_with_instance: parameters.flag("DeleteWithInstance")?,
    };
    call.ask(|cloud, caller| cloud.attach_disk(caller, &request))?;
    Ok(vec![])
}

fn detach(call: &Call<'_>) -> Result<Fields, Refusal> {
    let disk = call.parameters.needed("DiskId")?;
    let instance = call.parameters.needed("InstanceId")?;
    call.ask(|cloud, caller| cloud.detach_disk(caller, &disk, &instance))?;
    Ok(vec![])
}

fn delete(call: &Call<'_>) -> Result<Fields, Refusal> {
    let disk = call.parameters.needed("DiskId")?;
    call.ask(|cloud, caller| cloud.delete_disk(caller, &disk))?;
    Ok(vec![])
}

fn resize(call: &Call<'_>) -> Result<Fields, Refusal> {
    let online =
        call.one_of("Type", &[("offline", false), ("online", true)], ("InvalidParam.Type", 400))?;
    let online = online.unwrap_or(false);
    let request = ResizeDisk {
        disk: call.parameters.needed("DiskId")?,
        size: call.size("NewSize")?.ok_or_else(|| Refusal::missing("NewSize"))?,
        online,
        client_token: call.parameters.owned("ClientToken"),
    };
    let resized = call.ask(|cloud, caller| cloud.resize_disk(caller, &request));
    resized.map_err(|refusal| match refusal.code {
        // The reference has a code of its own for what is to be resized while it runs.
        "IncorrectInstanceStatus" if online => {
            Refusal::new("InvalidInstanceStatus.NotRunning", 403, refusal.message)
        }
        _ => refusal,
    })?;
    Ok(vec![])
}

fn modify(call: &Call<'_>) -> Result<Fields, Refusal> {
    let parameters = call.parameters;
    let mut disks = parameters.list("DiskIds");
    disks.extend(parameters.owned("DiskId"));
    if disks.is_empty() {
        // The reference spells it like this.
        return Err(Refusal::new("IncompleteParamter", 400, Refusal::missing("DiskId").message));
    }
    let request = ModifyDisk {
        disks,
        // Here an empty text is a new text.
        name: parameters.raw("DiskName").map(str::to_owned),
        description: parameters.raw("Description").map(str::to_owned),
        delete_with_instance: parameters.flag("DeleteWithInstance")?,
        delete_auto_snapshot: parameters.flag("DeleteAutoSnapshot")?,
        enable_auto_snapshot: parameters.flag("EnableAutoSnapshot")?,
    };
    call.ask(|cloud, caller| cloud.modify_disk(caller, &request))?;
    Ok(vec![])
}

fn replace(call: &Call<'_>) -> Result<Fields, Refusal> {
    let parameters = call.parameters;
    let request = ReplaceSystemDisk {
        instance: parameters.needed("InstanceId")?,
        image: parameters.needed("ImageId")?,
        disk: parameters.owned("DiskId"),
        size: call.size("SystemDisk.Size")?,
        password: parameters.text("Password").map(SecretText::new),
        key_pair: parameters.owned("KeyPairName"),
        security_enhancement: parameters.owned("SecurityEnhancementStrategy"),
        client_token: parameters.owned("ClientToken"),
    };
    let id = call.ask(|cloud, caller| cloud.replace_system_disk(caller, &request))?;
    Ok(vec![("DiskId", id.into())])
}

fn describe(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let parameters = call.parameters;
    let (created_from, created_until) = call.created_between()?;
    // No disk here is encrypted.
    let possible = parameters.flag("Encrypted")? != Some(true);
    let asked = DescribeDisks {
        ids: call.ids_if(disk_ids(call)?, possible),
        name: parameters.owned("DiskName"),
        category: category(call)?,
        role: call.one_of("DiskType", &ROLES, ("InvalidDiskType.ValueNotSupported", 400))?,
        status: call.one_of("Status", &STATUSES, ("InvalidStatus.ValueNotSupported", 400))?,
        instance: parameters.owned("InstanceId"),
        snapshot: parameters.owned("SnapshotId"),
        zone: zone(call)?,
        portable: parameters.flag("Portable")?,
        delete_with_instance: parameters.flag("DeleteWithInstance")?,
        enable_auto_snapshot: parameters.flag("EnableAutoSnapshot")?,
        delete_auto_snapshot: parameters.flag("DeleteAutoSnapshot")?,
        lock: call.lock()?,
        charge_type: super::instance::charge_type(call, "DiskChargeType")?,
        tags: call.tag_filters()?,
        created_from,
        created_until,
        paging: call.paging()?,
    };
    let page = call.ask(|cloud, caller| cloud.describe_disks(caller, &asked))?;
    let mut fields = page_fields(&page);
    fields.push(next_token(&page));
    fields.push((
        "Disks",
        Tree::list("Disk", page.items.iter().map(|disk| Tree::Object(view(disk)))),
    ));
    Ok(fields)
}

/// The reference has a code of its own for a list that is none.
fn disk_ids(call: &Call<'_>) -> Result<Option<Vec<String>>, Refusal> {
    let refused = |refusal: Refusal| Refusal::new("InvalidParameter.DiskIds", 400, refusal.message);
    call.parameters.json_list("DiskIds").map_err(refused)
}

/// This list refuses zones that are not there; others leave out what is in none.
fn zone(call: &Call<'_>) -> Result<Option<String>, Refusal> {
    let zones = call.cloud.settings().zones.iter();
    let known: Vec<_> = zones.map(|zone| (zone.as_str(), zone.as_str())).collect();
    let refused = ("InvalidZoneId.NotFound", 400);
    Ok(call.one_of("ZoneId", &known, refused)?.map(str::to_owned))
}

fn category(call: &Call<'_>) -> Result<Option<String>, Refusal> {
    let known: Vec<_> = Cloud::disk_categories().into_iter().map(|name| (name, name)).collect();
    let refused = ("InvalidCategory.ValueNotSupported", 400);
    Ok(call.one_of("Category", &known, refused)?.map(str::to_owned))
}

/// A disk as `DescribeDisks` shows it.
pub(super) fn view(disk: &DiskView) -> Fields {
    let attached = disk.attachment.as_ref();
    let instance = attached.map(|place| place.instance.as_str()).unwrap_or_default();
    let device = attached.map(|place| place.device.as_str()).unwrap_or_default();
    let locks =
        disk.locks.iter().map(|lock| Tree::object([("LockReason", lock_name(*lock).into())]));
    vec![
        ("DiskId", (&disk.id).into()),
        ("RegionId", (&disk.region).into()),
        ("ZoneId", (&disk.zone).into()),
        ("DiskName", (&disk.name).into()),
        ("Description", (&disk.description).into()),
        ("Type", role(disk.role).into()),
        ("Category", (&disk.category).into()),
        ("Size", disk.size_gib().into()),
        ("Status", disk.status.to_string().into()),
        ("ImageId", disk.source_image().unwrap_or_default().into()),
        ("SourceSnapshotId", disk.source_snapshot().unwrap_or_default().into()),
        ("SourceDiskId", "".into()),
        ("ProductCode", "".into()),
        ("Portable", disk.portable.into()),
        ("InstanceId", instance.into()),
        ("Device", device.into()),
        ("AttachedTime", seconds(attached.map(|place| place.attached))),
        ("DetachedTime", seconds(disk.detached)),
        ("Attachments", Tree::list("Attachment", attached.map(attachment))),
        ("MountInstances", Tree::list("MountInstance", attached.map(attachment))),
        ("MountInstanceNum", u64::from(attached.is_some()).into()),
        ("DeleteWithInstance", disk.delete_with_instance.into()),
        ("DeleteAutoSnapshot", disk.delete_auto_snapshot.into()),
        ("EnableAutoSnapshot", disk.enable_auto_snapshot.into()),
        ("EnableAutomatedSnapshotPolicy", false.into()),
        ("CreationTime", seconds(Some(disk.created))),
        ("DiskChargeType", super::instance::charge_name(disk.charge_type).into()),
        ("ExpiredTime", super::minutes(disk.expires)),
        ("Encrypted", false.into()),
        ("SerialNumber", (&disk.serial).into()),
        ("OperationLocks", Tree::list("OperationLock", locks)),
        ("Tags", tags(&disk.tags)),
    ]
}

fn attachment(place: &cloud::AttachmentView) -> Tree {
    Tree::object([
        ("InstanceId", (&place.instance).into()),
        ("Device", (&place.device).into()),
        ("AttachedTime", seconds(Some(place.attached))),
    ])
}

pub(super) fn role(role: DiskRole) -> &'static str {
    match role {
        DiskRole::System => "system",
        DiskRole::Data => "data",
    }
}
