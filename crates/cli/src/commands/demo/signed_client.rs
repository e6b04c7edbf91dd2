//! An ECS client as any SDK is one: signed requests over HTTP, by version 1 of the signature.

use std::net::SocketAddr;

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::Full;
use hyper::{Request, header};
use percent_encoding::utf8_percent_encode;
use serde_json::Value;
use sha1::Sha1;
use tokio::{net::TcpStream, runtime::Runtime};

use crate::control::{PLAIN, Parameters, VERSION, exchange};

/// A client with a key.
#[derive(Debug)]
pub(super) struct SignedClient {
    address: SocketAddr,
    key: String,
    secret: String,
    runtime: Runtime,
}

impl SignedClient {
    pub(super) fn new(address: SocketAddr, key: String, secret: String) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { address, key, secret, runtime })
    }

    /// Calls an action; gives its answer.
    pub(super) fn call(&self, action: &str, parameters: &Parameters) -> anyhow::Result<Value> {
        let request = Request::post(format!("/?{}", self.sign(action, parameters)))
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_LENGTH, 0)
            .body(Full::default())
            .expect("every part of the request is valid by its making");
        let exchanged = self.runtime.block_on(async {
            let stream = TcpStream::connect(self.address).await.context("connecting over HTTP")?;
            anyhow::Ok(exchange(stream, request).await?)
        });
        exchanged.with_context(|| action.to_owned())
    }

    fn sign(&self, action: &str, parameters: &Parameters) -> String {
        let query = parameters
            .clone()
            .with("Action", action)
            .with("Version", VERSION)
            .with("Format", "JSON")
            .with("AccessKeyId", &self.key)
            .with("SignatureMethod", "HMAC-SHA1")
            .with("SignatureVersion", "1.0")
            .with("SignatureNonce", uuid::Uuid::new_v4())
            .with("Timestamp", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"))
            .sorted()
            .form();
        let text = format!("POST&%2F&{}", encode(&query));
        format!("{query}&Signature={}", encode(&signature(&self.secret, &text)))
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

fn signature(secret: &str, text: &str) -> String {
    let key = format!("{secret}&");
    let mut mac =
        Hmac::<Sha1>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_is_signed_as_published() {
        let query = Parameters::new()
            .with("AccessKeyId", "testid")
            .with("Action", "DescribeRegions")
            .with("Format", "XML")
            .with("SignatureMethod", "HMAC-SHA1")
            .with("SignatureNonce", "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf")
            .with("SignatureVersion", "1.0")
            .with("Timestamp", "2016-02-23T12:46:24Z")
            .with("Version", VERSION)
            .sorted()
            .form();
        let text = format!("GET&%2F&{}", encode(&query));
        assert_eq!(signature("testsecret", &text), "OLeaidS1JvxuMvnyHOwuJ+uX5qY=");
    }
}
