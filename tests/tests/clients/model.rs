//! What a cell is, and what each call does to it: the state machine that answers are measured by.
//!
//! A cell is an instance with its disks, their snapshots and the images made of these. No call touches two
//! cells, so that each has a history of its own. Disk 0 is the system disk.
//!
//! What must always hold: the model is the contract, not the code: which calls a settled cell takes, and
//! with which code it refuses the others. States between two are no part of it (`history`).

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

/// The number of a disk, snapshot or image within its cell; it is part of its name and never used again.
pub(crate) type Number = u64;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct State {
    pub(crate) runs: bool,
    pub(crate) disks: BTreeMap<Number, Disk>,
    pub(crate) snapshots: BTreeMap<Number, Snapshot>,
    /// And the snapshot each is made from.
    pub(crate) images: BTreeMap<Number, Number>,
    /// The client tokens of the last disks that were made.
    tokens: BTreeSet<Number>,
}

/// More than are made between a kill and the repetition of the calls that it left without an answer.
const TOKENS: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Disk {
    pub(crate) attached: bool,
    pub(crate) was_detached: bool,
    /// The snapshot it goes back to.
    pub(crate) source: Option<Number>,
    pub(crate) gib: u64,
    /// The value of its one tag; 0 before there is one.
    pub(crate) tag: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Snapshot {
    pub(crate) of: Number,
    pub(crate) gib: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Start,
    Stop,
    CreateDisk { new: Number, gib: u64, from: Option<Number> },
    Attach(Number),
    Detach(Number),
    DeleteDisk(Number),
    Reset(Number),
    Resize(Number, u64),
    Tag(Number, u64),
    CreateSnapshot { new: Number, of: Number },
    DeleteSnapshot { number: Number, force: bool },
    CreateImage { new: Number, of: Number },
    DeleteImage(Number),
    SeeInstance,
    SeeDisks,
    SeeSnapshots,
    SeeImages,
}

/// What a list showed, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Runs(bool),
    Disks(BTreeMap<Number, SeenDisk>),
    Numbers(Vec<Number>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenDisk {
    pub(crate) attached: bool,
    pub(crate) gib: u64,
    pub(crate) tag: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Refused(String),
    Seen(Seen),
    /// The daemon died first.
    None,
}

impl State {
    /// A cell as it is set up: an instance that was started once and stopped.
    pub(crate) fn new(gib: u64) -> Self {
        let system = Disk { attached: true, was_detached: false, source: None, gib, tag: 0 };
        let disks = BTreeMap::from([(0, system)]);
        let (snapshots, images, tokens) = Default::default();
        Self { runs: false, disks, snapshots, images, tokens }
    }

    /// What is left if the call is done at this moment and so answered; none if it would have been
    /// answered otherwise.
    pub(crate) fn after(&self, call: Call, answer: &Answer) -> Option<Self> {
        let mut changed = self.clone();
        match (changed.carry_out(call), answer) {
            (Ok(Effect::Change), Answer::Done | Answer::None) => Some(changed),
            (Ok(Effect::Sight(seen)), Answer::Seen(answered)) if seen == *answered => Some(changed),
            (Err(code), Answer::Refused(answered)) if code == answered => Some(self.clone()),
            _ => None,
        }
    }

    fn carry_out(&mut self, call: Call) -> Result<Effect, &'static str> {
        match call {
            Call::Start => self.power(true)?,
            Call::Stop => self.power(false)?,
            Call::CreateDisk { new, gib, from } => self.create_disk(new, gib, from)?,
            Call::Attach(disk) => self.attach(disk)?,
            Call::Detach(disk) => self.detach(disk)?,
            Call::DeleteDisk(disk) => self.delete_disk(disk)?,
            Call::Reset(disk) => self.reset(disk)?,
            Call::Resize(disk, gib) => self.resize(disk, gib)?,
            Call::Tag(disk, value) => {
                self.disks.get_mut(&disk).ok_or("InvalidResourceId.NotFound")?.tag = value;
            }
            Call::CreateSnapshot { new, of } => self.create_snapshot(new, of)?,
            Call::DeleteSnapshot { number, force } => self.delete_snapshot(number, force)?,
            Call::CreateImage { new, of } => self.create_image(new, of)?,
            Call::DeleteImage(image) => {
                self.images.remove(&image).ok_or("InvalidImageId.NotFound")?;
            }
            Call::SeeInstance => return Ok(Effect::Sight(Seen::Runs(self.runs))),
            Call::SeeDisks => return Ok(Effect::Sight(Seen::Disks(self.seen_disks()))),
            Call::SeeSnapshots => {
                return Ok(Effect::Sight(Seen::Numbers(self.snapshots.keys().copied().collect())));
            }
            Call::SeeImages => {
                return Ok(Effect::Sight(Seen::Numbers(self.images.keys().copied().collect())));
            }
        }
        Ok(Effect::Change)
    }

    fn disk(&mut self, number: Number) -> Result<&mut Disk, &'static str> {
        self.disks.get_mut(&number).ok_or("InvalidDiskId.NotFound")
    }

    fn power(&mut self, on: bool) -> Result<(), &'static str> {
        if self.runs == on {
            return Err("IncorrectInstanceStatus");
        }
        self.runs = on;
        Ok(())
    }

    fn create_disk(
        &mut self,
        new: Number,
        gib: u64,
        from: Option<Number>,
    ) -> Result<(), &'static str> {
        if self.tokens.contains(&new) {
            // The same answer again, whatever became of the disk.
            return Ok(());
        }
        let mut disk = Disk { attached: false, was_detached: false, source: from, gib, tag: 0 };
        if let Some(from) = from {
            let snapshot = self.snapshots.get(&from).ok_or("InvalidSnapshotId.NotFound")?;
            if snapshot.of == 0 {
                return Err("InvalidSnapshotId.NotDataDiskSnapshot");
            }
            disk.gib = gib.max(snapshot.gib);
        }
        self.disks.insert(new, disk);
        self.tokens.insert(new);
        if self.tokens.len() > TOKENS {
            self.tokens.pop_first();
        }
        Ok(())
    }

    fn attach(&mut self, number: Number) -> Result<(), &'static str> {
        let disk = self.disk(number)?;
        if disk.attached {
            return Err("IncorrectDiskStatus");
        }
        disk.attached = true;
        Ok(())
    }

    fn detach(&mut self, number: Number) -> Result<(), &'static str> {
        let disk = self.disk(number)?;
        if !disk.attached {
            return Err("IncorrectDiskStatus");
        }
        if number == 0 {
            return Err("DiskNotPortable");
        }
        disk.attached = false;
        disk.was_detached = true;
        Ok(())
    }

    fn delete_disk(&mut self, number: Number) -> Result<(), &'static str> {
        if self.disk(number)?.attached {
            return Err("DiskStillAttached");
        }
        self.disks.remove(&number);
        Ok(())
    }

    /// What it changes is content, which nobody looks at here; the conditions are what is measured.
    fn reset(&mut self, number: Number) -> Result<(), &'static str> {
        let disk = self.disk(number)?.clone();
        if !disk.attached {
            return Err("IncorrectDiskStatus");
        }
        if self.runs {
            return Err("IncorrectInstanceStatus");
        }
        if disk.source.is_some_and(|source| !self.snapshots.contains_key(&source)) {
            return Err("InvalidSourceSnapshot");
        }
        Ok(())
    }

    fn resize(&mut self, number: Number, gib: u64) -> Result<(), &'static str> {
        let disk = self.disk(number)?;
        match gib.cmp(&disk.gib) {
            Ordering::Less => return Err("InvalidDiskSize.TooSmall"),
            Ordering::Equal => return Err("InvalidDiskSize"),
            Ordering::Greater => {}
        }
        disk.gib = gib;
        Ok(())
    }

    fn create_snapshot(&mut self, new: Number, of: Number) -> Result<(), &'static str> {
        let disk = self.disk(of)?;
        if !disk.attached && !disk.was_detached {
            return Err("IncorrectDiskStatus.NeverAttached");
        }
        let gib = disk.gib;
        self.snapshots.insert(new, Snapshot { of, gib });
        Ok(())
    }

    fn delete_snapshot(&mut self, number: Number, force: bool) -> Result<(), &'static str> {
        if !self.snapshots.contains_key(&number) {
            return Err("InvalidSnapshotId.NotFound");
        }
        if self.images.values().any(|of| *of == number) {
            return Err("SnapshotCreatedImage");
        }
        if !force && self.disks.values().any(|disk| disk.source == Some(number)) {
            return Err("SnapshotCreatedDisk");
        }
        self.snapshots.remove(&number);
        Ok(())
    }

    fn create_image(&mut self, new: Number, of: Number) -> Result<(), &'static str> {
        let snapshot = self.snapshots.get(&of).ok_or("InvalidSnapshotId.NotFound")?;
        if snapshot.of != 0 {
            return Err("OperationDenied");
        }
        self.images.insert(new, of);
        Ok(())
    }

    fn seen_disks(&self) -> BTreeMap<Number, SeenDisk> {
        let seen = |disk: &Disk| SeenDisk { attached: disk.attached, gib: disk.gib, tag: disk.tag };
        self.disks.iter().map(|(number, disk)| (*number, seen(disk))).collect()
    }
}

enum Effect {
    Change,
    Sight(Seen),
}
