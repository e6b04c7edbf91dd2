//! Keep on reset: the snapshot that a reset leaves behind as the way back.
//!
//! What must always hold: it is a snapshot like any other, with the rules and the quota of
//! CreateSnapshot; one that was taken stays, also when the reset after it fails, and the error names it.
//! Left to others: taking it (`snapshot`), the reset (`reinit_disk`).

use block_store::RequestId;

use crate::{
    Caller, Cloud, CloudError, CreateSnapshot, caller::Right, snapshot::ReadySnapshots,
    world::World,
};

impl Cloud {
    /// Whether what the disk holds may be kept.
    pub(crate) fn check_keep(
        &self,
        world: &World,
        caller: &Caller,
        disk: &str,
    ) -> Result<(), CloudError> {
        caller.may(Right::Change, "CreateSnapshot")?;
        let request = CreateSnapshot { disk: disk.into(), ..CreateSnapshot::default() };
        self.check_snapshot(world, caller, &request).map(drop)
    }

    /// Checks and claims; the name tells the moment, the description the request.
    pub(crate) fn ready_keep(
        &self,
        world: &mut World,
        caller: &Caller,
        disk: &str,
        request_id: RequestId,
    ) -> Result<ReadySnapshots, CloudError> {
        caller.may(Right::Change, "CreateSnapshot")?;
        let now = crate::clock::whole_seconds(self.now_seconds());
        let request = CreateSnapshot {
            disk: disk.into(),
            name: Some(format!("before-reset-{now}")),
            description: Some(format!("What {disk} held before its reset by request {request_id}")),
            ..CreateSnapshot::default()
        };
        self.ready_snapshot(world, caller, &request)
    }
}

/// Why a disk was not reset, with the snapshot that was taken all the same.
pub(crate) fn but_not_reset(kept: Option<String>, error: CloudError) -> CloudError {
    match kept {
        Some(snapshot) => CloudError::KeptButNotReset { snapshot, reason: Box::new(error) },
        None => error,
    }
}
