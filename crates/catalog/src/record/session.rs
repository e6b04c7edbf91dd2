//! A temporary key: what API requests are signed with for a while, together with a token.
//!
//! The secret is kept sealed, of the token only a digest: nobody needs to see it again.

use serde::{Deserialize, Serialize};

use super::{Record, RoleV1};

/// The present version.
pub type Session = SessionV1;

/// A temporary key, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionV1 {
    /// The public half, sent with each request.
    pub access_key_id: String,
    /// The account it acts for.
    pub account: String,
    /// The secret half, sealed.
    pub sealed_secret: Vec<u8>,
    /// Over the token that comes with each request.
    pub token_digest: [u8; 32],
    /// What it may do.
    pub role: RoleV1,
    /// From when on it is refused.
    pub expires: i64,
    /// Whether it is refused already.
    pub disabled: bool,
    /// When it was created.
    pub created: i64,
}

impl Record for SessionV1 {
    const KIND: u16 = 12;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "session";

    fn id(&self) -> String {
        self.access_key_id.clone()
    }
}
