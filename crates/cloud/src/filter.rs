//! What a Describe action picks out of a list.
//!
//! What must always hold: a filter that names nothing restricts nothing; an id that does not exist is
//! simply not listed.

use std::collections::{BTreeMap, BTreeSet};

use catalog::record::Tags;
use jiff::Timestamp;

use crate::{CloudError, Countable};

/// A tag asked for: the key, and its value if that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFilter {
    /// The key.
    pub key: String,
    /// The value; none = any.
    pub value: Option<String>,
}

/// Tags asked for by how they look: `*` stands for any stretch of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPattern {
    /// The key.
    pub key: String,
    /// Any of these values; none at all = whatever value.
    pub values: Vec<String>,
}

/// Ids in one call.
const MOST_IDS: usize = 100;

pub(crate) fn check_ids(ids: Option<&[String]>, what: Countable) -> Result<(), CloudError> {
    match ids {
        Some(ids) if ids.len() > MOST_IDS => Err(CloudError::TooMany { what, most: MOST_IDS }),
        Some(_) | None => Ok(()),
    }
}

/// The resources asked for: those with the ids, each once, or all.
pub(crate) fn picked<'w, T>(
    all: &'w BTreeMap<String, T>,
    ids: Option<&[String]>,
) -> Box<dyn Iterator<Item = &'w T> + 'w> {
    let Some(ids) = ids else { return Box::new(all.values()) };
    let ids: BTreeSet<_> = ids.iter().cloned().collect();
    Box::new(ids.into_iter().filter_map(|id| all.get(&id)))
}

pub(crate) fn listed(ids: Option<&[String]>, id: &str) -> bool {
    ids.is_none_or(|ids| ids.iter().any(|listed| listed == id))
}

pub(crate) fn equals<T: PartialEq>(asked: Option<&T>, has: &T) -> bool {
    asked.is_none_or(|asked| asked == has)
}

pub(crate) fn equals_text(asked: Option<&str>, has: &str) -> bool {
    asked.is_none_or(|asked| asked == has)
}

pub(crate) fn within(time: Timestamp, from: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    from.is_none_or(|from| time >= from) && until.is_none_or(|until| time <= until)
}

pub(crate) fn tagged(asked: &[TagFilter], tags: &Tags) -> bool {
    asked.iter().all(|filter| {
        tags.get(&filter.key).is_some_and(|value| equals(filter.value.as_ref(), value))
    })
}

/// Each pattern has a tag that looks like it.
pub(crate) fn tagged_like(asked: &[TagPattern], tags: &Tags) -> bool {
    let fits = |pattern: &TagPattern, key: &str, value: &str| {
        let mut values = pattern.values.iter();
        named(Some(&pattern.key), key)
            && (pattern.values.is_empty() || values.any(|wanted| named(Some(wanted), value)))
    };
    asked.iter().all(|pattern| tags.iter().any(|(key, value)| fits(pattern, key, value)))
}

/// Exact, or with `*` for any stretch of characters.
pub(crate) fn named(pattern: Option<&str>, name: &str) -> bool {
    let Some(pattern) = pattern else { return true };
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(place) = rest.find(part) else { return false };
        rest = &rest[place + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_stretch() {
        for (pattern, name, fits) in [
            ("web", "web", true),
            ("web", "web1", false),
            ("web*", "web1", true),
            ("*1", "web1", true),
            ("w*b*1", "web-b1", true),
            ("w*b*b", "web", false),
            ("*", "", true),
            ("**", "x", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(named(Some(pattern), name), fits, "{pattern} {name}");
        }
        assert!(named(None, "anything"));
    }
}
