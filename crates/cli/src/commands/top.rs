//! `top`: what the daemon does right now: disks, exports, IOPS, bandwidth, resets.
//!
//! What must always hold: the terminal is as it was before, however this ends that a program can see
//! (Ctrl-C, SIGTERM, SIGHUP, a failure); a rate is what two looks differ by, over the time between them.
//! Left to others: what is counted (`/metrics` of the daemon, asked through the control socket).

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use crate::{
    args::{Common, TopArgs},
    control::Control,
    failure::Failure,
    output::{self, Report},
    size::Size,
};

/// How many exports a screen shows: those with most requests.
const SHOWN: usize = 40;

pub(crate) fn run(control: &Control, common: &Common, args: &TopArgs) -> Result<Report, Failure> {
    let mut end = control.watch_for_end()?;
    let pause = Duration::from_secs(args.interval.into());
    let on_a_screen = !args.once && !common.json && !common.quiet && io::stdout().is_terminal();
    let mut before = Look::take(control)?;
    if !on_a_screen {
        control.pause_until(pause, &mut end);
        return Ok(Look::take(control)?.since(&before).report());
    }
    let _screen = output::Screen::open();
    while !control.pause_until(pause, &mut end) {
        let now = Look::take(control)?;
        output::Screen::show(&now.since(&before).report().text);
        before = now;
    }
    Ok(Report::done(Value::Null, Vec::new(), ""))
}

/// The samples of one look at the daemon's counters.
#[derive(Debug)]
struct Look {
    taken: Instant,
    samples: BTreeMap<String, u64>,
}

impl Look {
    fn take(control: &Control) -> Result<Self, Failure> {
        let page = control.page("/metrics")?;
        Ok(Self { taken: Instant::now(), samples: samples(&page) })
    }

    fn value(&self, sample: &str) -> u64 {
        self.samples.get(sample).copied().unwrap_or(0)
    }

    fn since<'l>(&'l self, before: &'l Self) -> Interval<'l> {
        let millis = self.taken.duration_since(before.taken).as_millis();
        Interval { before, now: self, millis: u64::try_from(millis).unwrap_or(u64::MAX).max(1) }
    }
}

/// The samples that are whole numbers; all that is shown is one.
fn samples(page: &str) -> BTreeMap<String, u64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.rsplit_once(' '));
    pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

/// Two looks and the time between them.
#[derive(Debug)]
struct Interval<'l> {
    before: &'l Look,
    now: &'l Look,
    millis: u64,
}

impl Interval<'_> {
    /// How much a counter grew in a second. One that began anew in between counts from zero.
    fn rate(&self, sample: &str) -> u64 {
        let (now, before) = (self.now.value(sample), self.before.value(sample));
        let grown = now.checked_sub(before).unwrap_or(now);
        grown.saturating_mul(1000) / self.millis
    }

    /// The same of what was counted before the first look: nothing is known of one that was not there.
    fn rate_if_there(&self, sample: &str) -> u64 {
        if self.before.samples.contains_key(sample) { self.rate(sample) } else { 0 }
    }

    fn report(&self) -> Report {
        let exports = self.exports();
        let resets = "reinit_reset_phase_seconds_count{phase=\"ledger\"}";
        let document = json!({
            "Disks": self.states("reinit_disks"),
            "Instances": self.states("reinit_instances"),
            "Resets": self.now.value(resets),
            "ResetsPerSecond": self.rate(resets),
            "FreeBytes": self.now.value("reinit_store_free_bytes"),
            "LiveBytes": self.now.value("reinit_store_live_bytes"),
            "StaleBytes": self.now.value("reinit_store_stale_bytes"),
            "Exports": exports.iter().map(Export::document).collect::<Vec<_>>(),
        });
        let ids = exports.iter().map(|export| export.disk.clone()).collect();
        let text = self.text(&document, &exports);
        Report::done(document, ids, text)
    }

    fn states(&self, family: &str) -> Map<String, Value> {
        let states = self.now.samples.iter().filter_map(|(sample, count)| {
            let state = labelled(sample, family, "status")?;
            Some((state.to_owned(), (*count).into()))
        });
        states.collect()
    }

    /// Those with most requests first.
    fn exports(&self) -> Vec<Export> {
        let family = "reinit_export_connections_open";
        let disks: BTreeSet<&str> =
            self.now.samples.keys().filter_map(|sample| labelled(sample, family, "disk")).collect();
        let mut exports: Vec<_> = disks.into_iter().map(|disk| Export::of(self, disk)).collect();
        exports.sort_by_key(|export| std::cmp::Reverse(export.requests()));
        exports
    }

    fn text(&self, document: &Value, exports: &[Export]) -> String {
        let states = |field: &str| {
            let some = document[field].as_object().into_iter().flatten();
            let some = some.filter(|(_, count)| **count != 0);
            some.map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
        };
        let bytes = |field: &str| Size::new(document[field].as_u64().unwrap_or(0)).to_string();
        let rows = exports.iter().take(SHOWN).map(Export::row).collect();
        format!(
            "disks      {}\ninstances  {}\nresets     {} calls, {}/s\nspace      {} live, {} stale, {} free\n\n{}",
            states("Disks"),
            states("Instances"),
            document["Resets"],
            document["ResetsPerSecond"],
            bytes("LiveBytes"),
            bytes("StaleBytes"),
            bytes("FreeBytes"),
            output::table(&COLUMNS, rows),
        )
    }
}

const COLUMNS: [&str; 10] = [
    "Disk",
    "Connections",
    "Under way",
    "Reads/s",
    "Read/s",
    "Writes/s",
    "Written/s",
    "Flushes/s",
    "Resets",
    "Resets/s",
];

/// An open disk over an interval.
#[derive(Debug)]
struct Export {
    disk: String,
    connections: u64,
    under_way: u64,
    reads: u64,
    read_bytes: u64,
    writes: u64,
    written_bytes: u64,
    flushes: u64,
    resets: u64,
    resets_a_second: u64,
}

impl Export {
    fn of(interval: &Interval<'_>, disk: &str) -> Self {
        let sample = |what: &str| format!("reinit_export_{what}{{disk=\"{disk}\"}}");
        let (now, rate) = (
            |what: &str| interval.now.value(&sample(what)),
            |what: &str| interval.rate(&sample(what)),
        );
        Self {
            disk: disk.to_owned(),
            connections: now("connections_open"),
            under_way: now("requests_under_way"),
            reads: rate("reads_total"),
            read_bytes: rate("read_bytes_total"),
            writes: rate("writes_total"),
            written_bytes: rate("written_bytes_total"),
            flushes: rate("flushes_total"),
            resets: now("resets_total"),
            resets_a_second: interval.rate_if_there(&sample("resets_total")),
        }
    }

    fn requests(&self) -> u64 {
        self.reads + self.writes + self.flushes
    }

    fn document(&self) -> Value {
        json!({
            "DiskId": self.disk,
            "Connections": self.connections,
            "RequestsUnderWay": self.under_way,
            "ReadsPerSecond": self.reads,
            "ReadBytesPerSecond": self.read_bytes,
            "WritesPerSecond": self.writes,
            "WrittenBytesPerSecond": self.written_bytes,
            "FlushesPerSecond": self.flushes,
            "Resets": self.resets,
            "ResetsPerSecond": self.resets_a_second,
        })
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.disk.clone(),
            self.connections.to_string(),
            self.under_way.to_string(),
            self.reads.to_string(),
            Size::new(self.read_bytes).to_string(),
            self.writes.to_string(),
            Size::new(self.written_bytes).to_string(),
            self.flushes.to_string(),
            self.resets.to_string(),
            self.resets_a_second.to_string(),
        ]
    }
}

/// The value of the one label of a sample of this family.
fn labelled<'s>(sample: &'s str, family: &str, label: &str) -> Option<&'s str> {
    let rest = sample.strip_prefix(family)?.strip_prefix('{')?;
    rest.strip_prefix(label)?.strip_prefix("=\"")?.strip_suffix("\"}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(taken: Instant, page: &str) -> Look {
        Look { taken, samples: samples(page) }
    }

    #[test]
    fn a_rate_is_a_difference_over_the_time_between() {
        let begun = Instant::now();
        let disk = "reinit_export_reads_total{disk=\"d-1\"}";
        let open = "reinit_export_connections_open{disk=\"d-1\"} 3";
        let before = look(begun, &format!("# TYPE x counter\n{disk} 100\n{open}"));
        let now = look(begun + Duration::from_secs(2), &format!("{disk} 150\n{open}"));
        let document = now.since(&before).report().document;
        let export = &document["Exports"][0];
        assert_eq!(export["DiskId"], "d-1");
        assert_eq!((&export["ReadsPerSecond"], &export["Connections"]), (&json!(25), &json!(3)));
        // Closed and opened again in between: counted anew.
        let anew = look(begun + Duration::from_secs(4), &format!("{disk} 10\n{open}"));
        assert_eq!(anew.since(&now).rate(disk), 5);
    }

    #[test]
    fn resets_of_a_disk_are_counted_from_its_first_day_and_told_by_the_second() {
        let begun = Instant::now();
        let page = |resets: u64| {
            let open = "reinit_export_connections_open{disk=\"d-1\"} 0";
            format!("{open}\nreinit_export_resets_total{{disk=\"d-1\"}} {resets}")
        };
        let before = look(begun, "");
        let opened = look(begun + Duration::from_secs(2), &page(70));
        let later = look(begun + Duration::from_secs(4), &page(90));
        let told = |now: &Look, before: &Look| {
            let document = now.since(before).report().document;
            let export = &document["Exports"][0];
            (export["Resets"].as_u64(), export["ResetsPerSecond"].as_u64())
        };
        assert_eq!(told(&opened, &before), (Some(70), Some(0)), "it was closed at the first look");
        assert_eq!(told(&later, &opened), (Some(90), Some(10)));
    }
}
