//! "My disk goes over a network of others": STARTTLS, offered and required, and what comes in its
//! place.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use block_device::{Durability, FenceMode};
use nbd_server::{
    Limits, TlsOffer, TlsWish,
    client::{Answer, ClientError, NbdClient, Request},
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};

use crate::support::{
    ACK, Held, HeldDisk, INVALID, MIB, POLICY, RawClient, TLS_REQUIRED, TestServer, at, bytes,
    context_query, eventually, go, name, u32_at,
};

/// An authority, and a certificate of `localhost` from it.
struct Authority {
    root: CertificateDer<'static>,
    server: Arc<ServerConfig>,
    /// The same in PEM: authority, certificate, key.
    pem: [String; 3],
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let root = params.self_signed(&key).unwrap();
        let authority = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &authority).unwrap();
        let pem = [root.pem(), certificate.pem(), key.serialize_pem()];
        let secret = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)
            .unwrap();
        Self { root: root.der().clone(), server: Arc::new(server), pem }
    }

    fn wish(&self) -> TlsWish {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsWish { config: Arc::new(config), server: ServerName::try_from("localhost").unwrap() }
    }
}

/// A server with a disk in memory that listens on TCP, with TLS if this says so.
fn serve(limits: Limits, is_required: Option<bool>) -> (TestServer, SocketAddr, Authority) {
    let authority = Authority::new();
    let (test, _disk) = TestServer::of_memory_with(limits, 4 * MIB);
    test.server.set_tls(
        is_required.map(|is_required| TlsOffer { config: authority.server.clone(), is_required }),
    );
    let address = test.listen_tcp();
    (test, address, authority)
}

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Asks for TLS and takes it.
fn upgrade(mut raw: RawClient<TcpStream>, wish: &TlsWish) -> RawClient<TlsStream> {
    raw.option(5, &[]);
    assert_eq!(raw.option_reply(5), (ACK, vec![]));
    let connection = ClientConnection::new(wish.config.clone(), wish.server.clone()).unwrap();
    RawClient(StreamOwned::new(connection, raw.0))
}

fn assert_serves(address: SocketAddr, wish: &TlsWish) {
    let mut client = NbdClient::connect_tls(address, "disk", wish).unwrap();
    let mut sector = [0; 512];
    client.read(&mut sector, at(0)).unwrap();
    client.disconnect().unwrap();
}

#[test]
fn without_a_certificate_there_is_no_tls() {
    let (test, address, authority) = serve(Limits::default(), None);
    let mut raw = RawClient::greet_tcp(address);
    raw.option(5, &[]);
    assert_eq!(raw.option_reply(5).0, POLICY);
    raw.choose_disk();
    let refused = NbdClient::connect_tls(address, "disk", &authority.wish());
    assert!(matches!(refused, Err(ClientError::Refused { reply: POLICY, .. })));
    test.assert_serves();
}

#[test]
fn where_it_is_required_nothing_else_is_answered_before() {
    let (test, address, authority) = serve(Limits::default(), Some(true));
    let mut raw = RawClient::greet_tcp(address);
    let cases: [(u32, Vec<u8>); 11] = [
        (3, vec![]),
        (6, go("disk")),
        (7, go("disk")),
        (7, go("other")),
        (8, vec![]),
        (9, context_query("disk", &[])),
        (10, context_query("disk", &[])),
        (11, vec![]),
        (4242, vec![7; 100]),
        (7, vec![]),
        (4242, vec![7; 100_000]),
    ];
    for (code, data) in cases {
        raw.option(code, &data);
        assert_eq!(raw.option_reply(code).0, TLS_REQUIRED, "option {code}");
    }
    // STARTTLS with data in it is none.
    raw.option(5, &[1]);
    assert_eq!(raw.option_reply(5).0, INVALID);
    let mut raw = upgrade(raw, &authority.wish());
    raw.option(4242, &[]);
    assert_ne!(raw.option_reply(4242).0, TLS_REQUIRED);
    raw.choose_disk();
    // The way in that cannot be refused, and the way out.
    let mut raw = RawClient::greet_tcp(address);
    raw.option(1, b"disk");
    raw.assert_hung_up();
    let mut raw = RawClient::greet_tcp(address);
    raw.option(2, &[]);
    assert_eq!(raw.option_reply(2), (ACK, vec![]));
    raw.assert_hung_up();
    // A client that knows no replies to options cannot be asked for it.
    let mut raw = RawClient::silent_tcp(address);
    raw.take(18);
    raw.send(&0u32.to_be_bytes());
    raw.assert_hung_up();
    assert!(NbdClient::connect_tcp(address, "disk").is_err());
    // The unix socket is its owner's and goes on without.
    test.assert_serves();
    assert_serves(address, &authority.wish());
}

#[test]
fn where_it_is_offered_both_are_served_and_what_was_said_before_is_forgotten() {
    let (test, address, authority) = serve(Limits::default(), Some(false));
    NbdClient::connect_tcp(address, "disk").unwrap();
    let mut raw = RawClient::greet_tcp(address);
    raw.option(11, &[]);
    assert_eq!(raw.option_reply(11).0, ACK);
    raw.option(10, &context_query("disk", &["base:allocation"]));
    while raw.option_reply(10).0 != ACK {}
    let mut raw = upgrade(raw, &authority.wish());
    // Headers are compact again, so contexts cannot be set.
    raw.option(10, &context_query("disk", &["base:allocation"]));
    assert_eq!(raw.option_reply(10).0, INVALID);
    raw.option(5, &[]);
    assert_eq!(raw.option_reply(5).0, INVALID, "it runs already");
    raw.option(8, &[]);
    assert_eq!(raw.option_reply(8).0, ACK, "no extended headers are in the way");
    raw.choose_disk();
    // Nor is a context set.
    raw.request(0, 7, 1, 0, 512);
    let (flags, kind, body) = raw.chunk(1);
    assert_eq!((flags, kind, u32_at(&body, 0)), (1, 0x8001, 22));
    assert_eq!(test.server.connections(&name()), 1);
}

#[test]
fn a_disconnect_closes_tls_before_the_connection() {
    let (_test, address, authority) = serve(Limits::default(), Some(true));
    let mut raw = upgrade(RawClient::greet_tcp(address), &authority.wish());
    raw.choose_disk();
    raw.request(0, 3, 7, 0, 0);
    raw.request(0, 2, 8, 0, 0);
    assert_eq!(raw.simple_reply(), (7, 0));
    // Without its word this is an error, for somebody may have cut the connection.
    assert_eq!(raw.0.read(&mut [0; 16]).unwrap(), 0);
    let mut raw = upgrade(RawClient::greet_tcp(address), &authority.wish());
    raw.option(2, &[]);
    assert_eq!(raw.option_reply(2), (ACK, vec![]));
    assert_eq!(raw.0.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn everything_works_through_it() {
    let (test, address, authority) = serve(Limits::default(), Some(true));
    let mut client = NbdClient::connect_tls(address, "disk", &authority.wish()).unwrap();
    for (turn, length) in [512, 4096, 16384, 262_656, 3 << 20].into_iter().enumerate() {
        let offset = at(512 * u64::try_from(turn).unwrap());
        let data: Vec<u8> = (0..length).map(|place: u32| (place % 251) as u8).collect();
        client.write(&data, offset, Durability::ForceUnitAccess).unwrap();
        let mut read = vec![0; data.len()];
        client.read(&mut read, offset).unwrap();
        assert!(read == data, "{length} bytes");
    }
    assert!(!client.changes(at(0), bytes(MIB)).unwrap().is_empty());
    // Large data in both directions, and replies of both threads of the connection.
    let data = vec![4; 1 << 20];
    for turn in 0..64u64 {
        let (there, here) = (at(turn % 2 * MIB), at((2 + turn % 2) * MIB));
        client.submit(Request::Read { offset: there, length: bytes(MIB) }).unwrap();
        let durability = Durability::Cached;
        client.submit(Request::Write { offset: here, data: &data, durability }).unwrap();
        client.submit(Request::Flush).unwrap();
    }
    let mut reads = 0;
    while client.in_flight() > 0 {
        if let Answer::Data(data) = client.complete().unwrap().outcome.unwrap() {
            assert_eq!(data.len(), 1 << 20);
            reads += 1;
        }
    }
    assert_eq!(reads, 64);
    // A fence ends it like any other.
    test.server.fence(&name(), FenceMode::Flush).unwrap();
    assert!(client.flush().is_err());
}

#[test]
fn a_fence_does_not_wait_for_a_client_that_takes_no_records() {
    let (test, address, authority) = serve(Limits::default(), Some(true));
    let disk = HeldDisk::new(4 * MIB, Held::Flushes);
    test.server.publish(&name(), disk.clone());
    let mut raw = upgrade(RawClient::greet_tcp(address), &authority.wish());
    raw.choose_disk();
    for cookie in 0..64 {
        raw.request(0, 0, cookie, 0, 1 << 20);
    }
    eventually("it is busy", || disk.inside.load(Ordering::SeqCst) == 0);
    test.server.fence(&name(), FenceMode::Drop).unwrap();
    assert_eq!(Arc::strong_count(&disk), 1);
}

#[test]
fn what_comes_in_place_of_a_handshake_ends_the_connection_alone() {
    let (_test, address, authority) = serve(Limits::default(), Some(true));
    let wish = authority.wish();
    // Rubbish, and options that were slipped in behind STARTTLS and must not count.
    let mut slipped = Vec::new();
    slipped.extend(0x4948_4156_454f_5054_u64.to_be_bytes());
    slipped.extend(7u32.to_be_bytes());
    slipped.extend(10u32.to_be_bytes());
    slipped.extend(go("disk"));
    for rubbish in [vec![0xaa; 600], slipped, b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut raw = RawClient::greet_tcp(address);
        let mut message = 0x4948_4156_454f_5054_u64.to_be_bytes().to_vec();
        message.extend(5u32.to_be_bytes());
        message.extend(0u32.to_be_bytes());
        message.extend(&rubbish);
        raw.send(&message);
        assert_eq!(raw.option_reply(5), (ACK, vec![]));
        let mut rest = Vec::new();
        let _ = raw.0.read_to_end(&mut rest);
        // At most what TLS says to it: an alert.
        assert!(rest.len() < 64 && !rest.windows(4).any(|it| it == b"\x03\xe8\x89\x04"));
    }
    // Nothing at all, and then the end.
    let mut raw = RawClient::greet_tcp(address);
    raw.option(5, &[]);
    drop(raw);
    // A client that trusts another authority.
    let other = Authority::new();
    assert!(NbdClient::connect_tls(address, "disk", &other.wish()).is_err());
    // Rubbish in the middle of a session.
    let mut raw = upgrade(RawClient::greet_tcp(address), &wish);
    raw.choose_disk();
    raw.0.sock.write_all(&[0xaa; 64]).unwrap();
    let mut rest = Vec::new();
    assert!(raw.0.read_to_end(&mut rest).is_err());
    assert_serves(address, &wish);
}

#[test]
fn a_handshake_of_tls_has_the_same_deadline() {
    let limits = Limits { handshake_time: Duration::from_millis(300), ..Limits::default() };
    let (_test, address, authority) = serve(limits, Some(true));
    // Nothing comes.
    let mut raw = RawClient::greet_tcp(address);
    raw.option(5, &[]);
    assert_eq!(raw.option_reply(5), (ACK, vec![]));
    raw.assert_hung_up();
    // The head of a large record comes, and then its bytes one by one.
    let mut raw = RawClient::greet_tcp(address);
    raw.option(5, &[]);
    assert_eq!(raw.option_reply(5), (ACK, vec![]));
    raw.send(&[0x16, 3, 1, 0x3f, 0xff]);
    let mut sent = 0;
    while raw.0.write_all(&[1]).is_ok() {
        sent += 1;
        assert!(sent < 200, "it is waited for without end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_serves(address, &authority.wish());
}

#[test]
fn a_new_certificate_is_for_new_connections() {
    let (test, address, first) = serve(Limits::default(), Some(true));
    let mut client = NbdClient::connect_tls(address, "disk", &first.wish()).unwrap();
    let second = Authority::new();
    let config = second.server.clone();
    test.server.set_tls(Some(TlsOffer { config, is_required: true }));
    assert_serves(address, &second.wish());
    assert!(NbdClient::connect_tls(address, "disk", &first.wish()).is_err());
    client.write(&[1; 512], at(0), Durability::Cached).unwrap();
}

#[test]
fn qemu_reads_and_writes_through_tls() {
    let (test, address, authority) = serve(Limits::default(), Some(true));
    std::fs::write(test.directory().join("ca-cert.pem"), &authority.pem[0]).unwrap();
    let directory = test.directory().display();
    let credentials =
        format!("tls-creds-x509,id=t,dir={directory},endpoint=client,verify-peer=yes");
    let image =
        format!("driver=nbd,host=localhost,port={},export=disk,tls-creds=t", address.port());
    let arguments = [
        "--object",
        &credentials,
        "--image-opts",
        &image,
        "-c",
        "write -P 0x11 0 1M",
        "-c",
        "read -P 0x11 0 1M",
        "-c",
        "flush",
    ];
    let Some(said) = crate::qemu::run("qemu-io", &arguments) else { return };
    assert!(said.contains("read 1048576/1048576 bytes at offset 0"), "{said}");
    let mut held = [0; 512];
    test.client().read(&mut held, at(0)).unwrap();
    assert_eq!(held, [0x11; 512]);
}
