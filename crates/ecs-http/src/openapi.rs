//! `/openapi.json` and `/docs`: what the actions take, answer and refuse with, made from the table they
//! are served by.
//!
//! What must always hold: nothing here names an action, or a parameter, a field or a code of one; both documents tell the
//! actions of the door they are asked through. The page needs nothing but itself, no script either.
//! Left to others: the table (`actions`).
//!
//! All actions are on one path, which OpenAPI has no word for: so each is told as the path with its name
//! in the query, which is what a client sends.

use std::{collections::BTreeSet, fmt::Write as _};

use axum::{body::Body, extract::State, http::Response};
use serde_json::{Map, Value, json};

use crate::{
    actions::{self, Action, Field, Kind, Parameter, Shape},
    front::{Door, Front},
    limits, response,
};

const JSON: &str = "application/json";
const XML: &str = "text/xml";
const HTML: &str = "text/html; charset=utf-8";

/// The description for programs.
pub(crate) async fn openapi(State((_, door)): State<(Front, Door)>) -> Response<Body> {
    response::plain(200, JSON, document(door).to_string())
}

/// The same for people.
pub(crate) async fn docs(State((_, door)): State<(Front, Door)>) -> Response<Body> {
    response::plain(200, HTML, page(door))
}

fn document(door: Door) -> Value {
    let paths = actions::all(door).map(|action| {
        let path = format!("/?Action={}", action.name);
        (path, json!({ "post": operation(action, door) }))
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Reinit",
            "summary": "Disks, snapshots, images and instances as an ECS has them.",
            "description": elsewhere(),
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{ "url": "/" }],
        "security": security(door),
        "paths": paths.collect::<Map<_, _>>(),
        "components": {
            "parameters": common(door),
            "schemas": schemas(door),
            "responses": shared_refusals(door),
            "securitySchemes": schemes(door),
        },
    })
}

/// Through the control socket nobody signs.
fn security(door: Door) -> Value {
    match door {
        Door::Public => json!([{ "Signature": [] }, { "Acs3": [] }]),
        Door::Control => json!([]),
    }
}

fn schemes(door: Door) -> Value {
    match door {
        Door::Control => json!({}),
        Door::Public => json!({
            "Signature": {
                "type": "apiKey", "in": "query", "name": "Signature",
                "description": "Version 1: HMAC-SHA1 over all parameters, beside AccessKeyId, \
                    SignatureMethod, SignatureVersion, SignatureNonce and Timestamp.",
            },
            "Acs3": {
                "type": "apiKey", "in": "header", "name": "Authorization",
                "description": "ACS3-HMAC-SHA256, with the headers x-acs-action, x-acs-version, x-acs-date, \
                    x-acs-signature-nonce and x-acs-content-sha256.",
            },
        }),
    }
}

/// What every request has.
fn common(door: Door) -> Value {
    let mut common = json!({
        "Version": {
            "name": "Version", "in": "query", "required": door == Door::Public,
            "schema": { "const": crate::answer::VERSION },
        },
        "Format": {
            "name": "Format", "in": "query",
            "schema": { "enum": ["JSON", "XML"], "default": "XML" },
        },
    });
    if door == Door::Control {
        common["Account"] = json!({
            "name": "Account", "in": "query", "description": "Whose resources it is about.",
            "schema": { "type": "string", "default": "default" },
        });
    }
    common
}

fn operation(action: &Action, door: Door) -> Value {
    let shared = common(door);
    let own: Vec<_> = action.parameters(door).map(|one| parameter(action, one, door)).collect();
    // An action of the operator may take the account itself.
    let shared = shared.as_object().into_iter().flat_map(Map::keys);
    let shared = shared.filter(|name| own.iter().all(|one| one["name"] != **name));
    let shared = shared.map(|name| json!({ "$ref": format!("#/components/parameters/{name}") }));
    let parameters: Vec<_> = shared.chain(own.iter().cloned()).collect();
    json!({
        "operationId": action.name,
        "parameters": parameters,
    "responses": responses(action, door),
    })
}

fn parameter(action: &Action, one: &Parameter, door: Door) -> Value {
    let mut told = json!({
        "name": one.first_name(),
        "in": "query",
        "required": is_needed(one, door),
        "schema": schema(action, one),
    });
    if one.name != one.first_name() {
        told["description"] = format!("{}, N from 1.", one.name).into();
    }
    told
}

/// The operator has only the one region, and need not name it.
fn is_needed(one: &Parameter, door: Door) -> bool {
    one.needed && !(door == Door::Control && one.name == "RegionId")
}

fn schema(action: &Action, one: &Parameter) -> Value {
    match one.kind {
        Kind::Flag if *one == actions::DRY_RUN && !action.can_be_dry() => json!({ "const": false }),
        Kind::Flag => json!({ "type": "boolean" }),
        // More than a number in JSON holds is no bound worth telling.
        Kind::Whole(least, most) if most > 1 << 53 => {
            json!({ "type": "integer", "minimum": least })
        }
        Kind::Whole(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Gib => json!({ "type": "integer", "minimum": 0, "description": "In GiB." }),
        Kind::Ids => json!({
            "type": "string",
            "maxLength": limits::PARAMETER_VALUE_BYTES,
            "contentMediaType": JSON,
            "contentSchema": { "type": "array", "items": { "type": "string" } },
        }),
        Kind::Commas => text("Values with commas between them."),
        Kind::Time => text("A time in UTC such as 2024-01-01T00:00Z."),
        Kind::Text => json!({ "type": "string", "maxLength": limits::PARAMETER_VALUE_BYTES }),
    }
}

fn text(description: &str) -> Value {
    json!({
        "type": "string",
        "maxLength": limits::PARAMETER_VALUE_BYTES,
        "description": description,
    })
}

fn success(action: &Action) -> Value {
    let schema = json!({ "$ref": format!("#/components/schemas/{}", answer_name(action)) });
    json!({
        "description": "Done. In JSON or XML, as Format asks.",
        "content": { JSON: { "schema": schema }, XML: { "schema": schema } },
    })
}

/// Also the name of the root element in XML.
fn answer_name(action: &Action) -> String {
    format!("{}Response", action.name)
}

fn schemas(door: Door) -> Value {
    let answers =
        actions::all(door).map(|action| (answer_name(action), object(action.fields(door), door)));
    let mut schemas: Map<_, _> = answers.collect();
    schemas.insert("Error".into(), error());
    schemas.into()
}

fn object(fields: impl Iterator<Item = &'static Field>, door: Door) -> Value {
    let (mut properties, mut required) = (Map::new(), vec![]);
    for field in fields {
        properties.insert(field.name.into(), value(field.shape, door));
        required.extend(field.always.then_some(field.name));
    }
    closed(&properties, &required)
}

/// Nothing else is ever in it.
fn closed(properties: &Map<String, Value>, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn value(shape: Shape, door: Door) -> Value {
    match shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::Whole => json!({ "type": "integer", "minimum": 0 }),
        Shape::Fraction => json!({ "type": "number" }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Object(told) => object(actions::through(told, door), door),
        Shape::List(child, told) => list(child, &object(actions::through(told, door), door)),
        Shape::Texts(child) => list(child, &value(Shape::Text, door)),
    }
}

/// The repeated child in its container, which is what XML makes of an array too.
fn list(child: &str, items: &Value) -> Value {
    let array = json!({ "type": "array", "items": items });
    closed(&[(child.to_owned(), array)].into_iter().collect(), &[child])
}

fn responses(action: &Action, door: Door) -> Value {
    let refused = action.codes(door).into_iter().map(|(status, codes)| {
        let one = shared(&codes).map(|code| format!("#/components/responses/{code}"));
        (status.to_string(), one.map_or_else(|| refusal(&codes), |one| json!({ "$ref": one })))
    });
    [("200".to_owned(), success(action))].into_iter().chain(refused).collect()
}

/// A status that one code alone stands behind is the same for whatever action: it is told once.
fn shared_refusals(door: Door) -> Value {
    let all = actions::all(door).flat_map(|action| action.codes(door).into_values());
    all.filter_map(|codes| Some((shared(&codes)?, refusal(&codes)))).collect()
}

fn shared(codes: &BTreeSet<&'static str>) -> Option<&'static str> {
    codes.first().copied().filter(|_| codes.len() == 1)
}

fn refusal(codes: &BTreeSet<&str>) -> Value {
    let one_of_these = json!({ "properties": { "Code": { "enum": codes } } });
    let schema = json!({ "allOf": [{ "$ref": "#/components/schemas/Error" }, one_of_these] });
    json!({
        "description": "Refused or failed; the code says why.",
        "content": { JSON: { "schema": schema }, XML: { "schema": schema } },
    })
}

/// What a request is answered that comes to none of the actions.
fn elsewhere() -> String {
    let codes = actions::OF_NO_ACTION.map(|(code, status)| format!("{code} ({status})"));
    format!("A request that comes to no action is refused with one of: {}.", codes.join(", "))
}

fn error() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "required": ["Code", "HostId", "Message", "RequestId"],
        "properties": { "Code": text, "HostId": text, "Message": text, "RequestId": text },
        "additionalProperties": false,
    })
}

fn page(door: Door) -> String {
    let mut page = String::from(HEAD);
    for action in actions::all(door) {
        let _ = write!(page, "<li><a href=\"#{0}\">{0}</a></li>", action.name);
    }
    page.push_str("</ul>");
    for action in actions::all(door) {
        let _ = write!(page, "<h2 id=\"{0}\">{0}</h2>", action.name);
        write_parameters(&mut page, action, door);
        let _ = write!(page, "<table>{ANSWER}");
        write_fields(&mut page, "", action.fields(door), door);
        page.push_str("</table>");
        write_codes(&mut page, action, door);
    }
    page.push_str("</html>\n");
    page
}

fn write_parameters(page: &mut String, action: &Action, door: Door) {
    let _ = write!(page, "<table>{COLUMNS}");
    for one in action.parameters(door) {
        let needed = if is_needed(one, door) { "yes" } else { "" };
        let kind = kind_in_words(action, one);
        let _ = write!(page, "<tr><td>{}<td>{kind}<td>{needed}</tr>", one.name);
    }
    page.push_str("</table>");
}

/// What is inside of a field comes below it, under the whole way to it.
fn write_fields(
    page: &mut String,
    path: &str,
    fields: impl Iterator<Item = &'static Field>,
    door: Door,
) {
    for field in fields {
        let path = format!("{path}{}", field.name);
        let (shown, kind, told) = match field.shape {
            Shape::Text => (path, "text", None),
            Shape::Whole => (path, "whole number", None),
            Shape::Fraction => (path, "number", None),
            Shape::Flag => (path, "true or false", None),
            Shape::Object(told) => (path, "object", Some(told)),
            Shape::List(child, told) => (format!("{path}.{child}[]"), "object", Some(told)),
            Shape::Texts(child) => (format!("{path}.{child}[]"), "text", None),
        };
        let always = if field.always { "always" } else { "at times" };
        let _ = write!(page, "<tr><td>{shown}<td>{kind}<td>{always}</tr>");
        if let Some(told) = told {
            write_fields(page, &format!("{shown}."), actions::through(told, door), door);
        }
    }
}

fn write_codes(page: &mut String, action: &Action, door: Door) {
    let _ = write!(page, "<table>{CODES}");
    for (status, codes) in action.codes(door) {
        let codes: Vec<_> = codes.into_iter().collect();
        let _ = write!(page, "<tr><td>{status}<td>{}</tr>", codes.join(", "));
    }
    page.push_str("</table>");
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Reinit</title>\
    <style>body{font:16px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\
    td,th{text-align:left;padding:.1em 1em .1em 0}ul{columns:3}</style>\
    <h1>Reinit: the actions</h1><p>Each is a request to <code>/</code> with <code>Action</code> and \
    <code>Version=2014-05-26</code>; N stands for 1, 2, 3 and so on. For programs: \
    <a href=\"/openapi.json\">openapi.json</a>.<ul>";

const COLUMNS: &str = "<tr><th>parameter<th>type<th>needed</tr>";

const CODES: &str = "<tr><th>status<th>codes it refuses with</tr>";

const ANSWER: &str = "<tr><th>field of the answer<th>type<th>there</tr>";

fn kind_in_words(action: &Action, one: &Parameter) -> String {
    match one.kind {
        Kind::Flag if *one == actions::DRY_RUN && !action.can_be_dry() => "false".into(),
        Kind::Flag => "true or false".into(),
        Kind::Whole(least, u64::MAX) => format!("whole number from {least}"),
        Kind::Whole(least, most) => format!("whole number, {least} to {most}"),
        Kind::Gib => "size in GiB".into(),
        Kind::Ids => "JSON array of texts".into(),
        Kind::Commas => "texts with commas between them".into(),
        Kind::Time => "time in UTC".into(),
        Kind::Text => "text".into(),
    }
}
