//! "My machine runs out of file descriptors": new clients wait, running ones go on, and it passes
//! by itself. A program of its own, because the limit is the whole process's.

#![expect(clippy::unwrap_used, reason = "all of this is tests; clippy sees only #[test] as such")]

use std::{
    fs::File,
    io::Read,
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use block_device::{ByteLength, ByteOffset, Durability, MemoryDisk};
use nbd_server::{Limits, NbdServer, client::NbdClient};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn out_of_descriptors_is_survived() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let server = NbdServer::new(Limits::default());
    let disk = Arc::new(MemoryDisk::new(ByteLength::new(1 << 20)));
    server.publish(&"disk".parse().unwrap(), disk);
    server.listen_unix(&path).unwrap();
    let mut running = NbdClient::connect_unix(&path, "disk").unwrap();

    let mut half_open: Vec<_> = (0..16).map(|_| half_open_client(&path)).collect();
    let (_filled, one) = use_up_descriptors();
    running.write(&[1; 4096], ByteOffset::ZERO, Durability::ForceUnitAccess).unwrap();

    // One is free for the client's end. For its own, the server gives up the half-open connection
    // that has taken longest.
    drop(one);
    let begun = Instant::now();
    let mut fresh = NbdClient::connect_unix(&path, "disk").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60));
    let mut read = [0; 4096];
    fresh.read(&mut read, ByteOffset::ZERO).unwrap();
    assert_eq!(read, [1; 4096]);
    assert_eq!(half_open[0].read(&mut read).unwrap(), 0, "the slowest was ended");
    running.flush().unwrap();
    server.shutdown();
}

/// A client that has been greeted and says nothing.
fn half_open_client(path: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.read_exact(&mut [0; 18]).unwrap();
    stream
}

/// Opens files until the process may open no more; gives them, and one of them apart.
fn use_up_descriptors() -> (Vec<File>, File) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum }).unwrap();
    let mut files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let one = files.pop().expect("a test program has opened fewer than 100 files");
    (files, one)
}
