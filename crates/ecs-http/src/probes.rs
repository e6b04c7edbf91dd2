//! The pages for machines: alive, ready, metrics.
//!
//! What must always hold: they need no signature and tell nothing of any account's resources but sums;
//! being alive never depends on the store, so that a slow disk gets nobody restarted.
//! Left to others: counting requests (`metering`).

use axum::{body::Body, extract::State, http::Response};
use cloud::StoreUsage;

use crate::{front::Front, metering::Metering, response};

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
pub(crate) async fn metrics(State(front): State<Front>) -> Response<Body> {
    if let Some(usage) = usage(&front).await {
        gauges(front.metering(), &usage);
    }
    response::plain(200, METRICS, front.metering().render())
}

async fn usage(front: &Front) -> Option<StoreUsage> {
    let cloud = front.cloud().clone();
    let usage = front.run(Some(front.limits().answer_within), move || cloud.usage()).await.ok()?;
    usage.inspect_err(|error| tracing::warn!(%error, "the store cannot be asked")).ok()
}

/// All states are set each time, so that one nobody is in any more shows zero.
fn gauges(metering: &Metering, usage: &StoreUsage) {
    let disk_states = ["Creating", "Available", "Attaching", "In_use", "Detaching", "ReIniting"];
    let instance_states = ["Pending", "Starting", "Running", "Stopping", "Stopped"];
    for (name, states, counts) in [
        ("reinit_disks", disk_states.as_slice(), &usage.disks),
        ("reinit_instances", instance_states.as_slice(), &usage.instances),
    ] {
        for state in states {
            let count = counts.get(*state).copied().unwrap_or(0);
            metering.gauge(name, Some(("status", (*state).to_owned())), number(count));
        }
    }
    for (name, value) in [
        ("reinit_snapshots", usage.snapshots),
        ("reinit_images", usage.images),
        ("reinit_store_free_bytes", usage.space.free.get()),
        ("reinit_store_total_bytes", usage.space.total.get()),
        ("reinit_store_live_bytes", usage.totals.live.get()),
        ("reinit_store_stale_bytes", usage.totals.stale.get()),
        ("reinit_store_layer_bytes", usage.totals.layers.get()),
        ("reinit_store_unmeasured_disks", usage.totals.unmeasured_disks),
        ("reinit_ledger_commits", usage.counters.ledger_commits),
        ("reinit_ledger_records", usage.counters.ledger_records),
    ] {
        metering.gauge(name, None, number(value));
    }
}

/// A gauge is a float; above 2^53 it rounds, which no reader of bytes minds.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn number(value: u64) -> f64 {
    value as f64
}
