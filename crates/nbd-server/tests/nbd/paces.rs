//! "One VM must not eat the machine": requests wait for their turns, and nothing else does.
//!
//! A turn that has to be waited for is an hour away here, so that a test which goes on was let go.

use std::{num::NonZeroU64, sync::Arc, thread};

use block_device::{Durability, ExportPlane, FenceMode, Pace, Rates};

use crate::support::{MIB, RawClient, TestServer, at, name, request};

/// One byte a second: what moves a sector pays for minutes.
const SLOWEST: Rates = Rates { iops: None, bytes_per_second: Some(NonZeroU64::MIN) };

fn slow_server() -> (TestServer, Arc<Pace>) {
    let (test, disk) = TestServer::of_memory(MIB);
    let pace = Arc::new(Pace::new(SLOWEST));
    test.server.publish_paced(&name(), disk, Arc::clone(&pace));
    (test, pace)
}

#[test]
fn who_waits_for_a_turn_is_let_go_by_a_fence() {
    let (test, pace) = slow_server();
    let mut client = test.client();
    // The first has its turn at once, and pays for it with that of the next.
    client.write(&[1; 4096], at(0), Durability::Cached).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.write(&[2; 4096], at(0), Durability::Cached));
        while test.server.counters()[0].1.under_way == 0 {
            thread::yield_now();
        }
        test.server.fence(&name(), FenceMode::Drop).unwrap();
        assert!(waiting.join().unwrap().is_err());
    });
    assert!(!pace.is_limited());
}

#[test]
fn who_waits_for_a_turn_is_let_go_by_new_rates() {
    let (test, _) = slow_server();
    let mut client = test.client();
    client.write(&[1; 4096], at(0), Durability::Cached).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.read(&mut [0; 4096], at(0)));
        while test.server.counters()[0].1.under_way == 0 {
            thread::yield_now();
        }
        test.server.set_rates(&name(), Rates::UNLIMITED);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn answers_and_flushes_wait_for_no_turn() {
    let (test, _) = slow_server();
    let mut raw = RawClient::open(&test.path(), false);
    // All three at once: the answer of the first leaves though the second waits behind it.
    let mut sent = request(0, 0, 7, 0, 512);
    sent.extend(request(0, 0, 8, 0, 512));
    raw.send(&sent);
    assert_eq!(raw.simple_reply(), (7, 0));
    raw.take(512);
    let mut other = test.client();
    other.flush().unwrap();
}
