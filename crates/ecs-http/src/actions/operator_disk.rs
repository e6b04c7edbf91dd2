//! What the operator may do with disks beyond ECS: see all, plan, reset many with one sync, verify.
//!
//! What must always hold: a batch is answered disk by disk, in the order asked; what became of one says
//! nothing of the others.

use std::num::NonZeroU64;

use block_device::Rates;
use cloud::{
    CloudError, DescribeDisks, DiskRole, InstanceStatus, LastReset, LimitDisk, Paging, ReInitDisk,
    ResetDone,
};
use reinit::{Verification, VerifyDepth};

use super::codes::{INITIAL_STATE, NO_DISK};
use super::contract::{Group, flag, needed, text, whole};
use super::shape::{Field, flag_field, list_field, object_field, text_field, whole_field};
use super::{Action, Call, Fields, disk, origin_name, reset::request_for, root, seconds};
use crate::{refusal::Refusal, status, tree::Tree};

/// As many as one question may name.
const DISKS_ASKED_ABOUT: usize = 100;

/// Resets of several disks, done or only planned.
const RESETS: Group = &[
    needed("DiskId.N"),
    flag("AutoStartInstance"),
    text("Password"),
    text("KeyPairName"),
    text("SecurityEnhancementStrategy"),
    flag("Keep").of_operator(),
];

pub(super) const ACTIONS: &[Action] = &[
    Action::for_operator("ShowDisk", show)
        .takes(&[&[needed("DiskId")]])
        .answers(&[disk::DISK, DETAIL, RATES])
        .refuses(&[NO_DISK]),
    Action::for_operator("ReInitDisks", reinit).takes(&[RESETS]).answers(&[&[list_field(
        "Disks",
        "Disk",
        &[RESET, REFUSED],
    )]]),
    Action::for_operator("PlanReInitDisks", plan)
        .takes(&[RESETS, &[flag("Cycle")]])
        .answers(&[&[list_field("Disks", "Disk", &[PLANNED, REFUSED])]]),
    Action::for_operator("VerifyDisk", verify)
        .takes(&[&[needed("DiskId"), flag("Deep")]])
        .answers(&[VERIFICATION])
        .refuses(&[NO_DISK, INITIAL_STATE, &[("Cancelled", 400)]]),
    Action::for_operator("LimitDisk", limit)
        .takes(&[&[
            needed("DiskId"),
            whole("Iops", 0, u64::MAX),
            whole("BytesPerSecond", 0, u64::MAX),
        ]])
        .answers(&[RATES])
        .refuses(&[NO_DISK]),
    Action::for_operator("ReclaimDisk", reclaim)
        .takes(&[&[needed("DiskId"), whole("BytesPerSecond", 0, u64::MAX)]])
        .answers(&[&[text_field("DiskId"), whole_field("FreedBytes"), flag_field("Complete")]])
        .refuses(&[NO_DISK]),
];

/// How fast a disk may go; 0 for no limit.
const RATES: &[Field] = &[whole_field("IopsLimit"), whole_field("BytesPerSecondLimit")];

/// What there is to say of a disk beyond ECS.
const DETAIL: &[Field] = &[
    whole_field("SizeInBytes"),
    text_field("Origin"),
    whole_field("Epoch"),
    whole_field("BytesWrittenSinceReset"),
    whole_field("LiveBytes"),
    whole_field("StaleBytes"),
    whole_field("SharedBytes"),
    text_field("LastResetRequestId"),
    text_field("LastResetTime"),
    flag_field("Exported"),
    text_field("SecurityEnhancementStrategy"),
    text_field("Refusal"),
    // Of a disk that was reset.
    object_field("LastReset", &[RECEIPT]).at_times(),
];

const RECEIPT: &[Field] = &[
    text_field("RequestId"),
    text_field("Time"),
    whole_field("EpochBefore"),
    whole_field("EpochAfter"),
    text_field("Origin"),
    text_field("Root"),
];

/// The row of a disk that was reset.
const RESET: &[Field] = &[
    text_field("InstanceId").at_times(),
    text_field("RequestId").at_times(),
    whole_field("EpochBefore").at_times(),
    whole_field("Epoch").at_times(),
    text_field("Root").at_times(),
    whole_field("ElapsedMicros").at_times(),
    flag_field("Started").at_times(),
    text_field("SnapshotId").at_times(),
];

/// The row of a disk that can be.
const PLANNED: &[Field] = &[
    whole_field("Epoch").at_times(),
    whole_field("EpochAfter").at_times(),
    whole_field("BytesDropped").at_times(),
    text_field("Root").at_times(),
];

/// The row of one that cannot; the id is in every row.
const REFUSED: &[Field] =
    &[text_field("DiskId"), text_field("Code").at_times(), text_field("Message").at_times()];

const VERIFICATION: &[Field] = &[
    text_field("DiskId"),
    flag_field("InInitialState"),
    flag_field("StandsOnOrigin"),
    whole_field("Epoch"),
    text_field("Root"),
    text_field("ContentRoot"),
    flag_field("OriginIsDamaged"),
    whole_field("BytesWrittenSinceReset"),
    flag_field("MapWasRead"),
    whole_field("BytesReadBack"),
    whole_field("BytesDiffering"),
    list_field("DiffersAt", "Range", &[&[whole_field("Offset"), whole_field("Length")]]),
    // Where there is one.
    whole_field("FirstDifference").at_times(),
];

fn show(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("DiskId")?;
    let detail = call.ask(|cloud, caller| cloud.show_disk(caller, &id))?;
    let last = detail.last_reset.as_ref();
    let mut fields = disk::view(&detail.view);
    fields.extend([
        ("SizeInBytes", detail.view.size.get().into()),
        ("Origin", origin_name(&detail.view.origin).into()),
        ("Epoch", detail.epoch.into()),
        ("BytesWrittenSinceReset", detail.written_since_reset.get().into()),
        ("LiveBytes", detail.space.live.get().into()),
        ("StaleBytes", detail.space.stale.get().into()),
        ("SharedBytes", detail.space.shared.get().into()),
        (
            "LastResetRequestId",
            last.map(|last| last.request_id.as_str()).unwrap_or_default().into(),
        ),
        ("LastResetTime", seconds(last.map(|last| last.time))),
        ("Exported", detail.exported.into()),
        (
            "SecurityEnhancementStrategy",
            if detail.security_enhanced { "Active" } else { "Deactive" }.into(),
        ),
        ("Refusal", detail.refusal.as_deref().unwrap_or_default().into()),
    ]);
    fields.extend(rates(&detail.rates));
    fields.extend(last.map(|last| ("LastReset", receipt(last))));
    Ok(fields)
}

fn limit(call: &Call<'_>) -> Result<Fields, Refusal> {
    let parameters = call.parameters;
    let request = LimitDisk {
        disk: parameters.needed("DiskId")?,
        iops: parameters.number("Iops")?,
        bytes_per_second: parameters.number("BytesPerSecond")?,
    };
    let set = call.ask(|cloud, caller| cloud.limit_disk(caller, &request))?;
    Ok(rates(&set).into())
}

fn rates(rates: &Rates) -> [(&'static str, Tree); 2] {
    let shown = |limit: Option<NonZeroU64>| limit.map_or(0, NonZeroU64::get).into();
    [("IopsLimit", shown(rates.iops)), ("BytesPerSecondLimit", shown(rates.bytes_per_second))]
}

/// The receipt of the last reset.
fn receipt(last: &LastReset) -> Tree {
    Tree::object([
        ("RequestId", (&last.request_id).into()),
        ("Time", seconds(Some(last.time))),
        ("EpochBefore", last.epoch_before.into()),
        ("EpochAfter", last.epoch_after.into()),
        ("Origin", last.origin.as_ref().map(origin_name).unwrap_or_default().into()),
        ("Root", root(last.root)),
    ])
}

fn reinit(call: &Call<'_>) -> Result<Fields, Refusal> {
    let requests = requests(call)?;
    let results = call.cloud.reinit_disks(call.caller, &requests, call.request_id);
    let rows = requests.iter().zip(results).map(|(request, result)| match result {
        Ok(done) => {
            call.note(&done);
            self::done(&done)
        }
        Err(error) => refused(&request.disk, &error),
    });
    Ok(vec![("Disks", Tree::list("Disk", rows))])
}

fn requests(call: &Call<'_>) -> Result<Vec<ReInitDisk>, Refusal> {
    let disks = call.parameters.list("DiskId");
    if disks.is_empty() {
        return Err(Refusal::missing("DiskId.1"));
    }
    let requests = disks.into_iter().map(|disk| request_for(call, disk));
    let mut requests: Vec<_> = requests.collect::<Result<_, _>>()?;
    if requests.len() > 1 && requests[0].security_enhancement.is_some() {
        only_of_system_disks(call, &mut requests)?;
    }
    Ok(requests)
}

/// Of several disks, the strategy means the system disks.
fn only_of_system_disks(call: &Call<'_>, requests: &mut [ReInitDisk]) -> Result<(), Refusal> {
    for some in requests.chunks_mut(DISKS_ASKED_ABOUT) {
        let ids = some.iter().map(|request| request.disk.clone()).collect();
        let asked = DescribeDisks {
            ids: Some(ids),
            role: Some(DiskRole::Data),
            paging: Paging::All,
            ..DescribeDisks::default()
        };
        let data = call.ask(|cloud, caller| cloud.describe_disks(caller, &asked))?.items;
        let is_data = |disk: &str| data.iter().any(|one| one.id == disk);
        let others = some.iter_mut().filter(|request| is_data(&request.disk));
        others.for_each(|request| request.security_enhancement = None);
    }
    Ok(())
}

fn done(done: &ResetDone) -> Tree {
    let micros = u64::try_from(done.elapsed.as_micros()).unwrap_or(u64::MAX);
    let mut fields: Fields = vec![
        ("DiskId", (&done.disk).into()),
        ("InstanceId", (&done.instance).into()),
        ("RequestId", done.request_id.to_string().into()),
        ("EpochBefore", done.epoch_before.into()),
        ("Epoch", done.epoch_after.into()),
        ("Root", root(done.root)),
        ("ElapsedMicros", micros.into()),
        ("Started", done.started.into()),
    ];
    fields.extend(done.kept.as_ref().map(|snapshot| ("SnapshotId", snapshot.into())));
    Tree::Object(fields)
}

fn refused(disk: &str, error: &CloudError) -> Tree {
    let refusal = status::refusal("ReInitDisk", error);
    let mut fields: Fields = vec![
        ("DiskId", disk.into()),
        ("Code", refusal.code.into()),
        ("Message", refusal.message.into()),
    ];
    if let CloudError::KeptButNotReset { snapshot, .. } = error {
        fields.push(("SnapshotId", snapshot.into()));
    }
    Tree::Object(fields)
}

fn plan(call: &Call<'_>) -> Result<Fields, Refusal> {
    let requests = requests(call)?;
    let cycle = call.parameters.flag("Cycle")?.unwrap_or(false);
    let plans = call.cloud.plan_reinit(call.caller, &requests);
    let rows = requests.iter().zip(plans).map(|(request, plan)| match plan {
        Ok(plan) => planned(&request.disk, plan.epoch_before, plan.dropped.get(), root(plan.root)),
        Err(CloudError::IncorrectInstanceStatus { status: InstanceStatus::Running, .. })
            if cycle =>
        {
            plan_of_running(call, &request.disk)
        }
        Err(error) => refused(&request.disk, &error),
    });
    Ok(vec![("Disks", Tree::list("Disk", rows))])
}

/// The instance would be stopped first: what stands in the way after that shows then.
fn plan_of_running(call: &Call<'_>, disk: &str) -> Tree {
    match call.cloud.show_disk(call.caller, disk) {
        Ok(now) => planned(disk, now.epoch, now.written_since_reset.get(), "".into()),
        Err(error) => refused(disk, &error),
    }
}

fn planned(disk: &str, epoch: u64, dropped: u64, root: Tree) -> Tree {
    Tree::object([
        ("DiskId", disk.into()),
        ("Epoch", epoch.into()),
        ("EpochAfter", epoch.saturating_add(1).into()),
        ("BytesDropped", dropped.into()),
        ("Root", root),
    ])
}

fn reclaim(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("DiskId")?;
    let rate: Option<u64> = call.parameters.number("BytesPerSecond")?;
    if rate == Some(0) {
        return Err(Refusal::invalid("BytesPerSecond must be above 0."));
    }
    let done = call.ask(|cloud, caller| cloud.reclaim_disk(caller, &id, rate, call.client))?;
    Ok(vec![
        ("DiskId", id.into()),
        ("FreedBytes", done.freed.get().into()),
        ("Complete", done.is_complete.into()),
    ])
}

fn verify(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("DiskId")?;
    let deep = call.parameters.flag("Deep")?.unwrap_or(false);
    let depth = if deep { VerifyDepth::Content } else { VerifyDepth::Head };
    let found = call.ask(|cloud, caller| cloud.verify_disk(caller, &id, depth, call.client))?;
    Ok(verification(&found))
}

fn verification(found: &Verification) -> Fields {
    let ranges = found.differs_at.iter().map(|(offset, length)| {
        Tree::object([("Offset", offset.get().into()), ("Length", length.get().into())])
    });
    let mut fields: Fields = vec![
        ("DiskId", found.disk.to_string().into()),
        ("InInitialState", found.in_initial_state.into()),
        ("StandsOnOrigin", found.stands_on_origin.into()),
        ("Epoch", found.epoch.get().into()),
        ("Root", root(found.root.map(|root| root.to_bytes()))),
        ("ContentRoot", root(found.content_root.map(|root| root.to_bytes()))),
        ("OriginIsDamaged", found.origin_is_damaged().into()),
        ("BytesWrittenSinceReset", found.written.get().into()),
        ("MapWasRead", found.map_was_read.into()),
        ("BytesReadBack", found.read_back.get().into()),
        ("BytesDiffering", found.differing.get().into()),
        ("DiffersAt", Tree::list("Range", ranges)),
    ];
    let first = found.first_difference;
    fields.extend(first.map(|first| ("FirstDifference", first.get().into())));
    fields
}
