//! Proof that a disk is in its initial state, or where it differs.
//!
//! Two depths. `Head`: the ledger says that the disk stands on the layer of its origin, and no
//! block of the head counts in the present epoch; the origin's root names the content. After a
//! reset that costs the same for any disk: no word is of an epoch before the first write in it. `Content`:
//! all of the disk is read as a client would, compared with the origin, read by itself, and
//! hashed: an origin that was damaged reads like the disk above it, but has no longer its root.
//!
//! What must always hold: the disk is read through an own handle, past nothing that a client
//! would go through; a difference is told with its place, and every one is counted.

use block_device::{BLOCK, BlockDevice, ByteLength, ByteOffset, DiskId, ExtentKind};
use block_store::{ContentRoot, Epoch, Progress, Root, StoreError, Written};

use crate::{ResetEngine, ResetError, Source};

/// How much is compared at a time, in bytes.
const STEP: u64 = 4 << 20;
/// How many differing stretches are told.
const MOST_DIFFERENCES: usize = 16;

/// How deep to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyDepth {
    /// The head says nothing and the base is the origin's layer.
    Head,
    /// Read everything back as well.
    Content,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// The disk.
    pub disk: DiskId,
    /// Whether it is in its initial state, as far as was looked.
    pub in_initial_state: bool,
    /// The epoch it was looked at in.
    pub epoch: Epoch,
    /// Whether it stands on the layer of its origin.
    pub stands_on_origin: bool,
    /// What was written since the last reset, in whole blocks.
    pub written: ByteLength,
    /// Whether the head's map had to be read to know that.
    pub map_was_read: bool,
    /// The hash over all content of the origin, if it is known; an empty one is zeros of the size
    /// of the disk.
    pub root: Option<Root>,
    /// The same hash over what was read back, if that was asked for.
    pub content_root: Option<Root>,
    /// How much was read back.
    pub read_back: ByteLength,
    /// The first byte that differs.
    pub first_difference: Option<ByteOffset>,
    /// How many bytes differ.
    pub differing: ByteLength,
    /// Where the content differs, the first 16 stretches of blocks: offset and length.
    pub differs_at: Vec<(ByteOffset, ByteLength)>,
}

impl Verification {
    /// Whether the origin lost its content: the disk reads as it does, but not as the root says.
    pub fn origin_is_damaged(&self) -> bool {
        let (Some(root), Some(read)) = (self.root, self.content_root) else { return false };
        self.differing == ByteLength::ZERO && root != read
    }
}

impl ResetEngine {
    /// Looks whether the disk is in its initial state. The disk should not be written meanwhile.
    pub fn verify(
        &self,
        disk: &DiskId,
        source: &Source,
        depth: VerifyDepth,
        progress: &dyn Progress,
    ) -> Result<Verification, ResetError> {
        let info = self.store().disk(disk)?;
        let Written { since_reset: written, map_was_read } = self.store().written(disk)?;
        let origin = source.layer().map(|layer| self.store().layer(layer)).transpose()?;
        let root = match &origin {
            Some(layer) => layer.root,
            None => Some(ContentRoot::new(info.size).finish()),
        };
        let stands_on_origin = info.base == source.layer();
        let mut found = Verification {
            disk: disk.clone(),
            in_initial_state: stands_on_origin && written == ByteLength::ZERO,
            epoch: info.epoch,
            stands_on_origin,
            written,
            map_was_read,
            root,
            content_root: None,
            read_back: ByteLength::ZERO,
            first_difference: None,
            differing: ByteLength::ZERO,
            differs_at: Vec::new(),
        };
        if depth == VerifyDepth::Content {
            self.compare(&mut found, source, progress)?;
            // Content decides: a block that was written with what the origin holds is no harm.
            found.in_initial_state =
                found.differing == ByteLength::ZERO && !found.origin_is_damaged();
        }
        Ok(found)
    }

    fn compare(
        &self,
        found: &mut Verification,
        source: &Source,
        progress: &dyn Progress,
    ) -> Result<(), ResetError> {
        let disk = self.store().open_disk(&found.disk)?;
        let origin = source.layer().map(|layer| self.store().open_layer(layer)).transpose()?;
        let id = found.disk.clone();
        let failed = |source| ResetError::Read { disk: id.clone(), source };
        let size = disk.size().get();
        let buffer = || vec![0; usize::try_from(STEP).expect("4 MiB")];
        let (mut is, mut should) = (buffer(), buffer());
        let mut content = ContentRoot::new(origin.as_ref().map_or(disk.size(), |one| one.size()));
        let mut read_back = 0;
        let mut offset = 0;
        while offset < size {
            if progress.cancelled() {
                return Err(StoreError::Cancelled.into());
            }
            let length = STEP.min(size - offset);
            let origin = origin.as_deref().map(|origin| origin as &dyn BlockDevice);
            if holds_data(&*disk, offset, length).map_err(failed)?
                || origin_holds_data(origin, offset, length).map_err(failed)?
            {
                let part = ..usize::try_from(length).expect("at most 4 MiB");
                disk.read_at(&mut is[part], ByteOffset::new(offset)).map_err(failed)?;
                read_origin(origin, &mut should[part], offset).map_err(failed)?;
                read_back += length;
                content.add(ByteOffset::new(offset), &is[part]);
                found.note(offset, &is[part], &should[part]);
            }
            offset += length;
            progress.advanced(ByteLength::new(offset), ByteLength::new(size));
        }
        found.content_root = Some(content.finish());
        found.read_back = ByteLength::new(read_back);
        Ok(())
    }
}

impl Verification {
    /// Takes in where these two differ.
    fn note(&mut self, offset: u64, is: &[u8], should: &[u8]) {
        let size = usize::try_from(BLOCK).expect("4 KiB");
        let blocks = (offset..).step_by(size).zip(is.chunks(size).zip(should.chunks(size)));
        for (offset, (is, should)) in blocks {
            if is != should {
                self.note_block(offset, is, should);
            }
        }
    }

    fn note_block(&mut self, offset: u64, is: &[u8], should: &[u8]) {
        let differing =
            (offset..).zip(is.iter().zip(should)).filter(|(_, (is, should))| is != should);
        let (mut count, mut first) = (self.differing.get(), self.first_difference);
        for (place, _) in differing {
            count += 1;
            first = first.or(Some(ByteOffset::new(place)));
        }
        (self.differing, self.first_difference) = (ByteLength::new(count), first);
        let length = ByteLength::of(is).get();
        let told = self.differs_at.len() == MOST_DIFFERENCES;
        match self.differs_at.last_mut() {
            Some((begin, held)) if begin.get() + held.get() == offset => {
                *held = ByteLength::new(held.get() + length);
            }
            _ if told => {}
            _ => self.differs_at.push((ByteOffset::new(offset), ByteLength::new(length))),
        }
    }
}

fn holds_data(
    device: &dyn BlockDevice,
    offset: u64,
    length: u64,
) -> Result<bool, block_device::DeviceError> {
    let extents = device.extents(ByteOffset::new(offset), ByteLength::new(length), 2)?;
    Ok(extents.len() > 1 || extents.iter().any(|extent| extent.kind == ExtentKind::Data))
}

fn origin_holds_data(
    origin: Option<&dyn BlockDevice>,
    offset: u64,
    length: u64,
) -> Result<bool, block_device::DeviceError> {
    let Some(origin) = origin else { return Ok(false) };
    let held = origin.size().get().saturating_sub(offset).min(length);
    if held == 0 { Ok(false) } else { holds_data(origin, offset, held) }
}

/// What the disk should hold: the origin, and zeros past its end.
fn read_origin(
    origin: Option<&dyn BlockDevice>,
    buffer: &mut [u8],
    offset: u64,
) -> Result<(), block_device::DeviceError> {
    buffer.fill(0);
    let Some(origin) = origin else { return Ok(()) };
    let held = origin.size().get().saturating_sub(offset).min(ByteLength::of(buffer).get());
    if held == 0 {
        return Ok(());
    }
    let part = ..usize::try_from(held).expect("at most the buffer");
    origin.read_at(&mut buffer[part], ByteOffset::new(offset))
}
