//! "I start and stop the server": its socket file, its threads, its end.

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixListener,
    },
    time::{Duration, Instant},
};

use block_device::Durability;
use nbd_server::{Limits, NbdServer};

use crate::support::{MIB, RawClient, TestServer, at};

#[test]
fn the_socket_is_its_owners_alone() {
    let test = TestServer::start();
    let mode = fs::metadata(test.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = NbdServer::new(Limits::default());
    server.listen_unix(&path).unwrap();
    RawClient::greet(&path);
    server.shutdown();
    assert!(!path.exists());
}

#[test]
fn a_socket_that_answers_and_a_file_that_is_none_stay() {
    let test = TestServer::start();
    let server = NbdServer::new(Limits::default());
    let error = server.listen_unix(&test.path()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    RawClient::greet(&test.path());
    let file = test.directory().join("file");
    fs::write(&file, "precious").unwrap();
    let error = server.listen_unix(&file).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(server.listen_unix(&test.directory().join("missing/socket")).is_err());
    server.shutdown();
}

#[test]
fn a_socket_of_somebody_else_at_its_place_stays_at_the_end() {
    let test = TestServer::start();
    fs::remove_file(test.path()).unwrap();
    let _theirs = UnixListener::bind(test.path()).unwrap();
    test.server.shutdown();
    assert!(fs::metadata(test.path()).unwrap().file_type().is_socket());
}

#[test]
fn shutdown_flushes_ends_everything_and_is_soon_done() {
    let (test, disk) = TestServer::of_memory(4 * MIB);
    let mut writer = test.client();
    writer.write(&[1; 512], at(0), Durability::Cached).unwrap();
    let _idle = test.client();
    let mut half_open = test.raw();
    let mut greedy = RawClient::open(&test.path(), true);
    for cookie in 0..64 {
        greedy.request(0, 0, cookie, 0, 1 << 20);
    }
    let begun = Instant::now();
    assert!(test.server.shutdown().is_empty());
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(disk.flushes(), 1);
    assert_eq!(std::sync::Arc::strong_count(&disk), 1);
    assert!(writer.flush().is_err());
    half_open.assert_hung_up();
    assert!(!test.path().exists());
    // And it stays down.
    test.server.publish(&"disk".parse().unwrap(), disk.clone());
    assert_eq!(std::sync::Arc::strong_count(&disk), 1);
    assert!(test.server.listen_unix(&test.path()).is_err());
}

#[test]
fn ten_thousand_connects_leave_nothing_behind() {
    let (test, _disk) = TestServer::of_memory(MIB);
    for turn in 0..2500 {
        drop(RawClient::silent(&test.path()));
        drop(test.raw());
        let client = test.client();
        if turn % 2 == 0 {
            client.disconnect().unwrap();
        }
        drop(RawClient::silent(&test.path()));
    }
    test.assert_serves();
    crate::support::eventually("all have left", || {
        test.server.connections(&crate::support::name()) == 0
    });
}
