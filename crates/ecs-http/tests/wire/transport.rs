//! What strangers send: too much, too slowly, twice, torn, ambiguous. Each is refused, nobody else is hurt.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use cloud::Settings;
use ecs_http::Limits;

use crate::{
    harness::{Answer, Service, wait},
    signing::{acs3, signed},
};

/// Longer than anything here takes, however busy the machine: what has not ended by then hangs.
const HANG: Duration = Duration::from_secs(60);

fn hasty() -> Service {
    let within = Duration::from_millis(300);
    let limits = Limits {
        head_within: within,
        body_within: within,
        write_within: within,
        drain_within: Duration::from_secs(1),
        connections_per_address: 1_000,
        ..Limits::default()
    };
    Service::with(limits, Settings::default())
}

fn post(body: &[u8], headers: &str) -> Vec<u8> {
    let head = format!(
        "POST /?Format=JSON HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

#[test]
fn parameters_beyond_reason_are_refused_at_once() {
    let service = Service::start();
    let many = (0..100_000).fold(String::new(), |mut text, n| {
        write!(text, "p{n}=v&").unwrap();
        text
    });
    let bodies: [&[u8]; 7] = [
        b"a=%00",
        b"a=%ff%fe",
        b"\xff=1",
        b"a=1&a=2",
        b"Format=JSON",
        &[b"a=".as_slice(), &vec![b'x'; 100_000]].concat(),
        many.as_bytes(),
    ];
    for body in bodies {
        let begun = Instant::now();
        service.send(post(body, FORM)).refused("InvalidParameter", 400);
        assert!(begun.elapsed() < HANG);
    }
    let huge = vec![b'x'; 1024 * 1024 + 1];
    assert_eq!(service.send(post(&huge, FORM)).status, 413);
    service
        .send("GET /?Format=JSON&a=%00 HTTP/1.1\r\nHost: h\r\n\r\n")
        .refused("InvalidParameter", 400);
    let key = service.key();
    service.call(&key, "DescribeRegions", &[]).ok();
}

#[test]
fn a_refusal_comes_in_the_format_asked_for() {
    let service = Service::start();
    let json = service.send("GET /?Format=json HTTP/1.1\r\nHost: box:1\r\n\r\n");
    assert!(json.head.contains("content-type: application/json;charset=utf-8\r\n"), "{json:?}");
    assert_eq!(json.json()["HostId"], "box:1");
    let xml = service.send("GET / HTTP/1.1\r\nHost: box:1\r\nAccept: application/json\r\n\r\n");
    assert!(xml.head.contains("content-type: text/xml;charset=utf-8\r\n"), "{xml:?}");
    xml.refused("MissingParameter", 400);
    let id = xml.body.split("<RequestId>").nth(1).unwrap().split('<').next().unwrap();
    assert_eq!(id.len(), 36);
    assert_eq!(id, id.to_uppercase());
    let acs3 = "GET / HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\nAuthorization: ACS3-HMAC-SHA256 x\r\n\r\n";
    service.send(acs3).refused("IncompleteSignature", 400);
    assert_eq!(service.send(acs3).json()["Code"], "IncompleteSignature");
}

#[test]
fn bodies_of_other_kinds_are_refused() {
    let service = Service::start();
    for (headers, body) in [
        ("Content-Type: multipart/form-data; boundary=x\r\n", "--x"),
        ("Content-Type: text/xml\r\n", "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>"),
        (
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: gzip\r\n",
            "\u{1f}x",
        ),
        ("Content-Type: application/json\r\n", "{}"),
        ("", "a=1"),
    ] {
        service.send(post(body.as_bytes(), headers)).refused("UnsupportedMediaType", 415);
    }
    let key = service.key();
    let deep = format!("{{\"a\":{}", "[".repeat(500_000));
    let answer = service.send(acs3(&key, "DescribeRegions", "", "", &deep, "application/json"));
    answer.refused("InvalidParameter", 400);
}

#[test]
fn methods_and_paths_beyond_ours_are_refused() {
    let service = Service::start();
    for method in ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "DANCE"] {
        let request =
            format!("{method} /?Format=JSON HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        service.send(request).refused("UnsupportedHTTPMethod", 403);
    }
    let mut head = service.connect();
    head.write_all(b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    head.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    for path in ["/x", "/../etc/passwd", "//", "/%2e%2e/", "/healthz/x"] {
        let answer = service.get(&format!("{path}?Format=JSON"));
        assert_eq!(answer.status, 404, "{path} {answer:?}");
    }
}

/// What is ambiguous to two readers is refused, and never read as two requests.
#[test]
fn lengths_that_lie_are_refused() {
    let service = Service::start();
    let requests = [
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 6\r\n\r\nabcdef",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: h\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",
        "\u{16}\u{3}\u{1}TLS?",
        "GET  / HTTP/1.1\r\n bad: 1\r\n\r\n",
    ];
    for request in requests {
        let mut stream = service.connect();
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let status = Answer::read(&mut stream).status;
        assert!(
            status == 0 || (400..500).contains(&status) || status == 505,
            "{request:?}: {status}"
        );
    }
    // Both a length and chunks: hyper takes the chunks, and closes or goes on after exactly them.
    let smuggled = "POST /?Format=JSON HTTP/1.1\r\nHost: h\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut stream = service.connect();
    stream.write_all(smuggled.as_bytes()).unwrap();
    let first = Answer::read(&mut stream);
    assert!((400..500).contains(&first.status), "{first:?}");
    let mut rest = String::new();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let _ = stream.read_to_string(&mut rest);
    // What followed the last chunk is at most a request of its own, answered as one.
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 4"), "{rest}");
    assert_eq!(service.get("/healthz").status, 200);
}

#[test]
fn a_chunked_body_without_end_is_cut_off() {
    let service = Service::start();
    let mut stream = service.connect();
    let head = format!(
        "POST /?Format=JSON HTTP/1.1\r\nHost: h\r\n{FORM}Transfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 65536], b"\r\n"].concat();
    // The answer comes, or the connection goes, long before this ends.
    for _ in 0..64 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let status = Answer::read(&mut stream).status;
    assert!(status == 413 || status == 0, "{status}");
}

#[test]
fn heads_beyond_reason_are_refused() {
    let service = Service::start();
    let long = format!("GET /?a={} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(70_000));
    assert_eq!(service.send(long).status, 414);
    let mut many = "GET / HTTP/1.1\r\nHost: h\r\n".to_owned();
    (0..200).for_each(|n| write!(many, "h{n}: v\r\n").unwrap());
    assert_eq!(service.send(many + "\r\n").status, 431);
    let wide = format!("GET / HTTP/1.1\r\nHost: h\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    let mut stream = service.connect();
    let _ = stream.write_all(wide.as_bytes());
    let status = Answer::read(&mut stream).status;
    assert!(status == 431 || status == 0, "{status}");
}

#[test]
fn slow_clients_are_closed_and_others_unharmed() {
    let service = hasty();
    let key = service.key();
    let mut held: Vec<_> = (0..400).map(|_| service.connect()).collect();
    for (number, stream) in held.iter_mut().enumerate() {
        let parts: [&[u8]; 3] =
            [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\na"];
        stream.write_all(parts[number % 3]).unwrap();
    }
    let begun = Instant::now();
    service.call(&key, "DescribeRegions", &[]).ok();
    for stream in &mut held {
        // Closed, with or without a word.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let text = String::from_utf8_lossy(&rest);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    assert!(begun.elapsed() < HANG);
    service.call(&key, "DescribeRegions", &[]).ok();
}

#[test]
fn a_client_that_reads_no_answers_is_closed() {
    let service = hasty();
    let mut stream = service.connect();
    let request = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".repeat(64);
    stream.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let begun = Instant::now();
    // Pipelined without reading, until the front takes no more and then ends it.
    let mut ended = false;
    while begun.elapsed() < Duration::from_secs(15) {
        if stream.write_all(&request).is_err() {
            ended = true;
            break;
        }
    }
    assert!(ended);
    assert_eq!(service.get("/healthz").status, 200);
}

#[test]
fn connections_are_kept_alive_and_counted() {
    let service = Service::start();
    let key = service.key();
    let mut stream = service.connect();
    for _ in 0..5 {
        stream
            .write_all(
                signed(&key, "GET", "JSON", "DescribeRegions", &[]).request("GET").as_bytes(),
            )
            .unwrap();
        Answer::read(&mut stream).ok();
    }
    service.call(&key, "ReInitDisk", &[("DiskId", "d-1")]).refused("InvalidDiskId.NotFound", 404);
    let page = service.get("/metrics").body;
    for line in [
        r#"reinit_http_requests_total{action="DescribeRegions",code="OK"} 5"#,
        r#"reinit_http_requests_total{action="ReInitDisk",code="InvalidDiskId.NotFound"} 1"#,
        "reinit_disks{status=\"In_use\"} 0",
        "reinit_store_total_bytes ",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    assert_eq!(service.get("/healthz").status, 200);
    assert_eq!(service.get("/readyz").status, 200);
}

#[test]
fn stopping_ends_idle_connections_and_is_quick() {
    let mut service = Service::start();
    let mut idle = service.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut idle).status, 200);
    let begun = Instant::now();
    assert!(service.stop());
    assert!(begun.elapsed() < HANG);
    assert_eq!(idle.read(&mut [0; 8]).unwrap_or(0), 0);
}

#[test]
fn at_the_bound_connections_wait_and_none_is_lost() {
    let limits =
        Limits { connections: 4, head_within: Duration::from_millis(300), ..Limits::default() };
    let service = Service::with(limits, Settings::default());
    let _held: Vec<_> = (0..4).map(|_| service.connect()).collect();
    assert_eq!(service.get("/healthz").status, 200);
}

#[test]
fn an_address_has_a_share_of_the_connections_and_more_are_closed_at_once() {
    let limits = Limits { connections_per_address: 3, ..Limits::default() };
    let service = Service::with(limits, Settings::default());
    let answered = |stream: &mut std::net::TcpStream| {
        let sent = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        sent.is_ok() && Answer::read(stream).status == 200
    };
    let mut held: Vec<_> = (0..3).map(|_| service.connect()).collect();
    assert!(held.iter_mut().all(answered));
    for _ in 0..2 {
        assert_eq!(service.connect().read(&mut [0; 8]).unwrap_or(0), 0);
    }
    // The operator's own door has no such bound.
    let page = service.operator_page("/metrics").body;
    assert!(page.contains("reinit_http_connections_refused_total 2\n"), "{page}");
    assert!(held.iter_mut().all(answered), "those inside are unharmed");
    drop(held.pop());
    wait(|| answered(&mut service.connect()));
}

/// Many clients at once, right and wrong calls mixed.
#[test]
fn many_clients_at_once() {
    let service = Service::start();
    let key = service.key();
    std::thread::scope(|scope| {
        for client in 0..64 {
            let (service, key) = (&service, &key);
            scope.spawn(move || {
                for round in 0..8 {
                    match (client + round) % 4 {
                        0 => drop(service.call(key, "DescribeDisks", &[]).ok()),
                        1 => service.call(key, "ReInitDisk", &[]).refused("MissingParameter", 400),
                        2 => service
                            .send("GET /?Format=JSON HTTP/1.1\r\nHost: h\r\n\r\n")
                            .refused("MissingParameter", 400),
                        _ => service
                            .call(key, "ReInitDisk", &[("DiskId", "../d")])
                            .refused("InvalidDiskId.NotFound", 404),
                    }
                }
            });
        }
    });
}
