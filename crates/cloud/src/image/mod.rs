//! Images: what new disks start from.
//!
//! What must always hold: an image is seen by its owner, by those it is shared with and, if public,
//! by all; for anyone else it does not exist. An unfinished import leaves nothing behind.
//! Left to others: reading image formats (`block-store`); one file per action.

mod copy;
mod create;
mod delete;
mod describe;
mod empty_disk;
mod export;
mod harden;
mod import;
mod import_source;
mod of_disks;
mod of_instance;
mod progress;
mod share;
mod waiting;

use std::{fs::File, path::PathBuf};

use block_device::ByteLength;
use block_store::{BackingPolicy, ImageFormat};
use catalog::record::{DiskRole, ImageStatus, Tags};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use share::OpenImage;

use crate::{Paging, TagFilter, paging::Listed, snapshot::Usage};

/// `reinit image import`, and `ImportImage` once the front has opened the object.
#[derive(Debug)]
pub struct ImportImage {
    /// The open file; nothing else is opened unless `backing` allows it.
    pub file: File,
    /// Where the file lies, only needed to find its backing file.
    pub path: Option<PathBuf>,
    /// The format; none = what the file says.
    pub format: Option<ImageFormat>,
    /// Whether backing files are followed.
    pub backing: BackingPolicy,
    /// Unique within the account.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// `x86_64` if none is given.
    pub architecture: Option<String>,
    /// `linux` if none is given.
    pub os_type: Option<String>,
    /// The distribution.
    pub platform: Option<String>,
    /// Whether every account may use it; the operator only.
    pub public: bool,
    /// Labels.
    pub tags: Vec<(String, String)>,
}

/// `ImportImage`: of files in buckets.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ImportObject {
    /// The system disk, then the data disks that come with it.
    pub disks: Vec<ImportDisk>,
    /// Unique within the account; the id if none is given.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// `x86_64` if none is given.
    pub architecture: Option<String>,
    /// `linux` if none is given.
    pub os_type: Option<String>,
    /// The distribution.
    pub platform: Option<String>,
    /// Labels.
    pub tags: Vec<(String, String)>,
    /// Same token and parameters, same answer.
    pub client_token: Option<String>,
}

/// `DiskDeviceMapping.N` of `ImportImage`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ImportDisk {
    /// The bucket.
    pub bucket: String,
    /// The file beneath it.
    pub object: String,
    /// The format; none = what the file says.
    #[serde(serialize_with = "as_name")]
    pub format: Option<ImageFormat>,
    /// Bytes of disks made from it; what the file says if none is given.
    pub size: Option<u64>,
    /// Of a data disk, `/dev/xvdb` to `/dev/xvdz`; the first free one if none is given.
    pub device: Option<String>,
}

fn as_name<S: serde::Serializer>(format: &Option<ImageFormat>, to: S) -> Result<S::Ok, S::Error> {
    format.map(ImageFormat::name).serialize(to)
}

/// `ExportImage`: into a bucket.
#[derive(Clone, Debug)]
pub struct ExportImage {
    /// The image.
    pub image: String,
    /// The bucket.
    pub bucket: String,
    /// What the name of the file begins with.
    pub prefix: Option<String>,
    /// What it is written as.
    pub format: ExportFormat,
}

/// A format that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// The bytes.
    Raw,
    /// As QEMU reads it.
    Qcow2,
    /// Fixed, as Hyper-V reads it.
    Vhd,
}

/// An import that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportStarted {
    /// `m-...`
    pub image: String,
    /// `t-...`
    pub task: String,
}

/// What an image is made from.
#[derive(Clone, Debug, Serialize)]
pub enum ImageFrom {
    /// The snapshot of a system disk.
    Snapshot(String),
    /// All disks of an instance, at one moment.
    Instance(String),
    /// The snapshot of a system disk, and data disks beside it.
    Disks(Vec<ImageDiskAsked>),
}

/// `DiskDeviceMapping.N` of `CreateImage`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ImageDiskAsked {
    /// What it starts from; none for an empty data disk.
    pub snapshot: Option<String>,
    /// What it is to be; what the snapshot's disk was, if not given.
    pub role: Option<DiskRole>,
    /// `/dev/xvdb` to `/dev/xvdz`; the first free one if none is given.
    pub device: Option<String>,
    /// Bytes; the snapshot's if none is given.
    pub size: Option<u64>,
}

/// `CreateImage`.
#[derive(Clone, Debug, Serialize)]
pub struct CreateImage {
    /// What from.
    pub from: ImageFrom,
    /// Unique within the account; the id if none is given.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// The owner's own version text.
    pub version: Option<String>,
    /// `x86_64` if none is given.
    pub architecture: Option<String>,
    /// The distribution.
    pub platform: Option<String>,
    /// Labels.
    pub tags: Vec<(String, String)>,
    /// Same token and parameters, same answer.
    pub client_token: Option<String>,
}

impl CreateImage {
    /// Nothing given but what from.
    pub fn of(from: ImageFrom) -> Self {
        Self {
            from,
            name: None,
            description: None,
            version: None,
            architecture: None,
            platform: None,
            tags: Vec::new(),
            client_token: None,
        }
    }
}

/// `CopyImage`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CopyImage {
    /// What to copy; an own image or another that may be used.
    pub image: String,
    /// Unique within the account; the id if none is given.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Labels.
    pub tags: Vec<(String, String)>,
    /// Same token and parameters, same answer.
    pub client_token: Option<String>,
}

/// Whose an image is, seen from a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImageOwnerAlias {
    /// The caller's own.
    Own,
    /// Another account's, shared with the caller.
    Others,
    /// Another account's, public.
    System,
}

/// `DescribeImages`: what is none does not restrict.
#[derive(Clone, Debug, Default)]
pub struct DescribeImages {
    /// At most 100; unknown ones are not listed.
    pub ids: Option<Vec<String>>,
    /// Exact, or with `*`.
    pub name: Option<String>,
    /// Whose.
    pub owner: Option<ImageOwnerAlias>,
    /// Any of them; none = `Available`.
    pub statuses: Option<Vec<ImageStatus>>,
    /// Made from it.
    pub snapshot: Option<String>,
    /// Such as `x86_64`.
    pub architecture: Option<String>,
    /// `linux` or `windows`.
    pub os_type: Option<String>,
    /// Whether instances were made from it.
    pub used_by_instance: Option<bool>,
    /// Whether it is public.
    pub public: Option<bool>,
    /// All of them.
    pub tags: Vec<TagFilter>,
    /// Not older.
    pub created_from: Option<Timestamp>,
    /// Not younger.
    pub created_until: Option<Timestamp>,
    /// Which page.
    pub paging: Paging,
}

/// An image as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageView {
    /// `m-...`
    pub id: String,
    /// The owner's name.
    pub account: String,
    /// The owner's number.
    pub owner_number: u64,
    /// Whose it is for the caller.
    pub owner_alias: ImageOwnerAlias,
    /// Free name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The owner's version text.
    pub version: String,
    /// Bytes of the system disk.
    pub size: ByteLength,
    /// The root over its content: 32 bytes.
    pub root: Option<[u8; 32]>,
    /// Such as `x86_64`.
    pub architecture: String,
    /// `linux` or `windows`.
    pub os_type: String,
    /// In full.
    pub os_name: String,
    /// The distribution.
    pub platform: String,
    /// The state.
    pub status: ImageStatus,
    /// 0 to 100.
    pub progress_percent: u8,
    /// Whether every account may use it.
    pub public: bool,
    /// Whether the caller, its owner, shares it with others.
    pub shared_by_caller: bool,
    /// When it was made.
    pub created: Timestamp,
    /// The snapshot it was made from.
    pub source_snapshot: Option<String>,
    /// What it was imported from, such as `qcow2`.
    pub format: String,
    /// Data disks that come with it.
    pub data_disks: Vec<ImageDataDisk>,
    /// Whether an instance was made from it, by anyone the caller can see.
    pub used_by_instance: bool,
    /// The region.
    pub region: String,
    /// Labels; only the owner sees them.
    pub tags: Tags,
    /// What `SecurityEnhancementStrategy=Active` leads to; only the operator sees it.
    pub security_layer: Option<SecurityLayerView>,
}

/// The security layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityLayerView {
    /// What it was made from; it may be gone.
    pub snapshot: String,
    /// Bytes of the smallest disk that takes it.
    pub size: ByteLength,
    /// The root over its content: 32 bytes.
    pub root: Option<[u8; 32]>,
    /// Since when the image has it.
    pub added: Timestamp,
}

/// A data disk that comes with an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageDataDisk {
    /// Such as `/dev/xvdb`.
    pub device: String,
    /// Bytes.
    pub size: ByteLength,
    /// What it starts from; empty for none.
    pub snapshot: String,
}

/// `ModifyImageSharePermission`.
#[derive(Clone, Debug, Default)]
pub struct ShareImage {
    /// The image.
    pub image: String,
    /// Numbers of accounts to share it with, as given.
    pub add: Vec<String>,
    /// Numbers of accounts to share it with no longer, as given.
    pub remove: Vec<String>,
    /// Whether every account may use it; the operator only.
    pub public: Option<bool>,
}

/// An account an image is shared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageShare {
    /// Its number.
    pub account_number: u64,
    /// Since when.
    pub since: Timestamp,
}

impl ImageView {
    /// The size in whole GiB, rounded up.
    pub fn size_gib(&self) -> u64 {
        self.size.get().div_ceil(crate::GIB)
    }

    /// What was made from it, as `Usage` says it of snapshots.
    pub fn usage(&self) -> Usage {
        if self.used_by_instance { Usage::Image } else { Usage::None }
    }
}

impl Listed for ImageView {
    fn place(&self) -> (i64, &str) {
        (self.created.as_second(), &self.id)
    }
}

impl Listed for ImageShare {
    fn place(&self) -> (i64, &str) {
        (self.since.as_second(), "")
    }
}
