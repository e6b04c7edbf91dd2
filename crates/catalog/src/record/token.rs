//! A client token: the answer to a request, kept so that its repetition has no second effect.

use serde::{Deserialize, Serialize};

use super::Record;

/// The present version.
pub type Token = TokenV1;

/// A client token, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenV1 {
    /// The account that sent it.
    pub account: String,
    /// The action it was sent with.
    pub action: String,
    /// The token itself.
    pub token: String,
    /// A digest of the other parameters: the same token with other ones is an error.
    pub parameters_digest: [u8; 32],
    /// The answer that was given.
    pub answer: String,
    /// When.
    pub created: i64,
}

impl TokenV1 {
    /// The id under which the token of this account and action lies.
    ///
    /// A slash or percent sign inside the first two parts is escaped, so that no account can
    /// choose a name that reaches another one's tokens.
    #[must_use]
    pub fn id_of(account: &str, action: &str, token: &str) -> String {
        format!("{}/{}/{token}", escaped(account), escaped(action))
    }
}

fn escaped(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2f")
}

impl Record for TokenV1 {
    const KIND: u16 = 8;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "token";

    fn id(&self) -> String {
        Self::id_of(&self.account, &self.action, &self.token)
    }
}
