//! Who asks, and what its role covers.
//!
//! What must always hold: a `Read` key describes and nothing else; a `Reset` key describes, resets,
//! starts and stops; only the operator acts on accounts, keys and locks. For a caller that only checks
//! nothing is done: it gets as far as the end of the checks, and no claim.
//! Left to others: finding out who asks (signatures, the control socket: `ecs-http`).

pub use catalog::record::Role;

use crate::CloudError;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account it acts for; it sees no resources of another one.
    pub account: String,
    /// What it may do.
    pub role: Role,
    /// How it came.
    pub via: Via,
    /// Whether it only asks if it could: where the checks end, it is refused with `DryRunPassed`.
    pub only_checks: bool,
}

/// How a caller came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// With a signature of an access key.
    Key,
    /// Through the control socket.
    Operator,
}

/// What an action does, as far as roles care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Only looks.
    Describe,
    /// Resets a disk, starts or stops an instance.
    Reset,
    /// Anything else.
    Change,
}

impl Caller {
    /// The operator, acting for an account.
    pub fn operator(account: impl Into<String>) -> Self {
        Self { account: account.into(), role: Role::Full, via: Via::Operator, only_checks: false }
    }

    /// An access key of an account.
    pub fn key(account: impl Into<String>, role: Role) -> Self {
        Self { account: account.into(), role, via: Via::Key, only_checks: false }
    }

    /// The same caller, only asking if it could.
    pub fn checking(&self) -> Self {
        Self { only_checks: true, ..self.clone() }
    }

    /// Whether it came through the control socket.
    pub fn is_operator(&self) -> bool {
        self.via == Via::Operator
    }

    pub(crate) fn may(&self, right: Right, action: &'static str) -> Result<(), CloudError> {
        let covered = match self.role {
            Role::Full => true,
            Role::Reset => right != Right::Change,
            Role::Read => right == Right::Describe,
        };
        if covered { Ok(()) } else { Err(CloudError::Forbidden { action, role: self.role }) }
    }

    /// The checks are over and something is about to be done.
    pub(crate) fn goes_on(&self) -> Result<(), CloudError> {
        if self.only_checks { Err(CloudError::DryRunPassed) } else { Ok(()) }
    }

    pub(crate) fn must_be_operator(&self, action: &'static str) -> Result<(), CloudError> {
        if self.is_operator() { Ok(()) } else { Err(CloudError::OperatorOnly { action }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_covers_what_it_says() {
        let allowed = |role| {
            [Right::Describe, Right::Reset, Right::Change]
                .map(|right| Caller::key("default", role).may(right, "X").is_ok())
        };
        assert_eq!(allowed(Role::Full), [true, true, true]);
        assert_eq!(allowed(Role::Reset), [true, true, false]);
        assert_eq!(allowed(Role::Read), [true, false, false]);
    }
}
