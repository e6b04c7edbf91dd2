//! How long does a daemon with 1 000 disks of 1 TiB take to start, and how much memory has it then?
//!
//! The disks are registered (in catalog and ledger) and were never written. Each start is that of a
//! store that was stopped in order; the page cache is warm.

use super::{Findings, Scope};
use crate::{
    daemon::Daemon,
    filesystem::Place,
    http::Prepared,
    samples::{Samples, Unit},
    table::{Budget, Finding},
};

/// The longest start, in seconds.
const TIME_AT_MOST: f64 = 1.0;
/// The most memory, in MiB.
const MEMORY_AT_MOST: f64 = 200.0;

pub(super) fn ask(scope: &Scope, place: &Place) -> anyhow::Result<Findings> {
    let program = scope.program()?;
    let folder = place.folder()?;
    let store = folder.path().join("store");
    let count = scope.size(1000, 50);
    let daemon = Daemon::on_new_store(&program, &store)?;
    make_disks(&daemon, count)?;
    daemon.stop()?;
    let (mut times, mut memory) = (Samples::default(), Samples::default());
    for _ in 0..scope.rounds {
        let daemon = Daemon::start(&program, &store)?;
        times.add(daemon.ready_after);
        memory.add(daemon.resident_mebibytes()?);
        daemon.stop()?;
    }
    let measured = |ours, unit, most| {
        let budget = Some(Budget::AtMost(most));
        Finding::Measured { ours, unit, budget }
    };
    Ok(vec![
        (
            format!("until ready, {count} disks of 1 TiB"),
            measured(times, Unit::Seconds, TIME_AT_MOST),
        ),
        ("resident memory then".into(), measured(memory, Unit::Mebibytes, MEMORY_AT_MOST)),
    ])
}

fn make_disks(daemon: &Daemon, count: u32) -> anyhow::Result<()> {
    let mut control = daemon.control()?;
    for _ in 0..count {
        control.send(&Prepared::plain("CreateDisk", &[("Size", "1024")]))?;
    }
    Ok(())
}
