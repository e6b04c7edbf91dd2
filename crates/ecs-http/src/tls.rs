//! TLS for the public door: one certificate and its key, from two files that can be read anew.
//!
//! What must always hold
//! 1. A reload takes both files or changes nothing: connections go on with what they began with, new
//!    ones get what was read last.
//! 2. A key that any user of the machine may read is refused, as is one that is not the certificate's.
//! 3. A handshake has a deadline and is done beside the accepting, so that no stranger holds others up.
//!
//! TLS 1.2 and 1.3 by rustls over ring, named here and not as the process's default: another
//! provider linked by another crate would otherwise make the first handshake panic.
//! Left to others: when to reload and where the files are (`cli`), HTTP on top (`server`).

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum_server::{
    accept::Accept as _,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// What TLS is served with. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    present: RustlsConfig,
}

impl Tls {
    /// Reads a chain of certificates, the server's own first, and the key of that one.
    pub fn load(certificate: &Path, key: &Path) -> io::Result<Self> {
        let present = RustlsConfig::from_config(read(certificate, key)?);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), present })
    }

    /// Reads both again, for connections from now on.
    pub fn reload(&self) -> io::Result<()> {
        self.present.reload_from_config(read(&self.certificate, &self.key)?);
        Ok(())
    }

    /// What is served with now, for a protocol that is not HTTP.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.present.get_inner());
        config.alpn_protocols.clear();
        Arc::new(config)
    }

    /// The server's side of a handshake.
    pub(crate) async fn accept<S>(
        &self,
        stream: S,
        within: Duration,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let acceptor = RustlsAcceptor::new(self.present.clone()).handshake_timeout(within);
        // It hands a service through, which is put on top only later here.
        let (stream, _) = acceptor.accept(stream, ()).await?;
        Ok(stream)
    }
}

fn read(certificate: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let of_certificate = |why: &dyn fmt::Display| unusable(certificate, why);
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain: Vec<_> = chain.map_err(|error| of_certificate(&error))?;
    if chain.is_empty() {
        return Err(of_certificate(&"it holds no certificate"));
    }
    let mode = fs::metadata(key).map_err(|error| unusable(key, &error))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(unusable(key, &"every user may use it; chmod it to 0600"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, secret));
    let mut config = config.map_err(|error| of_certificate(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn unusable(path: &Path, why: &dyn fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{} cannot be used for TLS: {why}", path.display()),
    )
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            let files = Self(tempfile::tempdir().unwrap());
            files.renew();
            files
        }

        fn renew(&self) {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(self.certificate(), made.cert.pem()).unwrap();
            fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
            self.mode(0o600);
        }

        fn mode(&self, mode: u32) {
            fs::set_permissions(self.key(), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn certificate(&self) -> PathBuf {
            self.0.path().join("server.pem")
        }

        fn key(&self) -> PathBuf {
            self.0.path().join("server.key")
        }

        fn load(&self) -> io::Result<Tls> {
            Tls::load(&self.certificate(), &self.key())
        }
    }

    fn refused(result: io::Result<impl Sized>, named: &str) {
        let message = result.err().expect("a refusal").to_string();
        assert!(message.contains(named) && !message.contains('\n'), "{message}");
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_the_file() {
        let files = Files::new();
        files.load().unwrap();
        files.mode(0o644);
        refused(files.load(), "server.key");
        files.mode(0o640);
        files.load().unwrap();
        let other = Files::new();
        fs::copy(other.key(), files.key()).unwrap();
        refused(files.load(), "server.pem");
        fs::write(files.certificate(), "").unwrap();
        refused(files.load(), "no certificate");
        fs::remove_file(files.certificate()).unwrap();
        refused(files.load(), "server.pem");
    }

    #[test]
    fn a_failed_reload_leaves_what_is_served() {
        let files = Files::new();
        let tls = files.load().unwrap();
        let first = tls.present.get_inner();
        fs::write(files.key(), "no key").unwrap();
        refused(tls.reload(), "server.key");
        assert!(Arc::ptr_eq(&first, &tls.present.get_inner()));
        files.renew();
        tls.clone().reload().unwrap();
        assert!(!Arc::ptr_eq(&first, &tls.present.get_inner()));
    }
}
