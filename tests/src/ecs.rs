//! An ECS client over plain HTTP: one call, one connection, one answer in either format.
//!
//! What must always hold: an answer says its status, code and fields the same way in JSON and XML.

use std::{io, net::TcpStream, os::unix::net::UnixStream, path::Path, time::Duration};

use serde_json::Value;

use crate::signature::{self, Key, Signature, Signed};

/// No answer may take longer.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As the official SDKs ask.
    Json,
    /// As the API answers by default.
    Xml,
}

/// A client with a key.
#[derive(Clone, Debug)]
pub struct Ecs {
    /// `ADDRESS:PORT`.
    pub address: String,
    /// What it signs with.
    pub key: Key,
    /// How it signs.
    pub signature: Signature,
    /// What it asks for.
    pub format: Format,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The type of the body.
    pub content_type: String,
    /// The body.
    pub body: String,
    format: Format,
}

impl Ecs {
    /// The same client, signing in another way.
    pub fn signing(&self, signature: Signature) -> Self {
        Self { signature, ..self.clone() }
    }

    /// The same client, asking for another format.
    pub fn asking(&self, format: Format) -> Self {
        Self { format, ..self.clone() }
    }

    /// The same client with another key.
    pub fn with_key(&self, key: &Key) -> Self {
        Self { key: key.clone(), ..self.clone() }
    }

    /// Calls an action; the daemon must answer.
    pub fn call(&self, action: &str, parameters: &[(&str, &str)]) -> Answer {
        self.try_call(action, parameters).expect("the daemon answers in time")
    }

    /// Calls an action of a daemon that may die before it answers.
    pub fn try_call(&self, action: &str, parameters: &[(&str, &str)]) -> io::Result<Answer> {
        let parameters: Vec<(String, String)> =
            parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let format = match self.format {
            Format::Json => "JSON",
            Format::Xml => "XML",
        };
        let signed = match self.signature {
            Signature::V1 => signature::v1(&self.key, action, format, &parameters),
            Signature::Acs3 => {
                signature::acs3(&self.key, &self.address, action, format, &parameters)
            }
        };
        let (status, content_type, body) = post(&self.address, &signed)?;
        Ok(Answer { status, content_type, body, format: self.format })
    }
}

fn post(address: &str, signed: &Signed) -> io::Result<(u16, String, String)> {
    let mut request = format!("POST /?{} HTTP/1.1\r\nHost: {address}\r\n", signed.query);
    for (name, value) in &signed.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("Content-Length: 0\r\nConnection: close\r\n\r\n");
    exchange(address, &request)
}

/// A plain GET, for what needs no signature.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let (status, _, body) = exchange(address, &request).expect("the daemon answers");
    (status, body)
}

/// Fetches a page through the control socket of this store, as its operator.
pub fn get_as_operator(store: &Path, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let connection = UnixStream::connect(store.join("run/control.sock"));
    let mut connection = connection.expect("the daemon listens");
    let answered = connection.set_read_timeout(Some(TIME_LIMIT));
    let answered = answered.and_then(|()| talk(&mut connection, &request));
    let (status, _, body) = answered.expect("the daemon answers");
    (status, body)
}

fn exchange(address: &str, request: &str) -> io::Result<(u16, String, String)> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(TIME_LIMIT))?;
    talk(&mut connection, request)
}

fn talk(
    connection: &mut (impl io::Read + io::Write),
    request: &str,
) -> io::Result<(u16, String, String)> {
    connection.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).expect("answers are UTF-8");
    // A daemon that dies may leave a part of an answer, which is none.
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    let content_type = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default();
    Ok((status, content_type, body.to_owned()))
}

impl Answer {
    /// It must be a success.
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.body);
        self
    }

    /// It must be this error, of the right shape for its format.
    pub fn refuses(&self, code: &str, status: u16) {
        assert_eq!((self.status, self.text("Code").as_str()), (status, code), "{}", self.body);
        for field in ["RequestId", "HostId", "Message"] {
            assert!(!self.text(field).is_empty(), "{field} is missing: {}", self.body);
        }
        match self.format {
            Format::Json => assert_eq!(self.content_type, "application/json;charset=utf-8"),
            Format::Xml => {
                assert_eq!(self.content_type, "text/xml;charset=utf-8");
                assert!(self.body.contains("<Error>"), "{}", self.body);
            }
        }
    }

    /// The whole answer, if it is JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The first field of that name; empty if there is none.
    pub fn text(&self, field: &str) -> String {
        match self.format {
            Format::Json => match find(&self.json(), field) {
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
                None => String::new(),
            },
            Format::Xml => {
                let inner = self.body.split_once(&format!("<{field}>"));
                let inner = inner.and_then(|(_, rest)| rest.split_once(&format!("</{field}>")));
                inner.map(|(text, _)| text.to_owned()).unwrap_or_default()
            }
        }
    }
}

fn find(value: &Value, field: &str) -> Option<Value> {
    match value {
        Value::Object(fields) => fields
            .get(field)
            .cloned()
            .or_else(|| fields.values().find_map(|below| find(below, field))),
        Value::Array(items) => items.iter().find_map(|item| find(item, field)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
