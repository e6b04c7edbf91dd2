//! "My backend is on another machine. It shall speak to the store over HTTPS, and trust nobody else for it."

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use tests::{
    daemon::{self, Daemon},
    program::{self, Outcome, run},
    sdk::{Sdk, drive_with},
    signature::Key,
    site::{Site, text},
};

/// A site without a daemon, with a certificate.
fn prepared() -> Site {
    let mut site = Site::new();
    site.end_daemon();
    site.run(&["tls", "init", "--name", "store.example", "--name", "127.0.0.7"]);
    site
}

fn authority(site: &Site) -> PathBuf {
    site.store().join("tls/ca.pem")
}

fn curl(authority: &std::path::Path, arguments: &[&str]) -> Outcome {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--cacert"]);
    run(command.arg(authority).args(arguments))
}

fn port(daemon: &Daemon) -> String {
    daemon.http().rsplit(':').next().unwrap().to_owned()
}

/// The certificate that is served.
fn served(daemon: &Daemon) -> String {
    let script =
        "import ssl,sys; print(ssl.get_server_certificate(('localhost', int(sys.argv[1]))))";
    run(Command::new("python3").args(["-c", script, &port(daemon)])).ok().stdout
}

#[test]
fn curl_and_both_sdks_come_in_over_https_and_nobody_over_http() {
    let site = prepared();
    let daemon = Daemon::start(&site.store(), &["--tls"]);
    assert_eq!(daemon.ready["tls"], true);
    let (ca, port) = (authority(&site), port(&daemon));
    for version in ["--tlsv1.2", "--tlsv1.3"] {
        for host in ["localhost", "127.0.0.1"] {
            let url = format!("https://{host}:{port}/healthz");
            let answer = curl(&ca, &[version, "--tls-max", &version[6..], &url]).ok();
            assert_eq!(answer.stdout, "ok\n");
        }
    }
    // A name given for it, and one that was not.
    let named = |name: &str| {
        let place = format!("{name}:{port}:127.0.0.1");
        curl(&ca, &["--resolve", &place, &format!("https://{name}:{port}/healthz")])
    };
    assert_eq!(named("store.example").ok().stdout, "ok\n");
    assert_eq!(named("other.example").code, Some(60), "a name that is not in the certificate");
    // Somebody who trusts the public authorities only.
    let public = run(Command::new("curl").args([
        "-sS",
        "--noproxy",
        "*",
        &format!("https://localhost:{port}/healthz"),
    ]));
    assert_eq!(public.code, Some(60), "{public}");
    let plain = curl(&ca, &[&format!("http://localhost:{port}/healthz")]);
    assert_ne!(plain.code, Some(0), "{plain}");

    let made = site.run(&["key", "create"]);
    let key = Key { id: text(&made, "AccessKeyId"), secret: text(&made, "AccessKeySecret") };
    let ca = ca.display().to_string();
    for sdk in [Sdk::Tea, Sdk::Core] {
        let address = format!("localhost:{port}");
        let told =
            drive_with(&[("TLS_CA", &ca)], sdk, &address, &key, &["refused", "d-doesnotexist"]);
        assert_eq!(told["code"], "InvalidDiskId.NotFound", "{sdk:?}: {told}");
        assert_eq!(told["status"], 404, "{sdk:?}: {told}");
    }
}

#[test]
fn a_new_certificate_is_served_after_sighup_and_a_broken_one_never() {
    let site = prepared();
    let daemon = Daemon::start(&site.store(), &["--tls"]);
    let first = served(&daemon);
    let ca = std::fs::read(authority(&site)).unwrap();
    site.run(&["tls", "init"]);
    assert_eq!(std::fs::read(authority(&site)).unwrap(), ca, "the authority stays");
    assert_eq!(served(&daemon), first, "nothing is read before it is asked for");
    daemon::hang_up(daemon.pid());
    let until = Instant::now() + Duration::from_secs(30);
    while served(&daemon) == first {
        assert!(Instant::now() < until, "the new certificate is not served");
    }
    let second = served(&daemon);
    std::fs::write(site.store().join("tls/server.key"), "no key").unwrap();
    daemon::hang_up(daemon.pid());
    for _ in 0..10 {
        assert_eq!(served(&daemon), second);
    }
    let (status, log) = daemon.terminate();
    assert!(status.success() && log.contains("the old certificate stays"), "{log}");
}

#[test]
fn nbd_on_tcp_goes_through_tls_once_there_is_a_certificate() {
    let site = prepared();
    let tcp = ["--nbd-listen", "127.0.0.1:0"];
    let daemon = Daemon::start(&site.store(), &[&tcp[..], &["--tls"]].concat());
    let uri = daemon.ready["nbd"][1].as_str().unwrap().to_owned();
    let address = uri.strip_prefix("nbds://").expect("it is said to be encrypted").to_owned();
    // The greeting, then our flags and LIST: that TLS is required, and not the list.
    assert_eq!(list_plainly(&address), 0x8000_0005);
    let credentials = site.store().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::copy(authority(&site), credentials.join("ca-cert.pem")).unwrap();
    let object = format!("tls-creds-x509,id=t,endpoint=client,dir={}", credentials.display());
    let port = address.rsplit(':').next().unwrap();
    let mut list = Command::new("qemu-nbd");
    list.args(["--list", "--bind=localhost", "--port", port, "--object", &object]);
    let told = run(list.args(["--tls-creds", "t"])).ok().stdout;
    assert!(told.contains("exports available: 0"), "{told}");
    drop(daemon);
    let plain = [&tcp[..], &["--tls", "--nbd-tls", "off"]].concat();
    let daemon = Daemon::start(&site.store(), &plain);
    let uri = daemon.ready["nbd"][1].as_str().unwrap().to_owned();
    let address = uri.strip_prefix("nbd://").expect("it is said to be plain").to_owned();
    assert_eq!(list_plainly(&address), 1);
}

/// What NBD replies to LIST without TLS.
fn list_plainly(address: &str) -> u32 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.read_exact(&mut [0; 18]).unwrap();
    stream.write_all(&3_u32.to_be_bytes()).unwrap();
    stream.write_all(b"IHAVEOPT\0\0\0\x03\0\0\0\0").unwrap();
    let mut reply = [0; 20];
    stream.read_exact(&mut reply).unwrap();
    u32::from_be_bytes(reply[12..16].try_into().unwrap())
}

#[test]
fn keys_are_for_the_owner_alone_and_a_start_without_a_certificate_says_what_to_do() {
    let mut site = Site::new();
    site.end_daemon();
    let refused = site.offline(&["serve", "--tls", "--listen", "127.0.0.1:0"]).fails();
    assert!(refused.complaint().contains("tls init"), "{refused}");
    let mut by_environment = Command::new(program::binary());
    by_environment.env("REINIT_TLS", "1").arg("--store").arg(site.store()).arg("serve");
    let refused = run(&mut by_environment).fails();
    assert!(refused.complaint().contains("tls init"), "{refused}");
    let open = site.offline(&["serve", "--listen", "0.0.0.0:0"]).fails();
    assert!(open.complaint().contains("--tls"), "{open}");
    site.run(&["tls", "init"]);
    for name in ["ca.key", "server.key"] {
        let path = site.store().join("tls").join(name);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    std::fs::remove_file(site.store().join("tls/ca.key")).unwrap();
    let refused = site.offline(&["tls", "init"]).fails();
    assert!(refused.complaint().contains("ca.key"), "{refused}");
    let mut daemon = Daemon::start(&site.store(), &["--listen", "0.0.0.0:0", "--plain-http"]);
    assert_eq!(daemon.ready["tls"], false);
    daemon.kill();
}

#[test]
fn who_never_finishes_a_handshake_holds_nobody_up_nor_the_end() {
    let site = prepared();
    let daemon = Daemon::start(&site.store(), &["--tls"]);
    let address = daemon.http();
    let mut idle: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    // The first bytes of a handshake, and something that is none.
    idle[0].write_all(&[0x16, 0x03, 0x01]).unwrap();
    idle[1].write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    idle[1].set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    idle[1].read_to_end(&mut answer).unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let url = format!("https://localhost:{}/healthz", port(&daemon));
    assert_eq!(curl(&authority(&site), &[&url]).ok().stdout, "ok\n");
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{log}");
}
