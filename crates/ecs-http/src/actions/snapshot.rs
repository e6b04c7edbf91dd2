//! Snapshots: taken, described, deleted.

use cloud::{CreateSnapshot, DescribeSnapshots, SnapshotStatus, SnapshotView, Usage};

use super::codes::{
    CATEGORY, DISK_STATE, FILTERS, NEW_SNAPSHOT, NEW_TAGS, NO_DISK, NO_SNAPSHOT, REPEATED,
    SNAPSHOT_USED,
};
use super::contract::{CREATED, PAGES, REGION, TAGS, TOKENS, flag, ids, needed, text};
use super::shape::{Field, NEXT, PAGE, TAGS_SHOWN, flag_field, list_field, text_field};
use super::{
    Action, Call, Fields,
    disk::{ROLES, role},
    next_token, page_fields, seconds, tags,
};
use crate::{refusal::Refusal, tree::Tree};

pub(super) const ACTIONS: &[Action] = &[
    Action::new("DescribeSnapshots", describe)
        .takes(&[
            REGION,
            &[
                ids("SnapshotIds"),
                text("DiskId"),
                text("InstanceId"),
                text("SnapshotName"),
                text("Status"),
                text("SourceDiskType"),
                text("Usage"),
                text("SnapshotType"),
                flag("Encrypted"),
            ],
            CREATED,
            TAGS,
            PAGES,
            TOKENS,
        ])
        .answers(&[PAGE, NEXT, &[list_field("Snapshots", "Snapshot", &[SNAPSHOT])]])
        .refuses(&[
            FILTERS,
            &[
                ("InvalidSnapshotIds.Malformed", 403),
                ("InvalidSnapshotType.NotFound", 404),
                ("InvalidSourceDiskType", 404),
                ("InvalidStatus.NotFound", 404),
                ("InvalidUsage", 404),
            ],
        ])
        .that_only_asks(),
    Action::new("CreateSnapshot", create)
        .takes(&[
            &[needed("DiskId"), text("SnapshotName"), text("Description"), text("ClientToken")],
            TAGS,
        ])
        .answers(&[&[text_field("SnapshotId")]])
        .refuses(&[
            REPEATED,
            NEW_TAGS,
            NO_DISK,
            CATEGORY,
            DISK_STATE,
            NEW_SNAPSHOT,
            &[
                ("IncorrectInstanceStatus", 400),
                ("InvalidSnapshotName.Malformed", 400),
                ("InstanceLockedForSecurity", 403),
                ("InvalidDescription.Malformed", 404),
            ],
        ]),
    Action::new("DeleteSnapshot", delete)
        .takes(&[&[needed("SnapshotId"), flag("Force")]])
        .refuses(&[NO_SNAPSHOT, SNAPSHOT_USED]),
];

const SNAPSHOT: &[Field] = &[
    text_field("SnapshotId"),
    text_field("SnapshotName"),
    text_field("Description"),
    text_field("Status"),
    text_field("Progress"),
    flag_field("Available"),
    text_field("SourceDiskId"),
    text_field("SourceDiskType"),
    text_field("SourceDiskSize"),
    text_field("SourceSnapshotId"),
    text_field("Usage"),
    text_field("Category"),
    text_field("SnapshotType"),
    text_field("ProductCode"),
    flag_field("Encrypted"),
    text_field("CreationTime"),
    text_field("RegionId"),
    TAGS_SHOWN,
];

pub(super) const STATUSES: [(&str, SnapshotStatus); 3] = [
    ("progressing", SnapshotStatus::Progressing),
    ("accomplished", SnapshotStatus::Accomplished),
    ("failed", SnapshotStatus::Failed),
];

const USAGES: [(&str, Usage); 4] = [
    ("none", Usage::None),
    ("disk", Usage::Disk),
    ("image", Usage::Image),
    ("image_disk", Usage::ImageAndDisk),
];

fn create(call: &Call<'_>) -> Result<Fields, Refusal> {
    let parameters = call.parameters;
    let request = CreateSnapshot {
        disk: parameters.needed("DiskId")?,
        name: parameters.owned("SnapshotName"),
        description: parameters.owned("Description"),
        tags: parameters.tags(),
        client_token: parameters.owned("ClientToken"),
    };
    let id = call.ask(|cloud, caller| cloud.create_snapshot(caller, &request))?;
    Ok(vec![("SnapshotId", id.into())])
}

fn delete(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("SnapshotId")?;
    let force = call.parameters.flag("Force")?.unwrap_or(false);
    call.ask(|cloud, caller| cloud.delete_snapshot(caller, &id, force))?;
    Ok(vec![])
}

fn describe(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let parameters = call.parameters;
    let (created_from, created_until) = call.created_between()?;
    let asked = DescribeSnapshots {
        ids: call.ids_if(parameters.json_list("SnapshotIds")?, is_possible(call)?),
        disk: parameters.owned("DiskId"),
        instance: parameters.owned("InstanceId"),
        name: parameters.owned("SnapshotName"),
        status: call.one_of("Status", &STATUSES, ("InvalidStatus.NotFound", 404))?,
        source_role: call.one_of("SourceDiskType", &ROLES, ("InvalidSourceDiskType", 404))?,
        usage: call.one_of("Usage", &USAGES, ("InvalidUsage", 404))?,
        tags: call.tag_filters()?,
        created_from,
        created_until,
        paging: call.paging()?,
    };
    let page = call.ask(|cloud, caller| cloud.describe_snapshots(caller, &asked))?;
    let mut fields = page_fields(&page);
    fields.push(next_token(&page));
    fields.push(("Snapshots", Tree::list("Snapshot", page.items.iter().map(view))));
    Ok(fields)
}

/// Every snapshot here is taken by a user, none is encrypted.
fn is_possible(call: &Call<'_>) -> Result<bool, Refusal> {
    let types = [("user", true), ("auto", false)];
    let kind = call.one_of("SnapshotType", &types, ("InvalidSnapshotType.NotFound", 404))?;
    Ok(kind != Some(false) && call.parameters.flag("Encrypted")? != Some(true))
}

fn view(snapshot: &SnapshotView) -> Tree {
    Tree::object([
        ("SnapshotId", (&snapshot.id).into()),
        ("SnapshotName", (&snapshot.name).into()),
        ("Description", (&snapshot.description).into()),
        ("Status", status(snapshot.status).into()),
        ("Progress", format!("{}%", snapshot.progress_percent).into()),
        ("Available", (snapshot.status == SnapshotStatus::Accomplished).into()),
        ("SourceDiskId", (&snapshot.disk).into()),
        ("SourceDiskType", role(snapshot.disk_role).into()),
        // A number in text form.
        ("SourceDiskSize", snapshot.size_gib().to_string().into()),
        ("SourceSnapshotId", "".into()),
        ("Usage", usage(snapshot.usage).into()),
        ("Category", "standard".into()),
        ("SnapshotType", "user".into()),
        ("ProductCode", "".into()),
        ("Encrypted", snapshot.encrypted.into()),
        ("CreationTime", seconds(Some(snapshot.created))),
        ("RegionId", (&snapshot.region).into()),
        ("Tags", tags(&snapshot.tags)),
    ])
}

pub(super) fn status(status: SnapshotStatus) -> &'static str {
    match status {
        SnapshotStatus::Progressing => "progressing",
        SnapshotStatus::Accomplished => "accomplished",
        SnapshotStatus::Failed => "failed",
    }
}

pub(super) fn usage(usage: Usage) -> &'static str {
    match usage {
        Usage::None => "none",
        Usage::Disk => "disk",
        Usage::Image => "image",
        Usage::ImageAndDisk => "image_disk",
    }
}
