//! The proof that a disk is in its initial state.
//!
//! What must always hold: it only looks; a disk whose source is gone cannot be proved to be anything.

use block_store::Progress;
use reinit::{Verification, VerifyDepth};

use crate::{Caller, Cloud, CloudError, caller::Right, cloud::disk_name, source};

impl Cloud {
    /// Whether a disk is in its initial state; with `depth` Content every byte is read.
    pub fn verify_disk(
        &self,
        caller: &Caller,
        id: &str,
        depth: VerifyDepth,
        progress: &dyn Progress,
    ) -> Result<Verification, CloudError> {
        caller.may(Right::Describe, "verify")?;
        let mut world = self.world_when(|world| world.is_quiet_behind(id));
        let disk = world.disk(&caller.account, id)?;
        let found = source::initial(&world, self.snapshot_cutoff(), disk)?;
        let pin = found.pin.map(crate::claim::Hold::Pin);
        let claim = self.claim(&mut world, pin.into_iter().collect());
        drop(world);
        let verified = self.inner.engine.verify(&disk_name(id)?, &found.source, depth, progress);
        drop(claim);
        Ok(verified?)
    }
}
