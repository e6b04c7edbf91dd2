//! The cloud over a real store: rules, states, races and restarts, without HTTP.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod accounts;
mod batches;
mod buckets;
mod checks;
mod disks;
mod flows;
mod gate;
mod groups;
mod image_forms;
mod images;
mod instances;
mod keep;
mod lab;
mod limits;
mod pairs;
mod races;
mod receipts;
mod refusals;
mod replacements;
mod resets;
mod restarts;
mod scene;
mod security;
mod seeds;
mod snapshots;
mod space;
mod tokens;
