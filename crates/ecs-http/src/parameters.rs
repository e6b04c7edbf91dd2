//! The parameters of a request: query and body decoded, merged, and read by name.
//!
//! What must always hold
//! 1. Nothing that was read holds a NUL or is anything but UTF-8; no name comes twice; count and
//!    length are bounded before anything is kept.
//! 2. `+` is a space in the query and in a form, as one client writes it in its URL while it signs
//!    `%20`: signatures are checked over what was decoded here, never over the raw text.
//! 3. What is unknown is kept, because it counts in the signed text, and is otherwise ignored.
//!
//! An empty value is real in the signed text, and means "not given" to an action.
//! Left to others: what the parameters mean (`actions`).

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    body::Bytes,
    http::{HeaderMap, header},
};
use percent_encoding::percent_decode;
use serde_json::Value;

use crate::{limits, refusal::Refusal, signature};

/// Names and values, in the byte order of the names: the order in which they are signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters(BTreeMap<String, String>);

/// What a body holds, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyKind {
    Nothing,
    Form,
    Json,
}

impl Parameters {
    /// Of a query or a form.
    pub(crate) fn of_form(text: &[u8]) -> Result<Self, Refusal> {
        let mut parameters = Self::default();
        for (name, value) in pairs(text) {
            parameters.add(decoded(name)?, decoded(value)?)?;
        }
        Ok(parameters)
    }

    /// Of a body, which only adds parameters when it is a form or, with ACS3, a JSON object.
    pub(crate) fn of_body(headers: &HeaderMap, body: &Bytes) -> Result<Self, Refusal> {
        match body_kind(headers, body)? {
            BodyKind::Nothing => Ok(Self::default()),
            BodyKind::Form => Self::of_form(body),
            BodyKind::Json => Self::of_json(body),
        }
    }

    /// Of a JSON object: `{"SystemDisk": {"Size": 20}, "Tag": [{"Key": "k"}]}` is
    /// `SystemDisk.Size` and `Tag.1.Key`.
    fn of_json(text: &[u8]) -> Result<Self, Refusal> {
        let refused = || Refusal::invalid("The body is not a JSON object.");
        let Ok(Value::Object(fields)) = serde_json::from_slice(text) else { return Err(refused()) };
        let mut parameters = Self::default();
        for (name, value) in fields {
            parameters.add_json(name, value)?;
        }
        Ok(parameters)
    }

    fn add_json(&mut self, name: String, value: Value) -> Result<(), Refusal> {
        match value {
            Value::Null => Ok(()),
            Value::Bool(flag) => self.add(name, flag.to_string()),
            Value::Number(number) => self.add(name, number.to_string()),
            Value::String(text) => self.add(name, text),
            Value::Array(items) => {
                let numbered = items.into_iter().zip(1_u32..);
                numbered
                    .into_iter()
                    .try_for_each(|(item, n)| self.add_json(format!("{name}.{n}"), item))
            }
            Value::Object(fields) => fields
                .into_iter()
                .try_for_each(|(field, value)| self.add_json(format!("{name}.{field}"), value)),
        }
    }

    /// Both, if they name nothing twice.
    pub(crate) fn merged(mut self, other: Self) -> Result<Self, Refusal> {
        for (name, value) in other.0 {
            self.add(name, value)?;
        }
        Ok(self)
    }

    fn add(&mut self, name: String, value: String) -> Result<(), Refusal> {
        if self.0.len() == limits::PARAMETERS {
            return Err(Refusal::invalid("The request holds too many parameters."));
        }
        if name.len() > limits::PARAMETER_NAME_BYTES || value.len() > limits::PARAMETER_VALUE_BYTES
        {
            return Err(Refusal::invalid("A parameter of the request is too long."));
        }
        if name.contains('\0') || value.contains('\0') {
            return Err(Refusal::invalid("A parameter of the request holds a NUL character."));
        }
        if self.0.contains_key(&name) {
            return Err(Refusal::invalid(format!(
                "The parameter {name:?} is given more than once."
            )));
        }
        self.0.insert(name, value);
        Ok(())
    }

    /// All of them, in the order in which they are signed.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Those of these names.
    pub(crate) fn only(&self, names: impl Fn(&str) -> bool) -> Self {
        let some = self.0.iter().filter(|(name, _)| names(name));
        Self(some.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The value as it was given, also an empty one.
    pub(crate) fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value, if there is one that is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    /// As [`Parameters::text`], to keep.
    pub(crate) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    /// The value of a parameter that must be there.
    pub(crate) fn needed(&self, name: &str) -> Result<String, Refusal> {
        self.owned(name).ok_or_else(|| Refusal::missing(name))
    }

    /// `true` or `false`, in any case.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        if text.eq_ignore_ascii_case("true") {
            Ok(Some(true))
        } else if text.eq_ignore_ascii_case("false") {
            Ok(Some(false))
        } else {
            Err(Refusal::invalid(format!("The parameter {name} must be true or false.")))
        }
    }

    /// A whole number.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let refused = |_| Refusal::invalid(format!("The parameter {name} must be a whole number."));
        text.parse().map(Some).map_err(refused)
    }

    /// `Name.1`, `Name.2`, ... in the order of their numbers.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.numbers(name).into_iter().filter_map(|n| self.owned(&format!("{name}.{n}"))).collect()
    }

    /// The numbers N for which there is a `Name.N` or a `Name.N.Something`.
    pub(crate) fn numbers(&self, name: &str) -> BTreeSet<u32> {
        let prefix = format!("{name}.");
        let below = self.0.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        below.filter_map(|(key, _)| key[prefix.len()..].split('.').next()?.parse().ok()).collect()
    }

    /// A JSON array of texts in one value; the Python form with single quotes is taken too.
    pub(crate) fn json_list(&self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let read = |text: &str| serde_json::from_str::<Vec<Value>>(text);
        let refused =
            || Refusal::invalid(format!("The parameter {name} must be a JSON array of ids."));
        let items =
            read(text).or_else(|_| read(&text.replace('\'', "\""))).map_err(|_| refused())?;
        let id = |item: Value| match item {
            Value::String(id) => Ok(id),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => Err(refused()),
        };
        items.into_iter().map(id).collect::<Result<_, _>>().map(Some)
    }

    /// Texts with commas between them.
    pub(crate) fn comma_list(&self, name: &str) -> Option<Vec<String>> {
        let items = self.text(name)?.split(',').map(str::trim).filter(|item| !item.is_empty());
        Some(items.map(str::to_owned).collect())
    }

    /// `Tag.N.Key` and `Tag.N.Value`, also in the old lower-case spelling. An absent value is empty;
    /// a value without a key has an empty key, which no rule takes.
    pub(crate) fn tags(&self) -> Vec<(String, String)> {
        let either = |n: u32, upper: &str, lower: &str| {
            let given = self.raw(&format!("Tag.{n}.{upper}"));
            given.or_else(|| self.raw(&format!("Tag.{n}.{lower}"))).map(str::to_owned)
        };
        self.numbers("Tag")
            .into_iter()
            .map(|n| {
                let key = either(n, "Key", "key").unwrap_or_default();
                (key, either(n, "Value", "value").unwrap_or_default())
            })
            .collect()
    }
}

/// The value of one parameter of a query or form, as far as it can be read at all; for what must be
/// known of a request that is refused.
pub(crate) fn peek(text: &[u8], name: &str) -> Option<String> {
    let (_, value) = pairs(text).find(|(found, _)| *found == name.as_bytes())?;
    decoded(value).ok()
}

/// The bytes of a form, if the body is one.
pub(crate) fn form_of<'b>(headers: &HeaderMap, body: &'b Bytes) -> Option<&'b [u8]> {
    matches!(body_kind(headers, body), Ok(BodyKind::Form)).then_some(body)
}

fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        (halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
    })
}

fn decoded(text: &[u8]) -> Result<String, Refusal> {
    let spaced: Vec<u8> =
        text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let bytes = percent_decode(&spaced).collect();
    String::from_utf8(bytes)
        .map_err(|_| Refusal::invalid("A parameter of the request is not UTF-8."))
}

fn body_kind(headers: &HeaderMap, body: &Bytes) -> Result<BodyKind, Refusal> {
    if body.is_empty() {
        return Ok(BodyKind::Nothing);
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Refusal::media_type("The body must not be compressed."));
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Ok(BodyKind::Form)
    } else if essence.eq_ignore_ascii_case("application/json") && signature::is_acs3(headers) {
        Ok(BodyKind::Json)
    } else {
        Err(Refusal::media_type("The body must be a form (application/x-www-form-urlencoded)."))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Parameters {
        Parameters::of_form(text.as_bytes()).unwrap()
    }

    fn code(text: &[u8]) -> &'static str {
        Parameters::of_form(text).unwrap_err().code
    }

    #[test]
    fn plus_and_percent_decode_alike() {
        let parameters = read("a=x+y%20z%2B&b=&=c&数=%E6%95%B0&&e");
        assert_eq!(parameters.raw("a"), Some("x y z+"));
        assert_eq!(parameters.raw("b"), Some(""));
        assert_eq!(parameters.text("b"), None);
        assert_eq!(parameters.raw(""), Some("c"));
        assert_eq!(parameters.raw("数"), Some("数"));
        assert_eq!(parameters.raw("e"), Some(""));
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        assert_eq!(code(b"a=%FF"), "InvalidParameter");
        assert_eq!(code(b"a=\xff"), "InvalidParameter");
        assert_eq!(code(b"a=%00"), "InvalidParameter");
        assert_eq!(code(b"a%00=1"), "InvalidParameter");
        assert_eq!(code(b"a=1&a=1"), "InvalidParameter");
        assert_eq!(code(b"a=1&%61=2"), "InvalidParameter");
        let long = format!("a={}", "x".repeat(limits::PARAMETER_VALUE_BYTES + 1));
        assert_eq!(code(long.as_bytes()), "InvalidParameter");
        let many: String = (0..=limits::PARAMETERS).map(|n| format!("p{n}=&")).collect();
        assert_eq!(code(many.as_bytes()), "InvalidParameter");
        assert!(read("a=1").merged(read("a=1")).is_err());
    }

    #[test]
    fn a_hundred_thousand_parameters_are_refused_at_once() {
        let many: String = (0..100_000).map(|n| format!("p{n}=v&")).collect();
        let before = std::time::Instant::now();
        assert_eq!(code(many.as_bytes()), "InvalidParameter");
        assert!(before.elapsed().as_millis() < 100);
    }

    #[test]
    fn lists_are_ordered_by_number() {
        let ids = read("Id.10=j&Id.2=b&Id.1=a&Id.x=no&Idx.1=no");
        assert_eq!(ids.list("Id"), ["a", "b", "j"]);
        let nested = read("DataDisk.1.Size=5&DataDisk.3.Size=6");
        assert_eq!(nested.numbers("DataDisk").into_iter().collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn tags_in_both_spellings() {
        let tags =
            read("Tag.1.Key=k&Tag.1.Value=v&Tag.2.key=old&Tag.2.value=&Tag.3.Value=x").tags();
        let expected = [("k", "v"), ("old", ""), ("", "x")];
        assert_eq!(tags, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn json_lists_tolerate_single_quotes_and_nothing_else() {
        let list = |text: &str| read(&format!("Ids={text}")).json_list("Ids");
        assert_eq!(list("[\"d-1\", \"d-2\"]").unwrap().unwrap(), ["d-1", "d-2"]);
        assert_eq!(list("['s-1']").unwrap().unwrap(), ["s-1"]);
        assert_eq!(list("[]").unwrap().unwrap(), [""; 0]);
        assert_eq!(list("").unwrap(), None);
        assert!(list("d-1").is_err());
        assert!(list("[1]").is_err());
        assert!(list(&"[".repeat(60_000)).is_err());
    }

    #[test]
    fn booleans_and_numbers_are_texts() {
        let parameters = read("t=True&f=FALSE&x=yes&n=20&big=99999999999999999999");
        assert_eq!(parameters.flag("t").unwrap(), Some(true));
        assert_eq!(parameters.flag("f").unwrap(), Some(false));
        assert_eq!(parameters.flag("none").unwrap(), None);
        assert!(parameters.flag("x").is_err());
        assert_eq!(parameters.number::<u64>("n").unwrap(), Some(20));
        assert!(parameters.number::<u64>("big").is_err());
        assert!(parameters.number::<u64>("x").is_err());
    }

    #[test]
    fn a_json_body_is_flattened() {
        let body =
            br#"{"A":null,"SystemDisk":{"Size":20},"Tag":[{"Key":"k"}],"Force":true,"S":"t"}"#;
        let expected = read("SystemDisk.Size=20&Tag.1.Key=k&Force=true&S=t");
        assert_eq!(Parameters::of_json(body).unwrap(), expected);
        assert!(Parameters::of_json(b"[1]").is_err());
        assert!(
            Parameters::of_json(format!("{{\"a\":{}", "[".repeat(100_000)).as_bytes()).is_err()
        );
    }

    #[test]
    fn a_body_that_is_neither_form_nor_json_is_refused() {
        let of = |content_type: &'static str, coding: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", content_type.parse().unwrap());
            headers.insert("content-encoding", coding.parse().unwrap());
            Parameters::of_body(&headers, &Bytes::from_static(b"a=1"))
        };
        assert!(of("application/x-www-form-urlencoded; charset=UTF-8", "identity").is_ok());
        assert_eq!(of("application/x-www-form-urlencoded", "gzip").unwrap_err().status, 415);
        assert_eq!(of("multipart/form-data; boundary=x", "identity").unwrap_err().status, 415);
        assert_eq!(of("text/xml", "identity").unwrap_err().status, 415);
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_parser(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(parameters) = Parameters::of_form(&text) {
                prop_assert!(parameters.iter().all(|(n, v)| !n.contains('\0') && !v.contains('\0')));
                let _ = (parameters.tags(), parameters.list("a"));
            }
            let _ = (Parameters::of_json(&text), peek(&text, "Format"));
        }

        #[test]
        fn any_text_survives_the_way_through_a_form(name in "[^\0]{1,20}", value in "[^\0]{0,40}") {
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let form = format!("{}={}", encode(&name), encode(&value));
            let parameters = read(&form);
            prop_assert_eq!(parameters.raw(&name), Some(value.as_str()));
        }
    }
}
