//! "Somebody sends rubbish to my server": it answers or hangs up, keeps in step where the
//! protocol lets it, and serves others meanwhile.

use std::{
    io::Write,
    net::Shutdown,
    time::{Duration, Instant},
};

use block_device::{
    BlockDevice, ByteLength, ByteOffset, DeviceError, Durability, Extent, FenceMode, MemoryDisk,
    ZeroMode,
};
use nbd_server::{
    Errno, Limits,
    client::{ClientError, NbdClient},
};

use crate::support::{
    ACK, MIB, RawClient, TestServer, UNSUPPORTED, at, eventually, go, name, request, u32_at,
};

const INVALID: u32 = 22;
const NO_SPACE: u32 = 28;
const NOT_SUPPORTED: u32 = 95;

#[test]
fn wrong_magics_and_flags_hang_up() {
    let (test, _disk) = TestServer::of_memory(MIB);
    // Client flags that were not offered.
    let mut raw = RawClient::silent(&test.path());
    raw.take(18);
    raw.send(&0xffff_ffffu32.to_be_bytes());
    raw.assert_hung_up();
    // An HTTP request.
    let mut raw = RawClient::silent(&test.path());
    raw.try_send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    raw.assert_hung_up();
    // An option without its magic.
    let mut raw = test.raw();
    raw.try_send(&[0xaa; 64]);
    raw.assert_hung_up();
    // A request without its magic.
    let mut raw = RawClient::open(&test.path(), true);
    raw.try_send(&[0xaa; 64]);
    raw.assert_hung_up();
    test.assert_serves();
}

#[test]
fn claims_are_not_believed() {
    let (test, _disk) = TestServer::of_memory(MIB);
    for code in [1, 3, 6, 7, 9, 10, 4242] {
        let mut raw = test.raw();
        raw.option_claiming(code, u32::MAX, b"");
        raw.assert_hung_up();
    }
    // A write of 4 GiB, and one a little over what is dropped.
    for length in [u32::MAX, (64 << 20) + 512] {
        let mut raw = RawClient::open(&test.path(), false);
        raw.request(0, 1, 1, 0, length);
        raw.assert_hung_up();
    }
    test.assert_serves();
}

#[test]
fn a_flood_of_options_ends() {
    let (test, _disk) = TestServer::of_memory(MIB);
    let mut raw = test.raw();
    let mut flood = Vec::new();
    for _ in 0..10_000 {
        flood.extend(crate::support::OPTION_MAGIC.to_be_bytes());
        flood.extend(4242u32.to_be_bytes());
        flood.extend(0u32.to_be_bytes());
    }
    raw.try_send(&flood);
    raw.assert_hung_up();
    test.assert_serves();
}

#[test]
fn requests_that_cannot_be_done_leave_the_session_in_step() {
    let (test, disk) = TestServer::of_memory(MIB);
    let (fua, no_hole, df, one, fast, payload) = (1, 2, 4, 8, 16, 32);
    let end = MIB - 512;
    // Flags, command, offset, length, error.
    let cases: [(u16, u16, u64, u32, u32); 29] = [
        (0, 0, MIB, 512, INVALID),
        (0, 0, u64::MAX, 512, INVALID),
        (0, 0, u64::MAX - 511, 512, INVALID),
        (0, 0, end, 1024, INVALID),
        (0, 0, 1, 512, INVALID),
        (0, 0, 0, 511, INVALID),
        (0, 0, 0, 0, INVALID),
        (0, 0, 0, u32::MAX, INVALID),
        (df, 0, 0, 512, INVALID), // not agreed
        (no_hole, 0, 0, 512, INVALID),
        (0, 1, MIB, 512, NO_SPACE),
        (0, 1, u64::MAX - 511, 512, NO_SPACE),
        (fua, 1, end, 1024, NO_SPACE),
        (0, 1, 1, 512, INVALID),
        (0, 1, 0, 100, INVALID),
        (payload, 1, 0, 512, INVALID),
        (0x8000, 1, 0, 512, INVALID),
        (0, 1, 0, (32 << 20) + 512, INVALID),
        (0, 3, 0, 512, INVALID),
        (0, 4, MIB, 512, INVALID),
        (0, 4, 100, 512, INVALID),
        (0, 5, MIB, 512, INVALID),
        (fast, 5, 0, 512, INVALID),
        (0, 6, end, 1024, NO_SPACE),
        (fast, 1, 0, 512, INVALID),
        (fast, 6, 0, 512, NOT_SUPPORTED), // it would be no faster than to write them
        (one, 7, 0, 512, INVALID),        // BLOCK_STATUS, not agreed
        (0, 8, 0, 512, INVALID),
        (0xffff, 0xffff, u64::MAX, u32::MAX, INVALID),
    ];
    let mut raw = RawClient::open(&test.path(), false);
    for (flags, command, offset, length, error) in cases {
        raw.request(flags, command, 77, offset, length);
        if command == 1 {
            raw.send(&vec![0xee; usize::try_from(length).unwrap()]);
        }
        let case = (flags, command, offset, length);
        assert_eq!(raw.simple_reply(), (77, error), "{case:?}");
    }
    // Nothing was changed, and the session serves on.
    raw.request(0, 0, 78, 0, u32::try_from(MIB).unwrap());
    assert_eq!(raw.simple_reply(), (78, 0));
    assert!(raw.take(1 << 20).iter().all(|byte| *byte == 0));
    assert_eq!(disk.flushes(), 0);
}

#[test]
fn a_structured_session_gets_its_errors_in_chunks() {
    let (test, _disk) = TestServer::of_memory(MIB);
    let mut raw = RawClient::open(&test.path(), true);
    for (command, offset) in [(0, MIB), (7, 0)] {
        raw.request(0, command, 5, offset, 512);
        let (flags, kind, body) = raw.chunk(5);
        assert_eq!((flags, kind, u32_at(&body, 0)), (1, 0x8001, INVALID));
        let text = usize::from(crate::support::u16_at(&body, 4));
        assert_eq!(body.len(), 6 + text);
    }
}

#[test]
fn byte_by_byte_is_as_good_as_at_once() {
    let (test, _disk) = TestServer::of_memory(MIB);
    let mut raw = RawClient::silent(&test.path());
    raw.take(18);
    let mut all = 3u32.to_be_bytes().to_vec();
    let query = go("disk");
    all.extend(crate::support::OPTION_MAGIC.to_be_bytes());
    all.extend(7u32.to_be_bytes());
    all.extend(u32::try_from(query.len()).unwrap().to_be_bytes());
    all.extend(query);
    let mut write = request(0, 1, 1, 0, 512);
    write.extend([6; 512]);
    write.extend(request(0, 0, 2, 0, 512));
    let one_by_one = |raw: &mut RawClient, bytes: &[u8]| {
        bytes.iter().for_each(|byte| raw.send(&[*byte]));
    };
    one_by_one(&mut raw, &all);
    while raw.option_reply(7).0 != ACK {}
    one_by_one(&mut raw, &write);
    assert_eq!(raw.simple_reply(), (1, 0));
    assert_eq!(raw.simple_reply(), (2, 0));
    assert_eq!(raw.take(512), [6; 512]);
}

#[test]
fn a_client_that_is_gone_in_mid_write_changes_nothing_outside_its_range() {
    let (test, disk) = TestServer::of_memory(4 * MIB);
    disk.write_at(&vec![1; 4 << 20], at(0), Durability::Cached).unwrap();
    for sent in [0, 100, 4096, 1_000_000] {
        let mut raw = RawClient::open(&test.path(), false);
        raw.request(0, 1, 1, MIB, 1 << 20);
        raw.send(&vec![2; sent]);
        drop(raw);
    }
    // And with replies on their way that nobody will take.
    let mut raw = RawClient::open(&test.path(), false);
    for cookie in 0..64 {
        raw.request(0, 0, cookie, 0, 1 << 20);
    }
    drop(raw);
    eventually("all have left", || test.server.connections(&name()) == 0);
    let mut held = vec![0; 4 << 20];
    disk.read_at(&mut held, at(0)).unwrap();
    assert!(held[..1 << 20].iter().all(|byte| *byte == 1));
    assert!(held[2 << 20..].iter().all(|byte| *byte == 1));
    test.assert_serves();
}

#[test]
fn half_open_clients_do_not_keep_others_out() {
    let (test, _disk) = TestServer::of_memory(MIB);
    let silent: Vec<_> = (0..100).map(|_| RawClient::silent(&test.path())).collect();
    let greeted: Vec<_> = (0..100).map(|_| test.raw()).collect();
    test.assert_serves();
    drop((silent, greeted));
}

#[test]
fn the_slowest_handshake_makes_room_for_the_newest() {
    let limits = Limits { handshakes: 4, ..Limits::default() };
    let (test, _disk) = TestServer::of_memory_with(limits, MIB);
    let mut silent: Vec<_> = (0..8).map(|_| test.raw()).collect();
    test.assert_serves();
    silent[0].assert_hung_up();
    silent[7].option(4242, &[]);
    assert_eq!(silent[7].option_reply(4242).0, UNSUPPORTED);
}

#[test]
fn a_handshake_has_a_deadline() {
    let limits = Limits { handshake_time: Duration::from_millis(200), ..Limits::default() };
    let (test, _disk) = TestServer::of_memory_with(limits, MIB);
    let begun = Instant::now();
    RawClient::silent(&test.path()).assert_hung_up();
    // Sending now and then does not move it.
    let mut raw = test.raw();
    let (mut ended, mut sent) = (false, 0);
    while !ended {
        ended = raw.0.write_all(&[0]).is_err();
        sent += 1;
        assert!(sent < 15, "only the magic of an option is waited for so long");
        std::thread::sleep(Duration::from_millis(40));
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn an_idle_session_has_none() {
    let limits = Limits { handshake_time: Duration::from_millis(200), ..Limits::default() };
    let (test, _disk) = TestServer::of_memory_with(limits, MIB);
    let mut raw = RawClient::open(&test.path(), false);
    std::thread::sleep(Duration::from_millis(400));
    raw.request(0, 0, 1, 0, 512);
    assert_eq!(raw.simple_reply(), (1, 0));
}

#[test]
fn who_never_takes_replies_is_ended_and_others_are_served() {
    let limits = Limits { reply_time: Duration::from_millis(300), ..Limits::default() };
    let (test, _disk) = TestServer::of_memory_with(limits, 4 * MIB);
    let mut raw = RawClient::open(&test.path(), true);
    for cookie in 0..64 {
        raw.request(0, 0, cookie, 0, 1 << 20);
    }
    test.assert_serves();
    eventually("it is ended", || test.server.connections(&name()) == 0);
}

#[test]
fn there_is_a_most_of_sessions() {
    let limits = Limits { sessions: 2, ..Limits::default() };
    let (test, _disk) = TestServer::of_memory_with(limits, MIB);
    let one = RawClient::open(&test.path(), false);
    let _other = RawClient::open(&test.path(), false);
    let mut third = test.raw();
    third.option(7, &go("disk"));
    assert_eq!(third.option_reply(7).0, 0x8000_0002); // POLICY
    drop(one);
    eventually("one has left", || test.server.connections(&name()) == 1);
    third.option(7, &go("disk"));
    while third.option_reply(7).0 != ACK {}
}

#[test]
fn a_client_that_closes_its_sending_side_still_gets_its_answers() {
    let (test, _disk) = TestServer::of_memory(MIB);
    let mut raw = RawClient::open(&test.path(), false);
    raw.request(0, 0, 1, 0, 4096);
    raw.request(0, 3, 2, 0, 0);
    raw.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(raw.simple_reply(), (1, 0));
    raw.take(4096);
    assert_eq!(raw.simple_reply(), (2, 0));
    raw.assert_hung_up();
}

/// A disk with a bug in it.
#[derive(Debug)]
struct BrokenDisk(MemoryDisk);

impl BlockDevice for BrokenDisk {
    fn size(&self) -> ByteLength {
        self.0.size()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read_at(&self, _: &mut [u8], _: ByteOffset) -> Result<(), DeviceError> {
        panic!("a bug of the disk, as this test wants it")
    }

    fn write_at(&self, _: &[u8], _: ByteOffset, _: Durability) -> Result<(), DeviceError> {
        Err(DeviceError::Damaged { detail: "as this test wants it".into() })
    }

    fn flush(&self) -> Result<(), DeviceError> {
        panic!("a bug of the disk, as this test wants it")
    }

    fn discard(&self, _: ByteOffset, _: ByteLength) -> Result<(), DeviceError> {
        Err(DeviceError::NoSpace)
    }

    fn write_zeroes(
        &self,
        _: ByteOffset,
        _: ByteLength,
        _: ZeroMode,
        _: Durability,
    ) -> Result<(), DeviceError> {
        Err(DeviceError::Poisoned { reason: "as this test wants it".into() })
    }

    fn extents(&self, _: ByteOffset, _: ByteLength, _: usize) -> Result<Vec<Extent>, DeviceError> {
        Err(DeviceError::Io(std::io::Error::other("as this test wants it")))
    }
}

#[test]
fn a_disk_that_fails_or_panics_takes_nobody_along() {
    let (test, _disk) = TestServer::of_memory(MIB);
    let broken = std::sync::Arc::new(BrokenDisk(MemoryDisk::new(ByteLength::new(MIB))));
    let broken_name = "broken".parse().unwrap();
    test.server.publish(&broken_name, broken.clone());
    let connect = || NbdClient::connect_unix(&test.path(), "broken").unwrap();
    let mut client = connect();
    let answered = |outcome: Result<(), ClientError>, expected| {
        assert!(matches!(outcome, Err(ClientError::Answered(errno)) if errno == expected));
    };
    let (start, length) = (at(0), ByteLength::new(512));
    let (mode, cached) = (ZeroMode::Punch, Durability::Cached);
    answered(client.write(&[1; 512], start, cached), Errno::InputOutput);
    answered(client.write(&vec![1; 1 << 20], start, cached), Errno::InputOutput);
    answered(client.trim(start, length), Errno::NoSpace);
    answered(client.write_zeroes(start, length, mode, cached), Errno::InputOutput);
    answered(client.block_status(start, length).map(drop), Errno::InputOutput);
    // A panic ends the connection, of whichever of its threads it is.
    assert!(matches!(client.flush(), Err(ClientError::Connection(_))));
    let mut sector = [0; 512];
    assert!(matches!(connect().read(&mut sector, start), Err(ClientError::Connection(_))));
    test.assert_serves();
    test.server.fence(&broken_name, FenceMode::Drop).unwrap();
    assert_eq!(std::sync::Arc::strong_count(&broken), 1);
}
