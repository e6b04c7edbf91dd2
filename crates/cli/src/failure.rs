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
            return self.message.clone();
        }
        let next = next_step(&self.code).map(|step| format!(" {step}")).unwrap_or_default();
        format!("{}{next} ({}, request {})", self.message, self.code, self.request_id)
    }
}

/// What a person at the command line does next; the daemon, which answers any client, cannot say it.
fn next_step(code: &str) -> Option<&'static str> {
    Some(match code {
        "IncorrectInstanceStatus" => {
            "`reinit instance ls` shows the states; `reinit instance stop` and `start` change them."
        }
        "InvalidDiskId.NotFound" => {
            "`reinit disk ls` lists the disks; for those of another account add --account NAME."
        }
        "InvalidInstanceId.NotFound" => {
            "`reinit instance ls` lists the instances; for those of another account add --account NAME."
        }
        "InvalidImageId.NotFound" => {
            "`reinit image ls` lists the images; for those of another account add --account NAME."
        }
        "InvalidSnapshotId.NotFound" => {
            "`reinit snapshot ls` lists the snapshots; for those of another account add --account NAME."
        }
        "InvalidAccount.NotFound" => {
            "`reinit account ls` lists the accounts; `reinit key create --account NAME` makes one."
        }
        "IncorrectDiskStatus" => {
            "`reinit disk ls` shows the states; `reinit disk attach` and `detach` change them."
        }
        "IncorrectDiskStatus.NeverAttached" | "IncorrectDiskStatus.NeverUsed" => {
            "Attach it (`reinit disk attach`) and start its instance first."
        }
        "DiskStillAttached" => {
            "Detach it first (`reinit disk detach`); a system disk goes with its instance."
        }
        "DiskCreatingSnapshot" => "Wait until `reinit snapshot ls` says accomplished.",
        "SnapshotCreatedDisk" | "ImageUsingByInstance" => {
            "With --force it goes all the same, and what was made from it can no longer be reset."
        }
        "InvalidAccessKeyId.NotFound" => "`reinit key ls` lists the keys.",
        "DiskNotPortable" => "It goes with its instance alone.",
        "ImportImageFailed" => "Nothing of it is left; put that right and import it again.",
        "InsufficientStorage" => "Delete or trim something; resets and deletes still work.",
        "InternalError" => {
            "The daemon's log has the cause; `reinit disk show` tells why a disk is refused."
        }
        _ => return None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_after_a_wrong_state_never_drops_what_a_disk_holds() {
        // Rollback, detach and resize answer this code too.
        assert!(!next_step("IncorrectInstanceStatus").unwrap().contains("reset"));
    }

    #[test]
    fn a_failure_of_the_daemon_says_what_to_do_next() {
        let failure = Failure {
            code: "InvalidDiskId.NotFound".into(),
            message: "There is no disk d-1.".into(),
            request_id: "R".into(),
        };
        let line = "There is no disk d-1. `reinit disk ls` lists the disks; for those of another \
                    account add --account NAME. (InvalidDiskId.NotFound, request R)";
        assert_eq!(failure.line(), line);
    }
}
