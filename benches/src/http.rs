//! A blocking HTTP client on one connection that is kept, over TCP or a unix socket.
//!
//! It does what an SDK does and no more, so that what is measured is the server: a signed request
//! is built before the clock starts.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use sha1::Sha1;

/// What a form leaves as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A connection that is kept.
#[derive(Debug)]
pub struct HttpClient<S> {
    stream: BufReader<S>,
}

impl HttpClient<UnixStream> {
    /// To a control socket.
    pub fn unix(socket: &Path) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket)?) })
    }
}

impl HttpClient<TcpStream> {
    /// To an address.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }
}

impl<S: Read + Write> HttpClient<S> {
    /// Sends a request and reads its answer, which must be a success.
    pub fn send(&mut self, request: &Prepared) -> anyhow::Result<Value> {
        let body = self.ask(request)?;
        serde_json::from_slice(&body).context("an answer that is not JSON")
    }

    /// The same, and the answer as it came.
    pub fn ask(&mut self, request: &Prepared) -> anyhow::Result<Vec<u8>> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (status, length) = self.read_head()?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        if status != 200 {
            bail!("status {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    /// The status and the length of the body.
    fn read_head(&mut self) -> anyhow::Result<(u16, usize)> {
        let status = self.read_line()?.split(' ').nth(1).context("no status")?.parse()?;
        let mut length = 0;
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok((status, length));
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
    }

    fn read_line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server ended the connection");
        }
        Ok(line.trim_end().to_owned())
    }
}

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Prepared(String);

impl Prepared {
    /// A page that is no action.
    pub fn page(path: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    }

    /// As it is sent.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// An action for the control socket, which asks for no signature.
    pub fn plain(action: &str, parameters: &[(&str, &str)]) -> Self {
        let body = form(&mut with_common(action, parameters));
        let length = body.len();
        Self(format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }

    /// An action, signed by version 1 of the signature.
    pub fn signed(key: &Key, action: &str, parameters: &[(&str, &str)]) -> Self {
        let nonce = uuid::Uuid::new_v4().to_string();
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut all = with_common(action, parameters);
        all.extend([
            ("AccessKeyId", key.id.as_str()),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureVersion", "1.0"),
            ("SignatureNonce", &nonce),
            ("Timestamp", &time),
        ]);
        let query = form(&mut all);
        let signature = key.sign(&format!("POST&%2F&{}", encode(&query)));
        let signature = encode(&signature);
        Self(format!(
            "POST /?{query}&Signature={signature} HTTP/1.1\r\nhost: localhost\r\n\
             content-length: 0\r\n\r\n"
        ))
    }
}

/// An access key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl Key {
    fn sign(&self, text: &str) -> String {
        let key = format!("{}&", self.secret);
        let mac = Hmac::<Sha1>::new_from_slice(key.as_bytes());
        let mut mac = mac.expect("HMAC takes keys of any length");
        mac.update(text.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

fn with_common<'a>(action: &'a str, own: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let common = [("Action", action), ("Version", "2014-05-26"), ("Format", "JSON")];
    common.into_iter().chain(own.iter().copied()).collect()
}

/// In the order a signature wants.
fn form(parameters: &mut [(&str, &str)]) -> String {
    parameters.sort_unstable();
    let pair = |(name, value): &(&str, &str)| format!("{}={}", encode(name), encode(value));
    parameters.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_is_signed_as_published() {
        let query = form(&mut [
            ("Action", "DescribeRegions"),
            ("AccessKeyId", "testid"),
            ("Format", "XML"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"),
            ("SignatureVersion", "1.0"),
            ("Timestamp", "2016-02-23T12:46:24Z"),
            ("Version", "2014-05-26"),
        ]);
        let key = Key { id: "testid".into(), secret: "testsecret".into() };
        let signature = key.sign(&format!("GET&%2F&{}", encode(&query)));
        assert_eq!(signature, "OLeaidS1JvxuMvnyHOwuJ+uX5qY=");
    }

    #[test]
    fn answers_on_one_connection_are_told_apart() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = HttpClient { stream: BufReader::new(ours) };
        let answer = |status: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let both = [answer("200 OK", "{\"A\":1}"), answer("404 Not Found", "{}")].concat();
        theirs.write_all(both.as_bytes()).unwrap();
        let request = Prepared::plain("DescribeDisks", &[]);
        assert_eq!(client.send(&request).unwrap()["A"], 1);
        let refused = client.send(&request).unwrap_err();
        assert!(refused.to_string().starts_with("status 404"));
    }
}
