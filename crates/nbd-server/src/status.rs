//! What BLOCK_STATUS tells: for each context, the chunk that says how a stretch is.
//!
//! ```text
//! BLOCK_STATUS      | context u32 |             then of each extent | length u32 | flags u32 |
//! BLOCK_STATUS_EXT  | context u32 | count u32 |                     | length u64 | 0 u32 | flags u32 |
//! ```
//!
//! What must always hold: the extents begin where the request does, none is empty, and together
//! they are no longer than it; looking takes a bounded time however long the request is.
//! Left to others: how the stretch is (the device).

use block_device::{BlockDevice, ByteLength, ByteOffset, ByteRange, DeviceError, ExtentKind};

use crate::{
    context::Context,
    reply::{Asked, ChunkForm},
    request::StatusAnswer,
    wire::{Message, allocation_flag, chunk, dirty_flag, length_u32},
};

/// The most extents of one block status: 64 KiB of reply at most. Clients ask on from where it
/// ends.
const MOST_EXTENTS: usize = 4096;

/// The longest stretch looked at for one request: a million map words of our own disks, so that
/// neither the client's other requests nor a fence wait for more. Spec: the server may tell less
/// than was asked.
const LONGEST_LOOK: u64 = 64 << 30;

/// A stretch of which a context says one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    length: u64,
    flags: u32,
}

/// What the context says of the beginning of the range.
pub(crate) fn look(
    device: &dyn BlockDevice,
    context: Context,
    range: ByteRange,
    answer: StatusAnswer,
) -> Result<Vec<Told>, DeviceError> {
    let most = match answer {
        StatusAnswer::OneExtent => 1,
        StatusAnswer::AllExtents => MOST_EXTENTS,
    };
    let offset = ByteOffset::new(range.start());
    let length = ByteLength::new(range.length().min(LONGEST_LOOK));
    let mut told: Vec<Told> = match context {
        Context::Allocation => device
            .extents(offset, length, most)?
            .iter()
            .map(|extent| Told {
                length: extent.length.get(),
                flags: allocation_flags(extent.kind),
            })
            .collect(),
        Context::Dirty => device
            .changes(offset, length, most)?
            .iter()
            .map(|change| Told {
                length: change.length.get(),
                flags: if change.is_changed { dirty_flag::DIRTY } else { 0 },
            })
            .collect(),
    };
    told.truncate(most);
    Ok(told)
}

/// The chunk that says it.
pub(crate) fn chunk_of(
    form: ChunkForm,
    asked: Asked,
    context: Context,
    told: &[Told],
    last: bool,
) -> Vec<u8> {
    let message = Message::default().u32(context.id());
    match form {
        ChunkForm::Structured => {
            // No extent is longer than the request, whose length had 32 bits.
            let short = |length| u32::try_from(length).unwrap_or(u32::MAX);
            let put = |body: Message, told: &Told| body.u32(short(told.length)).u32(told.flags);
            let body = told.iter().fold(message, put).into_bytes();
            form.chunk(last, chunk::BLOCK_STATUS, asked, &body)
        }
        ChunkForm::Extended => {
            let put = |body: Message, told: &Told| body.u64(told.length).u32(0).u32(told.flags);
            let message = message.u32(length_u32(told.len()));
            let body = told.iter().fold(message, put).into_bytes();
            form.chunk(last, chunk::BLOCK_STATUS_EXTENDED, asked, &body)
        }
    }
}

fn allocation_flags(kind: ExtentKind) -> u32 {
    match kind {
        ExtentKind::Data => 0,
        ExtentKind::Zero => allocation_flag::ZERO,
        ExtentKind::Hole => allocation_flag::ZERO | allocation_flag::HOLE,
    }
}
