//! The two ways an ECS client signs, written from the public rules and sharing no code with the server's check.
//!
//! What must always hold: what is signed is what is sent.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Letters, digits and these four stay as they are.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// An access key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

/// How a request is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// HMAC-SHA1 over the parameters.
    V1,
    /// `ACS3-HMAC-SHA256` over the request.
    Acs3,
}

/// A request ready to be sent.
#[derive(Debug)]
pub struct Signed {
    /// What stands after `?`.
    pub query: String,
    /// Header lines besides Host.
    pub headers: Vec<(String, String)>,
}

/// Percent-encodes by the rules of the signatures.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// `name=value` pairs, sorted by name, encoded.
pub fn canonical(parameters: &[(String, String)]) -> String {
    let mut sorted = parameters.to_vec();
    sorted.sort();
    let pairs: Vec<String> =
        sorted.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The signature of these parameters by version 1.
pub fn v1_signature(secret: &str, method: &str, parameters: &[(String, String)]) -> String {
    let text = format!("{method}&%2F&{}", encode(&canonical(parameters)));
    let mut mac =
        Hmac::<Sha1>::new_from_slice(format!("{secret}&").as_bytes()).expect("HMAC takes any key");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The `Authorization` of a request by `ACS3-HMAC-SHA256`; the names are lower case and sorted, all are signed.
pub fn acs3_authorization(
    key: &Key,
    method: &str,
    query: &[(String, String)],
    headers: &[(String, String)],
    body: &[u8],
) -> String {
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (query, payload) = (canonical(query), body_hash(body));
    let request = format!("{method}\n/\n{query}\n{lines}\n{names}\n{payload}");
    let text = format!("ACS3-HMAC-SHA256\n{}", body_hash(request.as_bytes()));
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.secret.as_bytes()).expect("HMAC takes any key");
    mac.update(text.as_bytes());
    let signature = hex(&mac.finalize().into_bytes());
    let id = &key.id;
    format!("ACS3-HMAC-SHA256 Credential={id},SignedHeaders={names},Signature={signature}")
}

/// The hash of a body as ACS3 sends it.
pub fn body_hash(body: &[u8]) -> String {
    hex(&Sha256::digest(body))
}

/// Signs a POST without a body, by version 1.
pub fn v1(key: &Key, action: &str, format: &str, parameters: &[(String, String)]) -> Signed {
    let mut all = parameters.to_vec();
    for (name, value) in [
        ("Action", action),
        ("Version", "2014-05-26"),
        ("Format", format),
        ("AccessKeyId", &key.id),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", &uuid::Uuid::new_v4().to_string()),
        ("Timestamp", &now()),
    ] {
        all.push((name.into(), value.into()));
    }
    let query = canonical(&all);
    let signature = v1_signature(&key.secret, "POST", &all);
    Signed { query: format!("{query}&Signature={}", encode(&signature)), headers: Vec::new() }
}

/// Signs a POST without a body, by `ACS3-HMAC-SHA256`.
pub fn acs3(
    key: &Key,
    host: &str,
    action: &str,
    format: &str,
    parameters: &[(String, String)],
) -> Signed {
    let mut all = parameters.to_vec();
    if format == "XML" {
        all.push(("Format".into(), format.into()));
    }
    let query = canonical(&all);
    let signed = [
        ("accept", "application/json".to_owned()),
        ("host", host.to_owned()),
        ("x-acs-action", action.to_owned()),
        ("x-acs-content-sha256", body_hash(b"")),
        ("x-acs-date", now()),
        ("x-acs-signature-nonce", uuid::Uuid::new_v4().simple().to_string()),
        ("x-acs-version", "2014-05-26".to_owned()),
    ];
    let mut headers: Vec<_> =
        signed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let authorization = acs3_authorization(key, "POST", &all, &headers, b"");
    headers.retain(|(name, _)| name != "host");
    headers.push(("Authorization".into(), authorization));
    Signed { query, headers }
}
