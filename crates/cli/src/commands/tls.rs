//! `tls`: a private certificate authority and a certificate of the server, for labs without a public name.
//!
//! What must always hold
//! 1. Keys are their owner's alone from the moment they exist.
//! 2. An authority that is there stays: its clients trust it. Only the server's certificate is made anew.
//! 3. Each file is whole or the one before.
//!
//! Left to others: serving with it (`serve`), reading it anew (`daemon`).

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::Context as _;
use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::json;

use crate::{args::TlsCommand, daemon, failure::Failure, output::Report, places::Places};

const AUTHORITY_YEARS: i64 = 10;
/// The longest that common clients take.
const SERVER_DAYS: i64 = 825;

pub(crate) fn run(places: &Places, command: &TlsCommand) -> Result<Report, Failure> {
    let TlsCommand::Init { names } = command;
    if !places.store().join("ledger").exists() {
        return Err(daemon::no_store(places));
    }
    Ok(init(places, names)?)
}

fn init(places: &Places, asked: &[String]) -> anyhow::Result<Report> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(places.tls());
    made.with_context(|| format!("making {}", places.tls().display()))?;
    let today = Timestamp::now().to_zoned_datetime(TimeZone::UTC).date();
    let authority = authority(places, today)?;

    let names = names(asked);
    let ends = today.checked_add(Span::new().days(SERVER_DAYS))?;
    let key = KeyPair::generate().context("making the server's key")?;
    let mut server = CertificateParams::new(names.clone()).context("reading the names")?;
    server.distinguished_name.push(DnType::CommonName, names[0].as_str());
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    valid(&mut server, today, ends)?;
    let certificate = server.signed_by(&key, &authority).context("signing the certificate")?;
    // A daemon that reads them in between finds that they do not fit, and goes on with the old ones.
    write(&places.tls_key(), &key.serialize_pem())?;
    write(&places.tls_certificate(), &certificate.pem())?;

    let (shown, known) = (places.tls_certificate().display().to_string(), names.join(", "));
    let authority = places.tls_authority().display().to_string();
    let told = format!(
        "{shown} is for {known}, until {ends}\nclients trust it by {authority}\nserve with it: reinit serve --tls; a \
         running daemon reads it on SIGHUP"
    );
    let document = json!({
        "Certificate": shown, "Key": places.tls_key(), "Authority": authority, "Names": names, "Ends": ends.to_string(),
    });
    Ok(Report::done(document, vec![authority], told))
}

/// The one that is there, or a new one.
fn authority(places: &Places, today: Date) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let (certificate, key) = (places.tls_authority(), places.tls_authority_key());
    if certificate.exists() {
        let pem = fs::read_to_string(&key).with_context(|| {
            format!(
                "reading {}, the key of {}; bring it back, or move that away for a new authority",
                key.display(),
                certificate.display()
            )
        })?;
        let pair = KeyPair::from_pem(&pem).with_context(|| format!("reading {}", key.display()))?;
        return Ok(Issuer::new(authority_of(&pair), pair));
    }
    let pair = KeyPair::generate().context("making the authority's key")?;
    let mut params = authority_of(&pair);
    valid(&mut params, today, today.checked_add(Span::new().years(AUTHORITY_YEARS))?)?;
    write(&key, &pair.serialize_pem())?;
    let made = params.self_signed(&pair).context("signing the authority's certificate")?;
    write(&certificate, &made.pem())?;
    Ok(Issuer::new(params, pair))
}

/// What names the authority follows from its key, so that its certificate need not be read again.
fn authority_of(key: &KeyPair) -> CertificateParams {
    let digest = blake3::hash(key.public_key_raw()).to_hex();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Reinit private CA {}", &digest[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// From yesterday, for clients whose clocks are slow.
fn valid(params: &mut CertificateParams, today: Date, until: Date) -> anyhow::Result<()> {
    let time = |date: Date| -> anyhow::Result<_> {
        let (month, day) = (u8::try_from(date.month())?, u8::try_from(date.day())?);
        Ok(date_time_ymd(i32::from(date.year()), month, day))
    };
    params.not_before = time(today.yesterday()?)?;
    params.not_after = time(until)?;
    Ok(())
}

/// Those asked for, and what this machine calls itself.
fn names(asked: &[String]) -> Vec<String> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = ["localhost", "127.0.0.1", "::1", host.trim()].map(str::to_owned);
    let mut names: Vec<String> = Vec::new();
    for name in asked.iter().cloned().chain(own) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Under a temporary name first.
fn write(path: &Path, content: &str) -> anyhow::Result<()> {
    let draft = path.with_extension("new");
    let store = || -> std::io::Result<()> {
        // One that was left may have another mode.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    store().with_context(|| format!("writing {}", path.display()))
}
