//! How long work tells how far it is, and is asked to stop.
//!
//! Left to others: bars and rates (`cli`), tasks and percentages (`cloud`).

use block_device::ByteLength;

/// Who watches a long operation. Called from several threads.
pub trait Progress: Sync {
    /// `done` of `total` bytes are behind us.
    fn advanced(&self, done: ByteLength, total: ByteLength);

    /// Whether the operation should stop; it then fails with `Cancelled` and leaves nothing.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl Progress for () {
    fn advanced(&self, _done: ByteLength, _total: ByteLength) {}
}
