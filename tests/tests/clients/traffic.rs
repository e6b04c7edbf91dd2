//! A client: one call after another, right and wrong ones, over a connection that it keeps.
//!
//! What must always hold: every call that may have reached the daemon is in the history of its cell before
//! the client sends the next, with a beginning before it was sent and an end after it was answered.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tests::{
    kept_connection::KeptConnection,
    recorded_storage::Dice,
    signature::{self, Key, Signed},
    site::REGION,
};

use crate::{
    cell::{Cell, Kind, Request, SIGHTS},
    history::Entry,
    model::{Answer, Call},
};

/// Disks, snapshots and images a cell has at most: with few of them its clients meet.
const MOST: [(Kind, usize); 3] = [(Kind::Disk, 4), (Kind::Snapshot, 3), (Kind::Image, 2)];

/// What the daemon is doing, told to all clients.
#[derive(Debug, Default)]
struct Phase {
    /// Where it listens; none while it is down.
    address: Option<String>,
    /// From before it is killed.
    dies: bool,
    ends: bool,
    resting: usize,
}

/// So many at most: the daemon remembers the nonces of a quarter of an hour, four million of all keys, and throttles
/// who sends more.
const CALLS_PER_SECOND: u32 = 3_600;

/// Everything that the clients share.
#[derive(Debug)]
pub(crate) struct Field {
    phase: Mutex<Phase>,
    changed: Condvar,
    pub(crate) cells: Vec<Mutex<Cell>>,
    /// Of one account.
    keys: Vec<Key>,
    /// How long a client rests after a call at most.
    rest: Duration,
    began: Instant,
    violations: Mutex<Vec<String>>,
}

impl Field {
    pub(crate) fn new(cells: Vec<Cell>, keys: Vec<Key>, clients: usize) -> Self {
        let rest = Duration::from_secs(2) * u32::try_from(clients).unwrap() / CALLS_PER_SECOND;
        Self {
            phase: Mutex::default(),
            changed: Condvar::new(),
            cells: cells.into_iter().map(Mutex::new).collect(),
            keys,
            rest,
            began: Instant::now(),
            violations: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    pub(crate) fn violated(&self, what: String) {
        eprintln!("{what}");
        self.violations.lock().unwrap().push(what);
    }

    pub(crate) fn violations(&self) -> usize {
        self.violations.lock().unwrap().len()
    }

    /// The daemon serves here from now on.
    pub(crate) fn open(&self, address: String) {
        let mut phase = self.phase.lock().unwrap();
        (phase.address, phase.dies) = (Some(address), false);
        self.changed.notify_all();
    }

    /// From now on no answer is no violation.
    pub(crate) fn is_to_die(&self) {
        self.phase.lock().unwrap().dies = true;
    }

    /// No client sends anything once this returns; those that wait for an answer get it, or its end.
    pub(crate) fn close(&self, clients: usize) {
        let mut phase = self.phase.lock().unwrap();
        phase.address = None;
        drop(self.changed.wait_while(phase, |phase| phase.resting < clients).unwrap());
    }

    pub(crate) fn end(&self) {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).ends = true;
        self.changed.notify_all();
    }

    /// Where the daemon serves, once it does; none at the end.
    fn address(&self) -> Option<String> {
        let mut phase = self.phase.lock().unwrap();
        phase.resting += 1;
        self.changed.notify_all();
        let is_down = |phase: &Phase| phase.address.is_none() || phase.dies;
        let wait = |phase: &mut Phase| is_down(phase) && !phase.ends;
        let mut phase = self.changed.wait_while(phase, wait).unwrap();
        phase.resting -= 1;
        phase.address.clone().filter(|_| !phase.ends)
    }

    /// Nobody waits for a client that panicked.
    fn lost_one(&self) {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).resting += 1;
        self.changed.notify_all();
    }

    fn is_open(&self) -> bool {
        let phase = self.phase.lock().unwrap();
        phase.address.is_some() && !phase.ends
    }

    fn dies(&self) -> bool {
        self.phase.lock().unwrap().dies
    }
}

/// A client that works.
struct Counted<'f>(&'f Field);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lost_one();
        }
    }
}

/// One client, which belongs to one cell.
#[derive(Debug)]
pub(crate) struct Client<'f> {
    pub(crate) field: &'f Field,
    pub(crate) number: usize,
    pub(crate) dice: Dice,
    /// A call with a client token that was not answered.
    again: Option<Call>,
    /// Of the resets that were done.
    pub(crate) resets: Vec<Duration>,
    pub(crate) calls: usize,
}

impl<'f> Client<'f> {
    pub(crate) fn new(field: &'f Field, number: usize, dice: Dice) -> Self {
        Self { field, number, dice, again: None, resets: Vec::new(), calls: 0 }
    }

    fn cell(&self) -> &'f Mutex<Cell> {
        &self.field.cells[self.number % self.field.cells.len()]
    }

    /// Until the end.
    pub(crate) fn work(mut self) -> Self {
        let _counted = Counted(self.field);
        while let Some(address) = self.field.address() {
            let mut connection = KeptConnection::to(&address);
            let mut is_answered = true;
            while is_answered && self.field.is_open() {
                is_answered = if self.dice.below(12) == 0 {
                    self.talk_nonsense(&mut connection, &address)
                } else {
                    let chosen = self.choose();
                    self.call(&mut connection, &address, chosen).is_some()
                };
                let share = u32::try_from(self.dice.below(100)).unwrap();
                thread::sleep(self.field.rest * share / 100);
            }
        }
        self
    }

    // Right calls, and those that a state refuses

    fn choose(&mut self) -> Call {
        if let Some(call) = self.again.take() {
            return call;
        }
        let mut cell = self.cell().lock().unwrap();
        let pick = |kind, dice: &mut Dice| {
            let gone = cell.gone(kind);
            let late = dice.below(16) == 0 && !gone.is_empty();
            dice.pick(&if late { gone } else { cell.there(kind) }).copied()
        };
        let dice = &mut self.dice;
        let disk = pick(Kind::Disk, dice).unwrap_or_default();
        let (snapshot, image) = (pick(Kind::Snapshot, dice), pick(Kind::Image, dice));
        let there = |kind| cell.there(kind).len();
        let [disks, snapshots, images] = MOST.map(|(kind, most)| there(kind) < most);
        match (dice.below(40), snapshot, image) {
            (0..3, _, _) => Call::Start,
            (3..8, _, _) => Call::Stop,
            (8..15, _, _) => Call::Reset(disk),
            (15..17, _, _) => Call::Attach(disk),
            (17..19, _, _) => Call::Detach(disk),
            (19, _, _) => Call::Tag(disk, 1 + dice.below(1 << 40)),
            (20, _, _) => Call::Resize(disk, 5 + dice.below(300)),
            (21..23, _, _) => Call::DeleteDisk(disk),
            (23..26, from, _) if disks => {
                let from = from.filter(|_| dice.flip());
                Call::CreateDisk { new: cell.next_number(), gib: 5 + dice.below(20), from }
            }
            (26..29, _, _) if snapshots => {
                Call::CreateSnapshot { new: cell.next_number(), of: disk }
            }
            (29, Some(of), _) if images => Call::CreateImage { new: cell.next_number(), of },
            (30..32, Some(number), _) => Call::DeleteSnapshot { number, force: dice.flip() },
            (32, _, Some(image)) => Call::DeleteImage(image),
            (33..37, _, _) => Call::SeeDisks,
            _ => dice.pick(&SIGHTS).unwrap().0,
        }
    }

    /// Sends the call, writes down what came of it and gives what it answered; none if it did not.
    pub(crate) fn call(
        &mut self,
        connection: &mut KeptConnection,
        address: &str,
        call: Call,
    ) -> Option<String> {
        let request = self.cell().lock().unwrap().request(call);
        let signed = self.signed(&self.key(), address, &request);
        let begun = self.field.now();
        let answered = connection.post(&signed);
        let ended = self.field.now();
        self.calls += 1;
        let mut cell = self.cell().lock().unwrap();
        let (status, body) = match answered {
            Ok(answered) => answered,
            Err(error) => {
                if !self.field.dies() {
                    self.field.violated(format!("{call:?} was not answered: {error}"));
                }
                self.again = Some(call).filter(|call| matches!(call, Call::CreateDisk { .. }));
                cell.history.push(Entry::new(call, [begun, ended], Answer::None));
                return None;
            }
        };
        if status >= 500 {
            self.field.violated(format!("{call:?} of {} answered {status}: {body}", cell.number));
        }
        let (answer, between) = cell.read(call, status, &body);
        if matches!(call, Call::Reset(_)) && answer == Answer::Done {
            self.resets.push(Duration::from_nanos(ended - begun));
        }
        cell.learn_of(call, &answer, &body);
        let entry = Entry::new(call, [begun, ended], answer);
        cell.history.push(Entry { between, ..entry });
        Some(body)
    }

    fn key(&self) -> Key {
        self.field.keys[self.number % self.field.keys.len()].clone()
    }

    fn signed(&mut self, key: &Key, address: &str, (action, parameters): &Request) -> Signed {
        match self.dice.flip() {
            true => signature::v1(key, action, "JSON", parameters),
            false => signature::acs3(key, address, action, "JSON", parameters),
        }
    }

    // Wrong calls, which must have these answers in any state

    fn talk_nonsense(&mut self, connection: &mut KeptConnection, address: &str) -> bool {
        let right = self.key();
        let wrong = Key { secret: "no".into(), ..right.clone() };
        let nobody = Key { id: "nobody".into(), ..right.clone() };
        let own = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let unknown = own("DiskId", "d-0123456789abcdefghij");
        let (key, request, expected): (Key, Request, _) = match self.dice.below(8) {
            0 => (right, ("ReInitDisk", unknown), (404, "InvalidDiskId.NotFound")),
            1 => (right, ("ReInitDisk", vec![]), (400, "MissingParameter")),
            2 => (right, ("MakeCoffee", unknown), (404, "InvalidAction.NotFound")),
            3 => (wrong, ("ReInitDisk", unknown), (400, "SignatureDoesNotMatch")),
            4 => (nobody, ("ReInitDisk", unknown), (404, "InvalidAccessKeyId.NotFound")),
            5 => (right, ("DetachDisk", unknown), (400, "MissingParameter")),
            6 => (
                right,
                ("DeleteDisk", own("DiskId", "../../ledger")),
                (404, "InvalidDiskId.NotFound"),
            ),
            _ => (right, ("DescribeDisks", own(REGION.0, REGION.1)), (200, "")),
        };
        let signed = self.signed(&key, address, &request);
        self.calls += 1;
        let (status, body) = match connection.post(&signed) {
            Ok(answered) => answered,
            Err(error) => {
                if !self.field.dies() {
                    self.field.violated(format!("{} was not answered: {error}", request.0));
                }
                return false;
            }
        };
        let has_code = body.contains(&format!("\"Code\":\"{}\"", expected.1));
        if status != expected.0 || !(has_code || status == 200) {
            let told = format!("{} answered {status}, not {expected:?}: {body}", request.0);
            self.field.violated(told);
        }
        true
    }
}
