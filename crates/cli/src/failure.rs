//! Why a command failed: what, why, and what to do next, in one line.
//!
//! What must always hold: a failure of the daemon keeps the code and request id it was answered with.

use std::fmt::Display;

/// Why a command failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The ECS code, or one of our own for what never reached the daemon.
    pub(crate) code: String,
    /// What happened and what to do next.
    pub(crate) message: String,
    /// Of the request, empty when there was none.
    pub(crate) request_id: String,
}

impl Failure {
    /// Something on this side of the control socket.
    pub(crate) fn local(code: &str, message: impl Display) -> Self {
        Self {
            code: code.into(),
            message: one_line(&message.to_string()),
            request_id: String::new(),
        }
    }

    /// The line a person reads. A code of the daemon is part of it, for that is what the documents name.
    pub(crate) fn line(&self) -> String {
        if self.request_id.is_empty() {
            self.message.clone()
        } else {
            format!("{} ({}, request {})", self.message, self.code, self.request_id)
        }
    }
}

/// An error with all its causes, in one line.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::local("OperationFailed", format!("{error:#}")),
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line())
    }
}

impl std::error::Error for Failure {}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
