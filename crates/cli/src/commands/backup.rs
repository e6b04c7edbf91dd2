//! `backup`: what to copy of a store that goes on running.
//!
//! What must always hold: a layer that cannot be copied is told, and is a failure; the others are named all the same.

use serde_json::{Value, json};

use crate::{
    control::{Control, Parameters},
    failure::Failure,
    output::{self, Report},
    places::Places,
};

pub(crate) fn run(places: &Places, control: &Control) -> Result<Report, Failure> {
    let answer = control.call("BeginBackup", &Parameters::new())?;
    let (layers, lost) = (names(&answer["Layers"]), names(&answer["LostLayers"]));
    let export = places.catalog_export().display().to_string();
    let rows = layers.iter().map(|layer| vec![layer.clone()]).collect();
    let document = json!({ "Export": export, "Layers": layers, "LostLayers": lost });
    let report = Report::list(document, &["LAYER"], rows);
    if lost.is_empty() {
        return Ok(report);
    }
    output::note(&format!(
        "reinit: these layers are lost and missing from the backup, `reinit scrub` tells what needs them: {}",
        lost.join(" ")
    ));
    Ok(report.failing())
}

fn names(list: &Value) -> Vec<String> {
    let all = list["LayerId"].as_array().into_iter().flatten();
    all.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}
