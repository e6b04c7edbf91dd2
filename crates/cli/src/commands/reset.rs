//! `reset`: disks back to their initial state, by all the rules of ReInitDisk.
//!
//! What must always hold: what is told as done is durable; with `--cycle` an instance that ran runs again, also
//! when a reset was refused; a snapshot that `--keep` took is told whatever came after it; one name that is wrong
//! among several leaves all as they are.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    args::{Common, OneInstance, ResetArgs, SecurityEnhancement},
    commands::{disk, instance},
    control::{Control, Parameters, text},
    failure::Failure,
    output::{self, Report},
    size::Size,
};

/// How long a stopping instance is waited for: its disks are flushed meanwhile.
const STOP_LIMIT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(20);
/// How many disks one call may name.
const MOST_NAMES: usize = 100;

pub(crate) fn run(control: &Control, common: &Common, args: &ResetArgs) -> Result<Report, Failure> {
    let disks = named(control, args)?;
    if args.dry_run {
        return plan(control, args, &disks);
    }
    let mut stopped = Vec::new();
    let ready = if args.cycle { stop(control, args, &disks, &mut stopped) } else { Ok(()) };
    // Verified before a guest can write again.
    let done = ready.and_then(|()| apply(control, args, &disks)).and_then(|report| {
        if args.verify {
            verify(control, common, args, &disks)?;
        }
        Ok(report)
    });
    // Whatever came of it, what ran before runs again.
    let started = stopped.iter().try_for_each(|instance| start(control, args, instance));
    let report = done?;
    started?;
    Ok(report)
}

/// The disks that are meant, each once.
fn named(control: &Control, args: &ResetArgs) -> Result<Vec<String>, Failure> {
    if let Some(instance) = &args.instance {
        let one = OneInstance { instance: instance.clone(), owner: args.owner.clone() };
        instance::one(control, &one)?;
        let disks = disk::of_instance(control, &args.owner, instance)?;
        return Ok(disks.iter().map(|disk| text(disk, "DiskId")).collect());
    }
    if let Some((key, value)) = &args.tag {
        let asked = args.owner.parameters().with("Tag.1.Key", key).with("Tag.1.Value", value);
        let found = control.list("DescribeDisks", ["Disks", "Disk"], &asked)?;
        if found.is_empty() {
            let message =
                format!("no disk has the tag {key}={value}; `reinit disk ls` lists the disks");
            return Err(Failure::local("InvalidDiskId.NotFound", message));
        }
        return Ok(found.iter().map(|disk| text(disk, "DiskId")).collect());
    }
    let disks = disk::each_once(&args.disks);
    if disks.len() > 1 {
        check_names(control, args, &disks)?;
    }
    Ok(disks)
}

/// The daemon resets each disk of a call for itself; who names several means all of them.
fn check_names(control: &Control, args: &ResetArgs, disks: &[String]) -> Result<(), Failure> {
    let mut known = HashSet::new();
    for some in disks.chunks(MOST_NAMES) {
        let asked = args.owner.parameters().with("DiskIds", json!(some));
        let found = control.list("DescribeDisks", ["Disks", "Disk"], &asked)?;
        known.extend(found.iter().map(|disk| text(disk, "DiskId")));
    }
    let wrong: Vec<_> = disks.iter().filter(|disk| !known.contains(*disk)).cloned().collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let message = format!(
        "there is no disk {}; nothing was reset; `reinit disk ls` lists the disks, with --account NAME those of another account",
        wrong.join(" ")
    );
    Err(Failure::local("InvalidDiskId.NotFound", message))
}

fn asked(args: &ResetArgs, disks: &[String]) -> Parameters {
    let strategy = args.security_enhancement.map(SecurityEnhancement::name);
    let all = args.owner.parameters().with("Keep", args.keep);
    let all = all.with_some("SecurityEnhancementStrategy", strategy.as_ref());
    (1..).zip(disks).fold(all, |asked, (number, disk)| asked.with(format!("DiskId.{number}"), disk))
}

fn plan(control: &Control, args: &ResetArgs, disks: &[String]) -> Result<Report, Failure> {
    // With --cycle the instances would be stopped, so that one that runs does not stand in the way.
    let planned = control.call("PlanReInitDisks", &asked(args, disks).with("Cycle", args.cycle))?;
    let plans = each(&planned)?;
    let rows = plans.iter().map(|plan| {
        let dropped = plan["BytesDropped"].as_u64().unwrap_or(0);
        vec![text(plan, "DiskId"), text(plan, "Epoch"), Size::new(dropped).to_string()]
    });
    let header = ["DISK", "EPOCH NOW", "WOULD DROP"];
    Ok(Report::list(json!({ "Disks": plans }), &header, rows.collect()))
}

fn apply(control: &Control, args: &ResetArgs, disks: &[String]) -> Result<Report, Failure> {
    let answer = control.call("ReInitDisks", &asked(args, disks))?;
    let done = each(&answer)?;
    let rows = done.iter().map(|disk| {
        let micros = disk["ElapsedMicros"].as_u64().unwrap_or(0);
        let mut row = vec![
            text(disk, "DiskId"),
            text(disk, "Epoch"),
            format!("{micros} us"),
            text(disk, "RequestId"),
        ];
        row.extend(args.keep.then(|| text(disk, "SnapshotId")));
        row
    });
    let mut header = vec!["DISK", "EPOCH", "TOOK", "REQUEST"];
    header.extend(args.keep.then_some("KEPT AS"));
    let mut report = Report::list(json!({ "Disks": done }), &header, rows.collect());
    if args.keep {
        // The way back is what a script has no other way to.
        let pair = |disk| format!("{} {}", text(disk, "DiskId"), text(disk, "SnapshotId"));
        report.ids = done.iter().map(pair).collect();
    }
    Ok(report)
}

/// The answers for each disk, if none is a refusal; else the refusal, and what became of the others.
fn each(answer: &Value) -> Result<Vec<Value>, Failure> {
    let all = answer["Disks"]["Disk"].as_array().cloned().unwrap_or_default();
    let (refused, done): (Vec<Value>, Vec<Value>) =
        all.into_iter().partition(|disk| !text(disk, "Code").is_empty());
    let Some(first) = refused.first() else { return Ok(done) };
    let mut message = text(first, "Message").trim_end_matches('.').to_owned();
    if text(first, "Code") == "IncorrectInstanceStatus" {
        message.push_str("; `reinit reset --cycle` stops one that runs, resets and starts it");
    }
    if text(first, "Code") == "IncorrectDiskStatus" {
        message
            .push_str("; only one that is attached is reset: `reinit disk attach DISK INSTANCE`");
    }
    if done.len() + refused.len() > 1 {
        let ids = |disks: &[Value]| {
            disks.iter().map(|disk| text(disk, "DiskId")).collect::<Vec<_>>().join(" ")
        };
        message = format!("{message}; refused: {}; done: {}", ids(&refused), ids(&done));
        let kept = done.iter().map(|disk| text(disk, "SnapshotId"));
        let kept: Vec<_> = kept.filter(|snapshot| !snapshot.is_empty()).collect();
        if !kept.is_empty() {
            message = format!("{message}; kept as: {}", kept.join(" "));
        }
    }
    message.push('.');
    Err(Failure { code: text(first, "Code"), message, request_id: text(answer, "RequestId") })
}

/// Stops the running instances of these disks; those that it stopped are in `stopped`, also when it fails.
fn stop(
    control: &Control,
    args: &ResetArgs,
    disks: &[String],
    stopped: &mut Vec<String>,
) -> Result<(), Failure> {
    for disk in disks {
        let found = disk::details(control, &args.owner, disk)?;
        let instance = text(&found, "InstanceId");
        if instance.is_empty() || stopped.contains(&instance) {
            continue;
        }
        if status(control, args, &instance)? == "Running" {
            control.call("StopInstance", &args.owner.parameters().with("InstanceId", &instance))?;
            stopped.push(instance.clone());
            wait_until_stopped(control, args, &instance)?;
        }
    }
    Ok(())
}

fn wait_until_stopped(control: &Control, args: &ResetArgs, instance: &str) -> Result<(), Failure> {
    let until = Instant::now() + STOP_LIMIT;
    while status(control, args, instance)? != "Stopped" {
        if Instant::now() > until {
            let message = format!("{instance} does not stop; look at the daemon's log");
            return Err(Failure::local("IncorrectInstanceStatus", message));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn status(control: &Control, args: &ResetArgs, instance: &str) -> Result<String, Failure> {
    let one = OneInstance { instance: instance.to_owned(), owner: args.owner.clone() };
    Ok(text(&instance::one(control, &one)?, "Status"))
}

fn start(control: &Control, args: &ResetArgs, instance: &str) -> Result<(), Failure> {
    control.call("StartInstance", &args.owner.parameters().with("InstanceId", instance)).map(drop)
}

fn verify(
    control: &Control,
    common: &Common,
    args: &ResetArgs,
    disks: &[String],
) -> Result<(), Failure> {
    for disk in disks {
        disk::verification(control, &args.owner, disk, true)?;
        if !common.quiet {
            output::note(&format!(
                "{disk} is in its initial state: every byte was read and compared"
            ));
        }
    }
    Ok(())
}

impl SecurityEnhancement {
    fn name(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Deactive => "Deactive",
        }
    }
}
