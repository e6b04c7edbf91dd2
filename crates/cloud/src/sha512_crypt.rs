//! SHA-512-crypt, the `$6$` of `/etc/shadow`: what a guest keeps of a password.
//!
//! What must always hold: only the hash leaves this file; what else a password was mixed into is wiped.
//! Written after Drepper's specification, since no crate of ours does it: a hash of SHA-512 alone is no
//! password hash, and what guests accept is this. 5 000 rounds, the number that is not written down.

use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::SecretText;

const ROUNDS: usize = 5000;
/// The most a salt may have.
const SALT_LENGTH: usize = 16;
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `$6$SALT$HASH`. The salt is made of the first bytes of `seed`.
pub(crate) fn hash(password: &SecretText, seed: &[u8; 32]) -> String {
    let salt = seed.iter().take(SALT_LENGTH).map(|byte| ALPHABET[usize::from(byte % 64)]);
    hash_with(password.reveal().as_bytes(), &salt.collect::<Vec<_>>())
}

fn hash_with(password: &[u8], salt: &[u8]) -> String {
    let digest = digest(password, salt);
    format!("$6${}${}", String::from_utf8_lossy(salt), encoded(&digest))
}

fn digest(password: &[u8], salt: &[u8]) -> Zeroizing<[u8; 64]> {
    let mut mixed = first(password, salt);
    let of_password = repeated(&[password].repeat(password.len()), password.len());
    let of_salt = repeated(&[salt].repeat(16 + usize::from(mixed[0])), salt.len());
    for round in 0..ROUNDS {
        let odd = round % 2 == 1;
        let mut hasher = Sha512::new();
        hasher.update(if odd { of_password.as_slice() } else { mixed.as_slice() });
        if !round.is_multiple_of(3) {
            hasher.update(of_salt.as_slice());
        }
        if !round.is_multiple_of(7) {
            hasher.update(of_password.as_slice());
        }
        hasher.update(if odd { mixed.as_slice() } else { of_password.as_slice() });
        mixed = Zeroizing::new(hasher.finalize().into());
    }
    mixed
}

/// The digest the rounds begin with.
fn first(password: &[u8], salt: &[u8]) -> Zeroizing<[u8; 64]> {
    let inner = sha512(&[password, salt, password]);
    let mut hasher = Sha512::new();
    hasher.update(password);
    hasher.update(salt);
    for start in (0..password.len()).step_by(inner.len()) {
        hasher.update(&inner[..inner.len().min(password.len() - start)]);
    }
    let mut bits = password.len();
    while bits > 0 {
        hasher.update(if bits % 2 == 1 { inner.as_slice() } else { password });
        bits /= 2;
    }
    Zeroizing::new(hasher.finalize().into())
}

/// The digest of these parts, as often as `length` bytes need it.
fn repeated(parts: &[&[u8]], length: usize) -> Zeroizing<Vec<u8>> {
    let digest = sha512(parts);
    Zeroizing::new(digest.iter().copied().cycle().take(length).collect())
}

fn sha512(parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
    let mut hasher = Sha512::new();
    parts.iter().for_each(|part| hasher.update(part));
    Zeroizing::new(hasher.finalize().into())
}

/// Three bytes from three places make four digits, the lowest first; each turn all places move on.
fn encoded(digest: &[u8; 64]) -> String {
    let mut text = String::new();
    let mut places = [0, 21, 42];
    for _ in 0..21 {
        let [a, b, c] = places.map(|place: usize| u32::from(digest[place]));
        add_digits(&mut text, (a << 16) | (b << 8) | c, 4);
        places = [places[1] + 1, places[2] + 1, places[0] + 1];
    }
    add_digits(&mut text, u32::from(digest[63]), 2);
    text
}

fn add_digits(text: &mut String, bits: u32, count: u32) {
    let digit = |at| ALPHABET.iter().cycle().nth(((bits >> (6 * at)) & 63) as usize);
    text.extend((0..count).filter_map(digit).map(|byte| char::from(*byte)));
}

#[cfg(test)]
mod tests {
    use super::hash_with;

    /// The first is of the specification, the others of `openssl passwd -6`.
    #[test]
    fn known_hashes_come_out() {
        let of = |password: &str, salt: &str| hash_with(password.as_bytes(), salt.as_bytes());
        assert_eq!(
            of("Hello world!", "saltstring"),
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
        );
        assert_eq!(of("Sw0rdfish!", "0123456789abcdef"), VECTOR_10);
        assert_eq!(of(&"Ab1".repeat(10), "./xyzXYZ"), VECTOR_30);
        assert_eq!(of(&"Ab1-".repeat(20), "salt"), VECTOR_80);
    }

    const VECTOR_10: &str = "$6$0123456789abcdef$gE8mJ1Ac8oFy26M6IgXnCMvCHay2QhF9Ds.qc99fb.05L.6SE4rJS9AvQi8MmLFh0ly2RYwNoLafrYVivoP8o0";
    const VECTOR_30: &str = "$6$./xyzXYZ$xIAcbcGFuIJ1U74TVTqD0Iu1sFmplsw3/T47ed6Z1475FwZ3AZWjvcaXMmjfavdJvOySg.kCTL4gJ3oPBKLGw/";
    const VECTOR_80: &str = "$6$salt$/DMT5HR2EnwNdJ0bkw2Ji5t1jXfoFsa5jM8lpVZ4mET/dG9Wv1LcJCnhgYX5KA5kWjNTLWd7l5e/wFpY1Uj2V1";
}
