//! Connections: accepted, bounded, served, drained.
//!
//! What must always hold
//! 1. A connection costs a stranger as much as it costs us: heads, bodies and unread answers have
//!    deadlines, and there are only so many connections, of one address and of all.
//! 2. A failed accept (no descriptors left) ends nothing; it is tried again.
//! 3. Once told to stop, no connection is accepted, idle ones end at once, requests under way are
//!    answered as long as the deadline allows; then their connections are ended.
//!
//! HTTP/1 by hand over hyper rather than `axum::serve`, which has no deadlines. Framing (`Content-Length`
//! against chunks, two lengths, odd line ends) is hyper's: what it finds ambiguous it refuses.
//! Left to others: what a request is answered (`front`).

use std::{
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{interval, sleep, timeout},
};

use crate::{
    addresses::{Addresses, Seat},
    deadline_io::DeadlineIo,
    front::{Door, Front, Peer},
    limits::{self, Limits},
    metering,
    tls::Tls,
};

/// After a failed accept: long enough for a descriptor to come free.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Connections through the control socket; the operator's are not counted among those of strangers.
const CONTROL_CONNECTIONS: usize = 256;

/// Serves until `stop` is done, then lets requests under way end.
///
/// Over TCP every request must be signed. Through the control socket none is: who may open it is the
/// operator. Whoever binds the socket sees to its mode.
pub async fn serve(
    front: &Front,
    tcp: TcpListener,
    control: Option<UnixListener>,
    stop: impl Future<Output = ()>,
) {
    let (stage, staged) = watch::channel(Stage::Serving);
    let public = Acceptor::new(front, Door::Public, front.limits().connections, &staged);
    let addresses = Addresses::new(front.limits().connections_per_address);
    let operator = Acceptor::new(front, Door::Control, CONTROL_CONNECTIONS, &staged);
    let accepting = async {
        tokio::join!(
            public.accept(async || {
                loop {
                    let (stream, address) = tcp.accept().await?;
                    let Some(seat) = addresses.admit(address.ip(), Instant::now()) else {
                        front.metering().connection_refused();
                        continue;
                    };
                    // An answer is one write; waiting to fill a packet would only delay it.
                    stream.set_nodelay(true)?;
                    return Ok((stream, Peer(address.to_string().into()), Some(seat)));
                }
            }),
            async {
                if let Some(control) = &control {
                    let next = async || {
                        let (stream, _) = control.accept().await?;
                        let peer = user_of(&stream);
                        Ok((stream, peer, None))
                    };
                    operator.accept(next).await;
                }
            },
            fold_metrics(front),
        )
    };
    tokio::select! {
        _ = accepting => {}
        () = stop => {}
    }
    drop((tcp, control));
    stage.send_replace(Stage::Draining);
    let drained = async || tokio::join!(public.drained(), operator.drained());
    if timeout(front.limits().drain_within, drained()).await.is_err() {
        tracing::warn!("requests were still under way at the end of the time to stop");
        stage.send_replace(Stage::Over);
        drained().await;
    }
}

/// The user and process at the other end, as the kernel tells them.
fn user_of(stream: &UnixStream) -> Peer {
    let known = stream.peer_cred().ok();
    let words = known.map(|user| match user.pid() {
        Some(pid) => format!("control socket, uid {}, pid {pid}", user.uid()),
        None => format!("control socket, uid {}", user.uid()),
    });
    Peer(words.unwrap_or_else(|| "control socket".into()).into())
}

/// A connection, who is at its other end, and its place in the share of that address, if it has one.
type Accepted<S> = (S, Peer, Option<Seat>);

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Connections are accepted.
    Serving,
    /// Requests under way are answered.
    Draining,
    /// Whatever is still open is ended.
    Over,
}

/// Samples that nobody reads would pile up.
async fn fold_metrics(front: &Front) {
    let mut ticks = interval(metering::FOLD_EVERY);
    loop {
        ticks.tick().await;
        front.metering().fold();
    }
}

/// Waits for a stage. Without anyone to tell it, it is the last one.
async fn reached(stage: &mut watch::Receiver<Stage>, awaited: Stage) {
    drop(stage.wait_for(|stage| *stage >= awaited).await);
}

/// What takes connections from one listener.
struct Acceptor {
    front: Front,
    router: Router,
    http: http1::Builder,
    /// The control socket has none: who opens it is on this machine.
    tls: Option<Tls>,
    /// One permit is one connection.
    free: Arc<Semaphore>,
    most: u32,
    stage: watch::Receiver<Stage>,
}

impl Acceptor {
    fn new(front: &Front, door: Door, most: usize, stage: &watch::Receiver<Stage>) -> Self {
        let most = u32::try_from(most).unwrap_or(u32::MAX).min(1 << 20);
        Self {
            front: front.clone(),
            router: front.router(door),
            http: http(front.limits()),
            tls: front.tls().filter(|_| door == Door::Public).cloned(),
            free: Arc::new(Semaphore::new(most.try_into().expect("a million fits"))),
            most,
            stage: stage.clone(),
        }
    }

    /// Never ends by itself. At the bound, connections wait in the listen queue.
    async fn accept<S>(&self, next: impl AsyncFn() -> io::Result<Accepted<S>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        loop {
            let permit = Arc::clone(&self.free).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            match next().await {
                Ok(accepted) => self.spawn(accepted, permit),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn spawn<S>(&self, (stream, peer, seat): Accepted<S>, permit: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.front.metering().connected();
        let io = DeadlineIo::new(stream, self.front.limits().write_within);
        let connection = Connection {
            http: self.http.clone(),
            router: self.router.clone(),
            peer,
            stage: self.stage.clone(),
            _held: (permit, seat, self.front.metering().hold(metering::CONNECTIONS_OPEN)),
        };
        match self.tls.clone() {
            None => drop(tokio::spawn(connection.serve(io))),
            Some(tls) => {
                let front = self.front.clone();
                tokio::spawn(async move { connection.shake_hands(&front, &tls, io).await });
            }
        }
    }

    /// No connection is left.
    async fn drained(&self) {
        // Fails only if the semaphore were closed, which it never is.
        drop(self.free.acquire_many(self.most).await);
    }
}

/// One connection, from its acceptance to its end.
struct Connection {
    http: http1::Builder,
    router: Router,
    peer: Peer,
    stage: watch::Receiver<Stage>,
    /// Let go of at its end.
    _held: (OwnedSemaphorePermit, Option<Seat>, metering::Held),
}

impl Connection {
    /// TLS first, then HTTP. A handshake under way at the end is given up: nothing was asked yet.
    async fn shake_hands<S>(mut self, front: &Front, tls: &Tls, io: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shaken = tokio::select! {
            shaken = tls.accept(io, front.limits().head_within) => shaken,
            () = reached(&mut self.stage, Stage::Draining) => return,
        };
        match shaken {
            Ok(stream) => self.serve(stream).await,
            Err(error) => {
                front.metering().handshake_failed();
                tracing::debug!(%error, "a TLS handshake failed");
            }
        }
    }

    async fn serve<S>(self, io: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { http, router, peer, mut stage, _held } = self;
        let inner = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            inner.call(request)
        });
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(io), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = reached(&mut stage, Stage::Draining) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = reached(&mut stage, Stage::Over) => Ok(()),
                }
            }
        };
        // What a client does wrong on the wire is its own affair, and happens all the time.
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_within)
        .max_headers(limits::HEADERS)
        .max_buf_size(limits::HEAD_BYTES);
    http
}
