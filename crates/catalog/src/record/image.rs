//! An image: what new disks start from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LayerBytes, Record, RootBytes, Tags};

/// The present version.
pub type Image = ImageV1;

/// The present version of [`ImageStatusV1`].
pub type ImageStatus = ImageStatusV1;

/// The present version of [`ImageDiskV1`].
pub type ImageDisk = ImageDiskV1;

/// An image, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageV1 {
    /// `m-...`
    pub id: String,
    /// The owner.
    pub account: String,
    /// The name shown to people.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The owner's own version text.
    pub version: String,
    /// Bytes of the system disk.
    pub size: u64,
    /// The layer that holds it; none until it is imported, or for an empty one.
    pub layer: Option<LayerBytes>,
    /// The root of that layer, once known.
    pub root: Option<RootBytes>,
    /// Such as `x86_64`.
    pub architecture: String,
    /// `linux` or `windows`.
    pub os_type: String,
    /// The system's full name.
    pub os_name: String,
    /// The distribution.
    pub platform: String,
    /// How far it is.
    pub status: ImageStatusV1,
    /// Whether every account may use it.
    pub public: bool,
    /// Account numbers it is shared with, and since when.
    pub shared_with: BTreeMap<u64, i64>,
    /// When it was created.
    pub created: i64,
    /// The snapshot it was made from, if so.
    pub source_snapshot: Option<String>,
    /// The format it was imported from, such as `qcow2`.
    pub format: String,
    /// Data disks that come with it.
    pub data_disks: Vec<ImageDiskV1>,
    /// Free labels.
    pub tags: Tags,
}

/// How far an image is, version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageStatusV1 {
    /// Being made.
    Creating,
    /// Waiting for its turn.
    Waiting,
    /// Ready for use.
    Available,
    /// Not usable.
    UnAvailable,
    /// Could not be made.
    CreateFailed,
    /// Usable, but no longer offered.
    Deprecated,
}

/// One data disk of an image, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDiskV1 {
    /// The device name.
    pub device: String,
    /// Bytes.
    pub size: u64,
    /// The snapshot it starts from; empty for an empty disk.
    pub snapshot: String,
}

impl Record for ImageV1 {
    const KIND: u16 = 5;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "image";

    fn id(&self) -> String {
        self.id.clone()
    }
}
