//! Whole lives of a store, made from a seed: everything that can be done to it, failing calls,
//! killed processes and power losses, one on top of the other.
//!
//! A program is a list of numbers, one for each step: what a step does follows from its number and
//! from what is there. So any step can be taken out and the others still have a meaning, which is
//! how a failing program is made short.
//!
//! What must always hold: one thread acts at a time (the store's work for later waits to be asked
//! for, the names of layers come from the seed), so that a program repeats to the last byte.
//! Left to others: what must be found (`reference_model`), what a crash leaves (`recorded_storage`).

mod life;
mod shortening;

use std::fmt;

use crate::recorded_storage::{Dice, SyncRole};

pub use life::Life;
pub use shortening::{live, shorten};

/// The numbers of the steps.
pub type Program = Vec<u64>;

/// The program of a seed.
pub fn program(seed: u64, steps: usize) -> Program {
    let mut dice = Dice::new(seed);
    (0..steps).map(|_| dice.number()).collect()
}

/// What all the lives of a program have in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting {
    /// Syncs for this are taken away: a test of the test.
    pub omitted: Option<SyncRole>,
}

/// What happened in a life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps that were done.
    pub steps: usize,
    /// Processes that were killed.
    pub kills: usize,
    /// Power losses.
    pub cuts: usize,
    /// Calls that failed.
    pub faults: usize,
    /// Stands for every change that was made, in order.
    pub fingerprint: u64,
}

impl Tally {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.kills += other.kills;
        self.cuts += other.cuts;
        self.faults += other.faults;
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// In this step, from 0.
    pub step: usize,
    /// What was found.
    pub told: String,
    /// What was done until then.
    pub story: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "step {}: {}", self.step, self.told)?;
        for (number, line) in self.story.iter().enumerate() {
            writeln!(f, "  {number}: {line}")?;
        }
        Ok(())
    }
}
