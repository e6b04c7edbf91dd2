//! `disk`: make, look at, grow, attach, verify, reclaim, delete.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::{
    args::{AccountArg, Common, DiskCommand, DiskCreateArgs, LimitArgs, OneDisk, ReclaimArgs},
    control::{Control, text},
    failure::Failure,
    output::{self, Report},
    size::Size,
};

pub(crate) fn run(
    control: &Control,
    common: &Common,
    command: &DiskCommand,
) -> Result<Report, Failure> {
    match command {
        DiskCommand::Create(args) => create(control, args),
        DiskCommand::Ls(owner) => list(control, owner),
        DiskCommand::Show(disk) => show(control, disk),
        DiskCommand::Resize { disk, size } => resize(control, disk, *size),
        DiskCommand::Limit(args) => limit(control, args),
        DiskCommand::Rm(disk) => act(control, "DeleteDisk", disk, None, "is deleted"),
        DiskCommand::Attach { disk, instance } => {
            act(control, "AttachDisk", disk, Some(instance), &format!("is attached to {instance}"))
        }
        DiskCommand::Detach(disk) => {
            let instance = text(&details(control, &disk.owner, &disk.disk)?, "InstanceId");
            act(
                control,
                "DetachDisk",
                disk,
                Some(&instance),
                &format!("is detached from {instance}"),
            )
        }
        DiskCommand::Rollback { disk, snapshot } => rollback(control, disk, snapshot),
        DiskCommand::Reclaim(args) => reclaim(control, common, args),
        DiskCommand::Verify { disk, deep } => verify(control, disk, *deep),
    }
}

fn create(control: &Control, args: &DiskCreateArgs) -> Result<Report, Failure> {
    let mut asked = args
        .owner
        .parameters()
        .with_some("ImageId", args.image.as_ref())
        .with_some("SnapshotId", args.snapshot.as_ref())
        .with_some("DiskName", args.name.as_ref())
        .with_some("DiskCategory", args.category.as_ref());
    if let Some(size) = args.size {
        asked = asked.with("Size", size.whole_gib("--size")?);
    }
    let made = control.call("CreateDisk", &asked)?;
    let id = text(&made, "DiskId");
    let told = format!("{id} is made; attach it to an instance to use it");
    Ok(Report::done(made, vec![id], told))
}

fn list(control: &Control, owner: &AccountArg) -> Result<Report, Failure> {
    let found = control.list("DescribeDisks", ["Disks", "Disk"], &owner.parameters())?;
    let rows = found.iter().map(row).collect();
    let header = ["DISK", "NAME", "STATUS", "TYPE", "SIZE", "INSTANCE", "FROM"];
    Ok(Report::list(json!({ "Disks": found }), &header, rows))
}

fn row(disk: &Value) -> Vec<String> {
    vec![
        text(disk, "DiskId"),
        text(disk, "DiskName"),
        text(disk, "Status"),
        text(disk, "Type"),
        Size::of_gib(disk["Size"].as_u64().unwrap_or(0)).to_string(),
        text(disk, "InstanceId"),
        format!("{}{}", text(disk, "ImageId"), text(disk, "SourceSnapshotId")),
    ]
}

/// The disks of an instance, the system disk first.
pub(crate) fn of_instance(
    control: &Control,
    owner: &AccountArg,
    instance: &str,
) -> Result<Vec<Value>, Failure> {
    let asked = owner.parameters().with("InstanceId", instance);
    let mut disks = control.list("DescribeDisks", ["Disks", "Disk"], &asked)?;
    disks.sort_by_key(|disk| (disk["Type"] != "system", text(disk, "Device")));
    Ok(disks)
}

/// Everything the daemon knows of one disk.
pub(crate) fn details(control: &Control, owner: &AccountArg, disk: &str) -> Result<Value, Failure> {
    control.call("ShowDisk", &owner.parameters().with("DiskId", disk))
}

fn show(control: &Control, disk: &OneDisk) -> Result<Report, Failure> {
    let mut shown = details(control, &disk.owner, &disk.disk)?;
    if let Some(fields) = shown.as_object_mut() {
        // A document is what the disk is, not which request asked.
        fields.remove("RequestId");
    }
    shown["NbdUri"] = json!(control.nbd_uri(&disk.disk));
    let written = shown["BytesWrittenSinceReset"].as_u64().unwrap_or(0);
    let size = shown["SizeInBytes"].as_u64().unwrap_or(0);
    let fields = [
        ("Disk", text(&shown, "DiskId")),
        ("Name", text(&shown, "DiskName")),
        ("Status", text(&shown, "Status")),
        ("Size", Size::new(size).to_string()),
        ("Instance", text(&shown, "InstanceId")),
        ("Goes back to", text(&shown, "Origin")),
        ("Epoch", text(&shown, "Epoch")),
        ("Written since the reset", Size::new(written).to_string()),
        ("Live in its head", bytes(&shown, "LiveBytes")),
        ("Stale in its head", bytes(&shown, "StaleBytes")),
        ("In layers below", bytes(&shown, "SharedBytes")),
        ("NBD while it is open", text(&shown, "NbdUri")),
        ("At most", limits(&shown)),
        ("Last reset", last_reset(&shown["LastReset"])),
        ("Refused because", text(&shown, "Refusal")),
    ];
    // Most disks have no limit and were never refused, and many never reset.
    let fields: Vec<_> = fields
        .into_iter()
        .filter(|(name, value)| {
            !(matches!(*name, "At most" | "Last reset" | "Refused because") && value.is_empty())
        })
        .collect();
    Ok(Report::fields(shown, &disk.disk, &fields))
}

/// The receipt of the last reset; empty when there was none.
fn last_reset(receipt: &Value) -> String {
    let time = text(receipt, "Time");
    if time.is_empty() {
        return time;
    }
    let (before, after) = (text(receipt, "EpochBefore"), text(receipt, "EpochAfter"));
    format!("{time}, epoch {before} to {after}, request {}", text(receipt, "RequestId"))
}

fn bytes(shown: &Value, field: &str) -> String {
    Size::new(shown[field].as_u64().unwrap_or(0)).to_string()
}

/// Without what was said before.
pub(crate) fn each_once(disks: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    disks.iter().filter(|disk| seen.insert(*disk)).cloned().collect()
}

/// One call a disk, so that each is told when it is done; those before a failure stay done.
fn reclaim(control: &Control, common: &Common, args: &ReclaimArgs) -> Result<Report, Failure> {
    let mut disks = each_once(&args.disks);
    if args.all {
        let found = control.list("DescribeDisks", ["Disks", "Disk"], &args.owner.parameters())?;
        disks = found.iter().map(|disk| text(disk, "DiskId")).collect();
    }
    // As with `scrub`, 0 is no limit.
    let rate = args.rate.map(Size::bytes).filter(|rate| *rate > 0);
    let mut done = Vec::new();
    for (place, disk) in (1..).zip(&disks) {
        let asked = args.owner.parameters().with("DiskId", disk);
        let asked = asked.with_some("BytesPerSecond", rate.as_ref());
        let mut answer = control.call("ReclaimDisk", &asked)?;
        if let Some(fields) = answer.as_object_mut() {
            fields.remove("RequestId");
        }
        if !common.quiet && disks.len() > 1 {
            let freed = bytes(&answer, "FreedBytes");
            output::note(&format!("{disk} gave {freed} back ({place} of {})", disks.len()));
        }
        done.push(answer);
    }
    let rows = done.iter().map(|disk| vec![text(disk, "DiskId"), bytes(disk, "FreedBytes")]);
    let rows = rows.collect();
    Ok(Report::list(json!({ "Disks": done }), &["DISK", "GAVE BACK"], rows))
}

fn resize(control: &Control, disk: &OneDisk, size: Size) -> Result<Report, Failure> {
    let asked = disk.owner.parameters().with("DiskId", &disk.disk);
    let answer =
        control.call("ResizeDisk", &asked.with("NewSize", size.whole_gib("the new size")?))?;
    let told = format!("{} has {size}; a running client sees it when it connects again", disk.disk);
    Ok(Report::done(answer, vec![disk.disk.clone()], told))
}

fn limit(control: &Control, args: &LimitArgs) -> Result<Report, Failure> {
    let disk = &args.disk;
    let asked = disk.owner.parameters().with("DiskId", &disk.disk);
    let asked = asked
        .with_some("Iops", args.iops.as_ref())
        .with_some("BytesPerSecond", args.bandwidth.map(Size::bytes).as_ref());
    let answer = control.call("LimitDisk", &asked)?;
    let told = match limits(&answer) {
        limits if limits.is_empty() => format!("{} goes as fast as it can", disk.disk),
        limits => format!("{} does at most {limits}", disk.disk),
    };
    Ok(Report::done(answer, vec![disk.disk.clone()], told))
}

/// How fast a disk may go, in words; empty if there is no limit.
fn limits(disk: &Value) -> String {
    let limit = |name: &str| disk[name].as_u64().filter(|limit| *limit > 0);
    let requests = limit("IopsLimit").map(|limit| format!("{limit} requests a second"));
    let bytes = limit("BytesPerSecondLimit").map(|limit| format!("{} a second", Size::new(limit)));
    requests.into_iter().chain(bytes).collect::<Vec<_>>().join(" and ")
}

fn rollback(control: &Control, disk: &OneDisk, snapshot: &str) -> Result<Report, Failure> {
    let asked = disk.owner.parameters().with("DiskId", &disk.disk).with("SnapshotId", snapshot);
    let answer = control.call("ResetDisk", &asked)?;
    let told = format!("{} holds what it held at {snapshot}", disk.disk);
    Ok(Report::done(answer, vec![disk.disk.clone()], told))
}

fn act(
    control: &Control,
    action: &str,
    disk: &OneDisk,
    instance: Option<&str>,
    done: &str,
) -> Result<Report, Failure> {
    let asked = disk.owner.parameters().with("DiskId", &disk.disk);
    let answer = control.call(action, &asked.with_some("InstanceId", instance.as_ref()))?;
    Ok(Report::done(answer, vec![disk.disk.clone()], format!("{} {done}", disk.disk)))
}

fn verify(control: &Control, disk: &OneDisk, deep: bool) -> Result<Report, Failure> {
    let mut verified = verification(control, &disk.owner, &disk.disk, deep)?;
    if let Some(fields) = verified.as_object_mut() {
        fields.remove("RequestId");
    }
    let how = match (deep, verified["MapWasRead"] == true) {
        (true, _) => "every byte was read, compared and hashed",
        (false, false) => "nothing was written since its last reset",
        (false, true) => "nothing was written since its last reset, by its whole map",
    };
    let root = text(&verified, "Root");
    let root = if root.is_empty() { "not known yet" } else { &root };
    let told = format!("{} is in its initial state: {how}; root {root}", disk.disk);
    Ok(Report::done(verified, vec![disk.disk.clone()], told))
}

/// Proof that a disk is in its initial state; what differs is a failure.
pub(crate) fn verification(
    control: &Control,
    owner: &AccountArg,
    disk: &str,
    deep: bool,
) -> Result<Value, Failure> {
    let asked = owner.parameters().with("DiskId", disk).with("Deep", deep);
    let verified = control.call("VerifyDisk", &asked)?;
    if verified["InInitialState"] == true {
        return Ok(verified);
    }
    let request_id = text(&verified, "RequestId");
    if verified["OriginIsDamaged"] == true {
        let (root, read) = (text(&verified, "Root"), text(&verified, "ContentRoot"));
        let message = format!(
            "{disk} reads as its origin does, but that is damaged: its root is {root}, what was read has {read}; \
             make the origin again"
        );
        return Err(Failure { code: "OriginDamaged".into(), message, request_id });
    }
    let differences = differences(&verified);
    let message = format!("{disk} is not in its initial state: {differences}; reset it");
    Err(Failure { code: "DiskDiffers".into(), message, request_id })
}

fn differences(verified: &Value) -> String {
    let ranges = verified["DiffersAt"]["Range"].as_array();
    let told: Vec<String> = ranges
        .into_iter()
        .flatten()
        .take(3)
        .map(|range| format!("{} bytes at {}", text(range, "Length"), text(range, "Offset")))
        .collect();
    if told.is_empty() {
        return shallow_differences(verified);
    }
    let (count, first) = (text(verified, "BytesDiffering"), text(verified, "FirstDifference"));
    format!("{count} bytes differ, the first at {first}; blocks: {}", told.join(", "))
}

/// What the head alone tells.
fn shallow_differences(verified: &Value) -> String {
    let written = verified["BytesWrittenSinceReset"].as_u64().unwrap_or(0);
    if written > 0 {
        format!("{} in blocks was written since its last reset", Size::new(written))
    } else {
        "it was put back to something else than its origin".into()
    }
}
