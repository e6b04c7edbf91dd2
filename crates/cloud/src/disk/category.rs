//! The categories of disks on offer.
//!
//! What must always hold: a local or ephemeral category has no initial state to go back to: it lives
//! and dies with its instance, takes no snapshot and no reset.
//! All of them lie in the same store here; the difference is what a client may do with them.

/// One category.
#[derive(Debug)]
pub(crate) struct Category {
    /// As in the API.
    pub(crate) name: &'static str,
    /// The smallest a key may ask for.
    pub(crate) least_gib: u64,
    /// The largest a key may ask for.
    pub(crate) most_gib: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Any disk.
    Cloud,
    /// A data disk, also one made by itself.
    Elastic,
    /// A data disk made with its instance.
    Local,
}

/// The category of a disk made by itself, unless another is asked for.
pub(crate) const DEFAULT: &str = "cloud";
/// The same of a system disk.
pub(crate) const DEFAULT_SYSTEM: &str = "cloud_efficiency";

const ALL: &[Category] = &[
    of("cloud", 5, 2000, Kind::Cloud),
    of("cloud_efficiency", 20, 32768, Kind::Cloud),
    of("cloud_ssd", 20, 32768, Kind::Cloud),
    of("cloud_essd", 20, 32768, Kind::Cloud),
    of("cloud_auto", 1, 32768, Kind::Cloud),
    of("cloud_essd_entry", 10, 32768, Kind::Cloud),
    of("elastic_ephemeral_disk_standard", 64, 8192, Kind::Elastic),
    of("elastic_ephemeral_disk_premium", 64, 8192, Kind::Elastic),
    of("ephemeral_ssd", 5, 800, Kind::Local),
    of("local_ssd_pro", 5, 16384, Kind::Local),
    of("local_hdd_pro", 5, 16384, Kind::Local),
];

const fn of(name: &'static str, least_gib: u64, most_gib: u64, kind: Kind) -> Category {
    Category { name, least_gib, most_gib, kind }
}

impl Category {
    /// The category of that name.
    pub(crate) fn of(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|category| category.name == name)
    }

    /// The names of all that a zone offers.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|category| category.name)
    }

    /// Whether it has no initial state to go back to.
    pub(crate) fn is_ephemeral(&self) -> bool {
        self.kind != Kind::Cloud
    }

    /// Whether a system disk may be of it.
    pub(crate) fn fits_system(&self) -> bool {
        self.kind == Kind::Cloud
    }

    /// Whether a disk of it may be made by itself.
    pub(crate) fn fits_alone(&self) -> bool {
        self.kind != Kind::Local
    }
}
