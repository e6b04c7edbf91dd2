//! What a disk goes back to, found again: rows 8 to 11 of the ReInitDisk table.
//!
//! What must always hold: the disk keeps the id of its origin for ever, so that what is gone can be
//! told from what never was; a source another account owns counts only while it may be used.
//! Left to others: rows 1 to 7 (`reinit_disk`), the reset itself (`reinit`).

use catalog::record::{Disk, Image, LayerBytes, Origin, RootBytes, Snapshot};
use reinit::Source;

use crate::{CloudError, claim::Hold, cloud::layer_name, world::World};

/// A source that was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// For the engine.
    pub(crate) source: Source,
    /// The image or snapshot to pin while it is used.
    pub(crate) pin: Option<String>,
    /// The layer to pin where its record may stop naming it.
    pub(crate) layer_pin: Option<LayerBytes>,
    /// The root over its content, once known.
    pub(crate) root: Option<RootBytes>,
}

impl Found {
    /// What keeps it there while something is on its way to it.
    pub(crate) fn holds(&self) -> impl Iterator<Item = Hold> + use<> {
        let pin = self.pin.clone().map(Hold::Pin);
        pin.into_iter().chain(self.layer_pin.map(Hold::LayerPin))
    }
}

/// What the disk goes back to, or which of the rows 8 to 11 stands against it.
pub(crate) fn initial(world: &World, cutoff: i64, disk: &Disk) -> Result<Found, CloudError> {
    match &disk.origin {
        Origin::Empty => {
            Ok(Found { source: Source::Empty, pin: None, layer_pin: None, root: None })
        }
        Origin::Snapshot { id } => match world.snapshots.get(id) {
            Some(snapshot) if is_too_old(snapshot, cutoff) && disk.detached.is_some() => {
                Err(CloudError::SnapshotTooOld { snapshot: id.clone() })
            }
            Some(snapshot) => Ok(of_snapshot(snapshot)),
            None => Err(gone_snapshot(disk, id)),
        },
        Origin::Image { id } => match world.images.get(id) {
            Some(image) if world.is_visible(image, &disk.account) => Ok(of_image(image)),
            Some(_) | None => Err(gone_image(disk, id)),
        },
    }
}

pub(crate) fn of_snapshot(snapshot: &Snapshot) -> Found {
    Found {
        source: Source::Snapshot(snapshot.layer.map(layer_name)),
        pin: Some(snapshot.id.clone()),
        layer_pin: None,
        root: snapshot.root,
    }
}

/// An image without a layer is one of an empty disk.
fn of_image(image: &Image) -> Found {
    let source = image.layer.map_or(Source::Empty, |layer| Source::Image(layer_name(layer)));
    Found { source, pin: Some(image.id.clone()), layer_pin: None, root: image.root }
}

pub(crate) fn is_too_old(snapshot: &Snapshot, cutoff: i64) -> bool {
    snapshot.created < cutoff
}

/// Row 9, or row 10 for a snapshot that only stood behind an image.
fn gone_snapshot(disk: &Disk, snapshot: &str) -> CloudError {
    let disk_id = disk.id.clone();
    if disk.origin_via_image {
        CloudError::SourceImageGone { disk: disk_id, image: snapshot.into() }
    } else {
        CloudError::SourceSnapshotGone { disk: disk_id, snapshot: snapshot.into() }
    }
}

/// Row 10 for the own account's, row 11 for another's.
fn gone_image(disk: &Disk, image: &str) -> CloudError {
    let (own, disk_id) = (disk.origin_owner == disk.account, disk.id.clone());
    if own {
        CloudError::SourceImageGone { disk: disk_id, image: image.into() }
    } else {
        CloudError::SharedImageGone { disk: disk_id, image: image.into() }
    }
}
