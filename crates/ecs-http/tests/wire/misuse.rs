//! Every action of the public front, and every way to misuse it: the code and status of the contract, and
//! nothing changed.
//!
//! What must always hold: actions and parameters are those of `/openapi.json`, so that a new one without a
//! row fails; codes and statuses are those of the contract, written by hand in `misuse/table.txt`.
//! Left to others: parameters of every request, which come before any action (`gate`, `transport`).

mod ground;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    harness::{Answer, Service},
    openapi::{operations, public},
};

use ground::{Ground, Look};
use table::{Act, Kind, Outcome, Pairs, Row, Table, says};

const TABLE: &str = include_str!("misuse/table.txt");

/// The parameters that are one action's own, by their names.
type Own = BTreeMap<String, Value>;

/// One call and what it has to come to.
struct Case {
    /// As the table tells it.
    what: String,
    /// The parameter that is misused, in rows about single ones.
    of: String,
    parameters: Pairs,
    /// The ids in it, of which the answer may only tell that they were asked for.
    ids: Vec<String>,
}

#[test]
fn every_action_and_every_parameter_has_its_rows() {
    let service = Service::start();
    let (table, document) = (Table::read(TABLE), document(&service));
    let mut lacking = vec![];
    let told: Vec<_> = table.acts.iter().map(|act| &act.name).collect();
    for name in document.keys().filter(|name| !told.contains(name)) {
        lacking.push(format!("{name} is not in the table"));
    }
    let distinct: BTreeSet<_> = told.iter().collect();
    assert_eq!(distinct.len(), told.len(), "an action is there twice");
    for act in &table.acts {
        match document.get(&act.name) {
            Some(own) => lacking.extend(what_lacks(&table, act, own)),
            None => lacking.push(format!("{} is not in the document", act.name)),
        }
    }
    assert!(lacking.is_empty(), "{lacking:#?}");
}

#[test]
fn each_misuse_has_its_code_and_changes_nothing() {
    let ground = Ground::new();
    let (table, document) = (Table::read(TABLE), document(ground.service()));
    let mut watch = Watch::over(&ground);
    for act in &table.acts {
        let Some(own) = document.get(&act.name) else { continue };
        let names: Vec<_> = own.keys().map(String::as_str).collect();
        let rows = table.rows_of(act, &names);
        for row in &rows {
            watch.misuse(act, row, cases(&ground, act, row, &rows, own));
        }
    }
    watch.ends(1_000);
}

#[test]
fn a_dry_run_of_what_is_right_changes_nothing() {
    let ground = Ground::new();
    let (table, document) = (Table::read(TABLE), document(ground.service()));
    let mut watch = Watch::over(&ground);
    for act in &table.acts {
        let Some(own) = document.get(&act.name) else { continue };
        let mut parameters = filled(&ground, &right(act, own));
        set(&mut parameters, "DryRun", "true");
        let answer = watch.ask(None, "JSON", act, &parameters, &format!("{} dry", act.name));
        let passed: &[_] = match &own["DryRun"]["schema"] {
            schema if schema["const"] == false => &["InvalidParameter"],
            // Of a task that ended, see below.
            _ if act.name == "CancelTask" => &["InvalidTaskId.IncorrectTaskStatus"],
            _ => &["DryRunOperation", "DRYRUN.SUCCESS"],
        };
        if answer.status == 200 || !passed.contains(&answer.refusal().0.as_str()) {
            watch.wrong.push(format!("{} dry: {}", act.name, answer.body));
        }
    }
    watch.ends(table.acts.len());
}

/// Asks, and looks each time whether something changed.
struct Watch<'g> {
    ground: &'g Ground,
    before: Look,
    asked: usize,
    wrong: Vec<String>,
}

impl<'g> Watch<'g> {
    fn over(ground: &'g Ground) -> Self {
        Self { ground, before: ground.look(), asked: 0, wrong: vec![] }
    }

    fn ask(
        &mut self,
        by: Option<&str>,
        format: &str,
        act: &Act,
        own: &Pairs,
        what: &str,
    ) -> Answer {
        let answer = self.ground.ask(by, format, &act.name, own);
        self.asked += 1;
        let after = self.ground.look();
        if after != self.before {
            self.wrong.push(format!("{what} changed {}", difference(&self.before, &after)));
            self.before = after;
        }
        answer
    }

    fn misuse(&mut self, act: &Act, row: &Row, cases: Vec<Case>) {
        let mut answers = BTreeMap::<_, BTreeSet<_>>::new();
        let compared = row.kind == Kind::Unknown;
        for Case { what, of, parameters, ids } in cases {
            let in_xml = matches!(row.outcome, Outcome::Refused(..)) && !compared;
            let format = if in_xml && self.asked.is_multiple_of(2) { "XML" } else { "JSON" };
            let answer = self.ask(row.by.as_deref(), format, act, &parameters, &what);
            self.wrong.extend(check(row, &answer).map(|told| format!("{what} {told}")));
            answers.entry(of).or_default().insert(without_ids(&answer, &ids));
        }
        let differ = answers.into_values().filter(|told| compared && told.len() > 1);
        let tell = |told| format!("{} line {} tells apart: {told:#?}", act.name, row.line);
        self.wrong.extend(differ.map(tell));
    }

    #[track_caller]
    fn ends(self, least: usize) {
        let Self { asked, wrong, .. } = self;
        assert!(wrong.is_empty(), "{} of {asked} calls: {wrong:#?}", wrong.len());
        assert!(asked >= least, "only {asked} calls");
    }
}

/// Without this a row could be refused for what its call lacks besides.
#[test]
fn what_the_table_calls_right_is_done() {
    let ground = Ground::new();
    let (table, document) = (Table::read(TABLE), document(ground.service()));
    let mut wrong = vec![];
    for act in &table.acts {
        let Some(own) = document.get(&act.name) else { continue };
        let parameters = filled(&ground, &right(act, own));
        let answer = ground.ask(None, "JSON", &act.name, &parameters);
        // Of a task that runs: no call here begins one that lasts. `objects` cancels one.
        if answer.status != 200 && act.name != "CancelTask" {
            wrong.push(format!("{}: {}", act.name, answer.body));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn document(service: &Service) -> BTreeMap<String, Own> {
    let all = operations(&public(service)).into_iter();
    let own = |parameters: Vec<Value>| {
        let named =
            parameters.into_iter().map(|one| (one["name"].as_str().unwrap().to_owned(), one));
        named.filter(|(name, _)| !["Version", "Format"].contains(&name.as_str())).collect()
    };
    all.map(|(name, parameters)| (name, own(parameters))).collect()
}

/// What the table does not say of an action, and what it says of parameters that are not there.
fn what_lacks(table: &Table, act: &Act, own: &Own) -> Vec<String> {
    let names: Vec<_> = own.keys().map(String::as_str).collect();
    let rows = table.rows_of(act, &names);
    let said = |kinds: &[Kind], name: &str| kinds.iter().any(|kind| says(&rows, *kind, name));
    let mut lacking = vec![];
    for (name, one) in own {
        let both = said(&[Kind::Absent], name) && said(&[Kind::Empty], name);
        if one["required"] == true && !both && !said(&[Kind::Missing], name) {
            lacking.push(format!("{}: no row for {name} missing", act.name));
        }
        let kinds = match &one["schema"] {
            _ if names_resource(name) => &[Kind::Unknown][..],
            // The general row for all of them says it; and any region is the one there is.
            schema if is_typed(schema) || name == "RegionId" => continue,
            _ => &[Kind::Long, Kind::Unknown, Kind::Value][..],
        };
        if !said(kinds, name) {
            lacking.push(format!("{}: none of {kinds:?} for {name}", act.name));
        }
    }
    let changes = !["Describe", "List"].iter().any(|look| act.name.starts_with(look));
    let has_state = rows.iter().any(|row| row.kind == Kind::State);
    if changes && has_state == act.stateless.is_some() {
        lacking.push(format!("{}: no row for a wrong state, nor why there is none", act.name));
    }
    let given = act.right.iter().chain(rows.iter().flat_map(|row| &row.with)).map(|(of, _)| of);
    let given = given.chain(act.rows.iter().flat_map(|row| &row.targets).map(|(of, _)| of));
    let unknown = given.filter(|name| !own.contains_key(&first(name)));
    lacking.extend(unknown.map(|name| format!("{} has no parameter {name}", act.name)));
    lacking
}

/// The document tells of the first of many only.
fn first(name: &str) -> String {
    let parts = name.split('.').map(|part| if part.parse::<u32>().is_ok() { "1" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

fn is_typed(schema: &Value) -> bool {
    schema["type"] != "string" || schema.get("contentSchema").is_some() || is_time(schema)
}

fn is_time(schema: &Value) -> bool {
    schema["description"].as_str().is_some_and(|text| text.starts_with("A time"))
}

/// Values that are not of the type.
fn not_of(schema: &Value) -> Vec<String> {
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    if schema["type"] == "boolean" || schema.get("const").is_some() {
        return texts(&["perhaps", "1"]);
    }
    if schema["type"] == "integer" {
        let mut wrong = texts(&["many", "-1", "1.5", "99999999999999999999"]);
        wrong.extend(schema["maximum"].as_u64().map(|most| (most + 1).to_string()));
        let least = schema["minimum"].as_u64().unwrap_or(0);
        wrong.extend(least.checked_sub(1).map(|below| below.to_string()));
        return wrong;
    }
    if is_time(schema) {
        return texts(&["later", "2024-13-01T00:00Z"]);
    }
    texts(&["no-array", "[1]", "{\"a\":1}"])
}

/// The kind of resource a parameter names, as the last word of its name has it.
fn kind_named(name: &str) -> Option<&'static str> {
    let word = name.trim_end_matches(".1").rsplit('.').next().unwrap();
    let word = word.strip_suffix('s').unwrap_or(word).strip_suffix("Id")?;
    let kinds = ["SnapshotGroup", "Snapshot", "Disk", "Image", "Instance", "Task", "Resource"];
    kinds.into_iter().find(|kind| word.ends_with(kind))
}

fn names_resource(name: &str) -> bool {
    kind_named(name).is_some()
}

/// The call of an action that is done.
fn right(act: &Act, own: &Own) -> Pairs {
    let region = own.contains_key("RegionId").then(|| ("RegionId".into(), "cn-hangzhou".into()));
    act.right.iter().cloned().chain(region).collect()
}

fn filled(ground: &Ground, pairs: &Pairs) -> Pairs {
    pairs.iter().map(|(name, value)| (name.clone(), ground.filled(value))).collect()
}

fn set(pairs: &mut Pairs, name: &str, value: &str) {
    pairs.retain(|(given, _)| given != name);
    pairs.push((name.into(), value.into()));
}

/// The calls of a row.
fn cases(ground: &Ground, act: &Act, row: &Row, rows: &[Row], own: &Own) -> Vec<Case> {
    let mut base = right(act, own);
    row.with.iter().for_each(|(name, value)| set(&mut base, name, value));
    let base = filled(ground, &base);
    let told = |what: &str| format!("{} (line {}) {what}", act.name, row.line);
    if matches!(row.kind, Kind::Value | Kind::State) {
        let (what, of) = (told(&format!("{base:?}")), String::new());
        return vec![Case { what, of, parameters: base, ids: vec![] }];
    }
    let mut cases = vec![];
    let all =
        own.iter().filter(|(name, one)| is_typed(&one["schema"]) && !says(rows, Kind::Type, name));
    let all: Vec<_> = all.map(|(name, _)| (name.clone(), None)).collect();
    let every = row.targets.iter().any(|(name, _)| name == "*");
    for (name, bound) in if every { &all } else { &row.targets } {
        let schema = &own[&first(name)]["schema"];
        let mut with = |value: &str, ids: Vec<String>| {
            let mut parameters = base.clone();
            set(&mut parameters, name, value);
            let what = told(&format!("{name}={value:.60}"));
            cases.push(Case { what, of: name.clone(), parameters, ids });
        };
        match row.kind {
            Kind::Type => not_of(schema).iter().for_each(|value| with(value, vec![])),
            Kind::Long => with(&long(bound.unwrap() + 1), vec![]),
            Kind::Unknown => {
                for id in strangers(ground, name, &base) {
                    let listed = schema.get("contentSchema").is_some();
                    with(&if listed { format!("[\"{id}\"]") } else { id.clone() }, vec![id]);
                }
            }
            Kind::Missing | Kind::Absent | Kind::Empty => {
                if row.kind != Kind::Absent {
                    with("", vec![]);
                }
                if row.kind != Kind::Empty {
                    let mut parameters = base.clone();
                    parameters.retain(|(given, _)| given != name);
                    let (what, of) = (told(&format!("without {name}")), name.clone());
                    cases.push(Case { what, of, parameters, ids: vec![] });
                }
            }
            Kind::Value | Kind::State => unreachable!("these were returned above"),
        }
    }
    cases
}

/// Letters and digits, as every text takes them.
fn long(length: usize) -> String {
    "xY3".chars().cycle().take(length).collect()
}

/// An id that is nobody's, one of the other account, and one that no id can be.
fn strangers(ground: &Ground, name: &str, base: &Pairs) -> Vec<String> {
    let given = |name: &str| base.iter().find(|(given, _)| given == name).map(|(_, value)| value);
    let kind = match kind_named(name) {
        Some("Resource") => match given("ResourceType").map(String::as_str) {
            Some("instance") => "Instance",
            Some("snapshot") => "Snapshot",
            Some("disk") => "Disk",
            _ => "Image",
        },
        kind => kind.unwrap_or_else(|| panic!("{name} names no resource")),
    };
    let theirs = ground.theirs(kind);
    let letter = theirs.split_once('-').unwrap().0;
    vec![format!("{letter}-doesnotexist00000000"), theirs.to_owned(), long(20_000)]
}

fn check(row: &Row, answer: &Answer) -> Option<String> {
    let got = || format!("came to {} {:.300}", answer.status, answer.body);
    let as_told = match &row.outcome {
        Outcome::Refused(code, status) => answer.status == *status && answer.refusal().0 == *code,
        Outcome::NothingFound => answer.status == 200 && is_empty(&json_or_null(answer)),
        Outcome::InRow(code) => answer.status == 200 && has_code(&json_or_null(answer), code),
    };
    (!as_told).then(|| format!("{}, not {:?}", got(), row.outcome))
}

fn json_or_null(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_default()
}

fn is_empty(document: &Value) -> bool {
    match document {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => {
            fields.get("TotalCount").is_none_or(|count| count == 0) && fields.values().all(is_empty)
        }
        _ => true,
    }
}

fn has_code(document: &Value, code: &str) -> bool {
    match document {
        Value::Array(items) => items.iter().any(|item| has_code(item, code)),
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            ["Code", "ErrorCode"].contains(&name.as_str()) && value == code || has_code(value, code)
        }),
        _ => false,
    }
}

/// An answer without what differs by the id that was asked for alone.
fn without_ids(answer: &Answer, ids: &[String]) -> String {
    let mut told = json_or_null(answer);
    told["RequestId"].take();
    ids.iter().fold(told.to_string(), |text, id| text.replace(id, "ID"))
}

fn difference(before: &Look, after: &Look) -> String {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let shown = |look: &Look, name: &String| {
        look.get(name)
            .map(|bytes| String::from_utf8_lossy(bytes).chars().take(1_000).collect::<String>())
    };
    let told =
        changed.map(|name| format!("{name}: {:?} {:?}", shown(before, name), shown(after, name)));
    told.collect::<Vec<_>>().join("\n")
}
