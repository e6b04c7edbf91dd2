//! What the process tells the shell.
//!
//! What must always hold: 0 done, 1 the operation failed, 2 wrong usage; nothing else.

use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, help and version included.
    Done,
    /// The operation failed.
    Failed,
    /// The command line makes no sense.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
        })
    }
}

impl From<&clap::Error> for Exit {
    fn from(error: &clap::Error) -> Self {
        // Help and version print on standard output and are no errors.
        if error.use_stderr() { Self::Usage } else { Self::Done }
    }
}
