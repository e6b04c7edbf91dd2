//! What a sync is for, told from the file's name and from what it holds that is not yet durable.
//!
//! What must always hold: the roles are those of the design's protocols, so that a test can take
//! one promise of one protocol away.
//! Left to others: pretending (`journal`).

/// Bytes of a map file before its words.
const HEADER: u64 = 8192;

/// What a sync makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SyncRole {
    /// A layer's data file that was never synced before.
    NewData,
    /// A layer's data file.
    Data,
    /// A layer's map file that was never synced before.
    NewMap,
    /// A layer's header, and no word.
    MapHeader,
    /// Words of a layer's map.
    MapWords,
    /// A file that holds nothing new.
    Nothing,
    /// The ledger.
    Ledger,
    /// Any other file.
    Other,
    /// The directory of the store.
    RootDirectory,
    /// The directory of all layers.
    LayersDirectory,
    /// The directory of a layer that is being made.
    NewLayerDirectory,
    /// The directory of a layer.
    LayerDirectory,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Other,
    Data,
    Map,
    Ledger,
}

/// What is known of a file: its kind and what is not yet durable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FileFacts {
    kind: Kind,
    was_synced: bool,
    is_dirty: bool,
    has_new_words: bool,
}

impl FileFacts {
    pub(super) fn named(name: &str) -> Self {
        let kind = match name {
            "data" => Kind::Data,
            "map" => Kind::Map,
            // It is made under a name of its own, and renamed.
            name if name.starts_with("ledger") => Kind::Ledger,
            _ => Kind::Other,
        };
        Self { kind, ..Self::default() }
    }

    pub(super) fn written(&mut self, offset: u64) {
        self.is_dirty = true;
        self.has_new_words |= offset >= HEADER;
    }

    pub(super) fn reshaped(&mut self) {
        self.is_dirty = true;
    }

    pub(super) fn synced(&mut self) {
        *self = Self { kind: self.kind, was_synced: true, is_dirty: false, has_new_words: false };
    }

    /// What a sync right now would be for.
    pub(super) fn role(&self) -> SyncRole {
        match (self.kind, self.was_synced) {
            (Kind::Data, false) => SyncRole::NewData,
            (Kind::Map, false) => SyncRole::NewMap,
            _ if !self.is_dirty => SyncRole::Nothing,
            (Kind::Data, true) => SyncRole::Data,
            (Kind::Map, true) if self.has_new_words => SyncRole::MapWords,
            (Kind::Map, true) => SyncRole::MapHeader,
            (Kind::Ledger, _) => SyncRole::Ledger,
            (Kind::Other, _) => SyncRole::Other,
        }
    }
}
