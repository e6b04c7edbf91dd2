//! Damage to a file that has structure, as a list of small edits.
//!
//! ```text
//! 0       1        2      3       4          6          8         16
//! | what  | base   | file | width | offset   | (unused) | number  |
//! ```
//! Bytes are cut into edits of 16; what is left over is nothing. A place is one of the target's bases (a header, a
//! page, a sector) and an offset below 4 096, so that most edits hit what means something.
//!
//! What must always hold: any bytes are some list of edits, and the same list always does the same.

/// Bytes of one edit.
const EDIT: usize = 16;
/// An edit changes at most this much.
const LONGEST: usize = 4096;

/// One change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edit {
    what: u8,
    base: usize,
    /// Which of the target's files.
    pub(crate) file: usize,
    width: usize,
    offset: usize,
    number: u64,
}

/// The edits that these bytes are.
pub(crate) fn read(bytes: &[u8]) -> impl Iterator<Item = Edit> {
    bytes.chunks_exact(EDIT).map(|edit| Edit {
        what: edit[0] % 7,
        base: usize::from(edit[1]),
        file: usize::from(edit[2]),
        width: 1 + usize::from(edit[3] % 8),
        offset: usize::from(u16::from_le_bytes([edit[4], edit[5]]) % 4096),
        number: u64::from_le_bytes(edit[8..].try_into().expect("8 bytes")),
    })
}

impl Edit {
    /// Makes the change; past the file's end there is nothing to change.
    pub(crate) fn apply(&self, file: &mut Vec<u8>, bases: &[usize]) {
        let at = bases[self.base % bases.len()] + self.offset;
        let length = usize::try_from(self.number).unwrap_or(usize::MAX) % LONGEST;
        match self.what {
            0..=2 => self.change_number(file, at),
            3 => self.copy(file, at, bases),
            4 => file.iter_mut().skip(at).take(length).for_each(|byte| *byte = 0),
            5 => file.truncate(at),
            _ => file.extend(std::iter::repeat_n(self.number.to_le_bytes()[7], length)),
        }
    }

    fn change_number(&self, file: &mut [u8], at: usize) {
        let Some(place) = file.get_mut(at..at + self.width) else { return };
        let mut there = [0; 8];
        there[..self.width].copy_from_slice(place);
        let there = u64::from_le_bytes(there);
        let number = match self.what {
            0 => self.number,
            1 => there ^ self.number,
            _ => there.wrapping_add(self.number),
        };
        place.copy_from_slice(&number.to_le_bytes()[..self.width]);
    }

    /// One sector over another: the number says which.
    fn copy(&self, file: &mut [u8], at: usize, bases: &[usize]) {
        let [base, sector, ..] = self.number.to_le_bytes();
        let from = bases[usize::from(base) % bases.len()] + usize::from(sector % 8) * 512;
        let at = at / 512 * 512;
        if from + 512 <= file.len() && at + 512 <= file.len() {
            file.copy_within(from..from + 512, at);
        }
    }
}
