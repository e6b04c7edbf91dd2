//! "The daemon dies at any moment. What was answered holds; the next daemon goes on."

use std::path::PathBuf;

use tests::{
    qemu,
    signature::Signature,
    site::{Machine, Site},
};

/// The story of `image_to_reset`, told step by step.
struct Story {
    site: Site,
    image: PathBuf,
    id: String,
    machine: Option<Machine>,
}

type Step = (&'static str, fn(&mut Story));

const STEPS: &[Step] = &[
    ("import", |story| story.id = story.site.import(&story.image, &[])),
    ("create", |story| story.machine = Some(story.site.machine(&story.id, &["1G"]))),
    ("start", |story| story.site.start(&story.machine().instance)),
    ("compare", |story| story.compare()),
    ("ruin the system disk", |story| story.site.ruin(&story.machine().system)),
    ("ruin the data disk", |story| story.site.ruin(&story.machine().data[0])),
    ("flush", |story| story.site.io(&story.machine().system, &["flush"])),
    ("stop", |story| story.site.stop(&story.machine().instance)),
    ("reset by version 1", |story| story.site.reinit(&story.machine().system, Signature::V1)),
    ("reset by ACS3", |story| story.site.reinit(&story.machine().data[0], Signature::Acs3)),
    ("start again", |story| story.site.start(&story.machine().instance)),
    ("compare again", |story| story.compare()),
];

impl Story {
    fn new() -> Self {
        let site = Site::new();
        let raw = qemu::ext4_image(site.scratch(), 8);
        let image = qemu::to_qcow2(&raw, &site.scratch().join("image.qcow2"), &[]);
        Self { site, image, id: String::new(), machine: None }
    }

    fn machine(&self) -> Machine {
        self.machine.clone().expect("the instance is made")
    }

    fn compare(&self) {
        assert!(self.site.holds(&self.machine().system, &self.image, "qcow2"));
        self.site.io(&self.machine().data[0], &["read -P 0 0 16M"]);
    }

    fn tell(&mut self, mut after: impl FnMut(&mut Site, usize)) {
        for (number, (name, step)) in STEPS.iter().enumerate() {
            eprintln!("step {number}: {name}");
            step(self);
            after(&mut self.site, number);
        }
    }
}

#[test]
fn kill_9_after_every_single_step() {
    Story::new().tell(|site, _| site.crash());
}

#[test]
fn kill_9_between_any_two_steps_once() {
    for crash in 0..STEPS.len() - 1 {
        eprintln!("crash after step {crash}");
        Story::new().tell(|site, step| {
            if step == crash {
                site.crash();
            }
        });
    }
}

#[test]
fn what_was_flushed_is_there_after_kill_9_and_what_was_reset_is_gone() {
    let mut site = Site::new();
    let image = qemu::ext4_image(site.scratch(), 8);
    let id = site.import(&image, &["--format", "raw"]);
    let machine = site.machine(&id, &["1G"]);
    let data = &machine.data[0];
    site.start(&machine.instance);
    for round in 1..=4u8 {
        let write = format!("write -P {round} {round}M 1M");
        site.io(data, &[&write, "flush"]);
        site.crash();
        let read = format!("read -P {round} {round}M 1M");
        site.io(data, &[&read]);
    }
    site.stop(&machine.instance);
    site.reinit(data, Signature::V1);
    site.crash();
    site.start(&machine.instance);
    site.io(data, &["read -P 0 0 16M"]);
}

#[test]
fn kill_9_in_the_middle_of_an_import_leaves_nothing() {
    let mut site = Site::new();
    let big = site.scratch().join("big.raw");
    qemu::patterned_image(&big, 256);
    let file = big.display().to_string();
    let store = site.store().display().to_string();
    let import = std::thread::spawn(move || {
        tests::program::reinit(["--store", &store, "image", "import", &file, "--name", "big"])
    });
    std::thread::sleep(std::time::Duration::from_millis(60));
    site.kill_daemon();
    let imported = import.join().unwrap().code == Some(0);
    site.start_daemon();
    let images = site.run(&["image", "ls"])["Images"].as_array().unwrap().len();
    if imported {
        assert_eq!(images, 1, "an answered import holds");
    }
    // An unanswered one is wholly there or wholly gone; the same import works now.
    let id = site.import(&big, &["--format", "raw"]);
    let machine = site.machine(&id, &[]);
    site.start(&machine.instance);
    assert!(site.holds(&machine.system, &big, "raw"));
}
