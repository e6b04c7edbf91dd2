//! A running daemon: the store, the catalog, the cloud and the fronts, opened in order and closed in reverse.
//!
//! What must always hold
//! 1. Whatever can be refused without touching the store is refused first: a daemon that does not start changed
//!    nothing.
//! 2. No request is accepted before everything is ready; the store closes when nothing is accepted any more.
//!
//! Left to others: what happens in between.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    net::SocketAddr,
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use block_store::{FileStorage, Store, StoreError};
use catalog::{Opening, SledCatalog};
use cloud::{Cloud, OpenCloud, SystemClock};
use ecs_http::{AuditPlace, Front, Limits, OpenFront, Tls};
use nbd_server::{NbdServer, TlsOffer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    sync::oneshot,
};

use crate::{args::NbdTls, config::Config, failure::Failure, places::Places};

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    places: Places,
    runtime: Runtime,
    store: Store,
    catalog: Arc<SledCatalog>,
    cloud: Cloud,
    nbd: NbdServer,
    http: SocketAddr,
    nbd_tcp: Option<SocketAddr>,
    tls: Option<Tls>,
    https: bool,
    nbd_tls: NbdTls,
    end: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Daemon {
    /// Opens everything and serves it.
    pub(crate) fn start(places: &Places, config: Config) -> Result<Self, Failure> {
        places.check_sockets()?;
        let (https, nbd_tls) = (config.tls, config.nbd_tls);
        let needs_tls = https || (config.nbd_listen.is_some() && nbd_tls != NbdTls::Off);
        let tls = needs_tls.then(|| load_tls(places)).transpose()?;
        let runtime = Runtime::new().context("starting the threads of the HTTP front")?;
        // Ports first: one that is taken must be found out before the store is touched.
        let tcp = listen_http(&runtime, places, config.listen)?;
        let http = tcp.local_addr().context("asking for the HTTP address")?;
        let nbd = NbdServer::new(nbd_server::Limits::default());
        nbd.set_tls(offer_tls(tls.as_ref(), nbd_tls));
        let nbd_tcp = config.nbd_listen.map(|address| listen_nbd(&nbd, address)).transpose()?;

        let store = open_store(places)?;
        let catalog = Arc::new(open_catalog(places)?);
        make_run_directory(places)?;
        let control = listen_control(&runtime, places)?;
        let socket = places.nbd_socket();
        nbd.listen_unix(&socket).with_context(|| format!("listening on {}", socket.display()))?;
        let cloud = Cloud::open(OpenCloud {
            store: store.clone(),
            catalog: catalog.clone(),
            exports: Arc::new(nbd.clone()),
            settings: config.settings,
            secret_key: places.secret_key(),
            clock: Arc::new(SystemClock),
        });
        let cloud = cloud.context("opening the resources of the store")?;
        let front = Front::open(OpenFront {
            cloud: cloud.clone(),
            clock: Arc::new(SystemClock),
            limits: Limits {
                per_key: config.per_key,
                connections_per_address: config.connections_per_address,
                ..Limits::default()
            },
            nonce_directory: Some(places.run()),
            audit: Some(AuditPlace {
                path: places.audit_log(),
                file_bytes: config.audit_size,
                files_kept: config.audit_keep,
            }),
            tls: tls.clone().filter(|_| https),
        });
        let front = front.context("opening the record of used nonces and the audit log")?;
        let (end, ended) = oneshot::channel();
        let tasks = runtime.handle().clone();
        // Accepting has a thread of its own, whatever the requests do.
        let served = thread::Builder::new().name("http-accept".into()).spawn(move || {
            // The sender is dropped only when the daemon is: either way it is over.
            let stop = async { drop(ended.await) };
            tasks.block_on(ecs_http::serve(&front, tcp, Some(control), stop));
        });
        let served = served.context("starting the thread of the HTTP front")?;
        let places = places.clone();
        Ok(Self {
            places,
            runtime,
            store,
            catalog,
            cloud,
            nbd,
            http,
            nbd_tcp,
            tls,
            https,
            nbd_tls,
            end,
            served,
        })
    }

    /// Where it serves HTTP.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where its tasks run.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// What a waiting script wants to know.
    pub(crate) fn ready_line(&self) -> Value {
        let unix = format!("nbd+unix:///?socket={}", self.places.nbd_socket().display());
        let scheme = if self.nbd_tls == NbdTls::Required { "nbds" } else { "nbd" };
        let tcp = self.nbd_tcp.map(|address| format!("{scheme}://{address}"));
        let nbd: Vec<String> = [Some(unix), tcp].into_iter().flatten().collect();
        json!({
            "event": "ready",
            "http": self.http.to_string(),
            "tls": self.https,
            "nbd": nbd,
            "store": self.places.store(),
        })
    }

    /// Whether it serves anything with a certificate.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads the certificate anew, for connections from now on. One that cannot be used changes nothing.
    pub(crate) fn reload_tls(&self) {
        match self.tls.as_ref().map(Tls::reload) {
            Some(Ok(())) => {
                self.nbd.set_tls(offer_tls(self.tls.as_ref(), self.nbd_tls));
                tracing::info!("the certificate was read anew");
            }
            Some(Err(error)) => tracing::error!(%error, "the old certificate stays"),
            None => {}
        }
    }

    /// Ends in order: requests under way are answered, exports close, everything written is flushed.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        // A front that ended by itself no longer listens.
        let _ = self.end.send(());
        let served = self.served.join();
        let unflushed = self.nbd.shutdown();
        self.cloud.close();
        let failed = self.store.flush_all();
        remove_socket(&self.places.control_socket());
        self.catalog.save_export().context("writing the export of the catalog")?;
        if served.is_err() {
            return Err(Failure::local(
                "InternalError",
                "the HTTP front panicked; its log says where",
            ));
        }
        if let Some(error) = unflushed.first() {
            return Err(Failure::local("FlushFailed", error));
        }
        match failed.first() {
            None => Ok(()),
            Some((disk, error)) => Err(Failure::local(
                "FlushFailed",
                format!("the last flush of {disk} failed: {error}"),
            )),
        }
    }
}

fn load_tls(places: &Places) -> Result<Tls, Failure> {
    Tls::load(&places.tls_certificate(), &places.tls_key()).map_err(|error| {
        let next =
            format!("`reinit --store {} tls init` makes a certificate", places.store().display());
        Failure::local("TlsUnavailable", format!("{error}; {next}"))
    })
}

/// What NBD on TCP is served with.
fn offer_tls(tls: Option<&Tls>, mode: NbdTls) -> Option<TlsOffer> {
    let is_required = match mode {
        NbdTls::Off => return None,
        NbdTls::Offered => false,
        NbdTls::Required => true,
    };
    tls.map(|tls| TlsOffer { config: tls.config(), is_required })
}

fn listen_http(
    runtime: &Runtime,
    places: &Places,
    address: SocketAddr,
) -> Result<TcpListener, Failure> {
    runtime.block_on(TcpListener::bind(address)).map_err(|error| {
        // Two starts of one daemon collide here first, and the port is not what the user needs to know of.
        if UnixStream::connect(places.control_socket()).is_ok() {
            let holder = fs::read_to_string(places.store().join("lock")).unwrap_or_default();
            return already_running(places, &holder);
        }
        cannot_listen("HTTP", "--listen", address, &error)
    })
}

fn listen_nbd(nbd: &NbdServer, address: SocketAddr) -> Result<SocketAddr, Failure> {
    nbd.listen_tcp(address).map_err(|error| cannot_listen("NBD", "--nbd-listen", address, &error))
}

fn cannot_listen(what: &str, flag: &str, address: SocketAddr, error: &io::Error) -> Failure {
    let message = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "{address} is in use by another program; serve {what} elsewhere with {flag} ADDR:PORT"
            )
        }
        _ => format!("listening on {address} for {what}: {error}"),
    };
    Failure::local("AddressUnavailable", message)
}

pub(crate) fn open_store(places: &Places) -> Result<Store, Failure> {
    let path = places.store();
    let shown = path.display();
    let storage = FileStorage::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => no_store(places),
        _ => Failure::local("StoreUnavailable", format!("opening {shown}: {error}")),
    })?;
    match Store::open(Arc::new(storage)) {
        Ok(store) => Ok(store),
        Err(StoreError::NotAStore) => Err(no_store(places)),
        Err(StoreError::Locked { holder }) => Err(already_running(places, &holder)),
        Err(StoreError::Io { context, source })
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            let message = format!(
                "{shown} belongs to another user ({context}: {source}); run this as that user, or name another \
                 with --store DIR"
            );
            Err(Failure::local("StoreForbidden", message))
        }
        Err(error) => {
            Err(anyhow::Error::new(error).context(format!("opening the store {shown}")).into())
        }
    }
}

pub(crate) fn no_store(places: &Places) -> Failure {
    let store = places.store().display();
    // An `init` would not help somebody whose ledger was lost.
    if let Some(rest) = ["layers", "catalog"].iter().find(|name| places.store().join(name).exists())
    {
        let message = format!(
            "{store} has a directory {rest} but no file ledger: it was a store; restore the ledger from a backup \
             that is not older than the last reset, or make it anew of the layers with: reinit --store {store} fsck --rebuild"
        );
        return Failure::local("LedgerMissing", message);
    }
    Failure::local(
        "NoStore",
        format!(
            "{store} holds no store; make one with: reinit --store {store} init, or name another with --store DIR"
        ),
    )
}

fn already_running(places: &Places, holder: &str) -> Failure {
    let message =
        format!("{}; use that one, wait for it, or end it first", held_by(places, holder));
    Failure::local("StoreLocked", message)
}

/// Who has the store: a daemon, or a command that looks at it; the lock does not tell which.
pub(crate) fn held_by(places: &Places, holder: &str) -> String {
    let (store, holder) = (places.store().display(), holder.trim());
    let who =
        if holder.is_empty() { "another process".into() } else { format!("process {holder}") };
    format!("{who} has {store} open")
}

fn open_catalog(places: &Places) -> Result<SledCatalog, Failure> {
    let opened = SledCatalog::open(&places.catalog());
    let (catalog, opening) = opened.context("opening the catalog")?;
    match opening {
        Opening::Clean => {}
        Opening::WithoutSnapshot { bad, cause } => {
            tracing::warn!(kept = %bad.display(), cause, "a derived file of the catalog was damaged; no record was lost");
        }
        Opening::FromExport { bad, export, records, cause } => {
            tracing::error!(
                kept = %bad.display(), export = %export.display(), records, cause,
                "the catalog was unreadable and its last export took its place; what came after it is lost"
            );
            return Ok(catalog);
        }
    }
    // What is whole now is the next thing to fall back to.
    catalog.save_export().context("writing the export of the catalog")?;
    Ok(catalog)
}

fn make_run_directory(places: &Places) -> anyhow::Result<()> {
    let run = places.run();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&run);
    made.with_context(|| format!("making {}", run.display()))
}

/// The store's lock is ours, so that a socket file found here is what a dead daemon left.
fn listen_control(runtime: &Runtime, places: &Places) -> anyhow::Result<UnixListener> {
    let path = places.control_socket();
    remove_socket(&path);
    let _inside = runtime.enter();
    let bound = UnixListener::bind(&path);
    let listener = bound.with_context(|| format!("listening on {}", path.display()))?;
    // Nobody else could reach it in between: the directory is the owner's alone.
    fs::set_permissions(&path, Permissions::from_mode(0o600))
        .with_context(|| format!("closing {} to others", path.display()))?;
    Ok(listener)
}

fn remove_socket(path: &Path) {
    // One that is not there is as good as removed; one that stays fails the next bind, which says so.
    let _ = fs::remove_file(path);
}
