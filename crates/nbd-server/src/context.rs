//! The metadata contexts there are (spec: "Metadata querying"): what BLOCK_STATUS can tell of.
//!
//! What must always hold: a name belongs to one number, and a number means the same in every
//! session.
//! Left to others: what a context says of a stretch (`status`).

/// Something BLOCK_STATUS can tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// Whether bytes are stored, and whether they are zeros.
    Allocation,
    /// What the disk changed since it was made, was reset, or had its last snapshot.
    Dirty,
}

/// Contexts that were set for a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contexts(u32);

impl Context {
    pub(crate) const ALL: [Self; 2] = [Self::Allocation, Self::Dirty];

    /// What clients ask for it by.
    pub(crate) fn name(self) -> &'static [u8] {
        self.title().as_bytes()
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Allocation => "base:allocation",
            Self::Dirty => "reinit:dirty",
        }
    }

    /// The number it has in a session.
    pub(crate) fn id(self) -> u32 {
        match self {
            Self::Allocation => 1,
            Self::Dirty => 2,
        }
    }

    /// The context of a number a client was told.
    pub(crate) fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|context| context.id() == id)
    }

    /// Whether a client that lists contexts means this one: by its name, or by its namespace with
    /// nothing behind the colon.
    pub(crate) fn is_listed_by(self, query: &[u8]) -> bool {
        let name = self.name();
        let namespace = name.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
        query == name || query == &name[..namespace]
    }

    fn bit(self) -> u32 {
        1 << self.id()
    }
}

impl Contexts {
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn has(self, context: Context) -> bool {
        self.0 & context.bit() != 0
    }

    pub(crate) fn add(&mut self, context: Context) {
        self.0 |= context.bit();
    }

    /// Those that were set, in the order of their numbers.
    pub(crate) fn iter(self) -> impl Iterator<Item = Context> {
        Context::ALL.into_iter().filter(move |context| self.has(*context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_told_apart() {
        for (place, context) in Context::ALL.into_iter().enumerate() {
            assert_eq!(Context::from_id(context.id()), Some(context));
            let later = &Context::ALL[place + 1..];
            assert!(later.iter().all(|other| other.id() != context.id()));
            assert!(later.iter().all(|other| other.name() != context.name()));
        }
        assert_eq!(Context::from_id(0), None);
    }

    #[test]
    fn a_namespace_lists_its_own() {
        for query in [&b"base:allocation"[..], b"base:"] {
            assert!(Context::Allocation.is_listed_by(query));
        }
        for query in [&b"base"[..], b"base:alloc", b"reinit:", b":", b""] {
            assert!(!Context::Allocation.is_listed_by(query));
        }
        assert!(Context::Dirty.is_listed_by(b"reinit:"));
        assert!(!Context::Dirty.is_listed_by(b"base:"));
    }
}
