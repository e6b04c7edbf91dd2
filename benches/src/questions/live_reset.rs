//! How long until a running daemon's disk is back and its first block was read?
//!
//! Both daemons run all the time and keep their control connection; the disk is 10 GiB on a raw
//! image, written over NBD with the same dirt. "closed before": the clients left and the export was
//! closed (which flushes) before the clock starts; then the disk is reset, opened, connected to
//! and its first block read. "with the closing": the clock also runs while the export is closed.
//! The peer makes its new overlay within the clock; "made ahead": before it, as a script could that
//! knows when it will be asked. The block that was read is compared with the image after the clock
//! stopped, and the peer's old overlay is unlinked then.

use std::{
    fs::File,
    os::unix::{fs::FileExt as _, net::UnixStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use block_device::ByteOffset;
use nbd_server::client::NbdClient;

use super::{Findings, Scope};
use crate::{
    GIB, MIB,
    daemon::{Daemon, Instance},
    dirt::{Dirt, Random},
    filesystem::Place,
    http::{HttpClient, Prepared},
    peers::qemu_storage_daemon::StorageDaemon,
    ratio,
    samples::{Samples, Unit},
    table::Finding,
};

/// The largest ratio to qemu-storage-daemon.
const AT_MOST: f64 = 0.2;

/// How long a stop that goes on after its answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the export is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    Before,
    Within,
}

/// Who resets, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Ours: `ReInitDisk` with `AutoStartInstance`.
    OneCall,
    /// Ours: `ReInitDisk`, then `StartInstance`.
    TwoCalls,
    /// The peer: the new overlay is made within the clock.
    NewOverlay,
    /// The peer: it was made ahead.
    OverlayAhead,
}

type Side = (Way, Closing);

/// Which ways are set against each other.
const PAIRS: [(Way, Way); 3] = [
    (Way::OneCall, Way::NewOverlay),
    (Way::TwoCalls, Way::NewOverlay),
    (Way::OneCall, Way::OverlayAhead),
];

pub(super) fn ask(scope: &Scope, place: &Place) -> anyhow::Result<Findings> {
    let program = scope.program()?;
    let folder = place.folder()?;
    let image = make_image(folder.path())?;
    let daemon = Daemon::on_new_store(&program, &folder.path().join("store"))?;
    let instance = daemon.stopped_instance(&image)?;
    let peer = StorageDaemon::is_here()
        .then(|| StorageDaemon::start(folder.path(), &image))
        .transpose()?;
    let (control, steps) = (daemon.control()?, Steps::default());
    let mut bench = Bench { control, daemon, instance, peer, image, steps };
    let mut found = Vec::new();
    for dirt in [Dirt::NONE, Dirt::SOME] {
        for closing in [Closing::Before, Closing::Within] {
            found.extend(bench.compare(scope.rounds, place, dirt, closing)?);
        }
    }
    found.extend(bench.steps.findings());
    bench.daemon.stop()?;
    Ok(found)
}

struct Bench {
    daemon: Daemon,
    control: HttpClient<UnixStream>,
    instance: Instance,
    peer: Option<StorageDaemon>,
    image: PathBuf,
    steps: Steps,
}

/// Where our time goes: the steps of [`Way::TwoCalls`].
#[derive(Default)]
struct Steps {
    reset: Samples,
    start: Samples,
    read: Samples,
}

impl Steps {
    fn findings(self) -> [(String, Finding); 3] {
        let named = [
            ("of it the call ReInitDisk", self.reset),
            ("of it the call StartInstance", self.start),
            ("of it connecting and reading", self.read),
        ];
        named.map(|(name, ours)| {
            (name.into(), Finding::Measured { ours, unit: Unit::Seconds, budget: None })
        })
    }
}

impl Bench {
    fn compare(
        &mut self,
        rounds: usize,
        place: &Place,
        dirt: Dirt,
        closing: Closing,
    ) -> anyhow::Result<Findings> {
        let mut ways = vec![Way::OneCall, Way::TwoCalls];
        if self.peer.is_some() {
            ways.extend([Way::NewOverlay, Way::OverlayAhead]);
        }
        let samples = ratio::interleave(rounds, &ways, |way| {
            place.settle()?;
            match way {
                Way::OneCall | Way::TwoCalls => self.our_round(dirt, (way, closing)),
                Way::NewOverlay | Way::OverlayAhead => self.peer_round(dirt, (way, closing)),
            }
        })?;
        let of = |way| ways.iter().position(|known| *known == way).map(|at| &samples[at]);
        let row = |(ours, peer)| {
            let finding = finding(of(ours)?, of(peer));
            Some((case(ours, peer, closing, dirt), finding))
        };
        Ok(PAIRS.into_iter().filter_map(row).collect())
    }

    fn our_round(&mut self, dirt: Dirt, (way, closing): Side) -> anyhow::Result<f64> {
        let Self { control, instance, daemon, steps, .. } = self;
        let socket = daemon.nbd_socket();
        insist(control, &instance.start())?;
        let mut client = NbdClient::connect_unix(&socket, &instance.disk)?;
        dirt.write_over(&mut client)?;
        client.disconnect()?;
        if closing == Closing::Before {
            control.send(&instance.stop())?;
            wait_until_stopped(control, instance)?;
        }
        let begun = Instant::now();
        if closing == Closing::Within {
            control.send(&instance.stop())?;
        }
        let (reset, started);
        if way == Way::OneCall {
            insist(control, &instance.reset_and_start())?;
            (reset, started) = (None, begun.elapsed());
        } else {
            let before = begun.elapsed();
            insist(control, &instance.reset())?;
            reset = Some((before, begun.elapsed()));
            control.send(&instance.start())?;
            started = begun.elapsed();
        }
        let (first, client) = first_read(&socket, &instance.disk)?;
        let took = begun.elapsed();
        if let Some((before, after)) = reset {
            steps.reset.add((after - before).as_secs_f64());
            steps.start.add((started - after).as_secs_f64());
            steps.read.add((took - started).as_secs_f64());
        }
        client.disconnect()?;
        check(&self.image, &first)?;
        control.send(&instance.stop())?;
        Ok(took.as_secs_f64())
    }

    fn peer_round(&mut self, dirt: Dirt, (way, closing): Side) -> anyhow::Result<f64> {
        let peer = self.peer.as_mut().context("the peer is absent")?;
        let socket = peer.socket();
        let mut client = NbdClient::connect_unix(&socket, StorageDaemon::EXPORT)?;
        dirt.write_over(&mut client)?;
        client.disconnect()?;
        if way == Way::OverlayAhead {
            peer.prepare()?;
        }
        if closing == Closing::Before {
            peer.close()?;
        }
        let begun = Instant::now();
        if closing == Closing::Within {
            peer.close()?;
        }
        if way == Way::NewOverlay {
            peer.prepare()?;
        }
        peer.open()?;
        let (first, client) = first_read(&socket, StorageDaemon::EXPORT)?;
        let took = begun.elapsed().as_secs_f64();
        client.disconnect()?;
        peer.unlink_old();
        check(&self.image, &first)?;
        Ok(took)
    }
}

/// Waits for the end of a stop that went on after its answer.
fn wait_until_stopped(
    control: &mut HttpClient<UnixStream>,
    instance: &Instance,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !instance.is_stopped(&control.send(&instance.describe())?) {
        ensure!(begun.elapsed() < PATIENCE, "the instance does not stop");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Sends a request until a stop that went on after its answer is over.
fn insist(control: &mut HttpClient<UnixStream>, request: &Prepared) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match control.send(request) {
            Err(error)
                if error.to_string().contains("IncorrectInstanceStatus")
                    && begun.elapsed() < PATIENCE =>
            {
                thread::sleep(Duration::from_millis(1));
            }
            other => return other.map(drop),
        }
    }
}

fn first_read(socket: &Path, export: &str) -> anyhow::Result<(Vec<u8>, NbdClient)> {
    let mut client = NbdClient::connect_unix(socket, export)?;
    let mut block = vec![0; 4096];
    client.read(&mut block, ByteOffset::ZERO)?;
    Ok((block, client))
}

fn check(image: &Path, block: &[u8]) -> anyhow::Result<()> {
    let mut expected = vec![0; block.len()];
    File::open(image)?.read_exact_at(&mut expected, 0)?;
    ensure!(block == expected, "the first block is not that of the image after a reset");
    Ok(())
}

/// 10 GiB with 64 MiB of data at its beginning.
fn make_image(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("image.raw");
    let file = File::create_new(&path)?;
    let (mut random, mut piece) = (Random::new(1), vec![0; usize::try_from(MIB)?]);
    for place in 0..64 {
        random.fill(&mut piece);
        file.write_all_at(&piece, place * MIB)?;
    }
    file.set_len(10 * GIB)?;
    file.sync_all()?;
    Ok(path)
}

fn case(ours: Way, peer: Way, closing: Closing, dirt: Dirt) -> String {
    let calls =
        if ours == Way::OneCall { "ReInitDisk that starts" } else { "ReInitDisk, StartInstance" };
    let closing = match closing {
        Closing::Before => "closed before",
        Closing::Within => "with the closing",
    };
    let ahead = if peer == Way::OverlayAhead { "; the peer's overlay made ahead" } else { "" };
    format!("{calls}; {closing}; {}{ahead}", dirt.show())
}

fn finding(ours: &Samples, peer: Option<&Samples>) -> Finding {
    let ours = ours.clone();
    match peer {
        Some(peer) => Finding::Compared {
            ours,
            peer: (StorageDaemon::NAME, peer.clone()),
            at_most: Some(AT_MOST),
        },
        None => {
            let absent = format!("{} is not on this machine", StorageDaemon::NAME);
            Finding::Alone { ours, absent }
        }
    }
}
