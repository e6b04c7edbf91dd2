//! A disk of the demo and the hash of all it held at three moments.
//!
//! What must always hold: it proves something only if the disk was ruined in between.

use anyhow::bail;
use serde_json::{Value, json};

/// A disk and what it held at three moments.
#[derive(Debug, Default)]
pub(super) struct Proof {
    pub(super) what: &'static str,
    pub(super) disk: String,
    pub(super) before: String,
    pub(super) ruined: String,
    pub(super) after: String,
}

impl Proof {
    pub(super) fn of(what: &'static str, disk: &str) -> Self {
        Self { what, disk: disk.into(), ..Self::default() }
    }

    pub(super) fn row(&self) -> Vec<String> {
        let short = |hash: &str| hash.get(..16).unwrap_or(hash).to_owned();
        let after = format!("{} identical", short(&self.after));
        vec![self.what.into(), short(&self.before), short(&self.ruined), after]
    }

    pub(super) fn document(&self) -> Value {
        json!({
            "DiskId": self.disk,
            "Kind": self.what,
            "HashBefore": self.before,
            "HashRuined": self.ruined,
            "HashAfter": self.after,
        })
    }

    /// The point of it all.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Self { what, before, ruined, after, .. } = self;
        if before == ruined {
            bail!("the {what} was not ruined, so that nothing is proved");
        }
        if before != after {
            bail!("the {what} is not back: {before} before, {after} after");
        }
        Ok(())
    }
}
