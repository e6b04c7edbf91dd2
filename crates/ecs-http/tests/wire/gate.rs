//! Who gets in: both signatures, their order of checks, nonces, clocks, keys.

use cloud::Settings;
use ecs_http::{Limits, PerKey};

use crate::{
    harness::Service,
    signing::{Key, V1, acs3, encode, now, signed},
};

fn send(service: &Service, request: &V1, method: &str) -> (String, u16) {
    service.send(request.request(method)).refusal()
}

#[test]
fn every_shape_of_request_gets_in() {
    let service = Service::start();
    let key = service.key();
    // Libcloud: GET, XML.
    let xml = service.send(signed(&key, "GET", "XML", "DescribeRegions", &[]).request("GET"));
    assert_eq!(xml.status, 200, "{xml:?}");
    assert!(xml.head.contains("content-type: text/xml;charset=utf-8\r\n"), "{xml:?}");
    assert!(
        xml.body.starts_with(
            "<?xml version='1.0' encoding='UTF-8'?><DescribeRegionsResponse><RequestId>"
        )
    );
    // Core SDK: POST, query, JSON, an empty SignatureType.
    let json = service.call(&key, "DescribeRegions", &[("SignatureType", "")]);
    assert!(json.head.contains("content-type: application/json;charset=utf-8\r\n"), "{json:?}");
    assert_eq!(json.ok()["Regions"]["Region"][0]["RegionEndpoint"], "127.0.0.1:8520");
    // Pop-core: everything in the form.
    let body = signed(&key, "POST", "JSON", "DescribeRegions", &[]).query();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    service.send(request).ok();
    // Tea: ACS3, no Format, JSON by Accept.
    service.send(acs3(&key, "DescribeRegions", "", "", "", "text/plain")).ok();
    // ACS3 with a JSON body.
    let query = "RegionId=cn-hangzhou";
    let body = r#"{"DiskIds":"[\"d-1\"]","PageSize":5}"#;
    let tail = format!("?{query}");
    let answer = service.send(acs3(&key, "DescribeDisks", &tail, query, body, "application/json"));
    assert_eq!(answer.ok()["PageSize"], 5);
    // Ansible through a proxy: the absolute form, and a parameter nobody knows.
    let query = signed(&key, "POST", "JSON", "DescribeDisks", &[("on", "DescribeDisks")]).query();
    let request = format!(
        "POST http://ecs-cn-hangzhou.aliyuncs.com/?{query} HTTP/1.1\r\nHost: ecs-cn-hangzhou.aliyuncs.com\r\nContent-Length: 0\r\n\r\n"
    );
    service.send(request).ok();
}

#[test]
fn a_space_may_be_a_plus_on_the_wire() {
    let service = Service::start();
    let key = service.key();
    let own = [
        ("DiskName", "a b+c*~'(数据盘)"),
        ("Size", "5"),
        ("Tag.1.Key", "k/1"),
        ("Tag.1.Value", "v=1&2"),
    ];
    let request = signed(&key, "POST", "JSON", "CreateDisk", &own);
    let plus = request.request("POST").replace("%20", "+");
    let disk = service.send(plus).text("DiskId");
    let query = format!("DiskIds={}&RegionId=cn-hangzhou", encode(&format!("[\"{disk}\"]")));
    let tail = format!("?{}", query.replace("%20", "+"));
    let found = service.send(acs3(&key, "DescribeDisks", &tail, &query, "", "text/plain")).ok();
    let found = &found["Disks"]["Disk"][0];
    assert_eq!(found["DiskName"], "a b+c*~'(数据盘)");
    assert_eq!(found["Tags"]["Tag"][0]["TagKey"], "k/1");
    assert_eq!(found["Tags"]["Tag"][0]["TagValue"], "v=1&2");
}

#[test]
fn each_failure_has_its_code() {
    let service = Service::start();
    let key = service.key();
    let good = || V1::new(&key, "JSON", "DescribeRegions", &[]);
    let resigned = |mut request: V1| {
        request.sign(&key, "POST");
        send(&service, &request, "POST")
    };
    let refused = |code: &str, status| (code.to_owned(), status);
    for name in
        ["AccessKeyId", "SignatureNonce", "Timestamp", "Version", "Action", "SignatureMethod"]
    {
        assert_eq!(resigned(good().without(name)), refused("MissingParameter", 400), "{name}");
    }
    let unsigned = good();
    assert_eq!(send(&service, &unsigned, "POST"), refused("MissingParameter", 400));
    assert_eq!(
        resigned(good().set("AccessKeyId", "nobody")),
        refused("InvalidAccessKeyId.NotFound", 404)
    );
    assert_eq!(
        resigned(good().set("SignatureMethod", "HMAC-MD5")),
        refused("InvalidParameter", 400)
    );
    assert_eq!(
        resigned(good().set("Timestamp", &now(-901 - 5))),
        refused("InvalidTimeStamp.Expired", 400)
    );
    assert_eq!(
        resigned(good().set("Timestamp", &now(901 + 5))),
        refused("InvalidTimeStamp.Expired", 400)
    );
    assert_eq!(resigned(good().set("Timestamp", "now")), refused("InvalidTimeStamp.Format", 400));
    assert_eq!(resigned(good().set("Version", "2016-03-14")), refused("InvalidVersion", 400));
    assert_eq!(resigned(good().set("Action", "Dance")), refused("InvalidAction.NotFound", 404));
    assert_eq!(resigned(good().set("Action", "CreateVpc")), refused("InvalidAction.NotFound", 404));
    assert_eq!(
        resigned(good().set("SecurityToken", "x")),
        refused("InvalidSecurityToken.MismatchWithAccessKey", 400)
    );
    let torn = good().set("Signature", "%%%");
    assert_eq!(send(&service, &torn, "POST"), refused("IncompleteSignature", 400));
    for (offset, accepted) in [(-880, true), (880, true)] {
        let mut request = good().set("Timestamp", &now(offset));
        request.sign(&key, "POST");
        assert_eq!(service.send(request.request("POST")).status == 200, accepted, "{offset}");
    }
}

#[test]
fn a_wrong_signature_shows_the_text_that_was_to_be_signed() {
    let service = Service::start();
    let key = service.key();
    let request = signed(&key, "POST", "JSON", "DescribeRegions", &[]);
    // Signed for POST, sent as GET; and changed after it was signed.
    for wrong in [request.request("GET"), request.clone().set("PageSize", "7").request("POST")] {
        let answer = service.send(&wrong);
        answer.refused("SignatureDoesNotMatch", 400);
        let message = answer.json()["Message"].as_str().unwrap().to_owned();
        let parts: Vec<_> = message.split(':').collect();
        assert_eq!(parts.len(), 2, "{message}");
        assert!(parts[1].starts_with(&wrong[..wrong.find(' ').unwrap()]), "{message}");
    }
    // A stranger burnt no nonce: the right request still gets in, once.
    service.send(request.request("POST")).ok();
    service.send(request.request("POST")).refused("SignatureNonceUsed", 400);
    // A wrong one with a used nonce is told what is wrong first.
    service
        .send(request.clone().set("PageSize", "7").request("POST"))
        .refused("SignatureDoesNotMatch", 400);
    let forged = Key { secret: "guess".into(), ..key };
    let body = acs3(&forged, "DescribeRegions", "", "", "", "text/plain");
    service.send(body).refused("SignatureDoesNotMatch", 400);
}

#[test]
fn acs3_covers_query_body_and_action() {
    let service = Service::start();
    let key = service.key();
    let request = acs3(&key, "DescribeRegions", "?A=1", "A=1", "", "text/plain");
    let changes = [
        request.replace("/?A=1", "/?A=2"),
        request.replace("x-acs-action: DescribeRegions", "x-acs-action: DescribeZones"),
        request.replace("POST /", "GET /"),
        request.replace("host: 127.0.0.1:8520", "host: 127.0.0.1:8521"),
        request
            .replace("Content-Length: 0\r\n\r\n", "Content-Length: 2\r\n\r\n{}")
            .replace("text/plain", "application/json"),
    ];
    for changed in changes {
        assert_ne!(changed, request);
        service.send(&changed).refused("SignatureDoesNotMatch", 400);
    }
    service.send(&request).ok();
    service.send(&request).refused("SignatureNonceUsed", 400);
}

#[test]
fn a_nonce_survives_a_restart() {
    let service = Service::start();
    let key = service.key();
    let request = signed(&key, "POST", "JSON", "DescribeRegions", &[]).request("POST");
    service.send(&request).ok();
    let service = service.restart();
    service.send(&request).refused("SignatureNonceUsed", 400);
    // A client whose clock is slow notices nothing.
    let mut slow = V1::new(&key, "JSON", "DescribeRegions", &[]).set("Timestamp", &now(-300));
    slow.sign(&key, "POST");
    service.send(slow.request("POST")).ok();
}

#[test]
fn a_key_that_is_off_or_gone_lets_nobody_in() {
    let service = Service::start();
    let key = service.key();
    service.call(&key, "DescribeRegions", &[]).ok();
    service.operator("DisableAccessKey", &[("AccessKeyId", &key.id)]).ok();
    service.call(&key, "DescribeRegions", &[]).refused("InvalidAccessKeyId.Inactive", 400);
    service.operator("DeleteAccessKey", &[("AccessKeyId", &key.id)]).ok();
    service.call(&key, "DescribeRegions", &[]).refused("InvalidAccessKeyId.NotFound", 404);
}

#[test]
fn a_key_that_ended_lets_nobody_in_also_after_a_restart() {
    let service = Service::start();
    let ending = |ends: &str| {
        let made = service.operator("CreateAccessKey", &[("ExpireTime", ends)]);
        Key { id: made.text("AccessKeyId"), secret: made.text("AccessKeySecret") }
    };
    let (ended, lasting, off) = (ending(&now(-1)), ending(&now(3600)), service.key());
    service.operator("DisableAccessKey", &[("AccessKeyId", &off.id)]).ok();
    let service = service.restart();
    for key in [&ended, &off] {
        service.call(key, "DescribeRegions", &[]).refused("InvalidAccessKeyId.Inactive", 400);
    }
    service.call(&lasting, "DescribeRegions", &[]).ok();
}

#[test]
fn a_role_covers_what_it_says() {
    let service = Service::start();
    let reader = service.key_of("default", "read");
    service.call(&reader, "DescribeDisks", &[]).ok();
    service.call(&reader, "CreateDisk", &[("Size", "5")]).refused("Forbidden.RAM", 403);
    let resetter = service.key_of("default", "reset");
    service
        .call(&resetter, "ReInitDisk", &[("DiskId", "d-1")])
        .refused("InvalidDiskId.NotFound", 404);
    service.call(&resetter, "DeleteDisk", &[("DiskId", "d-1")]).refused("Forbidden.RAM", 403);
}

#[test]
fn a_key_that_asks_too_often_is_throttled_and_others_are_not() {
    let per_key = Some(PerKey { a_second: 1, burst: 5 });
    let service = Service::with(Limits { per_key, ..Limits::default() }, Settings::default());
    let (key, other) = (service.key(), service.key());
    // Wrong signatures cost the key nothing.
    let forger = Key { secret: other.secret.clone(), ..key.clone() };
    for _ in 0..20 {
        service.call(&forger, "DescribeRegions", &[]).refused("SignatureDoesNotMatch", 400);
    }
    for _ in 0..5 {
        service.call(&key, "DescribeRegions", &[]).ok();
    }
    // However slow the machine, some of these come within the second that fills one token.
    let throttled = (0..200).map(|_| service.call(&key, "DescribeRegions", &[]));
    let throttled = throttled.into_iter().find(|answer| answer.status != 200).unwrap();
    throttled.refused("Throttling.User", 400);
    let after = throttled.head.split("x-acs-retry-after: ").nth(1).unwrap();
    let millis: u64 = after.split("\r\n").next().unwrap().parse().unwrap();
    assert!((1..=1001).contains(&millis), "{millis}");
    service.call(&other, "DescribeRegions", &[]).ok();
    for _ in 0..20 {
        service.operator("DescribeRegions", &[]).ok();
    }
}
