//! Does a read cost the same however many snapshots a disk stands on, and does such a disk open fast?
//!
//! Each layer above the first holds one block of each cluster, so that every cluster is mixed from
//! many layers. All that is read is in the page cache: what is measured is finding it. Three ways:
//! over NBD, as users read; in the engine itself; and by plain system calls on as many sparse files,
//! which is what the kernel asks for having the bytes in many files. The peer is a chain of qcow2
//! overlays with the same writes.

mod chain;
mod plain_files;

use std::time::Instant;

use anyhow::{Context as _, ensure};
use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId};
use nbd_server::{
    Limits, NbdServer,
    client::{Answer, NbdClient, Request},
};

use self::{chain::Chain, plain_files::PlainFiles};
use super::{Findings, Scope};
use crate::{
    dirt::Random,
    engine::Engine,
    filesystem::Place,
    peers::qemu_nbd::{OverlayChain, QemuNbd},
    ratio,
    samples::Unit,
    table::{Budget, Finding},
};

/// The largest ratio of a deep read to one of a disk on one layer.
const AT_MOST: f64 = 1.1;
/// The longest that opening may take, in seconds.
const OPEN_AT_MOST: f64 = 0.05;
/// Reads of one sample.
const READS: u32 = 20_000;
/// The deepest.
const DEEPEST: u16 = 200;
/// How many reads an NBD client keeps in flight.
const IN_FLIGHT: [usize; 2] = [1, 32];

pub(super) fn ask(scope: &Scope, place: &Place) -> anyhow::Result<Findings> {
    let depths = scope.size(&[10, 50, DEEPEST][..], &[10, DEEPEST]);
    let ours = Ours::with_disks(place, depths)?;
    let mut found = Vec::new();
    for depth in depths {
        found.extend(ours.over_nbd(scope.rounds, *depth)?);
    }
    found.extend(beside_qcow2(scope.rounds, place, &ours)?);
    for depth in depths {
        found.push(ours.in_the_engine(scope.rounds, *depth)?);
        found.push(in_plain_files(scope.rounds, place, *depth)?);
    }
    found.push(ours.opening(scope.rounds)?);
    Ok(found)
}

/// Our disks of each depth, and a server for them.
struct Ours {
    engine: Engine,
    server: NbdServer,
    socket: tempfile::TempDir,
}

impl Ours {
    fn with_disks(place: &Place, depths: &[u16]) -> anyhow::Result<Self> {
        let engine = Engine::on(place)?;
        let server = NbdServer::new(Limits::default());
        for depth in [1].iter().chain(depths) {
            Chain::of(*depth).store(&engine, &disk(*depth)?)?;
            let opened = engine.open(&disk(*depth)?)?;
            server.publish(&disk(*depth)?, opened);
        }
        let socket = tempfile::tempdir()?;
        server.listen_unix(&socket.path().join("nbd"))?;
        Ok(Self { engine, server, socket })
    }

    fn client(&self, depth: u16) -> anyhow::Result<NbdClient> {
        let socket = self.socket.path().join("nbd");
        Ok(NbdClient::connect_unix(&socket, disk(depth)?.as_str())?)
    }

    fn over_nbd(&self, rounds: usize, depth: u16) -> anyhow::Result<Findings> {
        let mut clients = [self.client(depth)?, self.client(1)?];
        let mut found = Vec::new();
        for in_flight in IN_FLIGHT {
            let finding = compare(rounds, ("depth 1", Some(AT_MOST)), |side| {
                read_over_nbd(&mut clients[side], in_flight)
            })?;
            let case = format!("reads at depth {depth}, NBD, {in_flight} in flight");
            found.push((case, finding));
        }
        Ok(found)
    }

    fn in_the_engine(&self, rounds: usize, depth: u16) -> anyhow::Result<(String, Finding)> {
        let sides = [self.engine.open(&disk(depth)?)?, self.engine.open(&disk(1)?)?];
        let finding = compare(rounds, ("depth 1", None), |side| {
            let mut block = vec![0; 4096];
            timed(|place| Ok(sides[side].read_at(&mut block, ByteOffset::new(place))?))
        })?;
        Ok((format!("reads at depth {depth}, in the engine"), finding))
    }

    /// From the first that anybody wants of the disk to its first byte.
    fn opening(self, rounds: usize) -> anyhow::Result<(String, Finding)> {
        let (mut took, disk) = (Vec::new(), disk(DEEPEST)?);
        let Self { mut engine, server, .. } = self;
        server.shutdown();
        for _ in 0..rounds {
            engine = engine.again()?;
            let begun = Instant::now();
            engine.open(&disk)?.read_at(&mut [0; 4096], ByteOffset::ZERO)?;
            took.push(begun.elapsed().as_secs_f64());
        }
        let finding = Finding::Measured {
            ours: took.into_iter().collect(),
            unit: Unit::Seconds,
            budget: Some(Budget::AtMost(OPEN_AT_MOST)),
        };
        Ok((format!("opening a 1 TiB disk at depth {DEEPEST}"), finding))
    }
}

fn disk(depth: u16) -> anyhow::Result<DiskId> {
    Ok(format!("d-{depth}").parse()?)
}

/// The peer at the largest depth against itself at depth 1, and ours against it.
fn beside_qcow2(rounds: usize, place: &Place, ours: &Ours) -> anyhow::Result<Findings> {
    if !QemuNbd::is_here() {
        return Ok(Vec::new());
    }
    let folder = place.folder()?;
    let files: Vec<_> = [1, DEEPEST]
        .iter()
        .map(|depth| OverlayChain::make(folder.path(), &Chain::of(*depth).writes()))
        .collect::<anyhow::Result<_>>()?;
    let (shallow, deep) = (QemuNbd::serve(&files[0])?, QemuNbd::serve(&files[1])?);
    let mut clients = [deep.client()?, shallow.client()?, ours.client(DEEPEST)?];
    let mut found = Vec::new();
    for (sides, of, name) in
        [([0, 1], "qcow2 overlays", "depth 1"), ([2, 0], "ours", "qcow2 overlays")]
    {
        let finding = compare(rounds, (name, None), |side| {
            read_over_nbd(&mut clients[sides[side]], IN_FLIGHT[1])
        })?;
        found.push((
            format!("reads at depth {DEEPEST}, NBD, {} in flight: {of}", IN_FLIGHT[1]),
            finding,
        ));
    }
    let opening = || {
        let begun = Instant::now();
        let server = QemuNbd::serve(&files[1])?;
        server.client()?.read(&mut [0; 4096], ByteOffset::ZERO)?;
        Ok(begun.elapsed().as_secs_f64())
    };
    let took: Vec<f64> = (0..rounds).map(|_| opening()).collect::<anyhow::Result<_>>()?;
    let finding =
        Finding::Measured { ours: took.into_iter().collect(), unit: Unit::Seconds, budget: None };
    found.push((format!("qemu-nbd from its start, qcow2 overlays at depth {DEEPEST}"), finding));
    Ok(found)
}

fn in_plain_files(rounds: usize, place: &Place, depth: u16) -> anyhow::Result<(String, Finding)> {
    let folder = place.folder()?;
    let make = |depth| PlainFiles::make(folder.path(), Chain::of(depth));
    let sides = [make(depth)?, make(1)?];
    let finding = compare(rounds, ("one file", None), |side| {
        let mut block = vec![0; 4096];
        timed(|place| sides[side].read(&mut block, place))
    })?;
    Ok((format!("of it the same reads of {depth} plain files"), finding))
}

/// Two sides in turn: ours, then the peer.
fn compare(
    rounds: usize,
    (peer, at_most): (&'static str, Option<f64>),
    run: impl FnMut(usize) -> anyhow::Result<f64>,
) -> anyhow::Result<Finding> {
    let mut samples = ratio::interleave(rounds, &[0, 1], run)?.into_iter();
    let both = samples.next().zip(samples.next());
    let (ours, theirs) = both.context("two sides give two lists of samples")?;
    Ok(Finding::Compared { ours, peer: (peer, theirs), at_most })
}

/// The seconds of one read, over reads of random blocks.
fn timed(mut read: impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut random = Random::new(1);
    let begun = Instant::now();
    for _ in 0..READS {
        read(chain::random_block(&mut random))?;
    }
    Ok(begun.elapsed().as_secs_f64() / f64::from(READS))
}

/// The seconds of one read, so many of which are in flight.
fn read_over_nbd(client: &mut NbdClient, in_flight: usize) -> anyhow::Result<f64> {
    let mut random = Random::new(1);
    let begun = Instant::now();
    let mut left = READS;
    while left > 0 || client.in_flight() > 0 {
        while left > 0 && client.in_flight() < in_flight {
            let offset = ByteOffset::new(chain::random_block(&mut random));
            client.submit(Request::Read { offset, length: ByteLength::new(4096) })?;
            left -= 1;
        }
        let answer = client.complete()?.outcome;
        ensure!(matches!(answer, Ok(Answer::Data(_))), "a read was answered by {answer:?}");
    }
    Ok(begun.elapsed().as_secs_f64() / f64::from(READS))
}
