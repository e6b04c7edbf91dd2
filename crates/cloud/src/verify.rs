//! The proof that a disk is in its initial state.
//!
//! What must always hold: it only looks; a disk whose source is gone cannot be proved to be anything.
//! The last reset chose between the plain image and its security layer, and the ledger's base tells which;
//! a disk that stands on a layer which the image does not have any more is compared with the plain image.

use block_store::Progress;
use reinit::{Verification, VerifyDepth};

use crate::{Caller, Cloud, CloudError, caller::Right, cloud::disk_name, security_layer, source};

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
        self.world().disk(&caller.account, id)?;
        let base = self.inner.store.disk(&disk_name(id)?)?.base;
        let mut world = self.world_when(|world| world.is_quiet_behind(id));
        let disk = world.disk(&caller.account, id)?;
        let plain = source::initial(&world, self.snapshot_cutoff(), disk)?;
        let found = security_layer::under(&world, disk, base).unwrap_or(plain);
        let claim = self.claim(caller, &mut world, found.holds().collect())?;
        drop(world);
        let verified = self.inner.engine.verify(&disk_name(id)?, &found.source, depth, progress);
        drop(claim);
        Ok(verified?)
    }
}
