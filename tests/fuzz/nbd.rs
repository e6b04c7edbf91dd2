//! What a client of an NBD server may send: before an export is chosen, and after.
//!
//! What must be true after each input: the connection is over once the client has said that nothing more comes, every
//! reply where they are structured was whole and to a request that was made, and a fresh client is served on the same disk.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use block_device::{ByteLength, ByteOffset, Durability, MemoryDisk};
use nbd_server::{Limits, NbdServer, client::NbdClient};
use tests::recorded_storage::scratch;

use crate::campaign::Trial;

const DISK: u64 = 1 << 20;
const OPTION: [u8; 8] = 0x4948_4156_454f_5054_u64.to_be_bytes();
const REQUEST: [u8; 4] = 0x2560_9513_u32.to_be_bytes();
const CHUNK: [u8; 4] = 0x668e_33ef_u32.to_be_bytes();
const SIMPLE: [u8; 4] = 0x6744_6698_u32.to_be_bytes();
const REQUEST_BYTES: usize = 28;

/// What is said to a server again and again.
pub(crate) const WORDS: [&[u8]; 5] = [
    &OPTION,
    &REQUEST,
    b"\0\0\0\x04disk",
    b"\0\0\0\x0fbase:allocation",
    b"\0\0\0\x07\0\0\0\x0a\0\0\0\x04disk\0\0",
];

/// A server with one disk, which lives as long as the process.
struct Bench {
    _server: NbdServer,
    _directory: tempfile::TempDir,
    socket: PathBuf,
    served: u64,
}

/// How the client begins before it sends the input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// Not at all: the input is all it says.
    Silent,
    /// It answered the greeting.
    Greeted,
    /// It is in transmission with simple replies.
    Simple,
    /// It is in transmission with structured replies.
    Structured,
}

/// Inputs that are said while the two sides agree on an export; the first byte says whether the greeting is answered.
pub(crate) fn options() -> Trial {
    let mut bench = Bench::new();
    Box::new(move |input| {
        let (first, rest) = input.split_first().unwrap_or((&0, &[]));
        let opening = if first % 4 == 0 { Opening::Silent } else { Opening::Greeted };
        bench.pour(opening, rest);
        bench.assert_serves();
    })
}

/// Inputs that are said in transmission; the first byte says with which kind of replies. The rest is cut into requests
/// that have the right mark where a bit of that byte asks for it, so that most of them are read to their end.
pub(crate) fn requests() -> Trial {
    let mut bench = Bench::new();
    Box::new(move |input| {
        let (first, rest) = input.split_first().unwrap_or((&0, &[]));
        let mut said = rest.to_vec();
        if first & 2 == 0 {
            mark_requests(&mut said);
        }
        if first & 1 == 0 {
            bench.pour(Opening::Simple, &said);
        } else {
            let heard = bench.pour(Opening::Structured, &said);
            check_replies(&said, &heard);
        }
        bench.assert_serves();
    })
}

impl Bench {
    fn new() -> Self {
        let directory = scratch();
        let socket = directory.path().join("socket");
        let server = NbdServer::new(Limits::default());
        server.listen_unix(&socket).unwrap();
        let disk = Arc::new(MemoryDisk::new(ByteLength::new(DISK)));
        server.publish(&"disk".parse().unwrap(), disk);
        Self { _server: server, _directory: directory, socket, served: 0 }
    }

    /// Says all of it, that nothing more comes, and answers what the server said after the opening.
    fn pour(&self, opening: Opening, said: &[u8]) -> Vec<u8> {
        let mut client = open(&self.socket, opening);
        let mut writer = client.try_clone().unwrap();
        let said = said.to_vec();
        // A server that hangs up early is right; one that reads nothing more must not stop us from listening.
        let writing = thread::spawn(move || {
            let _ = writer.write_all(&said);
            let _ = writer.shutdown(Shutdown::Write);
        });
        let mut heard = Vec::new();
        let mut part = vec![0; 1 << 16];
        loop {
            match client.read(&mut part) {
                Ok(0) => break,
                // More than a client would ever keep: a small input must not make a large answer without end.
                Ok(length) if heard.len() < 64 << 20 => heard.extend_from_slice(&part[..length]),
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
                    break;
                }
            }
        }
        writing.join().unwrap();
        heard
    }

    /// A fresh client writes something that was never there and reads it back.
    fn assert_serves(&mut self) {
        self.served += 1;
        let mut client = NbdClient::connect_unix(&self.socket, "disk").unwrap();
        let mut sector = [0; 512];
        sector[..8].copy_from_slice(&self.served.to_le_bytes());
        let place = ByteOffset::new(self.served * 512 % DISK);
        client.write(&sector, place, Durability::ForceUnitAccess).unwrap();
        let mut found = [0; 512];
        client.read(&mut found, place).unwrap();
        assert_eq!(found, sector);
    }
}

fn open(socket: &Path, opening: Opening) -> UnixStream {
    let mut client = UnixStream::connect(socket).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    if opening == Opening::Silent {
        return client;
    }
    assert_eq!(&take(&mut client, 18)[..16], b"NBDMAGICIHAVEOPT");
    client.write_all(&3_u32.to_be_bytes()).unwrap();
    if opening == Opening::Structured {
        choose(&mut client, 8, &[]);
    }
    if opening != Opening::Greeted {
        choose(&mut client, 7, b"\0\0\0\x04disk\0\0");
    }
    client
}

/// Asks for an option and waits until it is granted.
fn choose(client: &mut UnixStream, code: u32, data: &[u8]) {
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    client.write_all(&[&OPTION[..], &code.to_be_bytes(), &length, data].concat()).unwrap();
    loop {
        let head = take(client, 20);
        take(client, number(&head, 16));
        match number(&head, 12) {
            1 => return,
            3 => {}
            other => panic!("option {code} is answered {other}"),
        }
    }
}

fn take(client: &mut UnixStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    client.read_exact(&mut bytes).unwrap();
    bytes
}

fn number(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
}

/// Where the requests of a stream begin, as a server that stays in step sees it.
fn places(said: &[u8]) -> Vec<usize> {
    let (mut at, mut places) = (0, Vec::new());
    while at + REQUEST_BYTES <= said.len() {
        places.push(at);
        let is_write = said[at + 6..at + 8] == [0, 1];
        at += REQUEST_BYTES + if is_write { number(said, at + 24) } else { 0 };
    }
    places
}

fn mark_requests(said: &mut [u8]) {
    for at in places(said) {
        said[at..at + 4].copy_from_slice(&REQUEST);
    }
}

/// All that was heard is whole chunks, or simple replies without data, to requests that were made.
fn check_replies(said: &[u8], heard: &[u8]) {
    let cookies: Vec<_> =
        places(said).into_iter().map(|at| said[at + 8..at + 16].to_vec()).collect();
    let mut rest = heard;
    while !rest.is_empty() {
        assert!(rest.len() >= 16, "a reply is cut short: {rest:02x?}");
        assert!(cookies.iter().any(|cookie| *cookie == rest[8..16]), "a reply to nothing");
        let length = match rest[..4].try_into().unwrap() {
            SIMPLE => 16,
            CHUNK => 20 + number(rest, 16),
            other => panic!("no reply begins with {other:02x?}"),
        };
        assert!(rest.len() >= length, "a reply is cut short");
        rest = &rest[length..];
    }
}
