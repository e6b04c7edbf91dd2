//! A map sector: 63 words and the check word that proves them.
//!
//! What must always hold: the check word is the CRC-32C over the 63 words, the layer's id and the
//! sector's index, so that a sector of another layer or another place is found out. A sector of
//! zeros is valid and says nothing; its loss is a stated limit.
//! Left to others: which epochs are plausible (`cluster_map`).

use crate::{geometry::SectorIndex, id::LayerId, word::Word};

/// Words of a sector, without its check word.
pub(crate) const WORDS: usize = 63;
/// Bytes of a sector.
pub(crate) const BYTES: usize = 512;

/// The words of a sector whose check word was right.
#[derive(Clone, Debug)]
pub(crate) struct MapSector {
    pub(crate) words: [Word; WORDS],
}

/// The check word does not fit the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadCheckWord;

impl MapSector {
    /// What 512 bytes of a map file hold.
    pub(crate) fn parse(
        bytes: &[u8; BYTES],
        layer: LayerId,
        sector: SectorIndex,
    ) -> Result<Self, BadCheckWord> {
        let (pairs, _) = bytes.as_chunks::<8>();
        let mut words = [Word::default(); WORDS];
        for (word, bytes) in words.iter_mut().zip(pairs) {
            *word = Word::from_bits(u64::from_le_bytes(*bytes));
        }
        let check = u64::from_le_bytes(pairs[WORDS]);
        let empty = check == 0 && words.iter().all(|word| word.bits() == 0);
        if empty || check == check_word(&bytes[..WORDS * 8], layer, sector) {
            Ok(Self { words })
        } else {
            Err(BadCheckWord)
        }
    }

    /// The bytes that say this.
    pub(crate) fn encode(&self, layer: LayerId, sector: SectorIndex) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(&self.words) {
            chunk.copy_from_slice(&word.bits().to_le_bytes());
        }
        let check = check_word(&bytes[..WORDS * 8], layer, sector);
        bytes[WORDS * 8..].copy_from_slice(&check.to_le_bytes());
        bytes
    }
}

fn check_word(words: &[u8], layer: LayerId, sector: SectorIndex) -> u64 {
    let crc = crc32c::crc32c(words);
    let crc = crc32c::crc32c_append(crc, &layer.to_bytes());
    u64::from(crc32c::crc32c_append(crc, &sector.0.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::EpochTag, word::Blocks};

    const LAYER: LayerId = LayerId::from_bytes([5; 16]);

    fn sector() -> MapSector {
        let mut words = [Word::default(); WORDS];
        words[3] = Word::new(EpochTag(1), Blocks { data: 0xff, zero: 0 });
        MapSector { words }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = sector().encode(LAYER, SectorIndex(9));
        assert_eq!(MapSector::parse(&good, LAYER, SectorIndex(9)).unwrap().words, sector().words);
        for bit in 0..BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(MapSector::parse(&bad, LAYER, SectorIndex(9)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_sector_of_another_place_or_layer_is_found() {
        let bytes = sector().encode(LAYER, SectorIndex(9));
        assert!(MapSector::parse(&bytes, LAYER, SectorIndex(8)).is_err());
        let other = LayerId::from_bytes([6; 16]);
        assert!(MapSector::parse(&bytes, other, SectorIndex(9)).is_err());
        assert!(MapSector::parse(&[0; BYTES], LAYER, SectorIndex(1)).is_ok());
    }
}
