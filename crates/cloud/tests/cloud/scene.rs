//! A machine with everything a call of a race may meet, the calls, and all that can be seen afterwards.
//!
//! What must always hold: two scenes of one start look the same, whatever their ids are.

use std::{
    fmt::{Debug, Write as _},
    sync::atomic::{AtomicUsize, Ordering},
};

use cloud::{
    AttachDisk, Cloud, CloudError, CreateDisk, CreateSnapshot, DescribeDisks, DescribeImages,
    DescribeSnapshots, DiskStatus, DiskView, InstanceStatus, Origin, ReInitDisk, ReplaceSystemDisk,
    ResetDisk, ResizeDisk, SnapshotStatus,
};

use crate::lab::{Lab, MIB, all, wait};

/// What the calls of a race find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Start {
    /// The disk is attached and its instance stopped.
    Stopped,
    /// The disk is attached and its instance runs.
    Running,
    /// The disk is attached to nothing.
    Apart,
}

impl Start {
    pub(super) const ALL: [Self; 3] = [Self::Stopped, Self::Running, Self::Apart];
}

/// A call of a race; where no other is named it is about the data disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Reset,
    ResetKeeping,
    ResetToOwnSnapshot,
    ResetSystem,
    ReplaceSystem,
    Attach,
    Detach,
    Snapshot,
    Resize,
    DeleteDisk,
    DeleteSource,
    DeleteOwnSnapshot,
    DeleteImage,
    CopySource,
    Start,
    Stop,
    DeleteInstance,
}

impl Call {
    pub(super) const ALL: [Self; 17] = [
        Self::Reset,
        Self::ResetKeeping,
        Self::ResetToOwnSnapshot,
        Self::ResetSystem,
        Self::ReplaceSystem,
        Self::Attach,
        Self::Detach,
        Self::Snapshot,
        Self::Resize,
        Self::DeleteDisk,
        Self::DeleteSource,
        Self::DeleteOwnSnapshot,
        Self::DeleteImage,
        Self::CopySource,
        Self::Start,
        Self::Stop,
        Self::DeleteInstance,
    ];

    /// What a refusal may say because this call is under way: a state between two, or that something
    /// is in use by it. Every other refusal is one of a settled state.
    pub(super) fn shows_meanwhile(self) -> &'static [&'static str] {
        match self {
            Self::Reset | Self::ResetToOwnSnapshot => &["status: ReIniting", "Conflict {"],
            Self::ResetKeeping => &[
                "status: ReIniting",
                "Conflict {",
                "DiskCreatingSnapshot {",
                "SnapshotInProgress {",
            ],
            Self::ResetSystem | Self::ReplaceSystem => {
                &["status: ReIniting", "ImageUsedByInstance {"]
            }
            Self::Attach => &["status: Attaching"],
            Self::Detach => &["status: Detaching"],
            Self::Snapshot => &["DiskCreatingSnapshot {", "SnapshotInProgress {"],
            Self::CopySource => &["Conflict {"],
            Self::Start => &["status: Starting"],
            Self::Stop => &["status: Stopping"],
            // Whoever meets one of these waits for its end.
            Self::Resize
            | Self::DeleteDisk
            | Self::DeleteSource
            | Self::DeleteOwnSnapshot
            | Self::DeleteImage
            | Self::DeleteInstance => &[],
        }
    }
}

/// Done, or why not: the error without the ids of this scene.
pub(super) type Answer = Result<(), String>;

/// An instance, its disks and what they were made from.
pub(super) struct Scene<'l> {
    lab: &'l Lab,
    instance: String,
    system: String,
    /// The instance's own data disk.
    scratch: String,
    /// Of `scratch`.
    source: String,
    /// Made from `source`.
    disk: String,
    /// Of `disk`.
    own: String,
    image: String,
}

fn own_image(lab: &Lab) -> String {
    // An account has each name only once.
    static IMAGES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("image-{}", IMAGES.fetch_add(1, Ordering::Relaxed));
    lab.image(&lab.key(), &name, 1)
}

impl<'l> Scene<'l> {
    /// From this image, or from one of its own.
    pub(super) fn new(lab: &'l Lab, start: Start, image: Option<&str>) -> Self {
        let image = image.map_or_else(|| own_image(lab), str::to_owned);
        let made = lab.instance(&lab.key(), &image);
        let (instance, scratch) = (made.instance, made.data_disks[0].clone());
        lab.start(&instance);
        lab.write(&made.system_disk, 9);
        lab.write(&scratch, 7);
        let source = lab.snapshot(&scratch);
        let disk = lab.disk_from(&source);
        lab.attach(&disk, &instance);
        lab.write(&disk, 8);
        let own = lab.snapshot(&disk);
        lab.write(&disk, 9);
        if start != Start::Running {
            lab.stop(&instance);
        }
        if start == Start::Apart {
            lab.cloud.detach_disk(&lab.key(), &disk, &instance).unwrap();
        }
        Self { lab, instance, system: made.system_disk, scratch, source, disk, own, image }
    }

    pub(super) fn run(&self, call: Call) -> Answer {
        self.call(call).map_err(|error| self.without_ids(&format!("{error:?}")))
    }

    fn call(&self, call: Call) -> Result<(), CloudError> {
        let (lab, cloud, key) = (self.lab, &self.lab.cloud, &self.lab.key());
        let (disk, instance) = (self.disk.clone(), self.instance.clone());
        match call {
            Call::Reset => lab.reinit(&disk).map(drop),
            Call::ResetKeeping => {
                let request = ReInitDisk { disk, keep: true, ..Default::default() };
                cloud.reinit_disk(key, &request, Cloud::new_request_id()).map(drop)
            }
            Call::ResetToOwnSnapshot => {
                let request = ResetDisk { disk, snapshot: self.own.clone() };
                cloud.reset_disk(key, &request, Cloud::new_request_id()).map(drop)
            }
            Call::ResetSystem => lab.reinit(&self.system).map(drop),
            Call::ReplaceSystem => {
                let image = self.image.clone();
                let request = ReplaceSystemDisk { instance, image, ..Default::default() };
                cloud.replace_system_disk(key, &request).map(drop)
            }
            Call::Attach => {
                cloud.attach_disk(key, &AttachDisk { disk, instance, ..Default::default() })
            }
            Call::Detach => cloud.detach_disk(key, &disk, &instance),
            Call::Snapshot => {
                let request = CreateSnapshot { disk, ..Default::default() };
                cloud.create_snapshot(key, &request).map(drop)
            }
            Call::Resize => {
                let size = 6 * cloud::GIB;
                cloud.resize_disk(key, &ResizeDisk { disk, size, ..Default::default() })
            }
            Call::DeleteDisk => cloud.delete_disk(key, &disk),
            Call::DeleteSource => cloud.delete_snapshot(key, &self.source, true),
            Call::DeleteOwnSnapshot => cloud.delete_snapshot(key, &self.own, true),
            Call::DeleteImage => cloud.delete_image(key, &self.image, true),
            Call::CopySource => {
                let snapshot = Some(self.source.clone());
                let request = CreateDisk { snapshot, ..Default::default() };
                cloud.create_disk(key, &request).map(drop)
            }
            Call::Start => cloud.start_instance(key, &instance),
            Call::Stop => cloud.stop_instance(key, &instance),
            Call::DeleteInstance => cloud.delete_instance(key, &instance, false),
        }
    }

    fn without_ids(&self, text: &str) -> String {
        let names = [
            (&self.instance, "instance"),
            (&self.system, "system"),
            (&self.scratch, "scratch"),
            (&self.source, "source"),
            (&self.disk, "disk"),
            (&self.own, "own"),
            (&self.image, "image"),
        ];
        names.into_iter().fold(text.to_owned(), |text, (id, name)| text.replace(id, name))
    }

    // What can be seen

    /// Waits until nothing of it is in a state between two.
    pub(super) fn settle(&self) {
        wait(|| {
            let between =
                |view: &DiskView| !matches!(view.status, DiskStatus::Available | DiskStatus::InUse);
            let status = self.lab.status(&self.lab.key(), &self.instance);
            let progressing = |id: &str| {
                self.lab
                    .snapshot_status(id)
                    .is_some_and(|(status, _)| status == SnapshotStatus::Progressing)
            };
            !self.disks().iter().any(between)
                && matches!(status, None | Some(InstanceStatus::Running | InstanceStatus::Stopped))
                && !self.new_snapshots().iter().any(|id| progressing(id))
        });
    }

    /// All of it, in words without ids.
    pub(super) fn look(&self) -> String {
        let lab = self.lab;
        let mut seen = format!("instance {:?}\n", lab.status(&lab.key(), &self.instance));
        let mut disks: Vec<_> = self.disks().iter().map(|view| self.look_at(view)).collect();
        disks.sort();
        seen.push_str(&disks.concat());
        for (name, id) in [("source", &self.source), ("own", &self.own)] {
            writeln!(seen, "{name} {:?}", lab.snapshot_status(id)).unwrap();
        }
        for id in self.new_snapshots() {
            let copy = lab.disk_from(&id);
            let (status, byte) = (lab.snapshot_status(&id), lab.read(&copy));
            lab.cloud.delete_disk(&lab.key(), &copy).unwrap();
            writeln!(seen, "new snapshot {status:?} of {byte}").unwrap();
        }
        let asked = DescribeImages { ids: Some(vec![self.image.clone()]), ..Default::default() };
        let images = lab.cloud.describe_images(&lab.key(), &asked).unwrap().items.len();
        writeln!(seen, "{images} image").unwrap();
        seen
    }

    fn look_at(&self, view: &DiskView) -> String {
        let place = view.attachment.as_ref().map(|place| (&place.instance, &place.device));
        let name = self.without_ids(&view.id);
        let name = if name == view.id { "new".to_owned() } else { name };
        let epoch = self.lab.cloud.show_disk(&self.lab.key(), &view.id).unwrap().epoch;
        let size = view.size.get() / MIB;
        let (byte, open) = (self.lab.read(&view.id), self.lab.exports.is_open(&view.id));
        let told: [&dyn Debug; 7] =
            [&view.status, &place, &view.origin, &size, &epoch, &byte, &open];
        self.without_ids(&format!("disk {name}: {told:?}\n"))
    }

    /// Those of the instance, and those made from the source.
    fn disks(&self) -> Vec<DiskView> {
        let asked = DescribeDisks { paging: all(), ..Default::default() };
        let listed = self.lab.cloud.describe_disks(&self.lab.operator(), &asked).unwrap().items;
        let is_own = |view: &DiskView| {
            let place = view.attachment.as_ref().map(|place| &place.instance);
            let made = matches!(&view.origin, Origin::Snapshot { id } if *id == self.source);
            made || place == Some(&self.instance)
                || [&self.system, &self.scratch, &self.disk].contains(&&view.id)
        };
        listed.into_iter().filter(is_own).collect()
    }

    /// Of the disk, in the order they were made.
    fn new_snapshots(&self) -> Vec<String> {
        let disk = Some(self.disk.clone());
        let asked = DescribeSnapshots { disk, paging: all(), ..Default::default() };
        let found = self.lab.cloud.describe_snapshots(&self.lab.operator(), &asked);
        let found = found.unwrap().items;
        found.into_iter().map(|one| one.id).filter(|id| *id != self.own).collect()
    }
}
