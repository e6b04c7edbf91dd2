//! "I read and write my disk": every request, plain and many in flight, against the reference
//! disk.

use std::{collections::HashMap, sync::atomic::Ordering};

use block_device::{BlockDevice, Durability, ExtentKind, MemoryDisk, ZeroMode};
use nbd_server::{
    Errno,
    client::{Answer, ClientError, Headers, NbdClient, Request, Ticket},
};
use proptest::prelude::*;

use crate::support::{
    Held, HeldDisk, MIB, RawClient, TestServer, at, bytes, eventually, name, u32_at,
};

#[test]
fn what_is_written_is_read_at_every_size() {
    let (test, disk) = TestServer::of_memory(80 * MIB);
    let mut client = test.client();
    assert_eq!(client.size(), bytes(80 * MIB));
    // Around a sector, a block, a piece of the server, and the largest payload.
    for (turn, length) in
        [512, 4096, 4608, 262_144, 262_656, 524_288, 3 << 20, 32 << 20].into_iter().enumerate()
    {
        let offset = 512 * 7 + 4096 * u64::try_from(turn).unwrap();
        let data: Vec<u8> = (0..length).map(|place: u32| (place % 251) as u8).collect();
        client.write(&data, at(offset), Durability::Cached).unwrap();
        let mut held = vec![0; data.len()];
        disk.read_at(&mut held, at(offset)).unwrap();
        assert!(held == data, "{length} bytes are stored");
        let mut read = vec![0; data.len()];
        client.read(&mut read, at(offset)).unwrap();
        assert!(read == data, "{length} bytes are read");
        client.write_zeroes(at(0), bytes(80 * MIB), ZeroMode::Punch, Durability::Cached).unwrap();
    }
    client.disconnect().unwrap();
}

#[test]
fn simple_replies_of_every_size() {
    let (test, disk) = TestServer::of_memory(40 * MIB);
    let data: Vec<u8> = (0..32 * MIB).map(|place| (place % 251) as u8).collect();
    disk.write_at(&data, at(512), Durability::Cached).unwrap();
    let mut raw = RawClient::open(&test.path(), false);
    for length in [512u32, 4096, 262_144, 262_656, 1 << 20, 32 << 20] {
        raw.request(0, 0, 9, 512, length);
        assert_eq!(raw.simple_reply(), (9, 0));
        let length = usize::try_from(length).unwrap();
        assert!(raw.take(length) == data[..length], "{length} bytes are read");
    }
}

#[test]
fn a_structured_read_is_whole_if_it_must_not_be_fragmented() {
    let (test, _disk) = TestServer::of_memory(4 * MIB);
    let mut raw = RawClient::open(&test.path(), true);
    raw.request(1 << 2, 0, 9, 512, 1 << 20);
    let (flags, kind, body) = raw.chunk(9);
    assert_eq!((flags, kind, body.len()), (1, 1, 8 + (1 << 20)));
    assert_eq!(body[..8], 512u64.to_be_bytes());
    // Else it comes in pieces, the last of them marked.
    raw.request(0, 0, 10, 512, 1 << 20);
    let mut seen = 0;
    loop {
        let (flags, kind, body) = raw.chunk(10);
        assert_eq!(kind, 1);
        assert_eq!(body[..8], (512u64 + seen).to_be_bytes());
        seen += u64::try_from(body.len()).unwrap() - 8;
        if flags == 1 {
            break;
        }
    }
    assert_eq!(seen, 1 << 20);
}

#[test]
fn forced_writes_and_flushes_reach_the_disk_as_such() {
    let (test, disk) = TestServer::of_memory(MIB);
    let mut client = test.client();
    client.write(&[1; 512], at(0), Durability::Cached).unwrap();
    assert_eq!(disk.flushes(), 0);
    client.write(&[2; 512], at(0), Durability::ForceUnitAccess).unwrap();
    assert_eq!(disk.flushes(), 1);
    client.flush().unwrap();
    assert_eq!(disk.flushes(), 2);
    let (keep, force) = (ZeroMode::KeepAllocated, Durability::ForceUnitAccess);
    client.write_zeroes(at(0), bytes(512), keep, force).unwrap();
    assert_eq!(disk.flushes(), 3);
    client.trim(at(0), bytes(4096)).unwrap();
    assert_eq!(disk.flushes(), 3);
}

#[test]
fn reads_behind_a_flush_do_not_wait_for_it_and_flushes_are_shared() {
    let test = TestServer::start();
    let disk = HeldDisk::new(MIB, Held::Flushes);
    test.server.publish(&name(), disk.clone());
    let mut client = test.client();
    client.submit(Request::Flush).unwrap();
    let read = client.submit(Request::Read { offset: at(0), length: bytes(4096) }).unwrap();
    assert_eq!(client.complete().unwrap().ticket, read);
    eventually("the flush has begun", || disk.flushes.load(Ordering::SeqCst) == 1);
    let forced = Durability::ForceUnitAccess;
    for _ in 0..20 {
        client
            .submit(Request::Write { offset: at(0), data: &[1; 512], durability: forced })
            .unwrap();
    }
    // The writes are stored already, and all that is left of them waits for one more flush.
    let read = client.submit(Request::Read { offset: at(0), length: bytes(512) }).unwrap();
    let completion = client.complete().unwrap();
    assert_eq!(completion.ticket, read);
    assert_eq!(completion.outcome.unwrap(), Answer::Data(vec![1; 512]));
    disk.let_go();
    for _ in 0..21 {
        client.complete().unwrap().outcome.unwrap();
    }
    assert_eq!(disk.flushes.load(Ordering::SeqCst), 2);
}

#[test]
fn block_status_tells_data_from_zeros() {
    let (test, _disk) = TestServer::of_memory(MIB);
    let mut client = test.client();
    client.write(&[7; 4096], at(65536), Durability::Cached).unwrap();
    let kinds: Vec<_> = client
        .block_status(at(0), bytes(131_072))
        .unwrap()
        .iter()
        .map(|extent| (extent.kind, extent.length.get()))
        .collect();
    let zero = ExtentKind::Zero;
    assert_eq!(kinds, [(zero, 65536), (ExtentKind::Data, 4096), (zero, 61440)]);
}

#[test]
fn errors_of_the_disk_are_told_and_the_session_goes_on() {
    let test = TestServer::start();
    let disk = std::sync::Arc::new(MemoryDisk::read_only(vec![5; 8192]));
    test.server.publish(&name(), disk);
    let mut client = test.client();
    assert!(client.is_read_only());
    let refused = client.write(&[1; 512], at(0), Durability::Cached);
    assert!(matches!(refused, Err(ClientError::Answered(Errno::NotPermitted))));
    let refused = client.trim(at(0), bytes(512));
    assert!(matches!(refused, Err(ClientError::Answered(Errno::NotPermitted))));
    let mut sector = [0; 512];
    client.read(&mut sector, at(0)).unwrap();
    assert_eq!(sector, [5; 512]);
    let counters = test.server.counters()[0].1;
    assert_eq!((counters.errors, counters.reads, counters.bytes_read), (2, 1, 512));
}

#[test]
fn a_fenced_disk_ends_the_connection_with_its_number() {
    let (test, disk) = TestServer::of_memory(MIB);
    let mut raw = RawClient::open(&test.path(), false);
    disk.fence();
    raw.request(0, 0, 3, 0, 512);
    assert_eq!(raw.simple_reply(), (3, 108));
    raw.assert_hung_up();
    // The same from the slow lane.
    let mut raw = RawClient::open(&test.path(), false);
    raw.request(0, 3, 4, 0, 0);
    assert_eq!(raw.simple_reply(), (4, 108));
    raw.assert_hung_up();
}

#[test]
fn flushes_of_one_connection_cover_writes_of_another() {
    let (test, disk) = TestServer::of_memory(MIB);
    let (mut one, mut other) = (test.client(), test.client());
    one.write(&[3; 4096], at(4096), Durability::Cached).unwrap();
    other.flush().unwrap();
    assert_eq!(disk.flushes(), 1);
    let mut read = [0; 4096];
    other.read(&mut read, at(4096)).unwrap();
    assert_eq!(read, [3; 4096]);
    assert_eq!(test.server.connections(&name()), 2);
    one.disconnect().unwrap();
    drop(other);
    eventually("both have left", || test.server.connections(&name()) == 0);
}

#[test]
fn disconnect_lets_what_is_in_flight_be_answered() {
    let (test, disk) = TestServer::of_memory(MIB);
    let mut raw = RawClient::open(&test.path(), false);
    let mut message = Vec::new();
    for cookie in 0..5 {
        message.extend(crate::support::request(1, 1, cookie, 512 * cookie, 512));
        message.extend([9; 512]);
    }
    message.extend(crate::support::request(0, 2, 99, 0, 0));
    raw.send(&message);
    let mut cookies: Vec<_> = (0..5).map(|_| raw.simple_reply()).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)]);
    raw.assert_hung_up();
    let mut held = [0; 2560];
    disk.read_at(&mut held, at(0)).unwrap();
    assert_eq!(held, [9; 2560]);
}

#[test]
fn tcp_serves_as_the_unix_socket_does() {
    let (test, _disk) = TestServer::of_memory(MIB);
    let address = test.server.listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut client = NbdClient::connect_tcp(address, "disk").unwrap();
    client.write(&[8; 65536], at(0), Durability::ForceUnitAccess).unwrap();
    let mut read = vec![0; 65536];
    client.read(&mut read, at(0)).unwrap();
    assert_eq!(read, [8; 65536]);
}

#[test]
fn big_reads_and_writes_in_both_directions_at_once_do_not_lock_up() {
    let (test, _disk) = TestServer::of_memory(64 * MIB);
    let mut client = test.client();
    let data = vec![4; 1 << 20];
    for turn in 0..64 {
        let offset = at(turn % 32 * MIB);
        client.submit(Request::Read { offset, length: bytes(MIB) }).unwrap();
        let offset = at(turn % 32 * MIB + 32 * MIB);
        client
            .submit(Request::Write { offset, data: &data, durability: Durability::Cached })
            .unwrap();
    }
    while client.in_flight() > 0 {
        client.complete().unwrap().outcome.unwrap();
    }
}

#[test]
fn sixteen_connections_with_sixteen_in_flight_each_see_their_own_bytes() {
    let (test, _disk) = TestServer::of_memory(16 * MIB);
    std::thread::scope(|scope| {
        for connection in 0..16u8 {
            let mut client = test.client();
            scope.spawn(move || {
                let region = u64::from(connection) * MIB;
                for round in 0..8u8 {
                    let data = vec![connection * 16 + round; 65536];
                    let place = |slot: u64| at(region + slot * 65536);
                    for slot in 0..16 {
                        let durability = if slot == 7 {
                            Durability::ForceUnitAccess
                        } else {
                            Durability::Cached
                        };
                        let offset = place(slot);
                        client.submit(Request::Write { offset, data: &data, durability }).unwrap();
                    }
                    while client.in_flight() > 0 {
                        assert_eq!(client.complete().unwrap().outcome, Ok(Answer::Done));
                    }
                    for slot in 0..16 {
                        let (offset, length) = (place(slot), bytes(65536));
                        client.submit(Request::Read { offset, length }).unwrap();
                    }
                    while client.in_flight() > 0 {
                        let answer = client.complete().unwrap().outcome.unwrap();
                        assert!(answer == Answer::Data(data.clone()));
                    }
                }
            });
        }
    });
}

/// A step of the model test.
#[derive(Clone, Copy, Debug)]
enum Step {
    Read,
    Write(u8, Durability),
    Zero(ZeroMode),
    Trim,
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64, u64)>> {
    let durability =
        prop_oneof![3 => Just(Durability::Cached), 1 => Just(Durability::ForceUnitAccess)];
    let mode = prop_oneof![Just(ZeroMode::Punch), Just(ZeroMode::KeepAllocated)];
    let step = prop_oneof![
        4 => Just(Step::Read),
        4 => (1u8..=255, durability).prop_map(|(byte, durability)| Step::Write(byte, durability)),
        1 => mode.prop_map(Step::Zero),
        1 => Just(Step::Trim),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec((step, 0u64..128, 1u64..64), 1..60)
}

fn request_of<'a>(step: Step, offset: u64, length: u64, data: &'a [u8]) -> Request<'a> {
    let (offset, length) = (at(offset), bytes(length));
    match step {
        Step::Read => Request::Read { offset, length },
        Step::Write(_, durability) => Request::Write { offset, data, durability },
        Step::Zero(mode) => {
            Request::WriteZeroes { offset, length, mode, durability: Durability::Cached }
        }
        Step::Trim => Request::Trim { offset, length },
        Step::Flush => Request::Flush,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Many in flight, each in a region of its own where order would matter: a read sees the last
    /// write that was answered before it was sent.
    #[test]
    fn the_server_does_what_the_reference_does(steps in steps(), compact: bool) {
        let (test, disk) = TestServer::of_memory(128 * 512);
        let reference = MemoryDisk::new(bytes(128 * 512));
        let headers = if compact { Headers::Compact } else { Headers::Extended };
        let mut client = NbdClient::connect_unix_with(&test.path(), "disk", headers).unwrap();
        let mut expected: HashMap<Ticket, Vec<u8>> = HashMap::new();
        let mut busy: Vec<(u64, u64)> = Vec::new();
        for (step, first, count) in steps {
            let (offset, end) = (first * 512, (first + count).min(128) * 512);
            // What overlaps with something in flight has no order: let that finish first.
            if busy.iter().any(|(start, stop)| offset < *stop && *start < end) {
                settle(&mut client, &mut expected);
                busy.clear();
            }
            busy.push((offset, end));
            let length = end - offset;
            let data = match step {
                Step::Write(byte, _) => vec![byte; usize::try_from(length).unwrap()],
                _ => vec![0; usize::try_from(length).unwrap()],
            };
            let ticket = client.submit(request_of(step, offset, length, &data)).unwrap();
            match step {
                Step::Read => {
                    let mut held = data;
                    reference.read_at(&mut held, at(offset)).unwrap();
                    expected.insert(ticket, held);
                }
                Step::Write(..) => {
                    reference.write_at(&data, at(offset), Durability::Cached).unwrap();
                }
                Step::Zero(mode) => reference
                    .write_zeroes(at(offset), bytes(length), mode, Durability::Cached)
                    .unwrap(),
                Step::Trim => reference.discard(at(offset), bytes(length)).unwrap(),
                Step::Flush => {}
            }
        }
        settle(&mut client, &mut expected);
        let (mut ours, mut theirs) = (vec![0; 128 * 512], vec![0; 128 * 512]);
        disk.read_at(&mut ours, at(0)).unwrap();
        reference.read_at(&mut theirs, at(0)).unwrap();
        prop_assert!(ours == theirs);
    }
}

fn settle(client: &mut NbdClient, expected: &mut HashMap<Ticket, Vec<u8>>) {
    while client.in_flight() > 0 {
        let completion = client.complete().unwrap();
        let answer = completion.outcome.unwrap();
        if let Some(data) = expected.remove(&completion.ticket) {
            assert!(answer == Answer::Data(data));
        }
    }
}

#[test]
fn block_status_may_be_asked_for_one_extent() {
    let (test, _disk) = TestServer::of_memory(MIB);
    test.client().write(&[7; 4096], at(4096), Durability::Cached).unwrap();
    let mut raw = RawClient::greet(&test.path());
    raw.option(8, &[]);
    raw.option_reply(8);
    let mut contexts = crate::support::text("disk");
    contexts.extend(1u32.to_be_bytes());
    contexts.extend(crate::support::text("base:allocation"));
    raw.option(10, &contexts);
    raw.option_reply(10);
    raw.option_reply(10);
    raw.option(7, &crate::support::go("disk"));
    while raw.option_reply(7).0 != 1 {}
    raw.request(1 << 3, 7, 5, 0, 1 << 20);
    let (flags, kind, body) = raw.chunk(5);
    assert_eq!((flags, kind, body.len()), (1, 5, 12));
    assert_eq!([0, 4, 8].map(|place| u32_at(&body, place)), [1, 4096, 2]);
}
