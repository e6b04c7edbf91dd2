//! The files of a layer: `layers/<id>/{data,map}`, its marks, and the name of its `owners`.
//!
//! What must always hold
//! 1. A layer's directory appears under its name only once all it was made with is durable:
//!    temporary name, sized, synced, renamed, directory synced.
//! 2. A layer whose fate is open carries a mark (an empty file `unfinished` or `deleting`); start
//!    asks whoever names layers, and finishes or undoes. A layer without a mark is never swept.
//! 3. `<id>.new` and `<id>.old` are never layers: nothing names them, start removes them.
//!
//! Left to others: who names layers (`names`, `recovery`), what the files hold.

use std::{io, sync::Arc};

use block_device::CLUSTER;

use crate::{
    error::StoreError,
    header::{Header, LayerKind, LayerLabel, LayerState, StoredHeader},
    id::LayerId,
    storage::{Storage, StorageFile},
};

/// The directory of all layers.
pub(crate) const LAYERS: &str = "layers";
/// The owner table of a sealed layer, derived.
const OWNERS: &str = "owners";
pub(crate) const OWNERS_UNFINISHED: &str = "owners.new";
/// How much of a dead file is given back to the file system in one step, in bytes.
const STEP: u64 = 64 << 20;

/// Why a layer's fate is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It was made, and is not yet known to be named by anybody.
    Unfinished,
    /// It is to be removed once nobody uses it.
    Deleting,
}

impl Mark {
    fn file_name(self) -> &'static str {
        match self {
            Self::Unfinished => "unfinished",
            Self::Deleting => "deleting",
        }
    }
}

/// The open files of a layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerFiles {
    pub(crate) layer: LayerId,
    pub(crate) data: Arc<dyn StorageFile>,
    pub(crate) map: Arc<dyn StorageFile>,
}

impl LayerFiles {
    /// Makes the files of a new layer under a temporary name, marked as unfinished.
    pub(crate) fn create(
        storage: &dyn Storage,
        header: Header,
    ) -> Result<(Self, StoredHeader), StoreError> {
        let (layer, geometry) = (header.layer, header.geometry);
        let directory = new_directory(layer);
        let made = (|| {
            storage.create_dir(&directory)?;
            storage.create(&format!("{directory}/{}", Mark::Unfinished.file_name()))?;
            let data = storage.create(&format!("{directory}/data"))?;
            data.set_len(geometry.size())?;
            let map = storage.create(&format!("{directory}/map"))?;
            map.set_len(geometry.words_end())?;
            Ok(Self { layer, data, map })
        })();
        let stored = made
            .map_err(StoreError::io(format!("making layer {layer}")))
            .and_then(|files| Ok((StoredHeader::create(&*files.map, header)?, files)));
        match stored {
            Ok((stored, files)) => Ok((files, stored)),
            Err(error) => {
                remove_tree(storage, &directory);
                Err(error)
            }
        }
    }

    /// Makes a new layer durable under its own name.
    pub(crate) fn finish(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        let directory = new_directory(self.layer);
        let finished = (|| {
            self.data.sync_data()?;
            self.map.sync_data()?;
            storage.sync_dir(&directory)?;
            storage.rename(&directory, &directory_of(self.layer))?;
            storage.sync_dir(LAYERS)
        })();
        finished.map_err(|error| {
            remove_tree(storage, &directory);
            StoreError::io(format!("making layer {} durable", self.layer))(error)
        })
    }

    /// Opens the files of a layer.
    pub(crate) fn open(storage: &dyn Storage, layer: LayerId) -> Result<Self, StoreError> {
        Self::open_with(layer, |path| storage.open(path))
    }

    /// Opens the files of a layer for who only looks.
    pub(crate) fn open_to_read(storage: &dyn Storage, layer: LayerId) -> Result<Self, StoreError> {
        Self::open_with(layer, |path| storage.open_to_read(path))
    }

    fn open_with(layer: LayerId, opener: impl Fn(&str) -> Opened) -> Result<Self, StoreError> {
        Ok(Self { layer, data: open(layer, "data", &opener)?, map: open(layer, "map", &opener)? })
    }

    /// Makes sure that what is read of the map from now on is what the device holds, not what a
    /// killed process left in the cache.
    pub(crate) fn believe_only_the_device(&self) -> Result<(), StoreError> {
        let settled = self.map.sync_data().and_then(|()| self.map.drop_cache());
        settled.map_err(StoreError::io(format!("syncing the map of layer {}", self.layer)))
    }

    /// The same for the data of a layer that was not synced before it was sealed: a failed sync of
    /// an earlier process may have left pages that look clean and were never written.
    pub(crate) fn believe_only_the_device_of_data(&self) -> Result<(), StoreError> {
        let settled = self.data.sync_data().and_then(|()| self.data.drop_cache());
        settled.map_err(StoreError::io(format!("syncing the data of layer {}", self.layer)))
    }

    /// Checks that the files are as long as the header says: a sealed layer's exactly, a head's
    /// at least (growing it may have been cut short).
    pub(crate) fn check_lengths(&self, header: &Header) -> Result<(), StoreError> {
        let length = |file: &Arc<dyn StorageFile>| {
            file.length().map_err(StoreError::io(format!("measuring layer {}", self.layer)))
        };
        let (data, map) = (length(&self.data)?, length(&self.map)?);
        let size = header.geometry.size();
        let fits = match header.state {
            LayerState::Sealed => data == size,
            LayerState::Open => data >= size,
        };
        if fits && map >= header.geometry.words_end() {
            return Ok(());
        }
        let detail =
            format!("its files have {data} and {map} bytes, too few or too many for {size}");
        Err(StoreError::damaged(format!("layer {}", self.layer), detail))
    }
}

/// An open file, or why there is none.
type Opened = io::Result<Arc<dyn StorageFile>>;

/// Opens the map of a layer alone, to look at its header.
pub(crate) fn open_map(
    storage: &dyn Storage,
    layer: LayerId,
) -> Result<Arc<dyn StorageFile>, StoreError> {
    open(layer, "map", |path| storage.open_to_read(path))
}

fn open(
    layer: LayerId,
    name: &str,
    opener: impl Fn(&str) -> Opened,
) -> Result<Arc<dyn StorageFile>, StoreError> {
    opener(&format!("{}/{name}", directory_of(layer))).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            StoreError::damaged(format!("layer {layer}"), format!("its {name} is missing"))
        }
        io::ErrorKind::InvalidData => {
            StoreError::damaged(format!("layer {layer}"), format!("its {name} is {error}"))
        }
        _ => StoreError::io(format!("opening the {name} of layer {layer}"))(error),
    })
}

/// Whether a layer's directory may hold a file of this name: the one list of them.
pub(crate) fn is_known(name: &str) -> bool {
    let marks = [Mark::Unfinished, Mark::Deleting].map(Mark::file_name);
    ["data", "map", OWNERS, OWNERS_UNFINISHED].contains(&name) || marks.contains(&name)
}

/// The label of a head: no resource stands for it.
pub(crate) fn head_label() -> LayerLabel {
    LayerLabel {
        kind: LayerKind::Head,
        id: String::new(),
        account: String::new(),
        name: String::new(),
    }
}

/// Whether the layer still has its directory; when that cannot be told, it has.
pub(crate) fn is_there(storage: &dyn Storage, layer: LayerId) -> bool {
    storage.exists(&directory_of(layer)).unwrap_or(true)
}

/// Whether the layer has the mark.
pub(crate) fn has_mark(storage: &dyn Storage, layer: LayerId, mark: Mark) -> io::Result<bool> {
    storage.exists(&mark_of(layer, mark))
}

/// Puts the mark on the layer, durably.
pub(crate) fn mark(storage: &dyn Storage, layer: LayerId, mark: Mark) -> Result<(), StoreError> {
    let marked = match storage.create(&mark_of(layer, mark)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    };
    marked
        .and_then(|()| storage.sync_dir(&directory_of(layer)))
        .map_err(StoreError::io(format!("marking layer {layer}")))
}

/// Takes the mark off the layer, durably.
pub(crate) fn unmark(storage: &dyn Storage, layer: LayerId, mark: Mark) -> Result<(), StoreError> {
    let unmarked = match storage.remove_file(&mark_of(layer, mark)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other,
    };
    unmarked
        .and_then(|()| storage.sync_dir(&directory_of(layer)))
        .map_err(StoreError::io(format!("unmarking layer {layer}")))
}

/// Takes the name of a layer away, durably, and answers what its directory is called now.
pub(crate) fn take_name(
    storage: &dyn Storage,
    layer: LayerId,
) -> Result<Option<String>, StoreError> {
    let remains = format!("{LAYERS}/{layer}.old");
    let renamed = match storage.rename(&directory_of(layer), &remains) {
        // Perhaps by a killed process, and not durable yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(|()| Some(remains)),
    };
    renamed
        .and_then(|remains| storage.sync_dir(LAYERS).map(|()| remains))
        .map_err(StoreError::io(format!("removing layer {layer}")))
}

/// Gives a part of the space of a directory that is no layer back, and removes it when there is
/// nothing left; answers whether it did. Freeing much at once stalls others on a file system that
/// discards.
pub(crate) fn remove_a_part(storage: &dyn Storage, directory: &str) -> bool {
    if storage
        .open(&format!("{directory}/data"))
        .and_then(|data| punch_a_part(&*data))
        .is_ok_and(|more| more)
    {
        return false;
    }
    remove_tree(storage, directory);
    true
}

/// Punches the first stretch that holds data, and answers whether there may be more. Where a file
/// system does not make a hole of it, there is no use in going on.
fn punch_a_part(data: &dyn StorageFile) -> io::Result<bool> {
    let Some(held) = data.next_data(0)? else { return Ok(false) };
    let end = held.end.min(held.start + STEP).next_multiple_of(CLUSTER);
    data.punch_hole(held.start..end)?;
    Ok(data.next_data(0)?.is_some_and(|next| next.start > held.start))
}

/// Removes a layer's directory under whatever name; what cannot be removed is left to the next
/// start, which tries again.
pub(crate) fn remove_tree(storage: &dyn Storage, directory: &str) {
    let removed = (|| {
        for name in storage.list(directory)? {
            storage.remove_file(&format!("{directory}/{name}"))?;
        }
        storage.remove_dir(directory)
    })();
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(directory, %error, "could not remove what is left of a layer");
        }
        _ => {}
    }
}

/// What a name in the directory of all layers stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Layer(LayerId),
    /// Something half made or half removed.
    Remains(String),
    /// Nothing of ours.
    Foreign(String),
}

/// All names in the directory of layers.
pub(crate) fn entries(storage: &dyn Storage) -> Result<Vec<Entry>, StoreError> {
    let names = storage.list(LAYERS).map_err(StoreError::io("listing the layers"))?;
    Ok(names.into_iter().map(Entry::of).collect())
}

impl Entry {
    fn of(name: String) -> Self {
        let half = name.strip_suffix(".new").or_else(|| name.strip_suffix(".old"));
        if let Ok(layer) = name.parse() {
            Self::Layer(layer)
        } else if half.is_some_and(|half| half.parse::<LayerId>().is_ok()) {
            Self::Remains(format!("{LAYERS}/{name}"))
        } else {
            Self::Foreign(name)
        }
    }
}

/// Where the owner table of a layer lies, if it has one.
pub(crate) fn owners_of(layer: LayerId) -> String {
    format!("{LAYERS}/{layer}/{OWNERS}")
}

/// Where an owner table is made.
pub(crate) fn unfinished_owners_of(layer: LayerId) -> String {
    format!("{LAYERS}/{layer}/{OWNERS_UNFINISHED}")
}

pub(crate) fn directory_of(layer: LayerId) -> String {
    format!("{LAYERS}/{layer}")
}

fn new_directory(layer: LayerId) -> String {
    format!("{LAYERS}/{layer}.new")
}

fn mark_of(layer: LayerId, mark: Mark) -> String {
    format!("{LAYERS}/{layer}/{}", mark.file_name())
}
