//! Names of new resources: a letter, a dash, 20 random letters and digits.
//!
//! What must always hold: no two resources get the same id, whatever the clock says (100 random
//! bits); an id is safe as a file name and as an NBD export name.
//! Left to others: clients treat ids as opaque, and so do we: a look-up never parses one.

use crate::CloudError;

/// Lower case and digits: 36 symbols.
const SYMBOLS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// For access keys, upper case as well.
const KEY_SYMBOLS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Symbols after the dash.
const LENGTH: usize = 20;
/// Symbols of an access key id after its four fixed letters.
const ACCESS_KEY_LENGTH: usize = 20;
/// Symbols of a secret.
const SECRET_LENGTH: usize = 30;
/// Symbols of a token.
const TOKEN_LENGTH: usize = 64;

pub(crate) fn disk() -> Result<String, CloudError> {
    with_prefix("d-")
}

pub(crate) fn snapshot() -> Result<String, CloudError> {
    with_prefix("s-")
}

pub(crate) fn snapshot_group() -> Result<String, CloudError> {
    with_prefix("ssg-")
}

pub(crate) fn image() -> Result<String, CloudError> {
    with_prefix("m-")
}

pub(crate) fn instance() -> Result<String, CloudError> {
    with_prefix("i-")
}

pub(crate) fn task() -> Result<String, CloudError> {
    with_prefix("t-")
}

pub(crate) fn access_key() -> Result<String, CloudError> {
    Ok(format!("LTAI{}", random(KEY_SYMBOLS, ACCESS_KEY_LENGTH)?))
}

/// Starts as those of the public cloud do: clients show it, and people tell it by that.
pub(crate) fn temporary_key() -> Result<String, CloudError> {
    Ok(format!("STS.{}", random(KEY_SYMBOLS, ACCESS_KEY_LENGTH)?))
}

/// The token of a temporary key.
pub(crate) fn token() -> Result<String, CloudError> {
    random(KEY_SYMBOLS, TOKEN_LENGTH)
}

pub(crate) fn secret() -> Result<String, CloudError> {
    random(KEY_SYMBOLS, SECRET_LENGTH)
}

/// What a guest sees as the serial number of a disk or machine.
pub(crate) fn serial() -> Result<String, CloudError> {
    random(SYMBOLS, LENGTH)
}

fn with_prefix(prefix: &str) -> Result<String, CloudError> {
    Ok(format!("{prefix}{}", random(SYMBOLS, LENGTH)?))
}

/// Bytes that would make the first symbols likelier than the last are drawn again.
fn random(symbols: &[u8], length: usize) -> Result<String, CloudError> {
    let even = 256 / symbols.len() * symbols.len();
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 64];
    while text.len() < length {
        fill(&mut bytes)?;
        let usable = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < even);
        text.extend(
            usable.take(length - text.len()).map(|byte| char::from(symbols[byte % symbols.len()])),
        );
    }
    Ok(text)
}

/// Random bytes of the system.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), CloudError> {
    getrandom::fill(bytes).map_err(CloudError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_documented_shape() {
        let id = disk().unwrap();
        assert_eq!(id.len(), 22);
        assert!(id.parse::<block_device::DiskId>().is_ok());
        assert_eq!(access_key().unwrap().len(), 24);
        assert_eq!(secret().unwrap().len(), 30);
        assert_ne!(disk().unwrap(), disk().unwrap());
    }
}
