//! `serve`: the daemon, from its start to its orderly end.
//!
//! What must always hold: one JSON line on standard output when everything is ready, and nothing else there; the first
//! SIGTERM or SIGINT ends it in order, a second one at once. With TLS, SIGHUP reads the certificate anew.

use std::{env, io, process};

use anyhow::Context as _;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    args::ServeArgs, config::Config, daemon::Daemon, failure::Failure, output, output::Report,
    places::Places,
};

pub(crate) fn run(places: &Places, args: &ServeArgs) -> Result<Report, Failure> {
    let config = Config::load(&places.config(), args)?;
    log("info")?;
    let daemon = Daemon::start(places, config)?;
    // Watched before anybody can know of the daemon: whoever ends it then meets an orderly end.
    let signals = Signals::watch(&daemon)?;
    output::document(&daemon.ready_line());
    signals.wait_for_end(&daemon);
    tracing::info!("ending: requests under way are finished, disks are flushed");
    daemon.stop()?;
    Ok(Report::silent())
}

/// The log goes to standard error; `REINIT_LOG` says what is in it, such as `debug` or `nbd_server=trace`,
/// and `REINIT_LOG_FORMAT` how: `text` or `json`.
pub(crate) fn log(default: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_from_env("REINIT_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let subscriber = subscriber.with_ansi(false);
    // Already set when the demo runs a daemon of its own.
    match env::var("REINIT_LOG_FORMAT").unwrap_or_default().as_str() {
        "" | "text" => drop(subscriber.try_init()),
        // One object a line: the fields of the line at its top, those of its request in `span`.
        "json" => drop(subscriber.json().flatten_event(true).with_span_list(false).try_init()),
        other => {
            let message = format!("REINIT_LOG_FORMAT is text or json, not {other:?}");
            return Err(Failure::local("InvalidParameter", message));
        }
    }
    Ok(())
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    ToEnd,
    ToReadAnew,
}

/// What asks the daemon to end, or to read its certificate anew.
struct Signals {
    term: Signal,
    int: Signal,
    /// Without TLS there is nothing to read anew, and a closed terminal ends the daemon as it ends any program.
    hup: Option<Signal>,
}

impl Signals {
    fn watch(daemon: &Daemon) -> Result<Self, Failure> {
        let _inside = daemon.runtime().enter();
        let watch = |kind: SignalKind| signal(kind).context("watching for signals");
        let hup = daemon.has_tls().then(|| watch(SignalKind::hangup())).transpose()?;
        Ok(Self {
            term: watch(SignalKind::terminate())?,
            int: watch(SignalKind::interrupt())?,
            hup,
        })
    }

    fn wait_for_end(mut self, daemon: &Daemon) {
        while daemon.runtime().block_on(self.next()) == Asked::ToReadAnew {
            daemon.reload_tls();
        }
        daemon.runtime().spawn(async move {
            while self.next().await != Asked::ToEnd {}
            // Asked twice: what was answered is durable already, the rest may go.
            process::exit(1);
        });
    }

    async fn next(&mut self) -> Asked {
        let hup = async {
            match &mut self.hup {
                Some(hup) => drop(hup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.term.recv() => Asked::ToEnd,
            _ = self.int.recv() => Asked::ToEnd,
            () = hup => Asked::ToReadAnew,
        }
    }
}

impl Report {
    /// Nothing to say: everything was said on the way.
    fn silent() -> Self {
        Self::done(json!(null), Vec::new(), "")
    }
}
