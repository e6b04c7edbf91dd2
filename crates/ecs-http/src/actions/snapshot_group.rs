//! Snapshot groups: taken, described, deleted.

use cloud::{
    CreateSnapshotGroup, DescribeSnapshotGroups, GroupedSnapshot, SnapshotGroupView,
    SnapshotStatus, Tags,
};

use super::codes::{
    CATEGORY, DESCRIPTION, DISK_STATE, INSTANCE_STATE, NEW_SNAPSHOT, NEW_TAGS, NO_DISK,
    NO_INSTANCE, REPEATED, SNAPSHOT_USED,
};
use super::contract::{REGION, TAGS, TOKENS, needed, text};
use super::shape::{Field, NEXT, PROGRESS, flag_field, list_field, text_field};
use super::{
    Action, Call, Fields,
    disk::role,
    next_token,
    reset::related,
    seconds,
    snapshot::{STATUSES, status},
};
use crate::{refusal::Refusal, tree::Tree};

pub(super) const ACTIONS: &[Action] = &[
    Action::new("DescribeSnapshotGroups", describe)
        .takes(&[
            REGION,
            &[text("SnapshotGroupId.N"), text("InstanceId"), text("Name"), text("Status.N")],
            TAGS,
            TOKENS,
        ])
        .answers(&[NEXT, &[list_field("SnapshotGroups", "SnapshotGroup", &[GROUP])]])
        .refuses(&[&[
            ("InvalidTag.Mismatch", 400),
            ("InvalidTagCount", 400),
            ("InvalidSnapshotIds.Malformed", 403),
            ("InvalidStatus.ValueNotSupported", 403),
        ]])
        .that_only_asks(),
    Action::new("CreateSnapshotGroup", create)
        .takes(&[
            REGION,
            &[
                text("InstanceId"),
                text("DiskId.N"),
                text("ExcludeDiskId.N"),
                text("Name"),
                text("Description"),
                text("ClientToken"),
            ],
            TAGS,
        ])
        .answers(&[&[text_field("SnapshotGroupId")]])
        .refuses(&[
            REPEATED,
            NEW_TAGS,
            DESCRIPTION,
            NO_INSTANCE,
            NO_DISK,
            CATEGORY,
            DISK_STATE,
            INSTANCE_STATE,
            NEW_SNAPSHOT,
            &[
                ("InvalidParameter.Conflict", 400),
                ("InvalidSnapshotName.Malformed", 400),
                ("DependencyViolation", 403),
                ("InvalidDiskIds.Malformed", 403),
            ],
        ]),
    Action::new("DeleteSnapshotGroup", delete)
        .takes(&[REGION, &[needed("SnapshotGroupId")]])
        .answers(&[&[PROGRESS]])
        .refuses(&[SNAPSHOT_USED, &[("InvalidSnapshotGroupId.NotFound", 404)]]),
];

const GROUP: &[Field] = &[
    text_field("SnapshotGroupId"),
    text_field("Name"),
    text_field("Description"),
    text_field("InstanceId"),
    text_field("Status"),
    text_field("ProgressStatus"),
    text_field("CreationTime"),
    list_field("Snapshots", "Snapshot", &[MEMBER]),
    KEYS_AND_VALUES,
];

const MEMBER: &[Field] = &[
    text_field("SnapshotId"),
    text_field("SourceDiskId"),
    text_field("SourceDiskType"),
    text_field("Progress"),
    flag_field("Available"),
    flag_field("InstantAccess"),
    KEYS_AND_VALUES,
];

const KEYS_AND_VALUES: Field =
    list_field("Tags", "Tag", &[&[text_field("Key"), text_field("Value")]]);

fn create(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let parameters = call.parameters;
    let request = CreateSnapshotGroup {
        instance: parameters.owned("InstanceId"),
        disks: parameters.list("DiskId"),
        exclude: parameters.list("ExcludeDiskId"),
        name: parameters.owned("Name"),
        description: parameters.owned("Description"),
        tags: parameters.tags(),
        client_token: parameters.owned("ClientToken"),
    };
    let id = call.ask(|cloud, caller| cloud.create_snapshot_group(caller, &request))?;
    Ok(vec![("SnapshotGroupId", id.into())])
}

fn delete(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let id = call.parameters.needed("SnapshotGroupId")?;
    let gone = call.ask(|cloud, caller| cloud.delete_snapshot_group(caller, &id))?;
    let rows = gone.iter().map(|snapshot| {
        Tree::object([
            ("OperationStatus", "Success".into()),
            ("ErrorCode", "".into()),
            ("ErrorMsg", "".into()),
            ("RelatedItemSet", related([("SnapshotId", snapshot)])),
        ])
    });
    Ok(vec![("OperationProgressSet", Tree::list("OperationProgress", rows))])
}

fn describe(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let parameters = call.parameters;
    let ids = parameters.list("SnapshotGroupId");
    let asked = DescribeSnapshotGroups {
        ids: Some(ids).filter(|ids| !ids.is_empty()),
        instance: parameters.owned("InstanceId"),
        name: parameters.owned("Name"),
        statuses: statuses(call)?,
        tags: call.tag_filters()?,
        paging: call.token_paging()?,
    };
    let page = call.ask(|cloud, caller| cloud.describe_snapshot_groups(caller, &asked))?;
    let groups = page.items.iter().map(view);
    Ok(vec![next_token(&page), ("SnapshotGroups", Tree::list("SnapshotGroup", groups))])
}

fn statuses(call: &Call<'_>) -> Result<Option<Vec<SnapshotStatus>>, Refusal> {
    let numbers = call.parameters.numbers("Status");
    let status = |n| {
        let refused = ("InvalidStatus.ValueNotSupported", 403);
        call.one_of(&format!("Status.{n}"), &STATUSES, refused)
    };
    let asked: Vec<_> = numbers.into_iter().map(status).collect::<Result<_, _>>()?;
    let asked: Vec<_> = asked.into_iter().flatten().collect();
    Ok(Some(asked).filter(|asked| !asked.is_empty()))
}

fn view(group: &SnapshotGroupView) -> Tree {
    Tree::object([
        ("SnapshotGroupId", (&group.id).into()),
        ("Name", (&group.name).into()),
        ("Description", (&group.description).into()),
        ("InstanceId", (&group.instance).into()),
        ("Status", status(group.status).into()),
        ("ProgressStatus", "".into()),
        ("CreationTime", seconds(Some(group.created))),
        ("Snapshots", Tree::list("Snapshot", group.snapshots.iter().map(member))),
        ("Tags", tags(&group.tags)),
    ])
}

fn member(one: &GroupedSnapshot) -> Tree {
    Tree::object([
        ("SnapshotId", (&one.id).into()),
        ("SourceDiskId", (&one.disk).into()),
        ("SourceDiskType", role(one.disk_role).into()),
        ("Progress", format!("{}%", one.progress_percent).into()),
        ("Available", (one.status == SnapshotStatus::Accomplished).into()),
        ("InstantAccess", false.into()),
        ("Tags", tags(&one.tags)),
    ])
}

/// Here the API reads tags as it writes them.
fn tags(tags: &Tags) -> Tree {
    let pair = |(key, value)| Tree::object([("Key", Tree::from(key)), ("Value", value)]);
    Tree::list("Tag", tags.iter().map(|(key, value)| pair((key, value.into()))))
}
