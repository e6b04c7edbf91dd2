//! A disk: its present generation, and the handles that read and write it.
//!
//! What must always hold
//! 1. Every request runs under the read side of `state`; whoever changes the generation takes the
//!    write side, which drains them. So a reset, a seal or a resize meets no running request and
//!    no running flush round.
//! 2. A handle belongs to a session; a fence begins a new one, and handles of an older session
//!    are refused for ever.
//! 3. The record that names a head is durable before the first flush of it is answered.
//!
//! Locks, in this order: `control` -> `state` -> `making_head` -> `recorded` -> the ledger's.
//! `control` is held across I/O by operations on this disk alone; `recorded` across a ledger
//! commit, which keeps a disk at one unsynced record.
//! Left to others: where bytes go (`head`, `resolve`), what operations do (`reset`, `snapshot`,
//! `lifecycle`).

use std::{
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use block_device::{
    BLOCK, BlockDevice, ByteLength, ByteOffset, ByteRange, CLUSTER, Change, DeviceError, DiskId,
    Durability, Extent, ExtentKind, ZeroMode,
};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::{
    changed_blocks,
    error::StoreError,
    geometry::clusters_of,
    head::{Below, Head, OpenedHead, Position},
    id::{EpochTag, LayerId},
    layer_files::{self, Mark},
    ledger::Slot,
    ledger_record::{DiskRecord, SlotState},
    names::Pin,
    resolve::{Owner, Stack},
    sealed_layer::{self, Chain},
    space::DiskSpace,
    store::Shared,
    word::Blocks,
    worker::Job,
};

/// How much is zeroed without a look at what waits for a round, in bytes.
const STRETCH: u64 = 1 << 30;

/// A disk of the store.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) id: DiskId,
    pub(crate) slot: Slot,
    /// Operations that change what the disk is, one at a time.
    pub(crate) control: Mutex<()>,
    pub(crate) state: RwLock<Generation>,
    /// The size in bytes, for who asks without waiting; changed under the write side of `state`.
    pub(crate) size: AtomicU64,
    /// How many requests began; who wants to stay out of the way looks at it.
    pub(crate) requests: AtomicU64,
    /// The space it took when somebody last looked; held for a moment.
    pub(crate) measured: Mutex<Option<DiskSpace>>,
    making_head: Mutex<()>,
    /// What the ledger durably says.
    recorded: Mutex<DiskRecord>,
}

/// What a disk is between two operations.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Handles of another session are refused.
    pub(crate) session: u64,
    /// What the ledger should say, but for a head that is still to be named.
    pub(crate) record: DiskRecord,
    /// Keeps the base alive.
    pub(crate) base_pin: Option<Pin>,
    /// Keeps what the ledger calls the head alive until it was looked at: a snapshot that was cut
    /// short may have sealed it.
    head_pin: Option<Pin>,
    /// The files, once somebody needed them.
    pub(crate) layers: Option<DiskLayers>,
    /// Why nothing is served.
    pub(crate) refusal: Option<String>,
    /// The ledger says `closed`: no record but the one of the choice may follow.
    pub(crate) is_closed: bool,
    /// The ledger says `deleting`, or the slot is somebody else's by now.
    pub(crate) is_deleted: bool,
}

/// The open layers of a disk.
#[derive(Debug)]
pub(crate) struct DiskLayers {
    pub(crate) base: Option<Arc<Chain>>,
    pub(crate) head: OnceLock<Arc<Head>>,
}

impl Disk {
    /// A disk as the ledger has it; nothing is opened yet.
    pub(crate) fn new(
        slot: Slot,
        record: DiskRecord,
        base_pin: Option<Pin>,
        head_pin: Option<Pin>,
    ) -> Self {
        Self {
            id: record.disk.clone(),
            slot,
            control: Mutex::new(()),
            size: AtomicU64::new(record.geometry.size()),
            requests: AtomicU64::new(0),
            measured: Mutex::default(),
            making_head: Mutex::new(()),
            recorded: Mutex::new(record.clone()),
            state: RwLock::new(Generation {
                session: 0,
                record,
                base_pin,
                head_pin,
                layers: None,
                refusal: None,
                is_closed: false,
                is_deleted: false,
            }),
        }
    }

    /// Keeps everybody out: the disk was rebuilt, and what it holds is still to be chosen.
    pub(crate) fn close(&self) {
        let reason = closed_reason(&self.id);
        tracing::error!(disk = %self.id, reason, "the disk is closed");
        let mut state = self.state.write();
        state.refusal = Some(reason);
        state.is_closed = true;
    }

    /// Keeps what the disk stands on until the next start, which finds out whether it exists.
    pub(crate) fn leave_to_start(&self) {
        let mut state = self.state.write();
        let pins = [state.base_pin.take(), state.head_pin.take()];
        pins.into_iter().flatten().for_each(Pin::keep_until_start);
    }

    /// Opens the layers if they are not open yet. The caller holds `control`.
    pub(crate) fn ensure_open(&self, shared: &Shared) -> Result<(), StoreError> {
        {
            // The usual case waits for nobody: a writer in line would hold up all new readers.
            let state = self.state.read();
            state.check_served(&self.id)?;
            if state.layers.is_some() {
                return Ok(());
            }
        }
        let mut state = self.state.write();
        if state.layers.is_none() {
            let layers = self.open_layers(shared, &mut state.record).map_err(|error| {
                tracing::error!(disk = %self.id, %error, "the disk cannot be opened");
                self.refused(error)
            })?;
            if state.record.base != state.base_pin.as_ref().map(Pin::layer) {
                state.base_pin = shared.pin_base(state.record.base)?;
            }
            state.layers = Some(layers);
            self.record(shared, &state)?;
            state.head_pin = None;
        }
        Ok(())
    }

    fn open_layers(
        &self,
        shared: &Shared,
        record: &mut DiskRecord,
    ) -> Result<DiskLayers, StoreError> {
        let head = OnceLock::new();
        if let Some(layer) = record.head {
            match Head::open(&*shared.storage, layer, record.epoch)? {
                OpenedHead::Open(opened) => {
                    self.check_head(shared, &opened, record)?;
                    let _ = head.set(Arc::from(opened));
                }
                // A snapshot sealed it and ended before the ledger moved on.
                OpenedHead::Sealed => {
                    if !shared.names.is_named(layer) {
                        layer_files::mark(&*shared.storage, layer, Mark::Deleting)?;
                    }
                    record.base = Some(layer);
                    record.head = None;
                }
            }
        }
        let base = shared.open_base(record.base)?;
        Ok(DiskLayers { base, head })
    }

    fn check_head(
        &self,
        shared: &Shared,
        head: &Head,
        record: &DiskRecord,
    ) -> Result<(), StoreError> {
        let header = head.header();
        let wrong = |detail: String| {
            Err(StoreError::damaged(
                format!("the head {} of disk {}", head.layer(), self.id),
                detail,
            ))
        };
        if header.disk.as_ref() != Some(&self.id) {
            return wrong("it belongs to another disk".into());
        }
        // It was sealed before it got the name, so the copy of its header that said so is lost.
        // Writing to it would change the snapshot.
        if shared.names.is_named(head.layer()) {
            return wrong("a snapshot is this layer, which its header does not say".into());
        }
        if header.epoch > record.epoch {
            return wrong(format!(
                "its epoch {} is above the ledger's {}: the ledger is an old one",
                header.epoch, record.epoch
            ));
        }
        // Words of an epoch this long ago would count again. A reset leaves its head behind instead.
        if !header.epoch.is_near(record.epoch) {
            return wrong(format!(
                "its epoch {} is too far below the ledger's {}",
                header.epoch, record.epoch
            ));
        }
        if header.geometry.size() < record.geometry.size() {
            return wrong("it is smaller than the disk".into());
        }
        Ok(())
    }

    /// Brings the ledger to what the generation says, if it says something else.
    pub(crate) fn record(&self, shared: &Shared, state: &Generation) -> Result<(), StoreError> {
        let mut recorded = self.recorded.lock();
        // Asked under the lock: a head that somebody recorded meanwhile must stay recorded.
        let wanted = state.wanted_record();
        if *recorded == wanted {
            return Ok(());
        }
        shared.ledger.commit(&[(self.slot, SlotState::Live(wanted.clone()))])?;
        take_note(shared, &mut recorded, wanted);
        Ok(())
    }

    /// Takes note of a record that a shared commit made durable.
    pub(crate) fn was_recorded(&self, shared: &Shared, record: DiskRecord) {
        take_note(shared, &mut self.recorded.lock(), record);
    }

    /// Makes what was answered durable; the caller holds a side of `state`.
    pub(crate) fn flush(&self, shared: &Shared, state: &Generation) -> Result<(), DeviceError> {
        let Some(head) = state.head() else { return Ok(()) };
        self.record(shared, state)?;
        head.rounds.flush(head, &self.position(shared, &state.record))
    }

    /// Runs a round when so much waits for one that it takes too much memory. Nobody asked for it, so
    /// how it ends is told to who asks next: what failed is put back, or the head takes no more.
    fn relieve(&self, shared: &Shared, state: &Generation) {
        if let Some(head) = state.head()
            && head.changed.is_round_due()
            && let Err(error) = self.flush(shared, state)
        {
            tracing::debug!(disk = %self.id, %error, "a round that nobody asked for failed");
        }
    }

    /// Where the disk is by this record.
    pub(crate) fn position(&self, shared: &Shared, record: &DiskRecord) -> Position {
        let ledger_sequence = shared.ledger.sequence(self.slot);
        Position { epoch: record.epoch, parent: record.base, ledger_sequence }
    }

    /// Tells a failure of this disk's own files as a refusal of this disk.
    fn refused(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Damaged { .. } | StoreError::UnknownLayer(_) => {
                StoreError::Refused { disk: self.id.clone(), reason: error.to_string() }
            }
            other => other,
        }
    }
}

/// What a closed disk waits for.
pub(crate) fn closed_reason(disk: &DiskId) -> String {
    format!(
        "it was rebuilt and is closed: its content may be from before its last reset; with no daemon running, open it \
         as it was found: reinit fsck --accept {disk}, or bring it back to its origin: reinit fsck --accept {disk} --reset"
    )
}

/// Remembers what is durable; a head that is named now no longer needs its mark.
fn take_note(shared: &Shared, recorded: &mut DiskRecord, record: DiskRecord) {
    let newly_named = record.head.filter(|head| recorded.head != Some(*head));
    *recorded = record;
    if let Some(head) = newly_named {
        shared.later(Job::Unmark(head));
    }
}

impl Generation {
    pub(crate) fn head(&self) -> Option<&Arc<Head>> {
        self.layers.as_ref()?.head.get()
    }

    /// The open chain of the base, if the disk stands on this one now: the usual case of a reset,
    /// in which nobody waits for files that others open.
    pub(crate) fn open_base(&self, base: Option<LayerId>) -> Option<Arc<Chain>> {
        let open = self.layers.as_ref()?.base.as_ref()?;
        (Some(open.layer()) == base).then(|| open.clone())
    }

    /// What the ledger should say.
    pub(crate) fn wanted_record(&self) -> DiskRecord {
        let head = match &self.layers {
            Some(layers) => layers.head.get().map(|head| head.layer()),
            None => self.record.head,
        };
        DiskRecord { head, ..self.record.clone() }
    }

    /// Whether the disk still is one, served or not.
    pub(crate) fn check_exists(&self, disk: &DiskId) -> Result<(), StoreError> {
        if self.is_deleted { Err(StoreError::UnknownDisk(disk.clone())) } else { Ok(()) }
    }

    pub(crate) fn check_served(&self, disk: &DiskId) -> Result<(), StoreError> {
        self.check_exists(disk)?;
        match &self.refusal {
            None => Ok(()),
            Some(reason) => Err(StoreError::Refused { disk: disk.clone(), reason: reason.clone() }),
        }
    }

    fn size(&self) -> ByteLength {
        ByteLength::new(self.record.geometry.size())
    }

    fn tag(&self) -> EpochTag {
        self.record.epoch.tag()
    }

    /// The layers; a handle exists only for a disk that was opened.
    fn open_layers(&self) -> Result<&DiskLayers, DeviceError> {
        self.layers.as_ref().ok_or(DeviceError::Fenced)
    }

    fn stack(&self) -> Result<Stack<'_>, DeviceError> {
        let layers = self.open_layers()?;
        let head = layers.head.get().map(|head| (&**head, self.tag()));
        Ok(Stack { head, base: layers.base.as_deref() })
    }

    fn below(&self) -> Result<Below<'_>, DeviceError> {
        let base = self.open_layers()?.base.as_ref();
        Ok(Below { base, epoch: self.tag(), size: self.size().get() })
    }

    /// Whether all blocks of the range are in the head, so that writing them takes no space. A
    /// discard at the same time may prove it wrong, which only uses up a little of the reserve.
    fn is_in_place(&self, range: ByteRange) -> Result<bool, StoreError> {
        let Some(head) = self.head() else { return Ok(false) };
        let bytes = range.start()..range.end();
        for cluster in clusters_of(&bytes) {
            let data = head.map().word(cluster)?.at(self.tag()).data;
            if cluster.blocks_touched(&bytes) & !data != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The head at this moment, to look at without holding anybody up.
    pub(crate) fn glance(&self) -> Glance {
        Glance { head: self.head().cloned(), tag: self.tag() }
    }

    /// Whether the disk reads as its base does because nothing of its head counts.
    pub(crate) fn is_untouched(&self) -> Result<bool, StoreError> {
        Ok(self.glance().blocks_written()? == 0)
    }
}

/// A head and an epoch. Its files stay readable while this lives; what is written or reset
/// meanwhile may be in a count or not.
#[derive(Debug)]
pub(crate) struct Glance {
    head: Option<Arc<Head>>,
    tag: EpochTag,
}

impl Glance {
    /// Whether this is still what the disk has.
    pub(crate) fn is_of(&self, state: &Generation) -> bool {
        let same = match (&self.head, state.head()) {
            (Some(mine), Some(its)) => Arc::ptr_eq(mine, its),
            (mine, its) => mine.is_none() && its.is_none(),
        };
        same && self.tag == state.tag()
    }

    pub(crate) fn head(&self) -> Option<&Head> {
        self.head.as_deref()
    }

    /// Whether nothing of the head counts, as far as that is known without its map.
    pub(crate) fn is_known_untouched(&self) -> bool {
        self.head().is_none_or(|head| head.newest.is_before(self.tag))
    }

    /// Blocks that were written or zeroed in the epoch.
    pub(crate) fn blocks_written(&self) -> Result<u64, StoreError> {
        let blocks = self.count_blocks(Blocks::known)?;
        if let (0, Some(head)) = (blocks, self.head()) {
            head.newest.none_was_found(self.tag);
        }
        Ok(blocks)
    }

    /// Blocks of the head that count and take space.
    pub(crate) fn blocks_of_data(&self) -> Result<u64, StoreError> {
        self.count_blocks(|said| said.data)
    }

    fn count_blocks(&self, chosen: impl Fn(Blocks) -> u16) -> Result<u64, StoreError> {
        let Some(head) = self.head() else { return Ok(0) };
        if self.is_known_untouched() {
            return Ok(0);
        }
        let mut counted = 0;
        for found in head.map().stored_words()? {
            let (_, word) = found?;
            counted += u64::from(chosen(word.at(self.tag)).count_ones());
        }
        Ok(counted)
    }
}

/// A disk opened for reading and writing, until the next fence.
#[derive(Debug)]
pub struct DiskHandle {
    shared: Arc<Shared>,
    disk: Arc<Disk>,
    session: u64,
}

impl DiskHandle {
    pub(crate) fn new(shared: Arc<Shared>, disk: Arc<Disk>, session: u64) -> Self {
        Self { shared, disk, session }
    }

    /// Begins a request: nothing about the disk changes until the guard is dropped.
    fn enter(&self) -> Result<RwLockReadGuard<'_, Generation>, DeviceError> {
        let state = self.disk.state.read();
        if state.session != self.session || state.refusal.is_some() {
            return Err(DeviceError::Fenced);
        }
        // Relaxed: it orders nothing.
        self.disk.requests.fetch_add(1, Ordering::Relaxed);
        Ok(state)
    }

    /// The head, made at the first write.
    fn head<'g>(&self, state: &'g Generation) -> Result<&'g Arc<Head>, DeviceError> {
        let layers = state.open_layers()?;
        if let Some(head) = layers.head.get() {
            return Ok(head);
        }
        let _one = self.disk.making_head.lock();
        if layers.head.get().is_none() {
            let head = Head::create(
                &*self.shared.storage,
                &self.disk.id,
                state.record.geometry,
                state.record.base,
                state.record.epoch,
                self.shared.ledger.sequence(self.disk.slot),
            )?;
            let _ = layers.head.set(Arc::new(head));
        }
        Ok(layers.head.get().expect("set just now"))
    }

    /// Refuses to take new blocks out of the store's reserve.
    fn admit(&self, state: &Generation, range: ByteRange) -> Result<(), DeviceError> {
        match self.shared.reserve.admit(&*self.shared.storage, range.end() - range.start()) {
            Err(DeviceError::NoSpace) if state.is_in_place(range)? => Ok(()),
            other => other,
        }
    }

    fn harden(&self, state: &Generation, durability: Durability) -> Result<(), DeviceError> {
        match durability {
            Durability::Cached => {
                self.disk.relieve(&self.shared, state);
                Ok(())
            }
            Durability::ForceUnitAccess => self.disk.flush(&self.shared, state),
        }
    }

    /// Whether zeroing the stretch changes nothing: it is empty, or there is no head and nothing
    /// below.
    fn is_hole(state: &Generation, range: ByteRange) -> Result<bool, DeviceError> {
        let layers = state.open_layers()?;
        let below = layers.base.as_ref().map_or(0, |base| base.size());
        Ok(range.is_empty() || (layers.head.get().is_none() && below <= range.start()))
    }
}

impl BlockDevice for DiskHandle {
    fn size(&self) -> ByteLength {
        // Relaxed: a size alone orders nothing; each request is checked under `state`.
        ByteLength::new(self.disk.size.load(Ordering::Relaxed))
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read_at(&self, buffer: &mut [u8], offset: ByteOffset) -> Result<(), DeviceError> {
        let state = self.enter()?;
        ByteRange::checked(offset, ByteLength::of(buffer), state.size())?;
        sealed_layer::read_stack(&state.stack()?, buffer, offset.get())
    }

    fn write_at(
        &self,
        data: &[u8],
        offset: ByteOffset,
        durability: Durability,
    ) -> Result<(), DeviceError> {
        let state = self.enter()?;
        let range = ByteRange::checked(offset, ByteLength::of(data), state.size())?;
        if !range.is_empty() {
            self.admit(&state, range)?;
            self.head(&state)?.write(&state.below()?, offset.get(), data)?;
        }
        self.harden(&state, durability)
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.disk.flush(&self.shared, &*self.enter()?)
    }

    fn discard(&self, offset: ByteOffset, length: ByteLength) -> Result<(), DeviceError> {
        let state = self.enter()?;
        let range = ByteRange::checked(offset, length, state.size())?;
        if Self::is_hole(&state, range)? {
            return Ok(());
        }
        let (head, below) = (self.head(&state)?, state.below()?);
        for stretch in stretches(range) {
            head.zero_blocks(&below, stretch, ZeroMode::Punch)?;
            self.disk.relieve(&self.shared, &state);
        }
        Ok(())
    }

    fn write_zeroes(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        mode: ZeroMode,
        durability: Durability,
    ) -> Result<(), DeviceError> {
        let state = self.enter()?;
        let range = ByteRange::checked(offset, length, state.size())?;
        if !Self::is_hole(&state, range)? {
            let (head, below) = (self.head(&state)?, state.below()?);
            for stretch in stretches(range) {
                head.zero_sectors(&below, stretch, mode)?;
                self.disk.relieve(&self.shared, &state);
            }
        }
        self.harden(&state, durability)
    }

    /// Whole blocks are zeroed by a map word for each sixteen of them and a hole in the file; what
    /// is left at the edges is written, as a write would. For a cluster of whole blocks that is less
    /// than writing it; for a few blocks the hole costs the file system what it saves.
    fn zeroes_fast(&self, offset: ByteOffset, length: ByteLength) -> bool {
        let end = offset.get().saturating_add(length.get());
        // The last block of a disk counts as whole.
        let whole_end = if end == self.size().get() { end } else { end / BLOCK * BLOCK };
        let whole_start = offset.get().div_ceil(BLOCK).saturating_mul(BLOCK);
        whole_end.saturating_sub(whole_start) >= CLUSTER
    }

    fn extents(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        most: usize,
    ) -> Result<Vec<Extent>, DeviceError> {
        let state = self.enter()?;
        let range = ByteRange::checked(offset, length, state.size())?;
        stack_extents(&state.stack()?, range, most)
    }

    fn tracks_changes(&self) -> bool {
        true
    }

    fn changes(
        &self,
        offset: ByteOffset,
        length: ByteLength,
        most: usize,
    ) -> Result<Vec<Change>, DeviceError> {
        let state = self.enter()?;
        let range = ByteRange::checked(offset, length, state.size())?;
        changed_blocks::changes(state.stack()?.head, range, most)
    }
}

/// The parts of a zeroing between which a round may run; only its own edges are partial blocks.
fn stretches(range: ByteRange) -> impl Iterator<Item = Range<u64>> {
    let (start, end) = (range.start(), range.end());
    (start / STRETCH..end.div_ceil(STRETCH))
        .map(move |number| start.max(number * STRETCH)..end.min((number + 1) * STRETCH))
}

/// How a stretch of a stack is held; at most `most` extents.
pub(crate) fn stack_extents(
    stack: &Stack<'_>,
    range: ByteRange,
    most: usize,
) -> Result<Vec<Extent>, DeviceError> {
    let mut extents: Vec<Extent> = Vec::new();
    stack.pieces(range.start()..range.end(), |piece| {
        let kind = match piece.owner {
            Owner::Hole => ExtentKind::Hole,
            Owner::Zero => ExtentKind::Zero,
            Owner::Head | Owner::Layer(_) => ExtentKind::Data,
        };
        let length = piece.range.end - piece.range.start;
        let full = extents.len() >= most;
        match extents.last_mut().filter(|last| last.kind == kind) {
            Some(last) => last.length = ByteLength::new(last.length.get() + length),
            None if full => return Ok(false),
            None => extents.push(Extent { length: ByteLength::new(length), kind }),
        }
        Ok::<_, DeviceError>(true)
    })?;
    Ok(extents)
}
