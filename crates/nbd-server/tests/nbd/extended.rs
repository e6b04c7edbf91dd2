//! "My disk is larger than a request of 32 bits": extended headers, well and badly used.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use block_device::{
    BlockDevice, ByteLength, ByteOffset, DeviceError, Durability, Extent, ExtentKind, ZeroMode,
};
use nbd_server::{
    Errno,
    client::{ClientError, Headers, NbdClient},
};

use crate::support::{MIB, RawClient, TestServer, at, bytes, extended_request, name, u32_at};

const INVALID: u32 = 22;
const TIB: u64 = 1 << 40;
const PAYLOAD: u16 = 1 << 5;

/// A disk of 8 TiB that holds nothing, and adds up what is zeroed and how much at a time.
#[derive(Debug, Default)]
struct VastDisk {
    zeroed: AtomicU64,
    discarded: AtomicU64,
    longest: AtomicU64,
    read: AtomicU64,
}

impl VastDisk {
    fn note(&self, sum: &AtomicU64, length: ByteLength) {
        sum.fetch_add(length.get(), Ordering::SeqCst);
        self.longest.fetch_max(length.get(), Ordering::SeqCst);
    }
}

impl BlockDevice for VastDisk {
    fn size(&self) -> ByteLength {
        bytes(8 * TIB)
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read_at(&self, buffer: &mut [u8], _: ByteOffset) -> Result<(), DeviceError> {
        self.read.fetch_add(ByteLength::of(buffer).get(), Ordering::SeqCst);
        buffer.fill(0);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: ByteOffset, _: Durability) -> Result<(), DeviceError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn discard(&self, _: ByteOffset, length: ByteLength) -> Result<(), DeviceError> {
        self.note(&self.discarded, length);
        Ok(())
    }

    fn write_zeroes(
        &self,
        _: ByteOffset,
        length: ByteLength,
        _: ZeroMode,
        _: Durability,
    ) -> Result<(), DeviceError> {
        self.note(&self.zeroed, length);
        Ok(())
    }

    fn zeroes_fast(&self, _: ByteOffset, length: ByteLength) -> bool {
        length.get() > 4096
    }

    fn extents(
        &self,
        _: ByteOffset,
        length: ByteLength,
        _: usize,
    ) -> Result<Vec<Extent>, DeviceError> {
        Ok(vec![Extent { length, kind: ExtentKind::Hole }])
    }
}

fn vast() -> (TestServer, Arc<VastDisk>) {
    let test = TestServer::start();
    let disk = Arc::new(VastDisk::default());
    test.server.publish(&name(), disk.clone());
    (test, disk)
}

#[test]
fn requests_of_terabytes_are_one_request_each() {
    let (test, disk) = vast();
    let mut client = test.client();
    assert!(client.has_extended_headers());
    let (start, length) = (at(TIB + 512), bytes(5 * TIB));
    client.trim(start, length).unwrap();
    client.write_zeroes(start, length, ZeroMode::Punch, Durability::Cached).unwrap();
    assert_eq!(disk.discarded.load(Ordering::SeqCst), 5 * TIB);
    assert_eq!(disk.zeroed.load(Ordering::SeqCst), 5 * TIB);
    // A fence waits for one stretch at most, not for terabytes.
    assert!(disk.longest.load(Ordering::SeqCst) <= 1 << 30);
    let extents = client.block_status(start, length).unwrap();
    assert_eq!(extents, [Extent { length: bytes(64 << 30), kind: ExtentKind::Hole }]);
}

#[test]
fn a_client_with_compact_headers_is_served_as_ever() {
    let (test, _disk) = vast();
    let headers = Headers::Compact;
    let mut client = NbdClient::connect_unix_with(&test.path(), "disk", headers).unwrap();
    assert!(!client.has_extended_headers());
    let too_long = client.trim(at(0), bytes(5 * TIB));
    assert!(matches!(too_long, Err(ClientError::TooLong(_))));
    let extents = client.block_status(at(0), bytes(3 << 30)).unwrap();
    assert_eq!(extents, [Extent { length: bytes(3 << 30), kind: ExtentKind::Hole }]);
    client.disconnect().unwrap();
}

#[test]
fn zeroing_that_would_not_be_fast_is_refused_before_anything_is_changed() {
    let (test, disk) = vast();
    let mut client = test.client();
    assert_eq!(client.flags() & (1 << 11), 1 << 11);
    let slow = client.fast_zeroes(at(0), bytes(4096), ZeroMode::Punch);
    assert!(matches!(slow, Err(ClientError::Answered(Errno::NotSupported))));
    assert_eq!(disk.zeroed.load(Ordering::SeqCst), 0);
    client.fast_zeroes(at(0), bytes(8192), ZeroMode::KeepAllocated).unwrap();
    assert_eq!(disk.zeroed.load(Ordering::SeqCst), 8192);
    // Where it may take its time, the same stretch is zeroed.
    let cached = Durability::Cached;
    client.write_zeroes(at(0), bytes(4096), ZeroMode::Punch, cached).unwrap();
    assert_eq!(disk.zeroed.load(Ordering::SeqCst), 8192 + 4096);
}

#[test]
fn what_is_to_be_cached_is_read_but_never_more_than_a_read_could_ask_for() {
    let (test, disk) = vast();
    let mut client = test.client();
    assert_eq!(client.flags() & (1 << 10), 1 << 10);
    client.cache(at(512), bytes(MIB)).unwrap();
    assert_eq!(disk.read.load(Ordering::SeqCst), MIB);
    client.cache(at(0), bytes(8 * TIB)).unwrap();
    assert_eq!(disk.read.load(Ordering::SeqCst), MIB + (32 << 20));
    let past = client.cache(at(8 * TIB), bytes(512));
    assert!(matches!(past, Err(ClientError::Answered(Errno::Invalid))));
}

#[test]
fn every_reply_is_extended_and_repeats_the_offset() {
    let (test, _disk) = TestServer::of_memory(4 * MIB);
    let mut raw = RawClient::open_extended(&test.path(), &["base:allocation"]);
    // A write with the flag, and one as QEMU sends it.
    for (cookie, flags) in [(1, PAYLOAD), (2, 0)] {
        raw.send(&extended_request(flags, 1, cookie, 4096 * cookie, 4096));
        raw.send(&[7; 4096]);
        assert_eq!(raw.extended_outcome(cookie, 4096 * cookie), 0);
    }
    raw.send(&extended_request(0, 3, 3, 0, 0));
    assert_eq!(raw.extended_outcome(3, 0), 0);
    // A read in pieces: each says the offset of the request before its own.
    raw.send(&extended_request(0, 0, 4, 512, 1 << 20));
    let mut seen = 0;
    loop {
        let (flags, kind, body) = raw.extended_chunk(4, 512);
        assert_eq!(kind, 1);
        assert_eq!(body[..8], (512u64 + seen).to_be_bytes());
        seen += u64::try_from(body.len()).unwrap() - 8;
        if flags == 1 {
            break;
        }
    }
    assert_eq!(seen, MIB);
    // And in one piece.
    raw.send(&extended_request(1 << 2, 0, 5, 512, 1 << 20));
    let (flags, kind, body) = raw.extended_chunk(5, 512);
    assert_eq!((flags, kind, body.len()), (1, 1, 8 + (1 << 20)));
    raw.send(&extended_request(0, 7, 6, 0, 16384));
    let (flags, kind, body) = raw.extended_chunk(6, 0);
    assert_eq!((flags, kind), (1, 6));
    // Context and count, then length, padding and flags of each extent.
    let numbers: Vec<_> = (0..body.len()).step_by(4).map(|place| u32_at(&body, place)).collect();
    assert_eq!(numbers, [1, 3, 0, 4096, 0, 2, 0, 8192, 0, 0, 0, 4096, 0, 2]);
}

#[test]
fn a_status_of_two_contexts_is_a_chunk_of_each() {
    let (test, disk) = TestServer::of_memory(MIB);
    disk.write_at(&[0; 4096], at(4096), Durability::Cached).unwrap();
    let mut raw = RawClient::open_extended(&test.path(), &["reinit:dirty", "base:allocation"]);
    let numbers = |body: &[u8]| -> Vec<u32> {
        (0..body.len()).step_by(4).map(|place| u32_at(body, place)).collect()
    };
    raw.send(&extended_request(0, 7, 6, 0, 16384));
    let (flags, kind, body) = raw.extended_chunk(6, 0);
    assert_eq!((flags, kind), (0, 6), "another one follows");
    assert_eq!(numbers(&body), [1, 1, 0, 16384, 0, 2]);
    let (flags, kind, body) = raw.extended_chunk(6, 0);
    assert_eq!((flags, kind), (1, 6));
    assert_eq!(numbers(&body), [2, 3, 0, 4096, 0, 0, 0, 4096, 0, 1, 0, 8192, 0, 0]);
    // One of them is chosen, and of it one extent.
    raw.send(&extended_request(PAYLOAD | 1 << 3, 7, 7, 4096, 12));
    raw.send(&[0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 2]);
    let (flags, kind, body) = raw.extended_chunk(7, 4096);
    assert_eq!((flags, kind), (1, 6));
    assert_eq!(numbers(&body), [2, 1, 0, 4096, 0, 1]);
}

#[test]
fn changes_are_told_with_either_headers() {
    let (test, _disk) = TestServer::of_memory(MIB);
    for (turn, headers) in [Headers::Compact, Headers::Extended].into_iter().enumerate() {
        let place = 65536 * (1 + u64::try_from(turn).unwrap());
        let mut client = NbdClient::connect_unix_with(&test.path(), "disk", headers).unwrap();
        let told = |client: &mut NbdClient| -> Vec<_> {
            let changes = client.changes(at(place), bytes(65536)).unwrap();
            changes.iter().map(|it| (it.length.get(), it.is_changed)).collect()
        };
        assert_eq!(told(&mut client), [(65536, false)]);
        client.write(&[1; 512], at(place + 4096), Durability::Cached).unwrap();
        assert_eq!(told(&mut client), [(4096, false), (4096, true), (57344, false)]);
        // The other context is not mistaken for it.
        assert_eq!(client.block_status(at(place + 8192), bytes(8192)).unwrap().len(), 1);
    }
    // A disk that does not track them.
    let (test, _disk) = vast();
    let unknown = test.client().changes(at(0), bytes(512));
    assert!(matches!(unknown, Err(ClientError::NotTold("reinit:dirty"))));
}

#[test]
fn extended_requests_that_cannot_be_done_leave_the_session_in_step() {
    let (test, disk) = TestServer::of_memory(MIB);
    let mut raw = RawClient::open_extended(&test.path(), &["base:allocation"]);
    let id = 1u32.to_be_bytes();
    let choice = |length: u64, ids: &[[u8; 4]]| [&length.to_be_bytes()[..], &ids.concat()].concat();
    // Flags, command, offset, length, and the payload that follows.
    let cases: Vec<(u16, u16, u64, u64, Vec<u8>)> = vec![
        (PAYLOAD, 0, 0, 512, vec![0xee; 512]),
        (PAYLOAD, 3, 0, 100, vec![0xee; 100]),
        (PAYLOAD, 4, 0, 4096, vec![0xee; 4096]),
        (PAYLOAD, 6, 0, 1 << 20, vec![0xee; 1 << 20]),
        (PAYLOAD, 4242, 0, 32 << 20, vec![0xee; 32 << 20]),
        (PAYLOAD, 7, 0, 7, vec![0xee; 7]),
        (PAYLOAD, 7, 0, 8, choice(512, &[])),
        (PAYLOAD, 7, 0, 12, choice(512, &[[0, 0, 0, 9]])),
        (PAYLOAD, 7, 0, 12, choice(MIB + 512, &[id])),
        (PAYLOAD, 7, 0, 12, choice(u64::MAX, &[id])),
        (PAYLOAD, 7, 0, 12, choice(0, &[id])),
        (PAYLOAD, 7, 0, 16, choice(512, &[id, id])),
        (PAYLOAD, 7, 0, 4096, vec![0; 4096]),
        (0x8000, 1, 0, 512, vec![0xee; 512]),
        (0, 0, 0, u64::MAX, vec![]),
        (0, 0, 0, 1 << 32, vec![]),
        (0, 4, 512, u64::MAX - 511, vec![]),
        (0, 7, u64::MAX - 511, 512, vec![]),
        (0, 7, 0, 1 << 40, vec![]),
        (0, 5, MIB, 512, vec![]),
        (PAYLOAD, 5, 0, 512, vec![0xee; 512]),
        (0, 8, 0, 512, vec![]),
    ];
    for (flags, command, offset, length, payload) in cases {
        raw.send(&extended_request(flags, command, 77, offset, length));
        raw.send(&payload);
        let outcome = raw.extended_outcome(77, offset);
        assert_eq!(outcome, INVALID, "{flags} {command} {offset} {length}");
    }
    // Nothing was changed, and the session serves on.
    raw.send(&extended_request(PAYLOAD, 7, 78, 512, 12));
    raw.send(&choice(MIB - 512, &[id]));
    let (flags, kind, body) = raw.extended_chunk(78, 512);
    assert_eq!((flags, kind, body.len()), (1, 6, 8 + 16));
    assert_eq!(disk.flushes(), 0);
}

#[test]
fn payloads_above_the_limit_hang_up() {
    let (test, _disk) = TestServer::of_memory(MIB);
    for command in [0, 1, 7, 4242] {
        for length in [(32 << 20) + 1, u64::from(u32::MAX) + 1, u64::MAX] {
            let mut raw = RawClient::open_extended(&test.path(), &[]);
            raw.send(&extended_request(PAYLOAD, command, 1, 0, length));
            raw.assert_hung_up();
        }
    }
    // A compact request in an extended session, and the other way round.
    let mut raw = RawClient::open_extended(&test.path(), &[]);
    raw.request(0, 0, 1, 0, 512);
    raw.try_send(&[0; 64]);
    raw.assert_hung_up();
    let mut raw = RawClient::open(&test.path(), true);
    raw.send(&extended_request(0, 0, 1, 0, 512));
    raw.assert_hung_up();
    test.assert_serves();
}

#[test]
fn an_extended_session_is_told_of_a_fence() {
    let (test, disk) = TestServer::of_memory(MIB);
    let mut raw = RawClient::open_extended(&test.path(), &[]);
    disk.fence();
    raw.send(&extended_request(0, 3, 4, 0, 0));
    assert_eq!(raw.extended_outcome(4, 0), Errno::ShuttingDown.code());
    raw.assert_hung_up();
}
