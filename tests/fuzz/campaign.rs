//! Runs a target: the corpus as it is, then mutations of it, in a process that may die.
//!
//! The test starts itself again as a child with limits on it (`limits`). The child writes each input to a file before
//! it tries it, so that whatever ends the child, the parent has the input.
//!
//! What must always hold: a child that did not end well is a failed test that names the input and how to replay it.
//! Left to others: what an input may take (`limits`), where inputs come from (`mutation`).

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use crate::{
    limits::{self, Limits},
    mutation::Mutator,
};

/// Set for the child: the file that holds the input under way.
const CHILD: &str = "REINIT_FUZZ_CHILD";
const REPLAY: &str = "REINIT_FUZZ_REPLAY";
const SECONDS: &str = "REINIT_FUZZ_SECONDS";
const SEED: &str = "REINIT_SEED";
const DEFAULT_SEED: u64 = 1;

/// Tries one input.
pub(crate) type Trial = Box<dyn FnMut(&[u8])>;

/// What is fuzzed, and with how much in the slice of every change.
pub(crate) struct Target {
    name: &'static str,
    prepare: fn() -> Trial,
    inputs: u64,
    seeds: Vec<PathBuf>,
    words: &'static [&'static [u8]],
}

impl Target {
    /// The name is that of the test and of the directory of seeds.
    pub(crate) fn new(name: &'static str, prepare: fn() -> Trial) -> Self {
        let seeds = vec![here().join("corpus").join(name)];
        Self { name, prepare, inputs: 1_000, seeds, words: &[] }
    }

    /// How many mutations one slice tries.
    pub(crate) fn inputs(self, inputs: u64) -> Self {
        Self { inputs, ..self }
    }

    /// One more directory of seeds.
    pub(crate) fn seeds_in(mut self, directory: &str) -> Self {
        self.seeds.push(here().join(directory));
        self
    }

    /// Pieces of the language that is fuzzed.
    pub(crate) fn words(self, words: &'static [&'static [u8]]) -> Self {
        Self { words, ..self }
    }

    /// The parent's side, or the child's.
    pub(crate) fn run(self) {
        if let Some(under_way) = env::var_os(CHILD) {
            return self.try_all(Path::new(&under_way));
        }
        let under_way = self.kept().join(format!("under-way-{}", std::process::id()));
        fs::create_dir_all(self.kept()).unwrap();
        let status = child(self.name, &under_way, env::var_os(REPLAY));
        if status.success() {
            return fs::remove_file(under_way).unwrap();
        }
        let input = fs::read(&under_way).unwrap_or_default();
        let kept = self.kept().join(format!("{:016x}", hash(&input)));
        fs::rename(&under_way, &kept).unwrap();
        let name = self.name;
        panic!(
            "{name}: the child ended with {status}; the input is kept, and this tries it again:\n  \
             {REPLAY}={} cargo test -p tests --test fuzz -- --exact {name}",
            kept.display()
        );
    }

    fn try_all(self, under_way: &Path) {
        let under_way = File::create(under_way).unwrap();
        let mut trial = (self.prepare)();
        let limits = Limits::set();
        let mut one = |input: &[u8]| {
            under_way.set_len(0).unwrap();
            under_way.write_all_at(input, 0).unwrap();
            limits.hold(|| trial(input));
        };
        if let Some(file) = env::var_os(REPLAY) {
            // Cargo runs a test in its package; people are at the root of the workspace.
            return one(&fs::read(here().parent().unwrap().join(file)).unwrap());
        }
        let corpus = self.corpus();
        corpus.iter().for_each(|seed| one(seed));
        let mut mutator = Mutator::new(number(SEED).unwrap_or(DEFAULT_SEED), corpus, self.words);
        // Processor time: a busy machine makes a campaign longer, not smaller.
        let (begun, mut tried) = (limits::processor_time(), 0);
        let worked = || limits::processor_time() - begun;
        let until = number(SECONDS).map(Duration::from_secs);
        while until.map_or(tried < self.inputs, |until| worked() < until) {
            one(&mutator.next());
            tried += 1;
        }
        eprintln!("{}: {tried} inputs in {:?} of processor time", self.name, worked());
    }

    /// All seeds, in the order of their names.
    fn corpus(&self) -> Vec<Vec<u8>> {
        let mut files = Vec::new();
        for directory in &self.seeds {
            let entries = fs::read_dir(directory)
                .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
            files.extend(entries.map(|entry| entry.unwrap().path()));
        }
        files.sort();
        assert!(!files.is_empty(), "{} has no seeds", self.name);
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    fn kept(&self) -> PathBuf {
        // The test runs as TARGET/PROFILE/deps/NAME.
        let own = env::current_exe().unwrap();
        own.ancestors().nth(3).unwrap().join("fuzz").join(self.name)
    }
}

fn child(name: &str, under_way: &Path, replay: Option<OsString>) -> ExitStatus {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(CHILD, under_way);
    if let Some(replay) = replay {
        command.env(REPLAY, replay);
    }
    command.status().unwrap()
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text}, not a number")))
}

fn hash(input: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    hasher.finish()
}

/// Bytes that do each thing that must not be done.
fn trap() -> Trial {
    Box::new(|input| match input {
        b"panic" => panic!("on purpose"),
        b"panic on another thread" => drop(std::thread::spawn(|| panic!("on purpose")).join()),
        b"memory" => drop(std::hint::black_box(vec![1_u8; 300 << 20])),
        b"time" => {
            let begun = limits::processor_time();
            while limits::processor_time() - begun <= limits::TIME {}
        }
        _ => {}
    })
}

/// Run by the test below alone: by itself it finds nothing, for its seed is harmless.
#[test]
fn trapped() {
    Target {
        name: "campaign::trapped",
        seeds: vec![here().join("corpus/trapped")],
        inputs: 10,
        ..Target::new("trapped", trap)
    }
    .run();
}

#[test]
fn what_must_not_be_done_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("input");
    let ends_well = |input: &[u8]| {
        fs::write(&path, input).unwrap();
        let under_way = directory.path().join("under-way");
        let ended = child("campaign::trapped", &under_way, Some(path.clone().into()));
        assert_eq!(fs::read(under_way).unwrap(), input, "the input is kept");
        ended.success()
    };
    assert!(ends_well(b"harmless"));
    for input in ["panic", "panic on another thread", "memory", "time"] {
        assert!(!ends_well(input.as_bytes()), "{input}");
    }
}
