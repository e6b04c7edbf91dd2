//! Inputs made from others: bits, numbers, pieces and lengths, or from nothing at all.
//!
//! What must always hold: a seed gives the same inputs on every machine.

use tests::recorded_storage::Dice;

/// No input is longer.
const LONGEST: usize = 256 << 10;
/// Numbers at whose edges mistakes live.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    7,
    255,
    256,
    511,
    512,
    4095,
    4096,
    65535,
    65536,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX >> 1,
    u64::MAX,
];

/// How many kinds of changes there are; those that move nothing come first.
const KINDS: usize = 11;
const KEEPING: usize = 5;

/// Makes inputs.
pub(crate) struct Mutator {
    dice: Dice,
    corpus: Vec<Vec<u8>>,
    words: &'static [&'static [u8]],
}

impl Mutator {
    pub(crate) fn new(seed: u64, corpus: Vec<Vec<u8>>, words: &'static [&'static [u8]]) -> Self {
        Self { dice: Dice::new(seed), corpus, words }
    }

    /// The next input.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        if self.below(16) == 0 {
            let length = 1 << self.below(11);
            return self.noise(length);
        }
        let mut input = self.dice.pick(&self.corpus).cloned().unwrap_or_default();
        // Mostly a few changes, sometimes many.
        let most = 1 << self.below(6);
        let changes = 1 + self.below(most);
        // What holds a format together is often where things are, so half of the inputs keep that.
        let keeps_places = self.dice.flip();
        for _ in 0..changes {
            let kind = if keeps_places { self.below(KEEPING) } else { self.below(KINDS) };
            self.change(&mut input, kind);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, kind: usize) {
        let at = self.place(input);
        match kind {
            0 => flip(input, at, self.below(8)),
            1 => self.overwrite_byte(input, at),
            2 | 3 => self.overwrite_number(input, at),
            4 => {
                let end = self.end_after(at, input.len());
                input[at..end].fill(0);
            }
            5 => input.truncate(at),
            6 => drop(input.drain(at..self.end_after(at, input.len()))),
            7 => self.insert_own_piece(input, at),
            8 => self.splice(input, at),
            _ => self.insert_word(input, at),
        }
    }

    /// A place to change: of a few tries the first that is not among zeros.
    fn place(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        for _ in 0..6 {
            at = self.below(input.len());
            if input.get(at).is_some_and(|byte| *byte != 0) {
                break;
            }
        }
        at
    }

    fn overwrite_byte(&mut self, input: &mut [u8], at: usize) {
        let any = self.below(256);
        if let Some(byte) = input.get_mut(at) {
            *byte = u8::try_from(any).expect("below 256");
        }
    }

    /// An edge, something near it, or the number that is there and a little, in one of the widths and both orders.
    fn overwrite_number(&mut self, input: &mut [u8], at: usize) {
        let width = [1, 2, 4, 8][self.below(4)];
        let Some(place) = input.get_mut(at..at + width) else { return };
        let little = self.dice.flip();
        let mut there = [0; 8];
        there[..width].copy_from_slice(place);
        if !little {
            there[..width].reverse();
        }
        let base = if self.dice.flip() {
            u64::from_le_bytes(there)
        } else {
            *self.dice.pick(&EDGES).expect("there are some")
        };
        let number = base.wrapping_add(self.dice.below(5)).wrapping_sub(2);
        place.copy_from_slice(&number.to_le_bytes()[..width]);
        if !little {
            place.reverse();
        }
    }

    fn insert_own_piece(&mut self, input: &mut Vec<u8>, at: usize) {
        let from = self.below(input.len());
        let piece = input[from..self.end_after(from, input.len())].to_vec();
        insert(input, at, piece);
    }

    fn splice(&mut self, input: &mut Vec<u8>, at: usize) {
        let other = self.dice.pick(&self.corpus).cloned().unwrap_or_default();
        let from = self.below(other.len());
        let piece = other[from..self.end_after(from, other.len())].to_vec();
        insert(input, at, piece);
    }

    fn insert_word(&mut self, input: &mut Vec<u8>, at: usize) {
        let piece = match self.dice.pick(self.words) {
            Some(word) => word.to_vec(),
            None => {
                let length = 1 + self.below(16);
                self.noise(length)
            }
        };
        if self.dice.flip() {
            let end = (at + piece.len()).min(input.len());
            input.drain(at..end);
        }
        insert(input, at, piece);
    }

    fn noise(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| u8::try_from(self.below(256)).expect("below 256")).collect()
    }

    /// Where a piece that begins at `at` ends; short ones are likelier.
    fn end_after(&mut self, at: usize, length: usize) -> usize {
        let most = 1 << self.below(13);
        (at + 1 + self.below(most)).min(length)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("64-bit");
        usize::try_from(self.dice.below(limit)).expect("64-bit")
    }
}

fn flip(input: &mut [u8], at: usize, bit: usize) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: Vec<u8>) {
    if input.len() + piece.len() <= LONGEST {
        drop(input.splice(at..at, piece));
    }
}

#[test]
fn a_seed_repeats_its_inputs() {
    let some = |seed| {
        let mut mutator = Mutator::new(seed, vec![vec![7; 300], Vec::new()], &[b"word"]);
        (0..2_000).map(|_| mutator.next()).collect::<Vec<_>>()
    };
    assert!(some(1) == some(1));
    assert!(some(1) != some(2));
}
