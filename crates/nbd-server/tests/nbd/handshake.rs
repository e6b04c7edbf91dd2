//! "My client shakes hands in its own way": each option, well and badly put, in one session.

use crate::support::{
    ACK, EXTENDED_REQUIRED, Held, HeldDisk, INVALID, POLICY, RawClient, SHUTDOWN, TOO_BIG,
    TestServer, UNKNOWN, UNSUPPORTED, context_query, eventually, go, name, text, u16_at, u32_at,
};

#[test]
fn export_name_opens_with_and_without_the_zeroes() {
    let (test, _disk) = TestServer::of_memory(1 << 20);
    for (flags, zeroes) in [(3u32, 0), (1, 124)] {
        let mut raw = RawClient::silent(&test.path());
        raw.take(18);
        raw.send(&flags.to_be_bytes());
        raw.option(1, b"disk");
        let answer = raw.take(10 + zeroes);
        assert_eq!(answer[..8], (1u64 << 20).to_be_bytes());
        // Flush, FUA, trim, write zeroes, multi-conn, cache, fast zero, and that there are flags; no
        // DF, for there are no chunks.
        assert_eq!(u16_at(&answer, 8), 0b1101_0110_1101);
        raw.request(0, 0, 7, 0, 512);
        assert_eq!(raw.simple_reply(), (7, 0));
        assert_eq!(raw.take(512), [0; 512]);
    }
}

#[test]
fn export_name_of_nothing_hangs_up() {
    let (test, _disk) = TestServer::of_memory(1 << 20);
    for name in [&b"other"[..], b"", b"\xff\xfe", b"../disk"] {
        let mut raw = test.raw();
        raw.option(1, name);
        raw.assert_hung_up();
    }
}

#[test]
fn options_are_answered_and_the_session_stays_in_step() {
    let (test, _disk) = TestServer::of_memory(1 << 20);
    let long = "a".repeat(4097);
    let mut lying = go("disk");
    lying.push(0);
    let cases: [(u32, Vec<u8>, u32); 15] = [
        (5, vec![], POLICY),
        (5, vec![1], INVALID),
        (11, vec![1], INVALID),
        (4, text("disk"), UNSUPPORTED),
        (4242, vec![7; 100], UNSUPPORTED),
        (0, vec![], UNSUPPORTED),
        (3, vec![1], INVALID),
        (8, vec![1], INVALID),
        (7, vec![], INVALID),
        (7, lying, INVALID),
        (7, go("other"), UNKNOWN),
        (7, go(&long), TOO_BIG),
        (6, go("other"), UNKNOWN),
        (4242, vec![7; 100_000], TOO_BIG),
        (10, context_query("disk", &["base:allocation"]), INVALID), // before structured replies
    ];
    let mut raw = test.raw();
    for (code, data, expected) in cases {
        raw.option(code, &data);
        assert_eq!(raw.option_reply(code).0, expected, "option {code}");
    }
    raw.option(7, &go("disk"));
    while raw.option_reply(7).0 != ACK {}
}

#[test]
fn list_names_the_exports_in_order() {
    let (test, disk) = TestServer::of_memory(1 << 20);
    test.server.publish(&"d-2".parse().unwrap(), disk.clone());
    test.server.publish(&"d-1".parse().unwrap(), disk);
    let mut raw = test.raw();
    raw.option(3, &[]);
    for name in ["d-1", "d-2", "disk"] {
        assert_eq!(raw.option_reply(3), (2, text(name)));
    }
    assert_eq!(raw.option_reply(3), (ACK, vec![]));
}

#[test]
fn info_tells_size_flags_block_sizes_and_the_name_if_asked() {
    let (test, _disk) = TestServer::of_memory(1 << 20);
    let mut raw = test.raw();
    let mut query = text("disk");
    query.extend([0, 2, 0, 1, 0, 99]); // the name, and something unknown
    raw.option(6, &query);
    let (kind, export) = raw.option_reply(6);
    assert_eq!((kind, u16_at(&export, 0)), (3, 0));
    assert_eq!(export[2..10], (1u64 << 20).to_be_bytes());
    let (kind, blocks) = raw.option_reply(6);
    assert_eq!((kind, u16_at(&blocks, 0)), (3, 3));
    let sizes = [2, 6, 10].map(|place| u32_at(&blocks, place));
    assert_eq!(sizes, [512, 4096, 32 << 20]);
    assert_eq!(raw.option_reply(6), (3, b"\0\x01disk".to_vec()));
    assert_eq!(raw.option_reply(6), (ACK, vec![]));
}

#[test]
fn contexts_are_listed_and_set_for_one_export() {
    let (test, disk) = TestServer::of_memory(1 << 20);
    test.server.publish(&"other".parse().unwrap(), disk);
    let mut raw = test.raw();
    let (allocation, dirty) = (&b"\0\0\0\0base:allocation"[..], &b"\0\0\0\0reinit:dirty"[..]);
    let cases: [(&[&str], &[&[u8]]); 6] = [
        (&[], &[allocation, dirty]),
        (&["base:"], &[allocation]),
        (&["base:allocation"], &[allocation]),
        (&["x:", "reinit:"], &[dirty]),
        (&["reinit:dirty", "base:"], &[allocation, dirty]),
        (&["base", "reinit:dir"], &[]),
    ];
    for (queries, expected) in cases {
        raw.option(9, &context_query("disk", queries));
        for context in expected {
            assert_eq!(raw.option_reply(9), (4, context.to_vec()));
        }
        assert_eq!(raw.option_reply(9), (ACK, vec![]));
    }
    raw.option(9, &context_query("disk", &["qemu:"]));
    assert_eq!(raw.option_reply(9), (ACK, vec![]));
    raw.option(8, &[]);
    assert_eq!(raw.option_reply(8), (ACK, vec![]));
    raw.option(10, &context_query("nothing", &["base:allocation"]));
    assert_eq!(raw.option_reply(10).0, UNKNOWN);
    raw.option(10, &context_query("disk", &["base:allocation"]));
    assert_eq!(raw.option_reply(10), (4, b"\0\0\0\x01base:allocation".to_vec()));
    assert_eq!(raw.option_reply(10), (ACK, vec![]));
    // Set for one export and used with another: it does not count.
    raw.option(7, &go("other"));
    while raw.option_reply(7).0 != ACK {}
    raw.request(0, 7, 1, 0, 512);
    let (flags, kind, body) = raw.chunk(1);
    assert_eq!((flags, kind, u32_at(&body, 0)), (1, 0x8001, 22));
}

#[test]
fn a_disk_that_does_not_track_its_changes_offers_none() {
    let test = TestServer::start();
    test.server.publish(&name(), HeldDisk::new(1 << 20, Held::Reads));
    let mut raw = test.raw();
    raw.option(8, &[]);
    assert_eq!(raw.option_reply(8), (ACK, vec![]));
    for code in [9, 10] {
        raw.option(code, &context_query("disk", &["reinit:dirty"]));
        assert_eq!(raw.option_reply(code), (ACK, vec![]));
    }
}

#[test]
fn extended_headers_take_precedence() {
    let (test, _disk) = TestServer::of_memory(1 << 20);
    let mut raw = test.raw();
    for (code, expected) in [(8, ACK), (11, ACK), (8, EXTENDED_REQUIRED), (11, ACK)] {
        raw.option(code, &[]);
        assert_eq!(raw.option_reply(code).0, expected, "option {code}");
    }
    // A context is all that a filter of contexts needs to be offered.
    let flags = |raw: &mut RawClient| {
        raw.option(6, &go("disk"));
        let flags = u16_at(&raw.option_reply(6).1, 10);
        while raw.option_reply(6).0 != ACK {}
        flags
    };
    assert_eq!(flags(&mut raw) & (1 << 12 | 1 << 7), 1 << 7);
    raw.option(10, &context_query("disk", &["base:allocation"]));
    while raw.option_reply(10).0 != ACK {}
    assert_eq!(flags(&mut raw) & (1 << 12 | 1 << 7), 1 << 12 | 1 << 7);
    // The old way in cannot say that headers are extended.
    raw.option(1, b"disk");
    raw.assert_hung_up();
    test.assert_serves();
}

#[test]
fn abort_is_acknowledged() {
    let (test, _disk) = TestServer::of_memory(1 << 20);
    let mut raw = test.raw();
    raw.option(2, &[]);
    assert_eq!(raw.option_reply(2), (ACK, vec![]));
    raw.assert_hung_up();
}

#[test]
fn a_closing_export_says_so() {
    let test = TestServer::start();
    let disk = HeldDisk::new(1 << 20, Held::Flushes);
    test.server.publish(&name(), disk.clone());
    std::thread::scope(|scope| {
        let fence =
            scope.spawn(|| test.server.fence(&name(), block_device::FenceMode::Flush).unwrap());
        eventually("the fence flushes", || {
            disk.flushes.load(std::sync::atomic::Ordering::SeqCst) == 1
        });
        let mut raw = test.raw();
        raw.option(7, &go("disk"));
        assert_eq!(raw.option_reply(7).0, SHUTDOWN);
        disk.let_go();
        fence.join().unwrap();
        raw.option(7, &go("disk"));
        assert_eq!(raw.option_reply(7).0, UNKNOWN);
    });
}
