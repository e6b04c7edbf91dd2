//! The questions, one file each.
//!
//! What must always hold: a question gives its rows, or one row that says why it could not be
//! asked; it never ends the run.

pub mod depth;
pub mod engine_reset;
pub mod http_load;
pub mod http_reset;
pub mod import;
pub mod live_reset;
pub mod mass_reset;
pub mod memory;
pub mod reclaim;
pub mod start;

use std::path::PathBuf;

use crate::{
    daemon::Program,
    filesystem::Place,
    table::{Finding, Row},
};

/// What a run was asked for.
#[derive(Clone, Debug)]
pub struct Scope {
    /// How many rounds each case has.
    pub rounds: usize,
    /// Small sizes and few cases: to see that everything runs.
    pub quick: bool,
    /// The program `reinit`; none = the release build of this workspace.
    pub program: Option<PathBuf>,
}

impl Scope {
    fn program(&self) -> anyhow::Result<Program> {
        Program::get(self.program.as_deref())
    }

    /// The full size, or the small one.
    fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// Cases and what came of them.
type Findings = Vec<(String, Finding)>;

/// A question of the table.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Its name.
    pub name: &'static str,
    ask: fn(&Scope, &Place) -> anyhow::Result<Findings>,
}

/// All of them, in the order of the table.
pub const ALL: [Question; 10] = [
    // First: what other questions left of the heap would hide what this one takes.
    Question { name: "memory", ask: memory::ask },
    Question { name: "engine_reset", ask: engine_reset::ask },
    Question { name: "live_reset", ask: live_reset::ask },
    Question { name: "http_reset", ask: http_reset::ask },
    Question { name: "http_load", ask: http_load::ask },
    Question { name: "mass_reset", ask: mass_reset::ask },
    Question { name: "import", ask: import::ask },
    Question { name: "depth", ask: depth::ask },
    Question { name: "reclaim", ask: reclaim::ask },
    Question { name: "start", ask: start::ask },
];

impl Question {
    /// Its rows on one file system.
    pub fn rows(&self, scope: &Scope, place: &Place) -> Vec<Row> {
        let findings = (self.ask)(scope, place)
            .unwrap_or_else(|error| vec![("all".into(), Finding::Failed(format!("{error:#}")))]);
        let row =
            |(case, finding)| Row { question: self.name, on: place.name.clone(), case, finding };
        findings.into_iter().map(row).collect()
    }
}
