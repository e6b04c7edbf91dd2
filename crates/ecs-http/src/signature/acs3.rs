//! ACS3-HMAC-SHA256: a signature over method, path, query, named headers and body.
//!
//! What must always hold
//! 1. What decides about the request (host, action, version, time, nonce, body) is among the signed
//!    headers, each there exactly once.
//! 2. The hash of the body is computed from the body that came, and must be the one that was signed.

use axum::http::{HeaderMap, header};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::{Claimed, Signed, canonical_query, hex, incomplete, parse_time};
use crate::{refusal::Refusal, request::Request};

const ALGORITHM: &str = "ACS3-HMAC-SHA256";
const SIGNATURE_BYTES: usize = 32;
const TOKEN: &str = "x-acs-security-token";
const BODY_HASH: &str = "x-acs-content-sha256";
const MUST_BE_SIGNED: [&str; 6] =
    ["host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", BODY_HASH];

/// Reads what the headers claim.
pub(super) fn read(request: &Request) -> Result<Claimed, Refusal> {
    let headers = &request.headers;
    let authorization = Authorization::parse(only(headers, header::AUTHORIZATION.as_str())?)?;
    for name in MUST_BE_SIGNED {
        only(headers, name)?;
        if !authorization.names().any(|signed| signed == name) {
            return Err(incomplete());
        }
    }
    let security_token = token(headers, &authorization)?;
    let body_hash = hex::encode(&Sha256::digest(&request.body));
    let text = string_to_sign(request, &authorization, &body_hash)?;
    Ok(Claimed {
        access_key: authorization.credential.to_owned(),
        time: parse_time(only(headers, "x-acs-date")?)?,
        nonce: only(headers, "x-acs-signature-nonce")?.to_owned(),
        security_token,
        signature: authorization.signature,
        signed: Signed::Acs3 {
            text,
            body_is_the_signed_one: only(headers, BODY_HASH)?.eq_ignore_ascii_case(&body_hash),
        },
    })
}

/// The token of a temporary key, which must be signed like everything else.
fn token(
    headers: &HeaderMap,
    authorization: &Authorization<'_>,
) -> Result<Option<String>, Refusal> {
    if !headers.contains_key(TOKEN) {
        return Ok(None);
    }
    if !authorization.names().any(|signed| signed == TOKEN) {
        return Err(incomplete());
    }
    only(headers, TOKEN).map(|token| Some(token.to_owned()))
}

/// The value of a header that must be there once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().and_then(|value| value.to_str().ok()).map(str::trim);
    let value = first.filter(|value| !value.is_empty()).ok_or_else(|| Refusal::missing(name))?;
    if values.next().is_some() {
        return Err(Refusal::invalid(format!("The header {name} is given more than once.")));
    }
    Ok(value)
}

/// The parts of the `Authorization` header.
#[derive(Debug)]
struct Authorization<'h> {
    credential: &'h str,
    signed_headers: &'h str,
    signature: Vec<u8>,
}

impl<'h> Authorization<'h> {
    fn parse(text: &'h str) -> Result<Self, Refusal> {
        let (algorithm, parts) = text.split_once(' ').ok_or_else(incomplete)?;
        if algorithm != ALGORITHM {
            return Err(incomplete());
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in parts.split(',') {
            let (name, value) = part.trim().split_once('=').ok_or_else(incomplete)?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(incomplete()),
            };
            if value.is_empty() || place.replace(value).is_some() {
                return Err(incomplete());
            }
        }
        let signature = hex::decode(signature.ok_or_else(incomplete)?).ok_or_else(incomplete)?;
        if signature.len() != SIGNATURE_BYTES {
            return Err(incomplete());
        }
        Ok(Self {
            credential: credential.ok_or_else(incomplete)?,
            signed_headers: signed_headers.ok_or_else(incomplete)?,
            signature,
        })
    }

    fn names(&self) -> impl Iterator<Item = &'h str> + use<'h> {
        self.signed_headers.split(';')
    }
}

fn string_to_sign(
    request: &Request,
    authorization: &Authorization<'_>,
    body_hash: &str,
) -> Result<String, Refusal> {
    let canonical = canonical_request(request, authorization, body_hash)?;
    Ok(format!("{ALGORITHM}\n{}", hex::encode(&Sha256::digest(canonical))))
}

fn canonical_request(
    request: &Request,
    authorization: &Authorization<'_>,
    body_hash: &str,
) -> Result<Vec<u8>, Refusal> {
    let query = canonical_query(request.query_parameters.iter());
    let mut text = format!("{}\n/\n{query}\n", request.method).into_bytes();
    for name in authorization.names() {
        text.extend_from_slice(name.to_ascii_lowercase().as_bytes());
        text.push(b':');
        text.extend(header_value(&request.headers, name).ok_or_else(incomplete)?);
        text.push(b'\n');
    }
    text.extend_from_slice(format!("\n{}\n{body_hash}", authorization.signed_headers).as_bytes());
    Ok(text)
}

/// The values of a header, trimmed, sorted, joined.
fn header_value(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    let mut values: Vec<_> =
        headers.get_all(name).iter().map(|value| value.as_bytes().trim_ascii()).collect();
    values.sort_unstable();
    (!values.is_empty()).then(|| values.join(&b','))
}

/// The signature of a text.
pub(super) fn sign(secret: &str, text: &str) -> [u8; SIGNATURE_BYTES] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const SIGNED: &str = "accept;host;user-agent;x-acs-action;x-acs-content-sha256;\
        x-acs-credentials-provider;x-acs-date;x-acs-signature-nonce;x-acs-version";
    const SIGNED_STS: &str = "accept;host;user-agent;x-acs-accesskey-id;x-acs-action;\
        x-acs-content-sha256;x-acs-credentials-provider;x-acs-date;x-acs-security-token;\
        x-acs-signature-nonce;x-acs-version";

    fn headers<'a>(action: &'a str, authorization: &'a str) -> Vec<(&'static str, &'a str)> {
        vec![
            ("accept", "application/json"),
            ("host", "127.0.0.1:18080"),
            ("user-agent", "test-agent"),
            ("x-acs-action", action),
            ("x-acs-content-sha256", EMPTY),
            ("x-acs-credentials-provider", "static_ak"),
            ("x-acs-date", "2023-10-26T10:22:32Z"),
            ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
            ("x-acs-version", "2014-05-26"),
            ("authorization", authorization),
        ]
    }

    fn authorization(signed: &str, signature: &str) -> String {
        format!(
            "{ALGORITHM} Credential=YourAccessKeyId,SignedHeaders={signed},Signature={signature}"
        )
    }

    fn check(query: &str, headers: &[(&'static str, &str)], hash: &str) {
        let claimed = read(&Request::for_test("POST", query, headers, b"")).unwrap();
        let Signed::Acs3 { text, .. } = &claimed.signed else { panic!("not ACS3") };
        assert_eq!(text, &format!("{ALGORITHM}\n{hash}"));
        claimed.check_signature("YourAccessKeySecret").unwrap();
        let refusal = claimed.check_signature("other").unwrap_err();
        assert_eq!(refusal.code, "SignatureDoesNotMatch");
        assert_eq!(refusal.message.matches(':').count(), 1);
    }

    #[test]
    fn describe_regions_without_a_query() {
        let signature = "d8889665c246001ee591c22464bfe4ac73e145462b30643454462b59da669864";
        check(
            "",
            &headers("DescribeRegions", &authorization(SIGNED, signature)),
            "a1cabc88f535ab46d827322df09a44100a7367880fc551af083f8fb3acd204a8",
        );
    }

    #[test]
    fn reinit_disk() {
        let signature = "e46fc6fa10c58b240915cda80fa02d921f93ee86f5904bf69d016908aa786b95";
        check(
            "DiskId=d-23jbf2v5m&AutoStartInstance=True",
            &headers("ReInitDisk", &authorization(SIGNED, signature)),
            "d718d304e99283e35511dd963ead9ec18099114749126468f2df9100982d0912",
        );
    }

    #[test]
    fn create_disk_with_a_token_and_a_plus_for_the_space() {
        let signature = "f8ed13680730f2b40fb2fb52d5dedc4e2c399fe4c9175bc83a2d0ceb5f6f24b1";
        let authorization = authorization(SIGNED_STS, signature);
        let mut headers = headers("CreateDisk", &authorization);
        headers.retain(|(name, _)| *name != "x-acs-credentials-provider");
        headers.push(("x-acs-credentials-provider", "static_sts"));
        headers.push(("x-acs-accesskey-id", "YourAccessKeyId"));
        headers.push(("x-acs-security-token", "sts-token-1"));
        check(
            "DiskName=a+b%2Bc%2A~%27%28%E6%95%B0%E6%8D%AE%E7%9B%98%29&RegionId=cn-hangzhou&Size=20&\
             Tag.1.Key=k%2F1&Tag.1.Value=v%3D1%262&ZoneId=cn-hangzhou-b",
            &headers,
            "5676a743841bc9a351605f9a750f9393b40b2c34f55e47bcced45462141bd5d5",
        );
    }

    #[test]
    fn another_body_than_the_signed_one_is_a_mismatch() {
        let signature = "d8889665c246001ee591c22464bfe4ac73e145462b30643454462b59da669864";
        let authorization = authorization(SIGNED, signature);
        let headers = headers("DescribeRegions", &authorization);
        let claimed = read(&Request::for_test("POST", "", &headers, b"{}")).unwrap();
        let refusal = claimed.check_signature("YourAccessKeySecret").unwrap_err();
        assert_eq!(refusal.code, "SignatureDoesNotMatch");
    }

    fn code(headers: &[(&'static str, &str)]) -> &'static str {
        read(&Request::for_test("POST", "", headers, b"")).unwrap_err().code
    }

    #[test]
    fn what_decides_must_be_there_once_and_signed() {
        let right = authorization(SIGNED, &"0".repeat(64));
        for name in MUST_BE_SIGNED {
            let mut without = headers("DescribeRegions", &right);
            without.retain(|(header, _)| *header != name);
            assert_eq!(code(&without), "MissingParameter", "{name}");
            let signed: Vec<_> = SIGNED.split(';').filter(|signed| *signed != name).collect();
            let unsigned = authorization(&signed.join(";"), &"0".repeat(64));
            assert_eq!(
                code(&headers("DescribeRegions", &unsigned)),
                "IncompleteSignature",
                "{name}"
            );
        }
        let mut twice = headers("DescribeRegions", &right);
        twice.push(("x-acs-action", "DeleteDisk"));
        assert_eq!(code(&twice), "InvalidParameter");
    }

    #[test]
    fn a_malformed_authorization_is_incomplete() {
        let texts = [
            "ACS3-HMAC-SHA256",
            "ACS3-HMAC-SM3 Credential=a,SignedHeaders=host,Signature=00",
            "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host",
            "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=00",
            "ACS3-HMAC-SHA256 Credential=a,Credential=b,SignedHeaders=host,Signature=00",
            "ACS3-HMAC-SHA256 Credential=,SignedHeaders=host,Signature=zz",
            "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host,Other=1",
        ];
        for text in texts {
            assert_eq!(code(&headers("DescribeRegions", text)), "IncompleteSignature", "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_reader(text in "[ -~]{0,200}", query in proptest::collection::vec(any::<u8>(), 0..80)) {
            let authorization = format!("ACS3{text}");
            let _ = Authorization::parse(&authorization);
            let full = authorization_with(&text);
            let headers = headers("DescribeRegions", &full);
            if let Ok(parameters) = crate::parameters::Parameters::of_form(&query) {
                let mut request = Request::for_test("POST", "", &headers, b"");
                request.query_parameters = parameters;
                if let Ok(claimed) = read(&request) {
                    prop_assert!(claimed.check_signature("YourAccessKeySecret").is_err());
                }
            }
        }
    }

    fn authorization_with(text: &str) -> String {
        authorization(&format!("{SIGNED};{}", text.replace([',', ' '], "")), &"0".repeat(64))
    }
}
