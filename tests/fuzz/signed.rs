//! Signed requests: changed after they were signed, and signed over anything at all.
//!
//! What must be true
//! 1. A request that says something else than what was signed is refused, and does not use up the nonce of the right
//!    one, which is answered afterwards.
//! 2. Whatever parameters a client signs by the public rules, the signature is found right; a time counts only in its
//!    one form and near the clock.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil;
use percent_encoding::percent_decode;
use tests::signature::{acs3_authorization, body_hash, canonical, encode, v1_signature};

use crate::{
    campaign::Trial,
    service::{Service, request},
};

/// Bytes of one change to a request.
const CHANGE: usize = 8;
const WINDOW: i64 = 900;

/// Pieces of parameters and times.
pub(crate) const WORDS: [&[u8]; 10] = [
    b"\n",
    b"=",
    b"%",
    b"&",
    b"+",
    b"\xe6\x95\xb0",
    b"T08:00:60Z",
    b"2027-01-15",
    b"+00:00",
    b"900",
];

/// A request in its parts, each of which can be changed: method, query, header lines, body.
type Parts = [Vec<u8>; 4];

/// Changes to requests signed by version 1; the first byte says whether the parameters go as a query or as a form.
pub(crate) fn v1() -> Trial {
    changed(|service, first| {
        let in_form = first % 2 == 1;
        let method = if in_form { "POST" } else { "GET" };
        let mut all = common(service, "2014-05-26");
        all.extend([pair("Tag.1.Key", "a b+c*~'(数)"), pair("Empty", "")]);
        let signature = v1_signature(&service.key.secret, method, &all);
        let query = format!("{}&Signature={}", canonical(&all), encode(&signature)).into_bytes();
        let form = b"Host: local\r\nContent-Type: application/x-www-form-urlencoded";
        if in_form {
            [method.into(), Vec::new(), form.into(), query]
        } else {
            [method.into(), query, b"Host: local".into(), Vec::new()]
        }
    })
}

/// Changes to requests signed by ACS3; the first byte says whether there is a body.
pub(crate) fn acs3() -> Trial {
    changed(|service, first| {
        let body: &[u8] = if first % 2 == 1 { b"RegionId=cn-hangzhou" } else { b"" };
        let content_type = "application/x-www-form-urlencoded";
        let query = [pair("Format", "JSON"), pair("Tag.1.Key", "a b+c*~'(数)")];
        let mut headers = vec![
            pair("content-type", content_type),
            pair("host", "local"),
            pair("x-acs-action", "DescribeRegions"),
            pair("x-acs-content-sha256", &body_hash(body)),
            pair("x-acs-date", &service.now().to_string()),
            pair("x-acs-signature-nonce", &service.nonce()),
            pair("x-acs-version", "2014-05-26"),
        ];
        let authorization = acs3_authorization(&service.key, "POST", &query, &headers, body);
        headers.push(pair("Authorization", &authorization));
        let lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        ["POST".into(), canonical(&query).into(), lines.join("\r\n").into(), body.into()]
    })
}

/// Lines of `name=value` that are signed as they are; a first line without `=` is the time.
pub(crate) fn anything() -> Trial {
    let mut service = Service::start();
    Box::new(move |input| {
        service.tick();
        let text = String::from_utf8_lossy(input).replace('\0', "0");
        let mut own = common(&service, "2014-05-26");
        let mut time = None;
        let mut names: BTreeSet<String> = own.iter().map(|(name, _)| name.clone()).collect();
        names.insert("Signature".into());
        for (place, line) in text.split('\n').take(500).enumerate() {
            match line.split_once('=') {
                Some((name, value)) if name.len() < 1_000 && names.insert(name.into()) => {
                    own.push(pair(name, &value.chars().take(1_000).collect::<String>()));
                }
                None if place == 0 && !line.is_empty() && line.len() < 1_000 => {
                    // A number stands for that many seconds after now.
                    let after = line
                        .parse::<i32>()
                        .map(|after| service.now() + jiff::SignedDuration::from_secs(after.into()));
                    time = Some(after.map_or_else(|_| line.to_owned(), |time| time.to_string()));
                }
                _ => {}
            }
        }
        if let Some(time) = &time {
            own.retain(|(name, _)| name != "Timestamp");
            own.push(pair("Timestamp", time));
        }
        let signature = v1_signature(&service.key.secret, "POST", &own);
        let query = format!("{}&Signature={}", canonical(&own), encode(&signature));
        if query.len() > 30_000 {
            return;
        }
        let answer = service.public(&request(b"POST", query.as_bytes(), b"Host: local", b""));
        let near = time.is_none_or(|time| {
            seconds_of(&time).is_some_and(|then| (then - service.now().as_second()).abs() <= WINDOW)
        });
        if near {
            // The signature was right; what is wrong may be what the parameters say.
            assert!(
                !answer.code().contains("ignature") && !answer.code().contains("TimeStamp"),
                "{answer:?}"
            );
        } else {
            assert!(answer.code().starts_with("InvalidTimeStamp"), "{answer:?}");
        }
    })
}

/// A time in its one form, read without the parser that is under test.
fn seconds_of(text: &str) -> Option<i64> {
    let shape = text.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
    (shape.collect::<Vec<_>>() == b"0000-00-00T00:00:00Z").then_some(())?;
    let part = |from: usize, to: usize| text[from..to].parse::<i16>().ok();
    let small = |from: usize| i8::try_from(part(from, from + 2)?).ok();
    let date = civil::Date::new(part(0, 4)?, small(5)?, small(8)?).ok()?;
    // A leap second is the second before it.
    let time = civil::Time::new(small(11)?, small(14)?, small(17)?.min(59), 0).ok()?;
    (small(17)? <= 60).then_some(())?;
    jiff::tz::TimeZone::UTC.to_timestamp(date.to_datetime(time)).ok().map(|time| time.as_second())
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.into(), value.into())
}

fn common(service: &Service, version: &str) -> Vec<(String, String)> {
    let time = service.now().to_string();
    vec![
        pair("Action", "DescribeRegions"),
        pair("Version", version),
        pair("Format", "JSON"),
        pair("AccessKeyId", &service.key.id),
        pair("SignatureMethod", "HMAC-SHA1"),
        pair("SignatureVersion", "1.0"),
        pair("SignatureNonce", &service.nonce()),
        pair("Timestamp", &time),
    ]
}

fn changed(make: impl Fn(&Service, u8) -> Parts + 'static) -> Trial {
    let mut service = Service::start();
    Box::new(move |input| {
        service.tick();
        let (first, rest) = input.split_first().unwrap_or((&0, &[]));
        let right = make(&service, *first);
        let mut parts = right.clone();
        for change in rest.chunks_exact(CHANGE).take(1_000) {
            apply(&mut parts, change);
        }
        let answer = service.public(&whole(&parts));
        if meaning(&parts) == meaning(&right) {
            return;
        }
        assert_ne!(answer.status, 200, "{:?} was taken for {:?}", shown(&parts), shown(&right));
        let answer = service.public(&whole(&right));
        assert_eq!(answer.status, 200, "after {:?}: {answer:?}", shown(&parts));
    })
}

fn whole([method, query, headers, body]: &Parts) -> Vec<u8> {
    request(method, query, headers, body)
}

fn shown(parts: &Parts) -> Vec<String> {
    parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// One change: which part, what, where (of 65 536 parts of its length), how much, which bytes.
fn apply(parts: &mut Parts, change: &[u8]) {
    let part = &mut parts[[0, 1, 1, 2, 2, 2, 3, 3][usize::from(change[0] % 8)]];
    let place = usize::from(u16::from_le_bytes([change[2], change[3]]));
    let at = (place * part.len()) >> 16;
    let end = (at + 1 + usize::from(change[4] % 32)).min(part.len());
    let bytes = &change[5..8];
    match change[1] % 6 {
        0 => part.get_mut(at).into_iter().for_each(|byte| *byte = bytes[0]),
        1 => part.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << (bytes[0] % 8)),
        2 => drop(part.splice(at..at, bytes.to_vec())),
        3 => drop(part.drain(at..end)),
        4 => {
            let piece = part[at..end].to_vec();
            let to = (usize::from(bytes[0]) * part.len()) >> 8;
            drop(part.splice(to..to, piece));
        }
        _ => part.rotate_left(at),
    }
}

/// Headers that say something beside those whose names begin with `x-acs-`.
const READ: [&str; 4] = ["accept", "authorization", "content-type", "host"];

/// What a signature covers, read by the public rules and not by our parser; equal for requests that say the same.
fn meaning([method, query, headers, body]: &Parts) -> impl PartialEq + use<> {
    let mut lines = headers_of(headers);
    // Proxies add headers of their own; what nobody signed and nobody reads means nothing.
    lines.retain(|name, _| READ.contains(&name.as_str()) || name.starts_with("x-acs-"));
    let is_acs3 = lines.contains_key("authorization");
    let query = query.split(|byte| *byte == b'#').next().unwrap_or_default();
    let mut parameters = pairs(query);
    let mut signed_body = Vec::new();
    if is_acs3 {
        signed_body.clone_from(body);
    } else {
        parameters.extend(pairs(body));
        parameters.sort();
    }
    // RFC 9112, 2.2: empty lines before a request are passed over.
    let start = method.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(method.len());
    (method[start..].to_vec(), parameters, is_acs3.then_some(lines), signed_body)
}

/// Names in lower case; the case and the spaces of `Authorization` say nothing.
fn headers_of(text: &[u8]) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut headers: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let name = String::from_utf8_lossy(halves.next().unwrap_or_default()).to_ascii_lowercase();
        let mut value = halves.next().unwrap_or_default().trim_ascii().to_vec();
        if name == "authorization" {
            value.retain(|byte| *byte != b' ');
        }
        if name == "authorization" || name == "x-acs-content-sha256" {
            value.make_ascii_lowercase();
        }
        headers.entry(name).or_default().push(value);
    }
    headers
}

fn pairs(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decoded = |half: &[u8]| {
        let spaced: Vec<_> = half.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
        percent_decode(&spaced).collect::<Vec<u8>>()
    };
    let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<_> = pairs
        .map(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            (decoded(halves.next().unwrap_or_default()), decoded(halves.next().unwrap_or_default()))
        })
        .collect();
    pairs.sort();
    pairs
}
