//! Which disks are open to clients, who is connected to each, and how an export is closed.
//!
//! How a close works, and why its time is bounded whatever a client does:
//! 1. The gate is marked closing. From here no connection is admitted, and a request that has not
//!    begun fails ([`Seat::is_closing`] is asked before each touch of the device).
//! 2. Every socket stops receiving, which wakes threads that wait for requests. Requests that run
//!    end as they would have and are answered; then their threads leave.
//! 3. Who has not left after [`GRACE`] waits for its client to take replies: the socket is shut
//!    down altogether, which ends that wait too.
//! 4. The last seat is given up: no thread holds the device. Only now, if asked, it is flushed.
//! 5. The name leaves the table. Until then clients are told SHUTDOWN, and a second fence waits
//!    for the first, so that it too returns only when all is closed.
//!
//! Locks: the table's (`entries`), then a gate's (`roster`). Neither is held during I/O of the
//! device, nor while waiting for anything but the roster to empty.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use block_device::{
    BlockDevice, DiskId, ExportCounters, ExportMeter, FenceError, FenceMode, Pace, PlaneActivity,
    Rates,
};
use parking_lot::{Condvar, Mutex};

use crate::{offer::Offer, socket::Socket};

/// How long answers on their way may take to be taken by clients once an export closes. Long
/// against a busy client's next read, short against a reset that somebody waits for.
const GRACE: Duration = Duration::from_millis(250);

/// Why a client cannot have an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is none of that name.
    Unknown,
    /// It is being closed.
    Closing,
    /// As many connections are open as the server holds.
    Full,
}

/// The open exports by name.
#[derive(Debug)]
pub(crate) struct ExportTable {
    entries: Mutex<Entries>,
    /// Seats taken over all exports; raised in `admit`, lowered by a seat's end.
    sessions: Arc<AtomicUsize>,
    most_sessions: usize,
}

#[derive(Debug, Default)]
struct Entries {
    exports: BTreeMap<DiskId, Arc<Export>>,
    /// What those did that are gone: an export is added in the step that takes it off the table.
    closed: ExportCounters,
    /// Set once, when the server stops; nothing is published or found from then on.
    stopped: bool,
}

impl ExportTable {
    pub(crate) fn new(most_sessions: usize) -> Self {
        Self { entries: Mutex::default(), sessions: Arc::default(), most_sessions }
    }

    /// Opens an export in place of an earlier one of that name, whose connections end first, so
    /// that the two are never served at once.
    pub(crate) fn publish(&self, name: &DiskId, device: Arc<dyn BlockDevice>, pace: Arc<Pace>) {
        let gate = Arc::new(Gate { pace, ..Gate::default() });
        let export = Arc::new(Export { name: name.clone(), device, gate });
        loop {
            let earlier = {
                let mut entries = self.entries.lock();
                if entries.stopped {
                    return;
                }
                match entries.exports.get(name) {
                    Some(earlier) => Arc::clone(earlier),
                    None => {
                        entries.exports.insert(name.clone(), export);
                        return;
                    }
                }
            };
            if let Err(error) = self.close(&earlier, FenceMode::Flush) {
                tracing::warn!(%error, "an export was replaced");
            }
        }
    }

    /// Closes an export; see the head of this file.
    pub(crate) fn fence(&self, name: &DiskId, mode: FenceMode) -> Result<(), FenceError> {
        let export = self.entries.lock().exports.get(name).map(Arc::clone);
        export.map_or(Ok(()), |export| self.close(&export, mode))
    }

    fn close(&self, export: &Arc<Export>, mode: FenceMode) -> Result<(), FenceError> {
        export.gate.begin_closing();
        export.gate.wait_until_empty(Instant::now() + GRACE);
        let flushed = export.settle(mode);
        self.remove(export);
        flushed
    }

    pub(crate) fn set_rates(&self, name: &DiskId, rates: Rates) {
        let export = self.entries.lock().exports.get(name).map(Arc::clone);
        export.into_iter().for_each(|export| export.gate.pace.set(rates));
    }

    /// Closes all exports for good, all at once where that waits for clients.
    pub(crate) fn stop(&self) -> Vec<FenceError> {
        let exports: Vec<_> = {
            let mut entries = self.entries.lock();
            entries.stopped = true;
            entries.exports.values().cloned().collect()
        };
        for export in &exports {
            export.gate.begin_closing();
        }
        let deadline = Instant::now() + GRACE;
        let mut failures = Vec::new();
        for export in &exports {
            export.gate.wait_until_empty(deadline);
            failures.extend(export.settle(FenceMode::Flush).err());
            self.remove(export);
        }
        failures
    }

    fn remove(&self, export: &Arc<Export>) {
        let mut entries = self.entries.lock();
        // A later export of the same name stays.
        if entries.exports.get(&export.name).is_some_and(|held| Arc::ptr_eq(held, export)) {
            entries.exports.remove(&export.name);
            // Nothing is connected or under way any more.
            entries.closed += ExportCounters { under_way: 0, ..export.gate.counters() };
        }
    }

    /// What the export of that name offers, if it is open.
    pub(crate) fn offer(&self, name: &[u8]) -> Result<Offer, Refusal> {
        // Under the table's lock, which the end of a fence takes: nobody asks the device later.
        self.with(name, |export| Offer::of(&*export.device))
    }

    /// Uses the export of that name, if it is open, under the table's lock.
    fn with<T>(&self, name: &[u8], use_it: impl FnOnce(&Export) -> T) -> Result<T, Refusal> {
        // Whatever is no id is the name of no export.
        let name = std::str::from_utf8(name).ok().and_then(|name| name.parse::<DiskId>().ok());
        let entries = self.entries.lock();
        let export = name.and_then(|name| entries.exports.get(&name)).ok_or(Refusal::Unknown)?;
        if entries.stopped || export.gate.is_closing() {
            return Err(Refusal::Closing);
        }
        Ok(use_it(export))
    }

    /// Lets a connection use the export of that name.
    pub(crate) fn admit(&self, name: &[u8], socket: &Arc<Socket>) -> Result<Admission, Refusal> {
        self.with(name, |export| {
            let session = Session::begin(&self.sessions, self.most_sessions)?;
            let seat = Seat::take(&export.gate, socket, session)?;
            Ok(Admission { device: Arc::clone(&export.device), seat })
        })?
    }

    /// The names of the open exports, in order.
    pub(crate) fn names(&self) -> Vec<DiskId> {
        let entries = self.entries.lock();
        let open = entries.exports.values().filter(|export| !export.gate.is_closing());
        open.map(|export| export.name.clone()).collect()
    }

    /// What the exports have done. Under the table's lock, so that none is counted twice or left out.
    pub(crate) fn activity(&self) -> PlaneActivity {
        let entries = self.entries.lock();
        let told = |export: &Arc<Export>| (export.name.clone(), export.gate.counters());
        let exports = entries.exports.values().map(told).collect();
        PlaneActivity { exports, closed: entries.closed }
    }

    /// How many connections the export has.
    pub(crate) fn connections(&self, name: &DiskId) -> usize {
        let export = self.entries.lock().exports.get(name).map(Arc::clone);
        export.map_or(0, |export| export.gate.roster.lock().sockets.len())
    }
}

/// A disk open to clients.
#[derive(Debug)]
struct Export {
    name: DiskId,
    device: Arc<dyn BlockDevice>,
    gate: Arc<Gate>,
}

impl Export {
    /// Makes durable what was answered, if that is asked. No connection uses the device any more.
    fn settle(&self, mode: FenceMode) -> Result<(), FenceError> {
        match mode {
            FenceMode::Drop => Ok(()),
            FenceMode::Flush => self
                .device
                .flush()
                .map_err(|error| FenceError { disk: self.name.clone(), detail: error.to_string() }),
        }
    }
}

/// Who is connected to an export, and whether it closes.
#[derive(Debug, Default)]
struct Gate {
    /// Set once, by the fence, under the roster's lock. Release; pairs with the Acquire load of
    /// [`Gate::is_closing`]. A thread that read false before may still begin its request: the
    /// fence waits for its seat.
    closing: AtomicBool,
    roster: Mutex<Roster>,
    /// Told whenever a seat is given up.
    left: Condvar,
    meter: ExportMeter,
    /// Ends with the export, so that nobody a fence waits for waits for a turn.
    pace: Arc<Pace>,
}

#[derive(Debug, Default)]
struct Roster {
    sockets: BTreeMap<u64, Arc<Socket>>,
    next: u64,
}

impl Gate {
    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn begin_closing(&self) {
        let roster = self.roster.lock();
        self.closing.store(true, Ordering::Release);
        self.pace.end();
        roster.sockets.values().for_each(|socket| socket.end_receiving());
    }

    fn wait_until_empty(&self, deadline: Instant) {
        let mut roster = self.roster.lock();
        while !roster.sockets.is_empty() {
            if self.left.wait_until(&mut roster, deadline).timed_out() {
                break;
            }
        }
        roster.sockets.values().for_each(|socket| socket.end());
        // From here only the device's own speed counts.
        while !roster.sockets.is_empty() {
            self.left.wait(&mut roster);
        }
    }

    fn counters(&self) -> ExportCounters {
        let connections = self.roster.lock().sockets.len();
        self.meter.snapshot(u64::try_from(connections).unwrap_or(u64::MAX))
    }
}

/// The right of a connection to use a device. The device comes first: it is let go before the
/// seat that a fence waits for.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) device: Arc<dyn BlockDevice>,
    pub(crate) seat: Seat,
}

/// A place in the roster of an export.
pub(crate) struct Seat {
    gate: Arc<Gate>,
    number: u64,
    socket: Arc<Socket>,
    _session: Session,
}

impl Seat {
    fn take(gate: &Arc<Gate>, socket: &Arc<Socket>, session: Session) -> Result<Self, Refusal> {
        let mut roster = gate.roster.lock();
        if gate.is_closing() {
            return Err(Refusal::Closing);
        }
        let number = roster.next;
        roster.next += 1;
        roster.sockets.insert(number, Arc::clone(socket));
        gate.meter.connection();
        let (gate, socket) = (Arc::clone(gate), Arc::clone(socket));
        Ok(Self { gate, number, socket, _session: session })
    }

    /// Whether a request may no longer begin.
    pub(crate) fn is_closing(&self) -> bool {
        self.gate.is_closing()
    }

    pub(crate) fn meter(&self) -> &ExportMeter {
        &self.gate.meter
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.gate.pace
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Before the seat is free, so that a fence leaves no open connection behind. Replies the
        // kernel has taken still reach the client.
        self.socket.end();
        self.gate.roster.lock().sockets.remove(&self.number);
        self.gate.left.notify_all();
    }
}

/// One of the sessions the server holds at most.
struct Session(Arc<AtomicUsize>);

impl Session {
    fn begin(sessions: &Arc<AtomicUsize>, most: usize) -> Result<Self, Refusal> {
        // Relaxed: a count, nothing is read behind it.
        let begun = sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            (held < most).then_some(held + 1)
        });
        begun.map(|_| Self(Arc::clone(sessions))).map_err(|_| Refusal::Full)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
