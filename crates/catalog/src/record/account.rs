//! An account: who owns resources.

use serde::{Deserialize, Serialize};

use super::Record;

/// The present version.
pub type Account = AccountV1;

/// An account, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountV1 {
    /// The name, unique, and what other records call this account by.
    pub name: String,
    /// The numeric account id shown to API clients; the first is 1000000000000001.
    pub number: u64,
    /// When it was created.
    pub created: i64,
    /// Whether bills are unpaid, which refuses some actions.
    pub in_arrears: bool,
    /// The most bytes of disk it may own, if limited.
    pub quota_bytes: Option<u64>,
}

impl Record for AccountV1 {
    const KIND: u16 = 1;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "account";

    fn id(&self) -> String {
        self.name.clone()
    }
}
