//! Scrub: the content of sealed layers beside the hashes that were made when they were sealed.
//!
//! What must always hold
//! 1. It changes nothing but its own cursor: what it finds is told, never repaired.
//! 2. What is compared comes from the device, not from the cache, and is read twice before it is
//!    called damaged.
//! 3. A cluster that is damaged at a layer is refused to who reads through that layer from then
//!    on, over restarts too, until a scrub finds it whole; everything else is served.
//! 4. After a stop or a kill the next run goes on where the cursor was: a cluster may be compared
//!    twice, none is left out. A layer that is removed meanwhile is left out silently.
//!
//! Left to others: structure (headers and maps), heads (they have no hashes), when to run it.

mod cursor;
mod device;
mod pace;
mod report;
mod run;

use block_device::{ByteLength, ByteOffset, CLUSTER};

pub use report::{LastScrub, Scrub, ScrubFinding, ScrubFindingKind, ScrubReport};

use crate::{
    error::StoreError,
    geometry::bytes,
    lineage::Lineage,
    progress::Progress,
    store::{Shared, Store},
};
use cursor::Cursor;
use run::Run;

impl Store {
    /// Compares all sealed layers that have hashes with them. A run that was stopped or killed is
    /// gone on with. When it is cancelled it fails with `Cancelled`, and the next goes on there.
    pub fn scrub(
        &self,
        options: &Scrub,
        progress: &dyn Progress,
    ) -> Result<ScrubReport, StoreError> {
        let shared = self.shared();
        let _alone = shared.scrubbing.lock();
        let lineage = Lineage::look(shared)?;
        let mut run = Run::begin(shared, &lineage, options, progress);
        // What is killed in its first moments was begun all the same.
        run.save();
        let compared = run.all(&lineage);
        run.save();
        compared?;
        run.finish()
    }

    /// The last scrub, from its cursor; none if there is none that can be believed.
    pub fn last_scrub(&self) -> Result<Option<LastScrub>, StoreError> {
        let shared = self.shared();
        let Some(cursor) = Cursor::load(&*shared.storage) else { return Ok(None) };
        let lineage = Lineage::look(shared)?;
        let left = if cursor.finished { 0 } else { left_to_compare(&cursor, &lineage) };
        let done = ByteLength::new(cursor.clusters * CLUSTER);
        let total = ByteLength::new((cursor.clusters + left) * CLUSTER);
        let report = report_of(shared, &lineage, &cursor, bytes(lineage.unhashed()));
        Ok(Some(LastScrub { is_finished: cursor.finished, done, total, report }))
    }
}

/// Clusters of layers that the run of this cursor did not come to.
fn left_to_compare(cursor: &Cursor, lineage: &Lineage) -> u64 {
    lineage.hashed_clusters(|layer| cursor.done.contains(&layer))
}

fn report_of(shared: &Shared, lineage: &Lineage, cursor: &Cursor, unhashed: u64) -> ScrubReport {
    let own = cursor.findings.iter().filter(|found| !found.earlier && lineage.has(found.layer));
    let findings = own.map(|found| {
        let standing = lineage.standing_on(found.layer);
        ScrubFinding {
            layer: found.layer,
            offset: found.cluster.map(|cluster| ByteOffset::new(cluster * CLUSTER)),
            kind: found.kind,
            labels: lineage.labels(shared, &standing),
            disks: lineage.disks_on(&standing),
            standing,
        }
    });
    ScrubReport {
        layers: bytes(cursor.done.len()),
        unhashed,
        clusters: cursor.clusters,
        bytes: ByteLength::new(cursor.clusters * CLUSTER),
        findings: findings.collect(),
    }
}

/// Knows again, after a start, what the last scrub found damaged.
pub(crate) fn recall(shared: &Shared) {
    let Some(cursor) = Cursor::load(&*shared.storage) else { return };
    for found in cursor.findings.iter().filter(|found| found.kind.is_refused()) {
        tracing::error!(layer = %found.layer, cluster = found.cluster, "known to be damaged; refused");
        shared.layers.damage.add(found.layer, found.cluster);
    }
}
