//! What a disk goes back to, resolved to layers.
//!
//! Left to others: which image or snapshot a disk came from and whether it still exists (`cloud`).

use block_store::LayerId;

/// What a disk goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// All zeros.
    Empty,
    /// The content of an image.
    Image(LayerId),
    /// The content of a snapshot; one of an empty disk has no layer.
    Snapshot(Option<LayerId>),
}

impl Source {
    /// The layer the disk will stand on.
    pub fn layer(self) -> Option<LayerId> {
        match self {
            Self::Empty => None,
            Self::Image(layer) => Some(layer),
            Self::Snapshot(layer) => layer,
        }
    }
}
