//! One life of a store: what each step does, and what must be found after each crash.
//!
//! What must always hold: after a crash all of the store is compared, and the life goes on with
//! what was found. A call that failed is followed by a crash: what it left behind must be sound.
//! Left to others: taking steps out (`shortening`).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::{Setting, Tally};
use crate::{
    faulty_storage::{ANY, CHANGES, ERRNOS},
    recorded_storage::{Dice, RecordedStorage, without_lost_pages},
    reference_model::{Bench, Expectation, Model, Operation, Step, check_served, random_operation},
};

/// A store, its model, and what was done to it.
#[derive(Debug)]
pub struct Life {
    bench: Bench,
    setting: Setting,
    story: Vec<String>,
    tally: Tally,
    changes: DefaultHasher,
}

impl Life {
    /// An empty store.
    pub fn new(setting: Setting) -> Self {
        let made = RecordedStorage::empty();
        block_store::Store::create(&*made).expect("an empty directory");
        let storage = RecordedStorage::seeded_after(made.changes(made.moment()), 0);
        let bench = Bench::on(storage, Model::default()).expect("an empty store");
        let (story, tally) = (Vec::new(), Tally::default());
        let life = Self { bench, setting, story, tally, changes: DefaultHasher::new() };
        life.take_syncs_away(&life.bench.storage);
        life
    }

    /// What was done.
    pub fn story(&self) -> Vec<String> {
        self.story.clone()
    }

    /// Does what the number says.
    pub fn step(&mut self, number: u64) -> Result<(), String> {
        let mut dice = Dice::new(number);
        let operation = random_operation(&self.bench.model, &mut dice);
        self.tally.steps += 1;
        match dice.below(100) {
            0..=11 => self.crash_in(&operation, &mut dice),
            12..=19 => self.fail_in(&operation, &mut dice),
            20..=35 => {
                self.perform(&operation)?;
                self.tell("look at all of it");
                self.look()
            }
            36..=55 => {
                self.perform(&operation)?;
                self.perform(&Operation::Settle)
            }
            _ => self.perform(&operation),
        }
    }

    /// Kills the process, looks, and cuts the power, and looks.
    pub fn end(&mut self) -> Result<Tally, String> {
        for is_kill in [true, false] {
            let (moment, expected) = (self.bench.storage.moment(), self.bench.model.expect());
            self.crash(&self.bench.storage.clone(), moment, (is_kill, 7), &expected)?;
        }
        Ok(Tally { fingerprint: self.changes.finish(), ..self.tally })
    }

    fn tell(&mut self, what: impl Into<String>) {
        self.story.push(what.into());
    }

    fn perform(&mut self, operation: &Operation) -> Result<(), String> {
        self.tell(format!("{operation:?}"));
        self.bench.perform(operation).answer
    }

    /// While nothing failed everything reads as it was written, and nothing else is possible.
    fn look(&self) -> Result<(), String> {
        let found = check_served(self.bench.store(), &self.bench.model.expect())?;
        for (disk, found) in found {
            let (found, wanted) = (found.content(), self.bench.model.disks[&disk].content());
            if let Some(place) = (0..wanted.len()).find(|place| found[*place] != wanted[*place]) {
                let (found, wanted) = (found[place], wanted[place]);
                return Err(format!("{disk} sector {place} reads {found}, not {wanted}"));
            }
        }
        Ok(())
    }

    /// A crash at a moment of the operation, or of the work it left for later.
    fn crash_in(&mut self, operation: &Operation, dice: &mut Dice) -> Result<(), String> {
        self.tell(format!("{operation:?}, with a crash in it"));
        let step = self.bench.perform(operation);
        step.answer.clone()?;
        if dice.flip() {
            self.bench.store().wait_for_background();
        }
        let moment = moment_between(step.start, self.bench.storage.moment(), dice);
        let expected = step.expected_at(moment, dice.flip());
        self.crash_and_recover(moment, &expected, dice)
    }

    /// A call of the operation fails; others go on for a while; then a crash.
    fn fail_in(&mut self, operation: &Operation, dice: &mut Dice) -> Result<(), String> {
        let errno = *dice.pick(&ERRNOS).expect("there are some");
        let nth = 1 + index(dice.below(12));
        self.tell(format!("{operation:?}, of which call {nth} fails with {errno}"));
        self.bench.storage.faults().arm(CHANGES, nth, errno);
        let step = self.bench.perform(operation);
        if self.bench.is_open() && dice.flip() {
            self.bench.store().wait_for_background();
        }
        let Some(struck) = self.bench.storage.faults().disarm() else { return step.answer };
        self.tally.faults += 1;
        self.tell(format!("{struck:?} failed, answered {:?}", step.answer));
        self.bench.model.may_leak = true;
        let mut expected = step.expected_at(usize::MAX, true);
        expected.may_leak = true;
        if self.bench.is_open() {
            self.others_go_on(&step, &mut expected);
        }
        let moment = self.bench.storage.moment();
        self.crash_and_recover(moment, &expected, dice)
    }

    /// A failed call of one disk may have stopped the ledger for all; but what is answered holds.
    fn others_go_on(&mut self, step: &Step, expected: &mut Expectation) {
        let others = self.bench.model.disks.keys().filter(|disk| !step.is_about(disk));
        for disk in others.cloned().collect::<Vec<_>>() {
            let Some(states) = expected.disks.get_mut(&disk) else { continue };
            if self.bench.perform(&Operation::Flush { disk: disk.clone() }).answer.is_ok() {
                *states = vec![self.bench.model.disks[&disk].clone()];
            }
        }
    }

    /// A crash, now and then one in the start that follows, and on with what is left.
    fn crash_and_recover(
        &mut self,
        mut moment: usize,
        expected: &Expectation,
        dice: &mut Dice,
    ) -> Result<(), String> {
        let (mut storage, mut expected) = (self.bench.storage.clone(), expected.clone());
        while dice.below(4) == 0 {
            let is_kill = self.crashed(dice);
            storage = self.left(&storage, moment, (is_kill, dice.number()));
            moment = self.start_and_fail(&storage, &mut expected, dice)?;
        }
        let is_kill = self.crashed(dice);
        self.crash(&storage, moment, (is_kill, dice.number()), &expected)
    }

    fn crashed(&mut self, dice: &mut Dice) -> bool {
        let is_kill = dice.below(3) == 0;
        self.tell(if is_kill { "kill -9" } else { "power loss" });
        is_kill
    }

    /// A start of which a call may fail; answers a moment of it. It must have spoiled nothing.
    fn start_and_fail(
        &mut self,
        storage: &Arc<RecordedStorage>,
        expected: &mut Expectation,
        dice: &mut Dice,
    ) -> Result<usize, String> {
        let (start, nth) = (storage.moment(), 1 + index(dice.below(60)));
        let errno = *dice.pick(&ERRNOS).expect("there are some");
        if dice.flip() {
            storage.faults().arm(ANY, nth, errno);
        }
        let model = self.bench.model.clone();
        let started = Bench::after_kill(storage.clone(), model, expected).map(drop);
        let struck = storage.faults().disarm();
        self.tell(format!("start, of which {struck:?} failed with {errno}: {started:?}"));
        match struck {
            Some(_) => {
                self.tally.faults += 1;
                (self.bench.model.may_leak, expected.may_leak) = (true, true);
            }
            None => started?,
        }
        Ok(moment_between(start, storage.moment(), dice))
    }

    fn crash(
        &mut self,
        storage: &Arc<RecordedStorage>,
        moment: usize,
        (is_kill, seed): (bool, u64),
        expected: &Expectation,
    ) -> Result<(), String> {
        let left = self.left(storage, moment, (is_kill, seed));
        let model = self.bench.model.clone();
        self.bench = match is_kill {
            true => Bench::after_kill(left, model, expected),
            false => Bench::on_device(left, model, expected),
        }?;
        Ok(())
    }

    /// What a crash at a moment leaves.
    fn left(
        &mut self,
        storage: &RecordedStorage,
        moment: usize,
        (is_kill, seed): (bool, u64),
    ) -> Arc<RecordedStorage> {
        let changes = storage.changes(moment);
        changes.hash(&mut self.changes);
        let unit = if seed & 1 == 0 { 512 } else { 4096 };
        let changes = if is_kill {
            self.tally.kills += 1;
            without_lost_pages(&changes, seed, unit)
        } else {
            self.tally.cuts += 1;
            storage.cut(moment, seed, unit).durable_changes()
        };
        let left = RecordedStorage::seeded_after(changes, seed);
        self.take_syncs_away(&left);
        left
    }

    fn take_syncs_away(&self, storage: &RecordedStorage) {
        if let Some(omitted) = self.setting.omitted {
            storage.omit(move |role, _| role == omitted);
        }
    }
}

fn moment_between(start: usize, end: usize, dice: &mut Dice) -> usize {
    start + index(dice.below(u64::try_from(end - start + 1).expect("64-bit")))
}

fn index(drawn: u64) -> usize {
    usize::try_from(drawn).expect("64-bit")
}
