//! Hundreds of clients at once with right and wrong calls over signed HTTP, and kill -9 of the daemon in
//! between.
//!
//! Between two kills every cell has a history, and some serial order must explain it: what was answered
//! holds in the next daemon, what was not is wholly done or wholly not, and every refusal had its reason at
//! the time (`history`, against `model`). No answer is a 5xx, nothing is left in a state between two, and in
//! the end the store is whole.
//!
//! `REINIT_CLIENTS`, `REINIT_CLIENT_SECONDS` and `REINIT_SEED` make it a campaign. The seed repeats what each
//! client wants, not the moment at which it is done.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, helpers included")]

mod cell;
mod history;
mod model;
mod traffic;

use std::{
    env, fs,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use tests::{
    kept_connection::KeptConnection,
    recorded_storage::Dice,
    site::{REGION, Site},
};

use crate::{
    cell::{Cell, Kind, SIGHTS},
    history::{NOT_YET, explain},
    model::{Call, State},
    traffic::{Client, Field},
};

/// Clients of one cell: enough to meet, few enough for a search through all their orders.
const TOGETHER: usize = 4;
/// The longest that the daemon lives.
const LIFE: u64 = 10_000;
/// How often a cell is looked at before what is in a state between two counts as stuck, and how long after one
/// another.
const LOOKS: (usize, Duration) = (1_000, Duration::from_millis(20));
/// No key may send as much as all clients together do.
const KEYS: usize = 4;
/// Of a system disk.
const SYSTEM_GIB: u64 = 1;

#[test]
fn any_number_of_clients_see_one_order_through_kills() {
    let number = |name, usual: u64| env::var(name).map_or(usual, |value| value.parse().unwrap());
    let (seconds, seed) = (number("REINIT_CLIENT_SECONDS", 5), number("REINIT_SEED", 1));
    let clients = usize::try_from(number("REINIT_CLIENTS", 32)).unwrap();
    let (mut site, mut dice) = (Site::new(), Dice::new(seed));
    let keys = (0..KEYS).map(|_| site.key_of("default")).collect();
    let field = Field::new(cells(&site, clients.div_ceil(TOGETHER)), keys, clients);
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut lives, mut kills) = (0, 0);
    let (mut resets, mut calls, mut entries) = (Vec::new(), 0, 0);
    settle(&field, &site.ecs().address);
    thread::scope(|scope| {
        // However this ends, the clients do not wait for ever.
        let _ends = Ends(&field);
        let working: Vec<_> = (0..clients)
            .map(|n| Client::new(&field, n, Dice::new(dice.number())))
            .map(|client| scope.spawn(|| client.work()))
            .collect();
        while Instant::now() < until && field.violations() == 0 {
            field.open(site.ecs().address);
            let life = 500 + dice.below(LIFE.min(seconds * 1_000 / 2));
            thread::sleep(Duration::from_millis(life));
            // A start would heal what is left claimed; so every fourth time the daemon lives on.
            lives += 1;
            if lives % 4 == 2 {
                field.close(clients);
            } else {
                field.is_to_die();
                site.kill_daemon();
                field.close(clients);
                kills += 1;
                site.start_daemon();
            }
            settle(&field, &site.ecs().address);
            entries += check(&field);
        }
        // The last life ends with quiet.
        field.open(site.ecs().address);
        thread::sleep(Duration::from_millis(500));
        field.close(clients);
        settle(&field, &site.ecs().address);
        entries += check(&field);
        field.end();
        for client in working {
            let client = client.join().unwrap();
            calls += client.calls;
            resets.extend(client.resets);
        }
    });
    clear_up(&field, &site.ecs().address);
    entries += check(&field);
    for cell in field.cells.iter().filter(|cell| !is_cleared(&cell.lock().unwrap())) {
        field.violated(format!("something is left: {:?}", cell.lock().unwrap().states));
    }
    site.end_daemon();
    site.offline(&["fsck"]).ok();
    resets.sort();
    let at = |percent: usize| resets.get(resets.len() * percent / 100).copied().unwrap_or_default();
    eprintln!(
        "measured: ReInitDisk p50 {:?}, p99 {:?} of {}, with {clients} clients and their load on this machine",
        at(50),
        at(99),
        resets.len(),
    );
    eprintln!(
        "campaign: clients, {clients} clients, {calls} calls ({entries} in histories), {kills} kills, seed {seed}, {} violations",
        field.violations()
    );
    assert_eq!(field.violations(), 0, "see above");
    assert!(!resets.is_empty(), "disks were reset");
}

/// Tells the clients that it is over.
struct Ends<'f>(&'f Field);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn cells(site: &Site, count: usize) -> Vec<Cell> {
    let image = site.scratch().join("image.raw");
    fs::write(&image, vec![7; 1 << 20]).unwrap();
    let image = site.import(&image, &["--format", "raw"]);
    let make = |n: usize| {
        let (name, size) = (format!("c{n}-d0"), SYSTEM_GIB.to_string());
        let asked = [
            REGION,
            ("ImageId", image.as_str()),
            ("InstanceType", "ecs.g7.large"),
            ("SystemDisk.DiskName", &name),
            ("SystemDisk.Size", &size),
        ];
        let instance = site.ecs().call("CreateInstance", &asked).ok().text("InstanceId");
        site.start(&instance);
        site.stop(&instance);
        Cell::new(n, instance, SYSTEM_GIB)
    };
    (0..count).map(make).collect()
}

/// Runs something for every cell, a few at the same time.
fn for_each_cell(field: &Field, work: impl Fn(usize, &Mutex<Cell>) + Sync) {
    let share = field.cells.len().div_ceil(8);
    thread::scope(|scope| {
        for (n, cells) in field.cells.chunks(share).enumerate() {
            let work = &work;
            scope.spawn(move || {
                cells.iter().enumerate().for_each(|(m, cell)| work(n * share + m, cell));
            });
        }
    });
}

/// Waits until no cell is in a state between two, and writes down what each is then.
fn settle(field: &Field, address: &str) {
    for_each_cell(field, |n, cell| {
        let mut client = Client::new(field, n, Dice::new(0));
        let mut connection = KeptConnection::to(address);
        for _ in 0..LOOKS.0 {
            let (before, begun) = (cell.lock().unwrap().history.len(), field.now());
            let seen = SIGHTS.map(|(call, kind)| {
                let body = client.call(&mut connection, address, call).unwrap_or_default();
                (kind, body)
            });
            let mut cell = cell.lock().unwrap();
            if cell.history[before..].iter().all(|entry| entry.between.is_empty()) {
                let open = cell.history.iter_mut().filter(|entry| entry.ended == NOT_YET);
                open.for_each(|entry| entry.ended = begun);
                learn(&mut cell, seen);
                return;
            }
            cell.history.truncate(before);
            drop(cell);
            thread::sleep(LOOKS.1);
        }
        field.violated(format!("cell {n} is stuck in a state between two"));
    });
}

fn learn(cell: &mut Cell, seen: [(Option<Kind>, String); 4]) {
    for (kind, body) in seen {
        let Some(kind) = kind else { continue };
        let body = serde_json::from_str(&body).unwrap();
        let listed = cell.numbers(kind, &body);
        cell.learn(kind, listed);
    }
}

/// Every history must have an order. Gives how many calls were in them.
fn check(field: &Field) -> usize {
    let counted = Mutex::new(0);
    for_each_cell(field, |n, cell| {
        let mut cell = cell.lock().unwrap();
        let history = std::mem::take(&mut cell.history);
        *counted.lock().unwrap() += history.len();
        match explain(&cell.states, &history) {
            Ok(states) => cell.states = states,
            Err(told) => field.violated(format!("cell {n}: {told}")),
        }
    });
    counted.into_inner().unwrap()
}

/// Takes every cell down, call by call: nothing that a client or a kill left behind may stand in the way, and
/// every answer is the one of the model.
fn clear_up(field: &Field, address: &str) {
    for_each_cell(field, |n, cell| {
        let mut client = Client::new(field, n, Dice::new(0));
        let mut connection = KeptConnection::to(address);
        let there = |kind| cell.lock().unwrap().there(kind);
        let mut calls = vec![Call::Stop];
        calls.extend(there(Kind::Disk).into_iter().flat_map(|disk| {
            let away = [Call::Detach(disk), Call::DeleteDisk(disk)];
            [Call::Reset(disk)].into_iter().chain(away.into_iter().filter(move |_| disk != 0))
        }));
        calls.extend(there(Kind::Image).into_iter().map(Call::DeleteImage));
        let snapshots = there(Kind::Snapshot).into_iter();
        calls.extend(snapshots.map(|number| Call::DeleteSnapshot { number, force: true }));
        calls.extend(SIGHTS.map(|(call, _)| call));
        for call in calls {
            client.call(&mut connection, address, call);
        }
        let cell = cell.lock().unwrap();
        let is_between = |entry: &&history::Entry| !entry.between.is_empty();
        if let Some(entry) = cell.history.iter().find(is_between) {
            field.violated(format!("cell {n}: {entry:?} though nobody else is there"));
        }
    });
}

/// Whatever order it was, nothing but the instance and its system disk may be left.
fn is_cleared(cell: &Cell) -> bool {
    let is_bare = |state: &State| {
        state.disks.len() == 1 && state.snapshots.is_empty() && state.images.is_empty()
    };
    cell.states.iter().all(is_bare)
}
