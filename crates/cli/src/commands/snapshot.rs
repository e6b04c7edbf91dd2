//! `snapshot`: what disks held at one moment.

use serde_json::{Value, json};

use crate::{
    args::SnapshotCommand,
    control::{Control, text},
    failure::Failure,
    output::Report,
    size::Size,
};

pub(crate) fn run(control: &Control, command: &SnapshotCommand) -> Result<Report, Failure> {
    match command {
        SnapshotCommand::Create { disk, name } => {
            let asked = disk.owner.parameters().with("DiskId", &disk.disk);
            let made =
                control.call("CreateSnapshot", &asked.with_some("SnapshotName", name.as_ref()))?;
            let id = text(&made, "SnapshotId");
            Ok(Report::done(made, vec![id.clone()], format!("{id} is a snapshot of {}", disk.disk)))
        }
        SnapshotCommand::Ls(owner) => {
            let found = control.list(
                "DescribeSnapshots",
                ["Snapshots", "Snapshot"],
                &owner.parameters(),
            )?;
            let rows = found.iter().map(row).collect();
            let header = ["SNAPSHOT", "NAME", "STATUS", "PROGRESS", "DISK", "SIZE", "MADE"];
            Ok(Report::list(json!({ "Snapshots": found }), &header, rows))
        }
        SnapshotCommand::Rm { snapshot, force, owner } => {
            let asked = owner.parameters().with("SnapshotId", snapshot).with("Force", force);
            let answer = control.call("DeleteSnapshot", &asked)?;
            Ok(Report::done(answer, vec![snapshot.clone()], format!("{snapshot} is deleted")))
        }
    }
}

fn row(snapshot: &Value) -> Vec<String> {
    let gib: u64 = text(snapshot, "SourceDiskSize").parse().unwrap_or(0);
    vec![
        text(snapshot, "SnapshotId"),
        text(snapshot, "SnapshotName"),
        text(snapshot, "Status"),
        text(snapshot, "Progress"),
        text(snapshot, "SourceDiskId"),
        Size::of_gib(gib).to_string(),
        text(snapshot, "CreationTime"),
    ]
}
