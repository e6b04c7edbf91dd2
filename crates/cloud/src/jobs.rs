//! Background work: a few threads, each queue in order.
//!
//! What must always hold: a job that panics takes nothing with it but itself (its claim is released as
//! it unwinds); after [`Jobs::stop`] no job runs, and those that ran were asked to end early.
//! Left to others: what a half-done job leaves to the next start (`recovery`).

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;
use tracing::Span;

use crate::CloudError;

type Job = Box<dyn FnOnce() + Send>;

/// Which queue a job waits in: a long import must not hold up the hashes of snapshots.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Queue {
    /// Hashing of snapshots.
    Hashing,
    /// Imports and exports of images.
    Imports,
    /// The watch over free space, which goes on until the stop.
    Space,
}

/// Threads of each queue.
const WORKERS: usize = 2;

/// The background threads.
#[derive(Debug)]
pub(crate) struct Jobs {
    hashing: Line,
    imports: Line,
    space: Line,
    /// Set once. Relaxed: a job that sees it late only ends later.
    stopping: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Line {
    /// None once stopped.
    sender: Mutex<Option<mpsc::Sender<Job>>>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl Jobs {
    pub(crate) fn start() -> Result<Self, CloudError> {
        let stopping = Arc::new(AtomicBool::new(false));
        let hashing = Line::start("reinit-hash", &stopping)?;
        let imports = Line::start("reinit-import", &stopping)?;
        let space = Line::start("reinit-space", &stopping)?;
        Ok(Self { hashing, imports, space, stopping })
    }

    /// Puts a job at the end of its queue; after a stop it is dropped. What it logs tells the request
    /// that asked for it.
    pub(crate) fn add(&self, queue: Queue, job: impl FnOnce() + Send + 'static) {
        let line = match queue {
            Queue::Hashing => &self.hashing,
            Queue::Imports => &self.imports,
            Queue::Space => &self.space,
        };
        if let Some(sender) = line.sender.lock().as_ref() {
            // Fails only when the workers are gone, and then the job is dropped as after a stop.
            let span = Span::current();
            let _gone = sender.send(Box::new(move || span.in_scope(job)));
        }
    }

    /// Whether jobs should end early.
    pub(crate) fn are_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Asks running jobs to end, waits for them and drops the rest.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        for line in [&self.hashing, &self.imports, &self.space] {
            line.sender.lock().take();
            for worker in line.workers.lock().drain(..) {
                // A worker that is itself the last holder of the cloud cannot wait for itself.
                if worker.thread().id() != thread::current().id() {
                    // Workers catch their jobs' panics.
                    let _ended = worker.join();
                }
            }
        }
    }
}

impl Line {
    fn start(name: &str, stopping: &Arc<AtomicBool>) -> Result<Self, CloudError> {
        let (sender, receiver) = mpsc::channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        let spawn = |_| {
            let (receiver, stopping) = (Arc::clone(&receiver), Arc::clone(stopping));
            thread::Builder::new().name(name.into()).spawn(move || work(&receiver, &stopping))
        };
        let workers: Result<Vec<_>, _> = (0..WORKERS).map(spawn).collect();
        let workers = workers.map_err(CloudError::internal)?;
        Ok(Self { sender: Mutex::new(Some(sender)), workers: Mutex::new(workers) })
    }
}

fn work(receiver: &Mutex<mpsc::Receiver<Job>>, stopping: &AtomicBool) {
    loop {
        let next = receiver.lock().recv();
        let Ok(job) = next else { return };
        if stopping.load(Ordering::Relaxed) {
            continue;
        }
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a background job panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_panics_does_not_stop_the_next() {
        let jobs = Jobs::start().unwrap();
        let (sender, receiver) = mpsc::channel();
        for _ in 0..2 * WORKERS {
            jobs.add(Queue::Hashing, || panic!("on purpose"));
        }
        jobs.add(Queue::Hashing, move || sender.send(7).unwrap());
        assert_eq!(receiver.recv().unwrap(), 7);
        jobs.stop();
        jobs.add(Queue::Hashing, || unreachable!("after the stop"));
    }
}
