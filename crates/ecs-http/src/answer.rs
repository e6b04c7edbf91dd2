//! One request to `/`, from its parts to its answer.
//!
//! What must always hold
//! 1. Every request gets a request id, is counted once and logged once: action, account, code, time;
//!    never a parameter, a secret or a signature.
//! 2. A panic in an action is answered as `InternalError` and hurts nobody else.
//! 3. Version and action are looked at only after the caller is known.
//!
//! Left to others: who calls (`gate`), what actions do (`actions`), how an answer is written
//! (`response`).

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::State,
    http::{self, HeaderMap, Method, Response, Uri, header},
};
use block_store::RequestId;
use cloud::Cloud;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;

use crate::{
    actions::{self, Call, Fields},
    client::Client,
    format::AnswerFormat,
    front::{Door, Front},
    gate, limits, parameters,
    refusal::Refusal,
    request::Request,
    response,
};

/// The one version of the API.
const VERSION: &str = "2014-05-26";

/// The name under which requests are counted whose action is none of ours.
const NO_ACTION: &str = "none";

/// Answers a request to `/`.
pub(crate) async fn answer(
    State((front, door)): State<(Front, Door)>,
    request: http::Request<Body>,
) -> Response<Body> {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let body = read_body(body, front.limits().body_within).await;
    let form = body.as_ref().ok().and_then(|body| parameters::form_of(&parts.headers, body));
    let format = AnswerFormat::of(&parts.headers, &query, form);
    let envelope = Envelope::new(format, &parts.headers, &parts.uri);
    let (outcome, response) = match body {
        Ok(body) => {
            let came = Came { door, method: parts.method, query, headers: parts.headers, body };
            work_on(&front, came, envelope).await
        }
        Err(refusal) => envelope.hold(Outcome::refused(refusal)),
    };
    outcome.record(&front, begun.elapsed());
    response
}

/// Any path that is none of ours.
pub(crate) async fn nothing_here(
    State((front, _)): State<(Front, Door)>,
    request: http::Request<Body>,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let format = AnswerFormat::of(request.headers(), query, None);
    let envelope = Envelope::new(format, request.headers(), request.uri());
    let message = "There is nothing at this path; actions are on /.";
    let refused = Outcome::refused(Refusal::new("InvalidAction.NotFound", 404, message));
    let (outcome, response) = envelope.hold(refused);
    outcome.record(&front, Duration::ZERO);
    response
}

/// What came, with its body read.
#[derive(Debug)]
struct Came {
    door: Door,
    method: Method,
    query: String,
    headers: HeaderMap,
    body: Bytes,
}

async fn work_on(front: &Front, came: Came, envelope: Envelope) -> (Outcome, Response<Body>) {
    let (worker, spare) = (front.clone(), envelope.clone());
    // Dropped with this future, which is what happens when the connection ends.
    let (client, _waiting) = Client::new();
    // The operator waits as long as an export takes, and Ctrl-C ends it.
    let within = (came.door == Door::Public).then_some(front.limits().answer_within);
    let done = front.run(within, move || {
        let outcome = Outcome::of(&worker, came, &envelope, &client);
        envelope.hold(outcome)
    });
    done.await.unwrap_or_else(|refusal| spare.hold(Outcome::refused(refusal)))
}

/// What a request came to.
#[derive(Debug)]
struct Outcome {
    /// The name of the action, once it is known to be one of ours.
    action: &'static str,
    /// Whose it is, once that is proven.
    account: String,
    request_id: RequestId,
    result: Result<Fields, Refusal>,
}

impl Outcome {
    fn refused(refusal: Refusal) -> Self {
        let request_id = RequestId::from_bytes([0; 16]);
        Self { action: NO_ACTION, account: String::new(), request_id, result: Err(refusal) }
    }

    fn of(front: &Front, came: Came, envelope: &Envelope, client: &Client) -> Self {
        let mut outcome = Self::refused(Refusal::internal());
        outcome.request_id = envelope.request_id;
        // Nothing survives a panic but the names, which are whole at every moment.
        let steps = AssertUnwindSafe(|| outcome.carry_out(front, came, &envelope.host, client));
        let caught = catch_unwind(steps);
        outcome.result = caught.unwrap_or_else(|panic| Err(front.panicked(panic.as_ref())));
        outcome
    }

    fn carry_out(
        &mut self,
        front: &Front,
        came: Came,
        host: &str,
        client: &Client,
    ) -> Result<Fields, Refusal> {
        let door = came.door;
        let request = Request::read(came.method, &came.query, came.headers, came.body)?;
        let caller = gate::caller(front, door, &request)?;
        self.account.clone_from(&caller.account);
        check_version(door, &request)?;
        let name = request.action().ok_or_else(|| Refusal::missing("Action"))?;
        let action = actions::find(name, door).ok_or_else(|| Refusal::unknown_action(name))?;
        self.action = action.name;
        let call = Call {
            action: action.name,
            cloud: front.cloud(),
            caller: &caller,
            parameters: &request.parameters,
            request_id: self.request_id,
            host,
            client,
        };
        action.run(&call)
    }

    /// Counts it and logs it, once.
    fn record(&self, front: &Front, elapsed: Duration) {
        let code = self.result.as_ref().map_or_else(|refusal| refusal.code, |_| "OK");
        front.metering().answered(self.action, code, elapsed);
        tracing::info!(
            action = self.action,
            request_id = %self.request_id,
            account = self.account,
            code,
            micros = elapsed.as_micros(),
            "answered"
        );
    }
}

/// The operator may leave the version out.
fn check_version(door: Door, request: &Request) -> Result<(), Refusal> {
    match request.version() {
        Some(VERSION) => Ok(()),
        None if door == Door::Control => Ok(()),
        None => Err(Refusal::missing("Version")),
        Some(_) => {
            Err(Refusal::new("InvalidVersion", 400, "Specified parameter Version is not valid."))
        }
    }
}

/// What goes around every answer to one request.
#[derive(Clone, Debug)]
struct Envelope {
    format: AnswerFormat,
    request_id: RequestId,
    host: String,
}

impl Envelope {
    fn new(format: AnswerFormat, headers: &HeaderMap, uri: &Uri) -> Self {
        let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = asked.or_else(|| uri.authority().map(|authority| authority.as_str()));
        let host = host.unwrap_or_default().to_owned();
        Self { format, request_id: Cloud::new_request_id(), host }
    }

    fn hold(&self, mut outcome: Outcome) -> (Outcome, Response<Body>) {
        outcome.request_id = self.request_id;
        let id = self.request_id.to_string();
        let response = match &mut outcome.result {
            Ok(fields) => {
                response::success(self.format, outcome.action, &id, std::mem::take(fields))
            }
            Err(refusal) => response::refusal(self.format, refusal, &id, &self.host),
        };
        (outcome, response)
    }
}

async fn read_body(body: Body, within: Duration) -> Result<Bytes, Refusal> {
    let most = u64::try_from(limits::BODY_BYTES).expect("a small number");
    if body.size_hint().lower() > most {
        return Err(too_large());
    }
    let collected = Limited::new(body, limits::BODY_BYTES).collect();
    match timeout(within, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::invalid("The body of the request could not be read.")),
        Err(_) => {
            let message = "The body of the request did not arrive in time.";
            Err(Refusal::new("RequestTimeout", 408, message))
        }
    }
}

fn too_large() -> Refusal {
    let message = format!("The body of a request may hold {} bytes at most.", limits::BODY_BYTES);
    Refusal::new("RequestBodyTooLarge", 413, message)
}
