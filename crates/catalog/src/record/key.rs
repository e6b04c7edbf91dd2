//! An access key: what API requests are signed with.
//!
//! The secret is kept sealed; who can open it is decided by `cloud`.

use serde::{Deserialize, Serialize};

use super::Record;

/// The present version.
pub type Key = KeyV1;

/// The present version of [`RoleV1`].
pub type Role = RoleV1;

/// An access key, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyV1 {
    /// The public half, sent with each request.
    pub access_key_id: String,
    /// The account it acts for.
    pub account: String,
    /// The secret half, sealed.
    pub sealed_secret: Vec<u8>,
    /// What it may do.
    pub role: RoleV1,
    /// From when on it is refused, if ever.
    pub expires: Option<i64>,
    /// Whether it is refused already.
    pub disabled: bool,
    /// When it was created.
    pub created: i64,
}

/// What a key may do, version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoleV1 {
    /// Everything.
    Full,
    /// Describe actions only.
    Read,
    /// Describe actions and resets.
    Reset,
}

impl Record for KeyV1 {
    const KIND: u16 = 2;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "key";

    fn id(&self) -> String {
        self.access_key_id.clone()
    }
}
