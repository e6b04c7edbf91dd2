//! Holds whatever the front answers against the `/openapi.json` it serves.
//!
//! What must always hold: nothing of a document is passed over. A word of a schema that is not known here
//! fails the test, and so does a field, a status or a code that the document does not tell.
//!
//! JSON and XML are held against one schema: XML is read as that schema says it must be.

use std::sync::OnceLock;

use quick_xml::{Reader, escape::resolve_predefined_entity, events::Event};
use serde_json::{Map, Value, json};

use crate::harness::{Answer, Service};

/// Through which a request comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Public,
    Control,
}

/// As a service of its own serves it, whose limits no test has narrowed.
pub fn document(door: Door) -> &'static Value {
    static SERVED: OnceLock<[Value; 2]> = OnceLock::new();
    let [public, control] = SERVED.get_or_init(|| {
        let service = Service::start();
        [service.get("/openapi.json").json(), service.operator_page("/openapi.json").json()]
    });
    match door {
        Door::Public => public,
        Door::Control => control,
    }
}

/// Fails the test unless the answer is one that is told of that action. The document in it, unless it is
/// some other page.
pub fn hold(door: Door, action: Option<&str>, answer: &Answer) -> Option<Value> {
    let format = Format::of(answer)?;
    // A panic, above all that of an action that answers or refuses with what its table does not tell.
    assert_ne!(answer.status, 500, "{action:?}: {answer:?}");
    let document = document(door);
    let path = format!("/?Action={}", action.unwrap_or_default());
    let told = match document["paths"].get(&path) {
        Some(item) => followed(document, &item["post"]["responses"][answer.status.to_string()]),
        None => {
            assert!(is_of_any(document, answer), "not told of any action: {answer:?}");
            return None;
        }
    };
    let schema = &told["content"][format.media_type()]["schema"];
    assert!(schema.is_object(), "{action:?} is not told to answer {}: {answer:?}", answer.status);
    let value = format.read(document, schema, action.unwrap_or_default(), answer);
    if let Err(wrong) = check(document, schema, &value) {
        panic!("{action:?} answers what is not told: {wrong}: {answer:?}");
    }
    Some(value)
}

/// Whether a refusal is told of some action, or of a request that comes to none.
fn is_of_any(document: &Value, answer: &Answer) -> bool {
    let (code, status) = answer.refusal();
    let mut actions = document["paths"].as_object().unwrap().values();
    let of_none = document["info"]["description"].as_str().unwrap();
    of_none.contains(&format!("{code} ({status})"))
        || actions.any(|item| {
            codes_of(document, &item["post"]["responses"][status.to_string()]).contains(&code)
        })
}

/// The codes of a refusal, as a response tells them.
pub fn codes_of(document: &Value, response: &Value) -> Vec<String> {
    let response = followed(document, response);
    let codes =
        &response["content"]["application/json"]["schema"]["allOf"][1]["properties"]["Code"];
    let codes = codes["enum"].as_array().into_iter().flatten();
    codes.map(|code| code.as_str().unwrap().to_owned()).collect()
}

/// The action a request asks for, as the front finds it; with another method it comes to none.
pub fn action_of(request: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(request);
    if !text.starts_with("GET ") && !text.starts_with("POST ") {
        return None;
    }
    let signed_by_header = text.contains("\r\nAuthorization: ACS3");
    let mark = if signed_by_header { "x-acs-action: " } else { "Action=" };
    let before = |at: usize| text[..at].chars().next_back();
    let found =
        text.match_indices(mark).find(|(at, _)| matches!(before(*at), Some('?' | '&' | '\n')));
    let rest = &text[found?.0 + mark.len()..];
    rest.split(['&', ' ', '\r']).next().map(str::to_owned)
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Json,
    Xml,
}

impl Format {
    /// Other pages than answers have neither of the two types.
    fn of(answer: &Answer) -> Option<Self> {
        let is = |media_type| answer.head.contains(media_type) && !answer.body.is_empty();
        if is("content-type: application/json;charset=utf-8\r\n") {
            Some(Self::Json)
        } else {
            is("content-type: text/xml;charset=utf-8\r\n").then_some(Self::Xml)
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Xml => "text/xml",
        }
    }

    fn read(self, document: &Value, schema: &Value, action: &str, answer: &Answer) -> Value {
        match self {
            Self::Json => answer.json(),
            Self::Xml => {
                let root = Element::parse(&answer.body);
                let response = format!("{action}Response");
                assert_eq!(root.name, if answer.status == 200 { &response } else { "Error" });
                root.value(document, schema)
            }
        }
    }
}

fn followed<'a>(document: &'a Value, told: &'a Value) -> &'a Value {
    match told["$ref"].as_str() {
        None => told,
        Some(reference) => document.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
    }
}

/// Whether the schema lets the value pass; else where and why not.
pub fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    for (word, told) in schema.as_object().unwrap() {
        let passes = match word.as_str() {
            "$ref" => {
                check(document, followed(document, schema), value)?;
                true
            }
            "allOf" => {
                for schema in told.as_array().unwrap() {
                    check(document, schema, value)?;
                }
                true
            }
            "type" => is_of_type(value, told.as_str().unwrap()),
            "enum" => told.as_array().unwrap().contains(value),
            "minimum" => value.as_u64() >= told.as_u64(),
            "required" => {
                let names = told.as_array().unwrap().iter();
                names.into_iter().all(|name| value.get(name.as_str().unwrap()).is_some())
            }
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = told.get(name) {
                        check(document, schema, inner)
                            .map_err(|wrong| format!("{name}: {wrong}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(*told, false, "whatever is told must be told by name");
                let mut names = value.as_object().into_iter().flat_map(Map::keys);
                names.all(|name| schema["properties"].get(name).is_some())
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    check(document, told, item)?;
                }
                true
            }
            _ => panic!("the word {word} of a schema is not known here"),
        };
        if !passes {
            return Err(format!("{word} {told}, but {value}"));
        }
    }
    Ok(())
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("the type {name} is not known here"),
    }
}

/// A part of an XML document.
#[derive(Debug, Default)]
struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    fn parse(document: &str) -> Self {
        let mut reader = Reader::from_str(document);
        let mut open = vec![Self::default()];
        loop {
            match reader.read_event().unwrap() {
                Event::Start(start) => {
                    let name = start.name().as_ref().to_owned();
                    open.push(Self { name, ..Self::default() });
                }
                Event::End(_) => {
                    let ended = open.pop().unwrap();
                    open.last_mut().unwrap().children.push(ended);
                }
                Event::Text(text) => open.last_mut().unwrap().text += &text.xml10_content(),
                Event::GeneralRef(reference) => {
                    let text = &mut open.last_mut().unwrap().text;
                    match reference.resolve_char_ref().unwrap() {
                        Some(character) => text.push(character),
                        None => *text += resolve_predefined_entity(&reference).unwrap(),
                    }
                }
                Event::Decl(_) => {}
                Event::Eof => break,
                other => panic!("{other:?} in an answer"),
            }
        }
        let mut root = open.pop().unwrap();
        assert!(open.is_empty() && root.children.len() == 1, "{document}");
        root.children.remove(0)
    }

    /// As a schema says it is to be read; what cannot be is left a text, which the schema refuses.
    fn value(&self, document: &Value, schema: &Value) -> Value {
        let schema = schema["allOf"].get(0).unwrap_or(schema);
        let schema = followed(document, schema);
        let parsed = match schema["type"].as_str().unwrap() {
            "object" if self.text.is_empty() => Some(self.object(document, schema)),
            "integer" => self.text.parse::<i64>().ok().map(Value::from),
            "number" => self.text.parse::<f64>().ok().map(Value::from),
            "boolean" => self.text.parse::<bool>().ok().map(Value::from),
            _ => None,
        };
        assert!(parsed.is_some() || self.children.is_empty(), "{self:?}");
        parsed.unwrap_or_else(|| self.text.as_str().into())
    }

    fn object(&self, document: &Value, schema: &Value) -> Value {
        let told = schema["properties"].as_object().unwrap();
        let lists = told.iter().filter(|(_, one)| one["type"] == "array");
        let mut found: Map<_, _> = lists.map(|(name, _)| (name.clone(), json!([]))).collect();
        for child in &self.children {
            let schema = &schema["properties"][&child.name];
            if let Some(Value::Array(items)) = found.get_mut(&child.name) {
                items.push(child.value(document, &schema["items"]));
                continue;
            }
            let value =
                if schema.is_null() { json!(child.text) } else { child.value(document, schema) };
            assert!(found.insert(child.name.clone(), value).is_none(), "{} twice", child.name);
        }
        found.into()
    }
}

#[test]
fn what_is_not_told_is_found() {
    let document = json!({ "Text": { "type": "string" } });
    let one = |inner: &Value| json!({ "type": "object", "properties": { "Disk": inner }, "required": ["Disk"], "additionalProperties": false });
    let schema = one(&json!({ "type": "array", "items": one(&json!({ "$ref": "#/Text" })) }));
    let xml = |text: &str| Element::parse(text).value(&document, &schema);
    let right = xml("<R><Disk><Disk>a&amp;b</Disk></Disk></R>");
    assert_eq!(right, json!({ "Disk": [{ "Disk": "a&b" }] }));
    for right in [right, xml("<R></R>")] {
        check(&document, &schema, &right).unwrap();
    }
    let wrong = [
        json!({}),
        json!({ "Disk": {} }),
        json!({ "Disk": [{}] }),
        json!({ "Disk": [{ "Disk": 1 }] }),
        json!({ "Disk": [], "Disks": [] }),
        xml("<R>text</R>"),
        xml("<R><Disk></Disk></R>"),
        xml("<R><Disks></Disks></R>"),
    ];
    for wrong in wrong {
        assert!(check(&document, &schema, &wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_action_of_a_request_is_found() {
    let of = |request: &str| action_of(request.as_bytes());
    assert_eq!(of("GET /?a=1&Action=One&b HTTP/1.1\r\n\r\n").unwrap(), "One");
    assert_eq!(of("POST / HTTP/1.1\r\n\r\nAction=Two").unwrap(), "Two");
    assert_eq!(of("POST /?DryAction=1 HTTP/1.1\r\n\r\na=1"), None);
    assert_eq!(of("PUT /?Action=One HTTP/1.1\r\n\r\n"), None);
    let acs3 = "POST /?Action=No HTTP/1.1\r\nx-acs-action: Three\r\nAuthorization: ACS3-x\r\n\r\n";
    assert_eq!(of(acs3).unwrap(), "Three");
}
