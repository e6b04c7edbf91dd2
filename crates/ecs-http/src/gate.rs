//! Who a request comes from.
//!
//! What must always hold: the checks come in the order of the reference - shape, key known, clock,
//! signature, nonce, pace - and nothing of an unsigned request over TCP is acted on.
//! Left to others: each check (`signature`, `nonce`, `cloud`), what the role of a key covers (`cloud`).

use std::time::Instant;

use cloud::{AccessKey, Caller, DEFAULT_ACCOUNT, KeyState};

use crate::{
    audit::Sender,
    front::{Door, Front},
    refusal::Refusal,
    request::Request,
    signature, status,
};

/// The one action that may name an account which is not there yet.
const MAKES_ACCOUNTS: &str = "CreateAccessKey";

/// Who sent the request. What is known of the sender is told also where it is refused.
pub(crate) fn caller(
    front: &Front,
    door: Door,
    request: &Request,
    sender: &mut Sender,
) -> Result<Caller, Refusal> {
    let caller = match door {
        Door::Control => {
            *sender = Sender::operator();
            let account = request.parameters.text("Account").unwrap_or(DEFAULT_ACCOUNT);
            let operator = Caller::operator(account);
            // An empty list of what nobody owns would hide a wrong letter.
            if account != DEFAULT_ACCOUNT && request.action() != Some(MAKES_ACCOUNTS) {
                let known = front.cloud().account(&operator, account);
                known.map_err(|error| status::refusal("", &error))?;
            }
            operator
        }
        Door::Public => signer(front, request, sender)?,
    };
    sender.account.clone_from(&caller.account);
    Ok(caller)
}

fn signer(front: &Front, request: &Request, sender: &mut Sender) -> Result<Caller, Refusal> {
    let claimed = signature::read(request)?;
    *sender = Sender::of_key(&claimed.access_key);
    let token = claimed.security_token.as_deref();
    check_token_shape(token)?;
    let key = front.cloud().access_key(&claimed.access_key);
    let key = key.map_err(|error| status::refusal("", &error))?;
    // Worked out in any case, so that an unknown key is refused no sooner than a wrong signature.
    let secret = key.as_ref().map_or(NOBODYS_SECRET, |key| key.secret.reveal());
    let signature = claimed.check_signature(secret);
    let key = key.ok_or_else(unknown_key)?;
    check_state(&key)?;
    let now = front.clock().now();
    claimed.check_clock(now)?;
    signature?;
    if !front.cloud().is_token_of(&claimed.access_key, &key, token) {
        return Err(token_mismatch());
    }
    if key.state == KeyState::Expired {
        return Err(token_expired());
    }
    front.nonces().remember(&claimed.access_key, &claimed.nonce, claimed.time, now)?;
    // After the nonce: a request that was told to come later must not be sent again by somebody else.
    front.throttle().admit(&claimed.access_key, Instant::now())?;
    Ok(Caller::key(key.account, key.role))
}

/// As long as a real one.
const NOBODYS_SECRET: &str = "000000000000000000000000000000";

/// That a temporary key has expired is told only to whoever proves to hold it.
fn check_state(key: &AccessKey) -> Result<(), Refusal> {
    let message = match key.state {
        KeyState::Active => return Ok(()),
        KeyState::Expired if key.is_temporary() => return Ok(()),
        KeyState::Disabled => "Specified access key is disabled.",
        KeyState::Expired => "Specified access key has expired.",
    };
    Err(Refusal::new("InvalidAccessKeyId.Inactive", 400, message))
}

fn unknown_key() -> Refusal {
    Refusal::new("InvalidAccessKeyId.NotFound", 404, "Specified access key is not found.")
}

/// The longest token of the public cloud is below that.
const LONGEST_TOKEN: usize = 4_096;

/// Base64 in either alphabet, and dots.
fn check_token_shape(token: Option<&str>) -> Result<(), Refusal> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_.".contains(&byte);
    match token {
        Some(token) if token.len() > LONGEST_TOKEN || !token.bytes().all(fits) => {
            let message = "Specified SecurityToken is malformed.";
            Err(Refusal::new("InvalidSecurityToken.Malformed", 400, message))
        }
        Some(_) | None => Ok(()),
    }
}

fn token_expired() -> Refusal {
    let message = "Specified SecurityToken is expired.";
    Refusal::new("InvalidSecurityToken.Expired", 400, message)
}

/// Another one than the key needs, one with a lasting key, or none with a temporary key.
fn token_mismatch() -> Refusal {
    let message = "Specified SecurityToken mismatch with the AccessKey.";
    Refusal::new("InvalidSecurityToken.MismatchWithAccessKey", 400, message)
}
