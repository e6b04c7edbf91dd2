//! 16 connections with 16 requests in flight each work on one disk, and every byte is what it must be: in each read, in
//! the end, after a restart, and in the snapshots that were taken meanwhile.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod history;
mod worker;

use std::{
    ops::Range,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    thread,
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId};
use block_store::{CommitError, FileStorage, LayerId, LayerKind, LayerLabel, Store};
use nbd_server::{Limits, NbdServer, client::NbdClient};
use tests::{
    recorded_storage::{Dice, scratch},
    reference_model::{SECTOR, Stamp},
};

use crate::{
    history::{History, Moment},
    worker::{IN_FLIGHT, Place, Worker, stamps_in},
};

const CONNECTIONS: usize = 16;
/// Of each connection.
const REQUESTS: usize = 1000;
const SNAPSHOTS: u64 = 40;
/// 16 MiB and a bit, so that the last cluster is a part of one.
const SECTORS: usize = (16 << 11) + 24;

/// A snapshot, and the moments before it was asked for and after it was answered.
struct Taken {
    layer: LayerId,
    from: Moment,
    to: Moment,
}

fn open(directory: &Path) -> Store {
    let store = Store::open(Arc::new(FileStorage::open(directory).unwrap())).unwrap();
    store.settle_alone().unwrap();
    store
}

/// Stretches of all lengths, each a connection's own, in an order that makes strangers of neighbours.
fn shares(dice: &mut Dice) -> Vec<Vec<Range<usize>>> {
    let mut shares = vec![Vec::new(); CONNECTIONS];
    let mut start = 0;
    while start < SECTORS {
        let length = *dice.pick(&[1, 2, 3, 5, 8, 16, 23, 64, 200, 300]).unwrap();
        let end = (start + length).min(SECTORS);
        let most = shares.iter().map(Vec::len).min().unwrap() + 2;
        let few = (0..CONNECTIONS).filter(|nth| shares[*nth].len() < most).collect::<Vec<_>>();
        shares[*dice.pick(&few).unwrap()].push(start..end);
        start = end;
    }
    assert!(shares.iter().all(|own| own.len() > IN_FLIGHT), "each has one to spare");
    shares
}

fn snapshot(store: &Store, disk: &DiskId, place: &Place<'_>, nth: u64) -> Taken {
    let (id, account, name) = (format!("s-{nth}"), "default".into(), String::new());
    let label = LayerLabel { kind: LayerKind::Snapshot, id, account, name };
    let from = place.now();
    let layer = store.snapshot(disk, label, |_| Ok::<_, CommitError<()>>(())).unwrap();
    Taken { layer: layer.expect("something was written since the last"), from, to: place.now() }
}

fn content(device: &dyn BlockDevice) -> Vec<Stamp> {
    let mut bytes = vec![0xee; SECTORS * SECTOR];
    device.read_at(&mut bytes, ByteOffset::ZERO).unwrap();
    stamps_in(&bytes)
}

fn is_one_moment(store: &Store, history: &History, taken: &[Taken], when: &str) {
    for (nth, Taken { layer, from, to }) in taken.iter().enumerate() {
        let found = content(&*store.open_layer(*layer).unwrap());
        let moments = history.moments_of(&found, *from, *to);
        assert!(!moments.is_empty(), "{when}: snapshot {nth} is the disk at no moment");
    }
}

#[test]
fn sixteen_times_sixteen_requests_in_flight_and_snapshots_meanwhile() {
    let (directory, disk) = (scratch(), "d-1".parse::<DiskId>().unwrap());
    Store::create(&FileStorage::open(directory.path()).unwrap()).unwrap();
    let store = open(directory.path());
    let size = ByteLength::new(u64::try_from(SECTORS * SECTOR).unwrap());
    store.create_disk(&disk, size, None).unwrap().publish().unwrap();
    let server = NbdServer::new(Limits::default());
    let socket = directory.path().join("nbd.sock");
    server.listen_unix(&socket).unwrap();
    server.publish(&disk, store.open_disk(&disk).unwrap());

    let (clock, stamps) = (AtomicU64::new(1), AtomicU64::new(1));
    let place = Place { socket: &socket, export: "d-1", clock: &clock, stamps: &stamps };
    let shares = shares(&mut Dice::new(3));
    let (written, taken) = thread::scope(|scope| {
        let worker = |(seed, own): (u64, &Vec<Range<usize>>)| {
            let worker = Worker::new(&place, seed, own.clone(), SECTORS);
            scope.spawn(move || worker.work(REQUESTS))
        };
        let workers: Vec<_> = (0..).zip(&shares).map(worker).collect();
        // Two moments pass with each request.
        let all = u64::try_from(2 * CONNECTIONS * REQUESTS).unwrap();
        let taken: Vec<_> = (1..=SNAPSHOTS)
            .map(|nth| {
                let ended = || workers.iter().any(thread::ScopedJoinHandle::is_finished);
                while clock.load(std::sync::atomic::Ordering::SeqCst) < all * nth / (SNAPSHOTS + 1)
                    && !ended()
                {
                    thread::yield_now();
                }
                snapshot(&store, &disk, &place, nth)
            })
            .collect();
        let written: Vec<_> =
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        (written, taken)
    });

    let mut history = History::of(SECTORS);
    for one in &written {
        for (sector, stamp) in (one.start..).zip(&one.stamps) {
            history.add(sector, *stamp, one.begun, one.answered);
        }
    }
    let mut client = NbdClient::connect_unix(&socket, "d-1").unwrap();
    let mut bytes = vec![0xee; SECTORS * SECTOR];
    client.read(&mut bytes, ByteOffset::ZERO).unwrap();
    assert!(stamps_in(&bytes) == history.last(), "the disk holds what was written last");
    client.flush().unwrap();
    drop(client);
    is_one_moment(&store, &history, &taken, "at once");

    assert!(server.shutdown().is_empty());
    store.wait_for_background();
    drop((server, store));
    let store = open(directory.path());
    assert!(content(&*store.open_disk(&disk).unwrap()) == history.last(), "after a restart");
    is_one_moment(&store, &history, &taken, "after a restart");
}
