//! What was found, as one markdown table.
//!
//! What must always hold: every row says how it stands to its budget, also when that is badly.

use std::fmt::Write as _;

use crate::{
    ratio::Ratio,
    samples::{Samples, Unit},
};

/// One row: a case of a question on a file system.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which question.
    pub question: &'static str,
    /// On which file system.
    pub on: String,
    /// Which case of it.
    pub case: String,
    /// What came of it.
    pub finding: Finding,
}

/// What came of a case.
#[derive(Clone, Debug)]
pub enum Finding {
    /// Times of ours and of a peer.
    Compared {
        /// Ours, in seconds.
        ours: Samples,
        /// Its name and its times in seconds.
        peer: (&'static str, Samples),
        /// The largest ratio that holds the budget; none where there is no budget.
        at_most: Option<f64>,
    },
    /// Times of ours; the peer is not on this machine.
    Alone {
        /// Ours, in seconds.
        ours: Samples,
        /// Which peer, and why it is absent.
        absent: String,
    },
    /// Values of ours, against the budget alone.
    Measured {
        /// Ours.
        ours: Samples,
        /// Of what.
        unit: Unit,
        /// What the median must keep to.
        budget: Option<Budget>,
    },
    /// It could not be asked.
    Failed(String),
}

/// What a median must keep to.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Budget {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    fn show(self, unit: Unit) -> String {
        match self {
            Self::AtMost(most) => format!("<= {}", unit.show(most)),
            Self::AtLeast(least) => format!(">= {}", unit.show(least)),
        }
    }
}

impl Row {
    /// The cells: ours, the peer's, the ratio, the budget, whether it holds.
    fn cells(&self) -> [String; 5] {
        let none = || String::from("-");
        match &self.finding {
            Finding::Compared { ours, peer: (name, peer), at_most } => {
                let ratio = Ratio::of(ours, peer);
                let budget = at_most.map_or_else(none, |most| format!("<= {most:.2}"));
                let verdict = verdict(at_most.map(|most| ratio.median <= most));
                [ours.to_string(), format!("{name}: {peer}"), ratio.to_string(), budget, verdict]
            }
            Finding::Alone { ours, absent } => {
                [ours.to_string(), format!("absent: {absent}"), none(), none(), none()]
            }
            Finding::Measured { ours, unit, budget } => {
                let shown = budget.map_or_else(none, |budget| budget.show(*unit));
                let verdict = verdict(budget.map(|budget| budget.holds(ours.median())));
                [ours.show(*unit), none(), none(), shown, verdict]
            }
            Finding::Failed(why) => {
                [format!("failed: {why}"), none(), none(), none(), "**failed**".into()]
            }
        }
    }

    /// The row as a line of the table.
    pub fn line(&self) -> String {
        let cells = self.cells().map(|cell| cell.replace('|', "/").replace('\n', " "));
        format!("| {} | {} | {} | {} |", self.question, self.on, self.case, cells.join(" | "))
    }
}

fn verdict(holds: Option<bool>) -> String {
    match holds {
        Some(true) => "held".into(),
        Some(false) => "**missed**".into(),
        None => "-".into(),
    }
}

/// The whole document: what it was measured on, how, and the rows.
pub fn document(machine: &str, command: &str, notes: &[String], rows: &[Row]) -> String {
    let mut text = format!("{machine}\n\nAgain with: `{command}`\n\n");
    for note in notes {
        let _ = writeln!(text, "> {note}\n");
    }
    text += "Medians, in brackets the quartiles. A ratio is ours / peer round by round; below 1 \
             ours is faster.\n\n";
    text += "| question | on | case | ours | peer | ratio | budget | verdict |\n";
    text += "|---|---|---|---:|---:|---:|---:|---|\n";
    for row in rows {
        let _ = writeln!(text, "{}", row.line());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(finding: Finding) -> String {
        let case = "a|b".into();
        Row { question: "q", on: "ext4".into(), case, finding }.line().replacen("a|b", "a", 1)
    }

    fn samples(value: f64) -> Samples {
        [value; 3].into_iter().collect()
    }

    #[test]
    fn a_miss_is_printed_as_one() {
        let of = |ours| Finding::Compared {
            ours: samples(ours),
            peer: ("fdatasync", samples(0.002)),
            at_most: Some(1.5),
        };
        assert!(row(of(0.002)).ends_with("| 1.00 [1.00 to 1.00] | <= 1.50 | held |"));
        assert!(row(of(0.004)).ends_with("| 2.00 [2.00 to 2.00] | <= 1.50 | **missed** |"));
    }

    #[test]
    fn an_absent_peer_is_named() {
        let alone = Finding::Alone { ours: samples(0.1), absent: "qemu-img is not here".into() };
        assert!(row(alone).contains("absent: qemu-img is not here"));
    }

    #[test]
    fn budgets_bound_from_either_side() {
        let of = |budget| Finding::Measured {
            ours: samples(10.0),
            unit: Unit::PerSecond,
            budget: Some(budget),
        };
        assert!(row(of(Budget::AtLeast(9.0))).contains(">= 9/s | held"));
        assert!(row(of(Budget::AtMost(9.0))).contains("<= 9/s | **missed**"));
    }
}
