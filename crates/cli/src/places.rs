//! Where things are: the store's directory and the names in it.
//!
//! What must always hold: a socket path that the system cannot take is refused here, with the reason; so is a store
//! that is no directory, or one that this user may not enter.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// The longest path of a unix socket on Linux: 108 bytes with the closing zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// A store's directory and the names in it.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    store: PathBuf,
}

impl Places {
    /// The directory asked for, or the default one of this user.
    pub(crate) fn new(asked: Option<&Path>) -> Result<Self, Failure> {
        let store = match asked {
            Some(store) => store.to_owned(),
            None => default_store()?,
        };
        check_directory(&store)?;
        Ok(Self { store })
    }

    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.store.join("reinit.toml")
    }

    pub(crate) fn catalog(&self) -> PathBuf {
        self.store.join("catalog")
    }

    pub(crate) fn catalog_export(&self) -> PathBuf {
        self.store.join(catalog::EXPORT_NAME)
    }

    /// Whether a store's directory may hold this name: the one list of them. What a file system
    /// puts into its own root is nobody's business.
    pub(crate) fn knows(name: &str) -> bool {
        const NAMES: [&str; 17] = [
            "catalog",
            "catalog.copy",
            "catalog.export.jsonl",
            "catalog.export.jsonl.new",
            "catalog.new",
            "catalog.timed-out",
            "layers",
            "ledger",
            "ledger.new",
            "lock",
            "lost+found",
            "reinit.toml",
            "restore",
            "run",
            "scrub",
            "scrub.new",
            "tls",
        ];
        NAMES.contains(&name)
            || [
                "audit.jsonl",
                "catalog.bad-",
                "catalog.export.jsonl.old-",
                "ledger.old",
                "secret.key",
            ]
            .iter()
            .any(|own| name.starts_with(own))
    }

    pub(crate) fn secret_key(&self) -> PathBuf {
        self.store.join("secret.key")
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.store.join("audit.jsonl")
    }

    pub(crate) fn tls(&self) -> PathBuf {
        self.store.join("tls")
    }

    pub(crate) fn tls_certificate(&self) -> PathBuf {
        self.tls().join("server.pem")
    }

    pub(crate) fn tls_key(&self) -> PathBuf {
        self.tls().join("server.key")
    }

    pub(crate) fn tls_authority(&self) -> PathBuf {
        self.tls().join("ca.pem")
    }

    pub(crate) fn tls_authority_key(&self) -> PathBuf {
        self.tls().join("ca.key")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.store.join("run")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.run().join("control.sock")
    }

    pub(crate) fn nbd_socket(&self) -> PathBuf {
        self.run().join("nbd.sock")
    }

    /// The sockets must have names the system takes; everything else may lie as deep as it likes.
    pub(crate) fn check_sockets(&self) -> Result<(), Failure> {
        let socket = self.control_socket();
        let length = socket.as_os_str().len();
        if length <= LONGEST_SOCKET_PATH {
            return Ok(());
        }
        let most = LONGEST_SOCKET_PATH - "/run/control.sock".len();
        Err(Failure::local(
            "StorePathTooLong",
            format!(
                "the store's path {} has {} bytes, but its sockets allow {most} at most; use a shorter path or a symbolic link",
                self.store.display(),
                self.store.as_os_str().len(),
            ),
        ))
    }

    /// Whether there is a store, as far as this user may look.
    pub(crate) fn hold_a_store(&self) -> bool {
        let ledger = self.store.join(block_store::LEDGER).try_exists();
        ledger.unwrap_or(true)
    }
}

/// One that is not there is told by whoever needs it, with what to do about it.
fn check_directory(store: &Path) -> Result<(), Failure> {
    // The dot asks for a directory that may be entered.
    let Err(error) = fs::metadata(store.join(".")) else { return Ok(()) };
    let shown = store.display();
    match error.kind() {
        io::ErrorKind::NotADirectory => Err(Failure::local(
            "NoStore",
            format!("{shown} is no directory, and a store is one; name another with --store DIR"),
        )),
        io::ErrorKind::PermissionDenied => Err(Failure::local(
            "StoreForbidden",
            format!(
                "this user may not enter {shown}; run this as the user the store belongs to, or name another with --store DIR"
            ),
        )),
        _ => Ok(()),
    }
}

fn default_store() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/reinit".into());
    }
    if let Some(data) = env::var_os("XDG_DATA_HOME").filter(|data| Path::new(data).is_absolute()) {
        return Ok(Path::new(&data).join("reinit"));
    }
    match env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(Path::new(&home).join(".local/share/reinit")),
        None => Err(Failure::local(
            "NoStore",
            "no HOME to put a store into; give --store DIR or set REINIT_STORE",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_too_deep_for_sockets_is_refused_with_the_limit() {
        let fits = format!("/{}", "a".repeat(LONGEST_SOCKET_PATH - "/run/control.sock".len() - 1));
        Places::new(Some(Path::new(&fits))).unwrap().check_sockets().unwrap();
        let failure =
            Places::new(Some(Path::new(&format!("{fits}a")))).unwrap().check_sockets().unwrap_err();
        assert!(failure.message.contains("90 at most"), "{}", failure.message);
    }
}
