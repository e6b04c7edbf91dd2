//! What the operator set: `STORE/reinit.toml`, below the environment, below the flags.
//!
//! What must always hold: every key is optional, an unknown key is refused by its name, and a value that cannot be
//! meant is refused before anything is opened.
//! Left to others: the environment and the flags (`args`, through clap), what the settings do (`cloud`).

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use cloud::{Bucket, Settings};
use ecs_http::{Limits, PerKey};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    args::{NbdTls, ServeArgs},
    failure::Failure,
    size::Size,
};

/// Where HTTP is served when nobody says otherwise.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8520);

/// What the daemon runs with.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    /// HTTPS instead of HTTP.
    pub(crate) tls: bool,
    pub(crate) nbd_listen: Option<SocketAddr>,
    /// TLS of NBD on TCP.
    pub(crate) nbd_tls: NbdTls,
    pub(crate) settings: Settings,
    /// What one access key may ask; none = as much as it likes.
    pub(crate) per_key: Option<PerKey>,
    /// Connections of one client address at once.
    pub(crate) connections_per_address: usize,
    /// Above this many bytes the audit log begins a new file.
    pub(crate) audit_size: u64,
    /// How many older files of the audit log are kept.
    pub(crate) audit_keep: u32,
}

/// 144 MiB in all with [`AUDIT_KEEP`]: some half a million lines, and no more than the store's reserve.
const AUDIT_SIZE: u64 = 16 << 20;
const AUDIT_KEEP: u32 = 8;

/// `reinit.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    /// Where HTTP is served.
    listen: Option<SocketAddr>,
    /// HTTPS, with the files of `STORE/tls`.
    tls: Option<bool>,
    /// HTTP without encryption also where others reach it.
    plain_http: Option<bool>,
    /// Where NBD is served on TCP as well.
    nbd_listen: Option<SocketAddr>,
    /// Whether that goes through TLS.
    nbd_tls: Option<NbdTls>,
    /// The region, as shown to clients.
    region: Option<String>,
    /// Its zones; the first is the default.
    zones: Option<Vec<String>>,
    /// The smallest system disk; whole GiB.
    minimum_system_disk: Option<toml::Value>,
    /// The most bytes a second that the hashing of one snapshot reads.
    hash_bandwidth: Option<toml::Value>,
    /// Above this size the audit log begins a new file.
    audit_size: Option<toml::Value>,
    /// Requests a second of one access key.
    rate_per_key: Option<u32>,
    /// Requests of one access key at once, after a rest; as many as in a second unless it is given.
    burst_per_key: Option<u32>,
    /// Connections of one client address at once.
    connections_per_address: Option<u32>,
    /// How many older files of the audit log are kept; one at least.
    audit_keep: Option<u32>,
    /// Snapshots from before are too old to reset a disk to, once it was detached.
    snapshot_cutoff: Option<Timestamp>,
    /// Where clients find files to import, and get exports.
    #[serde(default)]
    buckets: BTreeMap<String, BucketTable>,
    /// Public keys of SSH by the names of their pairs, which `KeyPairName` then has to be one of.
    #[serde(default)]
    key_pairs: BTreeMap<String, String>,
}

/// `[buckets.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BucketTable {
    /// Absolute.
    directory: PathBuf,
    /// Who may use it; every account, if left out.
    accounts: Option<Vec<String>>,
}

/// A type and a key, on one line.
fn is_public_key(text: &str) -> bool {
    let mut words = text.split(' ');
    let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let known = kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-");
    known && !key.is_empty() && key.bytes().all(digit) && !text.contains(char::is_control)
}

impl Config {
    /// The flags (clap has laid them over the environment) over the file over the defaults.
    pub(crate) fn load(path: &Path, flags: &ServeArgs) -> Result<Self, Failure> {
        Self::merge(ConfigFile::read(path)?, flags).map_err(|why| refused(path, why))
    }

    /// A daemon nobody but this machine reaches, on ports nobody else uses.
    pub(crate) fn for_demo() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (audit_size, audit_keep) = (AUDIT_SIZE, AUDIT_KEEP);
        Self {
            listen,
            tls: false,
            nbd_listen: None,
            nbd_tls: NbdTls::Off,
            settings: Settings::default(),
            per_key: None,
            connections_per_address: Limits::default().connections_per_address,
            audit_size,
            audit_keep,
        }
    }

    fn merge(file: ConfigFile, flags: &ServeArgs) -> Result<Self, String> {
        let mut settings = Settings::default();
        if let Some(region) = file.region {
            settings.region = region;
        }
        if let Some(zones) = file.zones {
            if zones.is_empty() {
                return Err("zones names no zone; give one at least, or leave the key out".into());
            }
            settings.zones = zones;
        }
        if let Some(size) = file.minimum_system_disk {
            settings.minimum_system_disk_gib = whole_gib(read_size("minimum_system_disk", &size)?)?;
        }
        if let Some(bandwidth) = file.hash_bandwidth {
            let bandwidth = read_size("hash_bandwidth", &bandwidth)?;
            if bandwidth.bytes() == 0 {
                return Err("hash_bandwidth is 0, so that no snapshot would ever be done; leave the key out for no limit".into());
            }
            settings.hash_bandwidth = Some(bandwidth.bytes());
        }
        if let Some(cutoff) = file.snapshot_cutoff {
            settings.snapshot_cutoff = cutoff;
        }
        let audit_size = match &file.audit_size {
            Some(size) => read_size("audit_size", size)?.bytes(),
            None => AUDIT_SIZE,
        };
        let audit_keep = file.audit_keep.unwrap_or(AUDIT_KEEP);
        if audit_size == 0 || audit_keep == 0 {
            return Err(
                "audit_size and audit_keep must be above 0; the audit log cannot be switched off"
                    .into(),
            );
        }
        for (name, table) in file.buckets {
            if !table.directory.is_absolute() {
                return Err(format!("buckets.{name}.directory must be an absolute path"));
            }
            let BucketTable { directory, accounts } = table;
            settings.buckets.insert(name, Bucket { directory, accounts });
        }
        for (name, key) in &file.key_pairs {
            if !is_public_key(key) {
                return Err(format!(
                    "key_pairs.{name} must be one line as in authorized_keys: TYPE BASE64 COMMENT"
                ));
            }
        }
        settings.key_pairs = file.key_pairs;
        let listen = flags.listen.or(file.listen).unwrap_or(DEFAULT_LISTEN);
        let tls = flags.tls || file.tls.unwrap_or(false);
        let plain_http = flags.plain_http || file.plain_http.unwrap_or(false);
        if !(listen.ip().is_loopback() || tls || plain_http) {
            return Err(format!(
                "others reach {listen}, and HTTP carries no encryption; serve HTTPS with --tls (after: reinit tls init), or \
                 say --plain-http if what lies between encrypts"
            ));
        }
        // Who has a certificate means that what leaves the machine is encrypted.
        let usual = if tls { NbdTls::Required } else { NbdTls::Off };
        Ok(Self {
            listen,
            tls,
            nbd_listen: flags.nbd_listen.or(file.nbd_listen),
            nbd_tls: flags.nbd_tls.or(file.nbd_tls).unwrap_or(usual),
            settings,
            per_key: per_key(file.rate_per_key, file.burst_per_key)?,
            connections_per_address: per_address(file.connections_per_address)?,
            audit_size,
            audit_keep,
        })
    }
}

impl ConfigFile {
    fn read(path: &Path) -> Result<Self, Failure> {
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| refused(path, placed(&text, &error))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(refused(path, error)),
        }
    }
}

/// The message alone names the key only where the key is what is wrong.
fn placed(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return message.into();
    };
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default().trim();
    format!("line {}: {line}: {message}", number + 1)
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::local("InvalidConfig", format!("{}: {why}", path.display()))
}

fn per_key(rate: Option<u32>, burst: Option<u32>) -> Result<Option<PerKey>, String> {
    match (rate, burst) {
        (None, None) => Ok(None),
        (Some(0), _) | (_, Some(0)) => {
            Err("rate_per_key and burst_per_key must be above 0; leave both out for no limit"
                .into())
        }
        (Some(a_second), burst) => Ok(Some(PerKey { a_second, burst: burst.unwrap_or(a_second) })),
        (None, Some(_)) => Err("burst_per_key needs rate_per_key beside it".into()),
    }
}

fn per_address(asked: Option<u32>) -> Result<usize, String> {
    match asked {
        Some(0) => Err("connections_per_address is 0, so that nobody would be let in".into()),
        Some(most) => Ok(usize::try_from(most).unwrap_or(usize::MAX)),
        None => Ok(Limits::default().connections_per_address),
    }
}

fn whole_gib(size: Size) -> Result<u64, String> {
    let gib = size.bytes() >> 30;
    if gib << 30 == size.bytes() && gib > 0 {
        Ok(gib)
    } else {
        Err("minimum_system_disk must be whole GiB, such as \"20G\"".into())
    }
}

/// A size as text (`"100M"`) or as a number of bytes.
fn read_size(key: &str, value: &toml::Value) -> Result<Size, String> {
    let number = value.as_integer().and_then(|bytes| u64::try_from(bytes).ok()).map(Size::new);
    let wrong = || format!("{key} is {value}; write a size such as \"100M\", or plain bytes");
    number.or_else(|| value.as_str()?.parse().ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, flags: &ServeArgs) -> Result<Config, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reinit.toml");
        fs::write(&path, text).unwrap();
        Config::load(&path, flags)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let flags =
            ServeArgs { listen: Some("127.0.0.1:1".parse().unwrap()), ..ServeArgs::default() };
        let config = load("listen = '127.0.0.1:2'\nnbd_listen = '127.0.0.1:3'", &flags).unwrap();
        assert_eq!(config.listen.port(), 1);
        assert_eq!(config.nbd_listen.unwrap().port(), 3);
        assert_eq!(load("", &ServeArgs::default()).unwrap().listen, DEFAULT_LISTEN);
    }

    #[test]
    fn every_key_arrives_in_the_settings() {
        let text = "region = 'r'\nzones = ['r-a']\nminimum_system_disk = '20G'\nhash_bandwidth = 1000\n\
                    snapshot_cutoff = '2020-01-01T00:00:00Z'\n[key_pairs]\nlab = 'ssh-ed25519 AAAA me'\n[buckets.b]\ndirectory = '/x'\n\
                    [buckets.c]\ndirectory = '/y'\naccounts = ['lab']";
        let settings = load(text, &ServeArgs::default()).unwrap().settings;
        assert_eq!(settings.region, "r");
        assert_eq!(settings.zones, ["r-a"]);
        assert_eq!(settings.minimum_system_disk_gib, 20);
        assert_eq!(settings.hash_bandwidth, Some(1000));
        assert_eq!(settings.snapshot_cutoff.to_string(), "2020-01-01T00:00:00Z");
        assert_eq!(settings.key_pairs["lab"], "ssh-ed25519 AAAA me");
        let bucket = |directory: &str, accounts| Bucket { directory: directory.into(), accounts };
        assert_eq!(settings.buckets["b"], bucket("/x", None));
        assert_eq!(settings.buckets["c"], bucket("/y", Some(vec!["lab".into()])));
    }

    #[test]
    fn the_audit_log_has_a_size_and_a_number_of_files() {
        let of = |text| load(text, &ServeArgs::default()).map(|it| (it.audit_size, it.audit_keep));
        assert_eq!(of("").unwrap(), (AUDIT_SIZE, AUDIT_KEEP));
        assert_eq!(of("audit_size = '1M'\naudit_keep = 30").unwrap(), (1 << 20, 30));
    }

    #[test]
    fn a_key_has_no_limit_or_a_rate_and_a_burst() {
        let of = |text| load(text, &ServeArgs::default()).map(|it| it.per_key);
        assert_eq!(of("").unwrap(), None);
        let both = of("rate_per_key = 5\nburst_per_key = 9").unwrap();
        assert_eq!(both, Some(PerKey { a_second: 5, burst: 9 }));
        assert_eq!(of("rate_per_key = 5").unwrap(), Some(PerKey { a_second: 5, burst: 5 }));
    }

    #[test]
    fn an_address_has_a_share_of_the_connections() {
        let of = |text| load(text, &ServeArgs::default()).map(|it| it.connections_per_address);
        assert_eq!(of("").unwrap(), Limits::default().connections_per_address);
        assert_eq!(of("connections_per_address = 9").unwrap(), 9);
    }

    #[test]
    fn http_that_others_reach_is_encrypted_or_said_to_be_plain() {
        for listen in ["0.0.0.0:1", "[::]:1", "192.0.2.7:1"] {
            let with = |more: &str| {
                load(&format!("listen = '{listen}'\n{more}"), &ServeArgs::default())
                    .map(|it| it.tls)
            };
            let refused = with("").unwrap_err();
            assert!(refused.message.contains("--tls"), "{}", refused.message);
            assert!(with("tls = false").is_err());
            assert!(with("tls = true").unwrap());
            assert!(!with("plain_http = true").unwrap());
        }
        for listen in ["127.0.0.2:1", "[::1]:1"] {
            load(&format!("listen = '{listen}'"), &ServeArgs::default()).unwrap();
        }
    }

    #[test]
    fn nbd_on_tcp_is_encrypted_where_http_is_unless_somebody_says_otherwise() {
        let of = |text, nbd_tls| {
            let flags = ServeArgs { nbd_tls, ..ServeArgs::default() };
            load(text, &flags).unwrap().nbd_tls
        };
        assert_eq!(of("", None), NbdTls::Off);
        assert_eq!(of("tls = true", None), NbdTls::Required);
        assert_eq!(of("tls = true\nnbd_tls = 'offered'", None), NbdTls::Offered);
        assert_eq!(of("nbd_tls = 'required'", None), NbdTls::Required);
        assert_eq!(of("nbd_tls = 'required'", Some(NbdTls::Off)), NbdTls::Off);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name_in_one_line() {
        for (text, named) in [
            ("hash_bandwith = 1", "hash_bandwith"),
            ("hash_bandwidth = 0", "hash_bandwidth"),
            ("nbd_tls = 'perhaps'", "nbd_tls"),
            ("hash_bandwidth = -1", "hash_bandwidth"),
            ("minimum_system_disk = '100M'", "minimum_system_disk"),
            ("zones = []", "zones"),
            ("audit_size = 0", "audit_size"),
            ("audit_keep = 0", "audit_keep"),
            ("rate_per_key = 0", "rate_per_key"),
            ("burst_per_key = 5", "rate_per_key"),
            ("connections_per_address = 0", "connections_per_address"),
            ("audit_keep = -1", "audit_keep"),
            ("\n# mine\nlisten = 'nowhere'", "line 3: listen = 'nowhere': invalid socket address"),
            ("snapshot_cutoff = 'x'", "snapshot_cutoff"),
            ("tls = 1", "tls"),
            ("[key_pairs]\nlab = 'me'", "key_pairs.lab"),
            ("[key_pairs]\nlab = \"ssh-rsa AAAA\\nssh-rsa BBBB\"", "key_pairs.lab"),
            ("[buckets.b]\ndirectory = 'here'", "buckets.b.directory"),
            ("[buckets.b]\npath = '/x'", "path"),
            ("[buckets.b]", "directory"),
            ("listen = ", "reinit.toml"),
        ] {
            let failure = load(text, &ServeArgs::default()).unwrap_err();
            assert!(failure.message.contains(named), "{text}: {}", failure.message);
            assert!(!failure.message.contains('\n'), "{text}");
        }
    }

    #[test]
    fn no_file_is_fine() {
        Config::load(Path::new("/nonexistent/reinit.toml"), &ServeArgs::default()).unwrap();
    }
}
