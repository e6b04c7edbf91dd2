//! What an action answers: the names and types of its fields.
//!
//! What must always hold: this is told by `/openapi.json` and is what is answered. An answer holds every
//! field that is told, but for those told to be there at times, and no other; each has the type told. While
//! tests run, whatever an action answers is held against it.
//! Left to others: values (the actions), the request id and the envelope (`response`), the document
//! (`openapi`).

use crate::{front::Door, tree::Tree};

/// A field of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// No answer is without it.
    pub(crate) always: bool,
    /// It is not there for requests over TCP.
    for_operator: bool,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Any text; also a time, an id, a number in text form.
    Text,
    /// A whole number from 0.
    Whole,
    /// A number with a fraction.
    Fraction,
    /// `true` or `false`.
    Flag,
    /// Fields of its own.
    Object(Told),
    /// Objects that repeat under the name of the child.
    List(&'static str, Told),
    /// Texts that do so.
    Texts(&'static str),
}

/// The fields of an answer or of an object in it, group by group.
pub(crate) type Told = &'static [&'static [Field]];

pub(super) const fn text_field(name: &'static str) -> Field {
    Field::new(name, Shape::Text)
}

pub(super) const fn whole_field(name: &'static str) -> Field {
    Field::new(name, Shape::Whole)
}

pub(super) const fn fraction_field(name: &'static str) -> Field {
    Field::new(name, Shape::Fraction)
}

pub(super) const fn flag_field(name: &'static str) -> Field {
    Field::new(name, Shape::Flag)
}

pub(super) const fn object_field(name: &'static str, told: Told) -> Field {
    Field::new(name, Shape::Object(told))
}

pub(super) const fn list_field(name: &'static str, child: &'static str, told: Told) -> Field {
    Field::new(name, Shape::List(child, told))
}

pub(super) const fn texts_field(name: &'static str, child: &'static str) -> Field {
    Field::new(name, Shape::Texts(child))
}

/// What every answer holds besides its own.
pub(crate) const REQUEST_ID: Field = text_field("RequestId");

pub(super) const PAGE: &[Field] =
    &[whole_field("TotalCount"), whole_field("PageNumber"), whole_field("PageSize")];

/// Of a list that is asked for by tokens, whether or not it has numbered pages as well.
pub(super) const NEXT: &[Field] = &[text_field("NextToken")];

pub(super) const TAGS_SHOWN: Field =
    list_field("Tags", "Tag", &[&[text_field("TagKey"), text_field("TagValue")]]);

/// What each row of several is about.
pub(super) const PROGRESS: Field = list_field(
    "OperationProgressSet",
    "OperationProgress",
    &[&[
        text_field("OperationStatus"),
        text_field("ErrorCode"),
        text_field("ErrorMsg"),
        list_field("RelatedItemSet", "RelatedItem", &[&[text_field("Name"), text_field("Value")]]),
    ]],
);

impl Field {
    const fn new(name: &'static str, shape: Shape) -> Self {
        Self { name, shape, always: true, for_operator: false }
    }

    /// The same, which some answers are without.
    pub(super) const fn at_times(self) -> Self {
        Self { always: false, ..self }
    }

    /// The same, through the control socket only.
    pub(super) const fn to_operator(self) -> Self {
        Self { for_operator: true, ..self }
    }
}

/// The fields there are through that door.
pub(crate) fn through(told: Told, door: Door) -> impl Iterator<Item = &'static Field> {
    let all = told.iter().copied().flatten();
    all.filter(move |field| door == Door::Control || !field.for_operator)
}

/// What of an answer is not as it is told, if anything is not.
pub(super) fn check(told: Told, given: &[(&str, Tree)], door: Door) -> Result<(), String> {
    for (name, tree) in given {
        let field = through(told, door).find(|field| field.name == *name);
        let field = field.ok_or_else(|| format!("{name} is not told"))?;
        field.shape.check(tree, door).map_err(|inner| format!("{name}: {inner}"))?;
    }
    for field in through(told, door) {
        match given.iter().filter(|(name, _)| *name == field.name).count() {
            0 if field.always => return Err(format!("{} is missing", field.name)),
            0 | 1 => {}
            _ => return Err(format!("{} comes twice", field.name)),
        }
    }
    Ok(())
}

impl Shape {
    fn check(self, tree: &Tree, door: Door) -> Result<(), String> {
        match (self, tree) {
            (Self::Text, Tree::Text(_))
            | (Self::Whole, Tree::Integer(0..))
            | (Self::Fraction, Tree::Float(_))
            | (Self::Flag, Tree::Boolean(_)) => Ok(()),
            (Self::Object(told), Tree::Object(fields)) => check(told, fields, door),
            (Self::List(name, told), Tree::List { child, items }) if name == *child => {
                items.iter().try_for_each(|item| Self::Object(told).check(item, door))
            }
            (Self::Texts(name), Tree::List { child, items }) if name == *child => {
                items.iter().try_for_each(|item| Self::Text.check(item, door))
            }
            _ => Err(format!("told as {self:?}, answered as {tree:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISKS: Told = &[
        NEXT,
        &[list_field("Disks", "Disk", &[&[text_field("Id"), whole_field("Size").at_times()]])],
    ];

    fn answer(child: &'static str, disk: Vec<(&'static str, Tree)>) -> Vec<(&'static str, Tree)> {
        vec![("NextToken", "".into()), ("Disks", Tree::list(child, [Tree::Object(disk)]))]
    }

    #[test]
    fn what_is_not_as_told_is_found() {
        let check = |given: &[(&str, Tree)]| check(DISKS, given, Door::Public);
        let id = || ("Id", Tree::from("d-1"));
        check(&answer("Disk", vec![id()])).unwrap();
        check(&answer("Disk", vec![id(), ("Size", 1_u64.into())])).unwrap();
        let wrong = [
            answer("disk", vec![id()]),
            answer("Disk", vec![]),
            answer("Disk", vec![id(), id()]),
            answer("Disk", vec![id(), ("Size", "1".into())]),
            answer("Disk", vec![id(), ("Name", "a".into())]),
            vec![("NextToken", "".into())],
            vec![("NextToken", "".into()), ("Disks", Tree::texts("Disk", ["d-1"]))],
        ];
        for given in wrong {
            assert!(check(&given).is_err(), "{given:?}");
        }
    }

    #[test]
    fn what_is_for_the_operator_is_told_to_nobody_else() {
        const TOLD: Told = &[&[text_field("Root").at_times().to_operator()]];
        let given = [("Root", Tree::from(""))];
        check(TOLD, &given, Door::Control).unwrap();
        assert!(check(TOLD, &given, Door::Public).is_err());
        check(TOLD, &[], Door::Public).unwrap();
    }
}
