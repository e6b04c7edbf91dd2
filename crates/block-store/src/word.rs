//! A map word: what one layer says of one cluster.
//!
//! ```text
//!  63            48 47            32 31                            0
//! | zero: 16 bits  | data: 16 bits  | low 32 bits of the epoch     |
//! ```
//! What must always hold
//! 1. Bit i of `data`: block i is in this layer's data file; of `zero`: it reads as zeros;
//!    neither: ask the base. Never both.
//! 2. A word with a foreign epoch says nothing, and is replaced whole.

use crate::id::EpochTag;

/// A map word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word(u64);

/// What a word says at an epoch: block masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Blocks that are in the data file.
    pub(crate) data: u16,
    /// Blocks that read as zeros.
    pub(crate) zero: u16,
}

impl Blocks {
    /// Blocks the layer says something about.
    pub(crate) fn known(self) -> u16 {
        self.data | self.zero
    }

    /// The same after `mask` was written.
    pub(crate) fn written(self, mask: u16) -> Self {
        Self { data: self.data | mask, zero: self.zero & !mask }
    }

    /// The same after `mask` was zeroed.
    pub(crate) fn zeroed(self, mask: u16) -> Self {
        Self { data: self.data & !mask, zero: self.zero | mask }
    }
}

impl Word {
    /// The word with these bits.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The word that says this at this epoch.
    pub(crate) fn new(epoch: EpochTag, blocks: Blocks) -> Self {
        debug_assert_eq!(blocks.data & blocks.zero, 0, "a block is not both");
        let high = (u64::from(blocks.zero) << 48) | (u64::from(blocks.data) << 32);
        Self(high | u64::from(epoch.0))
    }

    /// Its bits.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// The epoch it was written in.
    pub(crate) fn epoch(self) -> EpochTag {
        EpochTag(u32::try_from(self.0 & 0xffff_ffff).expect("masked to 32 bits"))
    }

    /// What it says to a reader at this epoch.
    pub(crate) fn at(self, epoch: EpochTag) -> Blocks {
        if self.epoch() == epoch { self.said() } else { Blocks::default() }
    }

    /// What it said when it was written, in whichever epoch.
    pub(crate) fn said(self) -> Blocks {
        let half = |shift: u32| u16::try_from((self.0 >> shift) & 0xffff).expect("16 bits");
        Blocks { data: half(32), zero: half(48) }
    }

    /// Whether no layer could have written it: a block both zero and data, or bits without an
    /// epoch.
    pub(crate) fn is_impossible(self) -> bool {
        let said = self.said();
        said.data & said.zero != 0 || (self.epoch() == EpochTag(0) && self.0 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_word_says_nothing() {
        let word = Word::new(EpochTag(3), Blocks { data: 0b1, zero: 0b10 });
        assert_eq!(word.at(EpochTag(3)), Blocks { data: 0b1, zero: 0b10 });
        assert_eq!(word.at(EpochTag(4)), Blocks::default());
        assert_eq!(Word::default().at(EpochTag(1)), Blocks::default());
    }

    #[test]
    fn writing_and_zeroing_undo_each_other() {
        let blocks = Blocks::default().written(0b111).zeroed(0b010);
        assert_eq!(blocks, Blocks { data: 0b101, zero: 0b010 });
        assert_eq!(blocks.written(0b010), Blocks { data: 0b111, zero: 0 });
    }

    #[test]
    fn impossible_words_are_told() {
        assert!(Word::from_bits(0x0001_0001_0000_0001).is_impossible());
        assert!(Word::from_bits(0x0001_0000_0000_0000).is_impossible());
        assert!(!Word::default().is_impossible());
    }
}
