//! A cell: what its clients know of it, how a call of it is written, and how an answer is read.
//!
//! What must always hold: a thing is known by its number, which is part of its name; its id is learned
//! from the answer that made it, or from a list after a start.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tests::site::REGION;

use crate::{
    history::{Between, Entry},
    model::{Answer, Call, Number, Seen, SeenDisk, State},
};

/// What can be made and deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Disk,
    Snapshot,
    Image,
}

impl Kind {
    fn letter(self) -> char {
        match self {
            Self::Disk => 'd',
            Self::Snapshot => 's',
            Self::Image => 'm',
        }
    }
}

/// What the clients of a cell share.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) number: usize,
    pub(crate) instance: String,
    /// The ids of what is there, as far as it was answered.
    known: BTreeMap<(Kind, Number), String>,
    /// Of what was deleted lately, for calls that come too late.
    gone: BTreeMap<(Kind, Number), String>,
    used: Number,
    pub(crate) history: Vec<Entry>,
    /// What it may be, up to the beginning of the history.
    pub(crate) states: BTreeSet<State>,
}

/// An action and its parameters.
pub(crate) type Request = (&'static str, Vec<(String, String)>);

/// Things of a kind that were deleted and are still asked for.
const REMEMBERED: usize = 2;

impl Cell {
    pub(crate) fn new(number: usize, instance: String, system_gib: u64) -> Self {
        let states = BTreeSet::from([State::new(system_gib)]);
        let (known, gone) = (BTreeMap::new(), BTreeMap::new());
        Self { number, instance, known, gone, used: 0, history: Vec::new(), states }
    }

    pub(crate) fn name(&self, kind: Kind, number: Number) -> String {
        format!("c{}-{}{number}", self.number, kind.letter())
    }

    pub(crate) fn next_number(&mut self) -> Number {
        self.used += 1;
        self.used
    }

    /// The numbers of what is there, as far as it is known.
    pub(crate) fn there(&self, kind: Kind) -> Vec<Number> {
        self.known.keys().filter(|(of, _)| *of == kind).map(|(_, number)| *number).collect()
    }

    pub(crate) fn gone(&self, kind: Kind) -> Vec<Number> {
        self.gone.keys().filter(|(of, _)| *of == kind).map(|(_, number)| *number).collect()
    }

    fn id(&self, kind: Kind, number: Number) -> &str {
        let found = self.known.get(&(kind, number)).or_else(|| self.gone.get(&(kind, number)));
        // Somebody else forgot it meanwhile: it is as gone.
        found.map_or("x-forgotten", String::as_str)
    }

    /// What a list after a start shows is all there is.
    pub(crate) fn learn(&mut self, kind: Kind, listed: BTreeMap<Number, String>) {
        self.known.retain(|(of, _), _| *of != kind);
        self.known.extend(listed.into_iter().map(|(number, id)| ((kind, number), id)));
    }

    pub(crate) fn learn_of(&mut self, call: Call, answer: &Answer, body: &str) {
        if *answer != Answer::Done {
            return;
        }
        let made = |field: &str| {
            let answer: Value = serde_json::from_str(body).unwrap();
            answer[field].as_str().unwrap().to_owned()
        };
        match call {
            Call::CreateDisk { new, .. } => self.made(Kind::Disk, new, made("DiskId")),
            Call::CreateSnapshot { new, .. } => self.made(Kind::Snapshot, new, made("SnapshotId")),
            Call::CreateImage { new, .. } => self.made(Kind::Image, new, made("ImageId")),
            Call::DeleteDisk(number) => self.forget(Kind::Disk, number),
            Call::DeleteSnapshot { number, .. } => self.forget(Kind::Snapshot, number),
            Call::DeleteImage(number) => self.forget(Kind::Image, number),
            _ => {}
        }
    }

    fn made(&mut self, kind: Kind, number: Number, id: String) {
        self.known.insert((kind, number), id);
    }

    fn forget(&mut self, kind: Kind, number: Number) {
        let Some(id) = self.known.remove(&(kind, number)) else { return };
        self.gone.insert((kind, number), id);
        let of_kind = self.gone(kind);
        for number in of_kind.iter().rev().skip(REMEMBERED) {
            self.gone.remove(&(kind, *number));
        }
    }

    // Calls

    pub(crate) fn request(&self, call: Call) -> Request {
        let disk = |number| ("DiskId", self.id(Kind::Disk, number).to_owned());
        let snapshot = |number| ("SnapshotId", self.id(Kind::Snapshot, number).to_owned());
        let instance = ("InstanceId", self.instance.clone());
        let region = (REGION.0, REGION.1.to_owned());
        let (action, parameters) = match call {
            Call::Start => ("StartInstance", vec![instance]),
            Call::Stop => ("StopInstance", vec![instance]),
            Call::CreateDisk { new, gib, from } => {
                let zone = ("ZoneId", "cn-hangzhou-b".to_owned());
                let name = self.name(Kind::Disk, new);
                let token = ("ClientToken", format!("{name}-{}", self.instance));
                let size = ("Size", gib.to_string());
                let mut given = vec![region, zone, ("DiskName", name), size, token];
                given.extend(from.map(snapshot));
                ("CreateDisk", given)
            }
            Call::Attach(number) => ("AttachDisk", vec![disk(number), instance]),
            Call::Detach(number) => ("DetachDisk", vec![disk(number), instance]),
            Call::DeleteDisk(number) => ("DeleteDisk", vec![disk(number)]),
            Call::Reset(number) => ("ReInitDisk", vec![disk(number)]),
            Call::Resize(number, gib) => {
                ("ResizeDisk", vec![disk(number), ("NewSize", gib.to_string())])
            }
            Call::Tag(number, value) => {
                let id = self.id(Kind::Disk, number).to_owned();
                let (kind, key) = ("disk".to_owned(), "k".to_owned());
                let given = vec![region, ("ResourceType", kind), ("ResourceId.1", id)];
                let tag = [("Tag.1.Key", key), ("Tag.1.Value", value.to_string())];
                ("TagResources", given.into_iter().chain(tag).collect())
            }
            Call::CreateSnapshot { new, of } => {
                let name = ("SnapshotName", self.name(Kind::Snapshot, new));
                ("CreateSnapshot", vec![disk(of), name])
            }
            Call::DeleteSnapshot { number, force } => {
                ("DeleteSnapshot", vec![snapshot(number), ("Force", force.to_string())])
            }
            Call::CreateImage { new, of } => {
                let name = ("ImageName", self.name(Kind::Image, new));
                ("CreateImage", vec![region, snapshot(of), name])
            }
            Call::DeleteImage(number) => {
                let image = ("ImageId", self.id(Kind::Image, number).to_owned());
                ("DeleteImage", vec![region, image])
            }
            Call::SeeInstance => {
                let ids = ("InstanceIds", format!("[\"{}\"]", self.instance));
                ("DescribeInstances", vec![region, ids])
            }
            Call::SeeDisks => ("DescribeDisks", self.list(region, "DiskName", Kind::Disk)),
            Call::SeeSnapshots => {
                ("DescribeSnapshots", self.list(region, "SnapshotName", Kind::Snapshot))
            }
            Call::SeeImages => ("DescribeImages", self.list(region, "ImageName", Kind::Image)),
        };
        (action, parameters.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    fn list(
        &self,
        region: (&'static str, String),
        field: &'static str,
        kind: Kind,
    ) -> Vec<(&'static str, String)> {
        let name = format!("c{}-{}*", self.number, kind.letter());
        vec![region, (field, name), ("PageSize", "100".into())]
    }

    // Answers

    /// What an answer says, and the states between two that it speaks of.
    pub(crate) fn read(&self, call: Call, status: u16, body: &str) -> (Answer, Vec<Between>) {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        if status != 200 {
            let code = body["Code"].as_str().unwrap_or_default().to_owned();
            let message = body["Message"].as_str().unwrap_or_default();
            return (Answer::Refused(code.clone()), between(call, &code, message));
        }
        match call {
            Call::SeeInstance => read_instance(&body),
            Call::SeeDisks => self.read_disks(&body),
            Call::SeeSnapshots => self.read_snapshots(&body),
            Call::SeeImages => {
                let images = self.numbers(Kind::Image, &body).into_keys().collect();
                (Answer::Seen(Seen::Numbers(images)), Vec::new())
            }
            _ => (Answer::Done, Vec::new()),
        }
    }

    fn read_disks(&self, body: &Value) -> (Answer, Vec<Between>) {
        let (mut seen, mut found) = (BTreeMap::new(), Vec::new());
        for row in rows(body, "Disks", "Disk") {
            let number = self.number(Kind::Disk, &row["DiskName"]);
            let (attached, between) = match row["Status"].as_str().unwrap_or_default() {
                "In_use" => (true, None),
                "ReIniting" => (true, Some(Between::ReIniting(Some(number)))),
                "Detaching" => (true, Some(Between::Detaching(Some(number)))),
                "Available" => (false, None),
                "Attaching" => (false, Some(Between::Attaching(Some(number)))),
                other => panic!("a disk is listed as {other:?}"),
            };
            found.extend(between);
            let tag = &row["Tags"]["Tag"][0]["TagValue"];
            let tag = tag.as_str().map_or(0, |value| value.parse().unwrap());
            let gib = row["Size"].as_u64().unwrap();
            seen.insert(number, SeenDisk { attached, gib, tag });
        }
        (Answer::Seen(Seen::Disks(seen)), found)
    }

    fn read_snapshots(&self, body: &Value) -> (Answer, Vec<Between>) {
        let mut found = Vec::new();
        for row in rows(body, "Snapshots", "Snapshot") {
            let number = self.number(Kind::Snapshot, &row["SnapshotName"]);
            match row["Status"].as_str().unwrap_or_default() {
                "accomplished" => {}
                "progressing" => found.push(Between::Progressing(number)),
                other => panic!("a snapshot is listed as {other:?}"),
            }
        }
        let numbers = self.numbers(Kind::Snapshot, body).into_keys().collect();
        (Answer::Seen(Seen::Numbers(numbers)), found)
    }

    /// What a list shows of this cell: numbers and ids.
    pub(crate) fn numbers(&self, kind: Kind, body: &Value) -> BTreeMap<Number, String> {
        let (all, one, name, id) = match kind {
            Kind::Disk => ("Disks", "Disk", "DiskName", "DiskId"),
            Kind::Snapshot => ("Snapshots", "Snapshot", "SnapshotName", "SnapshotId"),
            Kind::Image => ("Images", "Image", "ImageName", "ImageId"),
        };
        let row =
            |row: &Value| (self.number(kind, &row[name]), row[id].as_str().unwrap().to_owned());
        rows(body, all, one).iter().map(row).collect()
    }

    fn number(&self, kind: Kind, name: &Value) -> Number {
        let start = self.name(kind, 0);
        let start = start.strip_suffix('0').unwrap();
        let name = name.as_str().unwrap();
        let number = name.strip_prefix(start).and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("{name:?} is listed for {start}"))
    }
}

fn rows<'v>(body: &'v Value, all: &str, one: &str) -> &'v [Value] {
    body[all][one].as_array().unwrap_or_else(|| panic!("no {all} in {body}"))
}

fn read_instance(body: &Value) -> (Answer, Vec<Between>) {
    let row = &rows(body, "Instances", "Instance")[0];
    let (runs, between) = match row["Status"].as_str().unwrap_or_default() {
        "Running" => (true, None),
        "Stopping" => (true, Some(Between::Stopping)),
        "Stopped" => (false, None),
        "Starting" => (false, Some(Between::Starting)),
        other => panic!("an instance is listed as {other:?}"),
    };
    (Answer::Seen(Seen::Runs(runs)), between.into_iter().collect())
}

/// The states between two that a refusal speaks of, in its message or by its code.
fn between(call: Call, code: &str, message: &str) -> Vec<Between> {
    let disk = match call {
        Call::Attach(disk)
        | Call::Detach(disk)
        | Call::DeleteDisk(disk)
        | Call::Reset(disk)
        | Call::Resize(disk, _)
        | Call::CreateSnapshot { of: disk, .. } => Some(disk),
        _ => None,
    };
    let snapshot = match call {
        Call::CreateDisk { from, .. } => from,
        Call::CreateImage { of, .. } => Some(of),
        Call::DeleteSnapshot { number, .. } => Some(number),
        _ => None,
    };
    let found = match (code, disk, snapshot) {
        ("DiskCreatingSnapshot" | "IncorrectDiskStatus.CreatingSnapshot", Some(disk), _) => {
            Some(Between::Snapshotting(disk))
        }
        ("InvalidSnapshotId.NotReady", _, Some(number)) => Some(Between::Progressing(number)),
        ("Operation.Conflict", _, Some(number)) => Some(Between::InUse(number)),
        ("Operation.Conflict", Some(_), None) => Some(Between::Leaving),
        _ => match message.trim_end_matches('.').rsplit(' ').next().unwrap_or_default() {
            "ReIniting" => Some(Between::ReIniting(disk)),
            "Attaching" => Some(Between::Attaching(disk)),
            "Detaching" => Some(Between::Detaching(disk)),
            "Starting" => Some(Between::Starting),
            "Stopping" => Some(Between::Stopping),
            _ => None,
        },
    };
    found.into_iter().collect()
}

/// The lists that together show all of a cell.
pub(crate) const SIGHTS: [(Call, Option<Kind>); 4] = [
    (Call::SeeInstance, None),
    (Call::SeeDisks, Some(Kind::Disk)),
    (Call::SeeSnapshots, Some(Kind::Snapshot)),
    (Call::SeeImages, Some(Kind::Image)),
];
