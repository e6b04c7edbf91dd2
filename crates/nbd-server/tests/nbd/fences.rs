//! "I reset a disk under its client": after the fence nothing of the connection is left, each
//! request was wholly done or failed, and it never takes long, whatever the client does.

use std::{
    io::Write,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use block_device::{BlockDevice, ByteLength, Durability, ExportFence, FenceMode, MemoryDisk};
use nbd_server::client::{Answer, ClientError, NbdClient, Request};

use crate::support::{
    Held, HeldDisk, MIB, RawClient, TestServer, at, bytes, eventually, name, request,
};

/// Less than a client that reads nothing is waited for otherwise, and enough for a busy machine.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn an_idle_client_does_not_delay_it() {
    let (test, disk) = TestServer::of_memory(MIB);
    let mut clients: Vec<_> = (0..8).map(|_| test.client()).collect();
    let begun = Instant::now();
    test.server.fence(&name(), FenceMode::Drop).unwrap();
    assert!(begun.elapsed() < SOON);
    assert_eq!(disk.flushes(), 0);
    assert_eq!(Arc::strong_count(&disk), 1, "nobody holds the disk");
    for client in &mut clients {
        assert!(matches!(client.flush(), Err(ClientError::Connection(_))));
    }
    let gone = NbdClient::connect_unix(&test.path(), "disk");
    assert!(matches!(gone, Err(ClientError::Refused { reply: 0x8000_0006, .. })));
}

#[test]
fn a_fence_of_nothing_does_nothing() {
    let test = TestServer::start();
    test.server.fence(&name(), FenceMode::Flush).unwrap();
}

#[test]
fn flush_makes_durable_what_was_answered_and_says_if_it_cannot() {
    let (test, disk) = TestServer::of_memory(MIB);
    test.client().write(&[1; 512], at(0), Durability::Cached).unwrap();
    test.server.fence(&name(), FenceMode::Flush).unwrap();
    assert_eq!(disk.flushes(), 1);
    test.server.publish(&name(), disk.clone());
    disk.fence();
    let failed = test.server.fence(&name(), FenceMode::Flush).unwrap_err();
    assert_eq!(failed.disk, name());
    assert!(NbdClient::connect_unix(&test.path(), "disk").is_err());
}

#[test]
fn thirty_two_in_flight_are_each_wholly_done_or_failed() {
    for round in 0..20 {
        let (test, disk) = TestServer::of_memory(32 * 65536);
        let mut client = test.client();
        let fence = thread::scope(|scope| {
            let fence = scope.spawn(|| {
                thread::sleep(Duration::from_micros(50 * round));
                test.server.fence(&name(), FenceMode::Drop).unwrap();
                // What the disk holds now never changes again.
                contents(&disk)
            });
            let answered = write_until_it_ends(&mut client);
            (fence.join().unwrap(), answered)
        });
        let (at_the_fence, answered) = fence;
        thread::sleep(Duration::from_millis(20));
        assert!(at_the_fence == contents(&disk), "nothing is written behind the fence");
        for (place, answered) in answered.into_iter().enumerate() {
            let written = &at_the_fence[place * 65536..][..65536];
            // Rounds of the client write rising bytes: what was answered is there, or newer.
            assert!(written.iter().all(|byte| *byte >= answered), "region {place}");
        }
    }
}

fn contents(disk: &MemoryDisk) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(disk.size().get()).unwrap()];
    disk.read_at(&mut bytes, at(0)).unwrap();
    bytes
}

/// Writes 32 regions over and over, 32 in flight; gives the last byte answered for each.
fn write_until_it_ends(client: &mut NbdClient) -> Vec<u8> {
    let mut answered = vec![0; 32];
    for byte in 1..=255u8 {
        let mut tickets = std::collections::HashMap::new();
        for region in 0..32usize {
            let offset = at(65536 * u64::try_from(region).unwrap());
            let durability = Durability::Cached;
            let request = Request::Write { offset, data: &[byte; 65536], durability };
            match client.submit(request) {
                Ok(ticket) => tickets.insert(ticket, region),
                Err(_) => return answered,
            };
        }
        for _ in 0..32 {
            match client.complete() {
                Ok(completion) if completion.outcome == Ok(Answer::Done) => {
                    answered[tickets[&completion.ticket]] = byte;
                }
                _ => return answered,
            }
        }
    }
    answered
}

#[test]
fn a_client_that_never_reads_does_not_hold_it_up() {
    let (test, disk) = TestServer::of_memory(4 * MIB);
    let mut raw = RawClient::open(&test.path(), true);
    for cookie in 0..64 {
        raw.request(0, 0, cookie, 0, 1 << 20);
    }
    // And one whose slow lane is stuck the same way.
    let mut other = RawClient::open(&test.path(), false);
    let flushes: Vec<u8> = (0..60_000).flat_map(|cookie| request(0, 3, cookie, 0, 0)).collect();
    other.0.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    other.try_send(&flushes);
    let begun = Instant::now();
    test.server.fence(&name(), FenceMode::Drop).unwrap();
    assert!(begun.elapsed() < SOON);
    assert_eq!(Arc::strong_count(&disk), 1);
}

#[test]
fn a_client_that_stops_in_mid_payload_does_not_hold_it_up() {
    let (test, disk) = TestServer::of_memory(4 * MIB);
    let mut raw = RawClient::open(&test.path(), true);
    raw.request(0, 1, 1, 0, 1 << 20);
    raw.send(&[1; 1000]);
    // One whose payload is only dropped, and which never ends to send.
    let address = test.server.listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let sender = thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let mut hello = 3u32.to_be_bytes().to_vec();
        hello.extend(crate::support::OPTION_MAGIC.to_be_bytes());
        hello.extend(1u32.to_be_bytes());
        hello.extend(4u32.to_be_bytes());
        hello.extend(b"disk");
        stream.write_all(&hello).unwrap();
        let one = [request(0, 1, 1, 8 * MIB, 32 << 20), vec![0; 32 << 20]].concat();
        while stream.write_all(&one).is_ok() {}
    });
    eventually("both are in", || test.server.connections(&name()) == 2);
    thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    test.server.fence(&name(), FenceMode::Flush).unwrap();
    assert!(begun.elapsed() < SOON);
    assert_eq!(Arc::strong_count(&disk), 1);
    sender.join().unwrap();
}

#[test]
fn it_waits_for_the_request_that_runs_and_the_client_gets_its_answer() {
    for held in [Held::Reads, Held::Writes, Held::Flushes] {
        let test = TestServer::start();
        let disk = HeldDisk::new(MIB, held);
        test.server.publish(&name(), disk.clone());
        let mut raw = RawClient::open(&test.path(), false);
        let (command, length) = match held {
            Held::Reads => (0, 512),
            Held::Writes => (6, 512),
            Held::Flushes => (3, 0),
        };
        raw.request(0, command, 1, 0, length);
        eventually("it is inside", || disk.inside.load(Ordering::SeqCst) == 1);
        // Behind it, so begun after the fence or never.
        raw.request(0, 6, 2, 0, 1024);
        thread::scope(|scope| {
            let fence = scope.spawn(|| test.server.fence(&name(), FenceMode::Drop));
            thread::sleep(Duration::from_millis(400)); // longer than the grace
            assert!(!fence.is_finished(), "a request is still inside the disk");
            disk.let_go();
            fence.join().unwrap().unwrap();
        });
        assert_eq!(disk.inside.load(Ordering::SeqCst), 0);
        raw.assert_hung_up();
        assert_eq!(Arc::strong_count(&disk), 1);
    }
}

#[test]
fn an_answer_of_the_running_request_still_arrives() {
    let test = TestServer::start();
    let disk = HeldDisk::new(MIB, Held::Reads);
    test.server.publish(&name(), disk.clone());
    let mut raw = RawClient::open(&test.path(), false);
    raw.request(0, 0, 1, 0, 512);
    eventually("it is inside", || disk.inside.load(Ordering::SeqCst) == 1);
    thread::scope(|scope| {
        let fence = scope.spawn(|| test.server.fence(&name(), FenceMode::Drop));
        thread::sleep(Duration::from_millis(50));
        disk.let_go();
        fence.join().unwrap().unwrap();
    });
    assert_eq!(raw.simple_reply(), (1, 0));
    assert_eq!(raw.take(512), [0; 512]);
    raw.assert_hung_up();
}

#[test]
fn two_fences_at_once_both_wait() {
    let test = TestServer::start();
    let disk = HeldDisk::new(MIB, Held::Writes);
    test.server.publish(&name(), disk.clone());
    let mut raw = RawClient::open(&test.path(), false);
    raw.request(0, 6, 1, 0, 512);
    eventually("it is inside", || disk.inside.load(Ordering::SeqCst) == 1);
    let server = &test.server;
    thread::scope(|scope| {
        let fences = [FenceMode::Drop, FenceMode::Flush]
            .map(|mode| scope.spawn(move || (server.fence(&name(), mode), Instant::now())));
        thread::sleep(Duration::from_millis(100));
        let let_go = Instant::now();
        disk.let_go();
        for fence in fences {
            let (outcome, returned) = fence.join().unwrap();
            outcome.unwrap();
            assert!(returned > let_go);
        }
    });
    assert_eq!(disk.flushes.load(Ordering::SeqCst), 1);
}

#[test]
fn a_published_disk_takes_the_place_of_the_earlier_one() {
    let (test, earlier) = TestServer::of_memory(MIB);
    let mut client = test.client();
    let later = Arc::new(MemoryDisk::new(ByteLength::new(2 * MIB)));
    test.server.publish(&name(), later);
    assert!(client.flush().is_err());
    assert_eq!(earlier.flushes(), 1);
    assert_eq!(test.client().size(), bytes(2 * MIB));
}

#[test]
fn the_fence_works_through_its_trait() {
    let (test, _disk) = TestServer::of_memory(MIB);
    let fence: &dyn ExportFence = &test.server;
    fence.fence(&name(), FenceMode::Flush).unwrap();
    assert_eq!(test.server.connections(&name()), 0);
    assert!(test.server.counters().is_empty());
}
