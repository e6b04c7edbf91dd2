//! What a disk changed since it began to stand on what it stands on, from the words of its head.
//!
//! What must always hold: a block that may read otherwise than the base is told as changed. The
//! other way round a block may be told that was written with what it held, never one that nobody
//! wrote or zeroed.
//! Left to others: what the head holds (`head`), how long it counts (the epoch).

use block_device::{BLOCK, ByteLength, ByteRange, Change, DeviceError};

use crate::{
    geometry::{bytes, clusters_of, index},
    head::Head,
    id::EpochTag,
};

/// How the beginning of the range is changed, in at most `most` parts.
pub(crate) fn changes(
    head: Option<(&Head, EpochTag)>,
    range: ByteRange,
    most: usize,
) -> Result<Vec<Change>, DeviceError> {
    let mut changes = Changes { told: Vec::new(), most };
    let touched = head.filter(|(head, epoch)| !head.newest.is_before(*epoch));
    let Some((head, epoch)) = touched else {
        changes.push(range.length(), false);
        return Ok(changes.told);
    };
    let range = range.start()..range.end();
    for cluster in clusters_of(&range) {
        let known = head.map().word(cluster)?.at(epoch).known();
        let touched = cluster.blocks_touched(&range);
        let first = index(u64::from(touched.trailing_zeros())).min(16);
        let end = index(u64::from(16 - touched.leading_zeros())).max(first);
        for block in first..end {
            let start = cluster.start() + BLOCK * bytes(block);
            let (start, end) = (start.max(range.start), (start + BLOCK).min(range.end));
            if !changes.push(end - start, known & (1 << block) != 0) {
                return Ok(changes.told);
            }
        }
    }
    Ok(changes.told)
}

/// The parts found so far.
struct Changes {
    told: Vec<Change>,
    most: usize,
}

impl Changes {
    /// Adds a stretch; false once there is no room for one that differs.
    fn push(&mut self, length: u64, is_changed: bool) -> bool {
        let full = self.told.len() >= self.most;
        match self.told.last_mut().filter(|last| last.is_changed == is_changed) {
            Some(last) => last.length = ByteLength::new(last.length.get() + length),
            None if full => return false,
            None => self.told.push(Change { length: ByteLength::new(length), is_changed }),
        }
        true
    }
}
