//! A connection's helper thread for requests that may wait for the disk below: flushes, forced
//! writes (their data is already stored; what is left is a flush), trims, zeroes and what is read
//! ahead.
//!
//! What must always hold: a flush of the device that answers a request began after that request
//! was handed in. All that wait at the same time share one flush.
//! Left to others: reads and writes, which go through the page cache (`session`).

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use block_device::{ByteLength, ByteOffset, ByteRange, DeviceError, Durability, Operation};
use parking_lot::{Condvar, Mutex};

use crate::{
    connection::Connection,
    errno::{Access, Errno},
    inbox::PIECE,
    reply::Asked,
    request::SlowCommand,
    wire::LARGEST_PAYLOAD,
};

/// How many requests may wait. More than any client keeps in flight; behind it the connection's
/// thread waits, and so the client.
const MOST_WAITING: usize = 256;

/// How much the device is given to zero or to discard at once: what takes it milliseconds.
const STRETCH: u64 = 1 << 30;

/// A request for the helper thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) asked: Asked,
    pub(crate) command: SlowCommand,
    /// What its time counts for, if it counts.
    pub(crate) operation: Option<Operation>,
    pub(crate) begun: Instant,
}

/// The way to the helper thread, which is started by the first job and ended with this value.
#[derive(Debug)]
pub(crate) struct SlowLane {
    connection: Arc<Connection>,
    queue: Arc<Queue>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    /// No job will come, or (after a panic) none will be done.
    ended: bool,
}

impl SlowLane {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, queue: Arc::default(), worker: None }
    }

    /// Hands a job in; it will be answered by the helper. `OutOfMemory` if there can be none.
    pub(crate) fn submit(&mut self, job: Job) -> Result<(), Errno> {
        if self.worker.is_none() {
            self.worker = Some(self.start().map_err(|_| Errno::OutOfMemory)?);
        }
        let mut state = self.queue.state.lock();
        while state.jobs.len() >= MOST_WAITING && !state.ended {
            self.queue.changed.wait(&mut state);
        }
        if state.ended {
            return Err(Errno::InputOutput);
        }
        self.connection.meter().begun();
        state.jobs.push(job);
        self.queue.changed.notify_all();
        Ok(())
    }

    fn start(&self) -> io::Result<JoinHandle<()>> {
        let worker = Worker {
            connection: Arc::clone(&self.connection),
            queue: Arc::clone(&self.queue),
            replies: Vec::new(),
            scratch: Vec::new(),
        };
        thread::Builder::new().name("nbd-slow".into()).spawn(|| worker.run())
    }
}

impl Drop for SlowLane {
    fn drop(&mut self) {
        self.queue.end();
        if let Some(worker) = self.worker.take() {
            // A panic in there has been told by the panic hook, and has ended the connection.
            let _ = worker.join();
        }
    }
}

impl Queue {
    fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits for jobs and takes all there are; false when none will come.
    fn take(&self, jobs: &mut Vec<Job>) -> bool {
        let mut state = self.state.lock();
        while state.jobs.is_empty() && !state.ended {
            self.changed.wait(&mut state);
        }
        std::mem::swap(&mut state.jobs, jobs);
        self.changed.notify_all();
        !jobs.is_empty()
    }
}

/// The helper thread's own things.
struct Worker {
    connection: Arc<Connection>,
    queue: Arc<Queue>,
    replies: Vec<u8>,
    /// Where data goes that nobody looks at; empty until there is some.
    scratch: Vec<u8>,
}

impl Worker {
    fn run(mut self) {
        let mut jobs = Vec::new();
        let mut unflushed = Vec::new();
        while self.queue.clone().take(&mut jobs) {
            for job in jobs.drain(..) {
                match self.begin(job.command) {
                    Ok(Rest::Flush) => unflushed.push(job),
                    Ok(Rest::Nothing) => self.answer(job, None),
                    Err((error, access)) => self.answer(job, Some((&error, access))),
                }
            }
            self.send();
            self.flush(&mut unflushed);
        }
    }

    /// Does all of a command but its flush.
    fn begin(&mut self, command: SlowCommand) -> Result<Rest, (DeviceError, Access)> {
        match command {
            SlowCommand::Flush => Ok(Rest::Flush),
            SlowCommand::Trim { range, durable } => {
                let done = stretches(range).try_for_each(|(offset, length)| {
                    self.connection.device()?.discard(offset, length)
                });
                done.map(|()| Rest::of(durable)).map_err(|error| (error, Access::Look))
            }
            SlowCommand::WriteZeroes { range, mode, durable, .. } => {
                let done = stretches(range).try_for_each(|(offset, length)| {
                    let device = self.connection.device()?;
                    device.write_zeroes(offset, length, mode, Durability::Cached)
                });
                done.map(|()| Rest::of(durable)).map_err(|error| (error, Access::Store))
            }
            SlowCommand::Cache { range } => {
                let done = self.read_ahead(range);
                done.map(|()| Rest::Nothing).map_err(|error| (error, Access::Look))
            }
        }
    }

    /// Reads the beginning of the range, so that the page cache has it. Spec ("NBD_CMD_CACHE"): how
    /// much of it is done is up to us; no more than a read could ask for, as a hint must not push
    /// everything else out of the cache.
    fn read_ahead(&mut self, range: ByteRange) -> Result<(), DeviceError> {
        self.scratch.resize(PIECE, 0);
        let end = range.end().min(range.start() + u64::from(LARGEST_PAYLOAD));
        for start in (range.start()..end).step_by(PIECE) {
            let length = usize::try_from(end - start).map_or(PIECE, |left| left.min(PIECE));
            let device = self.connection.device()?;
            device.read_at(&mut self.scratch[..length], ByteOffset::new(start))?;
        }
        Ok(())
    }

    fn flush(&mut self, unflushed: &mut Vec<Job>) {
        if unflushed.is_empty() {
            return;
        }
        let outcome = self.connection.device().and_then(|device| device.flush());
        for job in unflushed.drain(..) {
            self.answer(job, outcome.as_ref().err().map(|error| (error, Access::Look)));
        }
        self.send();
    }

    fn answer(&mut self, job: Job, failure: Option<(&DeviceError, Access)>) {
        let (style, asked) = (self.connection.agreed.style, job.asked);
        match failure {
            None => {
                let meter = self.connection.meter();
                let counted = job.operation.into_iter();
                counted.for_each(|operation| meter.answered(operation, job.begun.elapsed()));
                self.replies.extend(style.done(asked).as_ref());
            }
            Some((error, access)) => {
                let errno = self.connection.failed(error, access);
                self.replies.extend(style.failed(asked, errno));
            }
        }
        self.connection.meter().ended();
    }

    fn send(&mut self) {
        if self.replies.is_empty() {
            return;
        }
        if self.connection.send(&self.replies).is_err() {
            self.connection.end();
        } else if self.connection.is_fenced() {
            self.connection.end_receiving();
        }
        self.replies.clear();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if thread::panicking() {
            // Nobody answers what is waiting: the client must not wait for it.
            self.queue.end();
            self.connection.end();
        }
    }
}

/// What is left of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    Flush,
}

impl Rest {
    fn of(durable: bool) -> Self {
        if durable { Self::Flush } else { Self::Nothing }
    }
}

/// The parts of a range that are given to the device one by one, so that a fence does not wait for
/// all of an extended request. They meet at multiples of a stretch, where no block is cut.
fn stretches(range: ByteRange) -> impl Iterator<Item = (ByteOffset, ByteLength)> {
    let (start, end) = (range.start(), range.end());
    (start / STRETCH..end.div_ceil(STRETCH)).map(move |number| {
        let first = start.max(number * STRETCH);
        // The last multiple may lie past what 64 bits hold.
        let last = end.min((number + 1).saturating_mul(STRETCH));
        (ByteOffset::new(first), ByteLength::new(last - first))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_a_range_and_meet_at_multiples() {
        let size = ByteLength::new(u64::MAX);
        for (start, length) in [(512, 512), (512, STRETCH), (0, 3 * STRETCH), (STRETCH, 512)] {
            let range = ByteRange::checked(ByteOffset::new(start), ByteLength::new(length), size);
            let mut place = start;
            for (offset, length) in stretches(range.expect("aligned")) {
                assert_eq!(offset.get(), place);
                assert!(place == start || place.is_multiple_of(STRETCH));
                assert!((512..=STRETCH).contains(&length.get()));
                place += length.get();
            }
            assert_eq!(place, start + length);
        }
    }
}
