//! Images: made, described, shared, deleted.

use cloud::{
    CopyImage, CreateImage, DescribeImages, ImageDataDisk, ImageDiskAsked, ImageFrom,
    ImageOwnerAlias, ImageStatus, ImageView, SecurityLayerView, ShareImage,
};

use super::codes::{
    DESCRIPTION, DISK_STATE, FILTERS, IMAGE_NAME, NEW_TAGS, NO_IMAGE, NO_INSTANCE, NO_SNAPSHOT,
    REPEATED, SOURCE_SNAPSHOT,
};
use super::contract::{CREATED, PAGES, REGION, TAGS, commas, flag, gib, needed, text};
use super::shape::{
    Field, PAGE, TAGS_SHOWN, flag_field, list_field, object_field, text_field, whole_field,
};
use super::{Action, Call, Fields, disk::ROLES, page_fields, seconds, snapshot::usage, tags};
use crate::{refusal::Refusal, tree::Tree};

pub(super) const ACTIONS: &[Action] = &[
    Action::new("DescribeImages", describe)
        .takes(&[
            REGION,
            &[
                text("ImageOwnerAlias"),
                text("Architecture"),
                text("OSType"),
                commas("ImageId"),
                text("ImageName"),
                text("SnapshotId"),
                text("Usage"),
                flag("IsPublic"),
                commas("Status"),
            ],
            CREATED,
            TAGS,
            PAGES,
        ])
        .answers(&[PAGE, &[text_field("RegionId"), list_field("Images", "Image", &[IMAGE])]])
        .refuses(&[
            FILTERS,
            &[
                ("InvalidImageOwnerAlias.ValueNotSupported", 400),
                ("InvalidParamter", 400),
                ("InvalidArchitecture", 404),
                ("InvalidOSType", 404),
                ("InvalidUsage", 404),
            ],
        ])
        .that_only_asks(),
    Action::new("CreateImage", create)
        .takes(&[
            REGION,
            &[
                text("ImageName"),
                text("Description"),
                text("ImageVersion"),
                text("Architecture"),
                text("Platform"),
                text("ClientToken"),
                text("SnapshotId"),
                text("InstanceId"),
                text("DiskDeviceMapping.N.SnapshotId"),
                text("DiskDeviceMapping.N.DiskType"),
                text("DiskDeviceMapping.N.Device"),
                gib("DiskDeviceMapping.N.Size"),
            ],
            TAGS,
        ])
        .answers(&[&[text_field("ImageId")]])
        .refuses(&[
            REPEATED,
            NEW_TAGS,
            DESCRIPTION,
            IMAGE_NAME,
            NO_SNAPSHOT,
            SOURCE_SNAPSHOT,
            &[
                ("Account.Arrearage", 400),
                ("InstanceDiskNumber.LimitExceed", 400),
                ("InvalidArchitecture.Malformed", 400),
                ("InvalidDevice.InUse", 400),
                ("InvalidDevice.Malformed", 400),
                ("InvalidDiskType.ValueNotSupported", 400),
                ("InvalidImageVersion.Malformed", 400),
                ("InvalidParameter.Conflict", 400),
                ("InvalidPlatform.Malformed", 400),
                ("InvalidSize.ValueNotSupported", 400),
                ("OperationDenied", 400),
                ("InstanceDiskLimitExceeded", 403),
                ("OperationDenied", 403),
                ("QuotaExceed.Image", 403),
            ],
            // Of an instance.
            NO_INSTANCE,
            DISK_STATE,
            &[
                ("IncorrectInstanceStatus", 400),
                ("InstanceLockedForSecurity", 400),
                ("IncorrectDiskStatus.CreatingSnapshot", 403),
                ("Operation.Conflict", 403),
                ("QuotaExceed.Snapshot", 403),
            ],
        ]),
    Action::new("CopyImage", copy)
        .takes(&[
            REGION,
            &[
                text("DestinationRegionId"),
                needed("ImageId"),
                text("DestinationImageName"),
                text("DestinationDescription"),
                text("ClientToken"),
            ],
            TAGS,
        ])
        .answers(&[&[text_field("ImageId")]])
        .refuses(&[
            REPEATED,
            NEW_TAGS,
            DESCRIPTION,
            IMAGE_NAME,
            NO_IMAGE,
            &[
                ("Account.Arrearage", 400),
                ("DestinationRegion.NotFound", 400),
                ("IncorrectImageStatus", 400),
                ("QuotaExceed.Image", 403),
            ],
        ]),
    Action::new("DeleteImage", delete)
        .takes(&[REGION, &[needed("ImageId"), flag("Force")]])
        .refuses(&[
            NO_IMAGE,
            &[
                ("ImageIsExporting", 403),
                ("ImageIsImporting", 403),
                ("ImageUseShared", 403),
                ("ImageUsingByInstance", 403),
            ],
        ]),
    Action::new("ModifyImageSharePermission", share)
        .takes(&[
            REGION,
            &[needed("ImageId"), text("AddAccount.N"), text("RemoveAccount.N"), flag("IsPublic")],
        ])
        .refuses(&[
            NO_IMAGE,
            &[
                ("QuotaExceed.ShareImageUser", 403),
                ("InvalidAccount.Forbbiden", 404),
                ("InvalidAccount.NotFound", 404),
            ],
        ]),
    Action::new("DescribeImageSharePermission", shares)
        .takes(&[REGION, &[needed("ImageId")], PAGES])
        .answers(&[
            PAGE,
            &[
                text_field("ImageId"),
                text_field("RegionId"),
                list_field(
                    "Accounts",
                    "Account",
                    &[&[text_field("AliyunId"), text_field("SharedTime")]],
                ),
                // There are no groups: always empty.
                list_field("ShareGroups", "ShareGroup", &[&[text_field("Group")]]),
            ],
        ])
        .refuses(&[NO_IMAGE])
        .that_only_asks(),
];

const IMAGE: &[Field] = &[
    text_field("ImageId"),
    text_field("ImageName"),
    text_field("ImageVersion"),
    text_field("Description"),
    text_field("Status"),
    text_field("Progress"),
    whole_field("Size"),
    text_field("Architecture"),
    text_field("OSType"),
    text_field("OSName"),
    text_field("Platform"),
    text_field("ImageOwnerAlias"),
    whole_field("ImageOwnerId"),
    text_field("IsSelfShared"),
    flag_field("IsPublic"),
    flag_field("IsCopied"),
    flag_field("IsSubscribed"),
    flag_field("IsSupportCloudinit"),
    flag_field("IsSupportIoOptimized"),
    text_field("Usage"),
    text_field("ProductCode"),
    text_field("CreationTime"),
    list_field("DiskDeviceMappings", "DiskDeviceMapping", &[MAPPING]),
    TAGS_SHOWN,
    object_field("SecurityLayer", &[LAYER]).at_times().to_operator(),
];

const MAPPING: &[Field] = &[
    text_field("Type"),
    text_field("Device"),
    text_field("Size"),
    text_field("SnapshotId"),
    text_field("Format"),
    flag_field("Encrypted"),
    text_field("Progress"),
];

const LAYER: &[Field] = &[
    text_field("SnapshotId"),
    whole_field("SizeBytes"),
    text_field("Root"),
    text_field("CreationTime"),
];

const STATUSES: [(&str, ImageStatus); 6] = [
    ("Creating", ImageStatus::Creating),
    ("Waiting", ImageStatus::Waiting),
    ("Available", ImageStatus::Available),
    ("UnAvailable", ImageStatus::UnAvailable),
    ("CreateFailed", ImageStatus::CreateFailed),
    ("Deprecated", ImageStatus::Deprecated),
];

/// Nobody sells images here: `marketplace` is a question whose answer is no image.
const OWNERS: [(&str, Option<ImageOwnerAlias>); 4] = [
    ("self", Some(ImageOwnerAlias::Own)),
    ("others", Some(ImageOwnerAlias::Others)),
    ("system", Some(ImageOwnerAlias::System)),
    ("marketplace", None),
];

fn create(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let parameters = call.parameters;
    let request = CreateImage {
        from: image_from(call)?,
        name: parameters.owned("ImageName"),
        description: parameters.owned("Description"),
        version: parameters.owned("ImageVersion"),
        architecture: parameters.owned("Architecture"),
        platform: parameters.owned("Platform"),
        tags: parameters.tags(),
        client_token: parameters.owned("ClientToken"),
    };
    let id = call.ask(|cloud, caller| cloud.create_image(caller, &request))?;
    Ok(vec![("ImageId", id.into())])
}

/// Exactly one of the three.
fn image_from(call: &Call<'_>) -> Result<ImageFrom, Refusal> {
    let parameters = call.parameters;
    let disks = parameters.numbers("DiskDeviceMapping");
    match (parameters.owned("SnapshotId"), parameters.owned("InstanceId"), disks.is_empty()) {
        (Some(snapshot), None, true) => Ok(ImageFrom::Snapshot(snapshot)),
        (None, Some(instance), true) => Ok(ImageFrom::Instance(instance)),
        (None, None, false) => {
            let disks = disks.into_iter().map(|number| image_disk(call, number));
            Ok(ImageFrom::Disks(disks.collect::<Result<_, _>>()?))
        }
        (None, None, true) => Err(Refusal::missing("SnapshotId")),
        _ => {
            let message = "SnapshotId, InstanceId and DiskDeviceMapping exclude each other.";
            Err(Refusal::new("InvalidParameter.Conflict", 400, message))
        }
    }
}

fn image_disk(call: &Call<'_>, number: u32) -> Result<ImageDiskAsked, Refusal> {
    let name = |field: &str| format!("DiskDeviceMapping.{number}.{field}");
    Ok(ImageDiskAsked {
        snapshot: call.parameters.owned(&name("SnapshotId")),
        role: call.one_of(&name("DiskType"), &ROLES, ("InvalidDiskType.ValueNotSupported", 400))?,
        device: call.parameters.owned(&name("Device")),
        size: call.size(&name("Size"))?,
    })
}

/// Which region a client is set up for does not matter, as long as it names one only.
fn copy(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let parameters = call.parameters;
    let destination = parameters.text("DestinationRegionId");
    let known = [parameters.text("RegionId"), Some(call.cloud.settings().region.as_str())];
    if destination.is_some() && !known.contains(&destination) {
        let message = "There is one region here: an image is copied within it.";
        return Err(Refusal::new("DestinationRegion.NotFound", 400, message));
    }
    let request = CopyImage {
        image: parameters.needed("ImageId")?,
        name: parameters.owned("DestinationImageName"),
        description: parameters.owned("DestinationDescription"),
        tags: parameters.tags(),
        client_token: parameters.owned("ClientToken"),
    };
    let id = call.ask(|cloud, caller| cloud.copy_image(caller, &request))?;
    Ok(vec![("ImageId", id.into())])
}

fn delete(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let id = call.parameters.needed("ImageId")?;
    let force = call.parameters.flag("Force")?.unwrap_or(false);
    call.ask(|cloud, caller| cloud.delete_image(caller, &id, force))?;
    Ok(vec![])
}

fn share(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let request = ShareImage {
        image: call.parameters.needed("ImageId")?,
        add: call.parameters.list("AddAccount"),
        remove: call.parameters.list("RemoveAccount"),
        public: call.parameters.flag("IsPublic")?,
    };
    call.ask(|cloud, caller| cloud.share_image(caller, &request))?;
    Ok(vec![])
}

fn shares(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let id = call.parameters.needed("ImageId")?;
    let paging = call.paging()?;
    let page = call.ask(|cloud, caller| cloud.image_shares(caller, &id, &paging))?;
    let accounts = page.items.iter().map(|share| {
        Tree::object([
            ("AliyunId", share.account_number.to_string().into()),
            ("SharedTime", seconds(Some(share.since))),
        ])
    });
    let mut fields = page_fields(&page);
    fields.extend([
        ("ImageId", id.into()),
        ("RegionId", (&call.cloud.settings().region).into()),
        ("Accounts", Tree::list("Account", accounts)),
        ("ShareGroups", Tree::list("ShareGroup", [])),
    ]);
    Ok(fields)
}

fn describe(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let owner =
        call.one_of("ImageOwnerAlias", &OWNERS, ("InvalidImageOwnerAlias.ValueNotSupported", 400))?;
    let asked = filter(call, owner.flatten())?;
    let mut page = call.ask(|cloud, caller| cloud.describe_images(caller, &asked))?;
    if owner == Some(None) {
        page.items.clear();
        page.total = 0;
    }
    let mut fields = page_fields(&page);
    fields.extend([
        ("RegionId", (&call.cloud.settings().region).into()),
        ("Images", Tree::list("Image", page.items.iter().map(view))),
    ]);
    Ok(fields)
}

fn filter(call: &Call<'_>, owner: Option<ImageOwnerAlias>) -> Result<DescribeImages, Refusal> {
    let parameters = call.parameters;
    let (created_from, created_until) = call.created_between()?;
    let used = [("instance", true), ("none", false)];
    let architectures = ["i386", "x86_64", "arm64"].map(|name| (name, name));
    let systems = ["linux", "windows"].map(|name| (name, name));
    let architecture = call.one_of("Architecture", &architectures, ("InvalidArchitecture", 404))?;
    let os_type = call.one_of("OSType", &systems, ("InvalidOSType", 404))?;
    Ok(DescribeImages {
        ids: parameters.comma_list("ImageId"),
        name: parameters.owned("ImageName"),
        owner,
        statuses: statuses(call)?,
        snapshot: parameters.owned("SnapshotId"),
        architecture: architecture.map(str::to_owned),
        os_type: os_type.map(str::to_owned),
        used_by_instance: call.one_of("Usage", &used, ("InvalidUsage", 404))?,
        public: parameters.flag("IsPublic")?,
        tags: call.tag_filters()?,
        created_from,
        created_until,
        paging: call.paging()?,
    })
}

fn statuses(call: &Call<'_>) -> Result<Option<Vec<ImageStatus>>, Refusal> {
    let Some(names) = call.parameters.comma_list("Status") else { return Ok(None) };
    // Not in the reference, but footmark asks so for an image it waits for.
    if names.iter().any(|name| name.eq_ignore_ascii_case("all")) {
        return Ok(Some(STATUSES.map(|(_, status)| status).into()));
    }
    let known =
        |name: &String| STATUSES.iter().find(|(known, _)| known == name).map(|(_, status)| *status);
    let found: Option<Vec<_>> = names.iter().map(known).collect();
    let refused = || Refusal::new("InvalidParamter", 400, "A value of Status is not supported.");
    found.map(Some).ok_or_else(refused)
}

fn view(image: &ImageView) -> Tree {
    let progress: Tree = format!("{}%", image.progress_percent).into();
    let security = image.security_layer.as_ref().map(|layer| ("SecurityLayer", security(layer)));
    let fields = [
        ("ImageId", (&image.id).into()),
        ("ImageName", (&image.name).into()),
        ("ImageVersion", (&image.version).into()),
        ("Description", (&image.description).into()),
        ("Status", status(image.status).into()),
        ("Progress", progress),
        ("Size", image.size_gib().into()),
        ("Architecture", (&image.architecture).into()),
        ("OSType", (&image.os_type).into()),
        ("OSName", (&image.os_name).into()),
        ("Platform", (&image.platform).into()),
        ("ImageOwnerAlias", owner(image.owner_alias).into()),
        ("ImageOwnerId", image.owner_number.into()),
        ("IsSelfShared", if image.shared_by_caller { "sharing" } else { "" }.into()),
        ("IsPublic", image.public.into()),
        ("IsCopied", false.into()),
        ("IsSubscribed", false.into()),
        ("IsSupportCloudinit", true.into()),
        ("IsSupportIoOptimized", true.into()),
        ("Usage", if image.used_by_instance { "instance" } else { usage(image.usage()) }.into()),
        ("ProductCode", "".into()),
        ("CreationTime", seconds(Some(image.created))),
        ("DiskDeviceMappings", mappings(image)),
        ("Tags", tags(&image.tags)),
    ];
    Tree::Object(fields.into_iter().chain(security).collect())
}

/// Of interest to the operator alone, who is the only one to be told.
fn security(layer: &SecurityLayerView) -> Tree {
    Tree::object([
        ("SnapshotId", (&layer.snapshot).into()),
        ("SizeBytes", layer.size.get().into()),
        ("Root", super::root(layer.root)),
        ("CreationTime", seconds(Some(layer.added))),
    ])
}

/// The system disk, then the data disks that come with it.
fn mappings(image: &ImageView) -> Tree {
    let mapping = |kind: &str, device: &str, gib: u64, snapshot: &str| {
        Tree::object([
            ("Type", kind.into()),
            ("Device", device.into()),
            // A number in text form.
            ("Size", gib.to_string().into()),
            ("SnapshotId", snapshot.into()),
            ("Format", (&image.format).into()),
            ("Encrypted", false.into()),
            ("Progress", format!("{}%", image.progress_percent).into()),
        ])
    };
    let source = image.source_snapshot.as_deref().unwrap_or_default();
    let system = mapping("system", "/dev/xvda", image.size_gib(), source);
    let data = image.data_disks.iter().map(|disk: &ImageDataDisk| {
        mapping("data", &disk.device, disk.size.get().div_ceil(cloud::GIB), &disk.snapshot)
    });
    Tree::list("DiskDeviceMapping", std::iter::once(system).chain(data))
}

fn status(status: ImageStatus) -> &'static str {
    match status {
        ImageStatus::Creating => "Creating",
        ImageStatus::Waiting => "Waiting",
        ImageStatus::Available => "Available",
        ImageStatus::UnAvailable => "UnAvailable",
        ImageStatus::CreateFailed => "CreateFailed",
        ImageStatus::Deprecated => "Deprecated",
    }
}

fn owner(alias: ImageOwnerAlias) -> &'static str {
    match alias {
        ImageOwnerAlias::Own => "self",
        ImageOwnerAlias::Others => "others",
        ImageOwnerAlias::System => "system",
    }
}
