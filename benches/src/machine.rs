//! The machine a run was made on, in one line, and whether it was quiet.

use std::{fs, thread};

/// More work than this per CPU before we begin makes figures wobble.
const QUIET_LOAD: f64 = 0.3;

/// What a run was made on.
#[derive(Clone, Debug)]
pub struct Machine {
    kernel: String,
    cpu: String,
    cpus: usize,
    memory_gib: f64,
    load: f64,
}

impl Machine {
    /// This machine, now.
    pub fn here() -> Self {
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".into()),
            cpus: thread::available_parallelism().map_or(1, Into::into),
            memory_gib: memory_kib().unwrap_or(0.0) / f64::from(1 << 20),
            load: load(),
        }
    }

    /// The one line.
    pub fn line(&self) -> String {
        let Self { kernel, cpu, cpus, memory_gib, load } = self;
        format!("Linux {kernel}, {cpus} x {cpu}, {memory_gib:.0} GiB, load {load:.2} at the start")
    }

    /// What speaks against believing the figures.
    pub fn warning(&self) -> Option<String> {
        let cpus = u32::try_from(self.cpus).map_or(1.0, f64::from);
        (self.load > QUIET_LOAD * cpus).then(|| {
            format!("**Noisy**: the load was {:.2} before anything began; measure again", self.load)
        })
    }
}

fn load() -> f64 {
    let text = read("/proc/loadavg");
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

fn memory_kib() -> Option<f64> {
    field("/proc/meminfo", "MemTotal")?.strip_suffix(" kB")?.trim().parse().ok()
}

/// The value of the first line `name: value` of a file.
pub fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
