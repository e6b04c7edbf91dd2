//! One request to `/`, from its parts to its answer.
//!
//! What must always hold
//! 1. Every request gets a request id, is counted once and logged once: action, account, code, time;
//!    never a parameter, a secret or a signature. What else is logged on its account, also later by a
//!    thread of its own, is inside a span with its id.
//! 2. A panic in an action is answered as `InternalError` and hurts nobody else.
//! 3. Version and action are acted on only after the caller is known.
//! 4. A change or a refusal is told to the audit log before it is answered.
//!
//! Left to others: who calls (`gate`), what actions do (`actions`), how an answer is written
//! (`response`).

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::State,
    http::{self, HeaderMap, Method, Response, Uri, header},
};
use block_store::RequestId;
use cloud::{Cloud, ResetDone};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;
use tracing::Span;

use crate::{
    actions::{self, Action, Call, Fields},
    audit::{self, Sender, Told},
    client::Client,
    format::AnswerFormat,
    front::{Door, Front, Manner, Peer},
    gate, limits, parameters,
    refusal::Refusal,
    request::{self, Request},
    response,
};

/// The one version of the API.
pub(crate) const VERSION: &str = "2014-05-26";

/// The name under which requests are counted whose action is none of ours.
const NO_ACTION: &str = "none";

/// Answers a request to `/`.
pub(crate) async fn answer(
    State((front, door)): State<(Front, Door)>,
    request: http::Request<Body>,
) -> Response<Body> {
    let begun = Instant::now();
    let peer = peer_of(&request);
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let body = read_body(body, front.limits().body_within).await;
    let form = body.as_ref().ok().and_then(|body| parameters::form_of(&parts.headers, body));
    let format = AnswerFormat::of(&parts.headers, &query, form);
    let envelope = Envelope::new(format, &parts.headers, &parts.uri);
    let (outcome, response) = match body {
        Ok(body) => {
            let (method, headers) = (parts.method, parts.headers);
            work_on(&front, Came { door, peer, method, query, headers, body }, envelope).await
        }
        Err(refusal) => turned_away(&front, peer, &envelope, refusal),
    };
    outcome.record(&front, begun.elapsed());
    response
}

/// Without a server in front, as in a test of the router, there is no other end.
fn peer_of(request: &http::Request<Body>) -> Peer {
    request.extensions().get().cloned().unwrap_or_else(|| Peer("".into()))
}

/// Refuses a request that nothing was done about. Its line is written aside, for this is no place to
/// wait for a file, and only if there is to be one: a flood of such requests must not become one of
/// threads.
fn turned_away(
    front: &Front,
    peer: Peer,
    envelope: &Envelope,
    refusal: Refusal,
) -> (Outcome, Response<Body>) {
    let mut told = Outcome::refused(refusal.clone());
    told.request_id = envelope.request_id;
    if let Some(left_out) = front.audit().and_then(|audit| audit.admit(&told.sender)) {
        let (front, span) = (front.clone(), envelope.span());
        // Nobody waits for it.
        drop(tokio::task::spawn_blocking(move || {
            span.in_scope(|| told.tell(&front, &peer, left_out));
        }));
    }
    envelope.hold(Outcome::refused(refusal))
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
    let refusal = Refusal::new("InvalidAction.NotFound", 404, message);
    let (outcome, response) = turned_away(&front, peer_of(&request), &envelope, refusal);
    outcome.record(&front, Duration::ZERO);
    response
}

/// What came, with its body read.
#[derive(Debug)]
struct Came {
    door: Door,
    peer: Peer,
    method: Method,
    query: String,
    headers: HeaderMap,
    body: Bytes,
}

async fn work_on(front: &Front, came: Came, envelope: Envelope) -> (Outcome, Response<Body>) {
    let (worker, spare) = (front.clone(), envelope.clone());
    // Dropped with this future, which is what happens when the connection ends.
    let (client, _waiting) = Client::new();
    let manner = manner_of(front, &came);
    let peer = came.peer.clone();
    // Relaxed: nothing else is told by it.
    let begun = Arc::new(AtomicBool::new(false));
    let has_begun = Arc::clone(&begun);
    let done = front.run(manner, move || {
        let _logged_as_its = envelope.span().entered();
        has_begun.store(true, Ordering::Relaxed);
        let from = came.peer.clone();
        let outcome = Outcome::of(&worker, came, &envelope, &client);
        outcome.audit(&worker, &from);
        let held = envelope.hold(outcome);
        held.0.time_resets(&worker);
        held
    });
    match done.await {
        Ok(answered) => answered,
        // It works on, and tells how it ends itself.
        Err(refusal) if begun.load(Ordering::Relaxed) => spare.hold(Outcome::refused(refusal)),
        Err(refusal) => turned_away(front, peer, &spare, refusal),
    }
}

/// Nothing depends on the action it looks at being the one that is done in the end.
fn manner_of(front: &Front, came: &Came) -> Manner {
    let form = parameters::form_of(&came.headers, &came.body);
    let name = request::peek_action(&came.headers, &came.query, form);
    let action = name.and_then(|name| actions::find(&name, came.door));
    match came.door {
        _ if action.is_some_and(Action::is_instant) => Manner::Here,
        Door::Public => Manner::Aside(Some(front.limits().answer_within)),
        // The operator waits as long as an export takes, and Ctrl-C ends it.
        Door::Control => Manner::Aside(None),
    }
}

/// What a request came to.
#[derive(Debug)]
struct Outcome {
    /// The name of the action, once it is known to be one of ours.
    action: &'static str,
    /// Whose it is, as far as is known.
    sender: Sender,
    request_id: RequestId,
    /// Whether the action changes something.
    changes: bool,
    /// What it is about, for the audit log.
    resources: Vec<String>,
    /// The resets that were done, whatever the result.
    resets: RefCell<Vec<ResetDone>>,
    result: Result<Fields, Refusal>,
}

impl Outcome {
    fn refused(refusal: Refusal) -> Self {
        let request_id = RequestId::from_bytes([0; 16]);
        Self {
            action: NO_ACTION,
            sender: Sender::default(),
            request_id,
            changes: false,
            resources: vec![],
            resets: RefCell::default(),
            result: Err(refusal),
        }
    }

    fn of(front: &Front, came: Came, envelope: &Envelope, client: &Client) -> Self {
        let mut outcome = Self::refused(Refusal::internal());
        outcome.request_id = envelope.request_id;
        // Nothing survives a panic but the names, which are whole at every moment.
        let door = came.door;
        let steps = AssertUnwindSafe(|| {
            let result = outcome.carry_out(front, came, &envelope.host, client);
            debug_assert!(outcome.tells(&result, door), "not told: {result:?}");
            result
        });
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
        // Told also where the sender is refused; acted on only below.
        let named = request.action().and_then(|name| actions::find(name, door));
        (self.action, self.changes) =
            named.map_or((NO_ACTION, false), |it| (it.name, it.changes()));
        let caller = gate::caller(front, door, &request, &mut self.sender)?;
        self.resources = audit::resources(&request.parameters, door, &vec![]);
        check_version(door, &request)?;
        let name = request.action().ok_or_else(|| Refusal::missing("Action"))?;
        let action = named.ok_or_else(|| Refusal::unknown_action(name))?;
        let own = action.own(&request.parameters, door);
        let call = Call {
            action: action.name,
            cloud: front.cloud(),
            caller: &caller,
            parameters: &own,
            request_id: self.request_id,
            host,
            client,
            resets: &self.resets,
        };
        let answer = action.run(&call)?;
        self.resources = audit::resources(&request.parameters, door, &answer);
        Ok(answer)
    }

    /// Whether a refusal is one that is told of the action.
    fn tells(&self, result: &Result<Fields, Refusal>, door: Door) -> bool {
        let action = actions::find(self.action, door);
        let refusal = result.as_ref().err();
        action.zip(refusal).is_none_or(|(action, refusal)| action.tells(refusal, door))
    }

    /// Tells the audit log of a change or a refusal.
    fn audit(&self, front: &Front, peer: &Peer) {
        if !self.changes && self.result.is_ok() {
            return;
        }
        if let Some(left_out) = front.audit().and_then(|audit| audit.admit(&self.sender)) {
            self.tell(front, peer, left_out);
        }
    }

    /// Writes its line, for which there is room.
    fn tell(&self, front: &Front, peer: &Peer, left_out: u64) {
        let Some(audit) = front.audit() else { return };
        let refusal = self.result.as_ref().err();
        let told = Told {
            request_id: self.request_id.to_string(),
            sender: &self.sender,
            from: &peer.0,
            action: self.action,
            resources: self.resources.clone(),
            code: match &self.result {
                Ok(answer) => audit::first_refused(answer).unwrap_or("OK"),
                Err(refusal) => refusal.code,
            },
            status: refusal.map_or(200, |refusal| refusal.status),
            resets: &self.resets.borrow(),
        };
        audit.tell(&told, left_out, front.clock().now());
    }

    /// Ends the last phase of resets that were done.
    fn time_resets(&self, front: &Front) {
        if let Some(done) = self.resets.borrow().last() {
            front.metering().reset_answered(done.durable);
        }
    }

    /// Counts it and logs it, once.
    fn record(&self, front: &Front, elapsed: Duration) {
        let code = self.result.as_ref().map_or_else(|refusal| refusal.code, |_| "OK");
        front.metering().answered(self.action, code, elapsed);
        let _logged_as_its = span_of(self.request_id).entered();
        tracing::info!(
            action = self.action,
            account = self.sender.account,
            code,
            micros = elapsed.as_micros(),
            "answered"
        );
    }
}

/// What log lines of a request are inside of. At the level of errors, so that no filter that shows a
/// line hides whose it is.
fn span_of(request_id: RequestId) -> Span {
    tracing::error_span!("request", request_id = %request_id)
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

    fn span(&self) -> Span {
        span_of(self.request_id)
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
