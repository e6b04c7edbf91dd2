//! What the demo did: each step with its time and the bytes this process caused to be written.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{output, size::Size};

/// The steps so far.
#[derive(Debug, Default)]
pub(super) struct Steps(Vec<Step>);

#[derive(Debug)]
struct Step {
    name: String,
    time: Duration,
    /// None where the system does not count.
    written: Option<u64>,
}

/// A running step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    written: Option<u64>,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { began: Instant::now(), written: bytes_written() }
    }
}

impl Steps {
    pub(super) fn add(&mut self, name: &str, clock: Clock) {
        let time = clock.began.elapsed();
        let written =
            clock.written.zip(bytes_written()).map(|(before, now)| now.saturating_sub(before));
        self.0.push(Step { name: name.into(), time, written });
    }

    pub(super) fn table(&self) -> String {
        let rows = self.0.iter().map(|step| {
            let written =
                step.written.map_or_else(|| "?".into(), |bytes| Size::new(bytes).to_string());
            vec![step.name.clone(), milliseconds(step.time), written]
        });
        output::table(&["STEP", "TIME", "WRITTEN TO THE STORE"], rows.collect())
    }

    pub(super) fn document(&self) -> Value {
        let steps = self.0.iter().map(|step| {
            let micros = u64::try_from(step.time.as_micros()).unwrap_or(u64::MAX);
            json!({ "Step": step.name, "ElapsedMicros": micros, "BytesWritten": step.written })
        });
        steps.collect()
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// What the kernel counts as handed to storage by this process: the daemon of the demo is part of it.
fn bytes_written() -> Option<u64> {
    let counters = fs::read_to_string("/proc/self/io").ok()?;
    let line = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
    line.parse().ok()
}
