//! `scrub`: the content of sealed layers beside their hashes, by the daemon, or right here when there is none.
//!
//! What must always hold: both ways answer the same document; damage is exit code 1; Ctrl-C leaves a run that the
//! next one goes on with.

use std::{
    process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use block_device::ByteLength;
use block_store::{Progress, Scrub, ScrubFinding, ScrubReport, StoreError};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::{Common, ScrubArgs},
    commands::serve,
    control::{Control, Parameters, text},
    daemon,
    failure::Failure,
    output::{self, Report},
    places::Places,
    size::Size,
};

/// How often a running scrub is asked how far it is.
const POLL: Duration = Duration::from_millis(100);

pub(crate) fn run(places: &Places, common: &Common, args: &ScrubArgs) -> Result<Report, Failure> {
    match Control::of(places) {
        Ok(control) if args.status => Ok(status(control.call("ShowScrub", &Parameters::new())?)),
        Ok(control) if args.cancel => cancel(&control),
        Ok(control) => by_the_daemon(&control, common, args),
        Err(failure) if failure.code != "NoDaemon" => Err(failure),
        Err(failure) if args.status || args.cancel || args.background => Err(failure),
        Err(_no_daemon) => right_here(places, common, args),
    }
}

fn by_the_daemon(control: &Control, common: &Common, args: &ScrubArgs) -> Result<Report, Failure> {
    let asked = Parameters::new().with_some("Rate", args.rate.map(Size::bytes).as_ref());
    let mut interrupt = control.interrupt()?;
    let mut now = control.call("StartScrub", &asked)?;
    if args.background {
        return Ok(status(now));
    }
    let bar = output::bytes_bar(common, "scrubbing");
    loop {
        bar.set_length(now["BytesTotal"].as_u64().unwrap_or(0));
        bar.set_position(now["BytesDone"].as_u64().unwrap_or(0));
        match text(&now, "Status").as_str() {
            "Running" => {}
            "Finished" => break,
            "Failed" => return Err(failed(&text(&now, "ErrorMessage"))),
            _ => return Err(cancelled()),
        }
        if control.pause(POLL, &mut interrupt) {
            control.call("CancelScrub", &Parameters::new())?;
            return Err(cancelled());
        }
        now = control.call("ShowScrub", &Parameters::new())?;
    }
    bar.finish_and_clear();
    Ok(result(of_the_daemon(&now)))
}

/// How far it is, or what it found.
fn status(mut view: Value) -> Report {
    let state = text(&view, "Status");
    let size = |field: &str| Size::new(view[field].as_u64().unwrap_or(0)).to_string();
    let told = match state.as_str() {
        "Running" => format!("running: {} of {}", size("BytesDone"), size("BytesTotal")),
        "Finished" => return result(of_the_daemon(&view)),
        "Failed" => format!("failed: {}", text(&view, "ErrorMessage")),
        "Cancelled" => return cut_short(&view, true),
        _ => "no scrub is known; `reinit scrub` starts one".into(),
    };
    if let Some(fields) = view.as_object_mut() {
        fields.remove("RequestId");
    }
    Report::done(view, vec![state], told)
}

fn cancel(control: &Control) -> Result<Report, Failure> {
    let view = control.call("CancelScrub", &Parameters::new())?;
    let was_running = text(&view, "Status") == "Cancelled";
    Ok(if was_running { cut_short(&view, false) } else { status(view) })
}

/// What a scrub that did not come to its end found so far. For who stopped it just now that is no
/// failure: it did what it was asked.
fn cut_short(view: &Value, damage_fails: bool) -> Report {
    let size = |field: &str| Size::new(view[field].as_u64().unwrap_or(0)).to_string();
    let mut document = of_the_daemon(view);
    for field in ["Status", "BytesDone", "BytesTotal"] {
        document[field] = view[field].clone();
    }
    let findings = document["Findings"].as_array().cloned().unwrap_or_default();
    let (done, total, count) = (size("BytesDone"), size("BytesTotal"), findings.len());
    let told = format!(
        "stopped after {done} of {total}, damage found in {count} places; the next scrub goes on from there"
    );
    if findings.is_empty() || !damage_fails {
        return Report::done(document, vec!["Cancelled".into()], told);
    }
    output::note(&format!("reinit: {told}"));
    table(document, &findings)
}

/// The document, from the daemon's answer.
fn of_the_daemon(answer: &Value) -> Value {
    let findings =
        answer["Findings"]["ScrubFinding"].as_array().into_iter().flatten().map(|found| {
            json!({
                "LayerId": found["LayerId"],
                "Offset": found["Offset"],
                "Kind": found["Kind"],
                "Affects": found["Affects"]["Resource"],
            })
        });
    json!({
        "Layers": answer["Layers"],
        "LayersWithoutHashes": answer["LayersWithoutHashes"],
        "Clusters": answer["Clusters"],
        "Bytes": answer["Bytes"],
        "Findings": findings.collect::<Vec<_>>(),
    })
}

fn right_here(places: &Places, common: &Common, args: &ScrubArgs) -> Result<Report, Failure> {
    serve::log("warn")?;
    let store = daemon::open_store(places)?;
    let mut options = Scrub::default();
    if let Some(rate) = args.rate {
        options.rate = Some(ByteLength::new(rate.bytes())).filter(|rate| rate.get() > 0);
    }
    let watch = Watch { bar: output::bytes_bar(common, "scrubbing"), stop: AtomicBool::new(false) };
    let scrubbed = thread::scope(|scope| {
        let scrub = scope.spawn(|| store.scrub(&options, &watch));
        let watched = watch.until(|| scrub.is_finished());
        let scrubbed = scrub.join().map_err(|_| failed("it panicked"))?;
        watched?;
        match scrubbed {
            Ok(report) => Ok(report),
            Err(StoreError::Cancelled) => Err(cancelled()),
            Err(error) => Err(anyhow::Error::new(error).context("scrubbing the store").into()),
        }
    });
    watch.bar.finish_and_clear();
    Ok(result(of_the_store(&scrubbed?)))
}

/// The document, from the store's report.
fn of_the_store(report: &ScrubReport) -> Value {
    let finding = |found: &ScrubFinding| {
        json!({
            "LayerId": found.layer.to_string(),
            "Offset": found.offset.map(|offset| offset.get()),
            "Kind": found.kind.name(),
            "Affects": found.affects(),
        })
    };
    json!({
        "Layers": report.layers,
        "LayersWithoutHashes": report.unhashed,
        "Clusters": report.clusters,
        "Bytes": report.bytes.get(),
        "Findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

/// What was compared, and what is wrong.
fn result(document: Value) -> Report {
    let count = |field: &str| document[field].as_u64().unwrap_or(0);
    let compared = format!(
        "{} of {} layers compared with their hashes",
        Size::new(count("Bytes")),
        count("Layers")
    );
    let findings = document["Findings"].as_array().cloned().unwrap_or_default();
    if findings.is_empty() {
        return Report::done(document, Vec::new(), format!("{compared}: nothing is wrong"));
    }
    output::note(&format!(
        "reinit: the scrub found damage in {} places; restore what stands on it from a backup",
        findings.len()
    ));
    table(document, &findings)
}

fn table(document: Value, findings: &[Value]) -> Report {
    let rows = findings.iter().map(row).collect();
    Report::list(document, &["LAYER", "OFFSET", "KIND", "AFFECTS"], rows).failing()
}

fn row(found: &Value) -> Vec<String> {
    let affected = found["Affects"].as_array().into_iter().flatten();
    let affected: Vec<&str> = affected.filter_map(Value::as_str).collect();
    vec![text(found, "LayerId"), text(found, "Offset"), text(found, "Kind"), affected.join(" ")]
}

fn cancelled() -> Failure {
    Failure::local("Cancelled", "the scrub was stopped; the next one goes on from there")
}

fn failed(why: &str) -> Failure {
    Failure::local("OperationFailed", format!("the scrub failed: {why}"))
}

/// Shows how far it is, and stops it at Ctrl-C.
struct Watch {
    bar: ProgressBar,
    stop: AtomicBool,
}

impl Watch {
    fn until(&self, ended: impl Fn() -> bool) -> Result<(), Failure> {
        let watched = self.watch(ended);
        if watched.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        watched
    }

    fn watch(&self, ended: impl Fn() -> bool) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("watching for Ctrl-C")?.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).context("watching for Ctrl-C")?;
            while !ended() {
                tokio::select! {
                    // A second one ends it at once; the cursor was made for that too.
                    _ = interrupt.recv() => if self.stop.swap(true, Ordering::Relaxed) { process::exit(1) },
                    () = tokio::time::sleep(POLL) => {}
                }
            }
            Ok(())
        })
    }
}

impl Progress for Watch {
    fn advanced(&self, done: ByteLength, total: ByteLength) {
        self.bar.set_length(total.get());
        self.bar.set_position(done.get());
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
