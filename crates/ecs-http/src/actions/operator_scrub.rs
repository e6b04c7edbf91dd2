//! The scrub, for the operator: started, watched, stopped.
//!
//! What must always hold: starting one that runs already only shows it.

use block_device::ByteLength;
use block_store::ScrubFinding;
use cloud::{ScrubStatus, ScrubView};

use super::contract::whole;
use super::shape::{Field, list_field, text_field, texts_field, whole_field};
use super::{Action, Call, Fields};
use crate::{refusal::Refusal, tree::Tree};

pub(super) const ACTIONS: &[Action] = &[
    Action::for_operator("StartScrub", start)
        .takes(&[&[whole("Rate", 0, u64::MAX)]])
        .answers(&[SCRUB]),
    Action::for_operator("ShowScrub", show).answers(&[SCRUB]),
    Action::for_operator("CancelScrub", cancel).answers(&[SCRUB]),
];

const SCRUB: &[Field] = &[
    text_field("Status"),
    whole_field("BytesDone"),
    whole_field("BytesTotal"),
    text_field("ErrorMessage"),
    // Once it is finished.
    whole_field("Layers").at_times(),
    whole_field("LayersWithoutHashes").at_times(),
    whole_field("Clusters").at_times(),
    whole_field("Bytes").at_times(),
    list_field("Findings", "ScrubFinding", &[FINDING]).at_times(),
];

const FINDING: &[Field] = &[
    text_field("LayerId"),
    text_field("Kind"),
    texts_field("Affects", "Resource"),
    // Of one that is at a place.
    whole_field("Offset").at_times(),
];

fn start(call: &Call<'_>) -> Result<Fields, Refusal> {
    let rate = call.parameters.number("Rate")?.map(ByteLength::new);
    Ok(view(&call.ask(|cloud, caller| cloud.start_scrub(caller, rate))?))
}

fn show(call: &Call<'_>) -> Result<Fields, Refusal> {
    Ok(view(&call.ask(|cloud, caller| cloud.scrub(caller))?))
}

fn cancel(call: &Call<'_>) -> Result<Fields, Refusal> {
    Ok(view(&call.ask(|cloud, caller| cloud.cancel_scrub(caller))?))
}

fn view(view: &ScrubView) -> Fields {
    let mut fields: Fields = vec![
        ("Status", status(view.status).into()),
        ("BytesDone", view.done.get().into()),
        ("BytesTotal", view.total.get().into()),
        ("ErrorMessage", (&view.error).into()),
    ];
    if let Some(report) = &view.report {
        fields.extend([
            ("Layers", report.layers.into()),
            ("LayersWithoutHashes", report.unhashed.into()),
            ("Clusters", report.clusters.into()),
            ("Bytes", report.bytes.get().into()),
            ("Findings", Tree::list("ScrubFinding", report.findings.iter().map(finding))),
        ]);
    }
    fields
}

fn status(status: ScrubStatus) -> &'static str {
    match status {
        ScrubStatus::Idle => "Idle",
        ScrubStatus::Running => "Running",
        ScrubStatus::Finished => "Finished",
        ScrubStatus::Cancelled => "Cancelled",
        ScrubStatus::Failed => "Failed",
    }
}

fn finding(finding: &ScrubFinding) -> Tree {
    let mut fields = vec![
        ("LayerId", finding.layer.to_string().into()),
        ("Kind", finding.kind.name().into()),
        ("Affects", Tree::texts("Resource", finding.affects().iter())),
    ];
    fields.extend(finding.offset.map(|offset| ("Offset", offset.get().into())));
    Tree::Object(fields)
}
