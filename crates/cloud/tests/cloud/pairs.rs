//! Every two calls at the same moment: what both answered and what is there afterwards must be what one
//! of the two orders gives.
//!
//! What is right is not written down anywhere: both orders are run, one call after the other, and so is
//! each call alone. Beside the two orders one more outcome is right: one call was done as if it were alone,
//! and the other was refused for a state between two that the first one shows while it is under way.
//!
//! `REINIT_RACES` is the number of rounds; `REINIT_SEED` repeats which calls meet and with what delay,
//! not what the machine makes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt, hint,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    lab::Lab,
    scene::{Answer, Call, Scene, Start},
};

/// The pairs that users run into, so that most rounds are theirs.
const LIKELY: &[(Start, Call, Call)] = &[
    (Start::Stopped, Call::Reset, Call::Reset),
    (Start::Stopped, Call::Reset, Call::Detach),
    (Start::Stopped, Call::Reset, Call::Snapshot),
    (Start::Stopped, Call::Reset, Call::Start),
    (Start::Stopped, Call::Reset, Call::DeleteSource),
    (Start::Stopped, Call::Reset, Call::DeleteInstance),
    (Start::Stopped, Call::ResetSystem, Call::DeleteImage),
    (Start::Stopped, Call::ResetSystem, Call::Start),
    (Start::Apart, Call::Reset, Call::Attach),
    (Start::Apart, Call::Reset, Call::DeleteDisk),
    (Start::Apart, Call::Attach, Call::DeleteDisk),
    (Start::Running, Call::Reset, Call::Stop),
];

/// The longest that one of two calls is late.
const LATEST: u64 = 2_000;

/// Scenes at the same time: most of their time is waiting for the device.
const AT_ONCE: usize = 16;

#[test]
fn any_two_calls_at_once_end_as_one_order_of_them_would() {
    let number = |name, usual: u64| env::var(name).map_or(usual, |value| value.parse().unwrap());
    let (rounds, mut dice) = (number("REINIT_RACES", 200), Dice(number("REINIT_SEED", 1)));
    let races: Vec<Race> = (0..rounds).map(|_| dice.race()).collect();
    let lab = Lab::on_sled();
    let image = lab.image(&lab.key(), "base", 1);
    let stage = Stage { lab: &lab, image: &image };
    let orders = Orders::of(stage, &races);
    let explained = at_once(&races, |race| {
        let found = race.run(stage);
        orders
            .explain(race, &found)
            .unwrap_or_else(|| panic!("{race:?}: no order explains {found}\n{}", orders.told(race)))
    });
    let stood_back = explained.iter().filter(|how| **how == Explained::OneStoodBack).count();
    let as_an_order = explained.len() - stood_back;
    eprintln!("races: {as_an_order} as an order, {stood_back} where one stood back");
}

/// Does it for all of them, some at the same time.
fn at_once<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || items.get(next.fetch_add(1, Ordering::Relaxed));
    thread::scope(|scope| {
        let working = [(); AT_ONCE]
            .map(|()| scope.spawn(|| std::iter::from_fn(take).map(&work).collect::<Vec<_>>()));
        working.into_iter().flat_map(|done| done.join().unwrap()).collect()
    })
}

/// Where scenes are set.
#[derive(Clone, Copy)]
struct Stage<'l> {
    lab: &'l Lab,
    /// For scenes in which nobody deletes theirs.
    image: &'l str,
}

impl<'l> Stage<'l> {
    fn scene(self, start: Start, calls: &[Call]) -> Scene<'l> {
        let own = calls.contains(&Call::DeleteImage);
        Scene::new(self.lab, start, (!own).then_some(self.image))
    }

    /// One call after another.
    fn in_order<const N: usize>(self, start: Start, calls: [Call; N]) -> Outcome<N> {
        let scene = self.scene(start, &calls);
        let answers = calls.map(|call| {
            let answer = scene.run(call);
            scene.settle();
            answer
        });
        Outcome { answers, seen: scene.look() }
    }
}

/// What calls answered, and what was seen afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome<const N: usize> {
    answers: [Answer; N],
    seen: String,
}

impl<const N: usize> fmt::Display for Outcome<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}\n{}", self.answers, self.seen)
    }
}

/// Two calls at the same moment, but for how late each is.
#[derive(Debug)]
struct Race {
    start: Start,
    calls: [Call; 2],
    late: [Duration; 2],
}

impl Race {
    fn run(&self, stage: Stage<'_>) -> Outcome<2> {
        let (scene, barrier) = (stage.scene(self.start, &self.calls), Barrier::new(2));
        let (scene, barrier) = (&scene, &barrier);
        let answers = thread::scope(|scope| {
            let running = [0, 1].map(|n| {
                scope.spawn(move || {
                    barrier.wait();
                    let begun = Instant::now();
                    // A sleep would end far later than asked.
                    while begun.elapsed() < self.late[n] {
                        hint::spin_loop();
                    }
                    scene.run(self.calls[n])
                })
            });
            running.map(|call| call.join().unwrap())
        });
        scene.settle();
        Outcome { answers, seen: scene.look() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Explained {
    AnOrder,
    OneStoodBack,
}

/// What comes of calls one after another.
struct Orders {
    serial: BTreeMap<(Start, [Call; 2]), Outcome<2>>,
    alone: BTreeMap<(Start, Call), Outcome<1>>,
}

impl Orders {
    /// All that these races may end as.
    fn of(stage: Stage<'_>, races: &[Race]) -> Self {
        let both = races.iter().flat_map(|race| {
            let [a, b] = race.calls;
            [(race.start, [a, b]), (race.start, [b, a])]
        });
        let each = races.iter().flat_map(|race| race.calls.map(|call| (race.start, call)));
        let both: Vec<_> = both.collect::<BTreeSet<_>>().into_iter().collect();
        let each: Vec<_> = each.collect::<BTreeSet<_>>().into_iter().collect();
        let serial =
            at_once(&both, |(start, calls)| ((*start, *calls), stage.in_order(*start, *calls)));
        let alone =
            at_once(&each, |(start, call)| ((*start, *call), stage.in_order(*start, [*call])));
        Self { serial: serial.into_iter().collect(), alone: alone.into_iter().collect() }
    }

    fn explain(&self, race: &Race, found: &Outcome<2>) -> Option<Explained> {
        let ([a, b], [of_a, of_b]) = (race.calls, &found.answers);
        let mirrored = Outcome { answers: [of_b.clone(), of_a.clone()], seen: found.seen.clone() };
        let serial = |calls| &self.serial[&(race.start, calls)];
        if *serial([a, b]) == *found || *serial([b, a]) == mirrored {
            return Some(Explained::AnOrder);
        }
        let stood_back = |winner: Call, done: &Answer, refused: &Answer| {
            let Err(refusal) = refused else { return false };
            let between = winner.shows_meanwhile().iter().any(|shown| refusal.contains(shown));
            let Outcome { answers: [answer], seen } = &self.alone[&(race.start, winner)];
            between && answer.is_ok() && answer == done && *seen == found.seen
        };
        let one_did = stood_back(a, of_a, of_b) || stood_back(b, of_b, of_a);
        one_did.then_some(Explained::OneStoodBack)
    }

    /// What would have been right, for a person to read.
    fn told(&self, race: &Race) -> String {
        let [a, b] = race.calls;
        let orders = [[a, b], [b, a]]
            .map(|calls| format!("{calls:?} in order: {}", self.serial[&(race.start, calls)]));
        let alone =
            [a, b].map(|call| format!("{call:?} alone: {}", self.alone[&(race.start, call)]));
        format!("{}\n{}", orders.join("\n"), alone.join("\n"))
    }
}

/// A small source of numbers that a seed repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        let n = self.below(u64::try_from(items.len()).unwrap());
        items[usize::try_from(n).unwrap()]
    }

    fn race(&mut self) -> Race {
        let likely = self.below(4) != 0;
        let (start, a, b) = match likely {
            true => self.pick(LIKELY),
            false => (self.pick(&Start::ALL), self.pick(&Call::ALL), self.pick(&Call::ALL)),
        };
        let late = [(); 2].map(|()| Duration::from_micros(self.below(LATEST)));
        Race { start, calls: [a, b], late }
    }
}
