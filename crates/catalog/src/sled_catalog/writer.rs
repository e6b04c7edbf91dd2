//! The one thread that writes: commits that wait at the same time share a round.
//!
//! ```text
//! a round:  transaction  ->  sled's flush  ->  sync of its file  ->  show  ->  answer
//! a crash:  before all of it: nothing | anywhere between: wholly there or wholly not | durable
//! ```
//!
//! What must always hold
//! 1. Nothing is answered with success before the sync of its round.
//! 2. After a failed transaction, flush or sync no further change is taken. The kernel may call
//!    pages clean that never reached the device, so a later success proves nothing.
//! 3. The queue is bounded: whoever commits faster than the device waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::database::{Database, OpenFailure};
use super::directory;
use super::log_sync::LogSync;
use super::view::View;
use crate::batch::{Batch, Precondition};
use crate::error::{CatalogError, io_error};
use crate::export::{self, Pair};

/// One batch and what must hold for it.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) batch: Batch,
    pub(super) preconditions: Vec<Precondition>,
}

/// What became of an order.
pub(super) type Outcome = Result<(), CatalogError>;

type Reply = SyncSender<Outcome>;

/// Commits that may wait, and the most that share a round.
const QUEUE_LENGTH: usize = 256;

enum Request {
    Commit(Order, Reply),
    Fill(Vec<Pair>, Reply),
    Compact(Reply),
}

/// The handle to the writer thread; dropping it lets the thread finish what waits and end.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        directory: &Path,
        database: Arc<Database>,
        view: Arc<View>,
        sync: Arc<dyn LogSync>,
    ) -> Result<Self, CatalogError> {
        let (queue, requests) = sync_channel(QUEUE_LENGTH);
        let desk = Desk {
            directory: directory.to_owned(),
            database: Some(database),
            view,
            sync,
            broken: None,
        };
        let thread = thread::Builder::new()
            .name("catalog-writer".to_owned())
            .spawn(move || desk.serve(&requests))
            .map_err(io_error("start a thread for", directory))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(super) fn commit(&self, batch: Batch, preconditions: Vec<Precondition>) -> Outcome {
        let order = Order { batch, preconditions };
        self.ask(|reply| Request::Commit(order, reply))
    }

    /// Fills an empty database, wholly or not at all.
    pub(super) fn fill(&self, pairs: Vec<Pair>) -> Outcome {
        self.ask(|reply| Request::Fill(pairs, reply))
    }

    pub(super) fn compact(&self) -> Outcome {
        self.ask(Request::Compact)
    }

    fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Outcome {
        let (reply, answer) = sync_channel(1);
        let queue = self.queue.as_ref().expect("the queue is open until drop");
        let stopped = || "the writer thread has died".to_owned();
        queue.send(request(reply)).map_err(|_| CatalogError::Refused { reason: stopped() })?;
        answer.recv().unwrap_or_else(|_| Err(CatalogError::InDoubt { reason: stopped() }))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was answered with `InDoubt` already.
            drop(thread.join());
        }
    }
}

/// What the writer thread owns.
struct Desk {
    directory: PathBuf,
    /// None after it could not be opened again.
    database: Option<Arc<Database>>,
    view: Arc<View>,
    sync: Arc<dyn LogSync>,
    /// Why no change is taken any more.
    broken: Option<String>,
}

impl Desk {
    fn serve(mut self, requests: &Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let waiting: Vec<Request> =
                [first].into_iter().chain(requests.try_iter().take(QUEUE_LENGTH - 1)).collect();
            self.take(waiting);
        }
    }

    /// Carries out requests in their order; commits in a row are one round.
    fn take(&mut self, waiting: Vec<Request>) {
        let mut round = Vec::new();
        for request in waiting {
            match request {
                Request::Commit(order, reply) => round.push((order, reply)),
                Request::Fill(pairs, reply) => {
                    self.finish(&mut round);
                    answer(&reply, self.fill(&pairs));
                }
                Request::Compact(reply) => {
                    self.finish(&mut round);
                    answer(&reply, self.compact());
                }
            }
        }
        self.finish(&mut round);
    }

    /// Commits and answers all orders of a round.
    fn finish(&mut self, round: &mut Vec<(Order, Reply)>) {
        if round.is_empty() {
            return;
        }
        let (orders, replies): (Vec<Order>, Vec<Reply>) = round.drain(..).unzip();
        let outcomes = match self.commit(&orders) {
            Ok(outcomes) => outcomes,
            Err(error) => orders.iter().map(|_| Err(error.again())).collect(),
        };
        for (reply, outcome) in replies.iter().zip(outcomes) {
            answer(reply, outcome);
        }
    }

    fn commit(&mut self, orders: &[Order]) -> Result<Vec<Outcome>, Stop> {
        let database = self.usable().map_err(Stop::Refused)?;
        let durable = self.view.transact(&database, orders).and_then(|(outcomes, round)| {
            if let Some(round) = round {
                database.make_durable(round, &*self.sync)?;
                self.view.reveal();
            }
            Ok(outcomes)
        });
        durable.map_err(|reason| {
            self.broken = Some(reason.clone());
            Stop::InDoubt(reason)
        })
    }

    fn fill(&mut self, pairs: &[Pair]) -> Outcome {
        let database = self.usable().map_err(|reason| CatalogError::Refused { reason })?;
        export::check_empty(database.scan("")?.len())?;
        drop(database);
        self.replace(pairs)
    }

    fn compact(&mut self) -> Outcome {
        let database = self.usable().map_err(|reason| CatalogError::Refused { reason })?;
        let pairs = database.scan("")?;
        drop(database);
        self.replace(&pairs)
    }

    fn usable(&self) -> Result<Arc<Database>, String> {
        match (&self.broken, &self.database) {
            (Some(reason), _) => Err(reason.clone()),
            (None, Some(database)) => Ok(Arc::clone(database)),
            (None, None) => Err("the database could not be opened again".to_owned()),
        }
    }

    /// Builds a database of these pairs beside the present one and puts it in its place.
    fn replace(&mut self, pairs: &[Pair]) -> Outcome {
        let next = directory::beside(&self.directory, directory::NEW);
        directory::set_aside(&self.directory, &next)?;
        directory::build(&next, pairs)?;
        let mut exchanged = Ok(());
        let (own, place) = (&mut self.database, &self.directory);
        let opened = self.view.replace(|| {
            *own = None;
            exchanged = directory::exchange(&next, place);
            Database::open(place).map(Arc::new).map_err(OpenFailure::into_error)
        });
        match opened {
            Ok(database) => self.database = Some(database),
            Err(error) => {
                self.broken = Some(export::chain(&error));
                return Err(CatalogError::InDoubt { reason: export::chain(&error) });
            }
        }
        exchanged?;
        directory::remove_copy(&next);
        Ok(())
    }
}

/// Why a whole round was not done.
enum Stop {
    Refused(String),
    InDoubt(String),
}

impl Stop {
    /// The error of one of its commits.
    fn again(&self) -> CatalogError {
        match self {
            Stop::Refused(reason) => CatalogError::Refused { reason: reason.clone() },
            Stop::InDoubt(reason) => CatalogError::InDoubt { reason: reason.clone() },
        }
    }
}

/// Whoever asked may have gone away; that is no error here.
fn answer(reply: &Reply, outcome: Outcome) {
    drop(reply.send(outcome));
}
