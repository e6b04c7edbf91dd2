//! How does the front stand many clients at once, and long lists?
//!
//! Each client resets a disk of its own again and again: its instance is stopped and it was written once, so
//! that every call is a reset with all it takes. The clients are one thread on the machine of the
//! daemon, so what they take of the processors is missing there. What the audit log costs is asked of
//! two fronts in this process over one cloud, for the daemon's cannot be switched off; they have
//! no exports to close, and nothing else is different.

mod pages;

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::Context as _;
use ecs_http::AuditPlace;
use tempfile::TempDir;

use super::{Findings, Scope};
use crate::{
    MIB,
    daemon::Daemon,
    filesystem::Place,
    http::{Key, Prepared},
    library::Library,
    load::{self, Loaded},
    ratio,
    samples::{Samples, Unit},
    table::{Budget, Finding},
};

/// The fewest resets a second with 64 clients.
const RATE_AT_LEAST: f64 = 2_000.0;
/// The most seconds that 99 of 100 resets take with 256 clients.
const SLOWEST_AT_MOST: f64 = 0.05;
/// Longer than the header of a head lags behind a reset.
const REST: Duration = Duration::from_millis(150);

pub(super) fn ask(scope: &Scope, place: &Place) -> anyhow::Result<Findings> {
    let program = scope.program()?;
    let folder = place.folder()?;
    let store = folder.path().join("store");
    let library = Library::on_new_store(&store)?;
    let (some, many) = (scope.size(64, 8), scope.size(256, 16));
    let bench = Bench {
        place,
        rounds: scope.rounds,
        resets: scope.size(6_400, 160),
        key: library.key()?,
        disks: library.make_stopped_instances(many)?,
    };
    let listed = scope.size(10_000, 400);
    library.make_disks(listed - many)?;
    let mut found = vec![bench.audit_log(&library, &folder, some)?];
    library.close();

    let daemon = Daemon::start(&program, &store)?;
    let rate = Some(Budget::AtLeast(RATE_AT_LEAST));
    found.extend(bench.clients(&daemon, some, rate, None)?);
    let slowest = Some(Budget::AtMost(SLOWEST_AT_MOST));
    found.extend(bench.clients(&daemon, many, None, slowest)?);
    found.extend(pages::ask(scope, &daemon, &bench.key, listed)?);
    daemon.stop()?;
    Ok(found)
}

struct Bench<'p> {
    place: &'p Place,
    rounds: usize,
    /// In a round, by all clients together.
    resets: usize,
    key: Key,
    disks: Vec<String>,
}

impl Bench<'_> {
    /// So many clients of a daemon, in every round: resets a second, and the slowest hundredth.
    fn clients(
        &self,
        daemon: &Daemon,
        clients: usize,
        rate: Option<Budget>,
        slowest: Option<Budget>,
    ) -> anyhow::Result<Findings> {
        let (mut rates, mut p99, mut groups) =
            (Samples::default(), Samples::default(), Samples::default());
        for round in 0..=self.rounds {
            let before = Ledger::of(daemon)?;
            let loaded = self.load(daemon.http(), clients)?;
            let after = Ledger::of(daemon)?;
            if round > 0 {
                rates.add(number(loaded.answers.values().len())? / loaded.took);
                p99.add(loaded.answers.p99());
                groups.add((after.records - before.records) / (after.syncs - before.syncs));
            }
        }
        let told = format!("{clients} clients on this machine");
        let shared = format!("{told}, signed resets: {:.0} a sync", groups.median());
        Ok(vec![
            (shared, Finding::Measured { ours: rates, unit: Unit::PerSecond, budget: rate }),
            (
                format!("{told}, the slowest hundredth"),
                Finding::Measured { ours: p99, unit: Unit::Seconds, budget: slowest },
            ),
        ])
    }

    /// The same load on a front with an audit log and on one without, in turn.
    fn audit_log(
        &self,
        library: &Library,
        folder: &TempDir,
        clients: usize,
    ) -> anyhow::Result<(String, Finding)> {
        let at = |name: &str| folder.path().join(name);
        let audit = AuditPlace { path: at("audit.jsonl"), file_bytes: 16 * MIB, files_kept: 8 };
        let with = library.serve(&at("run-with"), Some(audit))?;
        let without = library.serve(&at("run-without"), None)?;
        let sides = [with.http(), without.http()];
        let samples = ratio::interleave(self.rounds, &sides, |side| {
            let loaded = self.load(side, clients)?;
            Ok(loaded.took / number(loaded.answers.values().len())?)
        })?;
        with.stop()?;
        without.stop()?;
        let finding = Finding::Compared {
            ours: samples[0].clone(),
            peer: ("without an audit log", samples[1].clone()),
            at_most: None,
        };
        Ok((format!("{clients} clients, time per reset with an audit log"), finding))
    }

    /// One round of resets.
    fn load(&self, server: SocketAddr, clients: usize) -> anyhow::Result<Loaded> {
        let each = self.resets / clients;
        let signed = |disk: &String| Prepared::signed(&self.key, "ReInitDisk", &[("DiskId", disk)]);
        let of_client = |disk| (0..each).map(|_| signed(disk)).collect();
        let requests: Vec<_> = self.disks.iter().take(clients).map(of_client).collect();
        self.place.settle()?;
        thread::sleep(REST);
        load::run(server, &requests)
    }
}

/// What a daemon's ledger has done since its start.
struct Ledger {
    syncs: f64,
    records: f64,
}

impl Ledger {
    fn of(daemon: &Daemon) -> anyhow::Result<Self> {
        let page = daemon.control()?.ask(&Prepared::page("/metrics"))?;
        let page = String::from_utf8(page)?;
        let sample = |name: &str| {
            let mut lines = page.lines().filter_map(|line| line.split_once(' '));
            let (_, value) = lines.find(|(sample, _)| *sample == name).context("no such metric")?;
            anyhow::Ok(value.parse()?)
        };
        Ok(Self {
            syncs: sample("reinit_ledger_group_records_count")?,
            records: sample("reinit_ledger_group_records_sum")?,
        })
    }
}

fn number(count: usize) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}
