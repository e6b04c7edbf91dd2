//! An image: what new disks start from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LayerBytes, Record, RootBytes, Tags};
use crate::envelope::{EnvelopeError, Payload};

/// The present version.
pub type Image = ImageV2;

/// The present version of [`ImageStatusV1`].
pub type ImageStatus = ImageStatusV1;

/// The present version of [`ImageDiskV1`].
pub type ImageDisk = ImageDiskV1;

/// The present version of [`SecurityLayerV1`].
pub type SecurityLayer = SecurityLayerV1;

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

/// An image, version 2: it may carry a security layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageV2 {
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
    /// What `SecurityEnhancementStrategy=Active` leads to, if it may.
    pub security_layer: Option<SecurityLayerV1>,
}

/// A layer on top of an image's in which the security software is installed, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityLayerV1 {
    /// The layer; the image's own is among those it stands on.
    pub layer: LayerBytes,
    /// The root over all it reads as.
    pub root: Option<RootBytes>,
    /// Bytes of the disk it was made of, which may be more than the image's.
    pub size: u64,
    /// The snapshot it was made from, which may be gone.
    pub snapshot: String,
    /// Since when the image has it.
    pub added: i64,
}

/// An image of version 1 has no security layer.
impl From<ImageV1> for ImageV2 {
    fn from(old: ImageV1) -> Self {
        Self {
            id: old.id,
            account: old.account,
            name: old.name,
            description: old.description,
            version: old.version,
            size: old.size,
            layer: old.layer,
            root: old.root,
            architecture: old.architecture,
            os_type: old.os_type,
            os_name: old.os_name,
            platform: old.platform,
            status: old.status,
            public: old.public,
            shared_with: old.shared_with,
            created: old.created,
            source_snapshot: old.source_snapshot,
            format: old.format,
            data_disks: old.data_disks,
            tags: old.tags,
            security_layer: None,
        }
    }
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

impl Record for ImageV2 {
    const KIND: u16 = 5;
    const VERSION: u16 = 2;
    const PREFIX: &'static str = "image";

    fn id(&self) -> String {
        self.id.clone()
    }

    fn decode(version: u16, payload: Payload<'_>) -> Result<Self, EnvelopeError> {
        match version {
            1 => payload.read::<ImageV1>().map(Self::from),
            2 => payload.read(),
            _ => Err(EnvelopeError::UnknownVersion { kind: Self::KIND, version }),
        }
    }
}
