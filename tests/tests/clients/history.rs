//! What was asked of a cell and what it answered, and whether some serial order explains that.
//!
//! What must always hold
//! 1. A call took effect at one moment between its sending and its answer; one that was not answered did so
//!    before the daemon died, or never.
//! 2. A refusal for a state between two changes nothing and needs its reason: a call that was done, or may
//!    have been, and was under way at that time.
//!
//! The search goes through the beginnings and ends of calls in order and keeps every state the cell may be
//! in, each with the calls under way that have already taken effect there. At the end of a call only those
//! are kept in which it has.

use std::collections::BTreeSet;

use crate::model::{Answer, Call, Number, State};

/// A state between two that an answer spoke of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    /// The disk, where it is known which.
    ReIniting(Option<Number>),
    Attaching(Option<Number>),
    Detaching(Option<Number>),
    Starting,
    Stopping,
    /// A snapshot of that disk is being taken.
    Snapshotting(Number),
    /// That snapshot is being taken.
    Progressing(Number),
    /// Something is being made from that snapshot, or it is being taken.
    InUse(Number),
    /// The layer of the disk goes with a snapshot that is being deleted.
    Leaving,
}

/// One call and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) call: Call,
    pub(crate) answer: Answer,
    pub(crate) between: Vec<Between>,
    /// In nanoseconds of the run.
    pub(crate) begun: u64,
    /// [`NOT_YET`] for a call that was not answered, until the cell is found at rest.
    pub(crate) ended: u64,
}

pub(crate) const NOT_YET: u64 = u64::MAX;

/// Stop and detach answer after three seconds at the latest and go on alone: an answer that comes so late
/// says nothing.
const ANSWERED_LATE: u64 = 2_500_000_000;

/// All states the cell may be in after this, or what no order explains.
pub(crate) fn explain(
    before: &BTreeSet<State>,
    history: &[Entry],
) -> Result<BTreeSet<State>, String> {
    if let Some(entry) = history.iter().find(|entry| !has_its_reason(entry, history)) {
        return Err(format!("{entry:?} speaks of what nobody did then"));
    }
    let mut search = Search {
        history,
        places: before.iter().map(|state| (state.clone(), BTreeSet::new())).collect(),
        under_way: BTreeSet::new(),
    };
    for (_, moment, n) in moments(history) {
        match moment {
            Moment::Begins => drop(search.under_way.insert(n)),
            Moment::Ends => search.end(n)?,
        }
    }
    Ok(search.places.into_iter().map(|(state, _)| state).collect())
}

/// At one time beginnings come first: what may overlap does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Begins,
    Ends,
}

fn moments(history: &[Entry]) -> Vec<(u64, Moment, usize)> {
    let mut moments = Vec::new();
    for (n, entry) in history.iter().enumerate().filter(|(_, entry)| entry.says_something()) {
        moments.push((entry.begun, Moment::Begins, n));
        moments.push((entry.ended, Moment::Ends, n));
    }
    moments.sort();
    moments
}

impl Entry {
    pub(crate) fn new(call: Call, [begun, ended]: [u64; 2], answer: Answer) -> Self {
        let goes_on = matches!(call, Call::Stop | Call::Detach(_)) && answer == Answer::Done;
        let is_late = goes_on && ended - begun > ANSWERED_LATE;
        let answer = if is_late { Answer::None } else { answer };
        let ended = if answer == Answer::None { NOT_YET } else { ended };
        Self { call, answer, between: Vec::new(), begun, ended }
    }

    /// Whether it is a part of the search: not a refusal in between, nor a question without an answer.
    fn says_something(&self) -> bool {
        match self.answer {
            Answer::Refused(_) => self.between.is_empty(),
            Answer::None => !self.call.only_asks(),
            Answer::Done | Answer::Seen(_) => true,
        }
    }
}

impl Call {
    fn only_asks(self) -> bool {
        matches!(self, Self::SeeInstance | Self::SeeDisks | Self::SeeSnapshots | Self::SeeImages)
    }
}

/// A state, and which of the calls under way have taken effect.
type Place = (State, BTreeSet<usize>);

struct Search<'h> {
    history: &'h [Entry],
    places: BTreeSet<Place>,
    under_way: BTreeSet<usize>,
}

impl Search<'_> {
    fn end(&mut self, n: usize) -> Result<(), String> {
        let may_have_failed = self.history[n].answer == Answer::None;
        let reached = self.reached();
        self.under_way.remove(&n);
        let places = reached.into_iter().filter_map(|(state, mut done)| {
            (done.remove(&n) || may_have_failed).then_some((state, done))
        });
        let places: BTreeSet<Place> = places.collect();
        if places.is_empty() {
            return Err(self.told(n));
        }
        self.places = places;
        Ok(())
    }

    /// Every place that calls under way lead to, in any order of any of them.
    fn reached(&self) -> BTreeSet<Place> {
        let mut reached = self.places.clone();
        let mut to_look_at: Vec<Place> = reached.iter().cloned().collect();
        while let Some((state, done)) = to_look_at.pop() {
            for n in self.under_way.difference(&done) {
                let entry = &self.history[*n];
                if self.has_a_twin_before(*n, &done) {
                    continue;
                }
                let Some(after) = state.after(entry.call, &entry.answer) else { continue };
                if entry.answer == Answer::None && after == state {
                    continue;
                }
                let mut more = done.clone();
                more.insert(*n);
                let place = (after, more);
                if reached.insert(place.clone()) {
                    to_look_at.push(place);
                }
            }
        }
        reached
    }

    /// Of calls without an answer that ask for the same it does not matter which one took effect.
    fn has_a_twin_before(&self, n: usize, done: &BTreeSet<usize>) -> bool {
        let entry = &self.history[n];
        let is_twin = |other: &Entry| other.answer == Answer::None && other.call == entry.call;
        entry.answer == Answer::None
            && self.under_way.range(..n).any(|m| is_twin(&self.history[*m]) && !done.contains(m))
    }

    fn told(&self, n: usize) -> String {
        let mut told = format!("no order explains {:?}\nunder way:\n", self.history[n]);
        for other in &self.under_way {
            told.push_str(&format!("  {:?}\n", self.history[*other]));
        }
        told.push_str("the cell before:\n");
        for (state, done) in &self.places {
            told.push_str(&format!("  {state:?}, with {done:?} done\n"));
        }
        let last = self.history.iter().filter(|entry| entry.ended < self.history[n].begun);
        let mut last: Vec<_> = last.collect();
        last.sort_by_key(|entry| entry.ended);
        told.push_str("the last calls before:\n");
        for entry in last.iter().rev().take(12).rev() {
            told.push_str(&format!("  {entry:?}\n"));
        }
        told
    }
}

fn has_its_reason(entry: &Entry, history: &[Entry]) -> bool {
    let meets = |other: &Entry| {
        // The hashes of a snapshot follow its answer.
        let goes_on = matches!(other.call, Call::CreateSnapshot { .. });
        let ended = if goes_on { NOT_YET } else { other.ended };
        matches!(other.answer, Answer::Done | Answer::None)
            && other.begun <= entry.ended
            && ended >= entry.begun
    };
    let is_reason =
        |between: Between| history.iter().any(|other| shows(other.call, between) && meets(other));
    entry.between.iter().all(|between| is_reason(*between))
}

/// Whether a call is in this state while it is under way.
fn shows(call: Call, between: Between) -> bool {
    let is = |asked: Option<Number>, disk| asked.is_none_or(|asked| asked == disk);
    match (between, call) {
        (Between::ReIniting(asked), Call::Reset(disk))
        | (Between::Attaching(asked), Call::Attach(disk))
        | (Between::Detaching(asked), Call::Detach(disk)) => is(asked, disk),
        (Between::Starting, Call::Start)
        | (Between::Stopping, Call::Stop)
        // Which snapshot a disk goes back to is not looked up.
        | (Between::InUse(_), Call::Reset(_))
        | (Between::Leaving, Call::DeleteSnapshot { .. }) => true,
        (Between::Snapshotting(disk), Call::CreateSnapshot { of, .. }) => of == disk,
        (Between::Progressing(number) | Between::InUse(number), Call::CreateSnapshot { new, .. }) => {
            new == number
        }
        (Between::InUse(number), Call::CreateDisk { from, .. }) => from == Some(number),
        (Between::InUse(number), Call::CreateImage { of, .. }) => of == number,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Seen, SeenDisk};

    fn entry(call: Call, answer: Answer, begun: u64, ended: u64) -> Entry {
        Entry { call, answer, between: Vec::new(), begun, ended }
    }

    fn refused(code: &str) -> Answer {
        Answer::Refused(code.into())
    }

    fn explained(history: &[Entry]) -> Result<BTreeSet<State>, String> {
        explain(&BTreeSet::from([State::new(20)]), history)
    }

    fn runs(is: bool) -> Answer {
        Answer::Seen(Seen::Runs(is))
    }

    #[test]
    fn calls_one_after_another_have_one_order() {
        let reset = |answer| entry(Call::Reset(0), answer, 3, 4);
        let started = entry(Call::Start, Answer::Done, 1, 2);
        assert!(explained(&[started.clone(), reset(Answer::Done)]).is_err());
        explained(&[started, reset(refused("IncorrectInstanceStatus"))]).unwrap();
    }

    #[test]
    fn calls_at_once_may_go_either_way() {
        let started = entry(Call::Start, Answer::Done, 1, 4);
        for answer in [Answer::Done, refused("IncorrectInstanceStatus")] {
            explained(&[started.clone(), entry(Call::Reset(0), answer, 2, 3)]).unwrap();
        }
        let wrong = entry(Call::Reset(0), refused("IncorrectDiskStatus"), 2, 3);
        assert!(explained(&[started, wrong]).is_err());
    }

    #[test]
    fn nobody_sees_an_end_and_then_the_beginning() {
        let started = entry(Call::Start, Answer::Done, 1, 9);
        let seen = |is, at| entry(Call::SeeInstance, runs(is), at, at + 1);
        explained(&[started.clone(), seen(false, 2), seen(true, 4)]).unwrap();
        assert!(explained(&[started, seen(true, 2), seen(false, 4)]).is_err());
    }

    #[test]
    fn what_was_answered_holds_and_what_was_not_is_done_or_not() {
        let made = |answer| entry(Call::CreateDisk { new: 1, gib: 5, from: None }, answer, 1, 5);
        let seen = |numbers: &[Number]| {
            let disk = |number: &Number| {
                let gib = if *number == 0 { 20 } else { 5 };
                (*number, SeenDisk { attached: *number == 0, gib, tag: 0 })
            };
            let seen = Seen::Disks(numbers.iter().map(disk).collect());
            entry(Call::SeeDisks, Answer::Seen(seen), 6, 7)
        };
        explained(&[made(Answer::Done), seen(&[0, 1])]).unwrap();
        assert!(explained(&[made(Answer::Done), seen(&[0])]).is_err());
        explained(&[made(Answer::None), seen(&[0])]).unwrap();
        explained(&[made(Answer::None), seen(&[0, 1])]).unwrap();
        let late = entry(Call::SeeDisks, seen(&[0]).answer, 8, 9);
        assert!(explained(&[made(Answer::None), seen(&[0, 1]), late]).is_err());
    }

    #[test]
    fn the_repetition_of_a_call_makes_no_second_disk() {
        let call = Call::CreateDisk { new: 1, gib: 5, from: None };
        let first = |answer| entry(call, answer, 1, 2);
        let deleted = entry(Call::DeleteDisk(1), Answer::Done, 3, 4);
        let again = entry(call, Answer::Done, 5, 6);
        let gone = entry(Call::DeleteDisk(1), refused("InvalidDiskId.NotFound"), 7, 8);
        explained(&[first(Answer::Done), deleted.clone(), again.clone(), gone.clone()]).unwrap();
        explained(&[first(Answer::None), deleted, again.clone(), gone.clone()]).unwrap();
        assert!(explained(&[first(Answer::None), again, gone]).is_err());
    }

    #[test]
    fn a_state_between_two_needs_somebody_who_is_there() {
        let busy = Entry {
            between: vec![Between::ReIniting(Some(0))],
            ..entry(Call::Detach(0), refused("IncorrectDiskStatus"), 3, 4)
        };
        let reset = |begun, ended| entry(Call::Reset(0), Answer::Done, begun, ended);
        explained(&[reset(1, 3), busy.clone()]).unwrap();
        assert!(explained(&[reset(1, 2), busy.clone()]).is_err());
        let stood_back = entry(Call::Reset(0), refused("IncorrectInstanceStatus"), 1, 5);
        assert!(explained(&[stood_back, busy]).is_err());
    }
}
