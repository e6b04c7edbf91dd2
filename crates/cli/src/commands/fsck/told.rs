//! What the command tells: the findings of the store and its own, as a document and as lines.
//!
//! What must always hold: exit code 1 exactly if something is still damaged, could not be looked at, or a step of
//! a repair failed.

use std::collections::BTreeMap;

use block_store::{Finding, Findings, Repair, RepairState, Repaired, Severity};
use serde_json::{Value, json};

use crate::output::Report;

/// A finding of this command's own, beside those of the store.
#[derive(Clone)]
pub(super) struct Told {
    kind: &'static str,
    severity: Severity,
    thing: String,
    pub(super) message: String,
}

impl Told {
    pub(super) fn new(
        kind: &'static str,
        severity: Severity,
        thing: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, severity, thing: thing.into(), message: message.into() }
    }

    fn document(&self) -> Value {
        let severity = word(self.severity);
        json!({
            "Kind": self.kind, "Severity": severity, "Thing": self.thing, "Affects": [], "Message": self.message,
        })
    }
}

/// The whole report of a check, or of a repair and the check after it.
pub(super) fn report(repaired: &Repaired, own: &[Told], is_repair: bool) -> Report {
    let found: &Findings = &repaired.left;
    let repairs: Vec<Value> = repaired.repairs.iter().map(repair).collect();
    let mut documents: Vec<Value> = own.iter().map(Told::document).collect();
    documents.extend(found.found.iter().map(document));
    let checked = found.checked;
    let counts = BTreeMap::from([
        ("Disks", checked.disks),
        ("Layers", checked.layers),
        ("MapSectors", checked.map_sectors),
        ("Hashes", checked.hashes),
    ]);
    let has = |severity| {
        own.iter().any(|told| told.severity == severity)
            || found.found.iter().any(|finding| finding.severity == severity)
    };
    let end = match (has(Severity::Damage), has(Severity::Unknown)) {
        (true, _) => "damage was found",
        (false, true) => "no damage was found in what could be looked at",
        (false, false) => "no damage",
    };
    let things = documents.iter().map(|found| text(found, "Thing")).collect();
    let mut lines: Vec<String> = repairs.iter().map(repair_line).collect();
    lines.extend(documents.iter().map(line));
    lines.push(format!(
        "{end}: {} disks, {} layers, {} map sectors and {} hashes were checked",
        checked.disks, checked.layers, checked.map_sectors, checked.hashes
    ));
    let mut report = json!({ "Findings": documents, "Checked": counts });
    if is_repair {
        report["Repairs"] = repairs.into();
    }
    let report = Report::done(report, things, lines.join("\n"));
    let has_failed =
        repaired.repairs.iter().any(|repair| matches!(repair.state, RepairState::Failed(_)));
    let is_well = !has(Severity::Damage) && !has(Severity::Unknown) && !has_failed;
    if is_well { report } else { report.failing() }
}

fn repair(repair: &Repair) -> Value {
    let (state, reason) = match &repair.state {
        RepairState::Planned => ("Planned", None),
        RepairState::Done => ("Done", None),
        RepairState::Failed(reason) => ("Failed", Some(reason)),
    };
    json!({ "Thing": repair.thing, "Action": repair.action, "State": state, "Reason": reason })
}

fn repair_line(repair: &Value) -> String {
    let state = match text(repair, "State").as_str() {
        "Done" => "repaired".to_owned(),
        "Planned" => "not done".to_owned(),
        _ => format!("failed ({}; look at the device, then repair again)", text(repair, "Reason")),
    };
    format!("{state}: {}: {}", text(repair, "Thing"), text(repair, "Action"))
}

fn document(found: &Finding) -> Value {
    json!({
        "Kind": format!("{:?}", found.kind),
        "Severity": word(found.severity),
        "Thing": found.thing,
        "Affects": found.affects,
        "Message": found.message,
    })
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Damage => "Damage",
        Severity::Unknown => "Unknown",
        Severity::Note => "Note",
    }
}

fn line(found: &Value) -> String {
    let affects: Vec<&str> =
        found["Affects"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let who = if affects.is_empty() {
        String::new()
    } else {
        format!(" (affects {})", affects.join(", "))
    };
    let (severity, thing) = (text(found, "Severity").to_lowercase(), text(found, "Thing"));
    format!("{severity}: {thing}: {}{who}", text(found, "Message"))
}

fn text(found: &Value, field: &str) -> String {
    found[field].as_str().unwrap_or_default().to_owned()
}
