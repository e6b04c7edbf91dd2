//! One tree for every answer, written as JSON or as XML.
//!
//! What must always hold
//! 1. JSON keys come in alphabetical order: one client sets attributes in the order of arrival and
//!    recurses without end when `PublicIpAddress` precedes `EipAddress`.
//! 2. A list is an object that holds its repeated child, in JSON too, whether it has items or not.
//! 3. No text makes the document malformed: characters XML cannot carry are left out.
//!
//! Left to others: envelope and headers (`response`), which fields there are (`actions`).

use quick_xml::{
    Writer,
    events::{BytesEnd, BytesStart, BytesText, Event},
};

/// A value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// Named fields.
    Object(Vec<(&'static str, Tree)>),
    /// Items that repeat under the name of the child.
    List {
        /// The name of each item.
        child: &'static str,
        /// The items.
        items: Vec<Tree>,
    },
    /// A text, also a time.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
    /// A number with a fraction.
    Float(f64),
}

impl Tree {
    /// An object of these fields.
    pub(crate) fn object<const N: usize>(fields: [(&'static str, Tree); N]) -> Self {
        Self::Object(fields.into())
    }

    /// A list whose items are called `child`.
    pub(crate) fn list(child: &'static str, items: impl IntoIterator<Item = Tree>) -> Self {
        Self::List { child, items: items.into_iter().collect() }
    }

    /// A list of texts.
    pub(crate) fn texts<T: Into<String>>(
        child: &'static str,
        items: impl IntoIterator<Item = T>,
    ) -> Self {
        Self::list(child, items.into_iter().map(|item| Self::Text(item.into())))
    }

    /// The JSON text.
    pub(crate) fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write_json(&mut out);
        String::from_utf8(out).expect("names and texts are UTF-8")
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Object(fields) => {
                let mut sorted: Vec<_> = fields.iter().collect();
                sorted.sort_by_key(|(name, _)| *name);
                write_joined(out, *b"{}", sorted, |out, (name, value)| {
                    write_member(out, name, |out| value.write_json(out));
                });
            }
            Self::List { child, items } => {
                out.push(b'{');
                write_member(out, child, |out| {
                    write_joined(out, *b"[]", items, |out, item| item.write_json(out));
                });
                out.push(b'}');
            }
            Self::Text(text) => write_string(out, text),
            Self::Float(number) => out.extend(number_text(*number).bytes()),
            Self::Integer(number) => out.extend(number.to_string().bytes()),
            Self::Boolean(flag) => out.extend(flag.to_string().bytes()),
        }
    }

    /// The XML text of an element that holds this.
    pub(crate) fn to_xml(&self, name: &str) -> String {
        let mut writer = Writer::new(Vec::new());
        self.write_xml(&mut writer, name).expect("writing into memory does not fail");
        String::from_utf8(writer.into_inner()).expect("names and texts are UTF-8")
    }

    fn write_xml(&self, writer: &mut Writer<Vec<u8>>, name: &str) -> std::io::Result<()> {
        writer.write_event(Event::Start(BytesStart::new(name)))?;
        match self {
            Self::Object(fields) => {
                for (field, value) in fields {
                    value.write_xml(writer, field)?;
                }
            }
            Self::List { child, items } => {
                for item in items {
                    item.write_xml(writer, child)?;
                }
            }
            Self::Text(text) => write_text(writer, &carried_by_xml(text))?,
            Self::Float(number) => write_text(writer, &number_text(*number))?,
            Self::Integer(number) => write_text(writer, &number.to_string())?,
            Self::Boolean(flag) => write_text(writer, &flag.to_string())?,
        }
        writer.write_event(Event::End(BytesEnd::new(name)))
    }
}

fn write_member(out: &mut Vec<u8>, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    write_string(out, name);
    out.push(b':');
    value(out);
}

fn write_joined<T>(
    out: &mut Vec<u8>,
    [open, close]: [u8; 2],
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(close);
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing into memory does not fail");
}

/// JSON knows neither infinity nor NaN; a whole number keeps its `.0` so that it stays a fraction.
fn number_text(number: f64) -> String {
    if number.is_finite() { format!("{number:?}") } else { "0.0".into() }
}

fn write_text(writer: &mut Writer<Vec<u8>>, text: &str) -> std::io::Result<()> {
    writer.write_event(Event::Text(BytesText::new(text)))
}

/// What is left of a text when the characters are gone that XML 1.0 cannot carry, escaped or not.
fn carried_by_xml(text: &str) -> String {
    let carried = |c: &char| {
        matches!(c, '\t' | '\n' | '\r') || (*c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}'))
    };
    text.chars().filter(carried).collect()
}

impl From<String> for Tree {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Tree {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Tree {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<bool> for Tree {
    fn from(flag: bool) -> Self {
        Self::Boolean(flag)
    }
}

/// Counts and sizes beyond `i64` do not occur; one that did is shown as the largest there is.
impl From<u64> for Tree {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Tree {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<f64> for Tree {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn disks(items: Vec<Tree>) -> Tree {
        Tree::object([("TotalCount", 1_u64.into()), ("Disks", Tree::list("Disk", items))])
    }

    #[test]
    fn keys_are_sorted_and_lists_stay_lists() {
        let one = Tree::object([("Size", 5_u64.into()), ("Portable", true.into())]);
        assert_eq!(
            disks(vec![one.clone()]).to_json(),
            r#"{"Disks":{"Disk":[{"Portable":true,"Size":5}]},"TotalCount":1}"#
        );
        assert_eq!(disks(vec![]).to_json(), r#"{"Disks":{"Disk":[]},"TotalCount":1}"#);
        assert_eq!(
            disks(vec![one.clone(), one]).to_xml("R"),
            "<R><TotalCount>1</TotalCount><Disks><Disk><Size>5</Size><Portable>true</Portable></Disk>\
             <Disk><Size>5</Size><Portable>true</Portable></Disk></Disks></R>"
        );
        assert_eq!(disks(vec![]).to_xml("R"), "<R><TotalCount>1</TotalCount><Disks></Disks></R>");
    }

    #[test]
    fn texts_are_escaped_and_stripped() {
        let text = Tree::from("a<b>&\"c\"\u{1}数\u{fffe}");
        assert_eq!(text.to_json(), "\"a<b>&\\\"c\\\"\\u0001数\u{fffe}\"");
        assert_eq!(text.to_xml("N"), "<N>a&lt;b&gt;&amp;&quot;c&quot;数</N>");
        assert_eq!(Tree::from(8.0).to_json(), "8.0");
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_json(text in any::<String>()) {
            let tree = Tree::object([("N", text.as_str().into())]);
            let read: serde_json::Value = serde_json::from_str(&tree.to_json()).unwrap();
            prop_assert_eq!(read["N"].as_str(), Some(text.as_str()));
        }

        #[test]
        fn any_text_is_well_formed_xml(text in any::<String>()) {
            let xml = Tree::from(text.as_str()).to_xml("N");
            let inner = xml.strip_prefix("<N>").and_then(|rest| rest.strip_suffix("</N>")).unwrap();
            prop_assert!(!inner.contains(['<', '>']));
            let read = quick_xml::escape::unescape(inner).unwrap();
            prop_assert_eq!(read, carried_by_xml(&text));
        }
    }
}
