//! One page of a list, by page number or by token.
//!
//! What must always hold: a page past the end is empty, never an error; the order of a list is that
//! of creation, newest first, then of the id, so that pages neither repeat nor lose an item that
//! lives through the whole walk when walked by token.
//! Left to others: which of the two a client asked for (`ecs-http`).

use serde::Serialize;

use crate::{CloudError, Field};

/// Which page of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Paging {
    /// `PageNumber` (from 1) and `PageSize` (1 to 100).
    Number {
        /// From 1.
        number: u64,
        /// Items on a page.
        size: u64,
    },
    /// `MaxResults` and `NextToken`.
    Token {
        /// The most items in the answer.
        most: u64,
        /// From the answer before; none for the first.
        after: Option<String>,
    },
    /// Everything at once; for the operator.
    All,
}

impl Default for Paging {
    fn default() -> Self {
        Self::Number { number: 1, size: 10 }
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: u64,
    /// The number of this page.
    pub number: u64,
    /// How many fit a page.
    pub size: u64,
    /// What to ask for next; empty at the end and when asked by number.
    pub next_token: String,
}

/// What places an item in its list.
pub(crate) trait Listed {
    /// Seconds since 1970, and the id.
    fn place(&self) -> (i64, &str);
}

const MOST_BY_NUMBER: u64 = 100;
const MOST_BY_TOKEN: u64 = 500;

impl<T> Page<T> {
    /// The same page of something else.
    pub(crate) fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        let Self { items, total, number, size, next_token } = self;
        let items = items.into_iter().map(change).collect();
        Page { items, total, number, size, next_token }
    }
}

impl<T: Listed> Listed for &T {
    fn place(&self) -> (i64, &str) {
        (**self).place()
    }
}

impl Paging {
    pub(crate) fn check(&self) -> Result<(), CloudError> {
        let outside = |field, value: u64| {
            Err(CloudError::ValueNotSupported { field, value: value.to_string() })
        };
        match self {
            Self::Number { number: 0, .. } => outside(Field::PageNumber, 0),
            Self::Number { size, .. } if !(1..=MOST_BY_NUMBER).contains(size) => {
                outside(Field::PageSize, *size)
            }
            Self::Token { most, .. } if !(1..=MOST_BY_TOKEN).contains(most) => {
                outside(Field::MaxResults, *most)
            }
            Self::Token { after: Some(token), .. } if parse(token).is_none() => {
                Err(CloudError::ValueNotSupported { field: Field::NextToken, value: token.clone() })
            }
            Self::Number { .. } | Self::Token { .. } | Self::All => Ok(()),
        }
    }

    /// Counts, cuts and sorts. The paging was checked.
    pub(crate) fn cut<T: Listed>(&self, mut items: Vec<T>) -> Page<T> {
        let total = count(items.len());
        match self {
            Self::All => {
                let items = stretch(items, 0, usize::MAX);
                Page { items, total, number: 1, size: total, next_token: String::new() }
            }
            Self::Number { number, size } => {
                let skip = length((number - 1).saturating_mul(*size));
                let items = stretch(items, skip, length(*size));
                Page { items, total, number: *number, size: *size, next_token: String::new() }
            }
            Self::Token { most, after } => {
                if let Some(after) = after.as_deref().and_then(parse) {
                    items.retain(|item| item.place() < after);
                }
                let more = items.len() > length(*most);
                let items = stretch(items, 0, length(*most));
                let last = items.last().filter(|_| more);
                let next_token = last.map_or_else(String::new, |item| token(item.place()));
                Page { items, total, number: 1, size: *most, next_token }
            }
        }
    }
}

/// What lies at these places of the sorted list, sorted. The rest is not: a page of a long list costs
/// no more than looking at each item a few times.
fn stretch<T: Listed>(mut items: Vec<T>, skip: usize, take: usize) -> Vec<T> {
    let newest_first = |a: &T, b: &T| b.place().cmp(&a.place());
    if skip >= items.len() {
        return Vec::new();
    }
    if skip > 0 {
        items.select_nth_unstable_by(skip, newest_first);
        items.drain(..skip);
    }
    if take < items.len() {
        items.select_nth_unstable_by(take, newest_first);
        items.truncate(take);
    }
    items.sort_unstable_by(newest_first);
    items
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn length(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn token((created, id): (i64, &str)) -> String {
    format!("{created}.{id}")
}

fn parse(token: &str) -> Option<(i64, &str)> {
    let (created, id) = token.split_once('.')?;
    Some((created.parse().ok()?, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Listed for (i64, String) {
        fn place(&self) -> (i64, &str) {
            (self.0, &self.1)
        }
    }

    fn list() -> Vec<(i64, String)> {
        (0..7).map(|n| (n / 2, format!("d-{n}"))).collect()
    }

    #[test]
    fn every_page_is_its_stretch_of_the_sorted_list() {
        let mixed: Vec<_> =
            (0..97_i64).map(|n| (n * 31 % 7, format!("d-{}", n * 53 % 97))).collect();
        let mut sorted = mixed.clone();
        sorted.sort();
        sorted.reverse();
        assert_eq!(Paging::All.cut(mixed.clone()).items, sorted);
        for size in [1, 2, 10, 96, 97, 98] {
            for (number, expected) in (1..).zip(sorted.chunks(length(size))) {
                let page = Paging::Number { number, size }.cut(mixed.clone());
                assert_eq!(
                    (page.items.as_slice(), page.total),
                    (expected, 97),
                    "{number} of {size}"
                );
            }
        }
    }

    #[test]
    fn a_page_past_the_end_is_empty() {
        let page = Paging::Number { number: 9, size: 10 }.cut(list());
        assert!(page.items.is_empty());
        assert_eq!(page.total, 7);
    }

    #[test]
    fn tokens_walk_the_whole_list_once() {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = Paging::Token { most: 2, after }.cut(list());
            seen.extend(page.items.into_iter().map(|(_, id)| id));
            if page.next_token.is_empty() {
                break;
            }
            after = Some(page.next_token);
        }
        assert_eq!(seen, ["d-6", "d-5", "d-4", "d-3", "d-2", "d-1", "d-0"]);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(Paging::Number { number: 0, size: 10 }.check().is_err());
        assert!(Paging::Number { number: 1, size: 101 }.check().is_err());
        assert!(Paging::Token { most: 1, after: Some("x".into()) }.check().is_err());
    }
}
