//! kill -9 of the real daemon at random, under verified NBD load and a stream of API calls: what
//! was answered holds in the next daemon, what was not is wholly done or wholly not.
//!
//! `REINIT_KILLS` and `REINIT_SEED` make it a campaign. When the kill lands is the machine's to
//! say: the seed repeats what is done, not the moment.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, helpers included")]

use std::{
    collections::BTreeMap,
    env,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use block_device::{ByteOffset, Durability};
use nbd_server::client::{ClientError, NbdClient};
use serde_json::Value;
use tests::{
    daemon,
    ecs::Ecs,
    qemu,
    recorded_storage::Dice,
    reference_model::{SECTOR, bytes_of, stamp_of},
    site::{REGION, Site},
};

const BLOCK_SECTORS: usize = 8;
const BLOCKS: usize = 48;

fn number(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |value| value.parse().unwrap())
}

// --- load over NBD ---------------------------------------------------------------------------

/// A connection that writes every second block of a disk, each time with the next number.
struct Writer {
    disk: String,
    parity: usize,
    blocks: Vec<Block>,
}

#[derive(Clone, Copy, Default)]
struct Block {
    sent: u64,
    answered: u64,
    /// What was answered before a flush that was answered.
    durable: u64,
}

impl Writer {
    fn place(&self, block: usize) -> ByteOffset {
        let sector = (2 * block + self.parity) * BLOCK_SECTORS;
        ByteOffset::new(u64::try_from(sector * SECTOR).unwrap())
    }

    /// What was not flushed may be lost; then a later flush says nothing of it.
    fn check(&mut self, socket: &Path) {
        let mut client = NbdClient::connect_unix(socket, &self.disk).unwrap();
        for n in 0..self.blocks.len() {
            let (found, block) = (read(&mut client, self.place(n), BLOCK_SECTORS), self.blocks[n]);
            let allowed = block.durable..=block.sent;
            let lost = found.iter().find(|stamp| !allowed.contains(stamp));
            assert_eq!(
                lost, None,
                "{} (parity {}) block {n}: {found:?}, not {allowed:?}",
                self.disk, self.parity
            );
            self.blocks[n].answered = *found.iter().min().unwrap();
        }
    }

    /// Until the daemon dies.
    fn write(&mut self, socket: &Path, mut dice: Dice) {
        let Ok(mut client) = NbdClient::connect_unix(socket, &self.disk) else { return };
        while self.write_once(&mut client, &mut dice).is_ok() {}
    }

    fn write_once(&mut self, client: &mut NbdClient, dice: &mut Dice) -> Result<(), ClientError> {
        if dice.below(8) == 0 {
            client.flush()?;
            self.blocks.iter_mut().for_each(|block| block.durable = block.answered);
            return Ok(());
        }
        let n = usize::try_from(dice.below(u64::try_from(BLOCKS).unwrap())).unwrap();
        self.blocks[n].sent += 1;
        let stamp = self.blocks[n].sent;
        let is_durable = dice.below(16) == 0;
        let durability = if is_durable { Durability::ForceUnitAccess } else { Durability::Cached };
        client.write(&bytes_of(&[stamp; BLOCK_SECTORS]), self.place(n), durability)?;
        self.blocks[n].answered = stamp;
        if is_durable {
            self.blocks[n].durable = stamp;
        }
        Ok(())
    }
}

fn read(client: &mut NbdClient, place: ByteOffset, sectors: usize) -> Vec<u64> {
    let mut bytes = vec![0; sectors * SECTOR];
    client.read(&mut bytes, place).unwrap();
    bytes.chunks(SECTOR).map(|sector| stamp_of(sector).expect("no mixture")).collect()
}

// --- calls of the API ------------------------------------------------------------------------

/// What is known of things of one kind, by name: the id, and a size or 0.
type Things = BTreeMap<String, (String, u64)>;

/// A call that was not answered: this thing may be as before, or so.
struct Unanswered {
    is_disk: bool,
    name: String,
    /// What it is if the call was done; none if it is gone.
    after: Option<u64>,
}

/// The disk that is written, stopped and reset, again and again.
struct Victim {
    instance: String,
    disk: String,
    epoch: u64,
    /// What its first sectors may hold.
    holds: RangeInclusive<u64>,
    is_reset_asked: bool,
    stamp: u64,
}

/// What the answers said.
struct Books {
    disks: Things,
    snapshots: Things,
    unanswered: Option<Unanswered>,
    victim: Victim,
    loaded: String,
    names: u64,
    answered: usize,
}

impl Books {
    /// Until the daemon dies.
    fn call(&mut self, ecs: &Ecs, socket: &Path, mut dice: Dice) {
        while self.call_once(ecs, socket, &mut dice).is_some() {}
    }

    fn call_once(&mut self, ecs: &Ecs, socket: &Path, dice: &mut Dice) -> Option<()> {
        let disks: Vec<_> = self.disks.keys().cloned().collect();
        let snapshots: Vec<_> = self.snapshots.keys().cloned().collect();
        let (disk, snapshot) = (dice.pick(&disks), dice.pick(&snapshots));
        match (dice.below(6), disk, snapshot) {
            (0, Some(name), _) => {
                let id = self.disks[name].0.clone();
                self.change(ecs, true, ("DeleteDisk", &[("DiskId", &id)]), name, None)
            }
            (1, Some(name), _) => {
                let (id, size) = self.disks[name].clone();
                let larger = (size + 1).to_string();
                let call: &[(&str, &str)] = &[("DiskId", &id), ("NewSize", &larger)];
                self.change(ecs, true, ("ResizeDisk", call), name, Some(size + 1))
            }
            (2, _, _) if snapshots.len() < 4 => {
                let (name, loaded) = (self.name(), self.loaded.clone());
                let call: &[(&str, &str)] = &[("DiskId", &loaded), ("SnapshotName", &name)];
                self.change(ecs, false, ("CreateSnapshot", call), &name, Some(0))
            }
            (3, _, Some(name)) => {
                let id = self.snapshots[name].0.clone();
                self.change(ecs, false, ("DeleteSnapshot", &[("SnapshotId", &id)]), name, None)
            }
            (4, _, _) => self.victim.cycle(ecs, socket),
            _ if disks.len() < 6 => {
                let name = self.name();
                let zone = ("ZoneId", "cn-hangzhou-b");
                let call: &[(&str, &str)] = &[REGION, zone, ("Size", "1"), ("DiskName", &name)];
                self.change(ecs, true, ("CreateDisk", call), &name, Some(1))
            }
            _ => Some(()),
        }
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("k-{}", self.names)
    }

    /// One call; a refusal changes nothing, no answer leaves both possible.
    fn change(
        &mut self,
        ecs: &Ecs,
        is_disk: bool,
        (action, parameters): (&str, &[(&str, &str)]),
        name: &str,
        after: Option<u64>,
    ) -> Option<()> {
        let Ok(answer) = ecs.try_call(action, parameters) else {
            self.unanswered = Some(Unanswered { is_disk, name: name.into(), after });
            return None;
        };
        assert!(answer.status < 500, "{action}: {}", answer.body);
        if answer.status != 200 {
            return Some(());
        }
        self.answered += 1;
        let things = if is_disk { &mut self.disks } else { &mut self.snapshots };
        match after {
            None => _ = things.remove(name),
            Some(size) => {
                let made = answer.text(if is_disk { "DiskId" } else { "SnapshotId" });
                let known = things.entry(name.into()).or_insert((made, 0));
                known.1 = size;
            }
        }
        Some(())
    }

    /// What the next daemon shows is what the answers said, but for the call that had none.
    fn check(&mut self, site: &Site) {
        let unanswered = self.unanswered.take();
        let found = list(site, "disk", ["Disks", "DiskId", "DiskName", "Size"]);
        let of_disks = unanswered.as_ref().filter(|call| call.is_disk);
        compare(&self.disks, &found, of_disks);
        self.disks = found;
        let found = list(site, "snapshot", ["Snapshots", "SnapshotId", "SnapshotName", ""]);
        compare(&self.snapshots, &found, unanswered.as_ref().filter(|call| !call.is_disk));
        self.snapshots = found;
        self.victim.check(site);
    }
}

fn list(site: &Site, kind: &str, [all, id, name, size]: [&str; 4]) -> Things {
    let listed = site.run(&[kind, "ls"]);
    let rows = listed[all].as_array().unwrap_or_else(|| panic!("no {all} in {listed}"));
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    rows.iter()
        .filter(|row| text(row, name).starts_with("k-"))
        .map(|row| (text(row, name), (text(row, id), row[size].as_u64().unwrap_or_default())))
        .collect()
}

fn compare(known: &Things, found: &Things, unanswered: Option<&Unanswered>) {
    for name in known.keys().chain(found.keys()) {
        let size = |things: &Things| things.get(name).map(|(_, size)| *size);
        let (before, now) = (size(known), size(found));
        let is_done = unanswered.is_some_and(|call| call.name == *name && call.after == now);
        assert!(now == before || is_done, "{name} is {now:?}, not {before:?}");
    }
}

impl Victim {
    /// Starts the instance, writes and flushes, stops it, and resets the disk.
    fn cycle(&mut self, ecs: &Ecs, socket: &Path) -> Option<()> {
        self.bring_to(ecs, "StartInstance", "Running")?;
        let mut client = NbdClient::connect_unix(socket, &self.disk).ok()?;
        self.stamp += 1;
        self.holds = *self.holds.start()..=self.stamp;
        client
            .write(&bytes_of(&[self.stamp; 64]), ByteOffset::ZERO, Durability::Cached)
            .and_then(|()| client.flush())
            .ok()?;
        self.holds = self.stamp..=self.stamp;
        self.bring_to(ecs, "StopInstance", "Stopped")?;
        self.is_reset_asked = true;
        let answer = ecs.try_call("ReInitDisk", &[("DiskId", &self.disk)]).ok()?;
        self.is_reset_asked = false;
        if answer.status == 200 {
            (self.epoch, self.holds) = (self.epoch + 1, 0..=0);
        }
        Some(())
    }

    fn bring_to(&self, ecs: &Ecs, action: &str, status: &str) -> Option<()> {
        let ids = format!("[\"{}\"]", self.instance);
        ecs.try_call(action, &[("InstanceId", &self.instance)]).ok()?;
        loop {
            let asked = ecs.try_call("DescribeInstances", &[REGION, ("InstanceIds", &ids)]);
            if asked.ok()?.text("Status") == status {
                return Some(());
            }
        }
    }

    /// Wholly before the reset or wholly after, and after if it was answered.
    fn check(&mut self, site: &Site) {
        let epoch = site.show(&self.disk)["Epoch"].as_u64().unwrap();
        if self.is_reset_asked && epoch == self.epoch + 1 {
            (self.epoch, self.holds) = (epoch, 0..=0);
        }
        self.is_reset_asked = false;
        assert_eq!(epoch, self.epoch, "{}", self.disk);
        self.bring_to(&site.ecs(), "StartInstance", "Running").unwrap();
        let mut client = NbdClient::connect_unix(&socket(site), &self.disk).unwrap();
        let found = read(&mut client, ByteOffset::ZERO, 64);
        let wrong = found.iter().find(|stamp| !self.holds.contains(stamp));
        assert_eq!(wrong, None, "{} epoch {epoch}: {:?}", self.disk, self.holds);
    }
}

fn socket(site: &Site) -> PathBuf {
    site.store().join("run/nbd.sock")
}

// --- kills -----------------------------------------------------------------------------------

#[test]
fn what_was_answered_holds_after_kill_9_under_load() {
    let (kills, seed) = (number("REINIT_KILLS", 8), number("REINIT_SEED", 1));
    let (mut site, mut dice) = (Site::new(), Dice::new(seed));
    let image = site.scratch().join("image.raw");
    qemu::patterned_image(&image, 1);
    let image = site.import(&image, &["--format", "raw"]);
    let (loaded, victim) = (site.machine(&image, &["1G", "1G"]), site.machine(&image, &["1G"]));
    site.start(&loaded.instance);
    let mut writers: Vec<_> = (0..4)
        .map(|n| Writer {
            disk: loaded.data[n / 2].clone(),
            parity: n % 2,
            blocks: vec![Block::default(); BLOCKS],
        })
        .collect();
    let mut books = Books {
        disks: Things::new(),
        snapshots: Things::new(),
        unanswered: None,
        victim: Victim {
            instance: victim.instance,
            disk: victim.data[0].clone(),
            epoch: 1,
            holds: 0..=0,
            is_reset_asked: false,
            stamp: 0,
        },
        loaded: loaded.data[0].clone(),
        names: 0,
        answered: 0,
    };
    for _ in 0..kills {
        let (ecs, socket, pid) = (site.ecs(), socket(&site), site.daemon().pid());
        thread::scope(|scope| {
            for writer in &mut writers {
                let (socket, dice) = (&socket, Dice::new(dice.number()));
                scope.spawn(move || writer.write(socket, dice));
            }
            let (books, dice_of_calls) = (&mut books, Dice::new(dice.number()));
            let (ecs, socket) = (&ecs, &socket);
            scope.spawn(move || books.call(ecs, socket, dice_of_calls));
            thread::sleep(Duration::from_millis(dice.below(300)));
            daemon::kill(pid);
        });
        site.crash();
        writers.iter_mut().for_each(|writer| writer.check(&socket));
        books.check(&site);
    }
    let sent: u64 = writers.iter().flat_map(|writer| &writer.blocks).map(|block| block.sent).sum();
    let (answered, epoch) = (books.answered, books.victim.epoch);
    assert!(sent > 0, "there was load");
    eprintln!(
        "campaign: kills, {kills} kills ({sent} writes, {answered} answered changes, {} resets), seed {seed}, 0 violations",
        epoch - 1
    );
}
