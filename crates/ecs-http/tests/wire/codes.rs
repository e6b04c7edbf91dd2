//! The codes `/openapi.json` tells against those in the source that answers them.
//!
//! What must always hold: neither has one the other lacks. What a request is really refused with is held
//! against the document by every test of the wire (`told`); this finds the codes no test comes to.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::told::{Door, codes_of, document};

type Code = (String, u16);

/// In the one table of errors, but of facts that nothing in the cloud tells.
const OF_NOTHING: &[(&str, u16)] =
    &[("AccountExists", 409), ("DiskInArrears", 403), ("InvalidRegionId.NotFound", 404)];

fn told(door: Door) -> BTreeSet<Code> {
    let document = document(door);
    let operations = document["paths"].as_object().unwrap().values();
    let responses = operations.flat_map(|item| item["post"]["responses"].as_object().unwrap());
    let codes = |(status, response): (&String, &Value)| {
        let status: u16 = status.parse().unwrap();
        codes_of(document, response).into_iter().map(move |code| (code, status)).collect::<Vec<_>>()
    };
    responses.flat_map(codes).collect()
}

/// What is declared is no answer: it is cut out, as tests are.
fn answering(source: &str) -> String {
    let source = source.split("#[cfg(test)]").next().unwrap();
    let mut parts = source.split(".refuses(&[");
    let mut kept = parts.next().unwrap().to_owned();
    parts.for_each(|part| kept += part.split_once("])").unwrap().1);
    let mut parts = kept.split(": Codes =");
    let mut answering = parts.next().unwrap().to_owned();
    parts.for_each(|part| answering += part.split_once("];").unwrap().1);
    answering
}

/// Each text that is followed by a status.
fn written(source: &str, found: &mut BTreeSet<Code>) {
    let texts: Vec<_> = source.split('"').collect();
    for pair in texts.windows(2) {
        let [code, after] = pair else { continue };
        let status = after.strip_prefix(',').unwrap_or_default().trim_start();
        let end = status.find(|c: char| !c.is_ascii_digit()).unwrap_or(status.len());
        if let Ok(status @ 400..600) = status[..end].parse() {
            found.insert(((*code).to_owned(), status));
        }
    }
}

fn sources(directory: &Path, found: &mut BTreeSet<Code>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if !path.ends_with("actions/codes.rs") {
            written(&answering(&fs::read_to_string(path).unwrap()), found);
        }
    }
}

#[test]
fn no_code_is_answered_that_is_not_told_nor_told_that_is_not_answered() {
    let mut answered = BTreeSet::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut answered);
    assert!(answered.len() > 150, "{}", answered.len());
    let mut told: BTreeSet<_> = [Door::Public, Door::Control].into_iter().flat_map(told).collect();
    // Whatever comes to no action.
    told.extend([("InvalidAction.NotFound".into(), 404), ("UnsupportedHTTPMethod".into(), 403)]);
    // What once came of nothing and now is told of an action must leave that list.
    let of_nothing = OF_NOTHING.iter().map(|(code, status)| ((*code).to_owned(), *status));
    for code in of_nothing {
        assert!(told.insert(code.clone()), "{code:?} is told");
    }
    let untold: Vec<_> = answered.difference(&told).collect();
    let unanswered: Vec<_> = told.difference(&answered).collect();
    assert!(untold.is_empty(), "not told: {untold:#?}");
    assert!(unanswered.is_empty(), "not answered: {unanswered:#?}");
}
