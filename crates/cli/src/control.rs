//! The client of a running daemon: ECS and operator actions over the control socket.
//!
//! What must always hold: a failure the daemon answered keeps its code, message and request id.
//! Left to others: who may call (the mode of the socket), what the actions do.

use std::{io, time::Duration};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, body::Bytes, header};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{daemon, failure::Failure, places::Places};

/// What a form leaves as it is.
pub(crate) const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The version of the ECS API.
pub(crate) const VERSION: &str = "2014-05-26";

/// The way to the running daemon.
#[derive(Debug)]
pub(crate) struct Control {
    places: Places,
    runtime: Runtime,
}

/// The parameters of one call, in the spelling of ECS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One more parameter.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers give numbers and texts as they have them"
    )]
    pub(crate) fn with(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.0.push((name.into(), value.to_string()));
        self
    }

    /// One more parameter, if there is a value for it.
    pub(crate) fn with_some(self, name: &str, value: Option<&impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value.to_string()),
            None => self,
        }
    }

    /// In the order a signature wants.
    pub(crate) fn sorted(mut self) -> Self {
        self.0.sort();
        self
    }

    /// As a form or a query.
    pub(crate) fn form(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
        let pairs: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        pairs.join("&")
    }
}

impl Control {
    /// The daemon of this store, or how to start one.
    pub(crate) fn of(places: &Places) -> Result<Self, Failure> {
        places.check_sockets()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(
            |error| Failure::local("NoRuntime", format!("starting the client: {error}")),
        )?;
        let control = Self { places: places.clone(), runtime };
        control.runtime.block_on(async { control.connect().await.map(drop) })?;
        Ok(control)
    }

    /// Where NBD clients find an open disk.
    pub(crate) fn nbd_uri(&self, disk: &str) -> String {
        format!("nbd+unix:///{disk}?socket={}", self.places.nbd_socket().display())
    }

    /// Calls one action and gives its answer.
    pub(crate) fn call(&self, action: &str, parameters: &Parameters) -> Result<Value, Failure> {
        self.runtime.block_on(self.ask(action, parameters))
    }

    /// Calls one action that lists; `container` and `item` name where the items are. The operator gets all of them,
    /// without pages.
    pub(crate) fn list(
        &self,
        action: &str,
        [container, item]: [&str; 2],
        parameters: &Parameters,
    ) -> Result<Vec<Value>, Failure> {
        let answer = self.call(action, parameters)?;
        Ok(answer[container][item].as_array().cloned().unwrap_or_default())
    }

    /// From now on Ctrl-C is told by [`Control::pause`] instead of ending the program.
    pub(crate) fn interrupt(&self) -> Result<Signal, Failure> {
        let _inside = self.runtime.enter();
        signal(SignalKind::interrupt())
            .map_err(|error| Failure::local("NoRuntime", format!("watching for Ctrl-C: {error}")))
    }

    /// Waits this long; whether Ctrl-C came.
    pub(crate) fn pause(&self, time: Duration, interrupt: &mut Signal) -> bool {
        self.runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => true,
                () = tokio::time::sleep(time) => false,
            }
        })
    }

    /// From now on each of these is told by [`Control::pause_until`] instead of ending the program.
    pub(crate) fn watch_for_end(&self) -> Result<[Signal; 3], Failure> {
        let _inside = self.runtime.enter();
        let watch = |kind| {
            signal(kind)
                .map_err(|error| Failure::local("NoRuntime", format!("watching signals: {error}")))
        };
        Ok([
            watch(SignalKind::interrupt())?,
            watch(SignalKind::terminate())?,
            watch(SignalKind::hangup())?,
        ])
    }

    /// Waits this long; whether one of the signals came.
    pub(crate) fn pause_until(&self, time: Duration, signals: &mut [Signal; 3]) -> bool {
        let [interrupt, terminate, hangup] = signals;
        self.runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                _ = hangup.recv() => true,
                () = tokio::time::sleep(time) => false,
            }
        })
    }

    /// A page of the daemon, as text.
    pub(crate) fn page(&self, path: &str) -> Result<String, Failure> {
        let request = Request::get(path)
            .header(header::HOST, "localhost")
            .body(Full::default())
            .expect("every part of the request is valid by its making");
        let (_, body) =
            self.runtime.block_on(async { send(self.connect().await?, request).await })?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    async fn connect(&self) -> Result<UnixStream, Failure> {
        let socket = self.places.control_socket();
        UnixStream::connect(socket).await.map_err(|error| no_daemon(&self.places, &error))
    }

    async fn ask(&self, action: &str, parameters: &Parameters) -> Result<Value, Failure> {
        let asked = parameters.clone().with("Action", action).with("Version", VERSION);
        let request = Request::post("/")
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(asked.with("Format", "JSON").form()))
            .expect("every part of the request is valid by its making");
        exchange(self.connect().await?, request).await
    }
}

/// Sends one request over a fresh connection and reads its answer.
pub(crate) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Value, Failure> {
    let (status, body) = send(stream, request).await?;
    answer(status, &body)
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Failure> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The connection ends with the answer, or shows its failure through the sender.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, body))
}

/// A field of an answer as text, empty if it is not there.
pub(crate) fn text(answer: &Value, field: &str) -> String {
    match &answer[field] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn answer(status: StatusCode, body: &[u8]) -> Result<Value, Failure> {
    let Ok(document) = serde_json::from_slice::<Value>(body) else {
        let message = format!(
            "the daemon answered {status} with something that is not JSON; is it of this version?"
        );
        return Err(Failure::local("UnreadableAnswer", message));
    };
    if status.is_success() {
        return Ok(document);
    }
    let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    Err(Failure { code: text("Code"), message: text("Message"), request_id: text("RequestId") })
}

/// The daemon went away in the middle, or never spoke HTTP.
impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        let message = format!("the daemon broke the connection off ({error}); look at its log");
        Self::local("ConnectionLost", message)
    }
}

fn no_daemon(places: &Places, error: &io::Error) -> Failure {
    // To start a daemon on it would not help either.
    if error.kind() == io::ErrorKind::NotFound && !places.hold_a_store() {
        return daemon::no_store(places);
    }
    let store = places.store().display();
    let message = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("no daemon runs on {store}; start one with: reinit --store {store} serve")
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "the control socket of {store} is for another user; run this as the one who runs the daemon"
            )
        }
        _ => format!("reaching the daemon of {store}: {error}"),
    };
    Failure::local("NoDaemon", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_survives_any_text() {
        let form = Parameters::new().with("DiskName", "a b+c&d=数").with("Size", 20).form();
        assert_eq!(form, "DiskName=a%20b%2Bc%26d%3D%E6%95%B0&Size=20");
    }

    #[test]
    fn an_error_keeps_code_message_and_request() {
        let body = br#"{"Code":"InvalidDiskId.NotFound","Message":"no such disk","RequestId":"R","HostId":"h"}"#;
        let failure = answer(StatusCode::NOT_FOUND, body).unwrap_err();
        assert_eq!(
            failure.line(),
            "no such disk `reinit disk ls` lists the disks; for those of another account add --account NAME. (InvalidDiskId.NotFound, request R)"
        );
        assert_eq!(answer(StatusCode::OK, b"<html>").unwrap_err().code, "UnreadableAnswer");
    }
}
