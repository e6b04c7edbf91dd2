//! What does a signed `ReInitDisk` over HTTP cost beyond the engine?
//!
//! One request at a time on a connection that is kept, signed before the clock starts, in turn with
//! resets of a store of our own on the same file system. Both disks have a head; both sides rest
//! between rounds until headers are rewritten.

use std::{
    fs::File,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use block_device::{BlockDevice as _, ByteOffset, DiskId, Durability};
use nbd_server::client::NbdClient;

use super::{Findings, Scope};
use crate::{
    GIB,
    daemon::{Daemon, Instance},
    engine::Engine,
    filesystem::Place,
    http::{HttpClient, Key, Prepared},
    ratio,
    samples::{Samples, Unit},
    table::{Budget, Finding},
};

/// The most that HTTP, signature, rules and locks may add, in seconds.
const AT_MOST: f64 = 0.000_5;

/// Longer than the header of a head lags behind a reset.
const REST: Duration = Duration::from_millis(80);

/// How many more rounds than elsewhere: one is short, and the difference is small.
const MORE_ROUNDS: usize = 5;

#[derive(Clone, Copy)]
enum Side {
    Http,
    Engine,
}

pub(super) fn ask(scope: &Scope, place: &Place) -> anyhow::Result<Findings> {
    let program = scope.program()?;
    let folder = place.folder()?;
    let image = folder.path().join("image.raw");
    File::create_new(&image)?.set_len(GIB)?;
    let daemon = Daemon::on_new_store(&program, &folder.path().join("store"))?;
    let instance = daemon.stopped_instance(&image)?;
    write_once(&daemon, &instance)?;

    let engine = Engine::on(place)?;
    let disk = engine.disk("d-1", GIB)?;
    engine.open(&disk)?.write_at(&[1; 4096], ByteOffset::ZERO, Durability::ForceUnitAccess)?;
    let client = HttpClient::tcp(daemon.http())?;
    let mut bench = Bench { client, key: daemon.key()?, instance, engine, disk };
    let samples = ratio::interleave(
        scope.rounds * MORE_ROUNDS,
        &[Side::Http, Side::Engine],
        |side| match side {
            Side::Http => bench.http(),
            Side::Engine => bench.engine(),
        },
    )?;
    daemon.stop()?;
    Ok(findings(&samples[0], &samples[1]))
}

fn findings(http: &Samples, engine: &Samples) -> Vec<(String, Finding)> {
    let pairs = http.values().iter().zip(engine.values());
    let difference = pairs.map(|(http, engine)| http - engine).collect();
    let compared = Finding::Compared {
        ours: http.clone(),
        peer: ("the engine alone", engine.clone()),
        at_most: None,
    };
    let budget = Some(Budget::AtMost(AT_MOST));
    let added = Finding::Measured { ours: difference, unit: Unit::Seconds, budget };
    vec![
        ("signed ReInitDisk, connection kept".into(), compared),
        ("what HTTP adds, round by round".into(), added),
    ]
}

/// The disk gets a head.
fn write_once(daemon: &Daemon, instance: &Instance) -> anyhow::Result<()> {
    let mut control = daemon.control()?;
    control.send(&instance.start())?;
    let mut client = NbdClient::connect_unix(&daemon.nbd_socket(), &instance.disk)?;
    client.write(&[1; 4096], ByteOffset::ZERO, Durability::ForceUnitAccess)?;
    client.disconnect()?;
    control.send(&instance.stop()).map(drop)
}

struct Bench {
    client: HttpClient<TcpStream>,
    key: Key,
    instance: Instance,
    engine: Engine,
    disk: DiskId,
}

impl Bench {
    fn http(&mut self) -> anyhow::Result<f64> {
        thread::sleep(REST);
        let request = Prepared::signed(&self.key, "ReInitDisk", &[("DiskId", &self.instance.disk)]);
        let begun = Instant::now();
        self.client.send(&request)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn engine(&self) -> anyhow::Result<f64> {
        self.engine.store().wait_for_background();
        thread::sleep(REST);
        self.engine.reset(&self.disk)
    }
}
