//! Temporary keys: a token that must come along, an end, and what each failure answers.

use crate::{
    harness::{Answer, Service},
    signing::{Key, V1, acs3, acs3_with, now},
};

struct Temporary {
    key: Key,
    token: String,
}

fn made(service: &Service, more: &[(&str, &str)]) -> Temporary {
    let mut asked = vec![("Temporary", "true"), ("Account", "lab")];
    asked.extend_from_slice(more);
    let made = service.operator("CreateAccessKey", &asked);
    let key = Key { id: made.text("AccessKeyId"), secret: made.text("AccessKeySecret") };
    Temporary { key, token: made.text("SecurityToken") }
}

/// The same call with either signature.
fn both(service: &Service, key: &Key, token: Option<&str>, action: &str) -> [Answer; 2] {
    let mut v1 = V1::new(key, "JSON", action, &[]);
    if let Some(token) = token {
        v1 = v1.set("SecurityToken", token);
    }
    v1.sign(key, "POST");
    let query = "RegionId=cn-hangzhou";
    let rest = [&format!("?{query}"), query, "", "text/plain"];
    [service.send(v1.request("POST")), service.send(acs3_with(key, token, action, rest))]
}

fn each_refused(answers: [Answer; 2], code: &str, status: u16) {
    for answer in answers {
        answer.refused(code, status);
    }
}

#[test]
fn a_temporary_key_gets_in_with_its_token_and_nothing_else() {
    let service = Service::start();
    let temporary = made(&service, &[]);
    assert!(temporary.key.id.starts_with("STS."));
    let token = temporary.token.as_str();
    for answer in both(&service, &temporary.key, Some(token), "DescribeDisks") {
        answer.ok();
    }
    let mismatch = "InvalidSecurityToken.MismatchWithAccessKey";
    let other = made(&service, &[]);
    let lasting = service.key();
    for (key, token) in [
        (&temporary.key, None),
        (&temporary.key, Some(other.token.as_str())),
        (&temporary.key, Some(&token[1..])),
        (&lasting, Some(token)),
    ] {
        each_refused(both(&service, key, token, "DescribeDisks"), mismatch, 400);
    }
    let malformed = "InvalidSecurityToken.Malformed";
    let long = "x".repeat(5000);
    for token in ["a b", "{}", &long] {
        each_refused(both(&service, &temporary.key, Some(token), "DescribeDisks"), malformed, 400);
    }
    // Whoever cannot sign learns nothing of the token.
    let forger = Key { secret: lasting.secret.clone(), ..temporary.key.clone() };
    for token in [Some(token), Some(other.token.as_str()), None] {
        each_refused(both(&service, &forger, token, "DescribeDisks"), "SignatureDoesNotMatch", 400);
    }
}

#[test]
fn it_ends_can_be_switched_off_and_keeps_its_role_over_a_restart() {
    let service = Service::start();
    // Ended long ago: the next one that is made takes its place.
    let forgotten = made(&service, &[("ExpireTime", "2020-01-01T00:00:00Z")]);
    let ended = made(&service, &[("ExpireTime", &now(-60))]);
    let reads = made(&service, &[("Role", "read")]);
    let gone = made(&service, &[]);
    service.operator("DisableAccessKey", &[("AccessKeyId", &gone.key.id)]).ok();
    let service = service.restart();
    let ended_token = Some(ended.token.as_str());
    let expired = "InvalidSecurityToken.Expired";
    each_refused(both(&service, &ended.key, ended_token, "DescribeDisks"), expired, 400);
    let forger = Key { secret: reads.key.secret.clone(), ..ended.key.clone() };
    let mismatch = "SignatureDoesNotMatch";
    each_refused(both(&service, &forger, ended_token, "DescribeDisks"), mismatch, 400);
    let token = Some(reads.token.as_str());
    both(&service, &reads.key, token, "DescribeDisks").iter().for_each(|answer| drop(answer.ok()));
    let [v1, _] = both(&service, &reads.key, token, "CreateDisk");
    v1.refused("Forbidden.RAM", 403);
    let inactive = "InvalidAccessKeyId.Inactive";
    each_refused(both(&service, &gone.key, Some(&gone.token), "DescribeDisks"), inactive, 400);

    let listed = service.operator("ListAccessKeys", &[]).ok();
    let status = |id: &str| {
        let all = listed["AccessKeys"]["AccessKey"].as_array().unwrap();
        let one = all.iter().find(|one| one["AccessKeyId"] == id).unwrap();
        assert_eq!(one["Temporary"], true, "{one}");
        one["Status"].as_str().unwrap().to_owned()
    };
    let all = [&ended, &reads, &gone].map(|temporary| status(&temporary.key.id));
    assert_eq!(all, ["Expired", "Active", "Inactive"]);
    assert!(!listed.to_string().contains(&forgotten.key.id));
    service.operator("DeleteAccessKey", &[("AccessKeyId", &reads.key.id)]).ok();
    let unknown = "InvalidAccessKeyId.NotFound";
    each_refused(both(&service, &reads.key, token, "DescribeDisks"), unknown, 404);
}

#[test]
fn a_token_that_is_not_signed_does_not_count() {
    let service = Service::start();
    let temporary = made(&service, &[]);
    let query = "RegionId=cn-hangzhou";
    let tail = format!("?{query}");
    let request = acs3(&temporary.key, "DescribeDisks", &tail, query, "", "text/plain");
    let header = format!("\r\nx-acs-security-token: {}\r\n", temporary.token);
    let with_token = request.replacen("\r\n", &header, 1);
    service.send(with_token).refused("IncompleteSignature", 400);
}

#[test]
fn neither_token_nor_secret_lies_on_disk() {
    let service = Service::start();
    let temporary = made(&service, &[]);
    both(&service, &temporary.key, Some(&temporary.token), "CreateDisk");
    let mut places = vec![service.path().to_owned()];
    let mut files = 0;
    while let Some(place) = places.pop() {
        if place.is_dir() {
            places.extend(place.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        } else if place.is_file() {
            let bytes = std::fs::read(&place).unwrap();
            for secret in [&temporary.token, &temporary.key.secret] {
                let found = bytes.windows(secret.len()).any(|piece| piece == secret.as_bytes());
                assert!(!found, "in {}", place.display());
            }
            files += 1;
        }
    }
    assert!(files > 5, "{files}");
}
