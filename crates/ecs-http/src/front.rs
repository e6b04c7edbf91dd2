//! The front: what answers requests, and how many at once.
//!
//! What must always hold: no request keeps another one waiting but by the number of calls. Each is worked
//! on in one blocking call; only so many run at once, and the others wait in a queue bounded by the number
//! of connections.
//! Left to others: connections (`server`), one request (`answer`), the pages for machines (`probes`).

use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    routing::{any, get},
};
use cloud::{Clock, Cloud};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
    task::{block_in_place, spawn_blocking},
    time::timeout,
};

use crate::{
    answer::{answer, nothing_here},
    audit::Audit,
    audit_log::{AuditLog, AuditPlace},
    limits::Limits,
    metering::{CALLS_RUNNING, CALLS_WAITING, Metering},
    nonce::Nonces,
    openapi, probes,
    refusal::Refusal,
    throttle::Throttle,
    tls::Tls,
};

/// What a front is made of.
pub struct OpenFront {
    /// What answers.
    pub cloud: Cloud,
    /// The time, for signatures.
    pub clock: Arc<dyn Clock>,
    /// What strangers may take.
    pub limits: Limits,
    /// Where used nonces are remembered over a restart; none = only in memory.
    pub nonce_directory: Option<PathBuf>,
    /// Where changes and refusals are told; none = nowhere.
    pub audit: Option<AuditPlace>,
    /// What the public door is served with; none = plain HTTP.
    pub tls: Option<Tls>,
}

/// The ECS protocol in front of a cloud. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Front {
    inner: Arc<Inner>,
}

struct Inner {
    cloud: Cloud,
    clock: Arc<dyn Clock>,
    limits: Limits,
    nonces: Nonces,
    throttle: Throttle,
    metering: Metering,
    audit: Option<Audit>,
    tls: Option<Tls>,
    /// One permit is one call into the cloud.
    calls: Arc<Semaphore>,
}

/// The other end of a connection, in words for the audit log.
#[derive(Clone, Debug)]
pub(crate) struct Peer(pub(crate) Arc<str>);

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Over TCP: signed.
    Public,
    /// Through the control socket: from the operator.
    Control,
}

/// Where a piece of blocking work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// By another thread. After this long, if it is given, nobody waits for it any more; it goes on all the
    /// same.
    Aside(Option<Duration>),
    /// By this thread, whose other work goes to another one: to be handed over and back would take as long
    /// as the work. It is waited for whatever comes.
    Here,
}

impl Front {
    /// A front; fails if the directory for nonces or the audit log cannot be used.
    pub fn open(parts: OpenFront) -> io::Result<Self> {
        let nonces = Nonces::open(parts.nonce_directory.as_deref(), parts.clock.now())?;
        let metering = Metering::new();
        let log = parts.audit.map(|place| AuditLog::open(place, metering.clone())).transpose()?;
        let inner = Inner {
            tls: parts.tls,
            audit: log.map(|log| Audit::new(log, metering.clone())),
            throttle: Throttle::new(parts.limits.per_key),
            calls: Arc::new(Semaphore::new(parts.limits.calls)),
            cloud: parts.cloud,
            clock: parts.clock,
            limits: parts.limits,
            nonces,
            metering,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What is served at one of the doors.
    pub(crate) fn router(&self, door: Door) -> Router {
        let actions = Router::new()
            .route("/", any(answer))
            .fallback(nothing_here)
            .with_state((self.clone(), door));
        let pages = Router::new()
            .route("/healthz", get(probes::healthz))
            .route("/readyz", get(probes::readyz))
            .with_state(self.clone());
        let by_door = Router::new()
            .route("/metrics", get(probes::metrics))
            .route("/openapi.json", get(openapi::openapi))
            .route("/docs", get(openapi::docs))
            .with_state((self.clone(), door));
        actions.merge(pages).merge(by_door)
    }

    /// Runs one blocking piece of work when its turn comes.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        manner: Manner,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Refusal> {
        let waiting = self.metering().hold(CALLS_WAITING);
        let turn = Arc::clone(&self.inner.calls).acquire_owned();
        let Ok(permit) = timeout(self.limits().wait_for_turn, turn).await else {
            return Err(Refusal::unavailable("The service is busy; try again."));
        };
        drop(waiting);
        let held = (permit, self.metering().hold(CALLS_RUNNING));
        let work = move || {
            let _held = held;
            work()
        };
        match manner {
            Manner::Aside(within) => self.run_aside(within, work).await,
            // A runtime of one thread has no other for the rest of its work.
            Manner::Here if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread => {
                self.run_aside(None, work).await
            }
            Manner::Here => {
                let done = block_in_place(|| catch_unwind(AssertUnwindSafe(work)));
                done.map_err(|panic| self.panicked(panic.as_ref()))
            }
        }
    }

    async fn run_aside<R: Send + 'static>(
        &self,
        within: Option<Duration>,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Refusal> {
        let work = spawn_blocking(work);
        let done = match within {
            Some(within) => timeout(within, work).await,
            None => Ok(work.await),
        };
        match done {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(match error.try_into_panic() {
                Ok(panic) => self.panicked(panic.as_ref()),
                Err(_) => Refusal::unavailable("The service is being stopped."),
            }),
            Err(_) => Err(Refusal::unavailable(
                "The request takes too long; whether it will have been carried out is not known.",
            )),
        }
    }

    /// A panic hurts one request only; its text goes to the log, not to the client.
    pub(crate) fn panicked(&self, panic: &(dyn Any + Send)) -> Refusal {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        tracing::error!(panic = text.as_deref().unwrap_or("without a text"), "an action panicked");
        self.metering().panicked();
        Refusal::internal()
    }

    pub(crate) fn cloud(&self) -> &Cloud {
        &self.inner.cloud
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.inner.clock.as_ref()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    pub(crate) fn nonces(&self) -> &Nonces {
        &self.inner.nonces
    }

    pub(crate) fn throttle(&self) -> &Throttle {
        &self.inner.throttle
    }

    pub(crate) fn metering(&self) -> &Metering {
        &self.inner.metering
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.inner.tls.as_ref()
    }

    pub(crate) fn audit(&self) -> Option<&Audit> {
        self.inner.audit.as_ref()
    }
}

impl fmt::Debug for OpenFront {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFront").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use block_device::NoExports;
    use block_store::{FileStorage, Store};
    use catalog::MemoryCatalog;
    use cloud::{OpenCloud, Settings, SystemClock};

    use super::*;

    fn front(directory: &std::path::Path, limits: Limits) -> Front {
        let storage = FileStorage::open(directory).unwrap();
        Store::create(&storage).unwrap();
        let cloud = Cloud::open(OpenCloud {
            store: Store::open(Arc::new(storage)).unwrap(),
            catalog: Arc::new(MemoryCatalog::new()),
            exports: Arc::new(NoExports),
            settings: Settings::default(),
            secret_key: directory.join("secret.key"),
            clock: Arc::new(SystemClock),
        });
        let (cloud, clock) = (cloud.unwrap(), Arc::new(SystemClock));
        Front::open(OpenFront {
            cloud,
            clock,
            limits,
            nonce_directory: None,
            audit: None,
            tls: None,
        })
        .unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_is_one_internal_error() {
        let directory = tempfile::tempdir().unwrap();
        let front = front(directory.path(), Limits::default());
        for (manner, count) in [(Manner::Aside(None), 1), (Manner::Here, 2)] {
            let refused = front.run(manner, || panic!("on purpose")).await.unwrap_err();
            assert_eq!((refused.code, refused.status), ("InternalError", 500));
            assert!(!refused.message.contains("purpose"));
            let counted = format!("reinit_http_panics_total {count}\n");
            assert!(front.metering().render().contains(&counted));
            assert_eq!(front.run(manner, || 7).await.unwrap(), 7);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn work_done_here_keeps_no_other_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let front = front(directory.path(), Limits::default());
        let (release, held) = std::sync::mpsc::channel::<()>();
        let slow = front.clone();
        let slow = tokio::spawn(async move { slow.run(Manner::Here, move || held.recv()).await });
        for manner in [Manner::Here, Manner::Aside(None)] {
            let other = front.clone();
            let other = tokio::spawn(async move { other.run(manner, || 7).await });
            assert_eq!(other.await.unwrap().unwrap(), 7);
        }
        release.send(()).unwrap();
        slow.await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_has_work_done_aside() {
        let directory = tempfile::tempdir().unwrap();
        let front = front(directory.path(), Limits::default());
        let here = std::thread::current().id();
        let there = front.run(Manner::Here, || std::thread::current().id()).await.unwrap();
        assert_ne!(there, here);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_that_waits_or_works_too_long_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let short = Duration::from_millis(20);
        let front =
            front(directory.path(), Limits { calls: 1, wait_for_turn: short, ..Limits::default() });
        let (release, held) = std::sync::mpsc::channel::<()>();
        let slow = front.run(Manner::Aside(Some(short)), move || held.recv()).await.unwrap_err();
        assert_eq!((slow.code, slow.status), ("ServiceUnavailable", 503));
        // It works on, so that the next one finds no turn.
        let waited = front.run(Manner::Aside(None), || 7).await.unwrap_err();
        assert_eq!((waited.code, waited.status), ("ServiceUnavailable", 503));
        let shown = |name: &str, count: u32| {
            front.metering().render().lines().any(|line| line == format!("{name} {count}"))
        };
        assert!(shown(CALLS_RUNNING, 1) && shown(CALLS_WAITING, 0));
        drop(release);
        while !shown(CALLS_RUNNING, 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
