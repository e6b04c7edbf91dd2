//! Images of whole instances: they wait for the hashes of their snapshots.
//!
//! What must always hold: such an image names snapshots of which one at least is still progressing; the
//! commit that ends the last of them ends the image, so none waits for ever.

use catalog::record::{Image, ImageStatus, Snapshot, SnapshotStatus};

use crate::world::World;

/// The snapshots an image names, that of the system disk first.
pub(super) fn snapshots_of(image: &Image) -> impl Iterator<Item = &str> {
    let data = image.data_disks.iter().map(|disk| disk.snapshot.as_str());
    image.source_snapshot.as_deref().into_iter().chain(data).filter(|id| !id.is_empty())
}

impl World {
    /// The images that are made from a snapshot in progress.
    pub(crate) fn images_waiting_for(&self, snapshot: &str) -> Vec<&Image> {
        let waits = |image: &&Image| {
            image.status == ImageStatus::Creating && snapshots_of(image).any(|id| id == snapshot)
        };
        self.images.values().filter(waits).collect()
    }

    /// What becomes of a waiting image by the end of a snapshot; nothing while it waits for another.
    pub(crate) fn image_after(&self, image: &Image, ended: &Snapshot) -> Option<Image> {
        let found = |id: &str| if id == ended.id { Some(ended) } else { self.snapshots.get(id) };
        let status = |id| found(id).map_or(SnapshotStatus::Failed, |one| one.status);
        let states: Vec<_> = snapshots_of(image).map(status).collect();
        if states.contains(&SnapshotStatus::Progressing) {
            return None;
        }
        let failed = states.contains(&SnapshotStatus::Failed);
        let status = if failed { ImageStatus::CreateFailed } else { ImageStatus::Available };
        let system = image.source_snapshot.as_deref().and_then(found);
        Some(Image { status, root: system.and_then(|one| one.root), ..image.clone() })
    }

    /// How far the slowest snapshot of a waiting image is.
    pub(super) fn progress_of_waiting(&self, image: &Image) -> u8 {
        let progress = |id: &str| {
            let done = self.snapshots.get(id).map(|one| one.status);
            let settled = if done == Some(SnapshotStatus::Progressing) { 0 } else { 100 };
            self.progress.get(id).copied().unwrap_or(settled)
        };
        snapshots_of(image).map(progress).min().unwrap_or(0)
    }
}
