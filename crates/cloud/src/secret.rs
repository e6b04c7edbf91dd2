//! Secrets: in memory only as long as needed, at rest only sealed.
//!
//! What must always hold
//! 1. A secret is never in a log, a debug print or an error.
//! 2. At rest it is AES-256-GCM under the key in `secret.key` (32 bytes, mode 0600), bound to what it
//!    belongs to: a sealed secret moved to another record does not open.
//! 3. A nonce is random and never used twice with one key: 96 bits, far below 2^32 secrets.
//!
//! Left to others: where the key file lies (`cli`), who may ask for a secret (`key`).

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use zeroize::{Zeroize, Zeroizing};

use crate::{CloudError, ids};

/// A text that is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// What seals secrets at rest.
pub(crate) struct Sealer {
    cipher: Aes256Gcm,
    /// For digests that must not be guessable from outside, such as over a password.
    digest_key: Zeroizing<[u8; 32]>,
}

/// The envelope of a sealed secret: nonce, then ciphertext with its tag.
const NONCE_LENGTH: usize = 12;

impl Sealer {
    /// Reads the key file, or makes it where there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, CloudError> {
        let key = match read_key(path) {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_key(path).map_err(CloudError::internal)?
            }
            Err(error) => return Err(CloudError::internal(error)),
        };
        let cipher = Aes256Gcm::new_from_slice(key.as_slice()).map_err(CloudError::internal)?;
        let digest_key = blake3::derive_key("reinit 2026 client token digest", key.as_slice());
        Ok(Self { cipher, digest_key: Zeroizing::new(digest_key) })
    }

    /// `owner` is what the secret belongs to, such as an access key id.
    pub(crate) fn seal(&self, secret: &[u8], owner: &str) -> Result<Vec<u8>, CloudError> {
        let mut nonce = [0; NONCE_LENGTH];
        ids::fill(&mut nonce)?;
        let payload = Payload { msg: secret, aad: owner.as_bytes() };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| CloudError::internal("a secret could not be sealed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    pub(crate) fn unseal(
        &self,
        sealed: &[u8],
        owner: &str,
    ) -> Result<Zeroizing<Vec<u8>>, CloudError> {
        let broken = || CloudError::internal("a sealed secret does not open with the store's key");
        let (nonce, body) = sealed.split_at_checked(NONCE_LENGTH).ok_or_else(broken)?;
        let nonce: [u8; NONCE_LENGTH] = nonce.try_into().map_err(|_| broken())?;
        let payload = Payload { msg: body, aad: owner.as_bytes() };
        let opened = self.cipher.decrypt(&Nonce::from(nonce), payload).map_err(|_| broken())?;
        Ok(Zeroizing::new(opened))
    }

    /// A digest over parts that nobody without the key can test guesses against.
    pub(crate) fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.digest_key);
        for part in parts {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part);
        }
        *hasher.finalize().as_bytes()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

fn read_key(path: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::other("the key file may be read by others: chmod it to 0600"));
    }
    let mut key = Zeroizing::new([0; 32]);
    file.read_exact(key.as_mut_slice())?;
    if file.read(&mut [0; 1])? != 0 {
        return Err(io::Error::other("the key file is longer than 32 bytes"));
    }
    Ok(key)
}

/// Under a temporary name first: a crash never leaves a short key behind.
fn make_key(path: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut_slice()).map_err(io::Error::other)?;
    let draft = path.with_extension("key.new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(key.as_slice())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_only_for_its_owner_and_only_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.key");
        let sealed = Sealer::open(&path).unwrap().seal(b"swordfish", "LTAI1").unwrap();
        let again = Sealer::open(&path).unwrap();
        assert_eq!(again.unseal(&sealed, "LTAI1").unwrap().as_slice(), b"swordfish");
        assert!(again.unseal(&sealed, "LTAI2").is_err());
        assert!(again.unseal(&sealed[..sealed.len() - 1], "LTAI1").is_err());
        assert!(again.unseal(&[], "LTAI1").is_err());
    }

    #[test]
    fn a_key_file_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.key");
        Sealer::open(&path).unwrap();
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(Sealer::open(&path).is_err());
        mode(0o600);
        assert!(Sealer::open(&path).is_ok());
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert!(!format!("{:?}", SecretText::new("swordfish")).contains("sword"));
    }
}
