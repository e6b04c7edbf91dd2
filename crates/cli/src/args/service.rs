//! The daemon and what is seen of it: `serve`, `tls`, `top` and `audit`.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, Subcommand, ValueEnum, builder::BoolishValueParser};
use serde::Deserialize;

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Where HTTP is served; port 0 lets the system choose [default: 127.0.0.1:8520]
    #[arg(long, env = "REINIT_LISTEN", value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Serve HTTPS, with STORE/tls/server.pem and server.key (`reinit tls init` makes both)
    #[arg(long, env = "REINIT_TLS", value_parser = BoolishValueParser::new())]
    pub(crate) tls: bool,
    /// Serve HTTP without encryption on an address that others reach
    #[arg(long, env = "REINIT_PLAIN_HTTP", value_parser = BoolishValueParser::new())]
    pub(crate) plain_http: bool,
    /// Serve NBD on TCP as well. NBD knows no passwords: whoever reaches the port reaches every open disk
    #[arg(long, env = "REINIT_NBD_LISTEN", value_name = "ADDR:PORT")]
    pub(crate) nbd_listen: Option<SocketAddr>,
    /// TLS for NBD on TCP, with the same certificate as HTTPS [default: required with --tls, else off]
    #[arg(long, env = "REINIT_NBD_TLS", value_name = "MODE")]
    pub(crate) nbd_tls: Option<NbdTls>,
}

/// Whether NBD on TCP goes through TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NbdTls {
    /// Never
    Off,
    /// For clients that ask for it
    Offered,
    /// Always; clients that do not ask for it are refused
    Required,
}

pub(super) const TLS_HELP: &str = "Example:\n  reinit tls init --name store.lab.example && reinit serve --tls --listen 0.0.0.0:8520";

#[derive(Debug, Subcommand)]
pub(crate) enum TlsCommand {
    /// Make a private certificate authority, once, and a certificate of this server, anew each time
    #[command(
        after_help = "Clients trust STORE/tls/ca.pem. A running daemon reads the new certificate on SIGHUP.\n\nExample:\n  \
                      reinit tls init --name store.lab.example --name 192.0.2.7"
    )]
    Init {
        /// A name or address clients reach this server by, besides localhost and the name of the host
        #[arg(long = "name", value_name = "NAME", value_parser = parse_host)]
        names: Vec<String>,
    },
}

pub(super) const TOP_HELP: &str = "Rates are those of the last interval. Without a terminal, and with --json or -q, it looks once.\n\n\
Examples:\n  reinit top\n  reinit top --once --interval 5\n  reinit top --json | jq '.Exports[0]'";

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// One interval, then end
    #[arg(long)]
    pub(crate) once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) interval: u16,
}

pub(super) const AUDIT_HELP: &str = "Reads STORE/audit.jsonl and the files before it; needs no daemon. With --json one document, with --follow --json a \
document a line.\n\nExamples:\n  reinit audit | grep d-23jbf2v5m0123456789a\n  reinit audit --follow --json";

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Go on with what is added, until Ctrl-C
    #[arg(long)]
    pub(crate) follow: bool,
}

/// A certificate for anything else would be made, and never fit.
fn parse_host(text: &str) -> Result<String, String> {
    let in_names = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte);
    let is_name = !text.is_empty() && text.bytes().all(in_names);
    if is_name || text.parse::<IpAddr>().is_ok() {
        Ok(text.into())
    } else {
        Err("give the bare name or address, such as store.lab.example, without scheme, port or path".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_a_name_or_an_address() {
        for good in ["store.lab.example", "*.lab", "192.0.2.7", "::1", "vm_1"] {
            assert!(parse_host(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "https://a", "a:8520", "[::1]:1", "10.0.0.0/8", "\u{e4}.example"] {
            assert!(parse_host(bad).is_err(), "{bad}");
        }
    }
}
