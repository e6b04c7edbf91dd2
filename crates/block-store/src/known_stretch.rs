//! The stretch of a file that was last found to hold data.
//!
//! To find where a stretch ends a file system looks through all of it. Who goes through a large file in
//! small steps and asks at each of them takes time in the square of it; so the answer is kept until
//! the steps are past it.
//!
//! What must always hold: nothing that held data when it was asked for is left out. What was punched since then
//! still counts as data.
//! Left to others: asking (`storage`, `image`).

use std::ops::Range;

/// None yet, at first.
#[derive(Debug, Default)]
pub(crate) struct KnownStretch(Range<u64>);

impl KnownStretch {
    /// What is left at `from` of the stretch, or the next one that `find` finds; none at the end.
    pub(crate) fn at<E>(
        &mut self,
        from: u64,
        find: impl FnOnce(u64) -> Result<Option<Range<u64>>, E>,
    ) -> Result<Option<Range<u64>>, E> {
        if !self.0.contains(&from) {
            let Some(found) = find(from)? else { return Ok(None) };
            self.0 = found;
        }
        Ok(Some(self.0.start.max(from)..self.0.end))
    }
}
