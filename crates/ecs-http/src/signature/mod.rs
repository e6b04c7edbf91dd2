//! Who sent a request, and that nothing in it was changed on the way.
//!
//! What must always hold
//! 1. The order of checks is that of the reference: shape, key known, clock, signature, nonce. Version
//!    and action come after (`front`).
//! 2. A nonce is remembered only after the signature was found right: a stranger can burn none.
//! 3. Signatures are compared in constant time, and no secret gets into a message or a log.
//!
//! Two shapes: `v1` signs the parameters with HMAC-SHA1 and carries the signature among them; `acs3`
//! signs the whole request with HMAC-SHA256 and carries it in `Authorization`. A request that has an
//! ACS3 `Authorization` is ACS3, any other is v1: some v1 clients send ACS3-like headers as well.
//! Left to others: looking the key up (`front`), remembering nonces (`nonce`).

mod acs3;
mod hex;
mod v1;

use axum::http::{HeaderMap, header};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use subtle::ConstantTimeEq as _;

use crate::{parameters::Parameters, refusal::Refusal, request::Request};

/// How far a client's clock may be off, either way.
pub(crate) const WINDOW_SECONDS: i64 = 15 * 60;

/// What a request says of its sender, none of it proven yet.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// The access key it names.
    pub(crate) access_key: String,
    /// When it was signed.
    pub(crate) time: Timestamp,
    /// Its own number.
    pub(crate) nonce: String,
    /// The token of a temporary key.
    pub(crate) security_token: Option<String>,
    /// The signature as bytes.
    signature: Vec<u8>,
    /// What must be signed.
    signed: Signed,
}

/// What must be signed, and how.
#[derive(Debug)]
enum Signed {
    V1(String),
    Acs3 {
        text: String,
        /// Whether the hash of the body the client signed is that of the body that came.
        body_is_the_signed_one: bool,
    },
}

/// Whether the request is of the ACS3 shape.
pub(crate) fn is_acs3(headers: &HeaderMap) -> bool {
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    authorization.is_some_and(|value| value.starts_with(b"ACS3"))
}

/// Reads what the request claims.
pub(crate) fn read(request: &Request) -> Result<Claimed, Refusal> {
    if is_acs3(&request.headers) { acs3::read(request) } else { v1::read(request) }
}

impl Claimed {
    /// The client's clock is right enough.
    pub(crate) fn check_clock(&self, now: Timestamp) -> Result<(), Refusal> {
        let off = now.as_second().saturating_sub(self.time.as_second()).saturating_abs();
        if off > WINDOW_SECONDS {
            return Err(expired());
        }
        Ok(())
    }

    /// The signature is that of the secret.
    pub(crate) fn check_signature(&self, secret: &str) -> Result<(), Refusal> {
        let (text, expected, body_right) = match &self.signed {
            Signed::V1(text) => (text, v1::sign(secret, text).to_vec(), true),
            Signed::Acs3 { text, body_is_the_signed_one } => {
                (text, acs3::sign(secret, text).to_vec(), *body_is_the_signed_one)
            }
        };
        let right: bool = expected.ct_eq(&self.signature).into();
        if right && body_right { Ok(()) } else { Err(mismatch(text)) }
    }
}

/// The time of the request lies outside of what can be checked.
pub(crate) fn expired() -> Refusal {
    let message = "Specified time stamp or date value is expired.";
    Refusal::new("InvalidTimeStamp.Expired", 400, message)
}

/// One client splits this message at its colons and compares the second part with what it signed
/// itself: there must be exactly one, right before the text. The text holds none.
fn mismatch(string_to_sign: &str) -> Refusal {
    let message = format!(
        "Specified signature is not matched with our calculation. server string to sign is:{string_to_sign}"
    );
    Refusal::new("SignatureDoesNotMatch", 400, message)
}

fn incomplete() -> Refusal {
    let message = "The request signature does not conform to Aliyun standards.";
    Refusal::new("IncompleteSignature", 400, message)
}

fn parse_time(text: &str) -> Result<Timestamp, Refusal> {
    let refused = || {
        let message = "Specified time stamp or date value is not well formatted.";
        Refusal::new("InvalidTimeStamp.Format", 400, message)
    };
    // Only this form: what else the parser knows (offsets, fractions, spaces) no client sends.
    let at = |place| text.as_bytes().get(place).copied();
    let in_form = text.len() == 20 && at(10) == Some(b'T') && at(19) == Some(b'Z');
    if in_form { text.parse().map_err(|_| refused()) } else { Err(refused()) }
}

/// Everything but letters, digits, `-`, `_`, `.` and `~`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// `name=value&...`, encoded, in the order in which it is signed.
fn canonical_query<'p>(parameters: impl Iterator<Item = (&'p str, &'p str)>) -> String {
    let pairs: Vec<String> =
        parameters.map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// A parameter whose absence makes the request unreadable.
fn needed<'p>(parameters: &'p Parameters, name: &str) -> Result<&'p str, Refusal> {
    parameters.text(name).ok_or_else(|| Refusal::missing(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_mismatch_has_one_colon() {
        let refusal = mismatch("POST&%2F&A%3D1");
        assert_eq!(refusal.message.split(':').collect::<Vec<_>>()[1], "POST&%2F&A%3D1");
        assert_eq!(refusal.message.matches(':').count(), 1);
    }

    #[test]
    fn times_have_one_form() {
        assert_eq!(parse_time("2016-02-23T12:46:24Z").unwrap().as_second(), 1_456_231_584);
        for text in
            ["", "2016-02-23 12:46:24Z", "2016-02-30T12:46:24Z", "2016-02-23T12:46:24+00", "Z"]
        {
            assert_eq!(parse_time(text).unwrap_err().code, "InvalidTimeStamp.Format", "{text}");
        }
    }

    #[test]
    fn the_unreserved_stay_and_all_else_is_encoded() {
        assert_eq!(encode("aZ0-_.~ *+'()!/数"), "aZ0-_.~%20%2A%2B%27%28%29%21%2F%E6%95%B0");
    }
}
