//! What an action takes: the names, types and bounds of its parameters.
//!
//! What must always hold: this is what is served, not a description beside it. An action is handed the
//! parameters it declares and no others, so that none works which `/openapi.json` does not tell.
//! Left to others: reading the values and refusing wrong ones (`parameters`), the document (`openapi`).

/// A parameter of an action. `N` between dots stands for 1, 2, 3 and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// A call without it is refused.
    pub(crate) needed: bool,
    /// It is unknown to requests over TCP.
    pub(crate) for_operator: bool,
}

/// How the value of a parameter is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text; whether it is one of a few values is the action's affair.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number within these bounds.
    Whole(u64, u64),
    /// A size in GiB.
    Gib,
    /// A JSON array of texts.
    Ids,
    /// Texts with commas between them.
    Commas,
    /// A time in UTC.
    Time,
}

/// Parameters that belong together.
pub(super) type Group = &'static [Parameter];

pub(super) const fn text(name: &'static str) -> Parameter {
    Parameter::new(name, Kind::Text, false)
}

pub(super) const fn needed(name: &'static str) -> Parameter {
    Parameter::new(name, Kind::Text, true)
}

pub(super) const fn flag(name: &'static str) -> Parameter {
    Parameter::new(name, Kind::Flag, false)
}

pub(super) const fn whole(name: &'static str, least: u64, most: u64) -> Parameter {
    Parameter::new(name, Kind::Whole(least, most), false)
}

pub(super) const fn gib(name: &'static str) -> Parameter {
    Parameter::new(name, Kind::Gib, false)
}

pub(super) const fn ids(name: &'static str) -> Parameter {
    Parameter::new(name, Kind::Ids, false)
}

pub(super) const fn commas(name: &'static str) -> Parameter {
    Parameter::new(name, Kind::Commas, false)
}

pub(super) const fn moment(name: &'static str) -> Parameter {
    Parameter::new(name, Kind::Time, false)
}

/// Where the reference asks for it. The operator may leave it out.
pub(super) const REGION: Group = &[needed("RegionId")];

pub(super) const TAGS: Group = &[text("Tag.N.Key"), text("Tag.N.Value")];

pub(super) const CREATED: Group = &[text("Filter.N.Key"), moment("Filter.N.Value")];

pub(super) const TOKENS: Group = &[whole("MaxResults", 1, 100), text("NextToken")];

pub(super) const TOKENS_OF_DISKS: Group = &[whole("MaxResults", 1, 500), text("NextToken")];

pub(super) const PAGES: Group = &[whole("PageNumber", 1, u64::MAX), whole("PageSize", 1, 100)];

/// Every action reads it; see `DryRun` in the parent.
pub(crate) const DRY_RUN: Parameter = flag("DryRun");

impl Parameter {
    const fn new(name: &'static str, kind: Kind, needed: bool) -> Self {
        Self { name, kind, needed, for_operator: false }
    }

    /// The same, without which nothing is done.
    pub(super) const fn that_is_needed(self) -> Self {
        Self { needed: true, ..self }
    }

    /// The same, through the control socket only.
    pub(super) const fn of_operator(self) -> Self {
        Self { for_operator: true, ..self }
    }

    /// Whether a request means this one by that name. Some clients write parts of names in lower case.
    pub(crate) fn is_meant_by(&self, name: &str) -> bool {
        let (mut mine, mut theirs) = (self.name.split('.'), name.split('.'));
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) => return true,
                (Some("N"), Some(number)) => {
                    if number.parse::<u32>().is_err() {
                        return false;
                    }
                }
                (Some(part), Some(given)) if part.eq_ignore_ascii_case(given) => {}
                _ => return false,
            }
        }
    }

    /// The name under which a first one is sent.
    pub(crate) fn first_name(&self) -> String {
        let parts = self.name.split('.').map(|part| if part == "N" { "1" } else { part });
        parts.collect::<Vec<_>>().join(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_for_n_only() {
        let tag = text("Tag.N.Key");
        for name in ["Tag.1.Key", "Tag.20.Key", "Tag.1.key"] {
            assert!(tag.is_meant_by(name), "{name}");
        }
        for name in ["Tag.N.Key", "Tag.1", "Tag.1.Key.2", "Tag.x.Key", "Tag.1.Value", ""] {
            assert!(!tag.is_meant_by(name), "{name}");
        }
        assert_eq!(tag.first_name(), "Tag.1.Key");
        assert!(!text("DiskId").is_meant_by("DiskId.1"));
    }
}
