//! `demo`: the whole story on a throw-away store, in one process, by the ways every user goes.
//!
//! What must always hold: nothing is shown that did not happen; the proof is a hash of every byte of each disk, read
//! over NBD. Without `--keep` nothing stays behind, also after Ctrl-C.
//! Left to others: the daemon (`daemon`), the first image (`image`), the client (`signed_client`), the disks
//! (`nbd_disk`).

mod image;
mod nbd_disk;
mod place;
mod proof;
mod signed_client;
mod steps;

use std::{thread::ScopedJoinHandle, time::Duration};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::{
    args::{AccountArg, Common, DemoArgs, ImageImportArgs, ImportFormat},
    commands::{disk, image as image_command, init},
    config::Config,
    control::{Control, Parameters, text},
    daemon::Daemon,
    failure::Failure,
    output::{self, Report},
    places::Places,
};
use nbd_disk::NbdDisk;
use place::Place;
use proof::Proof;
use signed_client::SignedClient;
use steps::Steps;

/// How long anything that works in the background is waited for.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

pub(crate) fn run(common: &Common, args: &DemoArgs) -> Result<Report, Failure> {
    let place = Place::new(args.keep.as_deref())?;
    let places = Places::new(Some(place.store()))?;
    places.check_sockets()?;
    init::create(&places)?;
    let daemon = Daemon::start(&places, Config::for_demo())?;
    place.vanish_on_interrupt(&daemon);
    let told = Story::begin(&daemon, &places, common).and_then(|mut story| {
        story.tell(&place)?;
        Ok(story.report(&place))
    });
    let stopped = daemon.stop();
    let report = told?;
    stopped?;
    Ok(report)
}

/// The demo on its way.
struct Story<'a> {
    common: &'a Common,
    control: Control,
    ecs: SignedClient,
    places: &'a Places,
    owner: AccountArg,
    steps: Steps,
    disks: Vec<Proof>,
}

impl<'a> Story<'a> {
    fn begin(daemon: &Daemon, places: &'a Places, common: &'a Common) -> anyhow::Result<Self> {
        let control = Control::of(places)?;
        let key = control.call("CreateAccessKey", &Parameters::new().with("Account", "default"))?;
        let ecs = SignedClient::new(
            daemon.http(),
            text(&key, "AccessKeyId"),
            text(&key, "AccessKeySecret"),
        )?;
        let owner = AccountArg { account: "default".into() };
        Ok(Self { common, control, ecs, places, owner, steps: Steps::default(), disks: Vec::new() })
    }

    fn tell(&mut self, place: &Place) -> anyhow::Result<()> {
        let image = self.import(place)?;
        let instance = self.create(&image)?;
        self.prepare_data_disks(&instance)?;
        self.step("start the instance: its disks open over NBD", |story| story.start(&instance))?;
        self.step("hash every byte of the three disks", |story| {
            story.hash(|proof| &mut proof.before)
        })?;
        self.step("ruin all three: writes, trims, zeros, a flush", Self::ruin)?;
        self.step("hash them again", |story| story.hash(|proof| &mut proof.ruined))?;
        self.step("stop the instance: its disks close", |story| story.stop(&instance))?;
        for number in 0..self.disks.len() {
            let name = format!("reset the {} by a signed ReInitDisk", self.disks[number].what);
            self.step(&name, |story| story.reset(number))?;
        }
        self.step("start the instance again", |story| story.start(&instance))?;
        self.step("hash them a third time", |story| story.hash(|proof| &mut proof.after))?;
        self.disks.iter().try_for_each(Proof::check)
    }

    fn step<T>(
        &mut self,
        name: &str,
        act: impl FnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        output::progress(self.common, name);
        let clock = steps::Clock::start();
        let done = act(self).with_context(|| name.to_owned())?;
        self.steps.add(name, clock);
        Ok(done)
    }

    fn import(&mut self, place: &Place) -> anyhow::Result<String> {
        let files = tempfile::Builder::new()
            .prefix("files-")
            .tempdir_in(place.store().parent().context("a store lies in some directory")?)?;
        let (file, how) = image::make(files.path())?;
        if let Some(why) = how.substitute {
            output::note(why);
        }
        self.step(&format!("import {}", how.told), |story| {
            let args = ImageImportArgs {
                file,
                name: "demo".into(),
                format: Some(ImportFormat::Raw),
                backing: false,
                public: false,
                owner: story.owner.clone(),
            };
            Ok(image_command::import(&story.control, story.common, &args)?.0)
        })
    }

    fn create(&mut self, image: &str) -> anyhow::Result<String> {
        self.step("create an instance with a system disk and an empty data disk", |story| {
            let asked = Parameters::new()
                .with("ImageId", image)
                .with("InstanceType", "ecs.g6.large")
                .with("RegionId", "cn-hangzhou")
                .with("InstanceName", "demo")
                .with("DataDisk.1.Category", "cloud_auto")
                .with("DataDisk.1.Size", 1);
            let instance = text(&story.ecs.call("CreateInstance", &asked)?, "InstanceId");
            for (what, kind) in [("system disk", "system"), ("empty data disk", "data")] {
                let disks = disk::of_instance(&story.control, &story.owner, &instance)?;
                let found = disks.iter().find(|disk| disk["Type"] == kind);
                story.disks.push(Proof::of(
                    what,
                    &text(found.context("the disk is not listed")?, "DiskId"),
                ));
            }
            Ok(instance)
        })
    }

    /// Writes to a disk, takes a snapshot of it, and makes the third disk from that.
    fn prepare_data_disks(&mut self, instance: &str) -> anyhow::Result<()> {
        let source = self.disks[1].disk.clone();
        self.start(instance)?;
        self.open(&source)?.fill(0x5eed)?;
        self.stop(instance)?;
        let snapshot = self.step("snapshot a data disk with 16 MiB in it", |story| {
            let made =
                story.ecs.call("CreateSnapshot", &Parameters::new().with("DiskId", &source))?;
            let snapshot = text(&made, "SnapshotId");
            story.wait_for("the snapshot", "accomplished", |story| {
                let ids = json!([snapshot]).to_string();
                let asked =
                    Parameters::new().with("RegionId", "cn-hangzhou").with("SnapshotIds", ids);
                let found = story.ecs.call("DescribeSnapshots", &asked)?;
                Ok(text(&found["Snapshots"]["Snapshot"][0], "Status"))
            })?;
            Ok(snapshot)
        })?;
        self.step("create a data disk from the snapshot and attach it", |story| {
            let asked =
                Parameters::new().with("RegionId", "cn-hangzhou").with("SnapshotId", snapshot);
            let made = text(
                &story.ecs.call("CreateDisk", &asked.with("ZoneId", "cn-hangzhou-b"))?,
                "DiskId",
            );
            story.wait_for_disk(&made, "Available")?;
            let asked = Parameters::new().with("DiskId", &made).with("InstanceId", instance);
            story.ecs.call("AttachDisk", &asked)?;
            story.wait_for_disk(&made, "In_use")?;
            story.disks.push(Proof::of("data disk from a snapshot", &made));
            Ok(())
        })?;
        // The disk that was snapshotted is to begin empty.
        self.reset(1)
    }

    fn start(&self, instance: &str) -> anyhow::Result<()> {
        self.ecs.call("StartInstance", &Parameters::new().with("InstanceId", instance))?;
        self.wait_for_instance(instance, "Running")
    }

    fn stop(&self, instance: &str) -> anyhow::Result<()> {
        self.ecs.call("StopInstance", &Parameters::new().with("InstanceId", instance))?;
        self.wait_for_instance(instance, "Stopped")
    }

    fn reset(&self, number: usize) -> anyhow::Result<()> {
        let disk = &self.disks[number].disk;
        self.ecs.call("ReInitDisk", &Parameters::new().with("DiskId", disk))?;
        self.wait_for_disk(disk, "In_use")
    }

    fn ruin(&mut self) -> anyhow::Result<()> {
        for (proof, seed) in self.disks.iter().zip(1..) {
            self.open(&proof.disk)?.ruin(seed)?;
        }
        Ok(())
    }

    fn hash(&mut self, moment: impl Fn(&mut Proof) -> &mut String) -> anyhow::Result<()> {
        // One thread a disk: each is its own export with its own threads.
        let story = &*self;
        let hashes = std::thread::scope(|scope| {
            let threads: Vec<_> = story
                .disks
                .iter()
                .map(|proof| scope.spawn(move || story.open(&proof.disk)?.hash()))
                .collect();
            let join = |thread: ScopedJoinHandle<'_, anyhow::Result<String>>| {
                thread.join().expect("hashing does not panic")
            };
            threads.into_iter().map(join).collect::<anyhow::Result<Vec<String>>>()
        })?;
        self.disks.iter_mut().zip(hashes).for_each(|(proof, hash)| *moment(proof) = hash);
        Ok(())
    }

    fn open(&self, disk: &str) -> anyhow::Result<NbdDisk> {
        NbdDisk::open(&self.places.nbd_socket(), disk)
    }

    fn wait_for_instance(&self, instance: &str, status: &str) -> anyhow::Result<()> {
        self.wait_for("the instance", status, |story| {
            let ids = json!([instance]).to_string();
            let asked = Parameters::new().with("RegionId", "cn-hangzhou").with("InstanceIds", ids);
            Ok(text(
                &story.ecs.call("DescribeInstances", &asked)?["Instances"]["Instance"][0],
                "Status",
            ))
        })
    }

    fn wait_for_disk(&self, disk: &str, status: &str) -> anyhow::Result<()> {
        self.wait_for("the disk", status, |story| {
            let ids = json!([disk]).to_string();
            let asked = Parameters::new().with("RegionId", "cn-hangzhou").with("DiskIds", ids);
            Ok(text(&story.ecs.call("DescribeDisks", &asked)?["Disks"]["Disk"][0], "Status"))
        })
    }

    fn wait_for(
        &self,
        what: &str,
        wanted: &str,
        look: impl Fn(&Self) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        let clock = std::time::Instant::now();
        loop {
            let status = look(self)?;
            if status == wanted {
                return Ok(());
            }
            if clock.elapsed() > LIMIT {
                bail!("{what} is {status} and does not become {wanted}");
            }
            std::thread::sleep(POLL);
        }
    }

    fn report(&self, place: &Place) -> Report {
        let proofs: Vec<Value> = self.disks.iter().map(Proof::document).collect();
        let header = ["DISK", "BEFORE", "RUINED", "AFTER THE RESET"];
        let rows = self.disks.iter().map(Proof::row).collect();
        let mut document = json!({ "Steps": self.steps.document(), "Disks": proofs });
        if let Place::Kept(store) = place {
            document["Store"] = json!(store);
        }
        let ids = self.disks.iter().map(|proof| proof.disk.clone()).collect();
        let tables = [self.steps.table(), output::table(&header, rows), place.how_to_go_on()];
        Report::done(document, ids, tables.join("\n\n"))
    }
}
