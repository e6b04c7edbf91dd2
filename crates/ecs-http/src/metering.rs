//! What is counted of requests, and how it is shown at `/metrics`.
//!
//! What must always hold: a label takes only values from lists of ours, so that no stranger can make
//! series without end; rendering and counting never stop each other for long.
//! Left to others: serving the page (`probes`).

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use block_store::{Histogram, HistogramView};
use metrics::{counter, histogram, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Upper bounds in seconds: a reset takes well under a millisecond, a client gives up after ten.
const BUCKETS: [f64; 13] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// What is there right now.
pub(crate) const CONNECTIONS_OPEN: &str = "reinit_http_connections_open";
pub(crate) const CALLS_WAITING: &str = "reinit_http_calls_waiting";
pub(crate) const CALLS_RUNNING: &str = "reinit_http_calls_running";

/// How often samples are folded into the histograms when nobody reads them.
pub(crate) const FOLD_EVERY: Duration = Duration::from_secs(5);

/// The counters of one front. Not the process's global recorder: two fronts count apart.
#[derive(Clone)]
pub(crate) struct Metering {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    /// From a durable reset to its answer.
    reset_answers: Arc<Histogram>,
}

impl Metering {
    pub(crate) fn new() -> Self {
        let builder =
            PrometheusBuilder::new().set_buckets(&BUCKETS).expect("the list is not empty");
        let recorder = Arc::new(builder.build_recorder());
        let handle = recorder.handle();
        with_local_recorder(recorder.as_ref(), describe);
        Self { recorder, handle, reset_answers: Arc::new(Histogram::of_times()) }
    }

    /// One request was answered. The code of a success is `OK`.
    pub(crate) fn answered(&self, action: &'static str, code: &'static str, elapsed: Duration) {
        with_local_recorder(self.recorder.as_ref(), || {
            counter!("reinit_http_requests_total", "action" => action, "code" => code).increment(1);
            histogram!("reinit_http_request_seconds", "action" => action)
                .record(elapsed.as_secs_f64());
        });
    }

    /// The answer to resets that were durable then is written.
    pub(crate) fn reset_answered(&self, durable: Instant) {
        self.reset_answers.observe_since(durable);
    }

    /// How long answers to resets took from their durability on, in nanoseconds.
    pub(crate) fn reset_answers(&self) -> HistogramView {
        self.reset_answers.view()
    }

    /// A handler panicked.
    pub(crate) fn panicked(&self) {
        with_local_recorder(self.recorder.as_ref(), || {
            counter!("reinit_http_panics_total").increment(1);
        });
    }

    /// A line of the audit log was written.
    pub(crate) fn audited(&self) {
        self.count("reinit_audit_lines_total");
    }

    /// A line of the audit log could not be written.
    pub(crate) fn audit_lost(&self) {
        self.count("reinit_audit_lost_total");
    }

    /// A stranger had his share of the audit log.
    pub(crate) fn audit_left_out(&self) {
        self.count("reinit_audit_left_out_total");
    }

    /// A client did not get through the handshake of TLS.
    pub(crate) fn handshake_failed(&self) {
        self.count("reinit_tls_handshakes_failed_total");
    }

    /// A connection was closed at once, for its address had its share.
    pub(crate) fn connection_refused(&self) {
        self.count("reinit_http_connections_refused_total");
    }

    fn count(&self, name: &'static str) {
        with_local_recorder(self.recorder.as_ref(), || counter!(name).increment(1));
    }

    /// A connection was opened.
    pub(crate) fn connected(&self) {
        with_local_recorder(self.recorder.as_ref(), || {
            counter!("reinit_http_connections_total").increment(1);
        });
    }

    /// Counts one more of what is there right now, until what this gives is dropped.
    pub(crate) fn hold(&self, name: &'static str) -> Held {
        with_local_recorder(self.recorder.as_ref(), || metrics::gauge!(name).increment(1.0));
        Held { metering: self.clone(), name }
    }

    pub(crate) fn fold(&self) {
        self.handle.run_upkeep();
    }

    pub(crate) fn render(&self) -> String {
        self.handle.render()
    }
}

/// One of what is counted while it is there.
#[derive(Debug)]
pub(crate) struct Held {
    metering: Metering,
    name: &'static str,
}

impl Drop for Held {
    fn drop(&mut self) {
        let recorder = self.metering.recorder.as_ref();
        with_local_recorder(recorder, || metrics::gauge!(self.name).decrement(1.0));
    }
}

fn describe() {
    for (name, told) in [
        (CONNECTIONS_OPEN, "Connections open right now, those of the operator among them."),
        (CALLS_WAITING, "Calls that wait for their turn."),
        (CALLS_RUNNING, "Calls being worked on, also those whose client no longer waits."),
    ] {
        metrics::describe_gauge!(name, told);
        metrics::gauge!(name).set(0.0);
    }
    // From the first look on, so that a rate over them is right.
    for name in [
        "reinit_audit_lines_total",
        "reinit_audit_lost_total",
        "reinit_audit_left_out_total",
        "reinit_http_connections_refused_total",
        "reinit_http_panics_total",
        "reinit_tls_handshakes_failed_total",
    ] {
        counter!(name).absolute(0);
    }
    metrics::describe_counter!(
        "reinit_http_requests_total",
        "Requests answered, by action and code."
    );
    metrics::describe_histogram!("reinit_http_request_seconds", "Time to answer, by action.");
    metrics::describe_counter!("reinit_http_panics_total", "Handlers that panicked.");
    metrics::describe_counter!("reinit_audit_lines_total", "Lines of the audit log written.");
    metrics::describe_counter!(
        "reinit_audit_lost_total",
        "Lines of the audit log that could not be written."
    );
    metrics::describe_counter!(
        "reinit_audit_left_out_total",
        "Refused calls of strangers beyond their share of the audit log."
    );
    metrics::describe_counter!(
        "reinit_tls_handshakes_failed_total",
        "TLS handshakes that failed or took too long."
    );
    metrics::describe_counter!("reinit_http_connections_total", "Connections accepted.");
    metrics::describe_counter!(
        "reinit_http_connections_refused_total",
        "Connections closed at once, for their address had its share."
    );
}

impl fmt::Debug for Metering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metering").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_counted_while_it_is() {
        let metering = Metering::new();
        let shown = |count: &str| {
            metering.render().lines().any(|line| line == format!("{CALLS_RUNNING} {count}"))
        };
        assert!(shown("0"), "{}", metering.render());
        let (one, other) = (metering.hold(CALLS_RUNNING), metering.hold(CALLS_RUNNING));
        assert!(shown("2"));
        drop(one);
        assert!(shown("1"));
        drop(other);
        assert!(shown("0"));
    }

    #[test]
    fn what_was_counted_is_shown() {
        let metering = Metering::new();
        metering.answered("ReInitDisk", "OK", Duration::from_micros(300));
        metering.answered("ReInitDisk", "InvalidDiskId.NotFound", Duration::from_micros(300));
        let page = metering.render();
        assert!(
            page.contains(r#"reinit_http_requests_total{action="ReInitDisk",code="OK"} 1"#),
            "{page}"
        );
        assert!(
            page.contains(
                r#"reinit_http_request_seconds_bucket{action="ReInitDisk",le="0.0005"} 2"#
            )
        );
    }
}
