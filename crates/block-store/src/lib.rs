//! Disks as stacks of copy-on-write layers in plain sparse files.
//!
//! A disk is a *head* (its one writable layer) on a *base* (a sealed layer with its ancestors, or
//! nothing). Resetting it writes one small record into the *ledger*: the next epoch, and the layer
//! of its origin as base. Map words of the old epoch no longer count, so nothing is copied.
//!
//! ```no_run
//! use std::sync::Arc;
//! use block_device::{BlockDevice, ByteLength, ByteOffset, Durability};
//! use block_store::{FileStorage, RequestId, Reset, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let storage = Arc::new(FileStorage::open("/tmp/my-store".as_ref())?);
//! Store::create(&*storage)?;
//! let store = Store::open(storage)?;
//! store.settle_alone()?;
//!
//! let id = "d-1".parse()?;
//! store.create_disk(&id, ByteLength::new(1 << 30), None)?.publish()?;
//! let disk = store.open_disk(&id)?;
//! disk.write_at(&[7; 4096], ByteOffset::ZERO, Durability::ForceUnitAccess)?;
//!
//! let reset = Reset {
//!     disk: id.clone(),
//!     base: None,
//!     request_id: RequestId::from_bytes([1; 16]),
//!     time: std::time::SystemTime::now(),
//! };
//! for receipt in store.reset(&[reset]) {
//!     println!("now in epoch {}", receipt?.epoch_after);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What must always hold: what was flushed survives power loss; a reset is atomic, durable before
//! it is answered, and independent of size, dirt and depth; after it no byte of before is ever
//! read; damage is refused, never served.
//!
//! Left to others: the catalog of resources and rules, exports to clients, the wire.

mod changed_blocks;
mod changed_clusters;
mod checked_sectors;
mod cluster_map;
mod disk;
mod error;
mod file_storage;
mod flush;
mod fsck;
mod geometry;
#[cfg(test)]
mod golden;
mod hash_table;
mod hashing;
mod head;
mod header;
mod histogram;
mod id;
mod image;
mod import;
mod known_damage;
mod known_stretch;
mod layer;
mod layer_files;
mod ledger;
mod ledger_record;
mod lifecycle;
mod lineage;
mod manners;
mod map_sector;
mod mapped_file;
mod names;
mod newest_word;
mod open_layers;
mod owner_builder;
mod owner_file;
mod owner_table;
mod progress;
mod reclaim;
mod recovery;
mod reserve;
mod reset;
mod resolve;
mod root;
mod scrub;
mod sealed_layer;
mod snapshot;
mod space;
mod storage;
mod store;
mod threads;
mod word;
mod worker;

pub use disk::DiskHandle;
pub use error::{CommitError, SnapshotError, StoreError};
pub use file_storage::FileStorage;
pub use fsck::{
    Accepted, CatalogNames, Checked, Finding, FindingKind, Findings, FoundDisk, FoundLayer,
    LostLayer, Rebuild, Repair, RepairMode, RepairState, Repaired, Severity, Survey,
    accept as accept_disk, check as check_structure, repair as repair_structure,
};
pub use header::{LayerKind, LayerLabel};
pub use histogram::{Histogram, HistogramView};
pub use id::{Epoch, InvalidLayerId, LayerId, RequestId, Root};
pub use image::{
    BackingPolicy, ImageError, ImageFormat, ImageSource, UnknownFormat, export_qcow2, export_raw,
    export_vhd,
};
pub use import::StagedLayer;
pub use layer::{LayerFamily, LayerInfo, LayerReader, StagedLayerDelete};
/// The file every store has.
pub use ledger::FILE as LEDGER;
pub use lifecycle::{StagedDelete, StagedDisk};
pub use progress::Progress;
pub use reclaim::{ReclaimPace, Reclaimed};
pub use recovery::{Named, Settled};
pub use reset::{Reset, ResetReceipt};
pub use root::ContentRoot;
pub use scrub::{LastScrub, Scrub, ScrubFinding, ScrubFindingKind, ScrubReport};
pub use space::{DiskSpace, SpaceTotals};
pub use storage::{LockError, Storage, StorageFile, StoreLock};
pub use store::{DiskInfo, Store, StoreCounters, StoreSpace, Written};
