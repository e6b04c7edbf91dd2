//! The pages for machines: alive, ready, metrics.
//!
//! What must always hold: they need no signature and tell nothing of any account's resources but sums;
//! single disks are told through the control socket only. Being alive never depends on the store, so
//! that a slow disk gets nobody restarted.
//! Left to others: counting requests (`metering`), the form of the text (`exposition`).

use axum::{body::Body, extract::State, http::Response};
use block_device::{ExportCounters, Operation, RequestTimes};
use block_store::HistogramView;
use cloud::StoreUsage;

use crate::{
    exposition::{Kind, Label, Page, Unit},
    front::{Door, Front, Manner},
    metering::Metering,
    response,
};

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The process answers.
pub(crate) async fn healthz() -> Response<Body> {
    response::plain(200, TEXT, "ok\n".into())
}

/// The store can be asked.
pub(crate) async fn readyz(State(front): State<Front>) -> Response<Body> {
    match usage(&front).await {
        Some(_) => response::plain(200, TEXT, "ready\n".into()),
        None => response::plain(503, TEXT, "not ready\n".into()),
    }
}

/// Counters and gauges, as Prometheus reads them.
pub(crate) async fn metrics(State((front, door)): State<(Front, Door)>) -> Response<Body> {
    let mut below = Page::default();
    if let Some(usage) = usage(&front).await {
        holdings(&mut below, &usage);
        resets(&mut below, front.metering(), &usage);
        exports(&mut below, door, &usage);
    }
    response::plain(200, METRICS, front.metering().render() + &below.into_text())
}

async fn usage(front: &Front) -> Option<StoreUsage> {
    let cloud = front.cloud().clone();
    let usage = front
        .run(Manner::Aside(Some(front.limits().answer_within)), move || cloud.usage())
        .await
        .ok()?;
    usage.inspect_err(|error| tracing::warn!(%error, "the store cannot be asked")).ok()
}

/// What there is, and the space it takes. All states are told each time, so that one nobody is in
/// shows zero.
fn holdings(page: &mut Page, usage: &StoreUsage) {
    let disk_states = ["Creating", "Available", "Attaching", "In_use", "Detaching", "ReIniting"];
    let instance_states = ["Pending", "Starting", "Running", "Stopping", "Stopped"];
    for (name, help, states, counts) in [
        ("reinit_disks", "Disks by state.", disk_states.as_slice(), &usage.disks),
        ("reinit_instances", "Instances by state.", instance_states.as_slice(), &usage.instances),
    ] {
        page.family(name, Kind::Gauge, help);
        for state in states {
            let count = counts.get(*state).copied().unwrap_or(0);
            page.sample(name, &[("status", *state)], count);
        }
    }
    let (space, totals) = (&usage.space, &usage.totals);
    for (name, help, value) in [
        ("reinit_snapshots", "Snapshots.", usage.snapshots),
        ("reinit_images", "Images.", usage.images),
        ("reinit_store_free_bytes", "Free space of the file system.", space.free.get()),
        ("reinit_store_total_bytes", "Size of the file system.", space.total.get()),
        ("reinit_store_live_bytes", "Blocks of open disks that count.", totals.live.get()),
        ("reinit_store_stale_bytes", "What open disks take besides.", totals.stale.get()),
        ("reinit_store_layer_bytes", "What open sealed layers take.", totals.layers.get()),
        ("reinit_store_unmeasured_disks", "Disks not opened yet.", totals.unmeasured_disks),
    ] {
        page.family(name, Kind::Gauge, help);
        page.sample(name, &[], value);
    }
}

/// Where the time of resets goes, and how well the ledger shares its syncs.
fn resets(page: &mut Page, metering: &Metering, usage: &StoreUsage) {
    let (counters, answering) = (&usage.counters, metering.reset_answers());
    page.histograms(
        "reinit_reset_phase_seconds",
        "Time of resets by phase; those of one call together.",
        Unit::Nanoseconds,
        &[
            (&[("phase", "close_exports")], &usage.reset_closing),
            (&[("phase", "open")], &counters.reset_opening),
            (&[("phase", "ledger")], &counters.reset_ledger),
            (&[("phase", "answer")], &answering),
        ],
    );
    page.histograms(
        "reinit_ledger_group_records",
        "Records of the ledger that shared one sync.",
        Unit::Count,
        &[(&[], &counters.ledger_groups)],
    );
}

/// What is told of an export: name, kind, help, value.
type Told = (&'static str, Kind, &'static str, fn(&ExportCounters) -> u64);

const OF_EXPORTS: [Told; 11] = [
    ("connections_open", Kind::Gauge, "NBD connections open right now.", |c| c.connections),
    ("requests_under_way", Kind::Gauge, "NBD requests taken and not yet answered.", |c| {
        c.under_way
    }),
    ("connections_total", Kind::Counter, "NBD connections ever opened.", |c| c.connected),
    ("reads_total", Kind::Counter, "NBD reads.", |c| c.reads),
    ("read_bytes_total", Kind::Counter, "Bytes asked by NBD reads.", |c| c.bytes_read),
    ("writes_total", Kind::Counter, "NBD writes.", |c| c.writes),
    ("written_bytes_total", Kind::Counter, "Bytes sent by NBD writes.", |c| c.bytes_written),
    ("flushes_total", Kind::Counter, "NBD flushes.", |c| c.flushes),
    ("zeroings_total", Kind::Counter, "NBD trims and writes of zeros.", |c| c.zeroings),
    ("zeroed_bytes_total", Kind::Counter, "Bytes asked by them.", |c| c.bytes_zeroed),
    ("errors_total", Kind::Counter, "NBD requests answered with an error.", |c| c.errors),
];

/// The sums for everybody; who is the operator also sees each export that is open, and only as long
/// as it is. Those start anew with each opening, but for resets; the sums never go back.
fn exports(page: &mut Page, door: Door, usage: &StoreUsage) {
    let activity = &usage.activity;
    let open = u64::try_from(activity.exports.len()).unwrap_or(u64::MAX);
    page.family("reinit_exports", Kind::Gauge, "Disks open to clients.");
    page.sample("reinit_exports", &[], open);
    let total = activity.total();
    for (name, kind, help, value) in OF_EXPORTS {
        let name = format!("reinit_nbd_{name}");
        page.family(&name, kind, help);
        page.sample(&name, &[], value(&total));
    }
    for (name, kind, help, value) in OF_EXPORTS.iter().filter(|_| door == Door::Control) {
        let name = format!("reinit_export_{name}");
        page.family(&name, *kind, help);
        for (disk, counters) in &activity.exports {
            page.sample(&name, &[("disk", disk.as_str())], value(counters));
        }
    }
    let times = times_of(&total).map(|(operation, times)| ([("operation", operation)], times));
    request_times(page, "reinit_nbd_request_seconds", "of all exports", times);
    if door == Door::Control {
        let of_each = activity.exports.iter().flat_map(|(disk, counters)| {
            let labels = |operation| [("disk", disk.as_str()), ("operation", operation)];
            times_of(counters).map(move |(operation, times)| (labels(operation), times))
        });
        request_times(page, "reinit_export_request_seconds", "of one open export", of_each);
        let name = "reinit_export_resets_total";
        page.family(name, Kind::Counter, "Resets of the disk since it was made.");
        for (disk, resets) in &usage.resets {
            page.sample(name, &[("disk", disk.as_str())], *resets);
        }
    }
}

/// What was asked of an export at all, and how long it took.
fn times_of(counters: &ExportCounters) -> impl Iterator<Item = (&'static str, &RequestTimes)> {
    let named = Operation::ALL.into_iter().map(Operation::name).zip(&counters.times);
    named.filter(|(_, times)| times.counts.iter().any(|count| *count > 0))
}

fn request_times<'t, const LABELS: usize>(
    page: &mut Page,
    name: &str,
    whose: &str,
    times: impl Iterator<Item = ([Label<'t>; LABELS], &'t RequestTimes)>,
) {
    let view = |times: &RequestTimes| HistogramView {
        bounds: &RequestTimes::BOUNDS,
        counts: times.counts.to_vec(),
        sum: times.nanoseconds,
    };
    let members: Vec<_> = times.map(|(labels, times)| (labels, view(times))).collect();
    let members: Vec<_> = members.iter().map(|(labels, view)| (&labels[..], view)).collect();
    let help = format!("Time of requests {whose} that were answered without an error.");
    page.histograms(name, &help, Unit::Nanoseconds, &members);
}
