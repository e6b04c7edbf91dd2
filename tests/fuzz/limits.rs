//! What one input may take, and who notices.
//!
//! What must always hold: a panic on any thread counts, also one that somebody catches. Memory is held by the kernel
//! (`RLIMIT_DATA` above what the process has when it begins): what asks for more dies. Time is that of the processor,
//! so that a busy machine is no failure; only a process that sits still for minutes is ended by the clock.

use std::{
    fs,
    panic::{self, AssertUnwindSafe, catch_unwind},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

/// Bytes of memory above what is there at the start.
const MEMORY: u64 = 256 << 20;
/// Of the processor, for one input; code that is not optimized may take longer.
pub(crate) const TIME: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });
/// After that long on one input something waits for ever.
const HUNG: Duration = Duration::from_secs(120);

/// The limits that are on this process.
pub(crate) struct Limits {
    panics: Arc<AtomicU64>,
    begun: Arc<AtomicU64>,
}

impl Limits {
    /// Puts them on, for good.
    pub(crate) fn set() -> Self {
        let most = memory() + MEMORY;
        let hard = getrlimit(Resource::Data).maximum;
        setrlimit(Resource::Data, Rlimit { current: Some(most), maximum: hard }).unwrap();
        let (panics, begun) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        count_panics(Arc::clone(&panics));
        watch(Arc::clone(&begun));
        Self { panics, begun }
    }

    /// Tries one input, and ends the process if it did what it must not.
    pub(crate) fn hold(&self, trial: impl FnOnce()) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let before = processor_time();
        // The hook has counted and told it.
        let _ = catch_unwind(AssertUnwindSafe(trial));
        let taken = processor_time() - before;
        if self.panics.load(Ordering::Relaxed) > 0 {
            fail("the input made something panic");
        }
        if taken > TIME {
            fail(&format!("the input took {taken:?} of the processor"));
        }
    }
}

/// Ends the process at once: what other threads do after a failure is of no interest.
fn fail(why: &str) -> ! {
    eprintln!("{why}");
    process::exit(1)
}

fn count_panics(panics: Arc<AtomicU64>) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        panics.fetch_add(1, Ordering::Relaxed);
        before(info);
    }));
}

fn watch(begun: Arc<AtomicU64>) {
    thread::spawn(move || {
        let mut seen = u64::MAX;
        loop {
            let now = begun.load(Ordering::Relaxed);
            if now == seen {
                fail("the input is still under way");
            }
            seen = now;
            thread::sleep(HUNG);
        }
    });
}

/// What all threads of the process have used up.
pub(crate) fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap()
}

/// Bytes of private memory the process has, as the limit counts them.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
