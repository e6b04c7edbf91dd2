//! `/openapi.json` against the front that serves it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    harness::Service,
    signing::{Key, V1},
    told::codes_of,
};

/// The actions of the document with their parameters, whose references are followed.
pub fn operations(document: &Value) -> Vec<(String, Vec<Value>)> {
    let paths = document["paths"].as_object().unwrap();
    let parameters = |one: &Value| match one["$ref"].as_str() {
        None => one.clone(),
        Some(reference) => document.pointer(reference.strip_prefix('#').unwrap()).unwrap().clone(),
    };
    let operation = |(path, item): (&String, &Value)| {
        let name = item["post"]["operationId"].as_str().unwrap().to_owned();
        assert_eq!(*path, format!("/?Action={name}"));
        let all: Vec<_> =
            item["post"]["parameters"].as_array().unwrap().iter().map(parameters).collect();
        let names: BTreeSet<_> = all.iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), all.len(), "{name} names a parameter twice");
        (name, all)
    };
    paths.iter().map(operation).collect()
}

pub fn public(service: &Service) -> Value {
    let document = service.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    document
}

/// Something for each parameter that is needed, so that reading the request goes on.
fn needed(parameters: &[Value]) -> Vec<(&str, &str)> {
    let needed = parameters.iter().filter(|one| one["required"] == true);
    needed
        .map(|one| one["name"].as_str().unwrap())
        .filter(|name| *name != "Version")
        .map(|name| (name, if name == "ResourceType" { "disk" } else { "x-1" }))
        .collect()
}

fn message(service: &Service, key: &Key, action: &str, parameters: &[(&str, &str)]) -> String {
    let mut request = V1::new(key, "JSON", action, parameters);
    if parameters.iter().all(|(name, _)| *name != "RegionId") {
        request = request.without("RegionId");
    }
    request.sign(key, "POST");
    let answer = service.send(request.request("POST")).json();
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    format!("{} {}", text("Code"), text("Message"))
}

/// The same once nothing is missing any more, which one of several parameters may be.
fn message_of_all(service: &Service, key: &Key, action: &str, given: &[(&str, &str)]) -> String {
    let mut more = vec![];
    loop {
        let all: Vec<_> =
            given.iter().copied().chain(more.iter().map(|name: &String| (&**name, "1"))).collect();
        let told = message(service, key, action, &all);
        let code = ["MissingParameter ", "IncompleteParamter "];
        let missing = code.iter().find_map(|code| told.strip_prefix(code));
        let missing = missing.and_then(|told| told.split('"').nth(1));
        match missing {
            Some(name) if more.len() < 4 => more.push(name.to_owned()),
            _ => return told,
        }
    }
}

/// Actions that need one of several parameters, none of which is needed by itself.
fn is_either(action: &str) -> bool {
    ["CreateImage", "CreateDisk", "CreateSnapshotGroup", "ModifyDiskAttribute", "UntagResources"]
        .contains(&action)
}

#[test]
fn each_action_is_there_and_wants_what_the_document_says() {
    let service = Service::start();
    let key = service.key();
    let document = public(&service);
    let operations = operations(&document);
    assert!(operations.len() > 40, "{}", operations.len());
    let mut wrong = vec![];
    for (action, parameters) in &operations {
        let filled = needed(parameters);
        for (left_out, _) in &filled {
            let rest: Vec<_> =
                filled.iter().copied().filter(|(name, _)| name != left_out).collect();
            let told = message(&service, &key, action, &rest);
            if !told.contains("Missing") {
                wrong.push(format!("{action} without {left_out}: {told}"));
            }
        }
        let told = message(&service, &key, action, &filled);
        if told.contains("InvalidAction") || told.contains("Missing") && !is_either(action) {
            wrong.push(format!("{action}: {told}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_type_and_bound_is_the_one_that_is_read() {
    let service = Service::start();
    let key = service.key();
    let document = public(&service);
    let (mut checked, mut unread) = (0, vec![]);
    for (action, parameters) in operations(&document) {
        let filled = needed(&parameters);
        for one in &parameters {
            let name = one["name"].as_str().unwrap();
            let mut wrong = vec![];
            if one["schema"]["type"] == "boolean" || one["schema"]["const"] == false {
                wrong.push("perhaps".to_owned());
            }
            if one["schema"]["type"] == "integer" {
                wrong.push("many".into());
                wrong.extend(one["schema"]["maximum"].as_u64().map(|most| (most + 1).to_string()));
                let least = one["schema"]["minimum"].as_u64().unwrap();
                wrong.extend(least.checked_sub(1).map(|below| below.to_string()));
            }
            if one["schema"].get("contentSchema").is_some() {
                wrong.push("no array".into());
            }
            for value in &wrong {
                let mut sent: Vec<_> = filled.clone();
                sent.push((name, value));
                let told = message_of_all(&service, &key, &action, &sent);
                if !told.starts_with("InvalidParameter ") && !told.starts_with("InvalidParameter.")
                {
                    unread.push(format!("{action} {name}={value}: {told}"));
                }
                checked += 1;
            }
        }
    }
    assert!(unread.is_empty(), "{unread:#?}");
    assert!(checked > 150, "{checked}");
}

/// Else nobody could ask for the next page.
#[test]
fn what_takes_a_token_for_the_next_page_answers_one() {
    let service = Service::start();
    let document = public(&service);
    let mut lists = 0;
    for (action, parameters) in operations(&document) {
        let takes = parameters.iter().any(|one| one["name"] == "NextToken");
        let answer = &document["components"]["schemas"][format!("{action}Response")];
        assert_eq!(answer["properties"].get("NextToken").is_some(), takes, "{action}");
        lists += u32::from(takes);
    }
    assert!(lists > 4, "{lists}");
}

#[test]
fn the_operator_sees_more_and_nobody_reaches_what_is_not_told() {
    let service = Service::start();
    let key = service.key();
    let names = |document: &Value| -> BTreeSet<String> {
        operations(document).into_iter().map(|(name, _)| name).collect()
    };
    let everyones = names(&public(&service));
    let operators = names(&service.operator_page("/openapi.json").json());
    assert!(operators.is_superset(&everyones) && operators.contains("ShowDisk"));
    for action in operators.difference(&everyones) {
        service.call(&key, action, &[]).refused("InvalidAction.NotFound", 404);
    }
}

#[test]
fn the_page_for_people_tells_the_same_and_fetches_nothing() {
    let service = Service::start();
    let page = service.get("/docs").body;
    let document = public(&service);
    for (action, parameters) in operations(&document) {
        let mut of_it = page.split(&format!("<h2 id=\"{action}\">")).nth(1).unwrap();
        of_it = of_it.split("<h2").next().unwrap();
        let parameters = parameters.iter().map(|one| one["name"].as_str().unwrap());
        let parameters = parameters.filter(|name| !["Version", "Format"].contains(name));
        let parameters = parameters.map(|name| name.replace(".1", ".N"));
        let answer = &document["components"]["schemas"][format!("{action}Response")];
        let fields = answer["properties"].as_object().unwrap().keys().cloned();
        let refused =
            document["paths"][format!("/?Action={action}")]["post"]["responses"].as_object();
        let codes = refused.unwrap().values().flat_map(|one| codes_of(&document, one));
        for told in parameters.chain(fields).chain(codes) {
            assert!(of_it.contains(&told), "{told} of {action}");
        }
    }
    for fetch in ["<script", "src=", "http:", "https:", "@import", "<link"] {
        assert!(!page.contains(fetch), "{fetch}");
    }
}
