//! One connection with 16 requests in flight, and the stretches of the disk that are its own.
//!
//! What must always hold: no two requests of a stretch are in flight at the same time, so that the worker knows what it
//! holds; a read of it must give exactly that. Stretches of different workers share blocks and clusters.

use std::{
    collections::HashMap,
    ops::Range,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use block_device::{ByteLength, ByteOffset, Durability, ZeroMode};
use nbd_server::client::{Answer, NbdClient, Request, Ticket};
use tests::{
    recorded_storage::Dice,
    reference_model::{SECTOR, Stamp, bytes_of, stamp_of},
};

use crate::history::Moment;

pub(crate) const IN_FLIGHT: usize = 16;
const BLOCK_SECTORS: usize = 8;

/// What is the same for all workers.
pub(crate) struct Place<'a> {
    pub(crate) socket: &'a Path,
    pub(crate) export: &'a str,
    pub(crate) clock: &'a AtomicU64,
    pub(crate) stamps: &'a AtomicU64,
}

impl Place<'_> {
    pub(crate) fn now(&self) -> Moment {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}

/// What was written, when.
pub(crate) struct Written {
    pub(crate) start: usize,
    pub(crate) stamps: Vec<Stamp>,
    pub(crate) begun: Moment,
    pub(crate) answered: Moment,
}

/// A request without an answer yet.
struct Sent {
    own: usize,
    begun: Moment,
    deed: Deed,
}

enum Deed {
    /// The sectors from there hold these then; none for a sector that it leaves alone.
    Change {
        start: usize,
        stamps: Vec<Stamp>,
    },
    Read {
        start: usize,
        wanted: Vec<Stamp>,
    },
    /// Anything but a mixture of two writes.
    ReadOfOthers,
    Nothing,
}

pub(crate) struct Worker<'a> {
    place: &'a Place<'a>,
    client: NbdClient,
    dice: Dice,
    own: Vec<Range<usize>>,
    /// What each own stretch holds, once what is in flight is answered.
    content: Vec<Vec<Stamp>>,
    sent: HashMap<Ticket, Sent>,
    written: Vec<Written>,
    sectors: usize,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(
        place: &'a Place<'a>,
        seed: u64,
        own: Vec<Range<usize>>,
        sectors: usize,
    ) -> Self {
        let client = NbdClient::connect_unix(place.socket, place.export).unwrap();
        let content = own.iter().map(|stretch| vec![0; stretch.len()]).collect();
        let (dice, sent, written) = (Dice::new(seed), HashMap::new(), Vec::new());
        Self { place, client, dice, own, content, sent, written, sectors }
    }

    /// Does that much and answers what was written, in the order of the answers.
    pub(crate) fn work(mut self, requests: usize) -> Vec<Written> {
        for _ in 0..requests {
            while self.sent.len() < IN_FLIGHT {
                self.submit();
            }
            self.collect();
        }
        while !self.sent.is_empty() {
            self.collect();
        }
        self.client.disconnect().unwrap();
        self.written
    }

    fn index_below(&mut self, limit: usize) -> usize {
        usize::try_from(self.dice.below(u64::try_from(limit).unwrap())).unwrap()
    }

    fn free_stretch(&mut self) -> usize {
        loop {
            let own = self.index_below(self.own.len());
            if self.sent.values().all(|sent| sent.own != own) {
                return own;
            }
        }
    }

    fn submit(&mut self) {
        let own = self.free_stretch();
        let first = self.index_below(self.own[own].len());
        let count = 1 + self.index_below(self.own[own].len() - first);
        let start = self.own[own].start + first;
        let (offset, length) = (at(start), long(count));
        let (kind, durability) = (self.dice.below(100), self.durability());
        let begun = self.place.now();
        let (request, deed);
        let data;
        match kind {
            0..50 => {
                let new = u64::try_from(count).unwrap();
                let from = self.place.stamps.fetch_add(new, Ordering::SeqCst);
                let stamps: Vec<_> = (from..from + new).collect();
                data = bytes_of(&stamps);
                request = Request::Write { offset, data: &data, durability };
                deed = self.change(own, first, stamps);
            }
            50..60 => {
                let punch = self.dice.flip();
                let mode = if punch { ZeroMode::Punch } else { ZeroMode::KeepAllocated };
                request = Request::WriteZeroes { offset, length, mode, durability };
                deed = self.change(own, first, vec![0; count]);
            }
            60..70 => {
                request = Request::Trim { offset, length };
                // Whole blocks; what is left of the others is as it was.
                let begin = start.next_multiple_of(BLOCK_SECTORS);
                let end = (start + count) / BLOCK_SECTORS * BLOCK_SECTORS;
                let zeros = vec![0; end.saturating_sub(begin)];
                deed = if zeros.is_empty() {
                    Deed::Nothing
                } else {
                    self.change(own, begin - self.own[own].start, zeros)
                };
            }
            70..90 => {
                let wanted = self.content[own][first..first + count].to_vec();
                request = Request::Read { offset, length };
                deed = Deed::Read { start, wanted };
            }
            90..97 => {
                let start = self.index_below(self.sectors - 512);
                request = Request::Read { offset: at(start), length: long(512) };
                deed = Deed::ReadOfOthers;
            }
            _ => (request, deed) = (Request::Flush, Deed::Nothing),
        }
        let ticket = self.client.submit(request).unwrap();
        self.sent.insert(ticket, Sent { own, begun, deed });
    }

    fn durability(&mut self) -> Durability {
        if self.dice.below(20) == 0 { Durability::ForceUnitAccess } else { Durability::Cached }
    }

    fn change(&mut self, own: usize, first: usize, stamps: Vec<Stamp>) -> Deed {
        self.content[own][first..first + stamps.len()].copy_from_slice(&stamps);
        Deed::Change { start: self.own[own].start + first, stamps }
    }

    fn collect(&mut self) {
        let done = self.client.complete().unwrap();
        let answer = done.outcome.unwrap();
        let answered = self.place.now();
        let Sent { begun, deed, .. } = self.sent.remove(&done.ticket).unwrap();
        match deed {
            Deed::Change { start, stamps } => {
                self.written.push(Written { start, stamps, begun, answered });
            }
            Deed::Read { start, wanted } => {
                assert_eq!(
                    stamps_of(answer),
                    wanted,
                    "what was written and not what is read at sector {start}"
                );
            }
            Deed::ReadOfOthers => drop(stamps_of(answer)),
            Deed::Nothing => {}
        }
    }
}

fn stamps_of(answer: Answer) -> Vec<Stamp> {
    let Answer::Data(data) = answer else { panic!("{answer:?} is no data") };
    stamps_in(&data)
}

/// Each sector is one write's.
pub(crate) fn stamps_in(data: &[u8]) -> Vec<Stamp> {
    data.chunks(SECTOR).map(|sector| stamp_of(sector).expect("no mixture of writes")).collect()
}

fn at(sector: usize) -> ByteOffset {
    ByteOffset::new(u64::try_from(sector * SECTOR).unwrap())
}

fn long(sectors: usize) -> ByteLength {
    ByteLength::new(u64::try_from(sectors * SECTOR).unwrap())
}
