//! A refusal as a client sees it: code, HTTP status, message.
//!
//! What must always hold: the message carries no secret, no password, no path and no stack.
//! Left to others: which error of the cloud becomes which refusal (`status`), how it is written
//! (`response`).

use std::{fmt, time::Duration};

/// Why a request was not answered as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The `Code` of the ECS reference.
    pub(crate) code: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// One sentence.
    pub(crate) message: String,
    /// When the same request may come again, where that is known.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, status: u16, message: impl Into<String>) -> Self {
        Self { code, status, message: message.into(), retry_after: None }
    }

    /// The same, with the time after which another try makes sense.
    pub(crate) fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    /// A parameter that is needed is not there.
    pub(crate) fn missing(name: &str) -> Self {
        let message = format!(
            "The input parameter \"{name}\" that is mandatory for processing this request is not supplied."
        );
        Self::new("MissingParameter", 400, message)
    }

    /// A parameter is there but cannot be read.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameter", 400, message)
    }

    /// The body comes in a way that is not taken here.
    pub(crate) fn media_type(message: impl Into<String>) -> Self {
        Self::new("UnsupportedMediaType", 415, message)
    }

    /// No such action, or not from here.
    pub(crate) fn unknown_action(action: &str) -> Self {
        let message = format!("The specified action {action:?} is not offered here.");
        Self::new("InvalidAction.NotFound", 404, message)
    }

    /// A fault of ours.
    pub(crate) fn internal() -> Self {
        let message = "The request processing has failed due to some unknown error.";
        Self::new("InternalError", 500, message)
    }

    /// Too much to do right now.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new("ServiceUnavailable", 503, message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.status, self.message)
    }
}
