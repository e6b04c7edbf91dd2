//! The files that an import reads, and what each becomes.
//!
//! What must always hold: every file is open and looked at before anything is recorded; no two disks of an
//! image have the same device.
//! Left to others: the import itself (`import`), names beneath buckets (`bucket`).

use std::collections::BTreeSet;

use block_device::ByteLength;
use block_store::{BackingPolicy, ImageSource, StagedLayer, StoreError};
use catalog::record::{DiskRole, Image, ImageDisk, Snapshot, SnapshotStatus};

use super::{ImportDisk, ImportImage};
use crate::{
    Caller, Cloud, CloudError, Countable, GIB,
    disk::{SYSTEM_DEVICE, free_device},
    ids, texts,
};

/// What an import reads.
pub(super) struct Sources {
    pub(super) system: ImageSource,
    pub(super) data: Vec<DataSource>,
}

/// A data disk that comes with the image.
pub(super) struct DataSource {
    /// Its snapshot is made by the import.
    pub(super) disk: ImageDisk,
    pub(super) source: ImageSource,
}

impl Sources {
    /// Bytes of all disks.
    pub(super) fn size(&self) -> ByteLength {
        let data = self.data.iter().map(|one| one.source.size().get());
        ByteLength::new(data.fold(self.system.size().get(), u64::saturating_add))
    }
}

impl Cloud {
    pub(super) fn data_sources(
        &self,
        caller: &Caller,
        asked: &[ImportDisk],
    ) -> Result<Vec<DataSource>, CloudError> {
        let most = self.inner.settings.data_disks_per_instance;
        if asked.len() > most {
            return Err(CloudError::TooMany { what: Countable::DataDisks, most });
        }
        let devices = devices(asked)?;
        let sources = asked.iter().zip(devices);
        sources.map(|(disk, device)| self.data_source(caller, disk, device)).collect()
    }

    fn data_source(
        &self,
        caller: &Caller,
        asked: &ImportDisk,
        device: String,
    ) -> Result<DataSource, CloudError> {
        let file = self.bucket(caller, &asked.bucket)?.object(&asked.object)?;
        let source = ImageSource::open(file, None, asked.format, BackingPolicy::Refuse);
        let source = source.map_err(StoreError::from)?;
        let size = size_of(asked, &source)?.max(source.size().get());
        let disk = ImageDisk { device, size, snapshot: ids::snapshot()? };
        Ok(DataSource { disk, source })
    }

    /// The snapshot behind a data disk; of no disk, for it counts in the quota of none.
    pub(super) fn snapshot_behind(
        &self,
        image: &Image,
        disk: &ImageDisk,
        staged: &StagedLayer,
    ) -> Snapshot {
        Snapshot {
            id: disk.snapshot.clone(),
            account: image.account.clone(),
            name: String::new(),
            description: String::new(),
            disk: String::new(),
            disk_role: DiskRole::Data,
            size: staged.size().get(),
            layer: Some(staged.layer().to_bytes()),
            root: Some(staged.root().to_bytes()),
            status: SnapshotStatus::Accomplished,
            created: self.now_seconds(),
            encrypted: false,
            tags: Default::default(),
        }
    }
}

pub(super) fn open_source(request: ImportImage) -> Result<ImageSource, CloudError> {
    let ImportImage { file, path, format, backing, .. } = request;
    let source = ImageSource::open(file, path.as_deref(), format, backing);
    Ok(source.map_err(StoreError::from)?)
}

/// The size asked for, which must hold what is in the file; 0 if none is.
pub(super) fn size_of(asked: &ImportDisk, source: &ImageSource) -> Result<u64, CloudError> {
    let Some(size) = asked.size else { return Ok(0) };
    if size < source.size().get() {
        let (gib, least) = (size / GIB, source.size().get().div_ceil(GIB));
        return Err(CloudError::ImageSizeTooSmall { gib, least });
    }
    Ok(size)
}

/// Devices that are asked for are taken before any is chosen.
fn devices(asked: &[ImportDisk]) -> Result<Vec<String>, CloudError> {
    let named = asked.iter().filter_map(|disk| texts::given(disk.device.as_deref()));
    let named: BTreeSet<_> = named.map(str::to_owned).collect();
    let mut taken = BTreeSet::from([SYSTEM_DEVICE.to_owned()]);
    let device = |disk: &ImportDisk| {
        let device = match texts::given(disk.device.as_deref()) {
            Some(device) => free_device(&taken, Some(device))?,
            None => free_device(&taken.union(&named).cloned().collect(), None)?,
        };
        taken.insert(device.clone());
        Ok(device)
    };
    asked.iter().map(device).collect()
}
