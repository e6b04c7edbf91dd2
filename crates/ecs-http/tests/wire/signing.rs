//! Requests signed as clients sign them, by code that shares nothing with the front's.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// An access key.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub secret: String,
}

/// Parameters of a v1 request, to be changed before or after they are signed.
#[derive(Clone, Debug)]
pub struct V1(pub BTreeMap<String, String>);

/// The parameters of a request, signed.
pub fn signed(key: &Key, method: &str, format: &str, action: &str, own: &[(&str, &str)]) -> V1 {
    let mut request = V1::new(key, format, action, own);
    request.sign(key, method);
    request
}

impl V1 {
    pub fn new(key: &Key, format: &str, action: &str, own: &[(&str, &str)]) -> Self {
        let (time, nonce) = (now(0), nonce());
        let common = [
            ("Action", action),
            ("Version", "2014-05-26"),
            ("Format", format),
            ("AccessKeyId", &key.id),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureVersion", "1.0"),
            ("SignatureNonce", &nonce),
            ("Timestamp", &time),
            ("RegionId", "cn-hangzhou"),
        ];
        let all = common.iter().chain(own);
        Self(all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    pub fn sign(&mut self, key: &Key, method: &str) {
        self.0.remove("Signature");
        let text = format!("{method}&%2F&{}", encode(&self.query()));
        let mut mac = Hmac::<Sha1>::new_from_slice(format!("{}&", key.secret).as_bytes()).unwrap();
        mac.update(text.as_bytes());
        self.0.insert("Signature".into(), STANDARD.encode(mac.finalize().into_bytes()));
    }

    pub fn query(&self) -> String {
        let pairs: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        pairs.join("&")
    }

    /// As a request with everything in the query.
    pub fn request(&self, method: &str) -> String {
        format!(
            "{method} /?{} HTTP/1.1\r\nHost: 127.0.0.1:8520\r\nContent-Length: 0\r\n\r\n",
            self.query()
        )
    }
}

/// An ACS3 request: `tail` is what follows `/` in the request line, `query` what is signed of it.
pub fn acs3(
    key: &Key,
    action: &str,
    tail: &str,
    query: &str,
    body: &str,
    content_type: &str,
) -> String {
    acs3_with(key, None, action, [tail, query, body, content_type])
}

/// The same with the token of a temporary key.
pub fn acs3_with(
    key: &Key,
    token: Option<&str>,
    action: &str,
    [tail, query, body, content_type]: [&str; 4],
) -> String {
    let hash = hex(&Sha256::digest(body));
    let (date, nonce) = (now(0), nonce());
    let mut headers = vec![
        ("accept", "application/json"),
        ("host", "127.0.0.1:8520"),
        ("x-acs-action", action),
        ("x-acs-content-sha256", &hash),
        ("x-acs-date", &date),
        ("x-acs-signature-nonce", &nonce),
        ("x-acs-version", "2014-05-26"),
    ];
    if let Some(token) = token {
        headers.extend([("x-acs-security-token", token), ("x-acs-accesskey-id", &key.id)]);
        headers.sort_unstable();
    }
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical = format!("POST\n/\n{query}\n{lines}\n{names}\n{hash}");
    let text = format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(canonical)));
    let mut mac = Hmac::<Sha256>::new_from_slice(key.secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    let signature = hex(&mac.finalize().into_bytes());
    let sent: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "POST /{tail} HTTP/1.1\r\n{sent}content-type: {content_type}\r\nAuthorization: ACS3-HMAC-SHA256 Credential={},\
         SignedHeaders={names},Signature={signature}\r\nContent-Length: {}\r\n\r\n{body}",
        key.id,
        body.len()
    )
}

/// A time so many seconds from now.
pub fn now(offset: i64) -> String {
    let second = jiff::Timestamp::now().as_second() + offset;
    jiff::Timestamp::from_second(second).unwrap().to_string()
}

fn nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("nonce-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn form(parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    pairs.join("&")
}

pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
